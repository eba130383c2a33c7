"""What is told while a sweep is computed: by what stands on disk, so whoever computes it."""

import pytest

from pipelines.cells import store
from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Cell
from pipelines.progress import show_progress
from tests.unit.pipelines.test_store import MEASURES, result

CELLS = [
    Cell(name, {}, {"target_class": target}, {"method": "wachter", "target_class": target}, (0,), LATEST, {})
    for name, target in (("a", "same"), ("b", 1), ("c", 0))
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "artifacts").mkdir()
    LATEST.data_card.write_text('{"class_names": ["cat", "dog [fox]"]}')


def test_each_cell_that_ends_is_told_once(capsys):
    with show_progress(CELLS):
        store.save("b", result(1.0), MEASURES, {"summary": "7 → 1", "seconds": 2.04})
        store.save_failure("a", {"error": "ValueError: [bold]no"})
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "target_class=dog [fox]: 7 → 1, 2.0 s",
        "target_class=same: failed: ValueError: [bold]no",
    ]


def test_each_cell_that_ends_is_logged_once_and_what_cannot_be_logged_costs_a_line(capsys):
    logged = []

    def log(cell):
        logged.append(cell.id)
        if cell.id == "b":
            raise ConnectionError("no server")

    with show_progress(CELLS, log):
        store.save("b", result(1.0), MEASURES, {"summary": "7 → 1", "seconds": 2.04})
        store.save_failure("a", {"error": "ValueError: no"})
    assert sorted(logged) == ["a", "b"]
    assert "target_class=dog [fox]: could not be logged yet (no server)" in capsys.readouterr().out.splitlines()


def test_what_a_killed_run_left_is_forgotten(capsys):
    store.save_failure("a", {"error": "of another time"})
    with store.running(["finished since", "b"]):
        with show_progress(CELLS):
            pass
        assert store.cell_progress() == {}
    assert capsys.readouterr().out == "" and store.failure("a") is None


def test_a_batch_says_how_far_its_cells_are_until_it_ends(monkeypatch):
    monkeypatch.setattr(store, "_WRITE_INTERVAL", -1)
    with store.running(["a", "b"]) as progress:
        assert store.cell_progress() == {"a": 0, "b": 0}
        progress(1, 4)
        assert store.cell_progress() == {"a": 0.25, "b": 0.25}
    assert store.cell_progress() == {}
