"""Run DVC stages from the driver, and restore the previous state if one fails.

The dvc.yaml of a clone lists the source files of each stage. In a folder of `cfx init`, which has no source files,
code.yaml has one digest of the installed ones per stage.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml
from dvc.exceptions import DvcException, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.scm import SCMError

from cfx.errors import InputError
from cfx.files import replacing
from pipelines.cells import source
from pipelines.config import PROJECT, is_clone, schema
from pipelines.terminal import console

LOCK = Path("dvc.lock")
CODE = Path("code.yaml")
PIPELINE = Path("dvc.yaml")


def reproduce(*stages: str, force: bool = False) -> None:
    """Run these stages and their upstream stages if they are out of date.

    force: run these stages unconditionally, without their upstream stages. Exits with code 2 if a stage rejects its
    input (the stage prints the reason), and with code 1 if it fails for another reason.
    """
    # the stage commands call `python`
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with _open_repo() as repo:
            repo.reproduce(targets=list(stages), force=force, single_item=force)
    except KeyboardInterrupt:
        # a signal to the driver alone does not reach the stage, which would overwrite the restored artefacts
        _terminate_stages()
        raise
    except ReproductionError as error:
        if isinstance(error.__cause__, LockError):
            raise _lock_error(error.__cause__) from error
        code = re.search(r"exited with (-?\d+)$", str(error.__cause__))
        if code is None:
            raise
        if code[1] in ("130", "-2"):
            # DVC ignores an interrupt while a stage runs
            raise KeyboardInterrupt from None
        if code[1] == "2":
            raise SystemExit(2) from None
        print(f"{error}: {error.__cause__}", file=sys.stderr)
        raise SystemExit(1) from None
    except LockError as error:
        raise _lock_error(error) from error
    except DvcException as error:
        reason = " ".join(str(error).split())
        raise InputError(f"DVC: {reason}; repair or remove the file named in the message") from error


@contextmanager
def restore_on_error() -> Iterator[None]:
    """Restore the files of DVC and the artefacts if the context ends with an exception."""
    files = (schema.PATH, LOCK) if is_clone() else (schema.PATH, LOCK, PIPELINE, CODE)
    previous = {path: path.read_bytes() if path.exists() else None for path in files}
    try:
        yield
    except BaseException:
        for path, content in previous.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        if previous[LOCK] is not None:
            try:
                with _open_repo() as repo:
                    repo.checkout(force=True)
            except DvcException as error:
                console.print(f"the previous artefacts could not be restored ({error}); run the last sweep again")
        raise


def write_pipeline() -> None:
    """Write dvc.yaml and code.yaml from the project's pipeline if they change, unless this folder is a clone."""
    if is_clone():
        return
    pipeline = yaml.safe_load((PROJECT / PIPELINE).read_text())
    code = {}
    for name, stage in pipeline["stages"].items():
        sources = [path for path in stage["deps"] if path.split("/")[0] in source.PACKAGES]
        code[name] = _sha256(source.ROOT / path for path in sources)
        stage["deps"] = [path for path in stage["deps"] if path not in sources]
        stage["params"].append({str(CODE): [name]})
        pipeline["stages"][name] = {key: value for key, value in stage.items() if value}
    header = (
        "# What is up to date and what is not.   dvc repro | dvc status | dvc metrics show | dvc plots show\n"
        "# `cfx run` writes this file from the installed package; keep stages of your own in a subfolder.\n"
    )
    _write(PIPELINE, header, pipeline)
    _write(CODE, "# Written by `cfx run`: the digest of the installed source files of each stage.\n", code)


def _sha256(paths: Iterable[Path]) -> str:
    """The digest of files, and of the modules in folders."""
    files = (file for path in paths for file in (sorted(path.glob("*.py")) if path.is_dir() else [path]))
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _write(path: Path, header: str, content: object) -> None:
    text = header + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
    if not path.exists() or path.read_text() != text:
        with replacing(path) as temporary:
            temporary.write_text(text)


def _lock_error(error: LockError) -> InputError:
    reason = " ".join(str(error).split()).partition(" If there are no processes")[0]
    return InputError(
        f"DVC: another command is running in this folder ({reason}); wait until it ends, and run the same command again"
    )


def _open_repo() -> Repo:
    """The DVC repository of this folder, which need not be a git repository."""
    try:
        return Repo()
    except SCMError:
        return Repo(config={"core": {"no_scm": True}})


def _terminate_stages() -> None:
    """Terminate the stages that this process started, and wait for them."""
    running = [process for process in psutil.Process().children(recursive=True) if _is_stage(process)]
    for process in running:
        process.terminate()
    for process in psutil.wait_procs(running, timeout=10)[1]:
        process.kill()


def _is_stage(process: psutil.Process) -> bool:
    try:
        return any(argument.startswith("pipelines.") for argument in process.cmdline())
    except psutil.Error:
        return False
