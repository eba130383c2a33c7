"""A table of numbers and categories as a data set: a schema names the columns, and the training split fixes the scale.

Numbers are scaled by their bounds and categories are one-hot coded, so that every feature is in [-0.5, 0.5].
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cfx.data import Dataset, Feature, Kind, check_names, scaled, stratified
from cfx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# The maximum number of categories of a column; more indicate an identifier or free text.
_MOST_CATEGORIES = 200


@dataclass(frozen=True)
class Column:
    """A column of a table that the classifier uses. Raises InputError for bounds or categories that do not fit."""

    name: str
    kind: Kind
    bounds: tuple[float, float] | None = None
    """The values of a number that are scaled to -0.5 and 0.5; None: the extremes of the training split."""
    categories: tuple[str, ...] | None = None
    """The categories in the order of their features; None: those of the table, sorted."""

    def __post_init__(self) -> None:
        """Check the bounds and the categories."""
        if self.bounds is not None:
            low, high = self.bounds
            is_whole = self.kind != "integer" or (low == np.round(low) and high == np.round(high))
            if self.kind == "category" or not (np.isfinite(high - low) and low < high and is_whole):
                need = "two numbers, low < high, of a numeric column, or two whole ones of an integer column"
                raise InputError(f"the column {self.name!r} has the bounds [{low:g}, {high:g}]; need {need}")
        if self.categories is not None:
            is_distinct = len(set(self.categories)) == len(self.categories) > 1
            if self.kind != "category" or not is_distinct:
                need = "two or more, all different, of a column of the kind category"
                raise InputError(f"the column {self.name!r} has the categories {list(self.categories)}; need {need}")


@dataclass(frozen=True)
class Schema:
    """The columns of a table. Raises InputError if one is named twice.

    Example: Schema("repaid", (Column("income", "numeric"), Column("age", "integer"), Column("job", "category")))
    """

    target: str
    """The column with the class. The classes are its values, sorted."""
    columns: tuple[Column, ...]
    """The columns that the classifier uses, in the order of the features."""
    split: str | None = None
    """A column that holds `train` or `test`; None: a stratified split is drawn."""

    def __post_init__(self) -> None:
        """Check that each column is named once."""
        names = self.names
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"the column {repeated!r} is named twice; each has one use as target, split or feature")
        if not self.columns:
            raise InputError("columns is empty; name the columns that the classifier uses, each with its kind")

    @property
    def names(self) -> list[str]:
        """The names of all columns that are read."""
        return [self.target, *([self.split] if self.split else []), *(column.name for column in self.columns)]


def read(path: Path, file_format: Literal["csv", "parquet"], schema: Schema) -> pd.DataFrame:
    """The columns of a schema in a CSV file with a header, where all but numbers are text, or in a Parquet file.

    Raises InputError for a file that cannot be read or does not have the columns.
    """
    # imported here, because the schema is part of the configuration, which is checked without pandas
    import pandas as pd

    try:
        if file_format == "parquet":
            frame = pd.read_parquet(path)
        else:
            numbers = {column.name for column in schema.columns if column.kind != "category"}
            texts = {name: "str" for name in schema.names if name not in numbers}
            with warnings.catch_warnings():
                # pandas would drop the last fields of rows that are longer than the header
                warnings.simplefilter("error", pd.errors.ParserWarning)
                # NA and None may be categories
                frame = pd.read_csv(
                    path, dtype=texts, keep_default_na=False, skipinitialspace=True, index_col=False, low_memory=False
                )
    # pandas and pyarrow raise subclasses of OSError and ValueError for files that they cannot read
    except (OSError, ValueError, MemoryError, pd.errors.ParserWarning) as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: cannot be read as {file_format} ({detail})") from error
    if absent := [name for name in schema.names if name not in frame]:
        raise InputError(f"{path}: has no column {absent[0]!r}; it has {', '.join(map(repr, frame.columns[:20]))}")
    if not len(frame):
        raise InputError(f"{path}: has no rows")
    return frame[schema.names]


def class_names(target: pd.Series, where: str = "table") -> tuple[str, ...]:
    """The values of a column as class names, in the order of the labels; where: what an error calls the table."""
    return _classes(target, where)[0]


def dataset(frame: pd.DataFrame, schema: Schema, test_share: float, seed: int, where: str = "table") -> Dataset:
    """The data set in a table. Raises InputError for a table that is not as the schema says.

    test_share: the share of each class in the test split, above 0 and below 1; seed: random seed of the split; both
    without effect if the schema names a column with the split. where: what an error calls the table.

    A drawn test split has no row with the least or greatest value of a column without bounds, or with the first value
    of a category, so that all of its values are known from the training split.
    """
    names, y = _classes(frame[schema.target], where)
    values = {column.name: _values(frame[column.name], column, where) for column in schema.columns}
    if schema.split is None:
        kept = [int(row) for column in schema.columns for row in _extremes(values[column.name], column)]
        train, test = stratified(y, test_share, seed, kept)
        if not len(test):
            raise InputError(f"{where}: a test split of {test_share:.0%} of {len(y)} rows is empty; give more rows")
    else:
        train, test = _given_split(frame[schema.split], where)
    if len(absent := np.setdiff1d(y, y[train])):
        raise InputError(f"{where}: the training split has no row of the class {names[absent[0]]!r}; add some")
    coded = [_coded(values[column.name], column, train, where) for column in schema.columns]
    x = np.concatenate([shares for shares, _ in coded], axis=1)
    arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    features = tuple(feature for _, features in coded for feature in features)
    return replace(scaled(arrays, (0, 1), where), class_names=names, features=features)


def _classes(target: pd.Series, where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The class names, and the class of each row."""
    texts = _texts(target, where)
    names = tuple(_sorted(texts.unique()))
    if len(names) < 2:
        raise InputError(f"{where}: the target {target.name!r} holds only {names[0]!r}; need at least two classes")
    if len(names) > _MOST_CATEGORIES:
        raise InputError(f"{where}: the target {target.name!r} holds {len(names):,} values; need a few classes")
    check_names(list(names), f"{where}: the target {target.name!r}")
    return names, texts.map({name: label for label, name in enumerate(names)}).to_numpy(np.int64)


