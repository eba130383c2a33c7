"""Stage `explain`: counterfactuals of every cell of the sweep, measured.   python -m pipelines.stages.explain

Computes the cells that are not in the store and collects them all:
artifacts/counterfactuals.parquet, one row a counterfactual, artifacts/counterfactuals/<cell>.npz with its record, and
artifacts/counterfactuals_metrics.json, what they are worth together, for `dvc metrics` and `dvc exp show`.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cfx import data, figures, metrics, models
from cfx.files import replacing
from cfx.result import Result
from pipelines.cells import paths, plan, provenance, store
from pipelines.cells.paths import Trained, class_name
from pipelines.cells.plan import Cell
from pipelines.config import schema
from pipelines.config.schema import Params
from pipelines.launching import devices
from pipelines.progress import following
from pipelines.terminal import import_tensorflow, user_errors

if TYPE_CHECKING:
    import keras

# How many instances of a cell keep their evolution over lambda.
PATHS = 10


def main() -> None:
    """Run the stage."""
    chosen = schema.read()
    sweep = plan.of_sweep(chosen)
    adopt(sweep)
    missing = [cell for cell in sweep if not store.has(cell.id)]
    with following(missing):
        compute(missing, chosen)
    collect(sweep)
    if any(not store.has(cell.id) for cell in sweep):
        raise SystemExit(1)


def compute(missing: Iterable[Cell], chosen: Params) -> None:
    """Compute cells of these parameters, in batches of those that differ by target, lambda or learning rate only.

    Each is kept in the store; one that fails is kept as a failure, and the others go on.
    """
    for batch in batches(missing):
        try:
            _compute(batch, chosen)
        except Exception as error:
            if len(batch) == 1:
                keep_failure(batch[0], error)
            else:
                # which of them it was shows when each is on its own
                for cell in batch:
                    compute([cell], chosen)


def batches(missing: Iterable[Cell]) -> list[list[Cell]]:
    """The cells, grouped by what has to be the same for all rows of a search."""
    grouped: dict[str, list[Cell]] = {}
    for cell in missing:
        shared = replace(cell.method, target_class="other", lam_init=1.0, learning_rate=1.0)
        grouped.setdefault(f"{cell.trained.folder} {shared!r} {cell.instances}", []).append(cell)
    return list(grouped.values())


def keep_failure(cell: Cell, error: Exception) -> None:
    """Keep the exception that left a cell without a result."""
    reason = f"{type(error).__name__}: {error}"
    details = {"error": reason, "traceback": "".join(traceback.format_exception(error))}
    now = provenance.now()
    store.keep_failure(cell.id, {**_about(cell), "started": now, "finished": now, **details})


def _compute(batch: list[Cell], chosen: Params) -> None:
    started, start = provenance.now(), time.perf_counter()
    with store.running([cell.id for cell in batch]) as progress:
        results = search(batch, chosen, progress)
        searched = time.perf_counter() - start
        for cell, result in zip(batch, results, strict=True):
            measures = measure(result, cell.trained)
            by = {"identity": plan.identity(cell), "device": devices.describe(), "batch": len(batch)}
            by["params"] = chosen.model_dump(mode="json")
            times = {"started": started, "finished": provenance.now(), "seconds": searched / len(batch)}
            store.keep(cell.id, result, measures, {**_about(cell), **by, **times, "summary": summary(cell, result)})


def _about(cell: Cell) -> dict[str, Any]:
    return {"cell": cell.id, "swept": cell.swept, **provenance.origin(), **provenance.process()}


def search(batch: list[Cell], chosen: Params, progress: Callable[[int, int], None]) -> list[Result]:
    """The counterfactuals of the cells of a batch, by one search."""
    trained = batch[0].trained
    model, x_test = _explained(trained, models.sha256(trained.model), **chosen.trust(trained))
    from cfx.search import find_counterfactuals

    instances = np.array(batch[0].instances)
    place, of_cell = (grid.ravel() for grid in np.mgrid[: len(instances), : len(batch)])
    # the rows whose path is kept come first
    keeping = min(PATHS, len(instances)) * len(batch)
    per_row: dict[str, Any] = {
        axis: tuple(getattr(batch[cell].method, axis) for cell in of_cell)
        for axis in ("target_class", "lam_init", "learning_rate")
    }
    method = replace(batch[0].method, **per_row)
    rows = instances[place]
    found = find_counterfactuals(model, x_test[rows], method, instances=rows, path_rows=keeping, progress=progress)
    return [found.take(np.flatnonzero(of_cell == cell)) for cell in range(len(batch))]


def measure(result: Result, trained: Trained) -> pd.DataFrame:
    """What the judges say of the counterfactuals of one cell."""
    autoencoders, oracle = _judges(trained, models.sha256(trained.autoencoders), models.sha256(trained.oracle))
    return metrics.measure(result, autoencoders, oracle)


def adopt(sweep: Iterable[Cell]) -> None:
    """Take cells that are not in the store from the artefacts, as `dvc pull` or `dvc checkout` has brought them."""
    missing = [cell.id for cell in sweep if not store.has(cell.id) and (paths.RESULTS / f"{cell.id}.json").exists()]
    if missing:
        rows = dict(list(pd.read_parquet(paths.TABLE).groupby("cell")))
        for cell in missing:
            result = Result.load(paths.RESULTS / f"{cell}.npz")
            measures = rows[cell][list(metrics.MEASURES)].reset_index(drop=True)
            store.keep(cell, result, measures, json.loads((paths.RESULTS / f"{cell}.json").read_text()))


def collect(sweep: Iterable[Cell]) -> None:
    """Gather the finished cells into the artefacts."""
    finished = [cell for cell in sweep if store.has(cell.id)]
    with replacing(paths.RESULTS) as folder:
        folder.mkdir()
        for cell in finished:
            shutil.copyfile(store.result_path(cell.id), folder / f"{cell.id}.npz")
            shutil.copyfile(store.record_path(cell.id), folder / f"{cell.id}.json")
    tables = [table(cell) for cell in finished]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    with replacing(paths.TABLE) as temporary:
        whole.to_parquet(temporary, index=False)
    with replacing(paths.WORTH) as temporary:
        temporary.write_text(json.dumps(worth(whole), indent=2) + "\n")


def table(cell: Cell) -> pd.DataFrame:
    """A finished cell as rows of counterfactuals.parquet, with the axes that are no hyperparameter of its method."""
    rows = store.table(cell.id)
    for place, (axis, value) in enumerate(cell.upstream.items(), start=1):
        # a list, such as bounds, would be taken for a column
        rows.insert(place, axis, value if isinstance(value, int | float | str) else str(value))
    return rows


def worth(rows: pd.DataFrame) -> dict[str, float]:
    """What DVC compares between sweeps: the share found, and the medians of those found; empty where nothing is."""
    if not len(rows) or not rows["found"].any():
        return {"validity": 0.0}
    found = rows[rows["found"]]
    medians = {column: float(found[column].median()) for column in ("l1", "l0", "probability", "im1")}
    numbers = {"validity": float(rows["found"].mean()), **medians, "oracle": float(found["oracle"].mean())}
    return {name: number for name, number in numbers.items() if not math.isnan(number)}


def summary(cell: Cell, result: Result) -> str:
    """What was found, in a few words."""
    if len(result.found) != 1:
        return f"found {int(result.found.sum())} of {len(result.found)}"
    row = result.frame().iloc[0]
    original, reached = class_name(row.original_class, cell.trained), class_name(row.cf_class, cell.trained)
    return figures.caption(original, reached, row.probability, row.l1, row.found)


@lru_cache(maxsize=1)
def _explained(trained: Trained, sha256: str, **trust: Any) -> tuple[keras.Model, np.ndarray]:
    """The model and the test split, loaded once a process, so that all cells share one compiled search."""
    import_tensorflow()
    return models.load(trained.model, **trust), data.read_npz(trained.data, ("x_test",))["x_test"]


@lru_cache(maxsize=1)
def _judges(trained: Trained, *sha256: str) -> tuple[keras.Model, keras.Model]:
    """The autoencoders and the oracle, loaded once a process."""
    return models.load(trained.autoencoders), models.load(trained.oracle)


if __name__ == "__main__":
    with user_errors(), paths.held():
        main()
