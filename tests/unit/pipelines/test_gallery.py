"""Which counterfactuals are shown: all where there is room, else of every class and spread over the cells."""

import itertools

import pandas as pd
import pytest

from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Cell
from pipelines.reporting import gallery


def sweep_of(cells: int, classes: list[int]) -> tuple[list[Cell], pd.DataFrame]:
    """Cells over one instance for each of `classes`, and their table."""
    instances = tuple(range(len(classes)))
    search = {"method": "wachter", "target_class": "other"}
    sweep = [Cell(str(i), {}, {"lam_init": i}, search, instances, LATEST, {}) for i in range(cells)]
    rows = pd.DataFrame({"instance": instances, "original_class": classes, "label": classes, "unchanged": False})
    parts = [rows.assign(cell=cell.id) for cell in sweep]
    return sweep, pd.concat(parts, ignore_index=True)


def chosen(cells: int, classes: list[int]) -> list[tuple[int, int]]:
    """Places and numbers of the cells that are shown."""
    return [(place, int(cell.id)) for place, cell in gallery.select(*sweep_of(cells, classes))]


def test_all_are_shown_where_there_is_room() -> None:
    assert chosen(2, [7, 7, 3]) == [(2, 0), (2, 1), (0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_is_classified_right_comes_first() -> None:
    sweep, table = sweep_of(1, [3, 3, 7])
    table["label"] = [5, 3, 7]
    assert [place for place, _ in gallery.select(sweep, table)] == [1, 2, 0]


def test_every_target_class_of_an_instance_of_each_class_of_mnist_has_room() -> None:
    classes = [label for label in range(10) for _ in range(10)]
    shown = chosen(11, classes)
    assert len(shown) <= gallery.SHOWN
    assert {classes[place] for place, _ in shown} == set(range(10))
    assert {cell for _, cell in shown} == set(range(11))
    assert len({place for place, _ in shown}) * 11 == len(shown)


@pytest.mark.parametrize("classes", [[5], [5, 6], [label for label in range(10) for _ in range(100)]])
def test_of_many_cells_those_shown_are_spread_from_the_first_to_the_last(classes: list[int]) -> None:
    shown = chosen(1000, classes)
    cells = sorted({cell for _, cell in shown})
    steps = {after - before for before, after in itertools.pairwise(cells)}
    assert (cells[0], cells[-1]) == (0, 999) and max(steps) - min(steps) <= 1
    assert gallery.SHOWN // 2 < len(shown) <= gallery.SHOWN
    assert {classes[place] for place, _ in shown} == set(classes)


def test_a_cell_without_a_result_is_not_shown() -> None:
    sweep, table = sweep_of(3, [1])
    assert [cell.id for _, cell in gallery.select(sweep, table[table["cell"] != "1"])] == ["0", "2"]
    assert gallery.select(sweep, table[:0]) == []


def test_what_was_not_changed_is_not_shown() -> None:
    sweep, table = sweep_of(2, [1, 2])
    table.loc[(table["cell"] == "1") & (table["instance"] == 0), "unchanged"] = True
    assert [(place, cell.id) for place, cell in gallery.select(sweep, table)] == [(0, "0"), (1, "0"), (1, "1")]


def test_a_file_is_of_the_cell_that_it_shows_where_the_name_of_one_ends_in_that_of_another() -> None:
    swept = ({"target_class": 1}, {"a_target_class": 1})
    search = {"method": "wachter", "target_class": "other"}
    sweep = [Cell(str(i), {}, values, search, (5,), LATEST, {}) for i, values in enumerate(swept)]
    files = gallery.files([(0, cell) for cell in sweep])
    assert {name: cell.id for name, cell in files.items()} == {
        "instance=5_target_class=1.png": "0",
        "instance=5_target_class=1_evolution.png": "0",
        "instance=5_a_target_class=1.png": "1",
        "instance=5_a_target_class=1_evolution.png": "1",
    }
