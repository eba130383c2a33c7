"""Where the code stands and what it runs on, so that a number can be traced to what made it."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

# What decides the numbers, and what runs them.
PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "hydra-core", "dvc", "mlflow")


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that matter."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


@cache
def code() -> dict[str, str]:
    """The digest of each module that has a part in a number, by its syntax: a comment or a line break is no change.

    Which these are, DVC has to know too: the code that its stages up to the counterfactuals depend on.
    """
    root = Path(__file__).parents[1]
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    deciding = {path for name, stage in stages.items() if name != "report" for path in stage["deps"]}
    sources = sorted(path for path in deciding if path.endswith(".py"))
    return {path: _sha256(ast.dump(ast.parse((root / path).read_text())).encode()) for path in sources}


def locked() -> dict[str, str]:
    """The version that the lock file has of each package for this Python and system; empty where there is no lock."""
    lock = Path("requirements.lock")
    lines = re.findall(r"^(\w.*?) \\$", lock.read_text(), re.MULTILINE) if lock.exists() else []
    pins = [requirement for requirement in map(Requirement, lines) if _applies(requirement)]
    return {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in pins}


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


@cache
def machine() -> dict[str, Any]:
    """What decides how numbers are rounded beside the versions: the system, the processor and its cores."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = dict(re.findall(r"^(model name|flags)\s*: (.*)$", described, re.MULTILINE))
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": facts.get("model name", platform.processor()),
        "features": _sha256(facts.get("flags", "").encode())[:16],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


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
            about[f"cfx.sha256.{path.name}"] = _sha256(path.read_bytes())
    stands_at = commit()
    if stands_at is not None:
        about |= {"mlflow.source.git.commit": stands_at[0], "cfx.git_dirty": "yes" if stands_at[1] else "no"}
    return about


@cache
def commit() -> tuple[str, bool] | None:
    """The git commit and whether files differ from it, but for those that a run itself writes; None outside a clone."""
    head = _git("rev-parse", "HEAD")
    return (
        None if head is None else (head, bool(_git("status", "--porcelain", "--", ".", ":!params.yaml", ":!dvc.lock")))
    )


def remote() -> str | None:
    """Where the clone comes from, without credentials; None where it comes from nowhere."""
    address = _git("remote", "get-url", "origin")
    return None if address is None else re.sub(r"//[^/@]*@", "//", address)


@cache
def origin() -> dict[str, Any]:
    """What a cell's numbers come from beside its parameters: the commit, what differs from it, versions, lock file."""
    head, is_changed = commit() or (None, False)
    lock = Path("requirements.lock")
    return {
        "commit": head,
        "diff": _git("diff", "--binary", "HEAD", "--", ".", ":!params.yaml", ":!dvc.lock") if is_changed else None,
        "versions": versions(),
        "lock": _sha256(lock.read_bytes()) if lock.exists() else None,
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two cells' records differ of all that may decide their numbers, a line each; empty where in nothing."""
    before, after = _flat(one), _flat(other)
    changed = [key for key in before | after if before.get(key) != after.get(key)]
    return [f"{key}: {_short(before.get(key))} became {_short(after.get(key))}" for key in changed]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    asked = record["params"]
    return {
        **{part: record[part] for part in ("commit", "diff", "lock")},
        **{f"version of {package}": number for package, number in record["versions"].items()},
        **{f"{part} (SHA-256)": record["identity"][part] for part in ("data", "model", "judges", "code")},
        **{key: value for key, value in record["identity"].items() if key not in ("data", "model", "judges", "code")},
        **{section: asked[section] for section in ("seed", "data", "model", "training")},
        "device": record["device"]["kind"],
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    # a space at the end of a line belongs to a diff
    return done.stdout.rstrip("\n")
