"""Terminal output: the console, progress bars, and errors of one line."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from cfx.errors import InputError

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Print an InputError as one line and exit with code 2; exit with code 130 on an interrupt.

    Any other exception is a bug and keeps its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def option_names(names: Mapping[str, str]) -> Iterator[None]:
    """Raise an InputError of `cfx` with the options of the command line in place of its arguments and functions.

    names: the parts of a message to replace, such as {"bounds=": "data.bounds="}.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        for argument, option in names.items():
            message = message.replace(argument, option)
        raise InputError(message) from error


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if the output is a terminal. Yields a function to call with (completed, total)."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda completed, total: bar.update(task, completed=completed, total=total)


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up messages.

    It writes them to stderr regardless of TF_CPP_MIN_LOG_LEVEL (tensorflow issue 100442). Other output is passed on.
    """
    message = re.compile(
        rb"I\d{4} |WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
    )
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured:
                if not message.match(line):
                    os.write(2, line)
