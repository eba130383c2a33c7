"""The result of a search, with one row per instance, as arrays, as a table and as a file."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cfx.errors import InputError
from cfx.files import replacing

# A feature has changed if it moved by more than this, in units of the input.
CHANGED = 1e-3
# The columns of `Result.frame`.
COLUMNS = tuple(
    [
        "method",
        "lam_init",
        "learning_rate",
        "target_class",
        "instance",
        "place",
        "original_class",
        "cf_class",
        "probability",
        "found",
        "unchanged",
        "plausible",
        "anchor",
        "l1",
        "l2",
        "l0",
        "weighted_l1",
        "lam",
        "runtime_s",
        "iterations",
    ]
)


@dataclass(frozen=True)
class LambdaPath:
    """The first counterfactual found at each lambda, for the first rows of a search: k points, by row, then by step."""

    row: np.ndarray
    """(k,) the row of the result that a point belongs to."""
    step: np.ndarray
    """(k,) the position of its lambda in the search, from 0."""
    x: np.ndarray
    """(k, *shape) float32."""
    lam: np.ndarray
    """(k,) the lambda at which it was found."""
    probability: np.ndarray
    """(k,) of `cf_class`."""
    cf_class: np.ndarray
    """(k,) the class that the model predicts."""
    l1: np.ndarray
    """(k,) distance from the instance."""


class Outcome(NamedTuple):
    """The result of a method for n rows, before the model confirms it."""

    x: np.ndarray
    """(n, *shape) float32, inside the feature range; the instance where nothing was found."""
    lam: np.ndarray
    """(n,) as in `Result`, as are the others."""
    iterations: np.ndarray
    runtime_s: np.ndarray
    """(n,) the time of the search alone."""
    path: LambdaPath
    anchor: np.ndarray
    """(n,) as in `Result`."""
    untimed_s: float = 0.0
    """What it took to build graphs, which later searches use again: it counts in the time of no row."""


@dataclass(frozen=True)
class Result:
    """The counterfactuals of n instances. If a row is not `found`, its `x` is the instance itself."""

    method: str
    """Its name."""
    x: np.ndarray
    """(n, *shape) float32, inside the feature range."""
    found: np.ndarray
    """(n,) bool: |f_t(x') - target_proba| <= tol, by the caller's own model in float32."""
    unchanged: np.ndarray
    """(n,) bool: the instance already was a counterfactual, so no step was taken; `found` is true as well."""
    plausible: np.ndarray
    """(n,) float: 1 if the guides agree with `cf_class`, 0 if not; NaN if the method uses none or found nothing."""
    anchor: np.ndarray
    """(n,) the index of the training instance that the search used as its first counterfactual; -1 if there is none."""
    probability: np.ndarray
    """(n,) of `cf_class`."""
    cf_class: np.ndarray
    """(n,) the class that the model predicts for `x`."""
    original_class: np.ndarray
    """(n,) the class that the model predicts for the instance."""
    target_class: np.ndarray
    """(n,) text, as passed by the caller: `other`, `same` or a class."""
    instance: np.ndarray
    """(n,) the caller's index of the instance."""
    place: np.ndarray
    """(n,) int, 1 for the nearest counterfactual of an instance, 2, 3, ... for the others if several are asked for."""
    l1: np.ndarray
    """(n,) the sum of the absolute changes."""
    l2: np.ndarray
    """(n,) the Euclidean length of the change."""
    l0: np.ndarray
    """(n,) the number of features changed by more than 1e-3."""
    weighted_l1: np.ndarray
    """(n,) the cost of the changes by `Constraints.scale`, which the search minimises: `l1` for "unit"."""
    lam: np.ndarray
    """(n,) the weight of the L1 distance at which `x` was found; NaN if no step found it."""
    lam_init: np.ndarray
    """(n,) the hyperparameter; NaN if the method does not have it."""
    learning_rate: np.ndarray
    """(n,) the hyperparameter; NaN if the method does not have it."""
    iterations: np.ndarray
    """(n,) steps taken, one forward and one gradient pass each; 0 where the instance already was a counterfactual. For
    an array method, the number of inputs evaluated by the model, divided by the number of rows and rounded up."""
    runtime_s: np.ndarray
    """(n,) the row's share of the wall time of its batch, in seconds; the rows add up to the whole search."""
    path: LambdaPath
    """The evolution over lambda of the first `path_rows` rows; without points for an array method."""

    def frame(self) -> pd.DataFrame:
        """One row per instance, with the columns `COLUMNS`."""
        table = pd.DataFrame({column: getattr(self, column) for column in COLUMNS if column != "method"})
        table.insert(0, "method", self.method)
        return table.astype({"method": "str", "target_class": "str"})

    def take(self, rows: Sequence[int] | np.ndarray) -> "Result":
        """The result of these rows alone, in this order, with their paths."""
        rows = np.asarray(rows)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {name: value[rows] for name, value in values.items() if name not in ("method", "path")}
        points = [np.flatnonzero(self.path.row == row) for row in rows]
        kept = np.concatenate([np.zeros(0, int), *points])
        path = {field.name: getattr(self.path, field.name)[kept] for field in fields(LambdaPath)}
        path["row"] = np.repeat(np.arange(len(rows)), [len(point) for point in points])
        return Result(**taken, method=self.method, path=LambdaPath(**path))

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file without pickle. The file is replaced atomically."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "path"}
        arrays |= {f"path_{field.name}": getattr(self.path, field.name) for field in fields(LambdaPath)}
        with replacing(Path(path)) as new, new.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Result":
        """Read what `save` wrote. Raises InputError where the file is not a complete result."""
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays: dict[str, Any] = dict(file)
            evolution = LambdaPath(**{field.name: arrays.pop(f"path_{field.name}") for field in fields(LambdaPath)})
            return cls(**arrays | {"method": str(arrays["method"]), "path": evolution})
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a saved result ({error}): remove it and search again") from error


def no_path(shape: tuple[int, ...]) -> LambdaPath:
    """The path of a method that has none, for instances of this shape."""
    none = np.zeros(0, np.float32)
    whole = none.astype(int)
    return LambdaPath(whole, whole, np.zeros((0, *shape), np.float32), none, none, whole, none)


def no_anchors(count: int) -> np.ndarray:
    """The anchors of rows that have none."""
    return np.full(count, -1)


def distances(x: np.ndarray, instances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L1, L2 and L0 (changes above 1e-3), (n,) each, between x and instances (n, *shape), summed in float64."""
    change = np.abs(np.asarray(x, np.float64) - instances)
    features = tuple(range(1, change.ndim))
    return change.sum(features), np.sqrt(np.square(change).sum(features)), (change > CHANGED).sum(features)
