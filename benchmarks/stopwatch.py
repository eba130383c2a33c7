"""The driver with a stopwatch on its parts: `python -m benchmarks.stopwatch FILE [what the driver takes]`.

Writes to FILE, as JSON, what each part took: the seconds, those of them on the CPU, and the CPU seconds of the
processes that it started and waited for. A part's time is its own: what a part inside of it takes is not in it.
"""

import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines import dvc, run
from pipelines.cells import identity, plan, store
from pipelines.config import schema
from pipelines.launching import fan_out, job
from pipelines.stages import explain
from pipelines.tracking import client

PARTS = {
    "the search": [(explain, "search")],
    "judges": [(explain, "measure")],
    "store": [(store, "save")],
    "planning": [(schema, "read"), (plan, "make_cells"), (identity, "inputs")],
    "MLflow": [(client, name) for name in ("connect", "parent_run", "log_cell", "sync_cells", "run_links")]
    + [(client, "log_results"), (client, "end_run")],
    "a job, the rest": [(job, "run")],
    "Hydra": [(fan_out, "fan_out")],
}
spent: dict[str, np.ndarray] = {}
_inside = [np.zeros(3)]


def main() -> int:
    file, *sys.argv[1:] = sys.argv[1:]
    for part, functions in PARTS.items():
        for module, name in functions:
            setattr(module, name, timed(part, getattr(module, name)))
    reproduce = dvc.reproduce
    dvc.reproduce = lambda *stages, **how: timed(f"DVC, {stages[0]}", reproduce)(*stages, **how)
    code = timed("the rest", run.main)()
    Path(file).write_text(json.dumps({part: taken.tolist() for part, taken in spent.items()}))
    return code


def timed(part: str, function: Callable) -> Callable:
    """The function, with the time of each call counted for a part."""

    @functools.wraps(function)
    def watched(*arguments, **named):
        before = _now()
        _inside.append(np.zeros(3))
        try:
            return function(*arguments, **named)
        finally:
            took = _now() - before
            spent[part] = spent.get(part, np.zeros(3)) + took - _inside.pop()
            _inside[-1] += took

    return watched


def _now() -> np.ndarray:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time(), children.ru_utime + children.ru_stime])


if __name__ == "__main__":
    sys.exit(main())
