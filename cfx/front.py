"""The trade-off between near and plausible: methods as points, and the front of the points that no other one dominates.

A point dominates another one if it is at least as near and at least as plausible, and better in one of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfx.charts import style
from cfx.palette import look

_STATISTICS: dict[str, Callable[[np.ndarray], np.floating[Any]]] = {
    "l1": np.mean,
    "agreement": np.mean,
    "im1": np.median,
}
_TITLES = {"l1": "mean L1", "agreement": "mean agreement of the judges", "im1": "median IM1"}
# The number of resamples, and the maximum number of values that are resampled at once.
_RESAMPLES, _VALUES = 1000, 10**7


def points(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One row for each group of counterfactuals, in the order of their first rows.

    table: one row per search, with the columns `by`, `found` (bool), `l1`, `agreement` and `im1`.

    Returns the columns `by`, `n`, the number found, `share_found`, the means `l1` and `agreement` and the median `im1`
    of those found, each with its 95 % interval (percentile bootstrap) as `<measure>_low` and `<measure>_high`, and
    `is_dominated`: whether another group has at most the L1 and at least the agreement, and is better in one of them.
    A group without a counterfactual is left out.
    """
    groups = table.groupby(list(by), sort=False, dropna=False)
    found = [dict(zip(by, key, strict=True)) | _point(group) for key, group in groups if group["found"].any()]
    return pd.DataFrame(found).assign(
        is_dominated=lambda point: _is_dominated(point["l1"], -point["agreement"]) if len(point) else []
    )


def _point(group: pd.DataFrame) -> dict[str, float]:
    # imported here, because SciPy takes a third of a second
    from scipy.stats import bootstrap

    found = group[group["found"]]
    point: dict[str, float] = {"n": len(found), "share_found": len(found) / len(group)}
    for measure, statistic in _STATISTICS.items():
        values = found[measure].dropna().to_numpy(float)
        low = high = point[measure] = float(statistic(values)) if len(values) else np.nan
        if len(values) > 1:
            options = {"n_resamples": _RESAMPLES, "batch": max(1, _VALUES // len(values)), "method": "percentile"}
            low, high = bootstrap((values,), statistic, **options, rng=0).confidence_interval
        point |= {f"{measure}_low": float(low), f"{measure}_high": float(high)}
    return point


def _is_dominated(*costs: pd.Series) -> list[bool]:
    """Whether another point costs no more in anything and less in something."""
    at = np.stack(costs, axis=1)
    return [bool(np.any((at <= one).all(axis=1) & (at < one).any(axis=1))) for one in at]


def front_figure(found: pd.DataFrame, labels: Sequence[str], ink: str, real: Mapping[str, float]) -> Figure:
    """L1 against the agreement of the judges and against IM1, with 95 % intervals; a line connects the front.

    found: the result of `points`, with a column `method`. labels: the text of each point in the legend; a number beside
    the point refers to it. ink: the colour of text and lines. real: `agreement` and `im1` of real instances, drawn as
    dashed lines; may be empty.
    """
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), ("agreement", "im1"), strict=True):
        known = found.dropna(subset=measure)
        cost = -known[measure] if measure == "agreement" else known[measure]
        front = known[~np.array(_is_dominated(known["l1"], cost), bool)].sort_values("l1")
        axes.plot(front["l1"], front[measure], color=ink, alpha=0.4, linewidth=1, zorder=1)
        for number, ((_, point), label) in enumerate(zip(found.iterrows(), labels, strict=True), start=1):
            _draw(axes, point, measure, number, label, ink)
        if measure in real:
            axes.axhline(real[measure], color=ink, alpha=0.6, linewidth=0.8, linestyle="--")
        axes.set(xlabel=_TITLES["l1"], ylabel=_TITLES[measure])
        axes.set_xlim(left=0)
        axes.grid(color=ink, alpha=0.15, linewidth=0.6)
        style(axes, ink)
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False, labelcolor=ink, fontsize=8)
    return figure


def _draw(axes: Axes, point: pd.Series, measure: str, number: int, label: str, ink: str) -> None:
    colour, mark = look(str(point["method"]))
    across, along = (
        np.array([[point[of] - point[f"{of}_low"]], [point[f"{of}_high"] - point[of]]]) for of in ("l1", measure)
    )
    at = (point["l1"], point[measure])
    text = f"{number}  {label}"
    axes.errorbar(*at, xerr=across, yerr=along, fmt=mark, color=colour, markersize=5.5, markeredgecolor=ink, label=text)
    axes.annotate(str(number), at, (4, 5), textcoords="offset points", fontsize=8, color=ink)
