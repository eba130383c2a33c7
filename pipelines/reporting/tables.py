"""The sweep as tables, with one row per cell and one row per counterfactual, for the report and as files for a paper.

    cells.csv, .tex             the results of each cell: statistics of the counterfactuals found
    counterfactuals.csv, .tex   all counterfactuals
    classes.csv, .tex           median L1 by original class and target class, if there are several of both; with several
                                methods, one file per method, classes_<method>.csv
    front.csv                   L1 against plausibility, one row per method and setting; with several data sets, one
                                file per data set, front_1.csv, ... (written by the report, as the next one)
    leaderboard.csv, .tex       the methods and settings on the same rows: see `reporting.leaderboard`
    rating_key.csv              the method and the class of each picture of rating.html

Rows marked `unchanged` are only in counterfactuals.csv and .tex. The LaTeX tables need the package booktabs, and long
ones longtable; each file names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfx import data
from pipelines.cells import measures, store
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.config import searches
from pipelines.reporting.classes import Classes

# The axis whose points are repetitions of the same experiment.
REPEATED = "seed"
CLASSES = ("target_class", "original_class", "cf_class")
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
    "components": "regions",
    "runtime_s": "time, s",
    "l1_ratio": r"$L_1$ / best known",
    "mean_rank": "mean rank",
}
_DECIMALS = {
    **{"probability": 3, "l1": 1, "l0": 0, "im1": 2, "im2": 4, "agreement": 2, "components": 0, "runtime_s": 2},
    **{"validity": 2, "l1_ratio": 3, "passes": 0, "mean_rank": 2},
}


def axes(sweep: list[Cell]) -> list[str]:
    """The columns that distinguish the cells: the target class first, then the other swept parameters."""
    return ["target_class", *(axis for axis in sweep[0].swept if axis != "target_class")]


def swept(cell: Cell) -> dict[str, Any]:
    """The cell's value for each of `axes`: a number, NaN if its method does not have it, or text."""
    values = {
        axis: np.nan if value is None else value if isinstance(value, int | float | str) else str(value)
        for axis, value in cell.swept.items()
        if axis != "target_class"
    }
    return {"target_class": str(cell.target_class), **values}


def of_counterfactuals(sweep: list[Cell], collected: pd.DataFrame) -> pd.DataFrame:
    """One row per counterfactual of the finished cells, in the order of the sweep, with all swept values.

    collected: the rows of counterfactuals.parquet, without columns if every cell failed. The column `label` is added:
    the label of the instance in the data.
    """
    tables = {cell: rows for cell, rows in collected.groupby("cell")} if len(collected) else {}
    labels = {path: data.read_npz(path, ("y_test",))["y_test"] for path in {cell.trained.data for cell in sweep}}
    parts = [
        rows.assign(label=labels[cell.trained.data][rows["instance"]], **swept(cell))
        for cell in sweep
        if (rows := tables.get(cell.id)) is not None
    ]
    none = {"cell": [], "method": [], "found": np.zeros(0, bool), "unchanged": np.zeros(0, bool)}
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(none)


def named(sweep: list[Cell], table: pd.DataFrame) -> pd.DataFrame:
    """A table of cells or counterfactuals with class names, if the data has them."""
    trained = {cell.trained for cell in sweep}
    columns = [column for column in CLASSES if column in table]
    names = {column: {label: class_name(label, *trained) for label in table[column].unique()} for column in columns}
    return table.assign(**{column: table[column].map(names[column]) for column in columns})


def of_cells(sweep: list[Cell], table: pd.DataFrame) -> pd.DataFrame:
    """One row per cell, in the order of the sweep: the number found, their statistics, and the error of a failed cell.

    table: the result of `of_counterfactuals`. Columns: cell, the axes, searched (the number of instances that did not
    satisfy the target already), found (of these), unchanged (the others), classes (the predicted classes, the most
    frequent first), the measures of those found, runtime_s (of all), error ("" if none).
    """
    tables = {cell: rows for cell, rows in table.groupby("cell")}
    return pd.DataFrame([_cell(cell, tables.get(cell.id)) for cell in sweep])


