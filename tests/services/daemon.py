"""A server in the background, as systemd would keep it: in a session of its own, known by its pid, ended by it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

# How long a server may take to answer, and to end, in seconds.
PATIENCE = 60


class NotStarted(Exception):
    """A service does not start: the message says which, and what it wrote last."""


@dataclass(frozen=True)
class Daemon:
    """One server process, which stays in the foreground of its session.

    Its pid stands in run/<name>.pid of the services' folder with the time at which the process started, so that
    another process that was given the number later is not taken for it; what it prints goes to log/<name>.log.
    """

    name: str
    command: Sequence[str | Path]
    answers: Callable[[], bool]
    """Whether it is ready to serve."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, folder: Path) -> None:
        """Start it where it does not run, and wait until it answers. Raises NotStarted."""
        process = None
        if running(folder, self.name) is None:
            print(f"starting {self.name}", flush=True)
            with log(folder, self.name).open("ab") as output:
                process = subprocess.Popen(
                    self.command,
                    cwd=folder,
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            _pid_file(folder, self.name).write_text(f"{process.pid} {_started(process.pid)}\n")
        until = time.monotonic() + PATIENCE
        while not self.answers():
            if running(folder, self.name) is None or time.monotonic() > until:
                end(folder, self.name)
                if process is not None:
                    process.wait()
                last = "\n  ".join(log(folder, self.name).read_text(errors="replace").splitlines()[-15:])
                raise NotStarted(f"{self.name} does not start; the end of {log(folder, self.name)}:\n  {last}")
            time.sleep(0.1)


def running(folder: Path, name: str) -> int | None:
    """The pid of a daemon that runs, or None."""
    try:
        pid, started = _pid_file(folder, name).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if _started(int(pid)) == started else None


def end(folder: Path, name: str, how: signal.Signals = signal.SIGTERM) -> None:
    """End a daemon and all of its session, by force where it does not end by itself."""
    pid = running(folder, name)
    if pid is not None:
        os.kill(pid, how)
        until = time.monotonic() + PATIENCE / 4
        while running(folder, name) is not None and time.monotonic() < until:
            time.sleep(0.05)
        # what is left of its session
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _pid_file(folder, name).unlink(missing_ok=True)


def log(folder: Path, name: str) -> Path:
    """Where a daemon's output goes."""
    return folder / "log" / f"{name}.log"


def succeeds(*command: str | Path, **environment: str) -> bool:
    """Whether a command that asks a server something ends well, and soon."""
    try:
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def listens(port: int) -> bool:
    """Whether something takes connections at a port of this machine."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _pid_file(folder: Path, name: str) -> Path:
    return folder / "run" / f"{name}.pid"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since the machine did; None for one that is gone, or only not reaped."""
    try:
        # the second field is the program's name in brackets, which may hold spaces
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
