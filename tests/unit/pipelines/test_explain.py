"""Cells of one job as one batch: what may be searched together, and what comes of a batch in which one cell fails."""

import pytest

from cfx import PrimalDual, Wachter
from pipelines.cells import store
from pipelines.cells.paths import LATEST
from pipelines.stages import explain
from tests.unit.pipelines.made import cell as made_cell


def cell(name, method, instances=(0, 1)):
    return made_cell(name, {}, {"target_class": method.target_class}, method, instances, LATEST)


def test_cells_that_differ_by_what_a_row_may_have_of_its_own_are_one_batch():
    together = [
        cell("a", Wachter(target_class=1)),
        cell("b", Wachter(target_class="other", lam_init=1.0)),
        cell("c", Wachter(target_class=1, learning_rate=0.3)),
    ]
    apart = [
        cell("d", Wachter(target_class=1, max_iter=20)),
        cell("e", PrimalDual(target_class=1)),
        cell("f", Wachter(target_class=1), instances=(0,)),
    ]
    assert explain.batches([apart[0], *together, *apart[1:]]) == [[apart[0]], together, [apart[1]], [apart[2]]]


def test_of_a_batch_that_fails_the_cells_that_can_be_computed_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    computed = []

    def compute(batch, chosen):
        if any(cell.id == "bad" for cell in batch):
            raise ValueError("no")
        computed.extend(cell.id for cell in batch)

    monkeypatch.setattr(explain, "_compute", compute)
    cells = [cell("a", Wachter(target_class=1)), cell("bad", Wachter(target_class=2)), cell("c", Wachter())]
    explain.compute(cells, None)
    assert computed == ["a", "c"]
    failure = store.failure("bad")
    assert failure["error"] == "ValueError: no" and "Traceback" in failure["traceback"]


def test_an_interrupt_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def interrupted(batch, chosen):
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "_compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain.compute([cell("a", Wachter())], None)
    assert store.failure("a") is None
