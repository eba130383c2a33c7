"""What a search is asked to do: its hyperparameters, with their meaning, unit and range beside them.

Plain data, so that a configuration can name a method without paying for TensorFlow. The searches themselves are in
`cfx.wachter` and `cfx.primal_dual`, one module a method, under the name that `name` gives here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cfx.errors import InputError

TargetClass = str | int
"""`"other"` (any class but the predicted one), `"same"` (the predicted class), or a class, 0 or above."""


Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What every method needs to know. Sequences give one value a row, so that one batch can hold several cells.

    Raises InputError where a value is outside its range. Whether a class exists, and whether a sequence has as many
    values as there are instances, only `find_counterfactuals` can tell.
    """

    name: ClassVar[str]

    target_class: TargetClass | Sequence[TargetClass] = "other"
    """Where the counterfactual is to lie. Text that is a number, such as "3", counts as that class."""

    target_proba: float = 1.0
    """The probability f_t wanted of the target class, in (0, 1]. For `other`, f_t is that of the likeliest class
    other than the original one."""

    tol: float = 0.01
    """How far f_t may be from `target_proba`, in (0, 1): a counterfactual has |f_t - target_proba| <= tol."""

    max_iter: int
    """The most steps (one forward and one gradient pass each) that a row may take, per lambda where a method goes
    through several; 1 or above."""

    lam_init: float | Sequence[float]
    """The weight of the L1 distance against the prediction loss that the search starts from, above 0."""

    learning_rate: float | Sequence[float]
    """The size of the first steps, above 0, in units of the input."""

    feature_range: tuple[ArrayLike, ArrayLike] = (-0.5, 0.5)
    """The lowest and the highest value of a feature: two numbers, or two arrays that broadcast to an instance."""

    precision: Precision = "float32"
    """Of the steps. `bfloat16`, for Sequential and functional Keras models, was 1.1 to 1.6 times as fast on a CPU with
    AMX; other processors were not measured. What is a counterfactual is always found out in float32."""

    def __post_init__(self) -> None:
        """Check the ranges, and turn what a configuration file may hand over into plain Python values."""
        targets = _values(self.target_class)
        self._set("target_class", tuple(map(_target, targets)) if targets is not None else _target(self.target_class))
        self._number("target_proba", lambda value: 0 < value <= 1, "in (0, 1]")
        self._number("tol", lambda value: 0 < value < 1, "in (0, 1)")
        for field in ("lam_init", "learning_rate"):
            self._number(field, lambda value: value > 0, "> 0", per_row=True)
        for count in fields(self):
            if count.type is int:
                self._whole_number(count.name)
        self._set("feature_range", _feature_range(self.feature_range))
        if self.precision not in get_args(Precision):
            raise InputError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    def _number(self, field: str, valid: Any, wanted: str, per_row: bool = False) -> None:
        given = getattr(self, field)
        values = _values(given) if per_row else None
        numbers = [_float(value) for value in (values if values is not None else [given])]
        for number, value in zip(numbers, values if values is not None else [given], strict=True):
            if number is None or not np.isfinite(number) or not valid(number):
                raise InputError(f"{field} must be {wanted}, got {value!r}: give a number in that range")
        self._set(field, tuple(numbers) if values is not None else numbers[0])

    def _whole_number(self, field: str) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value < 2**31:
            raise InputError(f"{field} must be a whole number from 1 to 2,147,483,647, got {value!r}")
        self._set(field, int(value))


@dataclass(frozen=True, kw_only=True)
class Wachter(Method):
    """The published objective, (f_t(x') - target_proba)^2 + lambda L1(x', x), by Adam, with a search over lambda.

    Wachter, Mittelstadt and Russell 2017, "Counterfactual explanations without opening the black box", equations 1
    and 2, with the L1 distance. Lambda is first lowered from `lam_init` by powers of ten, with max_iter / 10 steps
    each, until it is bracketed, and then bisected.
    """

    name: ClassVar[str] = "wachter"

    max_iter: int = 1000
    """The most Adam steps for one lambda, over which the learning rate falls linearly to zero; 1 or above."""

    lam_init: float | Sequence[float] = 0.1
    """The largest lambda of the bracketing sweep, above 0."""

    max_lam_steps: int = 10
    """How many times lambda is bisected; 1 or above."""

    learning_rate: float | Sequence[float] = 0.1
    """Adam's learning rate at the first step for a lambda, above 0, in units of the input."""

    early_stop: int = 50
    """A lambda of the bisection is left after this many consecutive steps that all are counterfactuals, or all are not,
    and after four times as many that bring no nearer one; 1 or above."""


@dataclass(frozen=True, kw_only=True)
class PrimalDual(Method):
    """The least L1 subject to |f_t(x') - target_proba| <= tol, by proximal steps on a linearised margin.

    The weight of the L1 distance follows the constraint from step to step, so there is no loop over lambda: see
    `cfx.primal_dual`. Features that are not worth their change keep the instance's value exactly.
    """

    name: ClassVar[str] = "primal_dual"

    max_iter: int = 80
    """The steps of a row towards its target class, 1 or above. More give a lower L1: 20 is fast, 80 good, 400 thorough.
    For `other` of ten classes, nearly twice as many go before, to find out which is the nearest."""

    lam_init: float | Sequence[float] = 0.3
    """The first weight of the L1 distance against the margin, as a share of the margin's steepest slope at the
    instance, above 0: only features of a steeper slope than this share change at first."""

    learning_rate: float | Sequence[float] = 0.8
    """The most that a feature changes in the first step of a cycle, as a share of its range, above 0. It falls linearly
    to an eightieth, and grows where the target class is out of reach of such steps."""


def _values(given: object) -> list[Any] | None:
    """The values of a per-row field, or None where it has one value for all rows."""
    if isinstance(given, np.ndarray):
        return list(given) if given.ndim else None
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else None


def _float(value: object) -> float | None:
    if isinstance(value, bool | str | None):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _target(value: object) -> TargetClass:
    if isinstance(value, str) and value in ("other", "same"):
        return value
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0:
        return int(value)
    raise InputError(f'target_class must be "other", "same" or a class (0, 1, ...), got {value!r}')


def _feature_range(given: object) -> tuple[Any, Any]:
    bounds = _values(given)
    if bounds is None or len(bounds) != 2:
        raise InputError(f"feature_range must be two values, the lowest and the highest, got {given!r}")
    try:
        low, high = (np.asarray(bound, np.float32) for bound in bounds)
        ordered = np.all(np.isfinite(low) & np.isfinite(high) & (low < high))
    except (TypeError, ValueError):
        raise InputError(f"feature_range must be two numbers or two arrays of one shape, got {given!r}") from None
    if not ordered:
        raise InputError(f"feature_range must go from low to a higher value, got {given!r}")
    return tuple(float(bound) if np.ndim(bound) == 0 else np.asarray(bound, np.float32) for bound in bounds)  # type: ignore[return-value]