def _values(values: pd.Series, column: Column, where: str) -> np.ndarray:
    """The values of a column, (n,) numbers or text."""
    import pandas as pd

    if column.kind == "category":
        return _texts(values, where).to_numpy(object)
    numbers = values if values.dtype.kind in "iuf" else pd.to_numeric(values.astype("str"), errors="coerce")
    found = numbers.to_numpy(np.float64, na_value=np.nan)
    if len(wrong := np.flatnonzero(~np.isfinite(found))):
        _check_present(values, where)
        value = f"{str(values.iloc[wrong[0]])!r}{_at(wrong)}"
        raise InputError(f"{where}: the column {column.name!r} holds {value}; give a number, or the kind category")
    if column.kind == "integer" and len(wrong := np.flatnonzero(found != np.round(found))):
        value = f"{found[wrong[0]]:g}{_at(wrong)}"
        raise InputError(f"{where}: the column {column.name!r} holds {value}, no integer; use the kind numeric")
    return found


def _texts(values: pd.Series, where: str) -> pd.Series:
    _check_present(values, where)
    return values.astype("str")


def _check_present(values: pd.Series, where: str) -> None:
    missing = np.flatnonzero(values.isna() | (values.astype("str").str.strip() == ""))
    if len(missing):
        count = f"{len(missing)} row{'s' * (len(missing) > 1)}"
        raise InputError(
            f"{where}: the column {values.name!r} has no value in {count}, first{_at(missing)}; "
            "remove the rows or fill them in"
        )


def _given_split(column: pd.Series, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training and of the test split."""
    splits = _texts(column, where).to_numpy(object)
    if len(wrong := np.flatnonzero(~np.isin(splits, ["train", "test"]))):
        value = f"{splits[wrong[0]]!r}{_at(wrong)}"
        raise InputError(f"{where}: the column {column.name!r} holds {value}; the split needs train or test")
    train, test = (np.flatnonzero(splits == split) for split in ("train", "test"))
    if not len(train) or not len(test):
        raise InputError(f"{where}: the column {column.name!r} needs rows of both splits, train and test")
    return train, test


def _extremes(values: np.ndarray, column: Column) -> Iterable[np.intp]:
    """The rows whose values a test split would have to know from the training split."""
    if column.kind == "category":
        return [] if column.categories else np.unique(values.astype("U"), return_index=True)[1]
    return [] if column.bounds else (values.argmin(), values.argmax())


def _coded(values: np.ndarray, column: Column, train: np.ndarray, where: str) -> tuple[np.ndarray, list[Feature]]:
    """The features of a column, and their values as shares of the bounds, (n, features)."""
    name, of_train = column.name, values[train]
    if column.kind == "category":
        categories = column.categories or tuple(_sorted(set(of_train)))
        if not 2 <= len(categories) <= _MOST_CATEGORIES:
            raise InputError(
                f"{where}: the number of categories in the column {name!r} is {len(categories):,}; need 2 to "
                f"{_MOST_CATEGORIES}; leave the column out or merge the rare categories"
            )
        if len(wrong := np.flatnonzero(~np.isin(values, categories))):
            known = "its categories in the schema" if column.categories else "the training split"
            value = f"{values[wrong[0]]!r}{_at(wrong)}"
            raise InputError(
                f"{where}: the column {name!r} holds {value}, which is not in {known}; give categories that include it"
            )
        features = [Feature(f"{name}={category}", "category", 0.0, 1.0, name) for category in categories]
        return (values[:, None] == np.array(categories, object)).astype(np.float64), features
    low, high = column.bounds or (of_train.min(), of_train.max())
    if low == high:
        raise InputError(f"{where}: the column {name!r} holds only {low:g} in the training split; leave it out")
    if len(wrong := np.flatnonzero((values < low) | (values > high))):
        bounds = "its bounds" if column.bounds else "those of the training split; give bounds that include it"
        value = f"{values[wrong[0]]:g}{_at(wrong)}"
        raise InputError(f"{where}: the column {name!r} holds {value}, outside [{low:g}, {high:g}], {bounds}")
    return ((values - low) / (high - low))[:, None], [Feature(name, column.kind, float(low), float(high), name)]


def _sorted(texts: Iterable[str]) -> list[str]:
    """Texts in alphabetical order, with numbers by value."""
    return sorted(texts, key=lambda text: (int(text) if text.isdecimal() else -1, text))


def _at(rows: np.ndarray) -> str:
    """The first of some rows, as an error names it: from 1, without the header."""
    return f" in row {rows[0] + 1}"
