"""The leaderboard: the methods and settings of a sweep on the same rows, by their distance from the best known.

leaderboard.csv has one row for each method and setting, the one with the best mean rank in L1 first:

    searched, found, validity   the number of rows, of those found, and the share
    l1, l0, agreement, ...      the measures of `cells.measures`, over the rows found
    l1_ratio                    the total L1 of the rows found, divided by that of the best known of the same rows
    passes, runtime_s           the inputs given to the classifier, if it is known, and the seconds, for a row
    mean_rank                   the mean rank in L1, in which rows that were not found rank last
    pairs, wins, ...            the comparison with the first row: see `cfx.comparison.pairs`
    rank_<measure>              the rank in a measure; 1 is the best
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cfx import comparison
from cfx.comparison import Ranking
from pipelines.cells import best_known, measures
from pipelines.cells.plan import Cell
from pipelines.reporting import tables, trade_off

# The ranked measures: the head and the format in the page, and whether more is better.
MEASURES = {
    "validity": ("found", ".0%", True),
    "l1": ("L1", ".1f", False),
    "l1_ratio": ("L1 / best known", ".3f", False),
    "l0": ("L0", ".0f", False),
    "agreement": ("agreement", ".2f", True),
    "im1": ("IM1", ".2f", False),
    "outlier_factor": ("outlier factor", ".2f", False),
    "noise_stability": ("noise stability", ".2f", True),
    "seed_stability": ("seed stability", ".2f", True),
    "passes": ("passes", ",.0f", False),
    "runtime_s": ("time, s", ".2g", False),
}
_LATEX = ("setting", "validity", "l1", "l1_ratio", "l0", "agreement", "im1", "passes", "runtime_s", "mean_rank")


class Board(NamedTuple):
    """The leaderboard of a data set and a classifier."""

    name: str
    """The swept values of the data set and the classifier; empty if there is one of each."""
    table: pd.DataFrame
    """The content of leaderboard.csv."""
    ranking: Ranking
    statement: str
    """The result in two or three sentences, for a paper."""


def of_sweep(sweep: list[Cell], table: pd.DataFrame) -> Iterator[Board]:
    """One leaderboard for each data set and classifier of a sweep of several methods.

    table: the result of `tables.of_counterfactuals`, with the column `best_known`. The rows of several seeds count as
    rows of one classifier; a row of a failed cell was not found.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in sweep:
        name = ", ".join(f"{axis}={value}" for axis, value in cell.upstream.items() if axis != tables.REPEATED)
        groups.setdefault(name, []).append(cell)
    for name, cells in groups.items():
        rows = measures.rows(table[table["cell"].isin([cell.id for cell in cells])], "searched")
        if rows["method"].nunique() > 1:
            yield _board(name if len(groups) > 1 else "", cells, rows)


def _board(name: str, cells: list[Cell], rows: pd.DataFrame) -> Board:
    by = [axis for axis in trade_off.settings(cells, rows) if axis not in cells[0].upstream]
    groups = rows.groupby(by, sort=False, dropna=False)
    classifiers = {cell.id: str(cell.trained) for cell in cells}
    rows = rows.assign(setting=groups.ngroup(), classifier=rows["cell"].map(classifiers))
    key = ["classifier", "instance", "target_class"]
    costs = rows.assign(l1=rows["l1"].where(rows["found"])).pivot(index=key, columns="setting", values="l1")
    ranking = comparison.ranking(costs)
    board = pd.DataFrame([_values(group, by, len(costs)) for _, group in groups])
    board = board.assign(mean_rank=ranking.ranks).join(comparison.pairs(costs, ranking.ranks.index[0]))
    board = board.loc[ranking.ranks.index]
    board = board.drop(columns=[measure for measure in MEASURES if board[measure].isna().all()])
    for measure, (_, _, is_more_better) in MEASURES.items():
        if measure in board:
            board[f"rank_{measure}"] = board[measure].rank(ascending=not is_more_better, method="min")
    return Board(name, board, ranking, _statement(board, ranking))


