"""The search with a step method, in batches of rows.

Each row has its own target classes, weights and step counter. Waiting rows replace rows that have ended. The steps are
in `cfx.program`.
"""

import time
from collections.abc import Callable
from typing import cast

import numpy as np
import tensorflow as tf

from cfx.classifier import Classifier
from cfx.errors import InputError
from cfx.evaluation import Met, no_path
from cfx.method import StepMethod
from cfx.point import Best, Row, Starts
from cfx.problem import Problem
from cfx.program import Batch, Program, settings_of
from cfx.result import LambdaPath, Outcome, distances, no_anchors
from cfx.rows import Rows


def search(build: Callable[..., Program], asked: Rows, problem: Problem, wanted: np.ndarray) -> Outcome:
    """Search for the rows with the indices `wanted` (k,), which are the instances of the problem.

    build: returns the program for (settings, starts). Raises InputError if the model returns a number that is not
    finite, or has no gradient.
    """
    method = cast(StepMethod, asked.method)
    thresholds = np.zeros((problem.target.shape[1], 0), np.float32)
    if problem.guides is not None:
        thresholds = problem.guides.thresholds(method.guide_quantile)
    starts = method.starts(problem)
    place = wanted[starts.row]
    built = time.perf_counter()
    settings = settings_of(method, thresholds)
    compiled = build(settings, starts)
    built = time.perf_counter() - built
    row = Row(
        index=np.arange(len(place), dtype=np.int32),
        x=asked.x[place],
        target=starts.target,
        low=starts.low,
        high=starts.high,
        lam_init=asked.of("lam_init").astype(np.float32)[place],
        learning_rate=asked.of("learning_rate").astype(np.float32)[place],
    )
    followed = int((place < asked.path_rows).sum())
    best, met, runtime_s = _stepped(compiled, settings, asked, row, starts, followed, place)
    if len(wanted) and not np.any(np.isfinite(best.l1)):
        _check_gradient(compiled.classifier, asked.x[wanted], asked.batch_size)
    chosen = _nearest_of(best.l1, starts.row)
    path = _path(compiled.classifier, met, asked, chosen, place)
    return _outcome(asked, wanted, starts, best, runtime_s, chosen, path, built)


def _nearest_of(l1: np.ndarray, row: np.ndarray) -> np.ndarray:
    """For each instance, its first search of least L1; `row` (k,) is ascending."""
    order = np.lexsort((l1, row))
    return order[np.unique(row[order], return_index=True)[1]]


def _outcome(
    asked: Rows,
    wanted: np.ndarray,
    starts: Starts,
    best: Best,
    runtime_s: np.ndarray,
    chosen: np.ndarray,
    path: LambdaPath,
    built_s: float,
) -> Outcome:
    """The nearest counterfactual of all searches of each row, with their total steps and time."""
    n = len(asked.x)
    x, lam, anchor = asked.x.copy(), np.full(n, np.nan, np.float32), no_anchors(n)
    x[wanted], lam[wanted], anchor[wanted] = best.x[chosen], best.lam[chosen], starts.anchor[chosen]
    steps, seconds = np.zeros(n, np.int32), np.zeros(n)
    np.add.at(steps, wanted[starts.row], best.steps)
    np.add.at(seconds, wanted[starts.row], runtime_s)
    return Outcome(x, lam, steps, seconds, path, anchor, built_s)


