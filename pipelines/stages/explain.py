"""Stage `explain`: compute and measure the counterfactuals of a sweep.   python -m pipelines.stages.explain

Computes the cells that are not in the store and collects all of them: artifacts/counterfactuals.parquet has one row per
counterfactual, artifacts/counterfactuals/ the arrays and the record of each cell, and
artifacts/counterfactuals_metrics.json the metrics of the sweep for `dvc metrics` and `dvc exp show`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cfx import changes, data, figures, guide_training, metrics, models, stored
from cfx.errors import InputError
from cfx.files import replacing
from cfx.method import ArrayMethod
from cfx.metrics import Judges
from cfx.neighbourhood import Neighbourhoods
from cfx.result import Result
from pipelines.cells import best_known, identity, measures, paths, plan, provenance, store
from pipelines.cells.paths import Trained, class_name
from pipelines.cells.plan import Cell
from pipelines.config import rules, schema, searches
from pipelines.config.schema import Params
from pipelines.progress import show_progress
from pipelines.terminal import import_tensorflow, user_errors

if TYPE_CHECKING:
    from cfx.guides import Guides

# The number of instances per cell whose evolution over lambda is kept.
PATHS = 10


def main() -> None:
    """Run the stage."""
    params = schema.read()
    cells = plan.make_cells(params)
    import_artifacts(cells)
    missing = [cell for cell in cells if not store.has(cell.id)]
    with show_progress(missing):
        compute(missing, params)
    collect(cells)
    if any(not store.has(cell.id) for cell in cells):
        raise SystemExit(1)


def compute(cells: Iterable[Cell], params: Params) -> None:
    """Compute cells in batches, and save the result or the error of each in the store."""
    for batch in batches(cells):
        try:
            _compute(batch, params)
        except Exception as error:
            if len(batch) == 1:
                save_failure(batch[0], error)
            else:
                # compute the cells one by one to find those that fail
                for cell in batch:
                    compute([cell], params)


def batches(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group cells that differ only in hyperparameters that may vary per row.

    A cell whose method uses guides has its own batch, because the rounding of guides depends on the batch size.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        shared = {key: value for key, value in cell.search.items() if key not in cell.method.PER_ROW}
        separate = cell.id if cell.method.guide_quantile else ""
        groups.setdefault(f"{cell.trained} {shared} {cell.instances} {separate}", []).append(cell)
    return list(groups.values())


def save_failure(cell: Cell, error: Exception) -> None:
    """Save the exception of a failed cell in the store."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, InputError):
        reason = searches.error_message(error)
    details = {"error": reason, "traceback": "".join(traceback.format_exception(error))}
    now = provenance.now()
    store.save_failure(cell.id, {**_origin(cell), "started": now, "finished": now, **details})


def _compute(batch: list[Cell], params: Params) -> None:
    started, start = provenance.now(), time.perf_counter()
    with store.running([cell.id for cell in batch]) as progress:
        results = search(batch, progress)
        seconds = time.perf_counter() - start
        source = searches.record(batch[0].search)
        for cell, result in zip(batch, results, strict=True):
            measured = measure(result, cell)
            inputs = {"identity": plan.current_inputs(cell), "device": provenance.device(), "batch": len(batch)}
            inputs |= {"params": params.model_dump(mode="json"), "search": cell.search, **source}
            times = {"started": started, "finished": provenance.now(), "seconds": seconds / len(batch)}
            record = {**_origin(cell), **inputs, **times, "summary": summary(cell, result)}
            store.save(cell.id, result, measured, record)


