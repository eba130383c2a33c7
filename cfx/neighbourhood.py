"""How typical of a class an input is, among the training instances of that class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cfx import neighbours
from cfx.data import FEATURE_RANGE, widened_range

if TYPE_CHECKING:
    from sklearn.neighbors import LocalOutlierFactor

# The numbers of training instances of a class that estimate density and usual distance: more change neither by much.
_DENSITY, _USUAL = 1000, 50
# The number of neighbours that estimate a density, the default of scikit-learn.
_NEIGHBOURS = 20


class _Class(NamedTuple):
    instances: np.ndarray
    """(m, features), without repetitions."""
    usual: float
    """The median L1 distance of an instance to the nearest other one."""
    density: LocalOutlierFactor


@dataclass(frozen=True)
class Neighbourhoods:
    """The training instances of each class. The results for a class are cached."""

    x_train: np.ndarray
    """(m, *shape) in [-0.5, 0.5]."""
    y_train: np.ndarray
    """(m,) int."""
    _classes: dict[int, _Class | None] = field(default_factory=dict, init=False, repr=False)

    def distance(self, x: np.ndarray, label: int) -> np.ndarray:
        """The L1 distance of inputs (n, *shape) to the nearest training instance of a class, (n,) float64 >= 0.

        In units of the median of that distance between training instances of the class: 1 is typical of real instances.
        NaN if the class has fewer than two different instances.
        """
        of_class = self._of_class(label)
        if of_class is None:
            return np.full(len(x), np.nan)
        _, distances = neighbours.nearest(x.reshape(len(x), -1), of_class.instances, *widened_range(x))
        return distances[:, 0] / of_class.usual

    def outlier_factor(self, x: np.ndarray, label: int) -> np.ndarray:
        """The local outlier factor of inputs (n, *shape) among the training instances of a class, (n,) float64 > 0.

        1 means a density like that of the neighbours; values well above 1 mean an outlier. Breunig et al. 2000, "LOF:
        identifying density-based local outliers", with 20 neighbours, Euclidean distances and up to 1,000 training
        instances. NaN if the class has fewer than two instances.
        """
        of_class = self._of_class(label)
        if of_class is None:
            return np.full(len(x), np.nan)
        return -of_class.density.score_samples(x.reshape(len(x), -1))

    def _of_class(self, label: int) -> _Class | None:
        if label not in self._classes:
            rows = np.flatnonzero(self.y_train == label)
            # a repetition has no distance to its twin, and an infinite density
            instances = np.unique(self.x_train[rows].reshape(len(rows), -1), axis=0) if len(rows) else rows
            self._classes[label] = _fitted(instances) if len(instances) > 1 else None
        return self._classes[label]


def _fitted(instances: np.ndarray) -> _Class:
    # scikit-learn takes a second to import, for which only what measures should wait
    from sklearn.neighbors import LocalOutlierFactor

    _, distances = neighbours.nearest(_spread(instances, _USUAL), instances, *FEATURE_RANGE, count=2)
    sample = _spread(instances, _DENSITY)
    density = LocalOutlierFactor(n_neighbors=min(_NEIGHBOURS, len(sample) - 1), novelty=True)
    return _Class(instances, float(np.median(distances[:, 1])), density.fit(sample))


def _spread(instances: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the instances, at equal intervals."""
    return instances[np.linspace(0, len(instances) - 1, min(count, len(instances))).round().astype(int)]
