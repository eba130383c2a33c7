"""The input of an array method: instances, target classes, the model, the training split, and guides.

It needs only numpy, so that a user's file runs in an environment without TensorFlow (`cfx.own`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cfx.guides import Guides
    from cfx.region import Region


@dataclass(frozen=True)
class Problem:
    """n instances to explain. Arrays of features are float32 inside the feature range."""

    x: np.ndarray
    """(n, *shape), the instances, none of which already is a counterfactual."""
    target: np.ndarray
    """(n, classes) bool, the target classes: one, or all except the predicted one for `other`."""
    original_class: np.ndarray
    """(n,) int, the class that the model predicts for each instance."""
    target_proba: float
    """The required probability of a target class, in (0, 1]."""
    tol: float
    """The tolerance of the probability, in (0, 1)."""
    low: np.ndarray
    """The minimum of each feature, a number or an array that broadcasts to an instance."""
    high: np.ndarray
    """The maximum of each feature, a number or an array that broadcasts to an instance."""
    x_train: np.ndarray
    """(m, *shape), the training instances; m may be 0."""
    y_train: np.ndarray
    """(m,) int, their labels."""
    seed: int
    """The random seed: the method's hyperparameter `seed`, or 0."""
    probabilities: Callable[[np.ndarray], np.ndarray]
    """A function from inputs (k, *shape) to the model's probabilities (k, classes)."""
    logits_and_gradient: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """A function from inputs (k, *shape) and weights (k, classes) to the model's logits (k, classes) and the gradient
    (k, *shape) of each row's weighted sum of logits with respect to its input."""
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    """A function to call regularly with (rows done, rows in total)."""
    region: Region | None = None
    """The inputs that the constraints allow for each instance; None without constraints."""
    guides: Guides | None = None
    """The guides with their margins on the training split; None if there are none, and in a separate process."""
    model: Any = None
    """The caller's model, for libraries that need it; None in a separate process, which has the next two instead."""
    model_file: Path | None = None
    """A copy of a Keras model as a .keras file; only in a separate process."""
    model_weights: tuple[np.ndarray, ...] = ()
    """The weights of the model, in the order of Keras's `get_weights`; only in a separate process."""

    @property
    def lower(self) -> np.ndarray:
        """The minimum of each feature by the feature range and the constraints; broadcasts to x."""
        return self.low if self.region is None else self.region.bounds()[0]

    @property
    def upper(self) -> np.ndarray:
        """The maximum of each feature, likewise."""
        return self.high if self.region is None else self.region.bounds()[1]

    def take(self, rows: np.ndarray) -> Problem:
        """The problem of these instances alone, in this order."""
        return replace(
            self,
            x=self.x[rows],
            target=self.target[rows],
            original_class=self.original_class[rows],
            region=self.region and self.region.take(rows),
        )

    def project(self, x: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Inputs moved to the nearest values inside the feature range that the constraints allow, (k, *shape) float32.

        x: (k, *shape). rows: (k,), the index of the instance of each input; by default 0 to n - 1.
        """
        if self.region is None:
            return np.clip(x, self.low, self.high).astype(np.float32, copy=False)
        return self.region.project(np.asarray(x, np.float32), np.arange(len(self.x))[rows])

    def is_inside(self, x: np.ndarray) -> np.ndarray:
        """Whether inputs (k, *shape) are in the feature range, (k,) bool."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return np.all((low <= x) & (x <= high), axis=tuple(range(1, x.ndim)))

    def is_met(self, x: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Whether inputs are counterfactuals, (k,) bool.

        x: (k, *shape). rows: (k,), the index of the instance of each input; by default 0 to n - 1.
        """
        f_target = np.where(self.target[rows], self.probabilities(x), 0).max(axis=1)
        return np.abs(f_target - np.float32(self.target_proba)) <= self.tol
