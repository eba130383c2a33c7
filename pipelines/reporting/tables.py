"""The sweep as tables: a row a cell and a row a counterfactual, for the page, and as files for a paper.

    cells.csv, .tex             what came out of each cell: medians of the counterfactuals found
    counterfactuals.csv, .tex   every counterfactual
    classes.csv, .tex           median L1 by original and target class, where there are several of both

The LaTeX tables have the rules of the package booktabs, and long ones need longtable too; each file says so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cfx import data
from cfx.charts import in_order
from pipelines.cells import store
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell

CLASSES = ("target_class", "original_class", "cf_class")
MEDIANS = ("probability", "l1", "l2", "l0", "im1", "im2", "lam")
# How a column is headed in a paper, and how many decimals it has there.
_HEADS = {
    "target_class": "target",
    "original_class": "original",
    "cf_class": "class",
    "lam_init": r"$\lambda_0$",
    "learning_rate": "rate",
    "l1": "$L_1$",
    "l0": "$L_0$",
    "im1": "IM1",
    "im2": "IM2",
    "runtime_s": "time, s",
}
_DECIMALS = {"probability": 3, "l1": 1, "l0": 0, "im1": 2, "im2": 4, "oracle": 2, "runtime_s": 2}


class Classes(NamedTuple):
    """A table by original class (rows) and target class (columns) for each of three values."""

    median: pd.DataFrame
    """Of the L1 of the counterfactuals found; NaN where there is none."""
    found: pd.DataFrame
    """How many there are."""
    asked: pd.DataFrame
    """How many were asked for."""


def axes(sweep: list[Cell]) -> list[str]:
    """The columns that tell the cells apart: the target, which every reader asks for first, and what else is swept."""
    return ["target_class", *(axis for axis in sweep[0].swept if axis != "target_class")]


def swept(cell: Cell) -> dict[str, Any]:
    """The cell's value for each of `axes`: a number or text, the target class always text."""
    values = {"target_class": str(cell.method.target_class)} | {
        axis: value if isinstance(value, int | float | str) else str(value) for axis, value in cell.swept.items()
    }
    return values | {"target_class": str(values["target_class"])}


def title(cell: Cell) -> str:
    """How a reader tells the cell from the others: as by its name, with a class by its own."""
    values = cell.swept or swept(cell)
    return ", ".join(f"{axis}={shown(cell, axis, value)}" for axis, value in values.items())


def shown(cell: Cell, axis: str, value: Any) -> str:
    """A value of an axis for a reader: a target class by its name, where the data has names."""
    return str(class_name(value, cell.trained) if axis == "target_class" else value)


def of_counterfactuals(sweep: list[Cell], collected: pd.DataFrame) -> pd.DataFrame:
    """One row a counterfactual of the finished cells, in the sweep's order: what was collected and all that was swept.

    collected: the rows of counterfactuals.parquet; it has no columns where every cell failed. A column `label` joins
    them, the class that the data gives the instance.
    """
    tables = {cell: rows for cell, rows in collected.groupby("cell")} if len(collected) else {}
    labels = {path: data.read_npz(path, ("y_test",))["y_test"] for path in {cell.trained.data for cell in sweep}}
    parts = [
        rows.assign(label=labels[cell.trained.data][rows["instance"]], **swept(cell))
        for cell in sweep
        if (rows := tables.get(cell.id)) is not None
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"cell": [], "found": np.zeros(0, bool)})


def named(sweep: list[Cell], table: pd.DataFrame) -> pd.DataFrame:
    """The table of cells or of counterfactuals for a reader: classes by their names, where the data has names."""
    trained = {cell.trained for cell in sweep}
    columns = [column for column in CLASSES if column in table]
    names = {column: {label: class_name(label, *trained) for label in table[column].unique()} for column in columns}
    return table.assign(**{column: table[column].map(names[column]) for column in columns})


