"""Atomic writes of files and folders."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which is renamed to `path` at the end.

    An exception leaves `path` unchanged. An existing file or folder is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        new = Path(scratch) / path.name
        yield new
        if path.is_dir():
            path.rename(Path(scratch) / f"{path.name}.old")
        new.replace(path)
