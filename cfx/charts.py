"""Charts: the evaluation of a classifier, measures against swept parameters, and tables by class.

Each function returns a figure without pyplot's global state; `ink` selects its colour for a light or dark background.
Points and images are rasterised in vector files, so that the file size does not grow with the number of
counterfactuals. Images of single counterfactuals are in `cfx.figures`. TensorFlow is not required.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image

from cfx.palette import BLUE, MISSING, TINT, VERMILION, look

_DARK = 0.6  # tint from which text is white
_LEGIBLE = 20  # maximum number of classes for a matrix with numbers
_TICKS = 14  # maximum number of tick labels of an axis
_WIDE = 10.0  # ratio of the quartiles from which an axis is logarithmic
_CHARACTER = 0.075  # approximate width of a character, in inches
_TILE = 96  # maximum side of an image in a mosaic, in pixels
_Z = 1.96  # normal quantile of a 95 % interval


def confusion_figure(
    actual: ArrayLike, predicted: ArrayLike, ink: str, names: Sequence[int | str] | None = None
) -> Figure:
    """The confusion matrix of integer classes, coloured by the share of the actual class.

    ink: the colour of text and lines. Cells are tinted, not filled, so that the figure also suits a dark background.
    names: the names of the classes; by default their numbers.
    """
    names = names or range(int(max(np.max(actual), np.max(predicted))) + 1)
    classes = len(names)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (np.asarray(actual), np.asarray(predicted)), 1)
    # the square root makes a few errors visible beside hundreds of correct predictions
    tint = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    texts = [str(name) for name in names]
    figure, axes = _matrix(texts, texts, ink)
    axes.imshow(tint, cmap=TINT, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="actual")
    if classes <= _LEGIBLE:
        for row, column in np.argwhere(counts):
            colour = "white" if tint[row, column] > _DARK else ink
            axes.text(column, row, str(counts[row, column]), fontsize=8, **_centred(colour))
    return figure


def history_figure(history: pd.DataFrame, ink: str) -> Figure:
    """Loss and accuracy after each epoch, on the training and on the test split.

    history: the columns epoch, loss, accuracy, test_loss, test_accuracy. ink: the colour of text and lines.
    """
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        splits = ((measure, "training", BLUE), (f"test_{measure}", "test", VERMILION))
        for column, name, colour in splits:
            axes.plot(history["epoch"], history[column], marker="o", markersize=3, color=colour, label=name)
        axes.set(xlabel="epoch", ylabel=measure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=ink, alpha=0.15, linewidth=0.6)
        axes.legend(frameon=False, labelcolor=ink)
        style(axes, ink)
    return figure


def spread_figure(table: pd.DataFrame, axis: str, measure: str, label: str, ink: str, by: str = "method") -> Figure:
    """A measure against a swept axis: every value as a point, and the median and the quartiles at each axis value.

    table: one row per counterfactual, with the columns `axis`, `measure` (may be NaN) and `by`, the groups, which have
    different colours. Positive numbers have a logarithmic axis and connected medians; text has equal distances, with
    classes first.
    """
    figure, axes, places = _against(table, axis, label, ink)
    values = table[measure].dropna()
    low, high = values.quantile([0.25, 0.75], interpolation="nearest") if len(values) else (0, 0)
    if low > 0 and high > _WIDE * low:
        axes.set_yscale("log")
    for name, rows, shift, width in _groups(table.dropna(subset=measure), axis, by, places):
        colour, mark = look(name)
        at = rows[axis].map(places).astype(float) + shift
        # evenly distributed and deterministic
        of_place = rows.groupby(axis)
        aside = (of_place.cumcount() * 0.618034 % 1 - 0.5) * width * (of_place[axis].transform("size") > 1)
        crowd = len(rows) / max(rows[axis].nunique(), 1)
        faint = float(np.clip(20 / crowd, 0.2, 0.5))
        axes.scatter(at + aside, rows[measure], s=8, color=colour, alpha=faint, linewidths=0, rasterized=True)
        quartiles = of_place[measure].quantile(np.array([0.25, 0.5, 0.75])).unstack()
        middle = _in_order(quartiles, places, shift)
        axes.vlines(middle.index, middle[0.25], middle[0.75], color=colour, linewidth=2.5)
        joined = "-" if _is_number(table[axis]) else "none"
        axes.plot(middle[0.5], mark, color=colour, markersize=5.5, markeredgecolor=ink, linestyle=joined, label=name)
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5))
        # values with little variation, such as probabilities, would be a line far above zero
        if len(values) and values.min() < 0.5 * values.max():
            axes.set_ylim(bottom=0)
    _name_groups(figure, axis, by, ink)
    return figure


def validity_figure(table: pd.DataFrame, axis: str, ink: str, by: str = "method") -> Figure:
    """The share of counterfactuals found against a swept axis, with its 95 % interval (Wilson 1927).

    table: as in `spread_figure`, with the column `found`, bool.
    """
    figure, axes, places = _against(table, axis, "share found", ink)
    for name, rows, shift, _ in _groups(table, axis, by, places):
        colour, mark = look(name)
        counts = _in_order(rows.groupby(axis)["found"].agg(["sum", "count"]), places, shift)
        low, high = wilson_interval(counts["sum"], counts["count"])
        axes.vlines(counts.index, low, high, color=colour, linewidth=2.5, alpha=0.5)
        joined = "-" if _is_number(table[axis]) else "none"
        share = counts["sum"] / counts["count"]
        axes.plot(share, mark, color=colour, markersize=5.5, markeredgecolor=ink, linestyle=joined, label=name)
    axes.set_ylim(-0.03, 1.03)
    _name_groups(figure, axis, by, ink)
    return figure


def wilson_interval(successes: ArrayLike, trials: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % Wilson score interval of a share, (low, high) in [0, 1], which is also valid near 0 and 1.

    successes, trials: (n,), trials above 0.
    """
    successes, trials = np.asarray(successes, float), np.asarray(trials, float)
    centre = (successes + _Z**2 / 2) / (trials + _Z**2)
    half = _Z / (trials + _Z**2) * np.sqrt(successes * (trials - successes) / trials + _Z**2 / 4)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def class_figure(
    median: pd.DataFrame, found: pd.DataFrame, searched: pd.DataFrame, label: str, ink: str, full: float | None = None
) -> Figure:
    """The median of a measure by original class (rows) and target class (columns).

    median, found, searched: tables of one shape with the classes as index and columns. The numbers found and searched
    are below each median. label: the measure, for the colour bar that replaces numbers if there are too many classes.
    full: the median with the full colour, for comparable figures; by default the maximum.
    """
    figure, axes = _matrix(list(map(str, median.index)), list(map(str, median.columns)), ink, side=0.48)
    values, counts, wanted = median.to_numpy(float), found.to_numpy(int), searched.to_numpy(int)
    greatest = max(full or np.nanmax(values, initial=0), 1e-9)
    image = axes.imshow(values, cmap=TINT, vmin=0, vmax=greatest, interpolation="nearest")
    axes.set(xlabel=_words(median.columns.name), ylabel=_words(median.index.name))
    if max(values.shape) > _LEGIBLE:
        style(figure.colorbar(image, ax=axes, shrink=0.6, label=label).ax, ink)
        return figure
    for row, column in np.argwhere(wanted > 0):
        value, count, of = values[row, column], counts[row, column], wanted[row, column]
        colour = "white" if value > _DARK * greatest else ink
        if not np.isnan(value):
            axes.text(column, row - 0.13, f"{value:.1f}", fontsize=8, **_centred(colour))
        weight = "bold" if count < of else "normal"
        axes.text(column, row + 0.26, f"{count}/{of}", fontsize=5.5, weight=weight, **_centred(colour))
    return figure


