"""What the driver prints of a sweep: a row a cell, or of one cell a row a counterfactual."""

import io
import json

import numpy as np
import pandas as pd
from rich.console import Console

from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Cell
from pipelines.reporting import tables, terminal
from tests.unit.pipelines.test_tables import cell, in_a_folder_with_labels, rows  # noqa: F401


def lines_of(sweep: list[Cell], table: pd.DataFrame) -> list[str]:
    """What is printed in a terminal of 80 columns."""
    console = Console(width=80, file=io.StringIO())
    console.print(terminal.summary(sweep, table), soft_wrap=False)
    return console.file.getvalue().splitlines()


def printed(sweep: list[Cell], table: pd.DataFrame) -> list[list[str]]:
    """The words of each line of the table in a terminal."""
    return [words for line in lines_of(sweep, table) if (words := line.strip(" ─").split())]


def test_a_terminal_shows_a_row_for_each_cell_and_those_that_failed() -> None:
    sweep = [cell("a", 0), cell("b", "other"), cell("c", 1)]
    half = rows("b", target_class="other", unchanged=[False, True], l1=[10.0, 0.0])
    table = tables.of_counterfactuals(sweep, pd.concat([rows("a"), half]))
    assert printed(sweep, table) == [
        ["target_class", "found", "median", "L1", "probability", "agreement", "runtime"],
        ["0", "2/2", "15.00", "0.995", "0.50", "2.00", "s"],
        ["other", "1/1", "10.00", "0.990", "1.00", "2.00", "s"],
        ["1", "failed", "-", "-", "-", "-"],
        ["1", "row", "was", "left", "out:", "its", "instance", "already", "is", "in", "the", "target", "class"],
    ]


def test_a_terminal_shows_cells_of_one_instance_with_the_class_reached() -> None:
    sweep = [cell(str(target), target, (4,)) for target in (0, 1, 2)]
    first = [rows(one.id, target_class=one.id, cf_class=target).head(1) for target, one in enumerate(sweep)]
    first[1]["found"], first[2]["unchanged"] = False, True
    _, *lines, note = printed(sweep, tables.of_counterfactuals(sweep, pd.concat(first)))
    assert [line[:3] for line in lines] == [["0", "yes", "0"], ["1", "no", "-"], ["2", "unchanged", "-"]]
    assert " ".join(note) == "1 row was left out: its instance already is in the target class"


def test_a_terminal_shows_the_counterfactuals_of_one_cell() -> None:
    sweep = [cell("a", 0, (4, 9, 5))]
    three = rows("a", found=[True, False]).iloc[[0, 1, 1]].assign(instance=[4, 9, 5], unchanged=[False, False, True])
    three.iloc[2, three.columns.get_loc("found")] = True
    assert printed(sweep, tables.of_counterfactuals(sweep, three))[:4] == [
        ["instance", "target", "found", "class", "probability", "L1", "L0", "runtime"],
        ["4", "0", "yes", "7", "→", "0", "0.990", "10.00", "30", "0.50", "s"],
        ["9", "0", "no", "3", "-", "-", "-", "1.50", "s"],
        ["5", "0", "unchanged", "3", "-", "-", "-", "1.50", "s"],
    ]


def test_a_long_sweep_shows_its_first_and_last_cells_and_where_all_are() -> None:
    sweep = [cell(f"c{i}", 0, max_iter=i) for i in range(100)]
    table = tables.of_counterfactuals(sweep, pd.concat([rows(one.id) for one in sweep]))
    head, *lines, note = printed(sweep, table)
    assert head[0] == "max_iter"
    assert [line[0] for line in lines] == [*map(str, range(20)), "...", *map(str, range(80, 100))]
    assert " ".join(note) == "60 of 100 rows are not shown: all are in artifacts/report/tables/cells.csv"


def test_a_method_without_a_hyperparameter_has_no_value_of_its_axis() -> None:
    sweep = [cell("a", 0, method="wachter", lam_init=0.1), cell("b", 0, method="segment", lam_init=None)]
    parts = [rows("a"), rows("b", method="segment", lam_init=np.nan, learning_rate=np.nan, lam=np.nan)]
    lines = printed(sweep, tables.of_counterfactuals(sweep, pd.concat(parts)))
    assert [line[:2] for line in lines[1:]] == [["wachter", "0.1"], ["segment", "-"]]


def test_axes_in_a_terminal_have_their_last_name_unless_two_share_it() -> None:
    values = [{"seed": i, "data.seed": i, "training.epochs": i, "tol": 0.01} for i in (1, 2)]
    sweep = [cell(str(i), 0, **swept) for i, swept in enumerate(values)]
    table = tables.of_counterfactuals(sweep, pd.concat([rows(one.id) for one in sweep]))
    assert printed(sweep, table)[0][:4] == ["seed", "data.seed", "epochs", "found"]


def test_what_has_no_room_in_a_terminal_goes_on_in_the_next_line_and_numbers_stay_whole() -> None:
    files = [f"/home/somebody/some/where/far/away/and/farther/than/that/{name}.npz" for name in "ab"]
    sweep = [cell(name, 0, **{"data.path": name, "method": "wachter"}) for name in files]
    table = tables.of_counterfactuals(sweep, pd.concat([rows(one.id) for one in sweep]))
    lines = lines_of(sweep, table)
    assert max(map(len, lines)) <= 80
    assert sum("15.00" in line and "2.00 s" in line for line in lines) == 2
    body = lines[next(i for i, line in enumerate(lines) if "─" in line) + 1 :]
    assert "".join(line.split()[0] for line in body if line.strip()) == "".join(files)


def test_a_name_in_brackets_is_no_style_in_a_terminal() -> None:
    LATEST.data_card.write_text(json.dumps({"class_names": [f"[bold]{i}" for i in range(10)]}))
    sweep = [cell("a", 0), cell("b", 1)]
    table = tables.of_counterfactuals(sweep, pd.concat([rows("a"), rows("b", target_class="1")]))
    assert "[bold]1" in "\n".join(lines_of(sweep, table))


def test_the_changes_of_a_single_counterfactual_in_a_table_are_told_in_a_terminal() -> None:
    sweep = [cell("a", 0, (4,))]
    table = tables.of_counterfactuals(sweep, rows("a").head(1).assign(changes="age 31 → 42, home rent → own"))
    assert lines_of(sweep, table)[-1].strip() == "changes: age 31 → 42, home rent → own"
    assert "changes" not in "".join(lines_of(sweep, table.assign(changes="")))
