"""A data set: its arrays, and what they are checked for and how they are scaled. TensorFlow is not required.

Inputs are float32, scaled to [-0.5, 0.5] by bounds that are known without the test split, and labels are integers
0..classes-1. `cfx.datasets` has the data sets that are known by name.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cfx.errors import InputError
from cfx.files import replacing

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NAMES = "class_names"
FEATURE_RANGE = (-0.5, 0.5)
Kind = Literal["numeric", "integer", "category"]
# The maximum length of a class name, for axes and captions.
NAME_LENGTH = 40
# The minimum share of the bounds that the inputs must span; less indicates wrong bounds.
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Feature:
    """A feature of a table: what a value of the scaled input means.

    Example: the feature "job=teacher" of the column "job", of the kind category, is 1 for teachers and 0 for others.
    """

    name: str
    kind: Kind
    low: float
    """The value that is scaled to -0.5, in its own units; 0 for a category."""
    high: float
    """The value that is scaled to 0.5, in its own units; 1 for a category."""
    column: str
    """The column of the table: the name, unless the feature is one of the column's categories."""


@dataclass(frozen=True)
class Dataset:
    """A data set with a training and a test split.

    x_train, x_test: (n, ...) float32 in [-0.5, 0.5]; images are (n, height, width, channels).
    y_train, y_test: (n,) int64 in 0..classes-1.
    class_names: one per class, or empty. features: those of a table, in order, or empty. Neither is saved with the
    arrays.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()

    @property
    def classes(self) -> int:
        """The number of classes; each has at least one training example."""
        return int(self.y_train.max()) + 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch axis."""
        return self.x_train.shape[1:]

    def arrays(self) -> dict[str, np.ndarray]:
        """The four arrays by name, in a fixed order."""
        return {name: getattr(self, name) for name in ARRAYS}

    def sha256(self) -> dict[str, str]:
        """The SHA-256 of each array's C-order bytes."""
        return {name: sha256(array) for name, array in self.arrays().items()}

    def save(self, path: str | Path) -> None:
        """Write the four arrays as an uncompressed .npz, atomically."""
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **self.arrays())

    @staticmethod
    def load(path: str | Path) -> Dataset:
        """Read a file that `save` wrote. Raises InputError if it is missing or damaged."""
        arrays: dict[str, Any] = dict(read_npz(path, ARRAYS))
        return Dataset(**arrays)


def npz(path: str | Path, bounds: tuple[float, float]) -> Dataset:
    """A custom data set from an .npz with x_train, y_train, x_test, y_test.

    x: (n, height, width), (n, height, width, channels) or (n, features); integers or floats inside `bounds`, which
    are scaled to [-0.5, 0.5]. y: (n,) integers 0..classes-1, every class in y_train. The array class_names is optional.
    Raises InputError with the name of the array if the file is invalid.
    """
    dataset = scaled(read_npz(path, ARRAYS), bounds, where=str(path))
    names = class_names(path)
    if names and len(names) != dataset.classes:
        raise InputError(f"{path}: {NAMES} has {len(names)} names for {dataset.classes} classes; give one per class")
    return replace(dataset, class_names=names)


def class_names(path: str | Path) -> tuple[str, ...]:
    """The array class_names of an .npz, text (classes,); empty if it does not exist.

    Raises InputError for names that cannot be displayed, are not distinct, or are `other` or `same`.
    """
    array = read_npz(path, (), (NAMES,)).get(NAMES)
    if array is None:
        return ()
    if array.dtype.kind != "U" or array.ndim != 1:
        what = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"{path}: {NAMES} is {what}; need text, one per class: numpy.array(['cat', 'dog'])")
    check_names(names := array.tolist(), f"{path}: {NAMES}")
    return tuple(names)


def check_names(names: list[str], where: str) -> None:
    """Raise InputError for class names that cannot be displayed, are not distinct, or are `other` or `same`."""
    for name in names:
        if not name.isprintable() or name != name.strip() or not 0 < len(name) <= NAME_LENGTH:
            need = f"need 1 to {NAME_LENGTH} printable characters without a space at an end"
            raise InputError(f"{where} holds {name[: NAME_LENGTH + 1]!r}; {need}")
        if name in ("other", "same"):
            raise InputError(f"{where} holds {name!r}, which as a target means something else; rename it")
        if name.isdigit() and name != str(names.index(name)):
            raise InputError(f"{where} holds {name!r}, which as a target means another class; rename it")
        if names.count(name) > 1:
            raise InputError(f"{where} holds {name!r} twice; each class needs a name of its own")


