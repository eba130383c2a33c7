"""The cell store: finished cells on disk, by ID. MLflow is synchronised with it.

    cells/<cell>/result.npz         the counterfactuals (cfx.Result)
    cells/<cell>/measures.parquet   their metrics (cfx.metrics.measure)
    cells/<cell>/record.json        the parameters, the provenance and the time of the computation
    cells/<cell>.failed.json        the error of a failed cell, until it has a result
    cells/<cell>.running.json       the progress of a batch of cells

A cell is written to a temporary folder and then renamed, so that a cell in the store is complete. If two processes
compute the same cell, the first result is kept.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from cfx.files import replacing
from cfx.result import Result
from pipelines.cells.paths import CELLS

# Seconds between two writes of a batch's progress.
_WRITE_INTERVAL = 1.0


def has(cell: str) -> bool:
    """Whether the cell is finished."""
    return (CELLS / cell).is_dir()


def finished() -> list[str]:
    """The IDs of all finished cells."""
    return sorted(path.parent.name for path in CELLS.glob("*/record.json"))


def result_path(cell: str) -> Path:
    """The path of a finished cell's counterfactuals."""
    return CELLS / cell / "result.npz"


def record_path(cell: str) -> Path:
    """The path of a finished cell's record."""
    return CELLS / cell / "record.json"


def table(cell: str, upstream: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a finished cell in counterfactuals.parquet: the cell ID, the results and the metrics.

    upstream: the values of the axes upstream of the search, which become columns.
    """
    rows = Result.load(result_path(cell)).frame().join(pd.read_parquet(CELLS / cell / "measures.parquet"))
    rows.insert(0, "cell", cell)
    for i, (axis, value) in enumerate(upstream.items(), start=1):
        # pandas would interpret a list, such as bounds, as a column
        rows.insert(i, axis, value if isinstance(value, int | float | str) else str(value))
    return rows


def record(cell: str) -> dict[str, Any]:
    """The record of a finished cell."""
    return json.loads(record_path(cell).read_text())


def failure(cell: str) -> dict[str, Any] | None:
    """The record of the last attempt if the cell failed, otherwise None."""
    path = _failure_path(cell)
    return None if has(cell) or not path.exists() else json.loads(path.read_text())


def save(cell: str, result: Result, measures: pd.DataFrame, record: dict[str, Any]) -> None:
    """Save a finished cell."""
    CELLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CELLS, prefix=f".{cell}.") as scratch:
        complete = Path(scratch) / cell
        complete.mkdir()
        result.save(complete / "result.npz")
        measures.to_parquet(complete / "measures.parquet", index=False)
        (complete / "record.json").write_text(json.dumps(record, indent=2) + "\n")
        if not has(cell):
            complete.rename(CELLS / cell)
    _failure_path(cell).unlink(missing_ok=True)


def save_failure(cell: str, record: dict[str, Any]) -> None:
    """Save the record of a failed cell."""
    with replacing(_failure_path(cell)) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


@contextmanager
def running(batch: Sequence[str]) -> Iterator[Callable[[int, int], None]]:
    """Mark the cells of a batch as running. Yields a function to call with (rows done, rows in total)."""
    CELLS.mkdir(exist_ok=True)
    path = CELLS / f"{batch[0]}.running.json"
    written = -math.inf

    def progress(done: int, total: int) -> None:
        nonlocal written
        if time.monotonic() - written > _WRITE_INTERVAL:
            written = time.monotonic()
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"cells": list(batch), "share": done / total}))

    try:
        progress(0, 1)
        yield progress
    finally:
        path.unlink(missing_ok=True)


def cell_progress() -> dict[str, float]:
    """The progress of each running cell, in [0, 1]."""
    found: dict[str, float] = {}
    for path in CELLS.glob("*.running.json"):
        # the batch may end meanwhile
        with suppress(FileNotFoundError):
            batch = json.loads(path.read_text())
            found |= dict.fromkeys(batch["cells"], batch["share"])
    return found


def clear(cells: Iterable[str]) -> None:
    """Remove the failures of these cells before they are computed again, and the progress files of killed processes."""
    for path in [*map(_failure_path, cells), *CELLS.glob("*.running.json")]:
        path.unlink(missing_ok=True)


def _failure_path(cell: str) -> Path:
    return CELLS / f"{cell}.failed.json"
