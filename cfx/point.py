"""The terms that the engine and a step method share: what a row asks for, and what is known where it stands.

Every tensor has a leading row dimension; rows never mix.
"""

from __future__ import annotations

from typing import NamedTuple

from cfx.backend import tf


class Row(NamedTuple):
    """What a row asks for; it does not change during a search."""

    index: tf.Tensor
    """(n,) int32, its place in the caller's batch."""
    x: tf.Tensor
    """(n, *shape) float32, the instance."""
    target: tf.Tensor
    """(n, classes) bool, the classes it may end in: one for a fixed target, all but the predicted one for `other`."""
    lam_init: tf.Tensor
    """(n,) float32."""
    learning_rate: tf.Tensor
    """(n,) float32."""


class Point(NamedTuple):
    """What is known at the x where a row stands, after one forward and one gradient pass."""

    x: tf.Tensor
    """(n, *shape) float32."""
    change: tf.Tensor
    """(n, *shape) float32, x less the instance."""
    logits: tf.Tensor
    """(n, classes) float32; their softmax are the probabilities."""
    gradient: tf.Tensor
    """(n, *shape) float32, of the method's `loss` by x."""
    probability: tf.Tensor
    """(n,) f_t: the largest probability among the target classes."""
    hit: tf.Tensor
    """(n,) bool: x is a counterfactual."""
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