def _cell(cell: Cell, rows: pd.DataFrame | None) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": cell.id, **swept(cell), "searched": len(cell.rows), "found": 0, "unchanged": 0}
    of_found = [one for one in measures.MEASURES if one.over == "found"]
    nothing = {one.column: np.nan for one in of_found}
    if rows is None:
        error = (store.failure(cell.id) or {}).get("error", "it has not been computed")
        return row | {"classes": [], **nothing, "runtime_s": np.nan, "error": error}
    found, values = measures.rows(rows, "found"), measures.values(rows)
    reached = found["cf_class"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    names = {label: class_name(label, cell.trained) for label in reached.index}
    unchanged = int(rows["unchanged"].sum())
    return row | {
        "searched": len(rows) - unchanged,
        "found": len(found),
        "unchanged": unchanged,
        "classes": [f"{names[one]} ({n})" if len(rows) > 1 else str(names[one]) for one, n in reached.items()],
        **nothing,
        **{one.column: values[one.name] for one in of_found if one.name in values},
        "runtime_s": rows["runtime_s"].sum(),
        "error": "",
    }


def of_searched(sweep: list[Cell], cells: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """One row per search; L1 and probability are NaN for searches without a counterfactual and for failed cells.

    cells, table: the results of `of_cells` and `of_counterfactuals`. The rows are in the order of the cells.
    """
    failed = cells[cells["error"] != ""][["cell", *_axes(cells), "searched"]]
    methods = {cell.id: searches.name(cell.search) for cell in sweep}
    lost = failed.loc[failed.index.repeat(failed["searched"])].drop(columns="searched")
    lost = lost.assign(method=lost["cell"].map(methods), found=False).astype({"found": bool})
    counted = measures.changed(table)
    values = [name for name in ("l1", "probability") if name in counted]
    rows = pd.concat([counted.assign(**counted[values].where(counted["found"])), lost])
    places = dict(zip(cells["cell"], cells.index, strict=True))
    return rows.sort_values("cell", key=lambda cell: cell.map(places), kind="stable", ignore_index=True)


def write(
    folder: Path, sweep: list[Cell], cells: pd.DataFrame, table: pd.DataFrame, classes: Mapping[str, Classes]
) -> None:
    """Write the tables as CSV with all columns, and as LaTeX with class names and the most important columns.

    classes: the result of `classes.by_method`.
    """
    folder.mkdir()
    cells.drop(columns="classes").to_csv(folder / "cells.csv", index=False)
    axes = _axes(cells)
    shown = [*axes, "found", "searched", "probability", "l1", "l0", "im1", "agreement", "components", "runtime_s"]
    left_out = measures.left_out(int(cells["unchanged"].sum()))
    caption = (
        "Results per cell: the number of counterfactuals found and of instances searched, the medians over those "
        "found, the mean share of the judges that predict the same class, and the total runtime."
        f"{f' {left_out}.' if left_out else ''}"
    )
    (folder / "cells.tex").write_text(latex(named(sweep, cells)[shown], caption, "tab:cells"), encoding="utf-8")
    table.to_csv(folder / "counterfactuals.csv", index=False)
    if len(table):
        columns, read = ["cf_class", "probability", "l1", "l0"], named(sweep, table)
        found = read.assign(**read[columns].where(read["found"]))
        shown = ["instance", *axes, "original_class", *columns, "im1", "agreement", "runtime_s"]
        text = latex(found[shown], "All counterfactuals.", "tab:counterfactuals", is_long=True)
        (folder / "counterfactuals.tex").write_text(text, encoding="utf-8")
    for method, of_method in classes.items():
        name, by = ("classes", "") if len(classes) == 1 else (f"classes_{file_name(method)}", f" by {method}")
        of_method.median.to_csv(folder / f"{name}.csv")
        caption = (
            f"Median $L_1${_escaped(by)} by original class and by {_head(str(of_method.median.columns.name))} class."
        )
        numbers = of_method.named(sweep).median.rename(index=str, columns=str).reset_index()
        text = latex(numbers, caption, f"tab:{name}", spec=".1f")
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")


def latex(table: pd.DataFrame, caption: str, label: str, is_long: bool = False, spec: str = "g") -> str:
    """A LaTeX table with the rules of booktabs, or a longtable, which may span pages; its text is escaped.

    spec: the format of numbers in columns without a number of decimals in `_DECIMALS`.
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


def plain(value: Any) -> str:
    """The displayed value of an axis: a dash if the method does not have this hyperparameter."""
    return number(value, "g") if isinstance(value, float) else str(value)


def number(value: float, spec: str, unit: str = "") -> str:
    """A displayed number: a dash for NaN."""
    return "-" if np.isnan(value) else f"{value:{spec}}{unit}"


def file_name(text: str) -> str:
    """Text as part of a file name for LaTeX, which treats everything after a dot as the extension."""
    return re.sub(r"\W+", "_", text)


def _axes(cells: pd.DataFrame) -> list[str]:
    """The columns between `cell` and `searched`."""
    columns = list(map(str, cells))
    return columns[1 : columns.index("searched")]


def _format(column: str, spec: str) -> str:
    return f"{{:,.{_DECIMALS[column]}f}}" if column in _DECIMALS else f"{{:{spec}}}"


def _head(column: str) -> str:
    return _HEADS.get(column, _escaped(column))


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
