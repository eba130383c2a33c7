"""Run DVC stages from the driver, and restore the previous state if one fails."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from dvc.exceptions import DvcException, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.scm import SCMError

from cfx.errors import InputError
from pipelines.config import schema
from pipelines.terminal import console

LOCK = Path("dvc.lock")


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
    """Restore params.yaml, dvc.lock and the artefacts if the context ends with an exception."""
    previous = {path: path.read_bytes() if path.exists() else None for path in (schema.PATH, LOCK)}
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
