"""What a person sees in the terminal: progress, tables, and a mistake as one line."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cfx.errors import InputError

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn an InputError into one line on stderr and exit code 2; anything else is a bug and keeps its traceback.

    An interrupt is neither, and ends with exit code 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for as long as the context lasts; yields a function to call with (done, in all).

    Where the output is no terminal nothing is drawn: a log keeps lines that stand, not bars that move.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up notes.

    They go to stderr whatever TF_CPP_MIN_LOG_LEVEL says (tensorflow issue 100442), so what comes in during the import
    is caught, and passed on where it is more than a note.
    """
    note = re.compile(
        rb"I\d{4} |WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
    )
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not note.match(line):
                    os.write(2, line)
