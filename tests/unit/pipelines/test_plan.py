"""The plan of a sweep: its cells, and the file by which jobs know them."""

import json
from pathlib import Path

import numpy as np
import pytest

from cfx import models
from pipelines.cells import plan
from pipelines.cells.paths import LATEST
from pipelines.cells.plan import Plan
from pipelines.config.parameters import from_config
from tests.unit.pipelines.test_schema import raw


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Data with one test instance, a seven, and files in place of models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "sha256", Path.read_text)
    LATEST.committee.parent.mkdir(parents=True)
    LATEST.guides_folder.mkdir()
    for path in (LATEST.model, LATEST.autoencoders, LATEST.committee):
        path.write_text("first")
    LATEST.data_card.write_text(json.dumps({"classes": 10, "sha256": "0"}))
    np.savez(LATEST.data, y_test=np.array([7]))


def test_a_cell_is_of_the_classifier_that_it_was_planned_for_and_of_no_later_one(trained):
    (cell,) = plan.make_cells(from_config(raw(), {}))
    assert plan.current_inputs(cell)["model"] == "first"
    LATEST.model.write_text("second")
    with pytest.raises(RuntimeError, match="changed during the run"):
        plan.current_inputs(cell)


def test_values_that_mean_the_same_make_the_same_cell(trained):
    one, other = (
        plan.make_cells(from_config(raw(search={"target_class": target, "lam_init": lam}), {}))[0]
        for target, lam in ((3, 1), ("3", 1.0))
    )
    assert one == other


def test_a_job_reads_the_plan_that_the_driver_wrote(trained):
    searches = [{"method": "wachter"}, {"method": "nearest_neighbour"}]
    params = from_config(raw(), {"search": searches, "lam_init": [0.1, 0.2]})
    written = Plan(params, plan.make_cells(params))
    plan.write(Path("plan.json"), written)
    read = plan.read(Path("plan.json"))
    assert read.params == written.params and [cell.id for cell in read.cells] == [cell.id for cell in written.cells]
    for cell, again in zip(written.cells, read.cells, strict=True):
        assert again.method == cell.method and again.trained == cell.trained and again.instances == cell.instances
        assert plan.current_inputs(again) == plan.current_inputs(cell)


def test_a_cell_is_named_by_the_axes_that_its_method_has(trained):
    searches = [{"method": "wachter"}, {"method": "nearest_neighbour"}]
    cells = plan.make_cells(from_config(raw(), {"search": searches, "lam_init": [0.1]}))
    assert [cell.name for cell in cells] == ["method=wachter, lam_init=0.1", "method=nearest_neighbour"]
