"""Methods compared on the same rows: mean ranks with a critical difference, paired tests, and ratios with intervals.

The tests are those of Demsar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7: Friedman's
test with Nemenyi's critical difference over all methods, and Wilcoxon's signed-rank test of two, with Holm's correction
for the number of pairs. Rows are taken as independent. A row that a method did not find ranks last, and is in no pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfx.charts import style
from cfx.palette import look

LEVEL = 0.05  # of the critical difference
# The number of resamples, and the maximum number of values that are resampled at once.
_RESAMPLES, _VALUES = 1000, 10**7
# The columns of `pairs`.
PAIRS = ("pairs", "wins", "median_ratio", "ratio_low", "ratio_high", "p_value", "p_holm")
# The x axes of `cost_figure`.
_COSTS = {"passes": "passes of the model a row", "runtime_s": "time a row, s"}


class Ranking(NamedTuple):
    """The mean ranks of methods."""

    ranks: pd.Series
    """The mean rank of each method, the best first; 1 is the best."""
    n: int
    """The number of rows."""
    statistic: float
    p: float
    """Friedman's chi-squared with its correction for ties, and its p value; NaN with two methods or only ties."""
    difference: float
    """Nemenyi's critical difference of two mean ranks at 5 %; NaN where there is no p value."""


def ranking(costs: pd.DataFrame) -> Ranking:
    """Rank the methods, where less is better.

    costs: one row per problem and one column per method; NaN if the method did not solve it. Equal costs, as those of
    several methods that did not solve a row, share the mean of their ranks.

    Example: `ranking(pd.DataFrame({"a": [1.0, 2.0, 1.0], "b": [2.0, 3.0, 3.0], "c": [3.0, 9.0, np.nan]})).ranks`
    """
    # imported here, because SciPy takes a third of a second
    from scipy.stats import friedmanchisquare, studentized_range

    ordered = costs.fillna(np.inf).rank(axis=1)
    n, count = ordered.shape
    statistic = p = difference = np.nan
    if count > 2 and (ordered.max(axis=1) > ordered.min(axis=1)).any():
        statistic, p = map(float, friedmanchisquare(*ordered.to_numpy().T))
        quantile = studentized_range.ppf(1 - LEVEL, count, np.inf) / np.sqrt(2)
        difference = float(quantile * np.sqrt(count * (count + 1) / (6 * n)))
    return Ranking(ordered.mean().sort_values(kind="stable"), n, statistic, p, difference)


def pairs(costs: pd.DataFrame, reference: Hashable) -> pd.DataFrame:
    """Compare each method with a reference, over the rows that both solved.

    costs: as in `ranking`, all above 0. Returns one row per other method, with the columns `PAIRS`: the number of
    pairs, of those in which the other method costs less, the median of its cost divided by the reference's with its
    95 % interval (percentile bootstrap), and the two-sided p value of Wilcoxon's test of the logarithm of this ratio,
    without and with Holm's correction. Zero differences are split between the signs. NaN without pairs.
    """
    others = [column for column in costs if column != reference]
    found = pd.DataFrame([_pair(costs[one] / costs[reference]) for one in others], index=others, columns=PAIRS[:-1])
    return found.assign(p_holm=_holm(found["p_value"].to_numpy(float)))


