"""From class to class: how far the counterfactuals of a method are, by the class of the instance and the class wanted.

A table a method, for a median over several methods would be one of whichever found more.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from cfx.charts import in_order
from pipelines.cells import measures
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell


class Classes(NamedTuple):
    """A table by original class (rows) and target class (columns) for each of three values."""

    median: pd.DataFrame
    """Of the L1 of the counterfactuals found; NaN where there is none."""
    found: pd.DataFrame
    """How many there are."""
    searched: pd.DataFrame
    """How many instances were searched for one: all but those that are in the target class already."""

    def named(self, sweep: list[Cell]) -> Classes:
        """The same for a reader: classes by their names, where the data has names."""
        trained = {cell.trained for cell in sweep}

        def name(label: int | str) -> int | str:
            return class_name(label, *trained)

        return Classes(*(frame.rename(index=name, columns=name) for frame in self))


def by_method(table: pd.DataFrame) -> dict[str, Classes]:
    """The L1 by original class and by target class, by the method; without those that have only one class of either.

    table: as `tables.of_counterfactuals` gives it. The target class is the one wanted, or the one reached where only
    one, such as `other`, was wanted.
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
