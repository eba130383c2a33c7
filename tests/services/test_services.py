"""The services themselves: that they are what the tests on them take them for, and that nobody else reaches them."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.services import daemon
from tests.services.__main__ import ROOT, home
from tests.services.test_launchers import wait_for

pytestmark = pytest.mark.service

NAMES = ("munged", "mariadbd", "slurmdbd", "slurmctld", "n1", "n2", "postgres", "ray")


def run(what: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.services", what]
    return subprocess.run(command, cwd=ROOT, env=os.environ | changes, capture_output=True, text=True, timeout=120)


def pids() -> dict[str, int | None]:
    return {name: daemon.running(home(), name) for name in NAMES}


def test_two_nodes_hand_out_two_gpus_each(slurm):
    assert slurm("sinfo", "--noheader", "--Node", "--format=%N %G").split() == ["n1", "gpu:2", "n2", "gpu:2"]
    say = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    given = slurm("srun", "--ntasks=4", "--gpus-per-task=1", "--gpu-bind=single:1", "bash", "-c", say).splitlines()
    assert sorted(given) == ["n1 0", "n1 1", "n2 0", "n2 1"]


def test_a_job_that_was_cancelled_is_in_the_accounts(slurm):
    job = slurm("sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 60").strip()
    slurm("scancel", job)
    slurm("srun", f"--dependency=afterany:{job}", "true")
    # the accounts are told after the queue
    said = ("sacct", "--allocations", "--noheader", "--format=State%40", f"--jobs={job}")
    wait_for(lambda: slurm(*said).split()[:1] == ["CANCELLED"])


def test_postgres_asks_for_the_password(postgres_url):
    import psycopg2  # one of what `make services` installs

    with psycopg2.connect(postgres_url) as connection, connection.cursor() as cursor:
        cursor.execute("select current_user, current_setting('server_encoding')")
        assert cursor.fetchone() == ("cfx", "UTF8")
    connection.close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres_url.replace("@", "x@"))


def test_secrets_are_their_owners_alone(environment):
    for name in ("environment", "slurm/munge.key", "slurm/slurmdbd.conf", "postgres/password", "mariadb", "ray.token"):
        assert (home() / name).stat().st_mode & 0o077 == 0, name


def test_nothing_listens_beyond_this_machine(slurm, ray_address, postgres_url):
    sessions = {pid: name for name, pid in pids().items()}
    loopback = ("0100007F:", "00000000000000000000000001000000:", "0000000000000000FFFF00000100007F:")
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and not local.startswith(loopback):
                listening[f"socket:[{rest[5]}]"] = local
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            session = os.getsid(int(process.name))
            for descriptor in (process / "fd").iterdir():
                target = str(descriptor.readlink())
                if session in sessions and target in listening:
                    found.append((sessions[session], listening[target]))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    assert not found


def test_what_runs_is_left_and_what_died_is_started_again(slurm):
    before = pids()
    assert None not in before.values()
    os.kill(before["n2"], signal.SIGKILL)
    again = run("start")
    assert again.returncode == 0, again.stderr
    after = pids()
    assert after.pop("n2") not in (before.pop("n2"), None) and after == before


def test_a_service_that_does_not_start_is_named_with_its_last_words(tmp_path):
    for part in ("run", "log"):
        (tmp_path / part).mkdir()
    broken = daemon.Daemon("broken", ["sh", "-c", "echo no such thing; exit 3"], lambda: False)
    with pytest.raises(daemon.NotStarted, match=r"(?s)broken does not start; .*broken\.log:\n  no such thing"):
        broken.start(tmp_path)
    assert daemon.running(tmp_path, "broken") is None


def test_a_number_that_another_process_was_given_is_not_taken_for_the_daemon(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/gone.pid").write_text(f"{os.getpid()} 1\n")
    assert daemon.running(tmp_path, "gone") is None
    daemon.end(tmp_path, "gone")


@pytest.fixture
def elsewhere():
    """The environment of services in another folder, which the user `postgres` can enter; pytest's are closed."""
    with tempfile.TemporaryDirectory(prefix="cfx-") as folder:
        Path(folder).chmod(0o755)
        yield {"CFX_SERVICES": folder}
        run("stop", CFX_SERVICES=folder)


def test_two_clones_have_services_of_their_own_and_stop_them(elsewhere, environment):
    started = run("start", **elsewhere)
    assert started.returncode == 0, started.stderr
    folder = Path(elsewhere["CFX_SERVICES"]) / ".services"
    running = {name: daemon.running(folder, name) for name in NAMES}
    assert None not in running.values() and None not in pids().values()
    written = dict(line.split("=", 1) for line in (folder / "environment").read_text().splitlines())
    own = ("SLURM_CONF", "CFX_POSTGRES_URL", "CFX_RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH")
    assert [key for key in own if written[key] == environment[key]] == []
    assert run("stop", **elsewhere).returncode == 0
    assert {name: daemon.running(folder, name) for name in NAMES} == dict.fromkeys(NAMES)
    assert None not in pids().values()
