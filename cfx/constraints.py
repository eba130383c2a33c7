"""Rules for a counterfactual: which features may change, how far, to which values, and what a change costs.

`Constraints` are the rules of a caller, by feature. `Region` has the same rules for each instance of a search as
arrays, and moves any input to the nearest one that follows them. It needs only numpy (`cfx.problem`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cfx.errors import InputError

Scale = Literal["unit", "mad", "inverse_range"]

# A value is on a grid if it is at most this share of a step away from it, which allows for float32.
_OFF_GRID = 1e-2


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Rules that every counterfactual follows exactly. Values are in units of x.

    A feature is an index into the flattened instance. The rules of a feature apply together; for a rule that has one
    value for each instance, give an array (n,).

    Raises InputError for a rule that contradicts itself or another one.

    Example, for a table of four numeric columns in [-0.5, 0.5] and a category with three one-hot columns:

        rules = Constraints(immutable=[0], increase=[1], ranges={2: (-0.2, 0.4)}, steps={3: 0.01}, groups=[[4, 5, 6]])
        result = find_counterfactuals(model, x, PrimalDual(), constraints=rules)

    Sources: Ustun, Spangher and Liu 2019, "Actionable recourse in linear classification" (immutable features and
    directions); Mothilal, Sharma and Tan 2020, "DiCE" (ranges, categories); Wachter, Mittelstadt and Russell 2017,
    equation 4 (`scale="mad"`).
    """

    immutable: Sequence[int] = ()
    """Features that keep the value of the instance."""

    increase: Sequence[int] = ()
    """Features that may only increase."""

    decrease: Sequence[int] = ()
    """Features that may only decrease."""

    ranges: Mapping[int, tuple[ArrayLike, ArrayLike]] = field(default_factory=dict)
    """The minimum and maximum of a feature. The instances must be in it."""

    most_change: Mapping[int, ArrayLike] = field(default_factory=dict)
    """The maximum absolute change of a feature, 0 or above."""

    steps: Mapping[int, float] = field(default_factory=dict)
    """The step of a feature that has discrete values, such as an integer, above 0: its values are the minimum of the
    feature range plus a multiple of the step. The instances must have such values."""

    groups: Sequence[Sequence[int]] = ()
    """Groups of features that encode a category: one is at the maximum of its feature range, the others at their
    minimum. The instances must be such."""

    mask: ArrayLike | None = None
    """(*shape) or (n, *shape) bool, the features that may change, such as the pixels of a region; None for all."""

    scale: Scale = "unit"
    """What a change of a feature costs in the L1 distance that the search minimises: "unit" (1 per unit of x), "mad" (1
    per median absolute deviation of the training split, or per range of the feature if that is 0), or "inverse_range"
    (1 per range of the feature)."""

    def __post_init__(self) -> None:
        """Check the rules that do not depend on the instances."""
        if self.scale not in get_args(Scale):
            raise InputError(f"scale must be one of {', '.join(get_args(Scale))}, got {self.scale!r}")
        if both := set(self.increase) & set(self.decrease):
            raise InputError(f"feature {min(both)} is in increase and in decrease: use immutable")
        grouped = [feature for group in self.groups for feature in group]
        if repeated := sorted({feature for feature in grouped if grouped.count(feature) > 1}):
            raise InputError(f"feature {repeated[0]} is twice in groups: give each feature once")
        if short := [list(group) for group in self.groups if len(group) < 2]:
            raise InputError(f"the group {short[0]} must have two or more features")
        if both := set(self.steps) & set(grouped):
            raise InputError(f"feature {min(both)} is in steps and in groups: remove it from one")
        for feature, step in self.steps.items():
            if not (np.isfinite(step) and step > 0):
                raise InputError(f"the step of feature {feature} must be > 0, got {step!r}")

    def region(self, x: np.ndarray, feature_range: tuple[ArrayLike, ArrayLike]) -> Region:
        """The rules for the instances x (n, *shape).

        Raises InputError if a feature does not exist, an instance breaks a rule, or no feature of an instance can
        change.
        """
        count, shape = len(x), x.shape[1:]
        flat = x.reshape(count, -1)
        self._check_features(flat.shape[1])
        low, high = (np.broadcast_to(np.asarray(bound, np.float32), shape).ravel() for bound in feature_range)
        step, group = np.zeros(flat.shape[1]), np.full(flat.shape[1], -1)
        for feature, size in self.steps.items():
            step[feature] = size
        for number, members in enumerate(self.groups):
            group[list(members)] = number
        lower, upper = (np.tile(bound, (count, 1)) for bound in (low, high))
        self._narrow(flat, lower, upper)
        free = self._mask(x)
        lower, upper = np.where(free, lower, flat), np.where(free, upper, flat)
        found = Region(flat, lower, upper, low, high, step, group, shape)
        found.check()
        return found.on_grid()

    def weights(self, x_train: np.ndarray, feature_range: tuple[ArrayLike, ArrayLike]) -> np.ndarray | None:
        """The cost of a feature per unit of x, (*shape) float32, or None if it is 1.

        x_train: the training split (m, *shape). Raises InputError if `scale="mad"` has no training instances.
        """
        if self.scale == "unit":
            return None
        low, high = (np.broadcast_to(np.asarray(bound, float), x_train.shape[1:]) for bound in feature_range)
        spread = high - low
        if self.scale == "mad":
            if not len(x_train):
                raise InputError('scale="mad" needs the training split: give train=(x_train, y_train)')
            mad = np.median(np.abs(x_train - np.median(x_train, axis=0)), axis=0)
            spread = np.where(mad > 0, mad, spread)
        return (1 / spread).astype(np.float32)

    def _check_features(self, count: int) -> None:
        for name in ("immutable", "increase", "decrease", "ranges", "most_change", "steps", "groups"):
            given = getattr(self, name)
            for feature in (member for group in given for member in group) if name == "groups" else given:
                if isinstance(feature, bool) or not isinstance(feature, int | np.integer) or not 0 <= feature < count:
                    raise InputError(
                        f"{name}: {feature!r} is not a feature of an instance: give whole numbers from 0 to {count - 1}"
                    )

    def _narrow(self, x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Narrow the bounds (n, features) by the rules of single features."""
        for feature, (least, most) in self.ranges.items():
            bounds = [_of_rows(bound, len(x), f"ranges[{feature}]") for bound in (least, most)]
            if np.any(bounds[0] > bounds[1]):
                raise InputError(f"ranges[{feature}] must go from low to high, got {least!r} and {most!r}")
            outside = (x[:, feature] < bounds[0]) | (x[:, feature] > bounds[1])
            if outside.any():
                row = int(np.argmax(outside))
                raise InputError(
                    f"feature {feature} of row {row} of x is outside its range: change ranges, or leave it out"
                )
            lower[:, feature] = np.maximum(lower[:, feature], bounds[0])
            upper[:, feature] = np.minimum(upper[:, feature], bounds[1])
        for feature, change in self.most_change.items():
            most = _of_rows(change, len(x), f"most_change[{feature}]")
            if np.any(most < 0):
                raise InputError(f"most_change[{feature}] must be 0 or above, got {change!r}")
            # in float64 and rounded towards the instance, so that no change exceeds it
            least_value, most_value = x[:, feature].astype(float) - most, x[:, feature].astype(float) + most
            lower[:, feature] = np.maximum(lower[:, feature], _rounded(least_value, np.inf))
            upper[:, feature] = np.minimum(upper[:, feature], _rounded(most_value, -np.inf))
        for features, bounds_of in (
            (self.increase, (lower,)),
            (self.decrease, (upper,)),
            (self.immutable, (lower, upper)),
        ):
            for bound in bounds_of:
                bound[:, list(features)] = x[:, list(features)]

    def _mask(self, x: np.ndarray) -> np.ndarray:
        """The features that may change, (n, features) bool."""
        if self.mask is None:
            return np.ones((len(x), 1), bool)
        mask = np.asarray(self.mask)
        if mask.dtype != bool or mask.shape not in (x.shape, x.shape[1:]):
            raise InputError(
                f"mask is {mask.dtype} of shape {mask.shape}: give bool of shape {x.shape[1:]}, or one per instance"
            )
        return np.broadcast_to(mask, x.shape).reshape(len(x), -1)


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
    shape: tuple[int, ...]
    """The shape of an instance."""

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
        values = np.clip(x.reshape(len(rows), -1), lower, upper)
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


# The fields of a region that are arrays.
ARRAYS = tuple(item.name for item in fields(Region) if item.name != "shape")


def _of_rows(value: ArrayLike, count: int, where: str) -> np.ndarray:
    """A value for each of n rows, (n,) float32."""
    try:
        given = np.asarray(value, np.float32)
        if np.all(np.isfinite(given)):
            return np.broadcast_to(given, (count,))
    except (TypeError, ValueError):
        pass
    raise InputError(f"{where} must have finite numbers, or arrays with one for each of {count} rows, got {value!r}")


def _rounded(values: np.ndarray, towards: float) -> np.ndarray:
    """Values as float32, rounded in one direction."""
    near = values.astype(np.float32)
    is_beyond = near < values if towards > 0 else near > values
    return np.where(is_beyond, np.nextafter(near, np.float32(towards)), near)
