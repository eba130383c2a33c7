"""Files that appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a place to write a file or make a folder at, which is renamed to `path` when it is complete.

    An exception leaves `path` as it was. A folder that is already there is moved away first, a file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        new = Path(scratch) / path.name
        yield new
        if path.is_dir():
            path.rename(Path(scratch) / f"{path.name}.old")
        new.replace(path)
