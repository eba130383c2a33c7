"""The results of a sweep in the terminal: one row per cell or, for a single cell, one row per instance."""

from __future__ import annotations

import pandas as pd
import rich.box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipelines.cells import measures, paths
from pipelines.cells.plan import Cell
from pipelines.reporting import tables
from pipelines.reporting.tables import number, plain

# The maximum number of rows; a longer table shows the first and the last ones.
_ROWS = 40
# The metrics of a cell, with their formats.
_SHOWN = {"l1": ".2f", "probability": ".3f", "agreement": ".2f"}
# The columns whose text is not wrapped.
_NO_WRAP = ("instance", "found", "L1", "median L1", "L0", "probability", "agreement", "runtime")


def summary(sweep: list[Cell], table: pd.DataFrame) -> Group:
    """The table of a sweep and notes on what it omits. table: the result of `tables.of_counterfactuals`."""
    if len(sweep) == 1:
        heads, rows, file = *_of_instances(tables.named(sweep, table)), paths.TABLE
    else:
        cells = tables.named(sweep, tables.of_cells(sweep, table))
        heads, rows, file = *_of_cells(cells, tables.axes(sweep)), paths.REPORT / "tables" / "cells.csv"
    notes = []
    if len(rows) > _ROWS:
        notes.append(f"{len(rows) - _ROWS} of {len(rows)} rows are not shown: all are in {file}")
    if len(sweep) > 1 and (left_out := measures.left_out(int(table["unchanged"].sum()))):
        notes.append(left_out)
    if len(table) == 1 and "changes" in table and (changes := table["changes"].fillna("").iloc[0]):
        notes.append(f"changes: {changes}")
    return Group(_table(heads, rows), *map(Text, notes))


def _of_cells(cells: pd.DataFrame, axes: list[str]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table of cells; cells of one instance include the class of the counterfactual."""
    varied = [axis for axis in axes if cells[axis].nunique(dropna=False) > 1]
    short = [axis.rpartition(".")[2] for axis in varied]
    heads = [name if short.count(name) == 1 else axis for axis, name in zip(varied, short, strict=True)]
    is_single = bool((cells["searched"] + cells["unchanged"] == 1).all())
    rows = []
    for row in cells.to_dict("records"):
        found = f"{row['found']}/{row['searched']}"
        if is_single:
            found = "unchanged" if row["unchanged"] else "yes" if row["found"] else "no"
        found = "failed" if row["error"] else found
        reached = [", ".join(row["classes"]) or "-"] if is_single else []
        values = [number(row[column], spec) for column, spec in _SHOWN.items()]
        runtime = number(row["runtime_s"], ",.2f", " s")
        rows.append([*(plain(row[axis]) for axis in varied), found, *reached, *values, runtime])
    titles = [f"median {one}" if one == "L1" and not is_single else one for one in map(measures.title, _SHOWN)]
    return [*heads, "found", *["class"] * is_single, *titles, "runtime"], rows


def _of_instances(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table of the counterfactuals of one cell."""
    rows = []
    for row in table.to_dict("records"):
        original = str(row["original_class"])
        outcome = ["unchanged" if row["unchanged"] else "no", original, "-", "-", "-"]
        if row["found"] and not row["unchanged"]:
            change = f"{original} \N{RIGHTWARDS ARROW} {row['cf_class']}"
            outcome = ["yes", change, f"{row['probability']:.3f}", f"{row['l1']:.2f}", str(row["l0"])]
        rows.append([str(row["instance"]), str(row["target_class"]), *outcome, f"{row['runtime_s']:.2f} s"])
    return ["instance", "target", "found", "class", "probability", "L1", "L0", "runtime"], rows


def _table(heads: list[str], rows: list[list[str]]) -> Table:
    table = Table(box=rich.box.SIMPLE, padding=0)
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head in _NO_WRAP)
    half = _ROWS // 2
    shown = rows if len(rows) <= _ROWS else [*rows[:half], ["..."] * len(heads), *rows[-half:]]
    for row in shown:
        # not as markup, because a name may contain brackets
        table.add_row(*map(Text, row))
    return table
