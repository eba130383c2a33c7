"""What a cell costs beyond its search: Hydra, DVC, MLflow and the store, in one process, by the real command.

    python -m benchmarks.orchestration

A sweep over 132 cells and one over 12 along the same axes, in a temporary clone of the last commit: what both pay once
(the start, the imports, TensorFlow's graph, the charts of a report) is in both, so their difference, a cell, is what is
asked for. It is shown by its parts, as `benchmarks.stopwatch` takes their times: by the clock, which counts whatever
else the machine does, on the CPU of the driver, and on the CPU of the stages that DVC runs. Then the larger sweep again
under every launcher, when all of its cells are hits.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks import machine

ROOT = Path(__file__).parents[1]
SMALL = ["search=primal_dual", "search.max_iter=20"]
GRID = ["+sweep=grid", *SMALL]
FEW = [*GRID, "search.target_class=1,other", "search.lam_init=0.2,0.02", "search.learning_rate=0.3,0.1,0.03"]
CELLS = 132 - 12
# What computes or draws; all else is orchestration.
SCIENCE = ["the search", "judges", "DVC, report"]
LAUNCHERS = ("basic", "joblib", "ray", "slurm")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        _driver(clone, *SMALL)
        few, many = (_watched(clone, *sweep) for sweep in (FEW, GRID))
        hits = {launcher: _hits(clone, launcher) for launcher in LAUNCHERS}
    print(machine.describe())
    print(f"milliseconds a cell, of {CELLS} cells:")
    table = (1e3 * (many - few) / CELLS).sort_values("clock", ascending=False)
    print(table.to_string(float_format="%.1f"))
    for what, parts in (("beyond its search", table.drop("the search")), ("orchestration", table.drop(SCIENCE))):
        total = parts.sum()
        cpu = total["CPU"] + total["stages"]
        print(f"{what}, a cell costs {total['clock']:.0f} ms, {cpu:.0f} ms of it on the CPU")
    for launcher, told in hits.items():
        print(f"132 cells that are all hits, {launcher}: {told}")


def _watched(clone: Path, *overrides: str) -> pd.DataFrame:
    """Seconds of each part of a run: by the clock, on the CPU, and on the CPU in the stages that DVC runs."""
    file = clone / "stopwatch.json"
    _call(clone, "benchmarks.stopwatch", str(file), *overrides)
    return pd.DataFrame.from_dict(json.loads(file.read_text()), "index", columns=["clock", "CPU", "stages"])


def _hits(clone: Path, launcher: str) -> str:
    """Seconds of a run that has nothing to compute, or why there is none."""
    start = time.perf_counter()
    done = _driver(clone, *GRID, f"hydra/launcher={launcher}", check=False)
    if done.returncode:
        return done.stderr.strip()
    assert "132 cells, 0 to compute" in done.stdout
    return f"{time.perf_counter() - start:.1f} s"


def _driver(clone: Path, *overrides: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _call(clone, "pipelines.run", *overrides, check=check)


def _call(clone: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", *command], cwd=clone, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


if __name__ == "__main__":
    main()
