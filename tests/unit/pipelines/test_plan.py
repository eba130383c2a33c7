"""What is in a cell's identity and what DVC watches."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import cfx
from cfx import models
from pipelines.cells import plan
from pipelines.cells.paths import LATEST
from pipelines.cells.plan import CELL_CODE
from pipelines.config import schema
from tests.unit.pipelines.test_schema import raw

ROOT = Path(__file__).parents[3]
# What fills no cell: the words of an error, where a file is written.
ASIDE = {"errors", "files"}


def imported(module: str) -> set[str]:
    """The modules of cfx that a module of cfx stands on, itself among them."""
    tree = ast.parse(Path(cfx.__file__).with_name(f"{module}.py").read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cfx":
            named = [alias.name for alias in node.names] if node.module == "cfx" else [node.module.split(".")[1]]
            names |= {name for name in named if Path(cfx.__file__).with_name(f"{name}.py").exists()}
    return {module}.union(*map(imported, names))


def test_all_code_that_fills_a_cell_is_in_its_identity():
    assert (imported("search") | imported("metrics")) - ASIDE == set(CELL_CODE)


def test_dvc_watches_the_code_that_its_stages_run():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {f"cfx/{module}.py" for module in CELL_CODE} <= set(stages["explain"]["deps"])
    for stage in stages.values():
        assert all((ROOT / path).exists() for path in stage["deps"] if not path.startswith("artifacts/"))
        assert f"{stage['cmd'].split()[-1].replace('.', '/')}.py" in stage["deps"]


def test_a_cell_is_of_the_classifier_that_it_was_planned_for_and_of_no_later_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "sha256", Path.read_text)
    LATEST.oracle.parent.mkdir(parents=True)
    for path in (LATEST.model, LATEST.autoencoders, LATEST.oracle):
        path.write_text("first")
    LATEST.data_card.write_text(json.dumps({"classes": 10, "sha256": "0"}))
    np.savez(LATEST.data, y_test=np.array([7]))
    (cell,) = plan.of_sweep(schema.from_config(raw(), {}))
    assert plan.identity(cell)["model"] == "first"
    LATEST.model.write_text("second")
    with pytest.raises(RuntimeError, match="were changed meanwhile"):
        plan.identity(cell)
