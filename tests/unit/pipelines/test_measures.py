"""The measures of a table: over which rows, and what of those whose instance already was in the target class."""

import numpy as np
import pandas as pd
import pytest

from pipelines.cells import measures


def table(**columns):
    usual = {one.column: 1.0 for one in measures.MEASURES} | {"found": True, "unchanged": False}
    n = max(len(values) for values in columns.values())
    return pd.DataFrame(usual | columns, index=range(n))


def test_a_median_is_over_what_was_found_a_share_over_what_was_searched_and_a_total_over_all():
    rows = table(
        found=[True, True, False, True],
        unchanged=[False, False, False, True],
        l1=[1.0, 3.0, 0.0, 0.0],
        runtime_s=[1.0, 2.0, 9.0, 0.5],
    )
    found = measures.values(rows)
    assert found["l1"] == 2 and found["validity"] == pytest.approx(2 / 3) and found["runtime_s"] == 2
    assert found["search/runtime_s_total"] == 12.5 and found["search/unchanged"] == 1


def test_rows_that_were_not_changed_are_no_measure_of_anything():
    rows = table(l1=[0.0, 0.0], unchanged=[True, True], runtime_s=[0.1, 0.1])
    assert measures.values(rows) == {"search/runtime_s_total": 0.2, "search/unchanged": 2}


def test_a_measure_that_no_row_has_is_not_there():
    assert "search/lam" not in measures.values(table(lam=[np.nan, np.nan]))
    assert "quality/agreement" not in measures.values(table(l1=[1.0]).drop(columns="agreement"))


def test_a_summary_says_how_many_it_leaves_out():
    assert measures.left_out(0) == ""
    assert measures.left_out(1) == "1 row was left out: its instance already is in the target class"
    assert measures.left_out(1093) == "1,093 rows were left out: their instance already is in the target class"
