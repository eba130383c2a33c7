"""The base classes of search methods.

A method is one module with one class, a frozen dataclass whose fields are its hyperparameters. It is a module of
`cfx.methods` or a user's file (`cfx.own`), and it has one of two forms:

- `StepMethod`: pure functions on tensors with a leading row dimension, which the engine (`cfx.program`) compiles.
- `ArrayMethod`: one function from a `cfx.problem.Problem` to counterfactuals, in numpy or any other library.

The engine, not the method, decides whether a counterfactual is found: with the caller's model, in float32, inside the
feature range and the constraints. This module does not import TensorFlow, so a configuration is checked quickly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cfx.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

    from cfx.point import Best, Point, Row, Scores, Starts
    from cfx.problem import Problem

TargetClass = str | int
"""`"other"` (any class but the predicted one), `"same"` (the predicted class), or a class, 0 or above."""

Precision = Literal["float32", "bfloat16"]
# The largest int32.
_MOST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """The hyperparameters that all methods share. A sequence has one value per row.

    Raises InputError if a value is outside its range. `find_counterfactuals` checks whether the classes exist and
    whether sequences have one value per instance.
    """

    name: ClassVar[str]
    """The name of the module, which is the option of the configuration and the value of the column `method`."""

    PER_ROW: ClassVar[tuple[str, ...]] = ("target_class",)
    """The fields that may have one value per row."""

    target_class: TargetClass | Sequence[TargetClass] = "other"
    """The target class. Text that is a number, such as "3", is converted to a number."""

    target_proba: float = 1.0
    """The required probability f_t of the target class, in (0, 1]. For `other`, f_t is that of the most probable class
    other than the original one."""

    tol: float = 0.01
    """The tolerance, in (0, 1): a counterfactual has |f_t - target_proba| <= tol."""

    feature_range: tuple[ArrayLike, ArrayLike] = (-0.5, 0.5)
    """The minimum and maximum of a feature: two numbers, or two arrays that broadcast to an instance."""

    count: int = 1
    """The number of different counterfactuals of each instance, 1 to 1,000: rows of the result, nearest first."""

    @property
    def guide_quantile(self) -> float:
        """The quantile q of the guides' thresholds (`cfx.guides`), in [0, 1]; 0 if the method uses no guides."""
        return 0.0

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Name the method after its module."""
        super().__init_subclass__(**keywords)
        cls.name = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        """Check the ranges, and convert the values of a configuration file to plain Python values."""
        targets = _values(self.target_class)
        self._set("target_class", tuple(map(_target, targets)) if targets is not None else _target(self.target_class))
        self._check_number("target_proba", lambda value: 0 < value <= 1, "in (0, 1]")
        self._check_number("tol", lambda value: 0 < value < 1, "in (0, 1)")
        self._set("feature_range", _feature_range(self.feature_range))
        self._check_whole_number("count", most=1_000)

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    def _check_number(self, field: str, is_valid: Callable[[float], bool], wanted: str) -> None:
        """Raise InputError unless a field is a valid number or, if it is in PER_ROW, a sequence of valid numbers."""
        given = getattr(self, field)
        values = _values(given) if field in self.PER_ROW else None
        numbers = [_float(value) for value in (values if values is not None else [given])]
        for number, value in zip(numbers, values if values is not None else [given], strict=True):
            if number is None or not np.isfinite(number) or not is_valid(number):
                raise InputError(f"{field} must be {wanted}, got {value!r}: give a number in that range")
        self._set(field, tuple(numbers) if values is not None else numbers[0])

    def _check_whole_number(self, field: str, least: int = 1, most: int = _MOST) -> None:
        """Raise InputError unless a field is a whole number in [least, most]."""
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
            raise InputError(f"{field} must be a whole number from {least:,} to {most:,}, got {value!r}")
        self._set(field, int(value))


@dataclass(frozen=True, kw_only=True)
class StepMethod(Method):
    """A method as pure functions on tensors, which the engine compiles into one graph for a batch of rows.

    Four functions are static. `settings` contains the hyperparameters as scalar tensors (`settings.max_iter` int32,
    `settings.tol` float32), the feature range as `settings.low` and `settings.high`, and the thresholds of the guides
    as `settings.thresholds` (classes, guides). `row`, `scores`, `point` and `best` are those of `cfx.point`. The state
    is a NamedTuple of tensors (n, ...) with at least

        x         (n, *shape) float32, the current input, from row.low to row.high; `start` sets it to the instance
        lam       (n,) float32, the weight of the L1 distance
        lam_step  (n,) int32, the position of a counterfactual found here in the path, below 0 to omit it
        done      (n,) bool, the row has ended; its other values are ignored

    Example of a complete module (the first line avoids importing TensorFlow):

        from __future__ import annotations

        from dataclasses import dataclass
        from typing import NamedTuple

        from cfx import StepMethod
        from cfx.backend import tf
        from cfx.point import along, target_probability


        class State(NamedTuple):
            x: tf.Tensor
            lam: tf.Tensor
            lam_step: tf.Tensor
            done: tf.Tensor
            taken: tf.Tensor  # (n,) int32, the steps taken


        @dataclass(frozen=True, kw_only=True)
        class Descent(StepMethod):
            # Gradient descent on -log f_t + lam |x' - x|_1, up to the first counterfactual.
            max_iter: int = 100
            lam_init: float = 0.01
            learning_rate: float = 0.05

            @staticmethod
            def path_length(settings):
                return 1

            @staticmethod
            def start(settings, row):
                none = tf.zeros_like(row.index)
                return State(x=row.x, lam=row.lam_init, lam_step=none, done=none > 0, taken=none)

            @staticmethod
            def loss(settings, row, state, scores):
                return -tf.math.log(target_probability(scores.logits, row.target))

            @staticmethod
            def step(settings, row, state, point, best):
                slope = point.gradient + along(state.lam, point.x) * tf.sign(point.change)
                x = tf.clip_by_value(point.x - along(row.learning_rate, point.x) * slope, row.low, row.high)
                taken = state.taken + 1
                done = state.done | point.hit | (taken >= settings.max_iter)
                return State(x=x, lam=state.lam, lam_step=state.lam_step, done=done, taken=taken)
    """

    PER_ROW: ClassVar[tuple[str, ...]] = ("target_class", "lam_init", "learning_rate")

    max_iter: int
    """The maximum number of steps per row (one forward and one gradient pass each), or per lambda if a method uses
    several; 1 to 100,000."""

    lam_init: float | Sequence[float]
    """The initial weight of the L1 distance relative to the prediction loss, above 0."""

    learning_rate: float | Sequence[float]
    """The size of the first steps, above 0, in units of the input."""

    precision: Precision = "float32"
    """The precision of the steps. `bfloat16`, for Sequential and functional Keras models, was 1.1 to 1.6 times as fast
    on a CPU with AMX; other processors were not measured. Counterfactuals are always checked in float32."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        for name in ("lam_init", "learning_rate"):
            self._check_number(name, lambda value: value > 0, "> 0")
        self._check_whole_number("max_iter", most=100_000)
        if self.precision not in get_args(Precision):
            raise InputError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")

    def starts(self, problem: Problem) -> Starts:
        """The starts of the searches: by default one per instance, in the whole feature range."""
        from cfx.point import at_instances

        return at_instances(problem)

    @staticmethod
    @abstractmethod
    def path_length(settings: Any) -> Any:
        """The maximum number of points per row in `Result.path`; `settings` may also be the method."""

    @staticmethod
    @abstractmethod
    def start(settings: Any, row: Row) -> Any:
        """The initial state of rows."""

    @staticmethod
    @abstractmethod
    def loss(settings: Any, row: Row, state: Any, scores: Scores) -> tf.Tensor:
        """The loss (n,) whose gradient at `state.x` is computed."""

    @staticmethod
    @abstractmethod
    def step(settings: Any, row: Row, state: Any, point: Point, best: Best) -> Any:
        """The next state, from the evaluation of `state.x` and the best counterfactual so far."""


