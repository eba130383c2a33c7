"""Stage `explain`: counterfactuals of every cell of the sweep, measured.   python -m pipelines.stages.explain

Computes the cells that are not in the store and collects them all:
artifacts/counterfactuals.parquet, one row a counterfactual, artifacts/counterfactuals/<cell>.npz with its record, and
artifacts/counterfactuals_metrics.json, what they are worth together, for `dvc metrics` and `dvc exp show`.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cfx import data, figures, guide_training, metrics, models
from cfx.files import replacing
from cfx.method import ArrayMethod
from cfx.result import Result
from pipelines.cells import identity, measures, paths, plan, provenance, store
from pipelines.cells.paths import Trained, class_name
from pipelines.cells.plan import Cell
from pipelines.config import schema, searches
from pipelines.config.schema import Params
from pipelines.progress import show_progress
from pipelines.terminal import import_tensorflow, user_errors

if TYPE_CHECKING:
    import keras

    from cfx.guides import Guides

# How many instances of a cell keep their evolution over lambda.
PATHS = 10


def main() -> None:
    """Run the stage."""
    chosen = schema.read()
    sweep = plan.make_cells(chosen)
    import_artifacts(sweep)
    missing = [cell for cell in sweep if not store.has(cell.id)]
    with show_progress(missing):
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
                save_failure(batch[0], error)
            else:
                # which of them it was shows when each is on its own
                for cell in batch:
                    compute([cell], chosen)


def batches(missing: Iterable[Cell]) -> list[list[Cell]]:
    """The cells, grouped by what has to be the same for all rows of a search.

    A cell whose method uses guides is searched by itself: guides round otherwise in batches of other sizes, and a cell
    must come out the same whatever is computed beside it.
    """
    grouped: dict[str, list[Cell]] = {}
    for cell in missing:
        shared = {key: value for key, value in cell.search.items() if key not in cell.method.PER_ROW}
        alone = cell.id if cell.method.guide_quantile else ""
        grouped.setdefault(f"{cell.trained} {shared} {cell.instances} {alone}", []).append(cell)
    return list(grouped.values())


def save_failure(cell: Cell, error: Exception) -> None:
    """Keep the exception that left a cell without a result."""
    reason = f"{type(error).__name__}: {error}"
    details = {"error": reason, "traceback": "".join(traceback.format_exception(error))}
    now = provenance.now()
    store.save_failure(cell.id, {**_about(cell), "started": now, "finished": now, **details})


def _compute(batch: list[Cell], chosen: Params) -> None:
    started, start = provenance.now(), time.perf_counter()
    with store.running([cell.id for cell in batch]) as progress:
        results = search(batch, progress)
        searched = time.perf_counter() - start
        own = searches.record(batch[0].search)
        for cell, result in zip(batch, results, strict=True):
            judged = measure(result, cell.trained)
            by = {"identity": plan.current_inputs(cell), "device": provenance.device(), "batch": len(batch)}
            by |= {"params": chosen.model_dump(mode="json"), "search": cell.search, **own}
            times = {"started": started, "finished": provenance.now(), "seconds": searched / len(batch)}
            store.save(cell.id, result, judged, {**_about(cell), **by, **times, "summary": summary(cell, result)})


def _about(cell: Cell) -> dict[str, Any]:
    return {"cell": cell.id, "swept": cell.swept, **provenance.origin(), **provenance.process()}


def search(batch: list[Cell], progress: Callable[[int, int], None]) -> list[Result]:
    """The counterfactuals of the cells of a batch, by one search."""
    trained = batch[0].trained
    model, x_test = _explained(trained, models.sha256(trained.model), **batch[0].trust)
    from cfx.search import find_counterfactuals

    instances = np.array(batch[0].instances)
    place, of_cell = (grid.ravel() for grid in np.mgrid[: len(instances), : len(batch)])
    # the rows whose path is kept come first
    keeping = min(PATHS, len(instances)) * len(batch)
    methods = [searches.runnable(cell.search) for cell in batch]
    per_row: dict[str, Any] = {
        axis: tuple(getattr(methods[cell], axis) for cell in of_cell) for axis in methods[0].PER_ROW
    }
    method = replace(methods[0], **per_row)
    rows = instances[place]
    found = find_counterfactuals(
        model,
        x_test[rows],
        method,
        instances=rows,
        train=_training_split(trained) if isinstance(method, ArrayMethod) or method.guide_quantile else None,
        guides=_guides(trained.guides_folder, *identity.guides(trained)) if method.guide_quantile else None,
        path_rows=keeping,
        progress=progress,
    )
    return [found.take(np.flatnonzero(of_cell == cell)) for cell in range(len(batch))]


def measure(result: Result, trained: Trained) -> pd.DataFrame:
    """What the judges say of the counterfactuals of one cell."""
    autoencoders, oracle = _judges(trained, models.sha256(trained.autoencoders), models.sha256(trained.oracle))
    return metrics.measure(result, autoencoders, oracle)


def import_artifacts(sweep: Iterable[Cell]) -> None:
    """Take cells that are not in the store from the artefacts, as `dvc pull` or `dvc checkout` has brought them."""
    missing = [cell.id for cell in sweep if not store.has(cell.id) and (paths.RESULTS / f"{cell.id}.json").exists()]
    if missing:
        rows = dict(list(pd.read_parquet(paths.TABLE).groupby("cell")))
        for cell in missing:
            result = Result.load(paths.RESULTS / f"{cell}.npz")
            judged = rows[cell][list(metrics.MEASURES)].reset_index(drop=True)
            store.save(cell, result, judged, json.loads((paths.RESULTS / f"{cell}.json").read_text()))


def collect(sweep: Iterable[Cell]) -> None:
    """Gather the finished cells into the artefacts."""
    finished = [cell for cell in sweep if store.has(cell.id)]
    with replacing(paths.RESULTS) as folder:
        folder.mkdir()
        for cell in finished:
            shutil.copyfile(store.result_path(cell.id), folder / f"{cell.id}.npz")
            shutil.copyfile(store.record_path(cell.id), folder / f"{cell.id}.json")
    tables = [store.table(cell.id, cell.upstream) for cell in finished]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    with replacing(paths.TABLE) as temporary:
        whole.to_parquet(temporary, index=False)
    with replacing(paths.SWEEP_METRICS) as temporary:
        temporary.write_text(json.dumps(sweep_metrics(whole), indent=2) + "\n")


def sweep_metrics(rows: pd.DataFrame) -> dict[str, float]:
    """What DVC compares between sweeps: the share found, and the medians of those found."""
    if not len(rows):
        return {"validity": 0.0}
    known = {name.rpartition("/")[2]: value for name, value in measures.values(rows).items()}
    shown = ("validity", "l1", "l0", "probability", "im1", "oracle", "unchanged")
    return {name: known[name] for name in shown if name in known}


def summary(cell: Cell, result: Result) -> str:
    """What was found, in a few words."""
    if len(result.found) != 1:
        left_out = f", {result.unchanged.sum()} unchanged" if result.unchanged.any() else ""
        searched = ~result.unchanged
        return f"found {(result.found & searched).sum()} of {searched.sum()}{left_out}"
    row = result.frame().iloc[0]
    original, reached = class_name(row.original_class, cell.trained), class_name(row.cf_class, cell.trained)
    return figures.caption(original, reached, row.probability, row.l1, row.found, row.unchanged)


@lru_cache(maxsize=1)
def _explained(trained: Trained, sha256: str, **trust: Any) -> tuple[keras.Model, np.ndarray]:
    """The model and the test split, loaded once a process, so that all cells share one compiled search."""
    import_tensorflow()
    return models.load(trained.model, **trust), data.read_npz(trained.data, ("x_test",))["x_test"]


def _training_split(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    arrays = data.read_npz(trained.data, ("x_train", "y_train"))
    return arrays["x_train"], arrays["y_train"]


@lru_cache(maxsize=1)
def _guides(folder: Path, *sha256: str) -> Guides:
    """The guides, loaded once a process, so that all cells share one compiled search."""
    return guide_training.load(folder)


@lru_cache(maxsize=1)
def _judges(trained: Trained, *sha256: str) -> tuple[keras.Model, keras.Model]:
    """The autoencoders and the oracle, loaded once a process."""
    return models.load(trained.autoencoders), models.load(trained.oracle)


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
