"""DVC, as the driver uses it: which stages are done is its business, and a failed stage leaves all as it was."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from dvc.exceptions import CheckoutError, DvcException, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.scm import SCMError

from cfx.errors import InputError
from pipelines.config import schema
from pipelines.terminal import console

LOCK = Path("dvc.lock")


def bring_up_to_date(*stages: str, force: bool = False) -> None:
    """Run what is out of date of these stages and of all that they stand on; with `force` these alone, and surely.

    Exits with code 2 where a stage refused its input (it has said why), with 1 where it failed otherwise.
    """
    # the stages are run as `python -m ...`, and this is the Python that they mean
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # each stage says itself what it did
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with _opened() as repo:
            repo.reproduce(targets=list(stages), force=force, single_item=force)
    except KeyboardInterrupt:
        # who ends the driver alone leaves the stage at work, which would write over what is put back
        _end_stages()
        raise
    except ReproductionError as error:
        if isinstance(error.__cause__, LockError):
            raise _busy(error.__cause__) from error
        code = re.search(r"exited with (-?\d+)$", str(error.__cause__))
        if code is None:
            raise
        if code[1] in ("130", "-2"):
            # an interrupt of all that runs in a terminal, which DVC does not hear while a stage is at work
            raise KeyboardInterrupt from None
        if code[1] == "2":
            raise SystemExit(2) from None
        print(f"{error}: {error.__cause__}", file=sys.stderr)
        raise SystemExit(1) from None
    except LockError as error:
        raise _busy(error) from error
    except DvcException as error:
        raise InputError(
            f"DVC: {' '.join(str(error).split())}; repair or remove the file named in the message"
        ) from error


def _busy(error: LockError) -> InputError:
    """What DVC says of another command that is at work on the same files."""
    said = " ".join(str(error).split()).partition(" If there are no processes")[0]
    return InputError(
        f"DVC: another command is running in this folder ({said}); wait until it ends, then run the same command again"
    )


def _opened() -> Repo:
    """DVC's view of this folder, which may be no git repository, such as an archive of one that was unpacked."""
    try:
        return Repo()
    except SCMError:
        return Repo(config={"core": {"no_scm": True}})


def _end_stages() -> None:
    """End the stages that this process has started, and wait until they have ended."""
    running = [process for process in psutil.Process().children(recursive=True) if _is_stage(process)]
    for process in running:
        process.terminate()
    for process in psutil.wait_procs(running, timeout=10)[1]:
        process.kill()


def _is_stage(process: psutil.Process) -> bool:
    try:
        return any(word.startswith("pipelines.") for word in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Put params.yaml, dvc.lock and the artefacts back as they were where the context ends in an exception."""
    before = {path: path.read_bytes() if path.exists() else None for path in (schema.PATH, LOCK)}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        if before[LOCK] is not None:
            try:
                with _opened() as repo:
                    repo.checkout(force=True)
            except (CheckoutError, DvcException) as error:
                console.print(f"the previous artefacts could not be restored ({error}); run the last sweep again")
        raise
