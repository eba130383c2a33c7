"""The provenance of a result: the code, the versions, the machine and the process that computed it."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from pipelines.cells import source
from pipelines.config import is_clone

PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "hydra-core", "dvc", "mlflow")
# The frameworks of classifiers, if they are installed.
FRAMEWORKS = ("torch", "jax", "onnx2pytorch", "skops")
DISTRIBUTION = "counterfactual-instances"
# The files in the clone, except those that a run writes.
_SOURCES = ("--", ".", ":!params.yaml", ":!dvc.lock")
# The limits for untracked files in a record: bytes of text, and digests of other files.
_MAX_TEXT, _MAX_DIGESTS = 2**18, 20
# The environment variables by which TensorFlow and oneDNN select kernels and threads, which affect rounding.
_KERNELS = (
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE"),
    *("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_XLA_FLAGS", "XLA_FLAGS"),
)

# The inputs of a cell that its identity contains as digests.
_DIGESTS = ("data", "model", "judges", "guides", "code")


@cache
def versions() -> dict[str, str]:
    """The versions of Python, of the main packages and, if the code is not a clone's, of this package."""
    found = {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
    for package in FRAMEWORKS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    if not is_clone() or commit() is None:
        with suppress(PackageNotFoundError):
            found[DISTRIBUTION] = version(DISTRIBUTION)
    return found


@cache
def code(*stages: str) -> dict[str, str]:
    """The digest of the syntax of each module that affects the outputs of these stages of dvc.yaml."""
    sources = sorted({module for name in stages for module in source.stage_modules(name)})
    return {path.relative_to(source.ROOT).as_posix(): _sha256(syntax(path).encode()) for path in sources}


def syntax(module: Path) -> str:
    """The syntax tree of a module as text, without comments, docstrings and formatting."""
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
    """The versions in the lock file for this Python and system; empty without a lock file."""
    lock = Path("requirements.lock")
    lines = re.findall(r"^(\w.*?) \\$", lock.read_text(), re.MULTILINE) if lock.exists() else []
    pins = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]
    return {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in pins}


@cache
def machine() -> dict[str, Any]:
    """The properties of the machine that affect rounding: system, processor, number of cores, kernels."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = dict(re.findall(r"^(model name|flags)\s*: (.*)$", text, re.MULTILINE))
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu.get("model name", platform.processor()),
        "features": _sha256(cpu.get("flags", "").encode())[:16],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernels": {name: os.environ[name] for name in _KERNELS if name in os.environ},
    }


def device() -> dict[str, str | None]:
    """The device of this process: kind and name, and the GPUs and the node that the launcher assigned."""
    import tensorflow as tf

    visible = tf.config.list_physical_devices("GPU")
    name = tf.config.experimental.get_device_details(visible[0]).get("device_name") if visible else None
    return {
        "kind": "GPU" if visible else "CPU",
        "name": name,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "node": os.environ.get("SLURMD_NODENAME"),
    }


def now() -> str:
    """The current time in UTC, in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def tags() -> dict[str, str]:
    """The digests of the lock files, the versions and the git commit, as MLflow tags."""
    found = {f"cfx.version.{package}": number for package, number in versions().items()}
    for path in (Path("dvc.lock"), Path("requirements.lock")):
        if path.exists():
            found[f"cfx.sha256.{path.name}"] = _sha256(path.read_bytes())
    if (head := commit()) is not None:
        found |= {"mlflow.source.git.commit": head[0], "cfx.git_dirty": "yes" if head[1] else "no"}
    return found


@cache
def commit() -> tuple[str, bool] | None:
    """The git commit, and whether the working tree differs from it; None if this folder is not the root of a clone."""
    # a folder inside another repository can neither be cloned nor be restored by a patch
    if _git("rev-parse", "--show-prefix") != "" or (head := _git("rev-parse", "HEAD")) is None:
        return None
    return head, bool(_git("status", "--porcelain", *_SOURCES))


