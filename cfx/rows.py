"""Check the arguments of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cfx.errors import InputError
from cfx.method import Method

if TYPE_CHECKING:
    from cfx.guides import Guides


@dataclass(frozen=True)
class Rows:
    """The checked arguments of a search with n rows."""

    method: Method
    x: np.ndarray
    """(n, *shape) float32, inside the feature range."""
    instance: np.ndarray
    """(n,), the caller's index of each instance."""
    target_class: np.ndarray
    """(n,) text, the target class: `other`, `same` or a class."""
    batch_size: int
    """The maximum number of rows per call of the model."""
    path_rows: int
    """The number of first rows whose path over lambda is kept."""
    progress: Callable[[int, int], None]
    """A function to call with (rows done, n)."""

    @property
    def probe(self) -> np.ndarray:
        """Instances to test a model with, at least one."""
        if len(self.x):
            return self.x[: self.batch_size]
        return np.zeros((1, *self.x.shape[1:]), np.float32) + self.method.feature_range[0]

    def of(self, field: str) -> np.ndarray:
        """A hyperparameter of the method for each row, (n,); NaN if the method does not have it."""
        value = getattr(self.method, field, np.nan)
        return np.array(value if isinstance(value, tuple) else [value] * len(self.x))

    def target(self, original_class: np.ndarray, classes: int) -> np.ndarray:
        """The target classes of each row, (n, classes) bool. Raises InputError for a class that does not exist."""
        each = np.arange(classes)
        target = np.empty((len(self.x), classes), bool)
        for text in np.unique(self.target_class):
            rows = self.target_class == text
            if text in ("other", "same"):
                target[rows] = (each == original_class[rows, None]) == (text == "same")
            elif int(text) < classes:
                target[rows] = each == int(text)
            else:
                raise InputError(f"target_class {text} does not exist: the model has the classes 0 to {classes - 1}")
        return target

    def repeated(self, times: int) -> Rows:
        """Every row `times` times, one after the other."""
        n = len(self.x)
        values = {field: getattr(self.method, field) for field in self.method.PER_ROW}
        per_row: dict[str, Any] = {
            field: tuple(one for one in value for _ in range(times)) if isinstance(value, tuple) else value
            for field, value in values.items()
        }
        return replace(
            self,
            method=replace(self.method, **per_row),
            x=np.repeat(self.x, times, axis=0),
            instance=np.repeat(self.instance, times),
            target_class=np.repeat(self.target_class, times),
            path_rows=self.path_rows * times,
            progress=lambda done, total: self.progress(done // times, n),
        )

    def is_met(self, probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Whether rows are counterfactuals, (n,) bool, from the model's probabilities (n, classes)."""
        f_target = np.where(target, probabilities, 0).max(axis=1)
        return np.abs(f_target - np.float32(self.method.target_proba)) <= self.method.tol


def asked(
    method: Method,
    x: np.ndarray,
    instances: Sequence[int] | np.ndarray | None,
    batch_size: int,
    path_rows: int,
    progress: Callable[[int, int], None] | None,
) -> Rows:
    """Check the arguments of `find_counterfactuals`. Raises InputError if they are inconsistent."""
    n = len(x)
    indices = np.arange(n) if instances is None else np.asarray(instances)
    if indices.shape != (n,):
        raise InputError(f"instances must be one index per row of x: got shape {indices.shape} for {n} rows")
    if batch_size < 1:
        raise InputError(f"batch_size must be >= 1, got {batch_size}: give the maximum number of rows per batch")
    if path_rows < 0:
        raise InputError(f"path_rows must be >= 0, got {path_rows}: give the number of rows that keep their path")
    for field in method.PER_ROW:
        value = getattr(method, field)
        if isinstance(value, tuple) and len(value) != n:
            raise InputError(
                f"{field} has {len(value)} values for {n} rows of x: give one for all rows, or one per row"
            )
    target = method.target_class
    texts = np.array(target if isinstance(target, tuple) else [target] * n).astype(str)
    report = progress or (lambda done, total: None)
    return Rows(method, x, indices, texts, batch_size, min(path_rows, n), report)


def guides_of(guides: Guides | None, method: Method, train: np.ndarray, classes: int) -> Guides | None:
    """The guides, if the method uses them. Raises InputError if they do not fit the training split and the classes."""
    if not method.guide_quantile:
        return None
    if guides is None:
        raise InputError(f"method {method.name} needs guides: give guides=cfx.guide_training.train(...)")
    if len(guides.labels) != len(train):
        raise InputError(
            f"guides were trained on {len(guides.labels)} instances, train has {len(train)}: give the same split"
        )
    if guides.classes != classes:
        raise InputError(f"guides have {guides.classes} classes, the model {classes}: give guides for the model's data")
    return guides


def instances_of(x: Any, method: Method) -> np.ndarray:
    """Convert x to float32 (n, *shape). Raises InputError unless it is a batch inside the method's feature range."""
    try:
        x = np.ascontiguousarray(x, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"x must be an array of numbers (n, *shape), got {type(x).__name__}") from None
    if x.ndim < 2:
        raise InputError(f"x must be a batch (n, *shape), got shape {x.shape}: for one instance give x[None]")
    low, high = (np.asarray(bound, np.float32) for bound in method.feature_range)
    for bound in (low, high):
        if bound.shape != x.shape[1:][x.ndim - 1 - bound.ndim :]:
            raise InputError(
                f"feature_range has shape {bound.shape}: give two numbers, or two arrays of shape {x.shape[1:]}"
            )
    outside = ~np.all((x >= low) & (x <= high), axis=tuple(range(1, x.ndim)))
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(
            f"row {row} of x goes from {x[row].min():g} to {x[row].max():g}, outside feature_range: "
            "scale x, or set feature_range to the range of x"
        )
    return x


def training_split(train: tuple[Any, Any] | None, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The training instances (m, *shape) float32 and their classes (m,); m is 0 if none are given.

    Raises InputError if their shapes or classes are inconsistent.
    """
    if train is None:
        return np.zeros((0, *shape), np.float32), np.zeros(0, int)
    try:
        x, y = np.ascontiguousarray(train[0], np.float32), np.asarray(train[1])
    except (TypeError, ValueError, IndexError, KeyError):
        raise InputError("train must be two arrays, (m, *shape) instances and (m,) classes") from None
    if x.shape[1:] != shape or y.shape != (len(x),):
        raise InputError(f"train has shapes {x.shape} and {y.shape}: give (m, {', '.join(map(str, shape))}) and (m,)")
    if not np.all(np.isfinite(x)):
        raise InputError("train has a number that is not finite: remove the instances that have one")
    return x, y
