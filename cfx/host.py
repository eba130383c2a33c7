"""Logits of a model that runs outside TensorFlow, as an operation of a graph with a gradient.

Such a model is a function of arrays (a `predict_fn`), whose gradient is computed numerically, or an object with the
method `probabilities`, and `logits_and_gradient` if it has a gradient. TensorFlow only carries the arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from cfx.bridge import NO_GRADIENT
from cfx.errors import InputError
from cfx.outputs import TINY

# The maximum size of an input of a predict_fn for numerical gradients (64 MiB).
_NUMBERS_AT_ONCE = 2**24
Arrays = Callable[..., np.ndarray]


def is_array_model(model: Any) -> bool:
    """Whether a model is an object with the method `probabilities` on arrays."""
    return hasattr(model, "probabilities")


def check_gradient(model: Any) -> None:
    """Raise InputError if an object with `probabilities` has no gradient."""
    if not hasattr(model, "logits_and_gradient"):
        raise InputError(NO_GRADIENT)


def logits(x: tf.Tensor, classes: int, forward: Arrays, pull_back: Arrays) -> tf.Tensor:
    """Logits (n, classes) of x (n, *shape), computed by `forward(x)`.

    pull_back: (x, weights) -> the gradient (n, *shape) of each row's weighted sum of logits.
    """

    @tf.custom_gradient
    def called(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(pull_back, [x, upstream], tf.float32), x.shape)

        return tf.ensure_shape(tf.numpy_function(forward, [x], tf.float32), [None, classes]), gradient

    return called(x)


class Passes:
    """The forward and the backward pass of an object with `logits_and_gradient`, with as few calls as possible.

    A search knows the weights of the logits only after the forward pass. With `vjp(x) -> (logits, pull_back)`, as in
    JAX, the model continues from its forward pass; without it, the pull-back makes a second one.
    """

    def __init__(self, model: Callable[[], Any]) -> None:
        """model: returns the model, which is referenced weakly."""
        self._model = model
        self._last: tuple[np.ndarray, Arrays] | None = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Logits (n, classes), up to a constant of each row."""
        model = self._model()
        if not hasattr(model, "vjp"):
            return np.log(np.maximum(model.probabilities(x), TINY)).astype(np.float32)
        values, pull_back = model.vjp(x)
        self._last = x, pull_back
        return np.asarray(values, np.float32)

    def pull_back(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The gradient (n, *shape) of each row's weighted sum of logits."""
        if self._last is None or not np.array_equal(self._last[0], x):
            return np.asarray(self._model().logits_and_gradient(x, weights)[1], np.float32)
        pull_back, self._last = self._last[1], None
        return np.asarray(pull_back(weights), np.float32)


def central_differences(log_probabilities: Arrays, x: np.ndarray, upstream: np.ndarray, eps: float) -> np.ndarray:
    """The gradient (n, *shape) of sum(upstream * log_probabilities(x)) with respect to x (n, *shape).

    eps: half the distance of the two points, in units of x.
    """
    flat = x.reshape(len(x), -1)
    gradient = np.empty(flat.size, np.float32)
    at_once = max(1, _NUMBERS_AT_ONCE // (2 * flat.shape[1]))
    for start in range(0, flat.size, at_once):
        row, feature = np.divmod(np.arange(start, min(start + at_once, flat.size)), flat.shape[1])
        moved = (np.arange(len(row)), feature)
        above, below = flat[row], flat[row]
        above[moved] += eps
        below[moved] -= eps
        both = log_probabilities(np.concatenate([above, below]).reshape(-1, *x.shape[1:]))
        rise = np.sum(upstream[row] * (both[: len(row)] - both[len(row) :]), axis=1)
        gradient[start : start + len(row)] = rise / (above[moved] - below[moved])
    return gradient.reshape(x.shape)