def _origin(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.id,
        "swept": cell.swept,
        **provenance.origin(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def search(batch: list[Cell], progress: Callable[[int, int], None]) -> list[Result]:
    """Search for the counterfactuals of a batch of cells in one call."""
    trained = batch[0].trained
    model, x_test = _model_and_test_split(trained, models.sha256(trained.model), **batch[0].trust)
    from cfx.search import find_counterfactuals

    instances = np.array(batch[0].instances)
    # instances vary slowest, so that the rows whose evolution is kept come first
    index, cell_of_row = (grid.ravel() for grid in np.mgrid[: len(instances), : len(batch)])
    methods = [searches.runnable(cell.search) for cell in batch]
    per_row: dict[str, Any] = {
        axis: tuple(getattr(methods[cell], axis) for cell in cell_of_row) for axis in methods[0].PER_ROW
    }
    method = replace(methods[0], **per_row)
    rows = instances[index]
    constraints = rules.constraints(batch[0].constraints)
    needs_train = isinstance(method, ArrayMethod) or method.guide_quantile or batch[0].constraints.get("scale") == "mad"
    found = find_counterfactuals(
        model,
        x_test[rows],
        method,
        instances=rows,
        train=_training_split(trained) if needs_train else None,
        guides=_guides(trained.guides_folder, *identity.guides(trained)) if method.guide_quantile else None,
        constraints=constraints,
        path_rows=min(PATHS, len(instances)) * len(batch),
        progress=progress,
    )
    return [found.take(np.flatnonzero(np.repeat(cell_of_row, method.count) == cell)) for cell in range(len(batch))]


def measure(result: Result, cell: Cell) -> pd.DataFrame:
    """The metrics of the counterfactuals of a cell, by the judges, and what they change in a table."""
    from cfx.classifier import Classifier

    trained = cell.trained
    model, x_test = _model_and_test_split(trained, models.sha256(trained.model), **cell.trust)
    judges = _judges(trained, *identity.judges(trained))
    instances = x_test[list(cell.rows)]
    measured = metrics.measure(result, instances, judges, Classifier(model, x_test[:1]).probabilities)
    if features := paths.features(trained):
        pairs = zip(instances, result.x, strict=True)
        measured["changes"] = [changes.text(changes.changes(features, *pair)) for pair in pairs]
    return measured


def import_artifacts(cells: Iterable[Cell]) -> None:
    """Copy missing cells from the artefacts to the store, for example after `dvc pull` or `dvc checkout`."""
    missing = [cell.id for cell in cells if not store.has(cell.id) and (paths.RESULTS / f"{cell.id}.json").exists()]
    if missing:
        rows = dict(list(pd.read_parquet(paths.TABLE).groupby("cell")))
        for cell in missing:
            result = Result.load(paths.RESULTS / f"{cell}.npz")
            measured = rows[cell].filter([*metrics.MEASURES, "changes"]).reset_index(drop=True)
            store.save(cell, result, measured, json.loads((paths.RESULTS / f"{cell}.json").read_text()))


def collect(cells: Iterable[Cell]) -> None:
    """Write the artefacts from the finished cells in the store."""
    finished = [cell for cell in cells if store.has(cell.id)]
    with replacing(paths.RESULTS) as folder:
        folder.mkdir()
        for cell in finished:
            shutil.copyfile(store.result_path(cell.id), folder / f"{cell.id}.npz")
            shutil.copyfile(store.record_path(cell.id), folder / f"{cell.id}.json")
    tables = [store.table(cell.id, cell.upstream) for cell in finished]
    table = best_known.add(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame()
    with replacing(paths.TABLE) as temporary:
        table.to_parquet(temporary, index=False)
    with replacing(paths.SWEEP_METRICS) as temporary:
        temporary.write_text(json.dumps(sweep_metrics(table), indent=2) + "\n")


def sweep_metrics(table: pd.DataFrame) -> dict[str, float]:
    """The metrics of a sweep that DVC compares: the share found, and the medians of the counterfactuals found."""
    if not len(table):
        return {"validity": 0.0}
    values = {name.rpartition("/")[2]: value for name, value in measures.values(table).items()}
    shown = ("validity", "l1", "l0", "probability", "im1", "agreement", "unchanged")
    return {name: values[name] for name in shown if name in values}


def summary(cell: Cell, result: Result) -> str:
    """The result of a cell in one line."""
    if len(result.found) != 1:
        unchanged = f", {result.unchanged.sum()} unchanged" if result.unchanged.any() else ""
        searched = ~result.unchanged
        return f"found {(result.found & searched).sum()} of {searched.sum()}{unchanged}"
    row = result.frame().iloc[0]
    original, reached = class_name(row.original_class, cell.trained), class_name(row.cf_class, cell.trained)
    return figures.caption(original, reached, row.probability, row.l1, row.found, row.unchanged)


# The models are loaded once per process, so that all cells share one compiled search; a new digest reloads them.
@lru_cache(maxsize=1)
def _model_and_test_split(trained: Trained, sha256: str, **trust: Any) -> tuple[Any, np.ndarray]:
    import_tensorflow()
    return stored.load(trained.model, **trust), data.read_npz(trained.data, ("x_test",))["x_test"]


def _training_split(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    arrays = data.read_npz(trained.data, ("x_train", "y_train"))
    return arrays["x_train"], arrays["y_train"]


@lru_cache(maxsize=1)
def _guides(folder: Path, *sha256: str) -> Guides:
    return guide_training.load(folder)


@lru_cache(maxsize=1)
def _judges(trained: Trained, *sha256: str) -> Judges:
    neighbourhoods = Neighbourhoods(*_training_split(trained))
    replicas = tuple(models.load(path) for path in sorted(trained.replicas.glob("*.keras")))
    return Judges(models.load(trained.autoencoders), models.load(trained.committee), neighbourhoods, replicas)


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
