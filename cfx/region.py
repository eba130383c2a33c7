"""The inputs that constraints allow for each instance of a search, as arrays: bounds, grids and groups of features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfx.errors import InputError

# A value is on a grid if it is at most this share of a step away from it, which allows for float32.
_OFF_GRID = 1e-2


@dataclass(frozen=True)
class Region:
    """The inputs that the rules allow for each of n instances, all arrays flattened to (n, features) or (features,)."""

    x: np.ndarray
    """(n, features), the instances."""
    lower: np.ndarray
    """(n, features) float32, the minimum of each feature, at most the instance."""
    upper: np.ndarray
    """(n, features) float32, the maximum, at least the instance."""
    low: np.ndarray
    """(features,) float32, the minimum of the feature range."""
    high: np.ndarray
    """(features,) float32, the maximum of the feature range."""
    step: np.ndarray
    """(features,), the step of a feature with discrete values; 0 for others."""
    group: np.ndarray
    """(features,) int, the number of the group of a feature; -1 for none."""
    shape: Sequence[int] | np.ndarray
    """The shape of an instance, integers."""

    @property
    def is_discrete(self) -> np.ndarray:
        """(features,) bool, the features with discrete values."""
        return (self.step > 0) | (self.group >= 0)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The minimum and maximum of each feature, (n, *shape) each."""
        return self.lower.reshape(-1, *self.shape), self.upper.reshape(-1, *self.shape)

    def take(self, rows: np.ndarray) -> Region:
        """The region of these instances alone, in this order."""
        return replace(self, x=self.x[rows], lower=self.lower[rows], upper=self.upper[rows])

    def frozen(self, values: np.ndarray, which: np.ndarray) -> Region:
        """The region in which the features `which` (n, features) bool, have the values (n, features).

        `values` are those of the instances, as far as distances are concerned.
        """
        lower, upper = (np.where(which, values, bound) for bound in (self.lower, self.upper))
        return replace(self, x=values, lower=lower, upper=upper)

    def scaled(self, weights: np.ndarray) -> Region:
        """The region in units of the cost; weights (*shape) float32."""
        of = weights.ravel()
        names = ("x", "lower", "upper", "low", "high", "step")
        return replace(self, **{name: getattr(self, name) * of for name in names})

    def groups(self) -> Iterator[np.ndarray]:
        """The features of each group."""
        for number in range(self.group.max(initial=-1) + 1):
            yield np.flatnonzero(self.group == number)

    def allowed(self, members: np.ndarray) -> np.ndarray:
        """The categories that the instances may have, (n, k) bool, of a group of k features."""
        can_be_on = self.upper[:, members] == self.high[members]
        must_be_on = self.lower[:, members] != self.low[members]
        others = must_be_on.sum(axis=1, keepdims=True) - must_be_on
        return can_be_on & (others == 0)

    def project(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Inputs x (k, *shape) moved to the nearest allowed values; rows (k,): the instance of each."""
        lower, upper, instance = self.lower[rows], self.upper[rows], self.x[rows]
        values = np.clip(x.reshape(len(rows), self.lower.shape[1]), lower, upper)
        grid = np.flatnonzero(self.step)
        if len(grid):
            moved = np.clip(self._snapped(values, grid), lower[:, grid], upper[:, grid])
            is_same = np.abs(moved - instance[:, grid]) < self.step[grid] / 2
            values[:, grid] = np.where(is_same, instance[:, grid], moved)
        for members in self.groups():
            score = np.where(self.allowed(members)[rows], values[:, members] - self.low[members], -np.inf)
            is_on = np.arange(len(members)) == score.argmax(axis=1)[:, None]
            values[:, members] = np.where(is_on, self.high[members], self.low[members])
        return values.reshape(-1, *self.shape)

    def on_grid(self) -> Region:
        """The same region, with bounds of discrete features that are on their grids, inside the previous ones."""
        grid = np.flatnonzero(self.step)
        step, start = self.step[grid], self.low[grid].astype(float)
        slack = _OFF_GRID * step
        lower, upper = self.lower.copy(), self.upper.copy()
        first = np.ceil((lower[:, grid] - slack - start) / step)
        last = np.floor((upper[:, grid] + slack - start) / step)
        bounds = lower[:, grid], upper[:, grid]
        instance = self.x[:, grid]
        lower[:, grid] = np.minimum(np.clip((start + first * step).astype(np.float32), *bounds), instance)
        upper[:, grid] = np.maximum(np.clip((start + last * step).astype(np.float32), *bounds), instance)
        return replace(self, lower=lower, upper=upper)

    def check(self) -> None:
        """Raise InputError if an instance has a value that its rules do not allow, or cannot change."""
        grid = np.flatnonzero(self.step)
        off = np.abs(self._snapped(self.x, grid) - self.x[:, grid]) > _OFF_GRID * self.step[grid]
        if off.any():
            row, place = np.argwhere(off)[0]
            raise InputError(
                f"feature {grid[place]} of row {row} of x is not a multiple of its step above the minimum: change steps"
            )
        for members in self.groups():
            values = self.x[:, members]
            is_on, is_off = values == self.high[members], values == self.low[members]
            wrong = ~np.all(is_on | is_off, axis=1) | (is_on.sum(axis=1) != 1)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise InputError(
                    f"row {row} of x has {np.round(values[row], 3).tolist()} in the group {members.tolist()}: one "
                    "feature must be at the maximum of feature_range and the others at the minimum"
                )
        fixed = ~np.any(self.lower < self.upper, axis=1)
        if fixed.any():
            raise InputError(f"the constraints leave no feature of row {int(np.argmax(fixed))} of x that can change")

    def _snapped(self, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """The nearest values on the grids, (n, k) float32, for all features (n, features) and the k in `grid`."""
        step, start = self.step[grid], self.low[grid].astype(float)
        return (start + np.rint((values[:, grid] - start) / step) * step).astype(np.float32)