@dataclass(frozen=True, kw_only=True)
class ArrayMethod(Method):
    """A method as one function on arrays, for example for baselines, latent-space methods and other libraries.

    Example of a complete module (an instance of `TowardsMean` is a method for `find_counterfactuals`):

        from dataclasses import dataclass

        import numpy as np

        from cfx import ArrayMethod, InputError


        @dataclass(frozen=True, kw_only=True)
        class TowardsMean(ArrayMethod):
            # The first counterfactual on the line to the mean of the likeliest target class.
            parts: int = 20  # how many points of the line are tried, 1 or above

            def __post_init__(self):
                super().__post_init__()
                if self.parts < 1:
                    raise InputError(f"parts must be 1 or above, got {self.parts}")

            def search(self, problem):
                aim = np.where(problem.target, problem.probabilities(problem.x), -1).argmax(axis=1)
                mean = np.array([problem.x_train[problem.y_train == label].mean(axis=0) for label in aim])
                found, is_left = problem.x.copy(), np.ones(len(problem.x), bool)
                for part in range(1, self.parts + 1):
                    points = (problem.x + part / self.parts * (mean - problem.x)).astype(np.float32)
                    is_met = is_left & problem.is_met(points)
                    found[is_met], is_left = points[is_met], is_left & ~is_met
                return found
    """

    @abstractmethod
    def search(self, problem: Problem) -> np.ndarray:
        """Counterfactuals (n, *shape) of the n instances of a problem; the instance itself if none is found."""


def _values(given: object) -> list[Any] | None:
    """The values of a per-row field, or None if it has one value for all rows."""
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
