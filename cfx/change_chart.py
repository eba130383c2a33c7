"""The chart of what counterfactuals change in a table: how often each column changes, and by how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cfx.changes import Change, number
from cfx.charts import style
from cfx.data import Feature
from cfx.palette import BLUE, SKY, VERMILION

# The maximum numbers of columns, and of kinds of changes in the text beside a column.
_COLUMNS, _KINDS = 15, 2
_TIMES = "\N{MULTIPLICATION SIGN}"


def often(found: Sequence[Sequence[Change]]) -> list[tuple[str, list[Change]]]:
    """The changed columns with their changes, the most frequently changed one first.

    found: the changes of each counterfactual, as of `cfx.changes.changes`.
    """
    by_name: dict[str, list[Change]] = {}
    for change in (change for changes in found for change in changes):
        by_name.setdefault(change.name, []).append(change)
    return sorted(by_name.items(), key=lambda item: -len(item[1]))


def changes_figure(found: Sequence[Sequence[Change]], features: Sequence[Feature], ink: str) -> Figure:
    """The share of counterfactuals that change a column, and each change as a share of the range of the column.

    The text beside a column has the number of its decreases and increases with their median in its own units, or its
    most frequent changes of category. found: as for `often`; features: those of the table. ink: the colour of text and
    lines.
    """
    columns = often(found)[:_COLUMNS]
    figure = Figure(figsize=(9.6, 0.9 + 0.3 * max(len(columns), 1)), layout="constrained")
    shares, sizes = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    of_number = {feature.name: feature for feature in features}
    for row, (name, changes) in enumerate(columns):
        shares.barh(row, len(changes) / len(found), height=0.6, color=SKY)
        if name in of_number:
            at = np.array([change.size for change in changes])
            faint = float(np.clip(20 / len(at), 0.3, 0.6))
            colours = np.where(at < 0, BLUE, VERMILION)
            sizes.scatter(at, row + _spread(len(at)), 14, colours, alpha=faint, linewidths=0, rasterized=True)
            text = _amounts(at * (of_number[name].high - of_number[name].low), of_number[name])
        else:
            text = _categories(changes)
        sizes.annotate(text, (1, row), (6, 0), ("axes fraction", "data"), "offset points", va="center", color=ink)
    shares.set_yticks(range(len(columns)), [name for name, _ in columns], parse_math=False)
    shares.set_ylim(max(len(columns), 1) - 0.4, -0.6)
    shares.set(xlabel=f"share of {len(found):,} counterfactuals", xlim=(0, 1), xticks=np.linspace(0, 1, 3))
    sizes.set(xlabel="change as a share of the range", xlim=(-1.03, 1.03), xticks=np.linspace(-1, 1, 5))
    sizes.axvline(0, color=ink, alpha=0.6, linewidth=0.8)
    for axes in (shares, sizes):
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="x", color=ink, alpha=0.15, linewidth=0.6)
        axes.set_axisbelow(True)
        style(axes, ink)
    return figure


def _spread(count: int) -> np.ndarray:
    """Places across a row, evenly distributed and deterministic."""
    return (np.arange(count) * 0.618034 % 1 - 0.5) * 0.5 * (count > 1)


def _amounts(amounts: np.ndarray, feature: Feature) -> str:
    """The number of decreases and of increases, each with its median in the units of the feature."""
    signs = [amounts[amounts < 0], amounts[amounts > 0]]
    shown = [f"{len(some):,} {_TIMES} {number(feature, float(np.median(some)), '+')}" for some in signs if len(some)]
    return ", ".join(shown).replace("-", "\N{MINUS SIGN}")


def _categories(changes: Sequence[Change]) -> str:
    """The most frequent changes of category, each with its number."""
    counts = Counter(f"{change.before} \N{RIGHTWARDS ARROW} {change.after}" for change in changes).most_common()
    shown = [f"{count:,} {_TIMES} {change}" for change, count in counts[:_KINDS]]
    return ", ".join([*shown, "…"] if len(counts) > _KINDS else shown)
