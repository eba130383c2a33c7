"""The tables of a sweep: values that can be checked by hand, failures told as failures, and files for a paper."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cfx.methods import Wachter
from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Cell
from pipelines.reporting import tables


def cell(name: str, target: int | str, lam_init: float = 0.1, **swept) -> Cell:
    method = Wachter(target_class=target, lam_init=lam_init)
    return Cell(name, {}, {"target_class": target, **swept}, method, (4, 9), LATEST)


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
        "l1": [10.0, 20.0],
        "l2": [1.0, 2.0],
        "l0": [30, 40],
        "lam": [0.1, np.nan],
        "runtime_s": [0.5, 1.5],
        "iterations": [100, 300],
        "im1": [1.0, 2.0],
        "im2": [0.1, 0.2],
        "oracle": [1.0, 0.0],
    }
    return pd.DataFrame(values | columns)


@pytest.fixture(autouse=True)
def in_a_folder_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    LATEST.folder.mkdir()
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
    assert (good["asked"], good["found"], good["l1"], good["oracle"], good["runtime_s"]) == (2, 2, 15, 0.5, 2)
    assert (half["asked"], half["found"], half["l1"], half["im1"], half["runtime_s"]) == (2, 1, 10, 3, 2)
    assert (good["classes"], half["classes"], good["error"]) == (["0 (2)"], ["2 (1)"], "")


def test_a_cell_without_a_result_has_a_reason_and_no_values(sweep) -> None:
    lost = sweep.of_cells.iloc[2]
    assert (lost["asked"], lost["found"], lost["error"]) == (2, 0, "it has not been computed")
    assert np.isnan(lost[[*tables.MEDIANS, "oracle", "runtime_s"]].astype(float)).all()


def test_a_reader_sees_the_names_of_classes_and_the_files_for_programs_their_numbers(sweep) -> None:
    LATEST.data_card.write_text(json.dumps({"class_names": [f"a {i} & b" for i in range(10)]}))
    read = tables.named(sweep.cells, sweep.table)
    assert read["target_class"].tolist() == ["a 0 & b"] * 2 + ["other"] * 2
    assert read["original_class"].tolist() == ["a 7 & b", "a 3 & b"] * 2
    assert tables.of_cells(sweep.cells, sweep.table)["classes"].tolist()[0] == ["a 0 & b (2)"]
    classes = tables.of_classes(sweep.table)
    assert tables.named_classes(sweep.cells, classes).median.index.tolist() == ["a 3 & b", "a 7 & b"]
    tables.write(Path("tables"), sweep.cells, sweep.of_cells, sweep.table, classes)
    assert r"4 & a 0 \& b & a 7 \& b & a 0 \& b & 0.990" in Path("tables/counterfactuals.tex").read_text()
    assert pd.read_csv("tables/counterfactuals.csv")["cf_class"].tolist() == [0, 0, 2, 3]
    assert pd.read_csv("tables/classes.csv").columns.tolist() == ["original_class", "0", "other"]


def test_what_was_asked_for_counts_the_cells_that_failed(sweep) -> None:
    asked = tables.of_asked(sweep.of_cells, sweep.table)
    assert asked.groupby("target_class")["found"].agg(["sum", "count"]).to_dict("index") == {
        "0": {"sum": 2, "count": 2},
        "1": {"sum": 0, "count": 2},
        "other": {"sum": 1, "count": 2},
    }
    assert asked["l1"].dropna().tolist() == [10, 20, 10]
    assert asked["target_class"].tolist() == ["0", "0", "other", "other", "1", "1"]


def test_when_every_cell_failed_all_that_was_asked_for_is_missing() -> None:
    sweep = [cell("a", 0), cell("b", 1)]
    table = tables.of_counterfactuals(sweep, pd.DataFrame())
    of_cells = tables.of_cells(sweep, table)
    asked = tables.of_asked(of_cells, table)
    assert not asked["found"].any() and asked["target_class"].tolist() == ["0", "0", "1", "1"]
    assert tables.of_classes(table) is None
    tables.write(Path("tables"), sweep, of_cells, table, None)
    assert pd.read_csv("tables/cells.csv")["error"].tolist() == ["it has not been computed"] * 2


def test_classes_are_those_asked_for(sweep) -> None:
    median, found, asked = tables.of_classes(sweep.table)
    assert median.index.tolist() == [3, 7] and median.columns.tolist() == ["0", "other"]
    assert median.loc[7].tolist() == [10, 10]
    assert median.loc[3, "0"] == 20 and np.isnan(median.loc[3, "other"])
    assert found.loc[3].tolist() == [1, 0] and asked.loc[3].tolist() == [1, 1]


def test_classes_are_those_reached_where_one_target_was_asked_for() -> None:
    table = rows("a", target_class="other", cf_class=[2, 1])
    median, found, asked = tables.of_classes(table)
    assert median.columns.tolist() == [1, 2] and median.columns.name == "cf_class"
    assert median.loc[7, 2] == 10 and np.isnan(median.loc[7, 1])
    assert found.loc[7].tolist() == asked.loc[7].tolist() == [0, 1]


def test_one_original_class_makes_no_table_of_classes(sweep) -> None:
    assert tables.of_classes(sweep.table[sweep.table["original_class"] == 7]) is None


def test_the_files_hold_the_tables(sweep) -> None:
    tables.write(Path("tables"), sweep.cells, sweep.of_cells, sweep.table, tables.of_classes(sweep.table))
    table = pd.read_csv("tables/counterfactuals.csv", dtype={"target_class": "str"})
    pd.testing.assert_frame_equal(table, sweep.table, check_dtype=False)
    assert pd.read_csv("tables/cells.csv")["l1"].tolist()[:2] == [15, 10]
    assert pd.read_csv("tables/classes.csv", index_col=0).loc[3, "0"] == 20
    assert {path.name for path in Path("tables").iterdir()} == {
        f"{name}.{kind}" for name in ("cells", "counterfactuals", "classes") for kind in ("csv", "tex")
    }


def test_a_latex_table_has_rules_and_what_has_no_value_is_a_dash(sweep) -> None:
    tables.write(Path("tables"), sweep.cells, sweep.of_cells, sweep.table, None)
    text = Path("tables/cells.tex").read_text()
    body = [line.strip() for line in text.splitlines()]
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"0 & 2 & 2 & 0.995 & 15.0 & 35 & 1.50 & 0.1500 & 0.50 & 2.00 \\" in body
    assert r"1 & 0 & 2 & -- & -- & -- & -- & -- & -- & -- \\" in body
    every = Path("tables/counterfactuals.tex").read_text()
    assert r"9 & other & 3 & -- & -- & -- & -- & -- & 0.00 & 1.50 \\" in every
    tables.write(Path("others"), sweep.cells, sweep.of_cells, sweep.table, tables.of_classes(sweep.table))
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
