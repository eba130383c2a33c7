"""What a counterfactual changes in a table: its columns, and their values in their own units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from cfx.data import FEATURE_RANGE, Feature
from cfx.result import CHANGED, Result


class Change(NamedTuple):
    """The change of a column, or of one of its features if the counterfactual does not have exactly one category."""

    name: str
    before: str
    """The value of the instance: a number in its own units, or a category."""
    after: str
    size: float
    """The change as a share of the range, in [-1, 1]; 1 for another category."""

    def __str__(self) -> str:
        """The change as text, such as `age 31 → 42`."""
        return f"{self.name} {self.before} \N{RIGHTWARDS ARROW} {self.after}"


def changes(features: Sequence[Feature], instance: np.ndarray, x: np.ndarray) -> list[Change]:
    """The changed columns, the largest change first. Values that are displayed the same are left out.

    features: those of the table, in order; instance, x: (features,) the instance and its counterfactual, scaled.
    """
    found: list[Change] = []
    shares = np.stack([instance, x]).astype(float) - FEATURE_RANGE[0]
    start = 0
    for column, group in groupby(features, key=lambda feature: feature.column):
        of_column = tuple(group)
        part = shares[:, start : start + len(of_column)]
        start += len(of_column)
        before, after = (_category(of_column, values) for values in part)
        if before is None or after is None:
            found += _of_numbers(of_column, *part)
        elif before != after:
            found.append(Change(column, before, after, 1.0))
    return sorted(found, key=lambda change: -abs(change.size))


def of_result(features: Sequence[Feature], instances: np.ndarray, result: Result) -> list[list[Change]]:
    """The changes of each counterfactual found, without unchanged instances; instances: (n, features), scaled."""
    rows = np.flatnonzero(result.found & ~result.unchanged)
    return [changes(features, instances[row], result.x[row]) for row in rows]


def text(found: Iterable[Change]) -> str:
    """Changes as one line of text, such as `job clerk → teacher, age 31 → 42`."""
    return ", ".join(map(str, found))


def _category(features: Sequence[Feature], shares: np.ndarray) -> str | None:
    """The category in a column; None if it is a number, or if not exactly one category is 1 and the others are 0."""
    first = int(shares.argmax())
    one_hot = np.arange(len(shares)) == first
    if features[0].kind != "category" or np.abs(shares - one_hot).max() > CHANGED:
        return None
    return features[first].name.removeprefix(f"{features[0].column}=")


def _of_numbers(features: Sequence[Feature], before: np.ndarray, after: np.ndarray) -> Iterator[Change]:
    for feature, old, new in zip(features, before, after, strict=True):
        span = feature.high - feature.low
        shown_old, shown_new = number(feature, feature.low + old * span), number(feature, feature.low + new * span)
        if abs(new - old) > CHANGED and shown_old != shown_new:
            yield Change(feature.name, shown_old, shown_new, float(new - old))


def number(feature: Feature, value: float, sign: str = "") -> str:
    """A number in the units of a feature, with the decimals that a thousandth of its range needs.

    An integer has no decimals, unless it is not whole. sign: `+` shows the sign of a positive number as well.
    """
    span = feature.high - feature.low
    is_whole = feature.kind == "integer" and abs(value - round(value)) <= CHANGED * span
    decimals = 0 if is_whole else max(0, round(3 - np.log10(span)))
    # without the sign of a negative zero
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"