def _stepped(
    compiled: Program,
    settings: dict[str, tf.Tensor],
    asked: Rows,
    row: Row,
    starts: Starts,
    followed: int,
    place: np.ndarray,
) -> tuple[Best, Met, np.ndarray]:
    """The result of every search, the paths, and the share of each search in the time of its batches."""
    n = len(row.x)
    nan = np.full(n, np.nan, np.float32)
    best = Best(row.x.copy(), nan, nan.copy(), np.zeros(n, np.int32), np.ones(n, bool))
    met = no_path(followed, _places(asked), row.x.shape[1:])
    runtime_s = np.zeros(n)
    done_before, waiting = len(asked.x) - len(np.unique(place)), np.arange(n)
    slots, going = waiting[:0], np.zeros(0, bool)
    batch = _begun(compiled, settings, row, starts, slots)
    while going.any() or len(waiting):
        began = time.perf_counter()
        keep = np.flatnonzero(going)
        fresh, waiting = np.split(waiting, [asked.batch_size - len(keep)])
        if compiled.is_xla and not len(fresh):
            keep = _padded(going)
        batch = compiled.join(batch, keep, _begun(compiled, settings, row, starts, fresh))
        slots = np.concatenate([slots[keep], fresh])
        going = np.ones(len(slots), bool)
        # A new batch starts after a few rows have ended, or half of them if each size must be compiled.
        enough = len(slots) // 2 if compiled.is_xla and not len(waiting) else len(slots) - max(1, len(slots) // 32)
        while going.sum() > enough:
            before = batch.best.steps.numpy()[: len(slots)]
            batch, met = compiled.run(settings, batch, met, followed, enough)
            going = ~batch.state.done.numpy()[: len(slots)]
            steps = batch.best.steps.numpy()[: len(slots)] - before
            began, took = time.perf_counter(), time.perf_counter() - began
            runtime_s[slots] += took * steps / steps.sum()
            _check_finite(batch, place[slots])
            left = (len(waiting) + int(going.sum())) / n
            asked.progress(len(asked.x) - int(np.ceil(left * (len(asked.x) - done_before))), len(asked.x))
        ended = np.flatnonzero(~going)
        for values, ending in zip(best, batch.best, strict=True):
            values[slots[ended]] = tf.gather(ending, ended)
    return best, met, runtime_s


def _check_finite(batch: Batch, place: np.ndarray) -> None:
    if not np.all(finite := batch.best.finite.numpy()[: len(place)]):
        which = place[np.argmin(finite)]
        raise InputError(f"the model returned a number that is not finite during the search from row {which} of x")


def _check_gradient(classifier: Classifier, x: np.ndarray, batch_size: int) -> None:
    """Raise InputError if the gradient of the model is 0 for all of these instances (n, *shape)."""
    # random weights, so that gradients do not cancel
    weights = np.random.default_rng(0).uniform(1, 2, classifier.classes).astype(np.float32)
    for at in range(0, len(x), batch_size):
        part = x[at : at + batch_size]
        if np.any(classifier.logits_and_gradient(part, np.tile(weights, (len(part), 1)), batch_size)[1]):
            return
    raise InputError(
        "the model's gradient is zero at every instance: a step method cannot search; use growing_spheres or "
        "nearest_neighbour"
    )


def _places(asked: Rows) -> int:
    method = cast(StepMethod, asked.method)
    return int(method.path_length(method))


def _path(classifier: Classifier, met: Met, asked: Rows, chosen: np.ndarray, place: np.ndarray) -> LambdaPath:
    """The paths of the searches `chosen` (k,)."""
    kept = np.flatnonzero(~np.isnan(met.lam))
    kept = kept[np.isin(kept // _places(asked), chosen)]
    search, step = np.divmod(kept, _places(asked))
    points, row = tf.gather(met.x, kept).numpy(), place[search]
    probabilities = classifier.batched_probabilities(points, asked.batch_size)
    cf_class = probabilities.argmax(axis=1)
    probability = probabilities[np.arange(len(kept)), cf_class]
    l1 = distances(points, asked.x[row])[0]
    return LambdaPath(row, step, points, met.lam.numpy()[kept], probability, cf_class, l1)


def _padded(going: np.ndarray) -> np.ndarray:
    """The active slots, padded with ended ones to a power of two."""
    size = 2 ** int(np.ceil(np.log2(going.sum())))
    return np.argsort(~going, kind="stable")[:size]


def _begun(compiled: Program, settings: dict[str, tf.Tensor], row: Row, starts: Starts, which: np.ndarray) -> Batch:
    rows = Row(*(tf.constant(values[which]) for values in row))
    return compiled.begin(settings, rows, tf.constant(starts.x[which]), tf.constant(starts.known[which]))
