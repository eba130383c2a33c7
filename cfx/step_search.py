"""The search by a step method: rows pass through batches that step together.

Each row has its own target, weights, step counter and end; rows that have ended leave, and waiting rows take their
places. The steps themselves are in `cfx.program`.
"""

import time
from typing import cast

import numpy as np
import tensorflow as tf

from cfx.classifier import Classifier
from cfx.errors import InputError
from cfx.evaluation import Met, no_path
from cfx.method import StepMethod
from cfx.point import Best, Row
from cfx.program import Batch, Program, settings_of
from cfx.result import LambdaPath, Outcome, distances
from cfx.rows import Rows


def search(
    compiled: Program, asked: Rows, original_class: np.ndarray, target: np.ndarray, wanted: np.ndarray
) -> Outcome:
    """Search for the wanted rows (k,), given by their places. original_class (n,), target (n, classes) bool.

    Raises InputError where the model gives a number that is not finite, or has no gradient anywhere.
    """
    row = Row(
        index=np.arange(len(asked.x), dtype=np.int32),
        x=asked.x,
        target=target,
        lam_init=asked.of("lam_init").astype(np.float32),
        learning_rate=asked.of("learning_rate").astype(np.float32),
    )
    best, met, runtime_s = _stepped(compiled, asked, row, wanted)
    if len(wanted) and not np.any(np.isfinite(best.l1[wanted])):
        _check_gradient(compiled.classifier, asked.x[wanted], asked.batch_size)
    return Outcome(best.x, best.lam, best.steps, runtime_s, _path(compiled.classifier, met, asked))


def _stepped(compiled: Program, asked: Rows, row: Row, waiting: np.ndarray) -> tuple[Best, Met, np.ndarray]:
    """What has come of every row, the path, and each row's share in the time of the batches that it was in."""
    n = len(asked.x)
    nan = np.full(n, np.nan, np.float32)
    best = Best(row.x.copy(), nan, nan.copy(), np.zeros(n, np.int32), np.ones(n, bool))
    met = no_path(asked.path_rows, _places(asked), row.x.shape[1:])
    runtime_s = np.zeros(n)
    settings = settings_of(cast(StepMethod, asked.method))
    slots, going = waiting[:0], np.zeros(0, bool)
    batch = compiled.begin(settings, _rows(row, slots))
    while going.any() or len(waiting):
        began = time.perf_counter()
        keep = np.flatnonzero(going)
        fresh, waiting = np.split(waiting, [asked.batch_size - len(keep)])
        if compiled.is_xla and not len(fresh):
            keep = _padded(going)
        batch = compiled.join(batch, keep, compiled.begin(settings, _rows(row, fresh)))
        slots = np.concatenate([slots[keep], fresh])
        going = np.ones(len(slots), bool)
        # A few places empty are worth a new batch, or half of them where its size has to be compiled.
        enough = len(slots) // 2 if compiled.is_xla and not len(waiting) else len(slots) - max(1, len(slots) // 32)
        while going.sum() > enough:
            before = batch.best.steps.numpy()[: len(slots)]
            batch, met = compiled.run(settings, batch, met, asked.path_rows, enough)
            going = ~batch.state.done.numpy()[: len(slots)]
            steps = batch.best.steps.numpy()[: len(slots)] - before
            began, took = time.perf_counter(), time.perf_counter() - began
            runtime_s[slots] += took * steps / steps.sum()
            _check_finite(batch, slots)
            asked.progress(n - len(waiting) - int(going.sum()), n)
        ended = np.flatnonzero(~going)
        for values, ending in zip(best, batch.best, strict=True):
            values[slots[ended]] = tf.gather(ending, ended)
    return best, met, runtime_s


def _check_finite(batch: Batch, slots: np.ndarray) -> None:
    if not np.all(finite := batch.best.finite.numpy()[: len(slots)]):
        which = slots[np.argmin(finite)]
        raise InputError(f"the model gives a number that is not finite on the way from row {which} of x")


def _check_gradient(classifier: Classifier, x: np.ndarray, batch_size: int) -> None:
    """Raise InputError where steps lead nowhere, for the model is flat around all of these instances (n, *shape)."""
    # no sum of these times the slopes of logits is 0 by chance
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


def _path(classifier: Classifier, met: Met, asked: Rows) -> LambdaPath:
    kept = np.flatnonzero(~np.isnan(met.lam))
    points, row = tf.gather(met.x, kept).numpy(), kept // _places(asked)
    probabilities = classifier.batched_probabilities(points, asked.batch_size)
    cf_class = probabilities.argmax(axis=1)
    probability = probabilities[np.arange(len(kept)), cf_class]
    l1 = distances(points, asked.x[row])[0]
    return LambdaPath(row, points, met.lam.numpy()[kept], probability, cf_class, l1)


def _padded(going: np.ndarray) -> np.ndarray:
    """The slots that go on, and as many that have ended as make their number a power of two."""
    size = 2 ** int(np.ceil(np.log2(going.sum())))
    return np.argsort(~going, kind="stable")[:size]


def _rows(row: Row, which: np.ndarray) -> Row:
    return Row(*(tf.constant(values[which]) for values in row))
