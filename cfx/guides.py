"""Guides: models that a method may use while it searches, each with thresholds that are calibrated and not tuned.

A classifier alone is easily fooled. A guide is another model of the same classes, trained on the training split alone
(`cfx.guide_training`), whose margin of the target class has to reach that of real instances of the class: the quantile
of its margins over them that the method asks for (`Method.guide_quantile`). A judge (`cfx.judges`) measures and is
never a guide: seeds, architectures and trainings are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

# A search asks for so much more than the threshold, in units of a margin: other batches round otherwise.
_SURE = 1e-3
# Inputs that a guide is given at once.
_ROWS = 1024


@dataclass(frozen=True)
class Guides:
    """The guides of a data set, with what they say of its training split."""

    models: tuple[keras.Model, ...]
    """Each takes (n, *shape) in [-0.5, 0.5] and returns logits (n, classes)."""
    margins: np.ndarray
    """(m, guides) float32, the margin that each guide gives each training instance's own class."""
    labels: np.ndarray
    """(m,) int, those classes."""

    @property
    def classes(self) -> int:
        """How many classes they know."""
        return int(self.labels.max()) + 1

    def thresholds(self, quantile: float) -> np.ndarray:
        """The margins that a search has to reach, (classes, guides) float32: quantiles over real instances.

        quantile: in [0, 1], over the training instances of each class, of which there has to be one.
        """
        of_class = [np.quantile(self.margins[self.labels == label], quantile, axis=0) for label in range(self.classes)]
        return np.array(of_class, np.float32) + np.float32(_SURE)

    def accept_training(self, quantile: float) -> np.ndarray:
        """Which training instances reach the thresholds of their class by all guides, (m,) bool."""
        return np.all(self.margins >= self.thresholds(quantile)[self.labels], axis=1)

    def accept(self, x: np.ndarray, labels: np.ndarray, quantile: float) -> np.ndarray:
        """Which inputs (n, *shape) reach the thresholds of the classes (n,) by all guides, (n,) bool."""
        wanted = self.thresholds(quantile)[labels] - np.float32(_SURE)
        return np.all(margins(self.models, x, labels) >= wanted, axis=1)


def margins(models: Sequence[keras.Model], x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The margin z_c - log sum_{i != c} exp z_i of each input's class c (n,) by each guide, (n, guides) float32."""
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
