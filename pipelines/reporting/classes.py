"""The L1 distance of the counterfactuals of each method by original class and target class."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from cfx.charts import in_order
from pipelines.cells import measures
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell


class Classes(NamedTuple):
    """Three tables with one row per original class and one column per target class."""

    median: pd.DataFrame
    """The median L1 of the counterfactuals found; NaN if there are none."""
    found: pd.DataFrame
    """The number of counterfactuals found."""
    searched: pd.DataFrame
    """The number of instances, without those that already are in the target class."""

    def named(self, sweep: list[Cell]) -> Classes:
        """The same tables with the class names of the data."""
        trained = {cell.trained for cell in sweep}

        def name(label: int | str) -> int | str:
            return class_name(label, *trained)

        return Classes(*(frame.rename(index=name, columns=name) for frame in self))


def by_method(table: pd.DataFrame) -> dict[str, Classes]:
    """The tables of each method that has several original and several target classes.

    table: the result of `tables.of_counterfactuals`. If the sweep has one target class, such as `other`, the class of
    the counterfactual takes its place.
    """
    found = {str(method): _classes(rows) for method, rows in table.groupby("method", sort=False)}
    return {method: classes for method, classes in found.items() if classes is not None}


def _classes(table: pd.DataFrame) -> Classes | None:
    columns = "target_class" if table["target_class"].nunique() > 1 else "cf_class"
    rows = measures.rows(table, "searched" if columns == "target_class" else "found")
    if rows["original_class"].nunique() < 2 or rows[columns].nunique() < 2:
        return None
    groups = rows.assign(l1=rows["l1"].where(rows["found"])).groupby(["original_class", columns])
    order = pd.Index(in_order(rows[columns]), name=columns)
    median, found, searched = (
        values.unstack(columns).reindex(columns=order)
        for values in (groups["l1"].median(), groups["found"].sum(), groups["found"].count())
    )
    return Classes(median, found.fillna(0).astype(int), searched.fillna(0).astype(int))
