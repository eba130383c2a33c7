"""The trade-off between near and plausible: each method a point, and the front of those that no other one dominates.

A point dominates another one if it is at least as near and as plausible, and better in one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cfx.palette import look

# The normal quantile of a 95 % interval.
_Z = 1.96
# The measures of plausibility, and whether more is better.
_MEASURES = {"agreement": True, "im1": False}
_TITLES = {"agreement": "agreement of the judges", "im1": "IM1"}


def points(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One row for each group of counterfactuals.

    table: a row for each counterfactual that was found, with the columns `by`, `l1`, `agreement` and `im1`.

    Returns the columns `by`, `n`, `l1`, `agreement` and `im1`, means, each with the half of its 95 % interval as
    `<measure>_half`, and `is_dominated`: whether another group has no greater L1 and no lower agreement, and is better
    in one of them.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False, dropna=False):
        row = dict(zip(by, key, strict=True)) | {"n": len(group)}
        for measure in ("l1", *_MEASURES):
            values = group[measure].dropna().to_numpy(float)
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            row |= {measure: values.mean(), f"{measure}_half": _Z * error}
        rows.append(row)
    found = pd.DataFrame(rows)
    return found.assign(is_dominated=_is_dominated(found["l1"].to_numpy(), -found["agreement"].to_numpy()))


def _is_dominated(*costs: np.ndarray) -> list[bool]:
    """Whether a point has another one that costs no more of anything and less of something."""
    at = np.stack(costs, axis=1)
    return [bool(np.any((at <= one).all(axis=1) & (at < one).any(axis=1))) for one in at]


def front_figure(found: pd.DataFrame, labels: Sequence[str], ink: str, real: Mapping[str, float]) -> Figure:
    """Mean L1 against mean agreement and against mean IM1, with 95 % intervals; a line joins the front.

    found: as `points` returns it, with a column `method`. labels: what to write beside each point. ink: the colour of
    text and lines. real: the agreement and the IM1 of real instances, drawn as dashed lines, by the measure.
    """
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    for axes, (measure, is_more_better) in zip(figure.subplots(1, len(_MEASURES)), _MEASURES.items(), strict=True):
        cost = -found[measure] if is_more_better else found[measure]
        is_best = ~np.array(_is_dominated(found["l1"].to_numpy(), cost.to_numpy()))
        front = found[is_best].sort_values("l1")
        axes.plot(front["l1"], front[measure], color=ink, alpha=0.4, linewidth=1, zorder=1)
        for (_, row), label in zip(found.iterrows(), labels, strict=True):
            colour, mark = look(str(row["method"]))
            half = {"xerr": row["l1_half"], "yerr": row[f"{measure}_half"]}
            axes.errorbar(row["l1"], row[measure], **half, fmt=mark, color=colour, markersize=5, markeredgecolor=ink)
            axes.annotate(label, (row["l1"], row[measure]), (4, 4), textcoords="offset points", fontsize=7, color=ink)
        if measure in real:
            axes.axhline(real[measure], color=ink, alpha=0.6, linewidth=0.8, linestyle="--")
        axes.set(xlabel="mean L1", ylabel=_TITLES[measure])
        axes.set_xlim(left=0)
        axes.grid(color=ink, alpha=0.15, linewidth=0.6)
        axes.tick_params(colors=ink, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(ink)
        axes.xaxis.label.set_color(ink)
        axes.yaxis.label.set_color(ink)
    return figure
