"""What an experiment found, as numbers with their intervals: what a paper says and what a repetition is compared by.

A sweep over the seed of the training is a repetition: its numbers are medians over the seeds, with intervals over them.
Those of any other sweep are over its instances. Intervals hold 95 %, by the percentile bootstrap (Efron 1979).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from pipelines.tracking.content import MEASURES

REPEATED = "seed"
# Of what no measure says: comparisons between the two methods, and between seeds.
RATIO, SAME_CLASS, L1_RANGE = "l1_ratio", "same_class", "l1_range"
_RESAMPLES = 1000
_STATISTICS = {"median": np.median, "mean": np.mean}


class Finding(NamedTuple):
    """A number of an experiment."""

    setting: dict[str, Any]
    """The swept values that its counterfactuals share; empty for all of them."""
    measure: str
    """A measure of `projection.MEASURES`; `l1_ratio`, the median of primal_dual's L1 by Wachter's on the same
    instances; or over seeds `same_class`, the share of pairs of classifiers for which the counterfactuals of an
    instance have one class, and `l1_range`, the median of the greatest by the least L1 of an instance."""
    value: float
    low: float
    high: float
    """The 95 % interval of the value; NaN where one value is all there is."""
    n: int
    """How many values it is over: counterfactuals, or seeds."""
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as "method=wachter, target_class=1: l1"."""
        return f"{', '.join(f'{key}={value}' for key, value in self.setting.items()) or 'all'}: {self.measure}"


def of_experiment(table: pd.DataFrame, axes: Sequence[str]) -> list[Finding]:
    """The numbers of every point of a sweep, of every value of each of its axes, and of the whole.

    table: one row a counterfactual, as `tables.of_counterfactuals` gives it; axes: the columns that were swept.
    """
    settings = [axis for axis in axes if axis != REPEATED and table[axis].nunique() > 1]
    groups = dict.fromkeys([tuple(settings), *((axis,) for axis in settings), ()])
    return [
        finding
        for group in groups
        for setting, rows in _grouped(table, group)
        for finding in _of_setting(setting, rows, axes)
    ]


def frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row a number: setting, measure, value, low, high, n, cells."""
    rows = [finding._asdict() | {"setting": finding.name.partition(": ")[0]} for finding in findings]
    return pd.DataFrame(rows).assign(cells=[" ".join(finding.cells) for finding in findings])


def _grouped(table: pd.DataFrame, axes: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    if not axes:
        yield {}, table
        return
    for values, rows in table.groupby(list(axes), sort=False):
        yield dict(zip(axes, values if isinstance(values, tuple) else (values,), strict=True)), rows


def _of_setting(setting: dict[str, Any], rows: pd.DataFrame, axes: Sequence[str]) -> Iterator[Finding]:
    cells, is_repeated = tuple(dict.fromkeys(rows["cell"])), REPEATED in axes
    for measure in (measure for measure in MEASURES if measure.statistic in _STATISTICS):
        chosen = rows[rows["found"]] if measure.over == "found" else rows
        statistic = _STATISTICS[measure.statistic]
        values = chosen[measure.column].astype(float)
        if is_repeated:
            values = values.groupby(chosen[REPEATED]).agg(measure.statistic)
            statistic = np.median
        yield _finding(setting, measure.name, values.dropna().to_numpy(), statistic, cells)
    if "method" not in setting and rows["method"].nunique() == 2:
        yield _finding(setting, RATIO, _ratios(rows, _but("method", axes)), np.median, cells)
    if is_repeated:
        agreeing, ranges = _over_seeds(rows, _but(REPEATED, axes))
        yield _finding(setting, SAME_CLASS, agreeing, np.mean, cells)
        yield _finding(setting, L1_RANGE, ranges, np.median, cells)


def _finding(
    setting: dict[str, Any], measure: str, values: np.ndarray, statistic: Any, cells: tuple[str, ...]
) -> Finding:
    if not len(values):
        return Finding(setting, measure, np.nan, np.nan, np.nan, 0, cells)
    value = float(statistic(values))
    if len(values) == 1:
        return Finding(setting, measure, value, np.nan, np.nan, 1, cells)
    if np.ptp(values) == 0:
        return Finding(setting, measure, value, value, value, len(values), cells)
    interval = bootstrap(
        (values,), statistic, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Finding(setting, measure, value, float(interval.low), float(interval.high), len(values), cells)


def _ratios(rows: pd.DataFrame, key: list[str]) -> np.ndarray:
    """L1 of primal_dual by that of Wachter, for what both found and neither left unchanged."""
    found = rows[rows["found"] & (rows["l1"] > 0)]
    both = found.pivot(index=key, columns="method", values="l1").reindex(columns=["primal_dual", "wachter"]).dropna()
    return (both["primal_dual"] / both["wachter"]).to_numpy()


def _over_seeds(rows: pd.DataFrame, key: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each instance: the share of pairs of seeds that agree on the class, and the greatest by the least L1."""
    agreeing, ranges = [], []
    for _, found in rows[rows["found"] & (rows["l1"] > 0)].groupby(key):
        if len(found) > 1:
            agreeing.append(np.mean([one == other for one, other in itertools.combinations(found["cf_class"], 2)]))
            ranges.append(found["l1"].max() / found["l1"].min())
    return np.array(agreeing), np.array(ranges)


def _but(axis: str, axes: Sequence[str]) -> list[str]:
    """What tells the counterfactuals apart that differ in one axis."""
    return ["instance", *(other for other in axes if other != axis)]
