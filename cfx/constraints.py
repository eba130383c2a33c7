"""Rules for a counterfactual: which features may change, how far, to which values, and what a change costs.

`Constraints` are the rules of a caller, by feature; `cfx.region` has them as arrays for each instance of a search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cfx.errors import InputError
from cfx.region import Region

Scale = Literal["unit", "mad", "inverse_range"]


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
        flat = x.reshape(count, int(np.prod(shape)))
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
            bounds = [_of_rows(bound, len(x), f"ranges[{feature}]").astype(np.float32) for bound in (least, most)]
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
        return np.broadcast_to(mask, x.shape).reshape(len(x), int(np.prod(x.shape[1:])))


def _of_rows(value: ArrayLike, count: int, where: str) -> np.ndarray:
    """A value for each of n rows, (n,)."""
    try:
        given = np.asarray(value, float)
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
