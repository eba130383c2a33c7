"""The caller's side of a worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cfx import worker
from cfx.errors import InputError
from cfx.own_file import one_line

# The length of the worker's output in an error message, in characters.
_TAIL = 2000
# Environment variables that are only valid for this interpreter.
_OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME")
_OLDEST, _OLDEST_TEXT = (3, 10), "3.10"


class Process:
    """A worker process; its whole process group is killed at the end."""

    def __init__(self, module: Path, python: str | None, timeout_s: float) -> None:
        """Start it. Raises InputError if the interpreter cannot be started."""
        self._module, self._timeout_s, self._interpreter = module, timeout_s, python or sys.executable
        self._timed_out, self._printed = False, b""
        requests, to_worker = os.pipe()
        from_worker, replies = os.pipe()
        from_output, output = os.pipe()
        self._requests, self._replies = open(to_worker, "wb"), open(from_worker, "rb")  # noqa: PTH123, SIM115
        self._output = open(from_output, "rb", buffering=0)  # noqa: PTH123, SIM115
        # -u: no output is lost. -X faulthandler: a crash prints a traceback; a shell would reject this option.
        command = [self._interpreter, "-u", "-X", "faulthandler", worker.__file__]
        try:
            self._process = subprocess.Popen(
                [*command, str(requests), str(replies), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(requests, replies),
                env={name: value for name, value in os.environ.items() if not (python and name in _OF_THIS_PYTHON)},
                start_new_session=True,
            )
        except OSError as error:
            self._output.close()
            self._close()
            reason = f"{self._interpreter} cannot be started ({error.strerror})"
            raise InputError(f"python: {reason}; give the path of a Python interpreter") from error
        finally:
            for descriptor in (requests, replies, output):
                os.close(descriptor)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._watcher.start()
        self._reader.start()

    def __enter__(self) -> Process:
        """Raise InputError if the interpreter is too old, has no numpy, or is not Python."""
        try:
            self._check_interpreter()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all processes."""
        self._end()

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Send a message. Raises InputError if the process has ended."""
        try:
            worker.send(self._requests, header, arrays)
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Receive a message. Raises InputError if the process has ended or reports an error."""
        try:
            header, arrays = worker.receive(self._replies)
        except EOFError:
            raise self._death() from None
        if "wrong" in header:
            self._end()
            raise InputError(one_line(header["wrong"]) + self._tail())
        return header, arrays

    def _check_interpreter(self) -> None:
        try:
            header, _ = worker.receive(self._replies)
        except EOFError:
            death = self._death()
            if self._timed_out:
                raise death from None
            reason = f"{self._interpreter} is not a Python interpreter of version {_OLDEST_TEXT} or newer"
            raise InputError(f"python: {reason}{self._tail()}") from None
        if tuple(header["python"]) < _OLDEST:
            version = ".".join(map(str, header["python"]))
            reason = f"{self._interpreter} is Python {version}; give one of version {_OLDEST_TEXT} or newer"
            raise InputError(f"python: {reason}")
        if header["numpy"]:
            reason = f"{self._interpreter} has no numpy ({one_line(header['numpy'])}); install it there"
            raise InputError(f"python: {reason}")

    def _death(self) -> InputError:
        """The reason why the process closed its pipes without an answer."""
        self._watcher.join()
        self._end()
        name, code = self._module.name, self._process.returncode
        if self._timed_out:
            reason = f"{name} took longer than timeout_s={self._timeout_s:g}; make it faster, or give it more seconds"
            return InputError(f"timeout_s: {reason}{self._tail()}")
        # The guard process reports a signal as 128 plus its number.
        number = -code if code < 0 else code - 128
        if number in {known.value for known in signal.Signals}:
            return InputError(f"module: {name}: its process was ended by {signal.Signals(number).name}{self._tail()}")
        return InputError(f"module: {name}: its process ended with exit code {code}{self._tail()}")

    def _tail(self) -> str:
        text = one_line(self._printed.decode(errors="replace")[-_TAIL:])
        return f"; it printed last: {text}" if text else ""

    def _watch(self) -> None:
        """Wait for the end of the process or the time limit, and kill its group."""
        try:
            self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self._timed_out = True
        self._kill()
        self._process.wait()

    def _read_output(self) -> None:
        with self._output:
            while part := self._output.read(2**16):
                # A character has up to four bytes.
                self._printed = (self._printed + part)[-4 * _TAIL :]

    def _kill(self) -> None:
        # The group may have ended; macOS raises PermissionError then.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        if self._process.returncode is None:
            self._kill()
        self._watcher.join()
        # A process outside the group may keep the output open.
        self._reader.join(1)
        self._close()

    def _close(self) -> None:
        # The buffer may contain unsent data.
        with suppress(OSError):
            self._requests.close()
        self._replies.close()
