"""What a search costs as there is more to search, and how much of it is the model's own work.

Each measurement is a process of its own, so that the peak of its memory is its own. The targets are fixed classes, and
beyond the problem's instances they come again and again, so that ten times the rows is ten times the work. A search is
timed between two of 1,000 instances, and what it costs is compared with these: a machine is not as fast at all times.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.apart import apart
from benchmarks.problem import Problem, reference_cnn, use_threads

STEP_BATCH = 256
# Passes of a bare loop, about a second.
BARE = 30
REFERENCE = 1000
# What departs from the defaults, so that a search of the slower method ends within seconds.
SHARE_OF = {"PrimalDual": {}, "Wachter": {"max_iter": 30, "max_lam_steps": 3}}


def by_instances(problem: Problem, counts: list[int], threads: int) -> pd.DataFrame:
    """Seconds and peak MiB above the loaded model of `PrimalDual` in one call on so many instances."""
    return pd.DataFrame([apart(_cost, problem, rows, None, threads) for rows in counts])


def by_batch_size(problem: Problem, rows: int, batch_sizes: list[int], threads: int) -> pd.DataFrame:
    """The same against the batch size, always on the same number of instances."""
    return pd.DataFrame([apart(_cost, problem, rows, batch_size, threads) for batch_size in batch_sizes])


def share_of_model(problem: Problem, rounds: int, threads: int) -> pd.DataFrame:
    """The share of a search's time that bare loops take for as many passes of the model, in batches of 256.

    The passes are one forward and gradient pass a step, and two forward passes a row: before the first step, and after
    the last one on what was found.

    Each round is a new process, and the medians over the rounds count, that of the share being of the shares: a machine
    is not as fast at all times. There are twice as many instances as places: where rows end early, others follow.
    """
    table = []
    for name in SHARE_OF:
        bare, step = np.transpose([apart(_bare_and_step, problem, name, threads) for _ in range(rounds)])
        row = {
            "method": name,
            "batch_size": STEP_BATCH,
            "bare_ms": 1e3 * np.median(bare),
            "step_ms": 1e3 * np.median(step),
        }
        table.append(row | {"share": np.median(bare / step)})
    return pd.DataFrame(table)


def _cost(problem: Problem, rows: int, batch_size: int | None, threads: int) -> dict:
    import cfx

    use_threads(threads)
    model = reference_cnn(problem.weights)
    model(problem.x[:1], training=False)
    loaded = _memory_mib("VmRSS")
    problem = problem.repeated(rows)

    def search(rows):
        start = time.perf_counter()
        method = cfx.PrimalDual(target_class=problem.targets("fixed")[:rows])
        cfx.find_counterfactuals(model, problem.x[:rows], method, batch_size=batch_size)
        return time.perf_counter() - start

    search(min(rows, 100))
    if rows >= REFERENCE:
        before, seconds, after = search(REFERENCE), search(rows), search(REFERENCE)
    else:
        seconds, before, after = search(rows), np.nan, np.nan
    return {
        "instances": rows,
        "batch_size": batch_size or "default",
        "seconds": seconds,
        "ms": 1e3 * seconds / rows,
        "times_of_1000": 2 * seconds / (before + after),
        "peak_mib": _memory_mib("VmHWM") - loaded,
    }


def _memory_mib(what: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process. Not ru_maxrss: a new process inherits that of its parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"memory is read from /proc/self/status, which has no {what} here: run this on Linux")


def _bare_and_step(problem: Problem, name: str, threads: int) -> tuple[float, float]:
    """Seconds that bare loops take for the passes of a step of the search, and that the step takes."""
    import cfx

    use_threads(threads)
    model = reference_cnn(problem.weights)
    passes, once = _bare_loop(model, problem.repeated(STEP_BATCH)), problem.x[:STEP_BATCH]
    problem = problem.repeated(2 * STEP_BATCH)
    method = getattr(cfx, name)(target_class=problem.targets("fixed"), **SHARE_OF[name])
    bare, forward, searched = [], [], []
    # the first of each is not counted
    for _ in range(3):
        bare.append(_seconds(lambda: passes(BARE)) / BARE)
        forward.append(_seconds(lambda: [model(once, training=False) for _ in range(BARE)]) / BARE)
        start = time.perf_counter()
        result = cfx.find_counterfactuals(model, problem.x, method, batch_size=STEP_BATCH)
        searched.append(time.perf_counter() - start)
    steps = result.iterations.sum() / STEP_BATCH
    forward_passes = 2 * len(problem.x) / STEP_BATCH
    return min(bare[1:]) + min(forward[1:]) * forward_passes / steps, min(searched[1:]) / steps


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _bare_loop(model, problem: Problem):
    """A function of n: n forward and gradient passes of the batch, each where the one before it led."""
    import tensorflow as tf

    columns = tf.one_hot(problem.fixed, 10)

    # a function of its own, for the reason given in cfx.evaluation: without it some loops take two thirds longer
    @tf.function(experimental_attributes={"_noinline": True})
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(columns * model(x, training=False))
        return tape.gradient(score, x)

    @tf.function
    def passes(n):
        x = tf.constant(problem.x)
        for _ in tf.range(n):
            x -= 1e-6 * gradient(x)
        return x

    return lambda n: passes(tf.constant(n)).numpy()
