"""What packing gains: the same sweep, by the real command, with more and more cells in a job.

    python -m benchmarks.packing                                  under Hydra's basic launcher
    python -m benchmarks.packing --launcher joblib --rounds 3

Works in a temporary clone of the last commit. The data, the model and TensorFlow's files are warm.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks import machine

ROOT = Path(__file__).parents[1]
SWEEP = ["+sweep=grid", "search.target_class=0,1,2,3,4,5", "search.lam_init=0.1,0.01", "search.learning_rate=0.1,0.03"]
PACKS = (1, 4, 12, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launcher", default="basic")
    parser.add_argument("--search", default="wachter")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    chosen = [*SWEEP, f"search={arguments.search}", f"hydra/launcher={arguments.launcher}"]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        _run(clone, "search=primal_dual")
        seconds = {pack: [] for pack in PACKS}
        for _ in range(arguments.rounds):
            for pack in PACKS:
                for place in ("cells", "artifacts/counterfactuals"):
                    shutil.rmtree(clone / place)
                seconds[pack].append(_run(clone, *chosen, f"launch.cells_per_job={pack}"))
    table = pd.DataFrame(seconds).median().rename("seconds").rename_axis("cells_per_job").reset_index()
    table["speedup"] = table["seconds"][0] / table["seconds"]
    print(machine.describe(), f"24 cells of one instance: {shlex.join(chosen)}", table.to_string(index=False), sep="\n")


def _run(clone: Path, *overrides: str) -> float:
    """Seconds of one run of the driver, start to end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pipelines.run", *overrides]
    subprocess.run(command, cwd=clone, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
