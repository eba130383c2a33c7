"""How typical of a class an input is, among the training instances of that class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cfx import neighbours
from cfx.data import FEATURE_RANGE

if TYPE_CHECKING:
    from sklearn.neighbors import LocalOutlierFactor

# Training instances of a class that density and usual distance are estimated from: more change neither by much.
_DENSITY, _USUAL = 1000, 50
# The neighbours that a density is estimated from, as scikit-learn proposes.
_NEIGHBOURS = 20
# Keeps a ratio of distances finite where the instances of a class are equal.
_EPSILON = 1e-7


class _Class(NamedTuple):
    instances: np.ndarray
    """(m, features)."""
    usual: float
    """The median L1 distance of an instance to the nearest other one."""
    density: LocalOutlierFactor


@dataclass(frozen=True)
class Neighbourhoods:
    """The training instances of each class. What is computed of a class is kept for the next inputs."""

    x_train: np.ndarray
    """(m, *shape) in [-0.5, 0.5]."""
    y_train: np.ndarray
    """(m,) int."""
    _classes: dict[int, _Class | None] = field(default_factory=dict, init=False, repr=False)

    def distance(self, x: np.ndarray, label: int) -> np.ndarray:
        """The L1 distance of inputs (n, *shape) to the nearest training instance of a class, (n,) float64 >= 0.

        In units of the median of that distance between training instances of the class: 1 is as near as real instances
        are. NaN where the class has fewer than two of them.
        """
        of_class = self._of_class(label)
        if of_class is None:
            return np.full(len(x), np.nan)
        _, distances = neighbours.nearest(x.reshape(len(x), -1), of_class.instances, *FEATURE_RANGE)
        return (distances[:, 0] + _EPSILON) / (of_class.usual + _EPSILON)

    def outlier_factor(self, x: np.ndarray, label: int) -> np.ndarray:
        """The local outlier factor of inputs (n, *shape) among the training instances of a class, (n,) float64 > 0.

        1 is as dense a place as the neighbours have; well above 1 is an outlier. Breunig et al. 2000, "LOF: identifying
        density-based local outliers", with 20 neighbours, Euclidean distances and up to 1,000 training instances. NaN
        where the class has fewer than two.
        """
        of_class = self._of_class(label)
        if of_class is None:
            return np.full(len(x), np.nan)
        return -of_class.density.score_samples(x.reshape(len(x), -1))

    def _of_class(self, label: int) -> _Class | None:
        if label not in self._classes:
            instances = self.x_train[self.y_train == label]
            self._classes[label] = _fitted(instances.reshape(len(instances), -1)) if len(instances) > 1 else None
        return self._classes[label]


def _fitted(instances: np.ndarray) -> _Class:
    # scikit-learn takes a second to import, for which only what measures should wait
    from sklearn.neighbors import LocalOutlierFactor

    _, distances = neighbours.nearest(instances[:_USUAL], instances, *FEATURE_RANGE, count=2)
    density = LocalOutlierFactor(n_neighbors=min(_NEIGHBOURS, len(instances) - 1), novelty=True)
    return _Class(instances, float(np.median(distances[:, 1])), density.fit(instances[:_DENSITY]))
