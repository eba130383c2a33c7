"""What a cell costs beyond its search: Hydra, DVC, MLflow and the store, in one process, by the real command.

    python -m benchmarks.orchestration

A sweep over 132 cells, a job each, and one over 12, in a temporary clone of the last commit: what both pay once (the
start, the imports, TensorFlow's graph, the report) is in both, so their difference less the time of their searches, a
cell, is what is asked for. Then the larger one again, when all of its cells are hits.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine

ROOT = Path(__file__).parents[1]
SMALL = ["search=primal_dual", "search.max_iter=20", "hydra/launcher=basic"]
GRID = ["+sweep=grid", *SMALL]
FEW = [*GRID, "search.target_class=1", "search.lam_init=0.2,0.02,0.002"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        _run(clone, *SMALL)
        few, many = (_beyond_search(clone, *sweep) for sweep in (FEW, GRID))
        hits = _run(clone, *GRID)
    print(machine.describe())
    print(f"beyond its search, a cell costs {1e3 * (many - few) / (132 - 12):.0f} ms")
    print(f"132 cells that are all hits: {hits:.1f} s")


def _beyond_search(clone: Path, *overrides: str) -> float:
    """Seconds of a run, less those of the searches in it."""
    before = {path.parent.name for path in clone.glob("cells/*/record.json")}
    seconds = _run(clone, *overrides)
    records = [json.loads(path.read_text()) for path in clone.glob("cells/*/record.json")]
    return seconds - sum(record["seconds"] for record in records if record["cell"] not in before)


def _run(clone: Path, *overrides: str) -> float:
    """Seconds of one run of the driver, start to end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pipelines.run", *overrides]
    subprocess.run(command, cwd=clone, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
