"""Slurm's queue, by the name that all jobs of one sweep have: who is still there, and away with them.

submitit waits for ever on a killed job where `sacct` does not answer, and gives up on all jobs when one is lost. So the
driver looks at the queue itself.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from cfx.errors import InputError

# Seconds between two looks at the queue, and for how many the queue is empty before results are no longer waited for:
# they may take a while to be seen on a shared disk.
_EVERY = 5
_PATIENCE = 30


class JobsLost(Exception):
    """No job of the sweep is in the queue any more, and some have left no result."""


def check(config: DictConfig) -> None:
    """Raise InputError where Slurm does not answer or has no such partition; say so where its accounting is silent."""
    try:
        known = _call("sinfo", "--all", "--noheader", "--format=%R").split()
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"hydra/launcher=slurm: sinfo failed ({error}); run the command on a login node of the cluster"
        ) from None
    # several are separated by commas; none is the default
    wanted = str(config.hydra.launcher.partition or "")
    if unknown := [name for name in wanted.split(",") if name and name not in known]:
        raise InputError(
            f"hydra.launcher.partition: there is no partition {unknown[0]}; choose one of {', '.join(known)}"
        )
    try:
        _call("sacct", "--noheader", "--starttime=now")
    except (OSError, subprocess.SubprocessError):
        print("slurm: sacct failed; lost jobs are detected from the queue only", file=sys.stderr)


@contextmanager
def context(config: DictConfig) -> Iterator[None]:
    """Submit and wait inside this context: it ends with JobsLost in place of never, and no job outlives it.

    One driver works in a folder: by the folder's name for its jobs it finds those that a killed one left in the queue,
    which are cancelled first.
    """
    name = "cfx-" + hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:12]
    config.hydra.launcher.name = name
    cancel(name)
    finished = threading.Event()
    before = signal.signal(signal.SIGUSR1, _gone)
    watch = threading.Thread(target=_watch, args=(name, finished), daemon=True)
    watch.start()
    try:
        yield
    except JobsLost:
        raise
    except Exception:
        # one job is lost; the others go on
        while in_queue(name) is not False:
            time.sleep(_EVERY)
        raise
    finally:
        finished.set()
        watch.join()
        signal.signal(signal.SIGUSR1, before)
        cancel(name)


def rejection(error: Exception) -> str | None:
    """Why Slurm took no job at all, in its own words; None where the error is another one."""
    refused = error.__cause__
    if not isinstance(refused, subprocess.CalledProcessError) or refused.cmd[0] != "sbatch":
        return None
    return " ".join(str(refused.stderr).split())


def is_lost_job(error: Exception) -> bool:
    """Whether an error says that a job was lost."""
    return isinstance(error, JobsLost) or type(error).__module__.split(".")[0] == "submitit"


def in_queue(name: str) -> bool | None:
    """Whether Slurm has a job of this name, waiting or running; None where it does not answer."""
    try:
        listed = _call("squeue", "--noheader", "--me", f"--name={name}", "--format=%i")
    except (OSError, subprocess.SubprocessError):
        return None
    return bool(listed.strip())


def cancel(name: str) -> None:
    """Cancel all jobs of this name and wait until they are gone, for at most a minute."""
    end = time.monotonic() + 60
    while in_queue(name) and time.monotonic() < end:
        _call("scancel", "--me", f"--name={name}")
        time.sleep(1)


def _watch(name: str, finished: threading.Event) -> None:
    empty_since = None
    while not finished.wait(_EVERY):
        if in_queue(name) is not False:
            empty_since = None
        elif empty_since is None:
            empty_since = time.monotonic()
        elif time.monotonic() - empty_since > _PATIENCE:
            os.kill(os.getpid(), signal.SIGUSR1)
            return


def _gone(*_: object) -> None:
    raise JobsLost(
        "a job left the Slurm queue without a result; it was cancelled, exceeded its time or memory, or its node failed"
    )


def _call(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
