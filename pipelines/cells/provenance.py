"""Where the code stands and what it runs on, so that a number can be traced to what made it."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from pipelines.cells import source

# What decides the numbers, and what runs them.
PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "hydra-core", "dvc", "mlflow")
# All that stands in the clone but for what a run itself writes.
_SOURCES = ("--", ".", ":!params.yaml", ":!dvc.lock")
# Of files that git does not track the record of each cell has some bytes of text, far more than new modules have and
# less than most data, and of the others so many digests, one for each.
_TEXT, _NAMED = 2**18, 20
# The environment variables by which TensorFlow and oneDNN take other kernels or threads, which round otherwise.
_KERNELS = (
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE"),
    *("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_XLA_FLAGS", "XLA_FLAGS"),
)

# The parts of a cell's identity that were made before it, by their digests.
_MADE = ("data", "model", "judges", "guides", "code")


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that matter."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


@cache
def code(*stages: str) -> dict[str, str]:
    """The digest of each module that decides what some stages of dvc.yaml make, by its `syntax`."""
    sources = sorted({module for name in stages for module in source.stage_modules(name)})
    return {path.relative_to(source.ROOT).as_posix(): _sha256(syntax(path).encode()) for path in sources}


def syntax(module: Path) -> str:
    """What of a module's source may decide a result: all but its comments, its docstrings and where its lines break."""
    tree = ast.parse(module.read_text())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [statement for statement in body if not _is_docstring(statement)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def locked_versions() -> dict[str, str]:
    """The version that the lock file has of each package for this Python and system; empty where there is no lock."""
    lock = Path("requirements.lock")
    lines = re.findall(r"^(\w.*?) \\$", lock.read_text(), re.MULTILINE) if lock.exists() else []
    pins = [requirement for requirement in map(Requirement, lines) if _applies(requirement)]
    return {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in pins}


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


@cache
def machine() -> dict[str, Any]:
    """What decides how numbers are rounded beside the versions: the system, the processor, its cores, the kernels."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = dict(re.findall(r"^(model name|flags)\s*: (.*)$", described, re.MULTILINE))
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": facts.get("model name", platform.processor()),
        "features": _sha256(facts.get("flags", "").encode())[:16],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernels": {name: os.environ[name] for name in _KERNELS if name in os.environ},
    }


def device() -> dict[str, str | None]:
    """What this process computes on: the kind and name of its first device, and what the engine assigned to it."""
    import tensorflow as tf

    visible = tf.config.list_physical_devices("GPU")
    name = tf.config.experimental.get_device_details(visible[0]).get("device_name") if visible else None
    return {
        "kind": "GPU" if visible else "CPU",
        "name": name,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "node": os.environ.get("SLURMD_NODENAME"),
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
    return None if head is None else (head, bool(_git("status", "--porcelain", *_SOURCES)))


def remote() -> str | None:
    """Where the clone comes from, without credentials; None where it comes from nowhere."""
    address = _git("remote", "get-url", "origin")
    return None if address is None else re.sub(r"//[^/@]*@", "//", address)


def has_commit(sha: str) -> bool:
    """Whether the clone has this commit."""
    return _git("cat-file", "-e", f"{sha}^{{commit}}") is not None


@cache
def origin() -> dict[str, Any]:
    """What a cell's numbers come from beside its parameters: the commit, what differs from it, versions, lock file.

    `diff` is what `git apply` takes, with new text files; `untracked` has the SHA-256 of the other new files.
    """
    head, is_changed = commit() or (None, False)
    new, others = _untracked() if is_changed else ([], {})
    lock = Path("requirements.lock")
    return {
        "commit": head,
        "diff": _diff(new) if is_changed else None,
        "untracked": others,
        "versions": versions(),
        "lock": _sha256(lock.read_bytes()) if lock.exists() else None,
    }


def _untracked() -> tuple[list[str], dict[str, str]]:
    """The files that git neither tracks nor ignores: those that go into the diff, and the digests of the others.

    Text goes into it, the shortest first, as long as there is room. Many others have one digest together.
    """
    listed = (_git("ls-files", "--others", "--exclude-standard", "-z", *_SOURCES) or "").split("\0")
    # a clone inside the clone is listed as a folder; a temporary file may be gone by now
    files = {path: Path(path).stat().st_size for path in listed if Path(path).is_file()}
    new: list[str] = []
    others: dict[str, str] = {}
    room = _TEXT
    for path in sorted(files, key=lambda path: (files[path], path)):
        with suppress(OSError), Path(path).open("rb") as file:
            if files[path] <= room and b"\0" not in file.read(8000):  # by which git tells text from data
                new.append(path)
                room -= files[path]
            else:
                file.seek(0)
                others[path] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(others) > _NAMED:
        every = "\n".join(f"{path} {digest}" for path, digest in sorted(others.items()))
        others = {f"{len(others)} files": _sha256(every.encode(errors="surrogateescape"))}
    return new, others


def _diff(new: list[str]) -> str | None:
    """What makes a clone at HEAD this folder. new: the files in it that git does not track.

    The index and the objects of the clone stay as they are, and what the user set for `git diff` has no part.
    """
    index, objects = (_git("rev-parse", "--git-path", "index", "--git-path", "objects") or "").split("\n")
    with tempfile.TemporaryDirectory() as scratch:
        apart = {
            "GIT_INDEX_FILE": shutil.copy2(index, scratch),
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{Path(objects).resolve()}"',
        }
        _git("update-index", "-q", "--refresh", **apart)
        _git("update-index", "--add", "--remove", "-z", "--stdin", given="\0".join(new), **apart)
        return _git("diff-index", "--binary", "--full-index", "HEAD", *_SOURCES, **apart)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two cells' records differ of all that may decide their numbers, a line each; empty where in nothing."""
    return list(changes(_flat(one), _flat(other)))


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is not the same under each key, a line each."""
    for key in dict.fromkeys((*then, *now)):
        if then.get(key) != now.get(key):
            yield f"{key}: {shorten(then.get(key))} became {shorten(now.get(key))}"


def shorten(value: object) -> str:
    """A value as a line has room for it: on one line, and of a digest as much as tells it from another."""
    text = re.sub(r"\b([0-9a-f]{16})[0-9a-f]{16,}\b", r"\1", " ".join(str(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    asked = record["params"]
    return {
        **{part: record[part] for part in ("commit", "diff", "lock")},
        **{f"untracked {path} (SHA-256)": digest for path, digest in record.get("untracked", {}).items()},
        **{f"version of {package}": number for package, number in record["versions"].items()},
        **{f"{part} (SHA-256)": digests for part, digests in record["identity"].items() if part in _MADE},
        **{key: value for key, value in record["identity"].items() if key not in _MADE},
        **{section: asked[section] for section in ("seed", "data", "model", "training")},
        "guides": asked.get("guides"),
        "device": record["device"]["kind"],
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(*arguments: str, given: str = "", **environment: str) -> str | None:
    """What git says, without the line breaks at its end, or None where it fails.

    Nothing else is changed in it: a diff holds spaces at the end of lines, and files in any encoding.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            input=given.encode(errors="surrogateescape"),
            # a job takes no lock from who commits meanwhile
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", **environment},
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="surrogateescape").rstrip("\n")
