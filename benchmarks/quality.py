"""How near and how fast: both systems on the same weights, the same instances and the same cores, in one run.

The run goes in rounds. In each, the peer takes its share of the instances, and each of our settings takes all of them,
so that what else the machine does falls on both. Ours are timed by the clock on the wall around the whole call, and the
median of the rounds counts; the peer times each instance, and the mean counts. Neither is charged for its first calls.
The peer takes one instance at a time, on the same cores but by one thread: with two it is slower.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.problem import Problem, reference_cnn, use_threads
from benchmarks.rival import peer

TASKS = ("fixed", "other")
PEER = "alibi Counterfactual"
# Method and what departs from its defaults; those of Wachter are the settings that the peer runs with.
SETTINGS = {
    "Wachter": ("Wachter", {}),
    "PrimalDual, fast": ("PrimalDual", {"max_iter": 20}),
    "PrimalDual": ("PrimalDual", {}),
    "PrimalDual, thorough": ("PrimalDual", {"max_iter": 400}),
    "PrimalDual in bfloat16, fast": ("PrimalDual", {"max_iter": 20, "precision": "bfloat16"}),
    "PrimalDual in bfloat16": ("PrimalDual", {"precision": "bfloat16"}),
    "PrimalDual in bfloat16, thorough": ("PrimalDual", {"max_iter": 400, "precision": "bfloat16"}),
}


def compare(problem: Problem, peer_rows: int, rounds: int, threads: int, folder: Path) -> pd.DataFrame:
    """One row for the peer and for each of our settings in a batch of `peer_rows` and in one of the whole problem.

    The peer runs on the first `peer_rows` instances; L1 and L0 are compared on these. `folder` gets the peer's files.
    """
    import cfx

    use_threads(threads)
    model = reference_cnn(problem.weights)
    searches = {
        (task, setting, rows): (getattr(cfx, name)(target_class=problem.targets(task)[:rows], **changes), rows)
        for task in TASKS
        for setting, (name, changes) in SETTINGS.items()
        for rows in (peer_rows, len(problem.x))
    }

    def search(method, rows):
        start = time.perf_counter()
        result = cfx.find_counterfactuals(model, problem.x[:rows], method, batch_size=rows)
        return result, time.perf_counter() - start

    for method, rows in searches.values():
        search(replace(method, max_iter=20), rows)
    theirs = {task: [None] * peer_rows for task in TASKS}
    results, seconds = {}, {case: [] for case in searches}
    with peer(problem.repeated(peer_rows), TASKS, 1, folder) as explain:
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", flush=True)
            for task in TASKS:
                for row in range(turn, peer_rows, rounds):
                    theirs[task][row] = explain(task, row)
            for case, (method, rows) in searches.items():
                results[case], taken = search(method, rows)
                seconds[case].append(taken)

    peers = {task: pd.DataFrame(rows) for task, rows in theirs.items()}
    table = [_peer_row(task, rows) for task, rows in peers.items()]
    for (task, setting, rows), result in results.items():
        table.append(_row(task, setting, result.frame(), np.median(seconds[task, setting, rows]), peers[task]))
    return pd.DataFrame(table).sort_values("task", kind="stable", ignore_index=True)


def _peer_row(task: str, theirs: pd.DataFrame) -> dict:
    return {
        "task": task,
        "setting": PEER,
        "batch": 1,
        "found": theirs.found.mean(),
        "missed": 0,
        "l1_share": 1.0,
        "median_l1_ratio": 1.0,
        "median_l0": theirs.l0[theirs.found].median(),
        "ms": 1e3 * theirs.seconds.mean(),
        "throughput_ratio": 1.0,
    }


def _row(task: str, setting: str, ours: pd.DataFrame, seconds: float, theirs: pd.DataFrame) -> dict:
    """`found` is of the whole batch; `missed` counts what the peer found and we did not; the rest of L1 is on both."""
    same = ours.iloc[: len(theirs)]
    both = theirs.found & same.found
    return {
        "task": task,
        "setting": setting,
        "batch": len(ours),
        "found": ours.found.mean(),
        "missed": int((theirs.found & ~same.found).sum()),
        "l1_share": same.l1[both].sum() / theirs.l1[both].sum(),
        "median_l1_ratio": (same.l1[both] / theirs.l1[both]).median(),
        "median_l0": same.l0[both].median(),
        "ms": 1e3 * seconds / len(ours),
        "throughput_ratio": theirs.seconds.mean() / (seconds / len(ours)),
    }


def plot(table: pd.DataFrame, path: Path) -> None:
    """Share of the peer's total L1 against milliseconds a counterfactual, one panel a task: down and left is better."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(TASKS), figsize=(10, 4), sharey=True, layout="constrained")
    for panel, task in zip(panels, TASKS, strict=True):
        rows = table[table.task == task]
        for (method, batch), group in rows.groupby([rows.setting.str.split(",").str[0], "batch"], sort=False):
            group = group.sort_values("ms")
            panel.plot(group.ms, group.l1_share, "o-", label=method if batch == 1 else f"{method}, {batch} at once")
        panel.set(title=f"target: {task}", xlabel="milliseconds a counterfactual", xscale="log")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("total L1, as a share of alibi's")
    panels[-1].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