def mosaic_figure(
    tiles: Sequence[Sequence[Image.Image | None]], rows: Sequence[str], columns: Sequence[str], label: str, ink: str
) -> Figure:
    """Images of equal size in named rows and columns, with a cross for a missing one.

    label: the axis label of the rows.
    """
    size = next(tile.size for line in tiles for tile in line if tile is not None)
    scale = min(1, _TILE / max(size))
    width, height = (round(side * scale) for side in size)
    gap = max(1, width // 14)
    whole = np.zeros((len(rows) * (height + gap), len(columns) * (width + gap), 4), np.uint8)
    side = float(np.clip(7.5 / len(columns), 0.6, 0.9))
    figure, axes = _matrix(rows, columns, ink, side, shape=height / width)
    for row, line in enumerate(tiles):
        for column, tile in enumerate(line):
            if tile is None:
                axes.text(column, row, "\N{MULTIPLICATION SIGN}", fontsize=16, **_centred(MISSING))
                continue
            top, left = row * (height + gap) + gap // 2, column * (width + gap) + gap // 2
            pixels = np.asarray(tile.convert("RGBA").resize((width, height), Image.Resampling.BOX))
            whole[top : top + height, left : left + width] = pixels
    extent = (-0.5, len(columns) - 0.5, len(rows) - 0.5, -0.5)
    axes.imshow(whole, extent=extent, interpolation="nearest", aspect=height / width)
    axes.xaxis.tick_top()
    axes.set_ylabel(label)
    axes.spines[:].set_visible(False)
    return figure


def in_order(names: Iterable[Hashable]) -> list[Any]:
    """The distinct names in display order: classes by number, then other text in order of appearance."""
    different = list(dict.fromkeys(names))
    return sorted(different, key=lambda name: (0, int(str(name))) if str(name).isdecimal() else (1, 0))


def _against(table: pd.DataFrame, axis: str, label: str, ink: str) -> tuple[Figure, Axes, dict[Hashable, float]]:
    """An empty chart, and the position of each value of `axis`."""
    values = table[axis].unique()
    if _is_number(table[axis]):
        values = np.sort(values)
        at = np.log10(values.astype(float)) if values[0] > 0 else values.astype(float)
    else:
        values = np.array(in_order(values), object)
        at = np.arange(len(values), dtype=float)
    places = dict(zip(values, at.tolist(), strict=True))
    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axes = figure.add_subplot(xlabel=axis, ylabel=label)
    labelled = list(places)[:: -(-len(places) // _TICKS)]
    names = [f"{value:g}" if _is_number(table[axis]) else str(value) for value in labelled]
    # long labels are rotated
    is_slanted = sum(map(len, names)) + 2 * len(names) > 44
    slanted: dict[str, Any] = {"rotation": 30, "rotation_mode": "anchor", "ha": "right"} if is_slanted else {}
    axes.set_xticks([places[value] for value in labelled], names, parse_math=False, **slanted)
    margin = 0.6 * _spacing(places)
    axes.set_xlim(at.min() - margin, at.max() + margin)
    axes.grid(axis="y", color=ink, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    style(axes, ink)
    return figure, axes, places


def _groups(
    table: pd.DataFrame, axis: str, by: str, places: Mapping[Hashable, float]
) -> Iterator[tuple[str, pd.DataFrame, float, float]]:
    """The name and the rows of each group, its offset from an axis position, and its width."""
    groups = list(table.groupby(by))
    beside = 1 if by == axis else max(len(groups), 1)
    room = 0.7 * _spacing(places) / beside
    for turn, (name, rows) in enumerate(groups):
        shift = 0 if beside == 1 else (turn - (beside - 1) / 2) * room
        yield str(name), rows, shift, 0.8 * room


def _name_groups(figure: Figure, axis: str, by: str, ink: str) -> None:
    """Add a legend above the chart if there are several groups that the axis does not name."""
    (axes,) = figure.axes
    if by != axis and len(axes.get_legend_handles_labels()[1]) > 1:
        figure.legend(loc="outside upper right", ncols=3, frameon=False, labelcolor=ink, fontsize=9)


def _in_order(grouped: pd.DataFrame, places: Mapping[Hashable, float], shift: float) -> pd.DataFrame:
    """Rows indexed by axis value as rows indexed by position, from left to right."""
    return grouped.set_axis(grouped.index.map(places).astype(float) + shift, axis=0).sort_index()


def _spacing(places: Mapping[Hashable, float]) -> float:
    return float(np.diff(sorted(places.values())).min(initial=np.inf)) if len(places) > 1 else 1.0


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values)


def _matrix(
    rows: Sequence[str], columns: Sequence[str], ink: str, side: float = 0.42, shape: float = 1.0
) -> tuple[Figure, Axes]:
    """An empty matrix with named rows and columns; side: inches of a cell's width, shape: its height by its width."""
    row_text, column_text = (_CHARACTER * max(map(len, names)) for names in (rows, columns))
    is_upright = column_text > side
    width = min(side * len(columns) + max(0.7, row_text + 0.3), 9.0)
    height = min(side * shape * len(rows) + (column_text + 0.3 if is_upright else 0.5), 9.0)
    figure = Figure(figsize=(max(width, 2.0), height), layout="constrained")
    axes = figure.add_subplot()
    for names, place in ((columns, axes.xaxis), (rows, axes.yaxis)):
        step = 1 if len(names) <= _LEGIBLE else -(-len(names) // 10)
        place.set_ticks(range(0, len(names), step), list(names)[::step], parse_math=False)
    if is_upright:
        axes.tick_params(axis="x", rotation=90)
    style(axes, ink)
    axes.spines[["top", "right"]].set_visible(True)
    axes.tick_params(length=0)
    return figure, axes


def _words(name: Hashable) -> str:
    return str(name).replace("_", " ")


def _centred(colour: str) -> dict[str, Any]:
    return {"ha": "center", "va": "center", "color": colour}


def style(axes: Axes, ink: str) -> None:
    """Draw the axes in the colour `ink`, without a background and without the upper and right line."""
    axes.tick_params(colors=ink, which="both")
    axes.xaxis.label.set_color(ink)
    axes.yaxis.label.set_color(ink)
    axes.spines[:].set_color(ink)
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_alpha(0)
