"""A Slurm cluster of two nodes with two GPUs each, on this machine.

    munged      answers for who sent a message; all of Slurm asks it
    mariadbd    keeps the accounts, at a socket that only its owner reaches
    slurmdbd    the accounting: what `sacct` says of a job that has ended comes from here
    slurmctld   the controller: takes jobs and places them
    slurmd n1   a node: runs jobs
    slurmd n2   another one

Nodes, cores and memory are what the configuration says; the GPUs are two character devices that every machine has.
Slurm counts and hands them out as it would real ones, but there is nothing behind them to compute on.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import subprocess
from pathlib import Path

from tests.services.daemon import Daemon, running, succeeds

PORTS = ("slurmctld", "slurmdbd", "n1", "n2")
NODES = ("n1", "n2")

# The times, in seconds, are short, so that a test need not wait: a dead node is noticed after SlurmdTimeout, a job that
# does not end by itself is killed after KillWait, one that is queued again may start after cred_expire.
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/run/munge.socket,cred_expire=15
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ports[slurmctld]}
SlurmctldPidFile={folder}/slurm/slurmctld.pid
SlurmdPidFile={folder}/slurm/%n.pid
SlurmdLogFile={folder}/log/%n.jobs.log
StateSaveLocation={folder}/slurm/controller
SlurmdSpoolDir={folder}/slurm/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[slurmdbd]}
AccountingStoragePass={folder}/run/munge.socket
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
KillWait=3
SlurmdTimeout=15
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[n1]} CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[n2]} CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

GRES_CONF = """
NodeName=n[1-2] Name=gpu File=/dev/null,/dev/zero
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[slurmdbd]}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
PidFile={folder}/slurm/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def configure(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """Write the configuration; returns what a client needs in its environment."""
    values = {"folder": folder, "ports": ports, "host": socket.gethostname().split(".")[0], "user": getpass.getuser()}
    etc = folder / "slurm"
    for path in (etc / "controller", folder / "mariadb"):
        path.mkdir(parents=True, mode=0o700)
    for name, text, mode in (
        ("slurm.conf", SLURM_CONF, 0o644),
        ("gres.conf", GRES_CONF, 0o644),
        ("slurmdbd.conf", SLURMDBD_CONF, 0o600),
    ):
        path = etc / name
        path.touch(mode)
        path.write_text(text.format_map(values).lstrip())
    key = etc / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(1024))
    return client(folder)


def client(folder: Path) -> dict[str, str]:
    """The environment of a command that speaks to this cluster."""
    return {"SLURM_CONF": str(folder / "slurm/slurm.conf")}


def daemons(folder: Path, ports: dict[str, int]) -> list[Daemon]:
    """All of it, in the order in which one needs the other."""
    run, etc, environment = folder / "run", folder / "slurm", client(folder)
    munge, mariadb = run / "munge.socket", folder / "mariadb/socket"
    return [
        Daemon(
            "munged",
            [
                *("munged", "--foreground", f"--key-file={etc / 'munge.key'}", f"--socket={munge}"),
                *(f"--pid-file={etc / 'munged.pid'}", f"--log-file={folder / 'log/munged.log'}"),
                f"--seed-file={etc / 'munge.seed'}",
            ],
            lambda: succeeds("munge", f"--socket={munge}", "--no-input"),
        ),
        Daemon(
            "mariadbd",
            [
                *("mariadbd", "--no-defaults", f"--user={getpass.getuser()}", f"--datadir={folder / 'mariadb'}"),
                # no port and no passwords: the folder is its owner's alone
                *(f"--socket={mariadb}", "--skip-networking", "--skip-grant-tables"),
                *("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"),
            ],
            lambda: _accepts(mariadb),
        ),
        Daemon(
            "slurmdbd",
            ["slurmdbd", "-D"],
            lambda: succeeds("sacctmgr", "--immediate", "--quiet", "list", "cluster", **environment),
            environment | {"MYSQL_UNIX_PORT": str(mariadb)},
        ),
        Daemon(
            "slurmctld",
            ["slurmctld", "-D"],
            lambda: succeeds("scontrol", "ping", **environment),
            environment,
        ),
        *(
            Daemon(node, ["slurmd", "-D", "-N", node], lambda node=node: is_up(folder, node), environment)
            for node in NODES
        ),
    ]


def is_up(folder: Path, node: str) -> bool:
    """Whether the controller has work for a node."""
    asked = _ask(folder, "sinfo", "--noheader", f"--nodes={node}", "--format=%T")
    return asked.strip() in ("idle", "mixed", "allocated", "completing")


def cancel_all(folder: Path) -> None:
    """End every job, since a node that ends leaves its jobs behind."""
    if running(folder, "slurmctld"):
        _ask(folder, "scancel", f"--user={getpass.getuser()}", "--signal=KILL", "--full")
        _ask(folder, "scancel", f"--user={getpass.getuser()}")


def _ask(folder: Path, *command: str) -> str:
    done = subprocess.run(command, env=os.environ | client(folder), capture_output=True, text=True, timeout=30)
    return done.stdout


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt:
        return attempt.connect_ex(str(path)) == 0