def of_cells(sweep: list[Cell], table: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, in the sweep's order: how many were found, the medians of those, and why where there is none.

    table: as `of_counterfactuals` gives it. Columns: cell, the axes, asked, found, classes (a list of those reached,
    the most frequent first), the medians, oracle (the share that agrees), runtime_s (of all), error ("" if none).
    """
    tables = {cell: rows for cell, rows in table.groupby("cell")}
    return pd.DataFrame([_cell(cell, tables.get(cell.id)) for cell in sweep])


def _cell(cell: Cell, rows: pd.DataFrame | None) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": cell.id, **swept(cell), "asked": len(cell.instances)}
    if rows is None:
        nothing = dict.fromkeys((*MEDIANS, "oracle", "runtime_s"), np.nan)
        error = (store.failure(cell.id) or {}).get("error", "it has not been computed")
        return row | {"found": 0, "classes": [], **nothing, "error": error}
    found = rows[rows["found"]]
    reached = found["cf_class"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return row | {
        "found": len(found),
        "classes": [
            f"{class_name(label, cell.trained)} ({count})" if len(rows) > 1 else str(class_name(label, cell.trained))
            for label, count in reached.items()
        ],
        **{column: found[column].median() for column in MEDIANS},
        "oracle": found["oracle"].mean(),
        "runtime_s": rows["runtime_s"].sum(),
        "error": "",
    }


def of_asked(cells: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """One row a counterfactual asked for: what was not found has no L1 and no probability, nor has a cell that failed.

    cells, table: as `of_cells` and `of_counterfactuals` give them. The rows are in the order of the cells.
    """
    failed = cells[cells["error"] != ""][["cell", *_axes(cells), "asked"]]
    lost = failed.loc[failed.index.repeat(failed["asked"])].assign(found=False).astype({"found": bool})
    measures = [name for name in ("l1", "probability") if name in table]
    rows = pd.concat([table.assign(**table[measures].where(table["found"])), lost])
    places = dict(zip(cells["cell"], cells.index, strict=True))
    return rows.sort_values("cell", key=lambda cell: cell.map(places), kind="stable", ignore_index=True)


def of_classes(table: pd.DataFrame) -> Classes | None:
    """The L1 by original class and by target class; None where there is only one of either.

    The target class is the one asked for, or the one reached where only one, such as `other`, was asked for.
    """
    columns = "target_class" if len(table) and table["target_class"].nunique() > 1 else "cf_class"
    rows = table if columns == "target_class" else table[table["found"]]
    if not len(rows) or rows["original_class"].nunique() < 2 or rows[columns].nunique() < 2:
        return None
    groups = rows.assign(l1=rows["l1"].where(rows["found"])).groupby(["original_class", columns])
    order = pd.Index(in_order(rows[columns]), name=columns)
    median, found, asked = (
        values.unstack(columns).reindex(columns=order)
        for values in (groups["l1"].median(), groups["found"].sum(), groups["found"].count())
    )
    return Classes(median, found.fillna(0).astype(int), asked.fillna(0).astype(int))


def named_classes(sweep: list[Cell], classes: Classes) -> Classes:
    """The tables for a reader: classes by their names, where the data has names."""
    trained = {cell.trained for cell in sweep}

    def name(label: int | str) -> int | str:
        return class_name(label, *trained)

    return Classes(*(frame.rename(index=name, columns=name) for frame in classes))


def write(folder: Path, sweep: list[Cell], cells: pd.DataFrame, table: pd.DataFrame, classes: Classes | None) -> None:
    """Write the tables as CSV, with all columns, and as LaTeX, with names, and columns that a paper has room for."""
    folder.mkdir()
    cells.drop(columns="classes").to_csv(folder / "cells.csv", index=False)
    axes = _axes(cells)
    shown = [*axes, "found", "asked", "probability", "l1", "l0", "im1", "im2", "oracle", "runtime_s"]
    caption = (
        "What came out of each cell: how many counterfactuals were found of how many that were asked for, the medians "
        "of those found, the share of them that the oracle puts into the same class, and the time of the whole cell."
    )
    (folder / "cells.tex").write_text(latex(named(sweep, cells)[shown], caption, "tab:cells"), encoding="utf-8")
    table.to_csv(folder / "counterfactuals.csv", index=False)
    if len(table):
        measures, read = ["cf_class", "probability", "l1", "l0"], named(sweep, table)
        found = read.assign(**read[measures].where(read["found"]))
        shown = ["instance", *axes, "original_class", *measures, "im1", "oracle", "runtime_s"]
        text = latex(found[shown], "Every counterfactual.", "tab:counterfactuals", is_long=True)
        (folder / "counterfactuals.tex").write_text(text, encoding="utf-8")
    if classes is not None:
        classes.median.to_csv(folder / "classes.csv")
        caption = f"Median $L_1$ by original class and by {_head(str(classes.median.columns.name))} class."
        numbers = named_classes(sweep, classes).median.rename(index=str, columns=str).reset_index()
        (folder / "classes.tex").write_text(latex(numbers, caption, "tab:classes", spec=".1f"), encoding="utf-8")


def latex(table: pd.DataFrame, caption: str, label: str, is_long: bool = False, spec: str = "g") -> str:
    """A LaTeX table with booktabs' rules, or a longtable that goes on over pages; text in it is escaped.

    spec: how numbers are written in columns that have no number of decimals of their own.
    """
    columns = list(map(str, table))
    is_number = {column: pd.api.types.is_numeric_dtype(table[column]) for column in columns}
    formats: dict[Any, Any] = {_head(column): _format(column, spec) for column in columns if is_number[column]}
    style = table.rename(columns=_head).style.hide(axis="index").format(formats, escape="latex", na_rep="--")
    text = style.to_latex(
        hrules=True,
        column_format="".join("r" if is_number[column] else "l" for column in columns),
        caption=caption,
        label=label,
        environment="longtable" if is_long else None,
        position_float=None if is_long else "centering",
    )
    packages = "booktabs,longtable" if is_long else "booktabs"
    # a cell that begins so would be taken for an argument of the line before it
    text = re.sub(r"^(?=[\[*])", "{}", text, flags=re.MULTILINE)
    return f"% \\usepackage{{{packages}}}\n{text}"


def _axes(cells: pd.DataFrame) -> list[str]:
    """The columns between `cell` and `asked`."""
    columns = list(map(str, cells))
    return columns[1 : columns.index("asked")]


def _format(column: str, spec: str) -> str:
    return f"{{:,.{_DECIMALS[column]}f}}" if column in _DECIMALS else f"{{:{spec}}}"


def _head(column: str) -> str:
    return _HEADS.get(column, column.replace("_", r"\_"))
