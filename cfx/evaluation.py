"""The evaluation of a step: the point, the nearest counterfactual so far, and the path.

All methods share it: one forward and one gradient pass, the check whether x is a counterfactual, the counterfactual of
least L1 so far, the number of steps, and the check for finite outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cfx.classifier import Classifier
from cfx.method import StepMethod
from cfx.point import Best, Point, Row, Scores, along, guide_slack, likeliest, target_probability

# The share of tol within which the search accepts a point, because the model may round differently in another batch.
_SURE = 0.999
# Rough logits within this many times tol are computed again exactly.
_ROUGH = 3


class Met(NamedTuple):
    """The paths of the first rows, by row and position; one more slot receives values that are not kept."""

    x: tf.Tensor
    """(rows * places + 1, *shape)."""
    lam: tf.Tensor
    """(rows * places + 1,), NaN if none was found."""


def no_path(path_rows: int, places: int, shape: tuple[int, ...]) -> Met:
    """Empty paths."""
    slots = path_rows * places + 1
    return Met(tf.zeros([slots, *shape]), tf.fill([slots], np.float32(np.nan)))


def first_best(row: Row, x: tf.Tensor, known: tf.Tensor) -> Best:
    """The initial best of rows: the counterfactuals x (n, *shape) where `known` (n,) is true."""
    count = tf.shape(row.x)[:1]
    return Best(
        x,
        tf.where(known, _l1(x - row.x), np.float32(np.inf)),
        tf.fill(count, np.float32(np.nan)),
        tf.zeros(count, tf.int32),
        tf.fill(count, True),
    )


def evaluated(
    classifier: Classifier,
    guides: Sequence[Classifier],
    method: type[StepMethod],
    settings: SimpleNamespace,
    row: Row,
    state: Any,
) -> Point:
    """Evaluate `state.x` with one forward and one gradient pass."""
    x = state.x

    # A separate function: in the loop, TensorFlow may order the gradient of a pooling layer before the layer, and then
    # oneDNN is not used, which makes the whole step take two thirds longer.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def passes(x: tf.Tensor) -> tuple[Scores, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores = Scores(classifier.logits(x), guide_logits(guides, x, classifier.classes))
            loss = method.loss(settings, row, state, scores)
        return scores, tape.gradient(loss, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    scores, gradient = passes(x)
    change = x - row.x
    return Point(x, change, scores, gradient, *_judged(settings, row, scores), _l1(change))


def guide_logits(guides: Sequence[Classifier], x: tf.Tensor, classes: int) -> tf.Tensor:
    """The logits (n, guides, classes) of each guide."""
    if not guides:
        return tf.zeros([tf.shape(x)[0], 0, classes])
    return tf.stack([guide.logits(x) for guide in guides], axis=1)


def confirmed(
    point: Point,
    classifier: Classifier,
    settings: SimpleNamespace,
    row: Row,
    done: tf.Tensor,
    best: Best,
    is_xla: bool,
) -> Point:
    """A point from rough logits, with exact ones for the rows that may be nearer than their best counterfactual."""
    is_near = tf.abs(point.probability - settings.target_proba) <= _ROUGH * settings.tol
    doubtful = ~done & is_near & (point.l1 < best.l1)

    def exact() -> tf.Tensor:
        # XLA requires a fixed number of rows
        if is_xla:
            return tf.where(doubtful[:, None], classifier.logits(point.x), point.scores.logits)
        rows = tf.where(doubtful)
        logits = classifier.logits(tf.gather(point.x, rows[:, 0]))
        return tf.tensor_scatter_nd_update(point.scores.logits, rows, logits)

    logits = tf.cond(tf.reduce_any(doubtful), exact, lambda: point.scores.logits)
    scores = point.scores._replace(logits=logits)
    probability, hit = _judged(settings, row, scores)
    return point._replace(scores=scores, probability=probability, hit=hit)


def better(best: Best, state: Any, point: Point) -> Best:
    """The best of rows, replaced by this point if it is a nearer counterfactual."""
    going = ~state.done
    nearer = going & point.hit & (point.l1 < best.l1)
    return Best(
        tf.cond(tf.reduce_any(nearer), lambda: tf.where(along(nearer, point.x), point.x, best.x), lambda: best.x),
        tf.where(nearer, point.l1, best.l1),
        tf.where(nearer, state.lam, best.lam),
        best.steps + tf.cast(going, tf.int32),
        best.finite & (~going | tf.math.is_finite(point.probability + point.l1)),
    )


def followed(met: Met, row: Row, state: Any, point: Point, path_rows: tf.Tensor, places: tf.Tensor) -> Met:
    """The paths, with this point added if it is the first counterfactual of its row at its position."""
    is_followed = point.hit & ~state.done & (state.lam_step >= 0) & (row.index < path_rows)

    def keep() -> Met:
        last = path_rows * places
        slot = tf.where(is_followed, row.index * places + state.lam_step, last)
        slot = tf.where(tf.math.is_nan(tf.gather(met.lam, slot)), slot, last)
        lam = tf.where(slot < last, state.lam, np.float32(np.nan))
        return Met(
            tf.tensor_scatter_nd_update(met.x, slot[:, None], point.x),
            tf.tensor_scatter_nd_update(met.lam, slot[:, None], lam),
        )

    return tf.cond(tf.reduce_any(is_followed), keep, lambda: met)


def _judged(settings: SimpleNamespace, row: Row, scores: Scores) -> tuple[tf.Tensor, tf.Tensor]:
    """f_t, and whether it is within the tolerance and the margin of each guide reaches its threshold."""
    probability = tf.cast(target_probability(scores.logits, row.target), tf.float32)
    hit = tf.abs(probability - settings.target_proba) <= _SURE * settings.tol
    if scores.guides.shape[1]:
        aim = likeliest(row.target, scores.logits)
        hit &= tf.reduce_all(guide_slack(settings, scores, aim) >= 0, axis=1)
    return probability, hit


def _l1(change: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.abs(change), axis=list(range(1, len(change.shape))))
