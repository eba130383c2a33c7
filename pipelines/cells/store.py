"""The finished cells on disk, by their identity. This is the truth about a sweep: MLflow is brought in line with it.

    cells/<cell>/result.npz         the counterfactuals (cfx.Result)
    cells/<cell>/measures.parquet   what the judges say of them (cfx.metrics.measure)
    cells/<cell>/record.json        where, when and with what they were computed
    cells/<cell>.failed.json        why a cell has no result; goes when it has one
    cells/<cell>.running.json       a job that computes this cell and others as one batch, and how far it is

A cell is written under a temporary name and renamed in last, so a folder that is there is complete, and a cell that
two processes compute at once is kept from the first.
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

# Seconds between two notes of how far a batch is.
_TELL_EVERY = 1.0


def has(cell: str) -> bool:
    """Whether the cell is finished."""
    return (CELLS / cell).is_dir()


def result_path(cell: str) -> Path:
    """The file with a finished cell's counterfactuals."""
    return CELLS / cell / "result.npz"


def record_path(cell: str) -> Path:
    """The file that says where, when and with what a finished cell was computed."""
    return CELLS / cell / "record.json"


def table(cell: str, upstream: Mapping[str, Any]) -> pd.DataFrame:
    """A finished cell as rows of counterfactuals.parquet: `cell`, the columns of Result.frame, the measures.

    upstream: the values of the sweep's axes over data, model and training, which become columns, too.
    """
    rows = Result.load(result_path(cell)).frame().join(pd.read_parquet(CELLS / cell / "measures.parquet"))
    rows.insert(0, "cell", cell)
    for place, (axis, value) in enumerate(upstream.items(), start=1):
        # a list, such as bounds, would be taken for a column
        rows.insert(place, axis, value if isinstance(value, int | float | str) else str(value))
    return rows


def record(cell: str) -> dict[str, Any]:
    """Where, when and with what a finished cell was computed."""
    return json.loads(record_path(cell).read_text())


def failure(cell: str) -> dict[str, Any] | None:
    """Why a cell failed when it was last tried, or None."""
    path = _failure_path(cell)
    return None if has(cell) or not path.exists() else json.loads(path.read_text())


def save(cell: str, result: Result, measures: pd.DataFrame, about: dict[str, Any]) -> None:
    """Keep a finished cell."""
    CELLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CELLS, prefix=f".{cell}.") as scratch:
        complete = Path(scratch) / cell
        complete.mkdir()
        result.save(complete / "result.npz")
        measures.to_parquet(complete / "measures.parquet", index=False)
        (complete / "record.json").write_text(json.dumps(about, indent=2) + "\n")
        if not has(cell):
            complete.rename(CELLS / cell)
    _failure_path(cell).unlink(missing_ok=True)


def save_failure(cell: str, about: dict[str, Any]) -> None:
    """Keep the reason why a cell has no result."""
    with replacing(_failure_path(cell)) as temporary:
        temporary.write_text(json.dumps(about, indent=2) + "\n")


@contextmanager
def running(batch: Sequence[str]) -> Iterator[Callable[[int, int], None]]:
    """Say that the cells of a batch are being computed; yields a function to call with (rows done, rows in all)."""
    CELLS.mkdir(exist_ok=True)
    path = CELLS / f"{batch[0]}.running.json"
    told = -math.inf

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"cells": list(batch), "share": done / total}))

    try:
        progress(0, 1)
        yield progress
    finally:
        path.unlink(missing_ok=True)


def cell_progress() -> dict[str, float]:
    """How much is done, in [0, 1], of each cell that is being computed."""
    found: dict[str, float] = {}
    for path in CELLS.glob("*.running.json"):
        # it may be gone by now
        with suppress(FileNotFoundError):
            batch = json.loads(path.read_text())
            found |= dict.fromkeys(batch["cells"], batch["share"])
    return found


def clear(cells: Iterable[str]) -> None:
    """Forget why these cells failed, before they are tried again, and what a killed process said that it computes."""
    for path in [*map(_failure_path, cells), *CELLS.glob("*.running.json")]:
        path.unlink(missing_ok=True)


def _failure_path(cell: str) -> Path:
    return CELLS / f"{cell}.failed.json"