def remote() -> str | None:
    """The URL of the remote `origin`, without credentials; None if there is none."""
    address = _git("remote", "get-url", "origin")
    return None if address is None else re.sub(r"//[^/@]*@", "//", address)


def has_commit(sha: str) -> bool:
    """Whether the clone has this commit."""
    return _git("cat-file", "-e", f"{sha}^{{commit}}") is not None


@cache
def origin() -> dict[str, Any]:
    """The code and the environment: commit, diff, digests of untracked files, versions, digest of the lock file.

    `diff` is a patch for `git apply` and includes new text files; `untracked` has the SHA-256 of other new files.
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
    """The untracked files: those that the diff includes, and the digests of the others.

    The diff includes text files up to a total size, the shortest first. Many other files share one digest.
    """
    listed = (_git("ls-files", "--others", "--exclude-standard", "-z", *_SOURCES) or "").split("\0")
    # a nested clone is listed as a folder; a temporary file may be deleted meanwhile
    files = {path: Path(path).stat().st_size for path in listed if Path(path).is_file()}
    new: list[str] = []
    others: dict[str, str] = {}
    room = _MAX_TEXT
    for path in sorted(files, key=lambda path: (files[path], path)):
        with suppress(OSError), Path(path).open("rb") as file:
            if files[path] <= room and b"\0" not in file.read(8000):  # the criterion of git for text
                new.append(path)
                room -= files[path]
            else:
                file.seek(0)
                others[path] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(others) > _MAX_DIGESTS:
        text = "\n".join(f"{path} {digest}" for path, digest in sorted(others.items()))
        others = {f"{len(others)} files": _sha256(text.encode(errors="surrogateescape"))}
    return new, others


def _diff(new: list[str]) -> str | None:
    """The patch from HEAD to the working tree. new: untracked files to include.

    It does not modify the index or the objects of the clone, and ignores the user's settings for `git diff`.
    """
    index, objects = (_git("rev-parse", "--git-path", "index", "--git-path", "objects") or "").split("\n")
    with tempfile.TemporaryDirectory() as scratch:
        separate = {
            "GIT_INDEX_FILE": shutil.copy2(index, scratch),
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{Path(objects).resolve()}"',
        }
        _git("update-index", "-q", "--refresh", **separate)
        _git("update-index", "--add", "--remove", "-z", "--stdin", stdin="\0".join(new), **separate)
        return _git("diff-index", "--binary", "--full-index", "HEAD", *_SOURCES, **separate)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The differences between the records of two cells that may affect their results, one line each."""
    return list(changes(_flat(one), _flat(other)))


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The keys whose values differ, one line each."""
    for key in dict.fromkeys((*then, *now)):
        if then.get(key) != now.get(key):
            yield f"{key}: {shorten(then.get(key))} became {shorten(now.get(key))}"


def shorten(value: object) -> str:
    """A value as text on one line, with shortened digests and at most 80 characters."""
    text = re.sub(r"\b([0-9a-f]{16})[0-9a-f]{16,}\b", r"\1", " ".join(str(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    params = record["params"]
    return {
        **{part: record[part] for part in ("commit", "diff", "lock")},
        **{f"untracked {path} (SHA-256)": digest for path, digest in record.get("untracked", {}).items()},
        **{f"version of {package}": number for package, number in record["versions"].items()},
        **{f"{part} (SHA-256)": digests for part, digests in record["identity"].items() if part in _DIGESTS},
        **{key: value for key, value in record["identity"].items() if key not in _DIGESTS},
        **{section: params[section] for section in ("seed", "data", "model", "training")},
        "guides": params.get("guides"),
        "device": record["device"]["kind"],
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(*arguments: str, stdin: str = "", **environment: str) -> str | None:
    """The output of git without trailing line breaks, or None if it fails. A diff may contain any encoding."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            input=stdin.encode(errors="surrogateescape"),
            # a job must not take a lock that blocks a commit
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", **environment},
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="surrogateescape").rstrip("\n")
