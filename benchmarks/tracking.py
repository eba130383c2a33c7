"""How long MLflow takes to get 10,000 counterfactuals, in a fresh sqlite store: `python -m benchmarks.tracking`.

The results are made up; what logs them is `pipelines.tracking.log_cell`, as in a sweep.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cfx.data import Dataset
from cfx.methods.wachter import Wachter
from cfx.result import LambdaPath, Result
from pipelines.cells import paths, store
from pipelines.cells.plan import Cell

COUNTERFACTUALS = 10_000


def main():
    print(f"logging {COUNTERFACTUALS} counterfactuals to sqlite")
    for cells in (1, 10):
        print(f"{cells:4} cells of {COUNTERFACTUALS // cells:5} instances: {measure(cells):5.1f} s")


def measure(count):
    """Log `count` cells that have the counterfactuals between them; returns the seconds that it took."""
    from pipelines.tracking import client

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            mlflow = client.connect(f"sqlite:///{folder}/mlflow.db", folder, "benchmark", "http://127.0.0.1:5000")
            parent = mlflow.client.create_run(mlflow.experiment_id).info.run_id
            sweep = make(count, COUNTERFACTUALS // count)
            start = time.perf_counter()
            for cell in sweep:
                client.log_cell(mlflow, parent, cell)
            seconds = time.perf_counter() - start
            last = mlflow.client.search_runs([mlflow.experiment_id], "tags.`cfx.kind` = 'cell'", max_results=1)[0]
            logged = mlflow.client.get_metric_history(last.info.run_id, "per_instance/l1")
            assert len(logged) == COUNTERFACTUALS // count
            return seconds
        finally:
            os.chdir(here)


def make(cells, instances):
    """Finished cells in the store of the working folder."""
    random = np.random.default_rng(0)
    x = random.uniform(-0.5, 0.5, (instances, 28, 28, 1)).astype(np.float32)
    y = np.arange(instances) % 10
    Dataset(x, y, x, y).save(paths.LATEST.data)
    made = []
    for number in range(cells):
        method = Wachter(lam_init=0.1 + number)
        swept = {"lam_init": method.lam_init}
        cell = Cell(f"{number:032}", {}, swept, method, tuple(range(instances)), paths.LATEST)
        measures = pd.DataFrame({name: random.uniform(size=instances) for name in ("im1", "im2", "agreement")})
        now = "2026-01-01T00:00:00.000+00:00"
        store.save(cell.id, result(cell, x, random), measures, {"host": "here", "started": now, "finished": now})
        made.append(cell)
    return made


def result(cell, x, random):
    n = len(x)
    numbers = ("probability", "l1", "l2", "l0", "lam", "runtime_s", "iterations")
    no_path = {key: np.zeros(0) for key in ("row", "step", "x", "lam", "probability", "cf_class", "l1")}
    return Result(
        method="wachter",
        x=-x,
        found=np.ones(n, bool),
        unchanged=np.zeros(n, bool),
        cf_class=np.zeros(n, int),
        original_class=np.ones(n, int),
        target_class=np.full(n, "other"),
        instance=np.array(cell.instances),
        lam_init=np.full(n, cell.method.lam_init),
        learning_rate=np.full(n, cell.method.learning_rate),
        path=LambdaPath(**no_path),
        **{key: random.uniform(0, 100, n) for key in numbers},
    )


if __name__ == "__main__":
    main()
