"""Guides: additional models that a method may use during the search, with thresholds calibrated on the training split.

A single classifier is easily fooled. A guide is another classifier of the same classes, trained only on the training
split (`cfx.guide_training`). Its margin of the target class must reach a quantile, set by the method
(`Method.guide_quantile`), of its margins over real instances of that class. Judges (`cfx.judges`) are never guides:
they have other seeds, architectures and training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import keras

# The kinds of guides; `cfx.guide_training` explains them.
Kind = Literal["deep", "coarse", "smooth", "dense", "tapered", "generative", "reconstructive"]

# A search asks for so much more than the threshold, in units of a margin: other batches round otherwise.
_SURE = 1e-3
# Inputs that a guide is given at once.
_ROWS = 1024


@dataclass(frozen=True)
class Guides:
    """The guides of a data set, with their margins on its training split."""

    models: tuple[keras.Model, ...]
    """Each takes (n, *shape) in [-0.5, 0.5] and returns logits (n, classes)."""
    margins: np.ndarray
    """(m, guides) float32, the margin that each guide gives each training instance's own class."""
    labels: np.ndarray
    """(m,) int, those classes."""

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.labels.max()) + 1

    def thresholds(self, quantile: float) -> np.ndarray:
        """The margins that a search must reach, (classes, guides) float32: quantiles over real instances.

        quantile: in [0, 1], over the training instances of each class, which needs at least one.
        """
        of_class = [np.quantile(self.margins[self.labels == label], quantile, axis=0) for label in range(self.classes)]
        return np.array(of_class, np.float32) + np.float32(_SURE)

    def accept_training(self, quantile: float) -> np.ndarray:
        """Whether each training instance reaches the thresholds of its class for all guides, (m,) bool."""
        return np.all(self.margins >= self.thresholds(quantile)[self.labels], axis=1)

    def accept(self, x: np.ndarray, labels: np.ndarray, quantile: float) -> np.ndarray:
        """Whether each input (n, *shape) reaches the thresholds of its class (n,) for all guides, (n,) bool."""
        wanted = self.thresholds(quantile)[labels] - np.float32(_SURE)
        return np.all(margins(self.models, x, labels) >= wanted, axis=1)


def margins(models: Sequence[keras.Model], x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The margin z_c - log sum_{i != c} exp z_i of each input's class c (n,) for each guide, (n, guides) float32."""
    of_all = np.empty((len(x), len(models)), np.float32)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        for number, model in enumerate(models):
            of_all[rows, number] = _margin(np.asarray(model(x[rows], training=False)), labels[rows])
    return of_all


def _margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    own = np.take_along_axis(logits, labels[:, None].astype(int), axis=1)[:, 0]
    others = logits.astype(np.float64)
    np.put_along_axis(others, labels[:, None].astype(int), -np.inf, axis=1)
    most = others.max(axis=1)
    return own - (most + np.log(np.exp(others - most[:, None]).sum(axis=1)))
