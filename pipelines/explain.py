"""Stage `explain`: a counterfactual for every cell and instance of the sweep, measured.   python -m pipelines.explain

Computes the cells that are not in the store, one after the other, and collects them all:
artifacts/counterfactuals.parquet, one row a counterfactual, and artifacts/counterfactuals/<cell>.npz.
"""

from __future__ import annotations

import shutil
import sys
import time
import traceback
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cfx import data, figures, metrics, models
from cfx.files import replacing
from cfx.result import Result
from pipelines import artifacts, cells, params, provenance, store
from pipelines.cells import Cell
from pipelines.terminal import console, import_tensorflow, progress, user_errors

if TYPE_CHECKING:
    import keras

# How many instances of a cell keep their evolution over lambda.
PATHS = 10


def main() -> None:
    """Run the stage."""
    sweep = cells.of_sweep(params.read())
    compute([cell for cell in sweep if not store.has(cell.id)])
    collect(sweep)
    if any(not store.has(cell.id) for cell in sweep):
        raise SystemExit(1)


def compute(missing: Iterable[Cell]) -> None:
    """Compute cells and keep each as soon as it is done; one that fails is kept as a failure and the others go on."""
    for cell in missing:
        about = {"cell": cell.id, "swept": cell.swept, "versions": provenance.versions(), **provenance.process()}
        about["started"] = provenance.now()
        start = time.perf_counter()
        try:
            result = search(cell)
            measures = measure(result)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            details = {"finished": provenance.now(), "error": reason, "traceback": traceback.format_exc()}
            store.keep_failure(cell.id, about | details)
            print(f"failed: {cell.name}: {reason}", file=sys.stderr)
        else:
            seconds = time.perf_counter() - start
            store.keep(cell.id, result, measures, about | {"finished": provenance.now(), "seconds": seconds})
            console.print(f"{cell.name}: {summary(result)}, {seconds:.1f} s", markup=False)


def search(cell: Cell) -> Result:
    """The counterfactuals of one cell."""
    model, x_test = _trained(models.sha256(artifacts.MODEL))
    from cfx.search import find_counterfactuals

    instances = list(cell.instances)
    with progress(cell.name) as report:
        return find_counterfactuals(
            model, x_test[instances], cell.method, instances=instances, path_rows=PATHS, progress=report
        )


def measure(result: Result) -> pd.DataFrame:
    """What the judges say of the counterfactuals of one cell."""
    autoencoders, oracle = _judges(models.sha256(artifacts.AUTOENCODERS), models.sha256(artifacts.ORACLE))
    return metrics.measure(result, autoencoders, oracle)


def collect(sweep: Iterable[Cell]) -> None:
    """Gather the finished cells into the artefacts."""
    finished = [cell for cell in sweep if store.has(cell.id)]
    with replacing(artifacts.RESULTS) as folder:
        folder.mkdir()
        for cell in finished:
            shutil.copyfile(store.result_path(cell.id), folder / f"{cell.id}.npz")
    tables = [store.table(cell.id) for cell in finished]
    with replacing(artifacts.TABLE) as temporary:
        (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()).to_parquet(temporary, index=False)


def summary(result: Result) -> str:
    """What was found, in a few words."""
    if len(result.found) != 1:
        return f"found {int(result.found.sum())} of {len(result.found)}"
    row = result.frame().iloc[0]
    return figures.caption(row.original_class, row.cf_class, row.probability, row.l1, row.found)


@lru_cache(maxsize=1)
def _trained(sha256: str) -> tuple[keras.Model, np.ndarray]:
    """The model and the test split, loaded once a process, so that all cells share one compiled search."""
    import_tensorflow()
    return models.load(artifacts.MODEL), data.read_npz(artifacts.DATA, ("x_test",))["x_test"]


@lru_cache(maxsize=1)
def _judges(*sha256: str) -> tuple[keras.Model, keras.Model]:
    """The autoencoders and the oracle, loaded once a process."""
    return models.load(artifacts.AUTOENCODERS), models.load(artifacts.ORACLE)


if __name__ == "__main__":
    with user_errors():
        main()
