"""Ours and DiCE in one run: several diverse counterfactuals of each row of two tables, by the same MLP.

    python -m benchmarks.dice                    30 rows of each table, with the environment of `make peers`
    python -m benchmarks.dice --instances 2      a look

Both are asked for valid counterfactuals: the model gives the other class a probability of at least 0.5. A second
share is of those with 0.99. A distance is the sum of |change| / MAD over the numbers, plus 1 for each category that
changes. The table goes to artifacts/bench/dice/.
"""

import argparse
import os
import subprocess
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import machine, report, tables

HERE = Path(__file__).parent
ENVIRONMENT = Path(".venv-peers/torch")
LOCK = HERE.parent / "peers/torch.lock"
METHODS = ("gradient", "genetic")
# A number that moves by less, in units of its range, has not changed; DiCE rounds to the precision of the table.
CHANGED = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=30)
    parser.add_argument("--count", type=int, default=5, help="counterfactuals an instance")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=Path("artifacts/bench/dice"))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    subprocess.run(["make", f"{ENVIRONMENT}/.complete"], cwd=HERE.parent, check=True)
    rows = []
    for table in (tables.real(), tables.mixed()):
        rows += compare(table, arguments.instances, arguments.count, arguments.threads, arguments.output / table.name)
    described = machine.describe(("dice-ml", "torch", "numpy"), LOCK)
    report.write({"dice": pd.DataFrame(rows)}, arguments.output, described)


def compare(table: tables.Table, instances: int, count: int, threads: int, folder: Path) -> list[dict]:
    """A row for each method: means over the instances, and over their valid counterfactuals."""
    folder.mkdir(parents=True, exist_ok=True)
    model, chosen = tables.classifier(table), table.test[:instances]
    x = table.encode(chosen)
    found = {f"DiCE {name}": dice(table, model, chosen, name, count, threads, folder) for name in METHODS}
    found["PrimalDual"] = ours(table, model, x, count)
    measured = {name: measure(table, model, x, count, *results) for name, results in found.items()}
    fastest = measured["PrimalDual"]["seconds"]
    return [
        {"table": table.name, "method": name, **values, "times_ours": values["seconds"] / fastest}
        for name, values in measured.items()
    ]


def dice(
    table: tables.Table, model, chosen: pd.DataFrame, method: str, count: int, threads: int, folder: Path
) -> tuple[list[np.ndarray], float]:
    """DiCE's counterfactuals of each instance, (up to count, features) each, and the seconds an instance."""
    table.train.assign(label=table.labels).to_csv(folder / "train.csv", index=False)
    chosen.to_csv(folder / "instances.csv", index=False)
    np.savez(folder / "weights.npz", *model.get_weights())
    python = HERE.parent / ENVIRONMENT / "bin/python"
    command = [python, HERE / "dice_peer.py", folder, method, "--count", str(count), "--threads", str(threads)]
    with (folder / f"{method}.log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)
    found = pd.read_csv(folder / f"{method}.csv")
    seconds = found.groupby("instance")["seconds"].first()
    found = found.dropna(subset=table.numbers)
    return [table.encode(found[found["instance"] == row]) for row in range(len(chosen))], seconds.mean()


def ours(table: tables.Table, model, x: np.ndarray, count: int) -> tuple[list[np.ndarray], float]:
    """The same of `PrimalDual`; the first search, which is not in the seconds, builds the graph."""
    from cfx import Constraints, PrimalDual, find_counterfactuals

    method = PrimalDual(tol=0.5, count=count)
    train = table.encode(table.train), table.labels
    rules = Constraints(steps=table.steps, groups=table.groups, scale="mad")
    for _ in range(2):
        start = time.perf_counter()
        result = find_counterfactuals(model, x, method, train=train, constraints=rules)
        seconds = time.perf_counter() - start
    found = [result.x[(result.instance == row) & result.found] for row in range(len(x))]
    return found, seconds / len(x)


def measure(
    table: tables.Table, model, x: np.ndarray, count: int, found: list[np.ndarray], seconds: float
) -> dict[str, float]:
    """Means over the instances: shares of the counterfactuals asked for, and of the valid ones all else."""
    before = model.predict(x, verbose=0).argmax(axis=1)
    rows = []
    for instance, own, near in zip(x, before, found, strict=True):
        probability = model.predict(near, verbose=0)[:, 1 - own] if len(near) else np.zeros(0)
        valid = near[probability >= 0.5]
        distances = np.array([difference(table, instance, one) for one in valid]).reshape(-1, 2)
        between = np.array([difference(table, *pair) for pair in combinations(valid, 2)]).reshape(-1, 2)
        rows.append(
            {
                "valid": len(valid) / count,
                "at_0.99": np.sum(probability >= 0.99) / count,
                "nearest": distances[:, 0].min() if len(valid) else np.nan,
                **dict(zip(("distance", "changed"), mean(distances), strict=True)),
                **dict(zip(("diversity", "differing"), mean(between), strict=True)),
            }
        )
    return {**pd.DataFrame(rows).mean().to_dict(), "seconds": seconds}


def mean(pairs: np.ndarray) -> np.ndarray:
    return pairs.mean(axis=0) if len(pairs) else np.full(2, np.nan)


def difference(table: tables.Table, one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """The distance between two encoded rows, and the number of features that differ."""
    change = np.abs(one - other)
    numbers, categories = change[: len(table.numbers)], [change[group].max() > 0.5 for group in table.groups]
    return (numbers / table.mad).sum() + sum(categories), (numbers > CHANGED).sum() + sum(categories)


if __name__ == "__main__":
    main()
