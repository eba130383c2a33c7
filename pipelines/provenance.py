"""Where the code stands and what it runs on, so that a number can be traced to what made it."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

# What decides the numbers, and what runs them.
PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "hydra-core", "dvc", "mlflow")


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def process() -> dict[str, str | int]:
    """Which process this is."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def now() -> str:
    """The time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def tags() -> dict[str, str]:
    """The digests of the lock files, the versions and the git commit, as MLflow tags."""
    about = {f"cfx.version.{package}": number for package, number in versions().items()}
    for path in (Path("dvc.lock"), Path("requirements.lock")):
        if path.exists():
            about[f"cfx.sha256.{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    commit = _git("rev-parse", "HEAD")
    if commit is not None:
        # params.yaml and dvc.lock are what a run itself writes
        changed = _git("status", "--porcelain", "--", ".", ":!params.yaml", ":!dvc.lock")
        about |= {"mlflow.source.git.commit": commit, "cfx.git_dirty": "yes" if changed else "no"}
    return about


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