def _values(rows: pd.DataFrame, by: list[str], count: int) -> dict[str, Any]:
    """The numbers of a method and setting; count: the number of rows, including those of failed cells."""
    values = {name.rpartition("/")[2]: value for name, value in measures.values(rows).items()}
    found = measures.rows(rows, "found")
    return {
        "setting": trade_off.label(rows.iloc[0].to_dict(), by),
        **{axis: rows[axis].iloc[0] for axis in by},
        "searched": count,
        "found": len(found),
        **{measure: values.get(measure, np.nan) for measure in MEASURES},
        "validity": len(found) / count,
        "l1_ratio": found["l1"].sum() / found[best_known.COLUMN].sum() if len(found) else np.nan,
        # a library that runs a copy of the classifier gives it only the instances
        "passes": values["iterations"] if values["iterations"] > 1 else np.nan,
    }


def _statement(board: pd.DataFrame, ranking: Ranking) -> str:
    best, others = board.iloc[0], board.iloc[1:]
    text = (
        f"{best['setting']} has the best mean rank in L1 of {len(board)} methods and settings: {best['mean_rank']:.2f} "
        f"on {ranking.n:,} rows, each an instance with a target class"
    )
    if not np.isnan(ranking.p):
        text += (
            f" (Friedman test, chi-squared = {ranking.statistic:.1f}, {len(board) - 1} degrees of freedom, "
            f"{_p(ranking.p)}; critical difference by Nemenyi at 5%: {ranking.difference:.2f})"
        )
    same = others["setting"][~(others["p_holm"] < comparison.LEVEL)].tolist()
    if len(same) == len(others):
        text += ". Its L1 does not differ significantly from that of any other"
    else:
        text += f". Its L1 differs significantly from that of every other{' but ' if same else ''}{', '.join(same)}"
    text += " (Wilcoxon signed-rank tests of the rows that both found, with Holm's correction, 5%)."
    rivals = others[(others["method"] != best["method"]) & (others["pairs"] > 0)]
    for _, one in rivals.head(1).iterrows():
        text += (
            f" The next method is {one['setting']}, whose L1 is {one['median_ratio']:.3f} times as large (median over "
            f"{one['pairs']:.0f} pairs, 95% bootstrap interval {one['ratio_low']:.3f} to {one['ratio_high']:.3f}, "
            f"{_p(one['p_holm'])})."
        )
    return text


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def figures(board: Board, ink: str) -> Iterator[tuple[str, str, Figure]]:
    """The name, the description and the figure of each chart: of L1 against the cost, and of the ranks."""
    labels, methods = board.table["setting"].tolist(), board.table["method"].tolist()
    alt = f"L1 above the best known against passes and time of {len(labels)} methods and settings"
    yield "cost", f"{alt}; the nearest on average is {labels[0]}", comparison.cost_figure(board.table, labels, ink)
    if not np.isnan(board.ranking.difference):
        alt = f"Mean ranks in L1, from {labels[0]} to {labels[-1]}, and the groups that do not differ"
        yield "ranks", alt, comparison.rank_figure(board.ranking, labels, methods, ink)


def write(board: Board, folder: Path, suffix: str) -> str:
    """Write the leaderboard as CSV and LaTeX; returns the path of the CSV file relative to the report."""
    path = folder / f"leaderboard{suffix}.csv"
    board.table.to_csv(path, index=False)
    shown = [column for column in _LATEX if column in board.table]
    where = f" ({board.name})" if board.name else ""
    caption = f"Methods on the same rows{where}, by mean rank in $L_1$: medians and shares of the rows found."
    text = tables.latex(board.table[shown], caption, f"tab:leaderboard{suffix}", spec=".3g")
    path.with_suffix(".tex").write_text(text, encoding="utf-8")
    return f"{folder.name}/{path.name}"
