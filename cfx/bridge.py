"""A classifier of another framework, as an object that `find_counterfactuals` takes.

A framework gives the passes of its model on arrays (`cfx.frameworks`); everything else is here: the range and the order
of its inputs, and the meaning of its outputs. TensorFlow is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cfx.data import FEATURE_RANGE
from cfx.errors import InputError
from cfx.outputs import TINY, Outputs, are_logits, as_probabilities

NO_GRADIENT = (
    "the model has no gradient: a step method cannot search; use growing_spheres, nearest_neighbour or segment"
)
PullBack = Callable[[np.ndarray], np.ndarray]


class Passes(NamedTuple):
    """The passes of a model, on float32 arrays in the model's own range and order."""

    outputs: Callable[[np.ndarray], np.ndarray]
    """From inputs (n, *shape) to probabilities or logits, (n, classes), or (n,) or (n, 1) for the second of two."""
    vjp: Callable[[np.ndarray], tuple[np.ndarray, PullBack]] | None
    """From inputs to the outputs and a function from weights (n, classes) to the gradient (n, *shape) of each row's
    weighted sum of outputs; None for a model without a gradient."""


def bridge(
    passes: Passes,
    x: np.ndarray,
    *,
    bounds: tuple[float, float] = FEATURE_RANGE,
    channels_first: bool = False,
    outputs: Outputs = "auto",
) -> Bridge:
    """The classifier of these passes; it is a `DifferentiableBridge` if they have a gradient.

    Args:
        passes: the passes of the model, such as `cfx.frameworks.torch.passes(module)`.
        x: float32 (n, *shape), n >= 1, instances to test the model with.
        bounds: the range of the inputs that the model was trained on; inputs in [-0.5, 0.5] are rescaled to it.
        channels_first: whether the model takes images as (n, channels, height, width).
        outputs: the outputs of the model, "probabilities" or "logits", or "auto" to detect them by their values.

    Raises:
        InputError: the model does not take these instances, or its outputs are not finite, not (n, classes), or
            ambiguous.

    Example:
        >>> model = bridge(frameworks.torch.passes(module), x, channels_first=True)
        >>> find_counterfactuals(model, x, PrimalDual())

    """
    if channels_first and x.ndim != 4:
        raise InputError(f"channels_first needs images (n, height, width, channels), got {x.shape}: use false")
    kind = Bridge if passes.vjp is None else DifferentiableBridge
    return kind(passes, x, bounds, channels_first, outputs)


class Bridge:
    """A classifier on arrays of instances inside [-0.5, 0.5]. Made by `bridge`."""

    def __init__(
        self, passes: Passes, x: np.ndarray, bounds: tuple[float, float], channels_first: bool, outputs: Outputs
    ) -> None:
        """Determine whether the model returns logits or probabilities, as `bridge` describes."""
        low, high = bounds
        if not (np.isfinite(bounds).all() and low < high):
            raise InputError(f"bounds: need two finite numbers, low < high, not [{low}, {high}]")
        self._passes, self._channels_first = passes, channels_first
        self._scale = np.float32((high - low) / (FEATURE_RANGE[1] - FEATURE_RANGE[0]))
        self._shift = np.float32(low - self._scale * FEATURE_RANGE[0])
        raw = self._tested(x)
        self._gives_logits = are_logits(raw, outputs)
        self.outputs: Outputs = "logits" if self._gives_logits else "probabilities"
        self.classes = max(raw.shape[1], 2)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) of x (n, *shape)."""
        return as_probabilities(self._outputs(x), self._gives_logits)

    def _tested(self, x: np.ndarray) -> np.ndarray:
        try:
            outputs = self._outputs(x)
        except Exception as error:  # a framework may raise any exception for an invalid input
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[-1][:200] if lines else type(error).__name__
            raise InputError(f"does not take inputs of shape {self._inputs(x).shape[1:]} ({reason})") from error
        if outputs.ndim != 2 or len(outputs) != len(x) or outputs.shape[1] == 0:
            raise InputError(f"must return one array (n, classes): got {outputs.shape} for {len(x)} instances")
        if not np.isfinite(outputs).all():
            raise InputError("returns a number that is not finite; check its weights")
        return outputs

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float32) * self._scale + self._shift
        return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if self._channels_first else x

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        return _columns(self._passes.outputs(self._inputs(x)))


class DifferentiableBridge(Bridge):
    """A classifier on arrays, with a gradient. Made by `bridge`."""

    def logits_and_gradient(self, x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes) of x (n, *shape), and the gradient (n, *shape) of each row's sum of weights * logits."""
        logits, pull_back = self.vjp(x)
        return logits, pull_back(weights)

    def vjp(self, x: np.ndarray) -> tuple[np.ndarray, PullBack]:
        """Logits (n, classes) of x (n, *shape), and the function from weights to the gradient of their weighted sum."""
        assert self._passes.vjp is not None
        raw, pull = self._passes.vjp(self._inputs(x))
        outputs = _columns(raw)
        is_binary = outputs.shape[1] == 1
        logits, slope = outputs, np.ones_like(outputs)
        if not self._gives_logits:
            kept = np.maximum(outputs, TINY)
            logits, slope = np.log(kept), 1 / kept
            if is_binary:
                rest = np.maximum(1 - outputs, TINY)
                logits, slope = logits - np.log(rest), slope + 1 / rest

        def pull_back(weights: np.ndarray) -> np.ndarray:
            weights = (weights[:, 1:] if is_binary else weights) * slope
            gradient = pull(np.asarray(weights, np.float32).reshape(raw.shape))
            return (np.moveaxis(gradient, 1, -1) if self._channels_first else gradient) * self._scale

        return np.concatenate([np.zeros_like(logits), logits], axis=1) if is_binary else logits, pull_back


def _columns(outputs: np.ndarray) -> np.ndarray:
    outputs = np.asarray(outputs, np.float32)
    return outputs[:, None] if outputs.ndim == 1 else outputs
