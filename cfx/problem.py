"""What a method is given: instances, the classes that each may end in, the model, the training split, and guides.

A problem needs numpy alone, so that the same method file runs in an environment without TensorFlow (`cfx.own`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cfx.guides import Guides


@dataclass(frozen=True)
class Problem:
    """n instances to be explained. Arrays of features are float32 inside the feature range; rows are never mixed."""

    x: np.ndarray
    """(n, *shape), the instances. None of them already is a counterfactual."""
    target: np.ndarray
    """(n, classes) bool, the classes that each may end in: one for a fixed target, all but its own for `other`."""
    original_class: np.ndarray
    """(n,) int, the class that the model predicts for each instance."""
    target_proba: float
    """The probability wanted of a target class, in (0, 1]."""
    tol: float
    """How far from it is accepted, in (0, 1)."""
    low: np.ndarray
    """The lowest value of each feature, a number or an array that broadcasts to an instance."""
    high: np.ndarray
    """The highest value of each feature, likewise."""
    x_train: np.ndarray
    """(m, *shape), the instances that the model was trained on; m may be 0."""
    y_train: np.ndarray
    """(m,) int, the classes that the data gives them."""
    seed: int
    """Of all random draws: the method's hyperparameter `seed`, 0 where it has none."""
    probabilities: Callable[[np.ndarray], np.ndarray]
    """Takes inputs (k, *shape), returns the model's probabilities (k, classes)."""
    logits_and_gradient: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Takes inputs (k, *shape) and weights (k, classes). Returns the model's logits (k, classes), whose softmax are the
    probabilities, and the gradient (k, *shape) of each row's sum of weights times logits by its input."""
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    """To be called with (rows done, rows in all), now and then."""
    guides: Guides | None = None
    """Models that a method may use beside the classifier, with what they say of the training split; None where none
    are given, as in a process of the method's own."""
    model: Any = None
    """The caller's model, for libraries that take it; None in a process of the method's own, where the next two stand
    for it."""
    model_file: Path | None = None
    """A copy of a Keras model as a .keras file; only in a process of the method's own."""
    model_weights: tuple[np.ndarray, ...] = ()
    """Its weights, in the order of Keras's `get_weights`; only in a process of the method's own."""

    def is_met(self, x: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Which inputs are counterfactuals, (k,) bool.

        x: (k, *shape). rows: (k,), the instance that each is a counterfactual of; by default each of its own.
        """
        f_target = np.where(self.target[rows], self.probabilities(x), 0).max(axis=1)
        return np.abs(f_target - np.float32(self.target_proba)) <= self.tol
