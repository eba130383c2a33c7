"""The trade-off between near and plausible in a sweep: a point and a row of examples for each method and setting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cfx import figures, front
from pipelines.cells import measures
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.reporting import gallery, tables

# The maximum numbers of settings and of counterfactuals in a contact sheet, which is hard to read with more.
_ROWS, _COLUMNS = 19, 10
# What distinguishes the counterfactuals of a setting.
_PAIR = ["instance", "target_class"]


class Sheet(NamedTuple):
    """A contact sheet: the same counterfactuals by every setting."""

    tiles: list[list[Image.Image | None]]
    """The images by row and column; None for a counterfactual that was not found."""
    rows: list[str]
    """`original`, and the first settings."""
    columns: list[str]
    """The original class and the target class."""


class TradeOff(NamedTuple):
    """The methods and settings of a sweep on one data set."""

    name: str
    """The swept values of the data set; empty if there is only one."""
    points: pd.DataFrame
    """The result of `cfx.front.points`."""
    labels: list[str]
    """The method and the setting of each point."""
    real: dict[str, float]
    """`agreement` and `im1` of real instances; empty if several sets of judges were used."""
    sheet: Sheet | None
    """None if the data are not images."""


def of_data(sweep: list[Cell], table: pd.DataFrame) -> Iterator[TradeOff]:
    """One item for each data set of a sweep, because distances are not comparable between data sets.

    A data set with a single method and setting is left out.
    """
    cells_of: dict[Path, list[Cell]] = {}
    for cell in sweep:
        cells_of.setdefault(cell.trained.data, []).append(cell)
    for cells in cells_of.values():
        rows = measures.rows(table[table["cell"].isin([cell.id for cell in cells])], "searched")
        by = settings(cells, rows)
        # the intervals take seconds, which a sweep of one setting does without
        if rows[by].drop_duplicates().shape[0] < 2 or len(points := front.points(rows, by)) < 2:
            continue
        labels = [
            label(row, by) + (f", {row['share_found']:.0%} found" if row["share_found"] < 1 else "")
            for row in points.to_dict("records")
        ]
        swept = [f"{axis}={value}" for axis, value in cells[0].upstream.items() if axis.split(".")[0] == "data"]
        yield TradeOff(
            ", ".join(swept) if len(cells_of) > 1 else "", points, labels, _real(cells), _sheet(cells, rows, by)
        )


def settings(cells: list[Cell], rows: pd.DataFrame) -> list[str]:
    """The columns that distinguish the settings: the method, and each axis but the target class with several values."""
    axes = [axis for axis in tables.axes(cells) if axis not in ("target_class", "method")]
    return ["method", *(axis for axis in axes if axis in rows and rows[axis].nunique(dropna=False) > 1)]


def label(row: Mapping[Any, Any], by: list[str]) -> str:
    """The method and the setting of a row with the columns `by`, as text."""
    values = [f"{axis}={tables.plain(row[axis])}" for axis in by[1:] if pd.notna(row[axis])]
    return ", ".join([str(row["method"]), *values])


def _real(cells: list[Cell]) -> dict[str, float]:
    judges = [json.loads(text) for text in {cell.trained.judges_metrics.read_text() for cell in cells}]
    return {measure: judges[0][f"real_{measure}"] for measure in ("agreement", "im1")} if len(judges) == 1 else {}


def _sheet(cells: list[Cell], rows: pd.DataFrame, by: list[str]) -> Sheet | None:
    """One column for each original class, each with a target class that most settings found."""
    x_test = gallery.test_split(cells[0].trained.data)
    if x_test.ndim != 4:
        return None
    limits = cells[0].method.feature_range
    chosen = _pairs(rows)
    names = ["original"]
    tiles: list[list[Image.Image | None]] = [[figures.input_image(x_test[i], limits) for i in chosen["instance"]]]
    for _, group in list(rows.groupby(by, sort=False, dropna=False))[:_ROWS]:
        found = group[group["found"]].merge(chosen[_PAIR])
        images: dict[tuple[Any, ...], np.ndarray] = {}
        for cell, of_cell in found.groupby("cell"):
            keys = of_cell[_PAIR].itertuples(index=False, name=None)
            images |= zip(keys, gallery.counterfactuals(str(cell), of_cell["instance"]), strict=True)
        shown = [images.get(key) for key in chosen[_PAIR].itertuples(index=False, name=None)]
        tiles.append([None if x is None else figures.input_image(x, limits) for x in shown])
        names.append(label(group.iloc[0].to_dict(), by))
    classes = chosen[["original_class", "target_class"]].itertuples(index=False, name=None)
    shown_names = [[str(class_name(one, cells[0].trained)) for one in both] for both in classes]
    return Sheet(tiles, names, [" \N{RIGHTWARDS ARROW} ".join(both) for both in shown_names])


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the sheet: instance, target class and original class, sorted by the last.

    If several classifiers predict different original classes, the first one counts.
    """
    times = rows[rows["found"]].groupby(_PAIR).size().rename("times").reset_index()
    counted = rows.drop_duplicates(_PAIR)[[*_PAIR, "original_class"]].merge(times)
    shuffled = counted.iloc[np.random.default_rng(0).permutation(len(counted))]
    first = shuffled.sort_values("times", ascending=False, kind="stable").drop_duplicates("original_class")
    return first.sort_values("original_class").head(_COLUMNS)
