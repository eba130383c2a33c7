"""The measures that compare cells, sweeps and reports, and the counterfactuals that each one includes.

If an instance already satisfies its target, its counterfactual takes no step, has an L1 of 0 and says nothing about the
method. Its row is marked `unchanged` and excluded from every measure except the totals; each summary states the number
of excluded rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd


class Measure(NamedTuple):
    """A number that compares cells and sweeps; for a cell with one instance, it is the value of its counterfactual."""

    name: str
    """MLflow groups charts by the part before the slash, and its compare page starts with the first name."""
    column: str
    """The column in the table of counterfactuals."""
    title: str
    """The title in tables and on chart axes."""
    statistic: str
    """`median`, `mean` or `sum`."""
    over: str
    """`found`: the counterfactuals found; `searched`: all rows but those unchanged; `all`: those too."""
    meaning: str


MEASURES = (
    Measure("l1", "l1", "L1", "median", "found", "distance from the instance, the sum of the absolute changes"),
    Measure(
        "probability", "probability", "probability", "median", "found", "the classifier's probability of its class"
    ),
    Measure("runtime_s", "runtime_s", "runtime, s", "median", "searched", "seconds, the share of its batch"),
    Measure(
        "validity", "found", "share found", "mean", "searched", "share of the instances that have a counterfactual"
    ),
    Measure(
        "quality/agreement",
        "agreement",
        "agreement",
        "mean",
        "found",
        "share of the five judges that predict its class",
    ),
    Measure("quality/majority", "majority", "majority", "mean", "found", "share whose class most judges predict"),
    Measure("quality/oracle", "oracle", "oracle", "mean", "found", "share whose class the first judge predicts"),
    Measure(
        "quality/im1", "im1", "IM1", "median", "found", "below 1: closer to its new class than to its original one"
    ),
    Measure("quality/im2", "im2", "IM2", "median", "found", "near 0: its class alone describes it as well as all data"),
    Measure(
        "quality/neighbour_distance",
        "neighbour_distance",
        "neighbour distance",
        "median",
        "found",
        "L1 to the nearest training instance of its class; 1 is usual for real instances",
    ),
    Measure(
        "quality/outlier_factor",
        "outlier_factor",
        "outlier factor",
        "median",
        "found",
        "local outlier factor in its class; 1 is typical",
    ),
    Measure(
        "quality/denoising_error",
        "denoising_error",
        "denoising error",
        "median",
        "found",
        "root mean square of what a denoising autoencoder changes",
    ),
    Measure(
        "quality/noise_stability",
        "noise_stability",
        "noise stability",
        "mean",
        "found",
        "share of noisy copies that the classifier puts into its class",
    ),
    Measure(
        "quality/seed_stability",
        "seed_stability",
        "seed stability",
        "mean",
        "found",
        "share of the classifiers of other seeds that predict its class",
    ),
    Measure("quality/components", "components", "regions", "median", "found", "connected regions of changed pixels"),
    Measure(
        "quality/diversity",
        "diversity",
        "diversity",
        "mean",
        "found",
        "L1 to the other counterfactuals of its instance",
    ),
    Measure(
        "quality/diversity_l0",
        "diversity_l0",
        "diversity L0",
        "mean",
        "found",
        "features that differ from the other counterfactuals of its instance",
    ),
    Measure(
        "quality/weighted_l1",
        "weighted_l1",
        "weighted L1",
        "median",
        "found",
        "cost of the changes by constraints.scale",
    ),
    Measure("quality/l2", "l2", "L2", "median", "found", "Euclidean length of the change"),
    Measure("quality/l0", "l0", "L0", "median", "found", "features changed by more than 0.001"),
    Measure("search/iterations", "iterations", "iterations", "median", "searched", "inputs given to the classifier"),
    Measure("search/lam", "lam", "λ", "median", "found", "weight of the L1 distance at which it was met"),
    Measure("search/runtime_s_total", "runtime_s", "runtime, s", "sum", "all", "seconds for all rows together"),
    Measure("search/unchanged", "unchanged", "unchanged", "sum", "all", "left out: already in the target class"),
)


def title(column: str) -> str:
    """What a column is called at the head of a table or at the axis of a chart."""
    return next(measure.title for measure in MEASURES if measure.column == column)


def changed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that count: all but those whose instance already was in its target class."""
    return table[~table["unchanged"].astype(bool)]


def rows(table: pd.DataFrame, over: str) -> pd.DataFrame:
    """The rows that a measure is taken over: `found`, `searched` or `all`, as `Measure.over` says."""
    if over == "all":
        return table
    counted = changed(table)
    return counted[counted["found"].astype(bool)] if over == "found" else counted


def values(table: pd.DataFrame) -> dict[str, float]:
    """The measures of rows of counterfactuals.parquet by their names, without those that no row has a value for."""
    over = {name: rows(table, name) for name in ("found", "searched", "all")}
    found = {
        one.name: float(over[one.over][one.column].astype(float).agg(one.statistic))
        for one in MEASURES
        if one.column in table
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def left_out(count: int) -> str:
    """What a summary says of the rows that it leaves out; empty where there are none."""
    if not count:
        return ""
    many, whose = (f"{count:,} rows were", "their") if count > 1 else ("1 row was", "its")
    return f"{many} left out: {whose} instance already is in the target class"
