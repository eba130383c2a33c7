"""The data structures that the engine and a step method share. Every tensor has a leading row dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cfx.backend import tf

if TYPE_CHECKING:
    from cfx.problem import Problem


class Starts(NamedTuple):
    """The starts of k searches of a step method, one or several for each instance of a `cfx.problem.Problem`.

    The arrays are numpy arrays. The result of an instance is the nearest counterfactual of all its searches.
    """

    row: np.ndarray
    """(k,) int, the index of the instance in the problem, ascending; each instance has at least one search."""
    target: np.ndarray
    """(k, classes) bool, the classes that the search may end in."""
    low: np.ndarray
    """(k, ...) float32, the minimum of each feature; broadcasts to (k, *shape)."""
    high: np.ndarray
    """(k, ...) float32, the maximum of each feature, in the same shape."""
    x: np.ndarray
    """(k, *shape) float32, a known counterfactual, or the instance if none is known."""
    known: np.ndarray
    """(k,) bool, whether `x` is a counterfactual; the search returns it or a nearer one."""
    anchor: np.ndarray
    """(k,) int, the index of its training instance, or -1."""


def at_instances(problem: Problem) -> Starts:
    """One search per instance, in all that the constraints allow, without a known counterfactual."""
    n, rank = len(problem.x), problem.x.ndim - 1
    low, high = (
        bound if np.ndim(bound) > rank else np.repeat(_of_rank(np.asarray(bound, np.float32), rank), n, axis=0)
        for bound in np.broadcast_arrays(problem.lower, problem.upper)
    )
    return Starts(np.arange(n), problem.target, low, high, problem.x, np.zeros(n, bool), np.full(n, -1))


def _of_rank(bound: np.ndarray, rank: int) -> np.ndarray:
    return bound.reshape(1, *[1] * (rank - np.ndim(bound)), *np.shape(bound))


class Row(NamedTuple):
    """The constants of a row during a search."""

    index: tf.Tensor
    """(n,) int32, the index of the search."""
    x: tf.Tensor
    """(n, *shape) float32, the instance."""
    target: tf.Tensor
    """(n, classes) bool, the target classes: one, or all except the predicted one for `other`."""
    low: tf.Tensor
    """(n, ...) float32, the minimum of each feature; broadcasts to (n, *shape)."""
    high: tf.Tensor
    """(n, ...) float32, the maximum of each feature, in the same shape."""
    lam_init: tf.Tensor
    """(n,) float32."""
    learning_rate: tf.Tensor
    """(n,) float32."""


class Scores(NamedTuple):
    """The outputs of the models for an input."""

    logits: tf.Tensor
    """(n, classes) float32, the logits of the classifier."""
    guides: tf.Tensor
    """(n, guides, classes) float32, the logits of each guide; without guides if the method uses none."""


class Point(NamedTuple):
    """The evaluation of the current x of a row, after one forward and one gradient pass."""

    x: tf.Tensor
    """(n, *shape) float32."""
    change: tf.Tensor
    """(n, *shape) float32, x minus the instance."""
    scores: Scores
    gradient: tf.Tensor
    """(n, *shape) float32, the gradient of the method's `loss` with respect to x."""
    probability: tf.Tensor
    """(n,) f_t, the maximum probability of the target classes."""
    hit: tf.Tensor
    """(n,) bool, whether x is a counterfactual and the guides agree."""
    l1: tf.Tensor
    """(n,), the L1 distance from the instance."""


class Best(NamedTuple):
    """The nearest counterfactual of each row so far."""

    x: tf.Tensor
    """(n, *shape), the counterfactual of least L1."""
    l1: tf.Tensor
    """(n,), its distance; infinite if none was found."""
    lam: tf.Tensor
    """(n,), the weight at which it was found; NaN if none was found."""
    steps: tf.Tensor
    """(n,) int32, the number of steps."""
    finite: tf.Tensor
    """(n,) bool, whether all outputs of the model were finite."""


def along(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Reshape one value per row (n,) to (n, 1, ..., 1), with the rank of `like`."""
    return tf.reshape(values, [-1] + [1] * (len(like.shape) - 1))


def target_probability(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """f_t (n,) float64: the maximum probability of the target classes (n, classes).

    In float64, because 1 - f_t and its gradient matter below the resolution of float32, and because the rounding of a
    float32 exponential depends on the position in the array: the result of a row would depend on its position in the
    batch, and Adam amplifies small differences.
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
    """The most probable of the target classes (n, classes) bool, (n,) int32."""
    return tf.argmax(tf.where(target, logits, -np.inf), axis=1, output_type=tf.int32)


def guide_slack(settings: Any, scores: Scores, aim: tf.Tensor) -> tf.Tensor:
    """The margin of a class (n,) int32 minus its threshold, for each guide: (n, guides) float64."""
    guides, classes = scores.guides.shape[1:]
    margins = margin(tf.reshape(scores.guides, [-1, classes]), tf.repeat(aim, guides))
    return tf.reshape(margins, [-1, guides]) - tf.cast(tf.gather(settings.thresholds, aim), tf.float64)
