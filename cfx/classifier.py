"""A uniform interface to classifiers: differentiable logits, for models that return logits or probabilities.

A search needs margins that do not saturate: in float32, a softmax is exactly 1 from a margin of 17, and its gradient
vanishes earlier. Therefore, the logits of a Keras model that ends in a softmax or in one sigmoid unit are the inputs of
this last operation. If they are not accessible (a `predict_fn`, or a softmax in a compiled function), log-probabilities
are used, which are equivalent until a probability rounds to 1.
"""

import re
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cfx import host
from cfx.errors import InputError
from cfx.outputs import TINY, Outputs, are_logits, as_probabilities

# A Keras model gets rows in multiples of this. With fewer, matrix products use other kernels, and an exponential is
# rounded differently at the end of an array that does not fill a register, so a row would depend on its batch.
_ROWS = 16


class Classifier:
    """Any model as differentiable logits (n, classes); their softmax is its probabilities."""

    def __init__(self, model: Callable[..., Any], x: np.ndarray, outputs: Outputs = "auto", eps: float = 1e-3) -> None:
        """Determine whether the model returns logits or probabilities.

        Args:
            model: a Keras classifier; or an object with `probabilities` and `logits_and_gradient`, as in
                `find_counterfactuals`; or a function from a float32 array (n, *shape) to an array (n, classes), or to
                (n,) or (n, 1) for the second of two classes. It is referenced weakly.
            x: float32 (n, *shape), n >= 1, instances to test the outputs with.
            outputs: "probabilities", "logits" or "auto". With "auto", the outputs of a softmax or of one sigmoid unit,
                and outputs that sum to 1, are probabilities; outputs that cannot be probabilities are logits.
            eps: half the step of the central differences for the gradient of a `predict_fn`, in units of x.

        Raises:
            InputError: the model does not accept x or does not run inside a graph, or its outputs are not finite, not
                of shape (n, classes), of a single class, of several sigmoid units, or ambiguous.
        """
        if not eps > 0:
            raise InputError(f"eps must be > 0, got {eps}: give a small step in units of x")
        self._model = weakref.ref(model)
        self._is_keras = isinstance(model, keras.Model)
        self._is_array_model = not self._is_keras and host.is_array_model(model)
        self._passes_of_arrays = host.Passes(self._model)
        self._eps = eps
        self._shape = x.shape[1:]
        _check_batch(model, x)
        raw = self._finite_outputs(x)
        last = self._last_operation(x) if self._is_keras else "unknown"
        self._is_binary = raw.shape[1] == 1
        if self._is_array_model and self._is_binary:
            raise InputError(
                "the model's `probabilities` must be (n, classes), got (n, 1): give a column for each class"
            )
        self._gives_logits = not self._is_array_model and are_logits(raw, outputs, last)
        self.outputs: Outputs = "logits" if self._gives_logits else "probabilities"
        self.classes = 2 if self._is_binary else raw.shape[1]

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits (n, classes) of x (n, *shape), float32, inside a graph, differentiable by x."""
        if self._is_array_model:
            host.check_gradient(self._model())
            return host.logits(x, self.classes, self._passes_of_arrays.forward, self._passes_of_arrays.pull_back)
        if not self._is_keras:
            return host.logits(x, self.classes, self._log_probabilities, self._central_differences)
        outputs = self._call(x)
        last = _origin(outputs).op
        if self._gives_logits:
            logits = tf.cast(outputs, tf.float32)
        elif last.type == ("Sigmoid" if self._is_binary else "Softmax"):
            logits = tf.cast(last.inputs[0], tf.float32)
        elif self._is_binary:
            odds = tf.maximum(tf.cast(outputs, tf.float32), TINY) / tf.maximum(1 - tf.cast(outputs, tf.float32), TINY)
            logits = tf.math.log(odds)
        else:
            logits = tf.math.log(tf.maximum(tf.cast(outputs, tf.float32), TINY))
        return tf.concat([tf.zeros_like(logits), logits], axis=1) if self._is_binary else logits

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) of x (n, *shape) by the caller's model, in float32.

        Raises InputError if the model returns a number that is not finite.
        """
        return as_probabilities(self._finite_outputs(x), self._gives_logits)

    def batched_probabilities(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        """Probabilities of any number of rows, computed in batches."""
        parts = [self.probabilities(x[at : at + batch_size]) for at in range(0, len(x), batch_size)]
        return np.concatenate([np.zeros((0, self.classes), np.float32), *parts])

    def logits_and_gradient(self, x: np.ndarray, weights: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes), and the gradient (n, *shape) of the weighted sum of each row's logits, float32.

        Args:
            x: (n, *shape).
            weights: (n, classes).
            batch_size: the number of rows per call of the model, 1 or above.

        Raises:
            InputError: the weights have another shape.
        """
        if np.shape(weights) != (len(x), self.classes):
            raise InputError(f"weights have shape {np.shape(weights)}, expected ({len(x)}, {self.classes})")
        weights = np.asarray(weights, np.float32)
        parts = [(np.zeros((0, self.classes), np.float32), np.zeros((0, *x.shape[1:]), np.float32))]
        for at in range(0, len(x), batch_size):
            rows = slice(at, at + batch_size)
            parts.append(self._both_passes(x[rows], weights[rows]))
        logits, gradient = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(gradient)

    def _both_passes(self, x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._is_array_model:
            model: Any = self._model()
            host.check_gradient(model)
            logits, gradient = model.logits_and_gradient(x, weights)
            return np.asarray(logits, np.float32), np.asarray(gradient, np.float32)
        logits, gradient = self._passes(tf.constant(x, tf.float32), tf.constant(weights))
        return logits.numpy(), gradient.numpy()

    @cached_property
    def _passes(self) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        def passes(x: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                logits = self.logits(x)
                weighted = tf.reduce_sum(weights * logits, axis=1)
            return logits, tape.gradient(weighted, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        specs = [tf.TensorSpec([None, *shape], tf.float32) for shape in (self._shape, (self.classes,))]
        # A concrete function, because TensorFlow warns if the functions of several models are traced repeatedly.
        return tf.function(passes, specs, autograph=False).get_concrete_function()

    def _call(self, x: Any) -> Any:
        model: Any = self._model()
        if self._is_array_model:
            return model.probabilities(x)
        return model(x, training=False) if self._is_keras else model(x)

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        """The outputs of the model for x, as an array (n, k)."""
        missing = -len(x) % _ROWS if self._is_keras else 0
        filled = np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) if missing else x
        outputs = np.atleast_1d(np.asarray(self._call(filled), np.float32))
        if len(outputs) == len(filled):
            outputs = outputs[: len(x)]
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def _finite_outputs(self, x: np.ndarray) -> np.ndarray:
        try:
            outputs = self._outputs(x)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise InputError(f"the model does not take instances of shape {x.shape[1:]}: {_one_line(error)}") from error
        if outputs.ndim != 2 or len(outputs) != len(x) or outputs.shape[1] == 0:
            raise InputError(f"the model must give one array (n, classes): got {outputs.shape} for {len(x)} instances")
        if not np.all(np.isfinite(outputs)):
            row = int(np.argmin(np.isfinite(outputs).all(axis=1)))
            raise InputError(f"the model gives {outputs[row].tolist()} for an instance: check its weights")
        return outputs

    def _last_operation(self, x: np.ndarray) -> str:
        spec = tf.TensorSpec([None, *x.shape[1:]], tf.float32)
        try:
            graph = tf.function(self._call, [spec], autograph=False).get_concrete_function()
        except TypeError as error:  # such as a Python `if` on a tensor
            raise InputError(f"the model does not run inside a TensorFlow graph: {_one_line(error)}") from error
        return _origin(graph.outputs[0]).op.type

    def _log_probabilities(self, x: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(as_probabilities(self._outputs(x), self._gives_logits), TINY))

    def _central_differences(self, x: np.ndarray, upstream: np.ndarray) -> np.ndarray:
        return host.central_differences(self._log_probabilities, x, upstream, self._eps)


def _check_batch(model: Callable[..., Any], x: np.ndarray) -> None:
    """Raise InputError if x is a single instance of a Keras model and not a batch."""
    try:
        wanted = getattr(model, "input_shape", None) if isinstance(model, keras.Model) else None
    except ValueError:
        # a custom model that has not been called yet
        return
    if not isinstance(wanted, tuple) or len(wanted) != x.ndim + 1:
        return
    if all(size in (None, of_x) for size, of_x in zip(wanted[1:], x.shape, strict=True)):
        shape = ", ".join(["n", *map(str, x.shape)])
        raise InputError(f"x has shape {x.shape}, the model needs a batch ({shape}): for one instance give x[None]")


def in_bfloat16(model: Callable[..., Any]) -> keras.Model:
    """A copy of a Keras model that computes in bfloat16, except for its last layer. Raises InputError for other models.

    Its weights are copies; update them with `set_weights`.
    """
    # only functional models are graphs of operations
    if isinstance(model, keras.Sequential):
        can_be_copied = type(model).call is keras.Sequential.call
    else:
        can_be_copied = hasattr(model, "operations")
    if not isinstance(model, keras.Model) or not can_be_copied:
        raise InputError("precision=bfloat16 needs a Sequential or functional Keras model; use float32")

    def in_half(layer: keras.Layer) -> keras.Layer:
        dtype = "float32" if layer is model.layers[-1] else "mixed_bfloat16"
        return layer.__class__.from_config(layer.get_config() | {"dtype": dtype})

    try:
        return keras.models.clone_model(model, clone_function=in_half, recursive=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"precision=bfloat16: the model cannot be copied ({_one_line(error)}); use float32") from error


def _one_line(error: Exception) -> str:
    """The message of an exception in one line, without Keras's terminal codes."""
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:300]


def _origin(output: tf.Tensor) -> tf.Tensor:
    """The tensor behind identity operations."""
    while output.op.type in ("Identity", "Cast"):
        output = output.op.inputs[0]
    return output
