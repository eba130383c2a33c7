"""The terms that the engine and a step method share: where a search starts, and what is known where a row stands.

Every tensor has a leading row dimension; rows never mix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cfx.backend import tf

if TYPE_CHECKING:
    from cfx.problem import Problem


class Starts(NamedTuple):
    """Where k searches of a step method start: one for each instance of a `cfx.problem.Problem`, or several.

    Arrays are numpy's. The nearest counterfactual of all searches of an instance counts.
    """

    row: np.ndarray
    """(k,) int, the instance in the problem, in ascending order; each has at least one."""
    target: np.ndarray
    """(k, classes) bool, the classes that the search may end in."""
    low: np.ndarray
    """(k, ...) float32, the lowest value of each feature; broadcasts to (k, *shape)."""
    high: np.ndarray
    """(k, ...) float32, the highest value, in the same shape."""
    x: np.ndarray
    """(k, *shape) float32, a known counterfactual; the instance where none is known."""
    known: np.ndarray
    """(k,) bool, whether `x` is one: the search then returns it or a nearer one."""
    anchor: np.ndarray
    """(k,) int, the training instance that it comes from; -1 for none."""


def at_instances(problem: Problem) -> Starts:
    """One search for each instance of a problem, in the whole feature range, with nothing known."""
    n, rank = len(problem.x), problem.x.ndim - 1
    low, high = (
        np.repeat(np.float32(bound).reshape(1, *[1] * (rank - np.ndim(bound)), *np.shape(bound)), n, axis=0)
        for bound in np.broadcast_arrays(problem.low, problem.high)
    )
    return Starts(np.arange(n), problem.target, low, high, problem.x, np.zeros(n, bool), np.full(n, -1))


class Row(NamedTuple):
    """What a row asks for; it does not change during a search."""

    index: tf.Tensor
    """(n,) int32, its place among the searches."""
    x: tf.Tensor
    """(n, *shape) float32, the instance."""
    target: tf.Tensor
    """(n, classes) bool, the classes it may end in: one for a fixed target, all but the predicted one for `other`."""
    low: tf.Tensor
    """(n, ...) float32, the lowest value of each feature; broadcasts to (n, *shape)."""
    high: tf.Tensor
    """(n, ...) float32, the highest value, in the same shape."""
    lam_init: tf.Tensor
    """(n,) float32."""
    learning_rate: tf.Tensor
    """(n,) float32."""


class Scores(NamedTuple):
    """What the models give for an input."""

    logits: tf.Tensor
    """(n, classes) float32, of the classifier; their softmax are the probabilities."""
    guides: tf.Tensor
    """(n, guides, classes) float32, the logits of each guide; no guides where the method uses none."""


class Point(NamedTuple):
    """What is known at the x where a row stands, after one forward and one gradient pass."""

    x: tf.Tensor
    """(n, *shape) float32."""
    change: tf.Tensor
    """(n, *shape) float32, x less the instance."""
    scores: Scores
    gradient: tf.Tensor
    """(n, *shape) float32, of the method's `loss` by x."""
    probability: tf.Tensor
    """(n,) f_t: the largest probability among the target classes."""
    hit: tf.Tensor
    """(n,) bool: x is a counterfactual, and the guides agree."""
    l1: tf.Tensor
    """(n,) the L1 distance from the instance."""


class Best(NamedTuple):
    """The nearest counterfactual that each row has met so far, and what it took."""

    x: tf.Tensor
    """(n, *shape) the counterfactual of least L1."""
    l1: tf.Tensor
    """(n,) its distance; infinite where none was met."""
    lam: tf.Tensor
    """(n,) the weight at which it was met; NaN where none was."""
    steps: tf.Tensor
    """(n,) int32, the steps taken."""
    finite: tf.Tensor
    """(n,) bool, all that the model gave was a number."""


def along(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """One value a row (n,) as (n, 1, ..., 1), to go with arrays of the rank of `like`."""
    return tf.reshape(values, [-1] + [1] * (len(like.shape) - 1))


def target_probability(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """f_t (n,) float64: the largest probability among the target classes (n, classes).

    In float64 because 1 - f_t and its gradient matter down to where float32 has none of their digits, and because a
    float32 exponential rounds otherwise at the end of an array than within: a row would then come out otherwise by its
    place in the batch, and Adam makes much of little.
    """
    return tf.reduce_max(tf.where(target, tf.nn.softmax(tf.cast(logits, tf.float64)), 0.0), axis=1)


def margin(logits: tf.Tensor, aim: tf.Tensor) -> tf.Tensor:
    """The margin (n,) float64 of one class (n,) int32 each, of logits (n, classes).

    In float64 for the same reason as `target_probability`.
    """
    is_aim = tf.one_hot(aim, logits.shape[1], on_value=True, off_value=False)
    logits = tf.cast(logits, tf.float64)
    own = tf.reduce_sum(tf.where(is_aim, logits, 0), axis=1)
    return own - tf.reduce_logsumexp(tf.where(is_aim, np.float64(-np.inf), logits), axis=1)


def likeliest(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The likeliest of the target classes (n, classes) bool, (n,) int32."""
    return tf.argmax(tf.where(target, logits, -np.inf), axis=1, output_type=tf.int32)


def guide_slack(settings: Any, scores: Scores, aim: tf.Tensor) -> tf.Tensor:
    """How far the margin of a class (n,) int32 each is above its threshold, by each guide: (n, guides) float64."""
    guides, classes = scores.guides.shape[1:]
    margins = margin(tf.reshape(scores.guides, [-1, classes]), tf.repeat(aim, guides))
    return tf.reshape(margins, [-1, guides]) - tf.cast(tf.gather(settings.thresholds, aim), tf.float64)