def _pair(ratios: pd.Series) -> tuple[float, ...]:
    from scipy.stats import bootstrap, wilcoxon

    values = ratios.dropna().to_numpy(float)
    if not len(values):
        return (0, 0, np.nan, np.nan, np.nan, np.nan)
    middle = low = high = float(np.median(values))
    p = 1.0
    if np.ptp(values) > 0:
        options = {"n_resamples": _RESAMPLES, "batch": max(1, _VALUES // len(values)), "method": "percentile"}
        drawn = bootstrap((values,), np.median, **options, rng=0)
        low, high = map(float, drawn.confidence_interval)
    if (values != 1).any():
        p = float(wilcoxon(np.log(values), zero_method="zsplit").pvalue)
    return (len(values), int((values < 1).sum()), middle, low, high, p)


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm 1979: the smallest of m p values times m, the next times m - 1, ..., each at least the one before."""
    order = np.argsort(p)[: np.isfinite(p).sum()]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def cliques(found: Ranking) -> list[tuple[int, int]]:
    """The groups of methods that do not differ: first and last position in `found.ranks`, of the largest groups."""
    ranks = found.ranks.to_numpy()
    ends = np.searchsorted(ranks, ranks + found.difference, side="right") - 1
    groups = [(first, int(last)) for first, last in enumerate(ends) if last > first]
    return [one for before, one in itertools.pairwise([(-1, -1), *groups]) if one[1] > before[1]]


def rank_figure(found: Ranking, labels: Sequence[str], methods: Sequence[str], ink: str) -> Figure:
    """The critical-difference diagram: the mean ranks, and a bar over each group of methods that do not differ.

    found: with a critical difference. labels, methods: the text and the method, which has a colour, of each of its
    ranks. ink: the colour of text and lines.
    """
    ranks, groups = found.ranks.to_numpy(), cliques(found)
    count, half, top = len(ranks), -(-len(ranks) // 2), 0.55 * len(groups) + 0.7
    figure = Figure(figsize=(9.6, 0.9 + 0.24 * (top + half)), layout="constrained")
    axes = figure.add_subplot(xlim=(0.7 - 0.55 * count, count + 0.3 + 0.55 * count), ylim=(-top - half, 1.4))
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color=ink, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.2], color=ink, linewidth=1)
        axes.text(rank, 0.3, str(rank), ha="center", color=ink, fontsize=8)
    for line, (first, last) in enumerate(groups):
        height = -0.55 * (line + 1)
        axes.plot([ranks[first], ranks[last]], [height, height], color=ink, linewidth=3, solid_capstyle="round")
    for position, (rank, label, method) in enumerate(zip(ranks, labels, methods, strict=True)):
        is_left = position < half
        height = -top - (position if is_left else count - 1 - position)
        colour, mark = look(method)
        end, side = (0.9, "right") if is_left else (count + 0.1, "left")
        axes.plot([rank, rank, end], [0, height, height], color=colour, linewidth=1)
        axes.plot(rank, 0, mark, color=colour, markersize=5, markeredgecolor=ink, zorder=3)
        text = f"{label}  {rank:.2f}" if is_left else f"{rank:.2f}  {label}"
        axes.text(end + (-0.05 if is_left else 0.05), height, text, ha=side, va="center", color=ink, fontsize=8)
    axes.plot([1, 1 + found.difference], [1.15, 1.15], "|-", color=ink, linewidth=1)
    text = f"critical difference {found.difference:.2f}"
    axes.text(1.1 + found.difference, 1.15, text, va="center", color=ink, fontsize=8)
    return figure


def cost_figure(points: pd.DataFrame, labels: Sequence[str], ink: str) -> Figure:
    """The L1 above the best known against the passes of the model and against the time.

    points: the columns `method`, `passes`, `runtime_s` and `l1_ratio`, the total L1 by that of the best known; a line
    connects those of a method. labels: the text of each point in the legend; a number beside the point refers to it.
    ink: the colour of text and lines.
    """
    # a column without a value may be absent
    points = points.reindex(columns=[*dict.fromkeys((*points, *_COSTS, "l1_ratio"))])
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    for axes, cost in zip(figure.subplots(1, 2, sharey=True), _COSTS, strict=True):
        axes.set(xscale="log", xlabel=_COSTS[cost])
        axes.set_yscale("symlog", linthresh=1)
        for method, x, y, numbers in _lines(points, cost):
            colour, mark = look(method)
            axes.plot(x, y, mark, linestyle="-", color=colour, linewidth=1, markersize=5.5, markeredgecolor=ink)
            _number(axes, x, y, numbers, ink)
        axes.set_ylim(bottom=-0.1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.grid(color=ink, alpha=0.15, linewidth=0.6)
        style(axes, ink)
    axes = figure.axes[0]
    axes.set_ylabel("total L1 above the best known")
    handles = [axes.plot([], [], look(str(one))[1], color=look(str(one))[0])[0] for one in points["method"]]
    texts = [f"{number}  {label}" for number, label in enumerate(labels, start=1)]
    figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False, labelcolor=ink, fontsize=8)
    return figure


def _lines(points: pd.DataFrame, cost: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[int]]]:
    """The points of each method from left to right, with their positions in the table from 1."""
    numbered = points.assign(number=range(1, len(points) + 1)).dropna(subset=[cost, "l1_ratio"]).sort_values(cost)
    for method, group in numbered.groupby("method", sort=False):
        above = 100 * (group["l1_ratio"].to_numpy(float) - 1)
        yield str(method), group[cost].to_numpy(float), above, group["number"].tolist()


def _number(axes: Axes, x: np.ndarray, y: np.ndarray, numbers: Sequence[int], ink: str) -> None:
    above: dict[str, Any] = {"xytext": (4, 5), "textcoords": "offset points", "fontsize": 8, "color": ink}
    for at, number in zip(zip(x, y, strict=True), numbers, strict=True):
        axes.annotate(str(number), at, **above)
