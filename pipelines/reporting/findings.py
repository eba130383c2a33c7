"""The results of an experiment as numbers with 95 % intervals by the percentile bootstrap (Efron 1979).

In a sweep over the training seed, the numbers are medians over the seeds; in any other sweep, they are statistics over
the instances. Rows whose instance already is in the target class are excluded and counted separately.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from pipelines.cells import measures
from pipelines.reporting.tables import REPEATED

# Comparisons between methods and between seeds; see `Finding.measure`.
RATIO, SAME_CLASS, L1_RANGE = "l1_ratio", "same_class", "l1_range"
_RESAMPLES = 1000
_STATISTICS = {"median": np.median, "mean": np.mean}


class Finding(NamedTuple):
    """One result of an experiment."""

    setting: dict[str, Any]
    """The values of the axes that its counterfactuals share; NaN if their method does not have the hyperparameter."""
    measure: str
    """A measure of `measures.MEASURES`; `l1_ratio`, the median of the L1 of a method divided by that of the first
    method of the sweep, for instances where both found a counterfactual; or over seeds, `same_class`, the share of
    pairs of classifiers whose counterfactuals of an instance have the same class, and `l1_range`, the median of the
    greatest L1 of an instance divided by its least."""
    value: float
    low: float
    high: float
    """The limits of the interval; NaN if there is only one value."""
    n: int
    """The number of values: counterfactuals, or seeds."""
    searched: int
    """The number of searches."""
    unchanged: int
    """The number of rows excluded because their instance already is in the target class."""
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as "method=wachter, target_class=1: l1"."""
        # without NaN, which is not equal to itself
        values = {key: value for key, value in self.setting.items() if value == value}
        return f"{', '.join(f'{key}={value}' for key, value in values.items()) or 'all'}: {self.measure}"


def of_experiment(table: pd.DataFrame, axes: Sequence[str]) -> list[Finding]:
    """The results for each point of a sweep, for each value of each axis, and for the whole sweep.

    table: the result of `tables.of_counterfactuals`; axes: the columns of the axes.
    """
    settings = [axis for axis in axes if axis != REPEATED and table[axis].nunique(dropna=False) > 1]
    groups = dict.fromkeys([tuple(settings), *((axis,) for axis in settings), ()])
    methods = table["method"].unique().tolist()
    found: dict[str, Finding] = {}
    for group in groups:
        for setting, rows in _grouped(table, group):
            for finding in (*_of_setting(setting, rows, axes), *_against_first(setting, rows, axes, methods)):
                # a method without the other axes has the same result for its only point and for the method
                found.setdefault(finding.name, finding)
    return list(found.values())


def frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """The results as a table: setting, measure, value, low, high, n, searched, unchanged, cells."""
    rows = [finding._asdict() | {"setting": finding.name.partition(": ")[0]} for finding in findings]
    return pd.DataFrame(rows).assign(cells=[" ".join(finding.cells) for finding in findings])


def _grouped(table: pd.DataFrame, axes: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    if not axes:
        yield {}, table
        return
    for values, rows in table.groupby(list(axes), sort=False, dropna=len(axes) == 1):
        yield dict(zip(axes, tuple(values), strict=True)), rows


def _of_setting(setting: dict[str, Any], rows: pd.DataFrame, axes: Sequence[str]) -> Iterator[Finding]:
    is_repeated = REPEATED in axes
    for measure in (measure for measure in measures.MEASURES if measure.statistic in _STATISTICS):
        chosen = measures.rows(rows, measure.over)
        statistic = _STATISTICS[measure.statistic]
        values = chosen[measure.column].astype(float)
        if is_repeated:
            values = values.groupby(chosen[REPEATED]).agg(measure.statistic)
            statistic = np.median
        yield _finding(setting, measure.name, values.dropna().to_numpy(), statistic, rows)
    if is_repeated:
        agreeing, ranges = _over_seeds(rows, _keys(REPEATED, axes))
        yield _finding(setting, SAME_CLASS, agreeing, np.mean, rows)
        yield _finding(setting, L1_RANGE, ranges, np.median, rows)


def _against_first(
    setting: dict[str, Any], rows: pd.DataFrame, axes: Sequence[str], methods: Sequence[str]
) -> Iterator[Finding]:
    """The ratio of each other method to the first; with two methods, the setting does not contain the method."""
    if "method" in setting:
        return
    found = dict(list(measures.rows(rows, "found").groupby("method")))
    empty = rows[:0]
    for method in methods[1:]:
        ratios = _ratios(found.get(method, empty), found.get(methods[0], empty), _keys("method", axes))
        named = setting if len(methods) == 2 else setting | {"method": method}
        yield _finding(named, RATIO, ratios, np.median, rows[rows["method"].isin([method, methods[0]])])


def _finding(setting: dict[str, Any], measure: str, values: np.ndarray, statistic: Any, rows: pd.DataFrame) -> Finding:
    """rows: all rows of the setting, including unchanged ones."""
    value, low, high = float(statistic(values)) if len(values) else np.nan, np.nan, np.nan
    if len(values) > 1:
        low = high = value
        if np.ptp(values) > 0:
            rng = np.random.default_rng(0)
            drawn = bootstrap((values,), statistic, n_resamples=_RESAMPLES, method="percentile", rng=rng)
            low, high = map(float, drawn.confidence_interval)
    unchanged, cells = int(rows["unchanged"].sum()), tuple(dict.fromkeys(rows["cell"]))
    return Finding(setting, measure, value, low, high, len(values), len(rows) - unchanged, unchanged, cells)


def _ratios(found: pd.DataFrame, first: pd.DataFrame, key: list[str]) -> np.ndarray:
    """The L1 of a method divided by that of the first, for equal instances and values of the axes that both have."""
    shared = [axis for axis in key if found[axis].notna().all() and first[axis].notna().all()]
    both = first[[*shared, "l1"]].merge(found[[*shared, "l1"]], on=shared, suffixes=("_first", ""))
    return (both["l1"] / both["l1_first"]).to_numpy(float)


def _over_seeds(rows: pd.DataFrame, key: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each instance: the share of pairs of seeds with the same class, and the ratio of greatest to least L1."""
    agreeing, ranges = [], []
    for _, found in measures.rows(rows, "found").groupby(key, dropna=False):
        if len(found) > 1:
            agreeing.append(np.mean([one == other for one, other in itertools.combinations(found["cf_class"], 2)]))
            ranges.append(found["l1"].max() / found["l1"].min())
    return np.array(agreeing), np.array(ranges)


def _keys(axis: str, axes: Sequence[str]) -> list[str]:
    """The columns that identify a counterfactual, without one axis."""
    return ["instance", *(other for other in axes if other != axis)]
