"""A real `mlflow server` for a test: on a free port of loopback, over a store that exists."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# how long a server may take until it answers, in seconds
PATIENCE = 120


@contextmanager
def serving(store: str, files: Path, log: Path) -> Iterator[str]:
    """Serve a store (its URI) with the files of new experiments in a folder; yields the address.

    The store's URI goes through the environment: it may hold a password, and a command line can be read by all.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--artifacts-destination", str(files)],
            env=os.environ | quiet | {"MLFLOW_BACKEND_STORE_URI": store},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/health", server, log)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"`mlflow server` does not answer:\n{log.read_text()[-2000:]}")
