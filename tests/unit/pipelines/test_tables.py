"""The tables of a sweep: values that can be checked by hand, failures told as failures, and files for a paper."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipelines.cells import measures
from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Cell
from pipelines.reporting import classes, tables

MEDIANS = [one.column for one in measures.MEASURES if one.over == "found"]


def cell(name: str, target: int | str, instances: tuple[int, ...] = (4, 9), **swept) -> Cell:
    search = {"method": swept.get("method", "wachter"), "target_class": target}
    return Cell(name, {}, {"target_class": target, **swept}, search, instances, LATEST, {})


def rows(name: str, **columns) -> pd.DataFrame:
    values = {
        "cell": name,
        "method": "wachter",
        "lam_init": 0.1,
        "learning_rate": 0.1,
        "target_class": "0",
        "instance": [4, 9],
        "original_class": [7, 3],
        "cf_class": [0, 0],
        "probability": [0.99, 1.0],
        "found": [True, True],
        "unchanged": False,
        "l1": [10.0, 20.0],
        "l2": [1.0, 2.0],
        "l0": [30, 40],
        "lam": [0.1, np.nan],
        "runtime_s": [0.5, 1.5],
        "iterations": [100, 300],
        "im1": [1.0, 2.0],
        "im2": [0.1, 0.2],
        "agreement": [1.0, 0.0],
        "components": [2, 4],
    }
    return pd.DataFrame(values | columns)


@pytest.fixture(autouse=True)
def in_a_folder_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    LATEST.data.parent.mkdir()
    np.savez(LATEST.data, y_test=np.arange(10))
    LATEST.data_card.write_text("{}")


@pytest.fixture
def sweep() -> SimpleNamespace:
    """Three cells: one as it should be, one of which half was found, and one that failed."""
    sweep = [cell("a", 0), cell("b", "other"), cell("c", 1)]
    half = rows("b", target_class="other", found=[True, False], cf_class=[2, 3], im1=[3.0, np.nan])
    # as they lie in the file: in another order
    table = tables.of_counterfactuals(sweep, pd.concat([half, rows("a")]))
    return SimpleNamespace(cells=sweep, table=table, of_cells=tables.of_cells(sweep, table))


def test_counterfactuals_come_in_the_order_of_the_sweep(sweep) -> None:
    assert sweep.table["cell"].tolist() == ["a", "a", "b", "b"]
    assert sweep.table["label"].tolist() == [4, 9, 4, 9]


def test_a_swept_hyperparameter_that_is_no_column_becomes_one() -> None:
    sweep = [cell("a", 0, max_iter=10), cell("b", 0, max_iter=20)]
    table = tables.of_counterfactuals(sweep, pd.concat([rows("a"), rows("b")]))
    assert table["max_iter"].tolist() == [10, 10, 20, 20]


def test_a_cell_has_the_medians_of_what_was_found_and_the_time_of_all(sweep) -> None:
    good, half, _ = sweep.of_cells.to_dict("records")
    assert (good["searched"], good["found"], good["l1"], good["agreement"], good["runtime_s"]) == (2, 2, 15, 0.5, 2)
    assert (half["searched"], half["found"], half["l1"], half["im1"], half["runtime_s"]) == (2, 1, 10, 3, 2)
    assert (good["classes"], half["classes"], good["error"]) == (["0 (2)"], ["2 (1)"], "")


def test_a_cell_without_a_result_has_a_reason_and_no_values(sweep) -> None:
    lost = sweep.of_cells.iloc[2]
    assert (lost["searched"], lost["found"], lost["error"]) == (2, 0, "it has not been computed")
    assert np.isnan(lost[[*MEDIANS, "runtime_s"]].astype(float)).all()


def test_a_reader_sees_the_names_of_classes_and_the_files_for_programs_their_numbers(sweep) -> None:
    LATEST.data_card.write_text(json.dumps({"class_names": [f"a {i} & b" for i in range(10)]}))
    read = tables.named(sweep.cells, sweep.table)
    assert read["target_class"].tolist() == ["a 0 & b"] * 2 + ["other"] * 2
    assert read["original_class"].tolist() == ["a 7 & b", "a 3 & b"] * 2
    assert tables.of_cells(sweep.cells, sweep.table)["classes"].tolist()[0] == ["a 0 & b (2)"]
    of_methods = classes.by_method(sweep.table)
    assert of_methods["wachter"].named(sweep.cells).median.index.tolist() == ["a 3 & b", "a 7 & b"]
    tables.write(Path("tables"), sweep.cells, sweep.of_cells, sweep.table, of_methods)
    assert r"4 & a 0 \& b & a 7 \& b & a 0 \& b & 0.990" in Path("tables/counterfactuals.tex").read_text()
    assert pd.read_csv("tables/counterfactuals.csv")["cf_class"].tolist() == [0, 0, 2, 3]
    assert pd.read_csv("tables/classes.csv").columns.tolist() == ["original_class", "0", "other"]


def test_what_was_searched_counts_the_cells_that_failed(sweep) -> None:
    searched = tables.of_searched(sweep.cells, sweep.of_cells, sweep.table)
    assert searched.groupby("target_class")["found"].agg(["sum", "count"]).to_dict("index") == {
        "0": {"sum": 2, "count": 2},
        "1": {"sum": 0, "count": 2},
        "other": {"sum": 1, "count": 2},
    }
    assert searched["l1"].dropna().tolist() == [10, 20, 10]
    assert searched["target_class"].tolist() == ["0", "0", "other", "other", "1", "1"]
    assert set(searched["method"]) == {"wachter"}


def test_when_every_cell_failed_all_that_was_searched_is_missing() -> None:
    sweep = [cell("a", 0), cell("b", 1)]
    table = tables.of_counterfactuals(sweep, pd.DataFrame())
    of_cells = tables.of_cells(sweep, table)
    searched = tables.of_searched(sweep, of_cells, table)
    assert not searched["found"].any() and searched["target_class"].tolist() == ["0", "0", "1", "1"]
    assert classes.by_method(table) == {}
    tables.write(Path("tables"), sweep, of_cells, table, {})
    assert pd.read_csv("tables/cells.csv")["error"].tolist() == ["it has not been computed"] * 2


def test_classes_are_those_wanted(sweep) -> None:
    median, found, searched = classes.by_method(sweep.table)["wachter"]
    assert median.index.tolist() == [3, 7] and median.columns.tolist() == ["0", "other"]
    assert median.loc[7].tolist() == [10, 10]
    assert median.loc[3, "0"] == 20 and np.isnan(median.loc[3, "other"])
    assert found.loc[3].tolist() == [1, 0] and searched.loc[3].tolist() == [1, 1]


def test_classes_are_those_reached_where_one_target_was_wanted() -> None:
    table = rows("a", target_class="other", cf_class=[2, 1])
    median, found, searched = classes.by_method(table)["wachter"]
    assert median.columns.tolist() == [1, 2] and median.columns.name == "cf_class"
    assert median.loc[7, 2] == 10 and np.isnan(median.loc[7, 1])
    assert found.loc[7].tolist() == searched.loc[7].tolist() == [0, 1]


def test_one_original_class_makes_no_table_of_classes(sweep) -> None:
    assert classes.by_method(sweep.table[sweep.table["original_class"] == 7]) == {}


def test_each_method_has_a_table_of_classes_of_its_own() -> None:
    sweep = [cell(f"{method}{target}", target, method=method) for method in ("wachter", "segment") for target in (0, 1)]
    parts = [rows(one.id, method=one.swept["method"], target_class=str(one.target_class)) for one in sweep]
    parts[2:] = [part.assign(l1=[1.0, 2.0]) for part in parts[2:]]
    table = tables.of_counterfactuals(sweep, pd.concat(parts))
    of_methods = classes.by_method(table)
    assert list(of_methods) == ["wachter", "segment"]
    assert [one.median.loc[7, "0"] for one in of_methods.values()] == [10, 1]
    tables.write(Path("tables"), sweep, tables.of_cells(sweep, table), table, of_methods)
    assert pd.read_csv("tables/classes_segment.csv", index_col=0).loc[3, "1"] == 2
    assert "by segment" in Path("tables/classes_segment.tex").read_text()
    assert not Path("tables/classes.csv").exists()


def test_a_hyperparameter_that_a_method_does_not_have_has_no_value() -> None:
    sweep = [cell("a", 0, method="wachter", lam_init=0.1), cell("b", 0, method="segment", lam_init=None)]
    parts = [rows("a"), rows("b", method="segment", lam_init=np.nan, learning_rate=np.nan, lam=np.nan)]
    table = tables.of_counterfactuals(sweep, pd.concat(parts))
    assert table["lam_init"].tolist()[:2] == [0.1, 0.1] and table["lam_init"].isna().tolist()[2:] == [True, True]


@pytest.fixture
def unchanged() -> SimpleNamespace:
    """Two cells of two instances: in one of them an instance, and in the other both are in the target class already."""
    sweep = [cell("a", 7), cell("b", 3)]
    one = rows("a", target_class="7", cf_class=[7, 7], unchanged=[True, False], l1=[0.0, 20.0], agreement=[1.0, 0.0])
    both = rows("b", target_class="3", unchanged=True, l1=0.0, im1=np.nan)
    table = tables.of_counterfactuals(sweep, pd.concat([one, both]))
    return SimpleNamespace(cells=sweep, table=table, of_cells=tables.of_cells(sweep, table))


def test_what_was_not_changed_is_counted_beside_what_was_searched(unchanged) -> None:
    one, both = unchanged.of_cells.to_dict("records")
    assert (one["searched"], one["found"], one["unchanged"], one["l1"], one["agreement"]) == (1, 1, 1, 20, 0)
    assert (both["searched"], both["found"], both["unchanged"], both["classes"]) == (0, 0, 2, [])
    assert np.isnan(both["l1"]) and both["runtime_s"] == 2 and both["error"] == ""
    searched = tables.of_searched(unchanged.cells, unchanged.of_cells, unchanged.table)
    assert searched["l1"].tolist() == [20]
    assert classes.by_method(unchanged.table) == {}


def test_the_files_keep_what_was_not_changed_and_say_what_their_numbers_leave_out(unchanged) -> None:
    tables.write(Path("tables"), unchanged.cells, unchanged.of_cells, unchanged.table, {})
    assert pd.read_csv("tables/counterfactuals.csv")["unchanged"].tolist() == [True, False, True, True]
    assert pd.read_csv("tables/cells.csv")["unchanged"].tolist() == [1, 2]
    text = Path("tables/cells.tex").read_text()
    assert "3 rows were left out" in text and r"3 & 0 & 0 & -- & -- & -- & -- & -- & -- & 2.00 \\" in text


def test_the_files_hold_the_tables(sweep) -> None:
    tables.write(Path("tables"), sweep.cells, sweep.of_cells, sweep.table, classes.by_method(sweep.table))
    table = pd.read_csv("tables/counterfactuals.csv", dtype={"target_class": "str"})
    pd.testing.assert_frame_equal(table, sweep.table, check_dtype=False)
    assert pd.read_csv("tables/cells.csv")["l1"].tolist()[:2] == [15, 10]
    assert pd.read_csv("tables/classes.csv", index_col=0).loc[3, "0"] == 20
    assert {path.name for path in Path("tables").iterdir()} == {
        f"{name}.{kind}" for name in ("cells", "counterfactuals", "classes") for kind in ("csv", "tex")
    }


def test_a_latex_table_has_rules_and_what_has_no_value_is_a_dash(sweep) -> None:
    tables.write(Path("tables"), sweep.cells, sweep.of_cells, sweep.table, {})
    text = Path("tables/cells.tex").read_text()
    body = [line.strip() for line in text.splitlines()]
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"0 & 2 & 2 & 0.995 & 15.0 & 35 & 1.50 & 0.50 & 3 & 2.00 \\" in body
    assert r"1 & 0 & 2 & -- & -- & -- & -- & -- & -- & -- \\" in body
    every = Path("tables/counterfactuals.tex").read_text()
    assert r"9 & other & 3 & -- & -- & -- & -- & -- & 0.00 & 1.50 \\" in every
    tables.write(Path("others"), sweep.cells, sweep.of_cells, sweep.table, classes.by_method(sweep.table))
    assert r"3 & 20.0 & -- \\" in Path("others/classes.tex").read_text()
    assert r"\begin{longtable}" in every and "% \\usepackage{booktabs,longtable}" in every


def test_text_in_a_latex_table_is_escaped() -> None:
    text = tables.latex(pd.DataFrame({"my_axis": ["50%_&#", "$x$ {~^\\}"], "n": [1.0, 0.001]}), "Caption.", "tab:x")
    assert r"my\_axis & n \\" in text
    assert r"50\%\_\&\# & 1 \\" in text
    assert r"\$x\$ \{\textasciitilde \textasciicircum \textbackslash \} & 0.001 \\" in text


def test_a_cell_of_a_latex_table_that_begins_as_an_argument_is_none() -> None:
    text = tables.latex(pd.DataFrame({"target": ["[a]", "*b", "c [d] *"], "n": [1, 2, 3]}), "Caption.", "tab:x")
    lines = text.splitlines()
    assert r"{}[a] & 1 \\" in lines and r"{}*b & 2 \\" in lines and r"c [d] * & 3 \\" in lines
