"""Slurm: the jobs of a sweep share a name, by which the driver monitors and cancels them. See `fan_out`.

submitit alone waits forever for a killed job if `sacct` does not work, and abandons all jobs if one is lost.
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

# Seconds between two calls of squeue, and the time that results may take to appear on a shared disk.
_POLL_INTERVAL = 5
_GRACE_PERIOD = 30


class JobsLost(Exception):
    """The queue has no more jobs of the sweep, but some results are missing."""


def check(config: DictConfig) -> None:
    """Raise InputError if Slurm is not available or lacks the partition; print a note if its accounting is not."""
    try:
        known = _call("sinfo", "--all", "--noheader", "--format=%R").split()
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"hydra/launcher=slurm: sinfo failed ({error}); run the command on a login node of the cluster"
        ) from None
    # a comma-separated list, or empty for the default partition
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
    """The context in which jobs are submitted and awaited. It raises JobsLost instead of waiting forever.

    The name of the jobs is derived from the folder, so jobs of a killed driver are found and cancelled first.
    """
    name = "cfx-" + hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:12]
    config.hydra.launcher.name = name
    cancel(name)
    finished = threading.Event()
    previous = signal.signal(signal.SIGUSR1, _raise_jobs_lost)
    monitor = threading.Thread(target=_monitor, args=(name, finished), daemon=True)
    monitor.start()
    try:
        yield
    except JobsLost:
        raise
    except Exception:
        # one job is lost; wait for the others
        while in_queue(name) is not False:
            time.sleep(_POLL_INTERVAL)
        raise
    finally:
        finished.set()
        monitor.join()
        signal.signal(signal.SIGUSR1, previous)
        cancel(name)


def rejection(error: Exception) -> str | None:
    """The message of sbatch if it accepted no job, None for any other error."""
    cause = error.__cause__
    if not isinstance(cause, subprocess.CalledProcessError) or cause.cmd[0] != "sbatch":
        return None
    return " ".join(str(cause.stderr).split())


def is_lost_job(error: Exception) -> bool:
    """Whether the exception means that a job was lost."""
    return isinstance(error, JobsLost) or type(error).__module__.split(".")[0] == "submitit"


def in_queue(name: str) -> bool | None:
    """Whether the queue has a job of this name, pending or running; None if squeue fails."""
    try:
        jobs = _call("squeue", "--noheader", "--me", f"--name={name}", "--format=%i")
    except (OSError, subprocess.SubprocessError):
        return None
    return bool(jobs.strip())


def cancel(name: str) -> None:
    """Cancel all jobs of this name and wait until the queue is empty, for at most one minute."""
    end = time.monotonic() + 60
    while in_queue(name) and time.monotonic() < end:
        _call("scancel", "--me", f"--name={name}")
        time.sleep(1)


def _monitor(name: str, finished: threading.Event) -> None:
    empty_since = None
    while not finished.wait(_POLL_INTERVAL):
        if in_queue(name) is not False:
            empty_since = None
        elif empty_since is None:
            empty_since = time.monotonic()
        elif time.monotonic() - empty_since > _GRACE_PERIOD:
            os.kill(os.getpid(), signal.SIGUSR1)
            return


def _raise_jobs_lost(*_: object) -> None:
    raise JobsLost(
        "a job left the Slurm queue without a result; it was cancelled, exceeded its time or memory, or its node failed"
    )


def _call(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
