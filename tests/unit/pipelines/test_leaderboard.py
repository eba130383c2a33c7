"""The leaderboard: who is nearest to the best known, over which rows, and what may be said of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Cell
from pipelines.reporting import leaderboard

ROWS = 20
L1 = {"near": 10.0, "far": 30.0, "peer": 12.0}


def swept(**upstream):
    """Cells of three methods, one of them with two settings, and their table."""
    cells, tables = [], []
    settings = [("near", 80), ("near", 400), ("far", None), ("peer", None)]
    for method, steps in settings:
        name = f"{method}{steps}{upstream}"
        cells.append(Cell(name, upstream, {**upstream, "method": method, "max_iter": steps}, {}, (), LATEST, {}))
        noise = np.random.default_rng(0).uniform(0.99, 1.01, ROWS)
        table = pd.DataFrame(
            {"cell": name, "method": method, "max_iter": float(steps or np.nan), "instance": range(ROWS)}
        )
        l1 = noise * L1[method] * (0.9 if steps == 400 else 1)
        tables.append(table.assign(target_class="3", found=True, unchanged=False, l1=l1, best_known=9.0, **upstream))
    columns = {"agreement": 0.2, "im1": 1.0, "l0": 50, "outlier_factor": 1.1, "noise_stability": 0.9}
    return cells, pd.concat(tables, ignore_index=True).assign(
        **columns, seed_stability=np.nan, runtime_s=0.1, iterations=100, probability=1.0
    )


def test_the_settings_are_ranked_and_compared_with_the_best():
    cells, table = swept()
    table.loc[table["method"] == "peer", "iterations"] = 1
    (board,) = leaderboard.of_sweep(cells, table)
    shown = board.table.set_index("setting")
    assert list(shown.index) == ["near, max_iter=400", "near, max_iter=80", "peer", "far"]
    assert shown["mean_rank"].tolist() == [1, 2, 3, 4] and shown["rank_l1"].tolist() == [1, 2, 3, 4]
    assert shown["l1_ratio"].tolist() == pytest.approx([1, 10 / 9, 12 / 9, 30 / 9], rel=0.01)
    assert shown["median_ratio"].tolist()[1:] == pytest.approx([10 / 9, 12 / 9, 30 / 9])
    assert shown["pairs"].tolist()[1:] == [ROWS] * 3
    assert (shown["rank_agreement"] == 1).all() and "seed_stability" not in shown
    # a library that runs a copy of the model
    assert np.isnan(shown["passes"]["peer"]) and shown["passes"]["far"] == 100


def test_the_statement_names_the_best_the_test_and_the_next_method():
    (board,) = leaderboard.of_sweep(*swept())
    assert board.name == ""
    assert board.statement == (
        "near, max_iter=400 has the best mean rank in L1 of 4 methods and settings: 1.00 on 20 rows, each an instance "
        "with a target class (Friedman test, chi-squared = 60.0, 3 degrees of freedom, p < 0.001; critical difference "
        "by Nemenyi at 5%: 1.05). Its L1 differs significantly from that of every other (Wilcoxon signed-rank tests "
        "of the rows that both found, with Holm's correction, 5%). The next method is peer, whose L1 is 1.333 times "
        "as large (median over 20 pairs, 95% bootstrap interval 1.333 to 1.333, p < 0.001)."
    )


def test_what_a_method_did_not_find_ranks_last_and_is_in_no_ratio():
    cells, table = swept()
    is_missed = (table["method"] == "peer") & (table["instance"] >= 2)
    table.loc[is_missed, ["found", "l1"]] = [False, 0.0]
    # as if a cell had failed: its rows are counted
    table = table[~((table["method"] == "far") & (table["instance"] < 15))]
    (board,) = leaderboard.of_sweep(cells, table)
    shown = board.table.set_index("setting")
    assert shown.loc["peer", ["searched", "found", "pairs"]].tolist() == [ROWS, 2, 2]
    assert shown["validity"]["far"] == 0.25 and shown["validity"]["peer"] == 0.1
    assert shown["mean_rank"]["peer"] == pytest.approx((2 * 3 + 13 * 3.5 + 5 * 4) / ROWS)
    assert shown["l1_ratio"]["peer"] == pytest.approx(12 / 9, rel=0.02)
    # of 5 and 2 pairs, no test is significant after the correction
    assert "differs significantly from that of every other but far, peer (Wilcoxon" in board.statement


@pytest.mark.parametrize(("axis", "names"), [("seed", [""]), ("data", ["data=0", "data=1"])])
def test_seeds_are_rows_of_one_leaderboard_and_data_sets_have_their_own(axis, names):
    found = [swept(**{axis: value}) for value in (0, 1)]
    cells = [
        replace(cell, trained=replace(LATEST, model_folder=Path(str(value))))
        for value, (of_value, _) in enumerate(found)
        for cell in of_value
    ]
    boards = list(leaderboard.of_sweep(cells, pd.concat([table for _, table in found], ignore_index=True)))
    assert [(board.name, board.ranking.n) for board in boards] == [(name, 2 * ROWS // len(names)) for name in names]


def test_one_method_alone_has_no_leaderboard():
    cells, table = swept()
    assert list(leaderboard.of_sweep(cells, table[table["method"] == "near"])) == []
    assert list(leaderboard.of_sweep(cells, table[:0])) == []


def test_the_files_hold_the_leaderboard(tmp_path: Path):
    (board,) = leaderboard.of_sweep(*swept())
    assert leaderboard.write(board, tmp_path, "_1") == f"{tmp_path.name}/leaderboard_1.csv"
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "leaderboard_1.csv"), board.table.reset_index(drop=True), check_dtype=False
    )
    text = (tmp_path / "leaderboard_1.tex").read_text()
    assert r"peer & 1.00 & 12.0 & 1.334 & 50 & 0.20 & 1.00 & 100 & 0.10 & 3.00 \\" in text


def test_the_charts_are_of_the_cost_and_of_the_ranks():
    (board,) = leaderboard.of_sweep(*swept())
    names = [(name, alt) for name, alt, _ in leaderboard.figures(board, "black")]
    assert [name for name, _ in names] == ["cost", "ranks"]
    assert names[1][1] == "Mean ranks in L1, from near, max_iter=400 to far, and the groups that do not differ"
