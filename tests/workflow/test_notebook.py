"""The notebook: it runs from its first cell to its last, and is kept with outputs that are fit to be read by others."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.workflow.conftest import ROOT, SWEEP

NOTEBOOK = "notebooks/cf_mnist.ipynb"


def outputs(notebook) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook) -> list:
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


@pytest.mark.slow
def test_the_notebook_runs_where_its_artefacts_exist(swept, tmp_path):
    repository = swept.copy(tmp_path / "clone")
    notebook = nbformat.read(repository.path / NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    three = ("search=wachter,primal_dual,plausible", "search.target_class=1,other")
    three = (*SWEEP, *three, "guides.kinds=[deep,dense]", "guides.steps=60", "guides.epochs=1")
    parameters.source = f"SWEEP = {list(three)}"
    kept = len(pictures(notebook))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": repository.path / "notebooks"}})
    client.execute()
    assert len(pictures(notebook)) == kept > 0


@pytest.fixture(scope="module")
def kept():
    return nbformat.read(ROOT / NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_with_what_a_run_from_top_to_bottom_left_in_it(kept):
    counts = [cell.execution_count for cell in kept.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(pictures(kept)) >= 8


def test_the_outputs_hold_no_warning_no_error_and_no_place_on_a_machine(kept):
    for output in outputs(kept):
        assert output.output_type != "error" and output.get("name") != "stderr"
        texts = [output.get("text", ""), *(str(v) for k, v in output.get("data", {}).items() if k != "image/png")]
        assert not re.search(r"[Ww]arning|(?<![\w.<])/(?:\w+/)+\w+", " ".join(texts).replace("/table", ""))


def test_the_notebook_stays_small(kept):
    assert (ROOT / NOTEBOOK).stat().st_size < 2_000_000