def stratified(
    y: np.ndarray, test_share: float, seed: int, kept: Sequence[int] | np.ndarray = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training and of the test split, which has this share of each class.

    y: (n,) integers; seed: random seed of the split; kept: rows that stay in the training split.
    """
    random = np.random.default_rng(seed)
    drawn = []
    for label in range(int(y.max()) + 1):
        members = np.flatnonzero(y == label)
        candidates = np.setdiff1d(members, kept)
        drawn.append(random.permutation(candidates)[: round(test_share * len(members))])
    test = random.permutation(np.concatenate(drawn))
    return random.permutation(np.setdiff1d(np.arange(len(y)), test)), test


def scaled(arrays: Mapping[str, np.ndarray], bounds: tuple[float, float], where: str = "data") -> Dataset:
    """Check the four arrays, scale the inputs from `bounds` to [-0.5, 0.5] and give images a channel axis."""
    low, high = bounds
    if not (np.isfinite([low, high, high - low]).all() and low < high):
        raise InputError(f"bounds=[{low}, {high}]: need two finite numbers, low < high")
    ready: dict[str, Any] = {}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        _check_inputs(x, f"x_{split}", bounds, where)
        if split == "train":
            _check_share(x, bounds, where)
        _check_labels(y, len(x), f"y_{split}", where)
        # in float64, because the bounds may be large
        share = (x.astype(np.float64) - low) / (high - low)
        ready[f"x_{split}"] = np.clip(share + FEATURE_RANGE[0], *FEATURE_RANGE).astype(np.float32)
        if x.ndim == 3:
            ready[f"x_{split}"] = ready[f"x_{split}"][..., np.newaxis]
        ready[f"y_{split}"] = y.astype(np.int64)
    dataset = Dataset(**ready)
    if dataset.x_train.shape[1:] != dataset.x_test.shape[1:]:
        shapes = f"{dataset.x_train.shape[1:]} and {dataset.x_test.shape[1:]}"
        raise InputError(f"{where}: x_train and x_test hold inputs of different shapes, {shapes}; make them equal")
    present = np.unique(dataset.y_train)
    if dataset.classes < 2 or len(present) < dataset.classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        absent = gaps[0] if len(gaps) else len(present)
        what = "there is only one class" if dataset.classes < 2 else f"class {absent} has no example"
        raise InputError(f"{where}: y_train must hold every class 0..classes-1, at least two, but {what}")
    if dataset.y_test.max() >= dataset.classes:
        raise InputError(f"{where}: y_test holds class {dataset.y_test.max()}, which y_train does not have")
    return dataset


def read_npz(path: str | Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Read the named arrays of an .npz without unpickling. Raises InputError if that is not possible.

    optional: arrays that may be missing.
    """
    try:
        # zipfile, because numpy also reads single arrays from other files
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            if absent := {f"{name}.npy" for name in names} - members:
                raise InputError(f"{path}: has no array {min(absent)[:-4]}; need an .npz with {', '.join(names)}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*names, *optional) if f"{name}.npy" in members}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give an .npz with {', '.join(ARRAYS)}") from None
    except InputError:
        raise
    # the exceptions for invalid archives; RuntimeError is raised for encryption and unknown compression
    except (OSError, EOFError, ValueError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: cannot be read as an .npz without pickle ({detail}); create it again with numpy.savez"
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: {name} is not an array in numpy's format; make the file with numpy.savez")
    return arrays


def sha256(array: np.ndarray) -> str:
    """The SHA-256 of an array's C-order bytes, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _check_inputs(x: np.ndarray, name: str, bounds: tuple[float, float], where: str) -> None:
    if x.dtype.kind not in "uif":
        raise InputError(f"{where}: {name} has dtype {x.dtype}; need integers or floats")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise InputError(
            f"{where}: {name} has shape {x.shape}; "
            "need (n, height, width), (n, height, width, channels) or (n, features)"
        )
    low, high = x.min(), x.max()
    if not np.isfinite([low, high]).all():
        raise InputError(f"{where}: {name} holds NaN or infinity; remove those rows")
    if low < bounds[0] or high > bounds[1]:
        raise InputError(
            f"{where}: {name} lies in [{low:g}, {high:g}], outside bounds={list(bounds)}; give bounds=[low,high]"
        )


def _check_share(x: np.ndarray, bounds: tuple[float, float], where: str) -> None:
    low, high = float(x.min()), float(x.max())
    # constant inputs do not indicate wrong bounds
    if low < high and high - low < _LEAST_SHARE * (bounds[1] - bounds[0]):
        raise InputError(
            f"{where}: x_train lies in [{low:g}, {high:g}], less than a hundredth of bounds={list(bounds)}; "
            f"give the least and the greatest value that a feature can have, such as bounds=[{low:g},{high:g}]"
        )


def _check_labels(y: np.ndarray, rows: int, name: str, where: str) -> None:
    if y.dtype.kind not in "ui" or y.shape != (rows,):
        raise InputError(f"{where}: {name} is {y.dtype} of shape {y.shape}; need {rows} integers, one for each input")
    if y.min() < 0:
        raise InputError(f"{where}: {name} holds the negative label {y.min()}; need classes 0, 1, 2, ...")
    if y.max() >= 2**31:
        raise InputError(f"{where}: {name} holds the label {y.max()}; need classes 0, 1, 2, ...")


def widened_range(x: np.ndarray) -> tuple[float, float]:
    """The feature range, widened to include the inputs x, which a method with another `feature_range` may give."""
    return (min(FEATURE_RANGE[0], float(np.min(x, initial=0))), max(FEATURE_RANGE[1], float(np.max(x, initial=0))))
