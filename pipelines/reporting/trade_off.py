"""The trade-off between near and plausible in a sweep: a point and a row of examples for each method and setting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cfx import data, figures, front
from cfx.result import Result
from pipelines.cells import measures, paths
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.reporting import tables

# The maximum number of counterfactuals in a contact sheet.
_COLUMNS = 10


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
    sheet: tuple[list[list[Image.Image | None]], list[str], list[str]] | None
    """The contact sheet: images, row names and column names; None if no counterfactual was found in all settings."""


def of_data(sweep: list[Cell], table: pd.DataFrame) -> Iterator[TradeOff]:
    """One item for each data set of a sweep, because distances are not comparable between data sets.

    A data set with a single method and setting is left out.
    """
    of_data: dict[Path, list[Cell]] = {}
    for cell in sweep:
        of_data.setdefault(cell.trained.data, []).append(cell)
    for cells in of_data.values():
        rows = measures.rows(table[table["cell"].isin([cell.id for cell in cells])], "searched")
        by = settings(cells, rows)
        # the intervals take seconds, which a sweep of one setting does without
        if rows[by].drop_duplicates().shape[0] < 2 or len(points := front.points(rows, by)) < 2:
            continue
        labels = [
            label(row, by) + (f", {row['share_found']:.0%} found" if row["share_found"] < 1 else "")
            for row in points.to_dict("records")
        ]
        swept = [value for axis, value in cells[0].upstream.items() if axis.split(".")[0] == "data"]
        name = ", ".join(map(str, swept)) if len(of_data) > 1 else ""
        yield TradeOff(name, points, labels, _real(cells), _sheet(cells, rows, by))


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


def _sheet(
    cells: list[Cell], rows: pd.DataFrame, by: list[str]
) -> tuple[list[list[Image.Image | None]], list[str], list[str]] | None:
    """The same counterfactuals by every setting: one column for each original class, each with another target class.

    The first row is the instance. Of several classifiers, the first is used.
    """
    cells = [cell for cell in cells if cell.trained == cells[0].trained]
    found = rows[rows["found"] & rows["cell"].isin([cell.id for cell in cells])]
    groups = [(label(group.iloc[0].to_dict(), by), group) for _, group in found.groupby(by, sort=False, dropna=False)]
    pairs = ["instance", "target_class"]
    common = found.groupby([*pairs, "original_class"], sort=False).size()
    shared = common[common == len(groups)].reset_index()
    if not len(shared):
        return None
    x_test = data.read_npz(cells[0].trained.data, ("x_test",))["x_test"]
    shuffled = shared.iloc[np.random.default_rng(0).permutation(len(shared))]
    chosen = shuffled.drop_duplicates("original_class").sort_values("original_class").head(_COLUMNS)
    limits = cells[0].method.feature_range
    tiles: list[list[Image.Image | None]] = [[figures.input_image(x_test[i], limits) for i in chosen["instance"]]]
    for _, group in groups:
        cell_of = group.set_index(pairs)["cell"]
        line: list[Image.Image | None] = []
        for row in chosen.to_dict("records"):
            result = Result.load(paths.RESULTS / f"{cell_of[row['instance'], row['target_class']]}.npz")
            line.append(figures.input_image(result.x[result.instance == row["instance"]][0], limits))
        tiles.append(line)
    classes = zip(chosen["original_class"], chosen["target_class"], strict=True)
    columns = [
        " \N{RIGHTWARDS ARROW} ".join(str(class_name(one, cells[0].trained)) for one in both) for both in classes
    ]
    return tiles, ["original", *(name for name, _ in groups)], columns
