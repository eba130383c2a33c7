"""The best known: the least L1 of all counterfactuals in the store for the same row.

A row is an instance of a data set, a classifier, a target class, its probability with a tolerance, and a feature range.
The store has every cell that was ever computed in this folder, so the best known may be of another sweep.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from pipelines.cells import store

COLUMN = "best_known"
# The inputs of a cell that define the problem, whatever the method.
_PROBLEM = ("data", "model", "target_class", "target_proba", "tol", "feature_range", "constraints")


def add(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of finished cells with the column `best_known`; NaN for unchanged rows and where nothing was found."""
    problems = {cell: _problem(cell) for cell in store.finished()}
    asked = {problems[cell] for cell in table["cell"].unique()}
    found = pd.concat([_found(cell, problem) for cell, problem in problems.items() if problem in asked])
    least = found.groupby(["problem", "instance"])["l1"].min()
    rows = pd.MultiIndex.from_arrays([table["cell"].map(problems), table["instance"]])
    known = np.where(table["unchanged"], np.nan, least.reindex(rows))
    return table.assign(**{COLUMN: known})


def _problem(cell: str) -> str:
    identity = store.record(cell)["identity"]
    # a cell of an older version may lack a part
    return json.dumps([identity.get(part) for part in _PROBLEM])


def _found(cell: str, problem: str) -> pd.DataFrame:
    with np.load(store.result_path(cell), allow_pickle=False) as result:
        rows = pd.DataFrame({"problem": problem} | {name: result[name] for name in ("instance", "l1", "found")})
    return rows[rows["found"] & (rows["l1"] > 0)]
