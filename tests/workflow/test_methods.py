"""Everybody's method in one sweep: ours, a file of the user's, and what each costs when it is changed or fails."""

import json
import re
import shutil
import sys
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import ROOT, SMALL, assert_refused

TARGET = "search.target_class=1"
# What a method of the user's own has to do with, and no step method's options.
OWN = tuple(option for option in SMALL if not option.startswith("search."))

METHOD = """
import os, sys, time
from dataclasses import dataclass
import numpy as np
from cfx import ArrayMethod


@dataclass(frozen=True, kw_only=True)
class Mine(ArrayMethod):
    size: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.size <= 1:
            raise ValueError("size must be in (0, 1]")

    def search(self, problem):
        {body}
        return problem.x
"""


@pytest.fixture(scope="module")
def repository(swept, tmp_path_factory):
    """A clone with a trained model; the tests here use it one after the other."""
    return swept.copy(tmp_path_factory.mktemp("methods") / "clone")


def written(repository, name, body, source=METHOD, encoding="utf-8"):
    (repository.path / f"{name}.py").write_text(source.replace("{body}", body), encoding)
    return f"search.module={name}.py"


class Recipe(NamedTuple):
    arguments: tuple[str, ...]
    table: pd.DataFrame
    page: str


@pytest.fixture(scope="module")
def recipe(repository):
    """The sweep of the page on a method of one's own: the arguments, and the process that ran them."""
    page = (ROOT / "docs/how-to/own-method.md").read_text()
    source = re.search(r"```python\n# my_method\.py\n(.*?)```", page, re.DOTALL)
    (repository.path / "my_method.py").write_text(source[1])
    arguments = ("-m", "search=wachter,primal_dual,own", "search.module=my_method.py", "search.size=0.02,0.05")
    done = repository.run("pipelines.run", *arguments, TARGET, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return Recipe(arguments, repository.table(), (repository.path / "artifacts/report/index.html").read_text())


def test_the_recipe_of_the_page_gives_one_sweep_of_three_methods(repository, recipe):
    assert recipe.table["method"].tolist() == ["wachter", "primal_dual", "my_method", "my_method"]
    assert recipe.table["found"].all() and (recipe.table["probability"] >= 0.99).all()
    has_none = recipe.table[["lam_init", "learning_rate"]].isna().any(axis=1)
    assert has_none.tolist() == [False, False, True, True]
    assert "my_method" in recipe.page and "primal_dual" in recipe.page
    runs = [run.data.params for run in repository.runs("cell") if run.data.params["method"] == "my_method"]
    assert sorted(run["size"] for run in runs) == ["0.02", "0.05"]
    again = repository.run("pipelines.run", *recipe.arguments, TARGET, *SMALL)
    assert again.returncode == 0 and "4 cells, 0 to compute" in again.stdout, again.stdout + again.stderr


def test_a_record_holds_the_file_and_makes_it_again(repository, recipe):
    cell = recipe.table["cell"][recipe.table["method"] == "my_method"].iloc[0]
    record = json.loads((repository.path / f"cells/{cell}/record.json").read_text())
    assert record["own"]["source"] == (repository.path / "my_method.py").read_text()
    moved = (repository.path / "my_method.py").rename(repository.path.parent / "my_method.py")
    try:
        done = repository.run("pipelines.reproduce", cell, "--check", **repository.cached())
    finally:
        shutil.move(moved, repository.path / "my_method.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the counterfactuals are identical bit for bit" in done.stdout
    # nothing of the clone, which is gone by now
    assert "again/" not in done.stdout and "mlflow" not in done.stdout


@pytest.mark.slow
def test_a_line_of_one_method_leaves_the_cells_of_the_others(repository):
    arguments = ("-m", "search=wachter,primal_dual,nearest_neighbour", TARGET, *SMALL)
    assert repository.run("pipelines.run", *arguments).returncode == 0
    for module, stale in (("methods/wachter", 1), ("methods/primal_dual", 1), ("cycles", 1), ("step_search", 3)):
        path = repository.path / "cfx" / f"{module}.py"
        before = path.read_text()
        path.write_text(before + "\n_ANOTHER_LINE = 1\n")
        done = repository.run("pipelines.run", *arguments)
        path.write_text(before)
        assert done.returncode == 0 and f"3 cells, {stale} to compute" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("told", "name", "body", "arguments"),
    [
        ("search.module: ", None, "", ["search.module=absent.py"]),
        ("search.module: ", "syntax", "for", []),
        ("search.module: ", "empty", None, []),
        ("no_such_package", "needs", None, []),
        ("size must be in (0, 1]", "range", "pass", ["search.size=2"]),
        ("size must be in (0, 1]", "range", "pass", ["-m", "search.size=0.5,2"]),
        ("search.speed: no such option", "unknown", "pass", ["search.speed=1"]),
        ("search.how: must be a finite number", "failing", "pass", ["-m", "search.how=a,nan"]),
        ("search.how: must be a finite number, not inf", "failing", "pass", ["-m", "search.how=inf"]),
        ("search.timeout_s: cannot be swept", "failing", "pass", ["-m", "search.timeout_s=1,200"]),
        ("search.module: cannot be swept", "failing", "pass", ["-m", "search.module=a.py,b.py"]),
        ("search.size=glob(*): matches no value", "failing", "pass", ["-m", "search.size=glob(*)"]),
        ("~search.size: an option cannot be removed", "failing", "pass", ["~search.size"]),
        ("the hyperparameter l1 is a column of the results", "column", "pass", []),
        ("changes the default of tol", "problem", "pass", []),
        ("wachter.py has the name of a built-in method", "wachter", "pass", []),
        ("latin.py is not UTF-8 text", "latin", "pass", []),
        ("search.python: ", "python", "pass", ["search.python=/absent/python"]),
        ("search.python: ", "python", "pass", ["search.python=/bin/true"]),
        ("search.timeout_s must be", "timeout", "pass", ["search.timeout_s=0"]),
        ("search.module_sha256: ", "digest", "pass", ["search.module_sha256=00"]),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(repository, told, name, body, arguments):
    sources = {
        "empty": "x = 1\n",
        "needs": "import no_such_package\n",
        "failing": FAILING,
        "column": METHOD.replace("size: float", "l1: float = 7.0\n    size: float"),
        "problem": METHOD.replace("size: float", "tol: float = 0.05\n    size: float"),
        "latin": "# -*- coding: latin-1 -*-\n# é" + METHOD,
    }
    encoding = "latin-1" if name == "latin" else "utf-8"
    module = [written(repository, name, body or "", sources.get(name, METHOD), encoding)] if name else []
    stderr = assert_refused(repository, told, "search=own", *module, TARGET, *OWN, *arguments)
    assert len(stderr.splitlines()) == 1


FAILURES = {
    "not_finite": "not finite",
    "shape": "shape",
    "outside": "outside",
    "hang": "longer than",
    "exit": "exit code 3",
    "raise": "ValueError: no",
}

FAILING = """
import os, time
from dataclasses import dataclass
import numpy as np
from cfx import ArrayMethod


@dataclass(frozen=True, kw_only=True)
class Failing(ArrayMethod):
    how: str = "none"

    def search(self, problem):
        match self.how:
            case "not_finite":
                return np.full_like(problem.x, np.nan)
            case "shape":
                return problem.x[:, :5]
            case "outside":
                return problem.x + 9
            case "hang":
                time.sleep(600)
            case "exit":
                os._exit(3)
            case "raise":
                raise ValueError("no")
        return problem.x
"""


def test_a_method_that_fails_costs_its_own_cells_and_a_line_each(repository):
    (repository.path / "failing.py").write_text(FAILING)
    options = ("search.module=failing.py", f"search.how=none,{','.join(FAILURES)}", "search.timeout_s=5")
    done = repository.run("pipelines.run", "-m", "search=wachter,own", *options, TARGET, *SMALL)
    assert done.returncode == 1, done.stdout + done.stderr
    for line, (how, told) in zip(done.stderr.splitlines(), FAILURES.items(), strict=True):
        assert line.startswith("missing: method=failing") and f"how={how}" in line and told in line
    assert repository.table()["method"].tolist() == ["wachter", "failing"]
    assert repository.table()["found"].tolist() == [True, False]
    (sweep,) = [run for run in repository.runs("sweep") if run.info.status == "FAILED"]
    children = [run for run in repository.runs("cell") if run.data.tags["mlflow.parentRunId"] == sweep.info.run_id]
    assert sorted(run.info.status for run in children) == ["FAILED"] * len(FAILURES) + ["FINISHED"] * 2


def test_what_a_method_prints_is_in_nobody_s_way_and_another_interpreter_is_part_of_what_a_cell_is(repository):
    module = written(repository, "prints", "print('x' * 2_000_000)\n        print('y' * 100, file=sys.stderr)")
    arguments = ("search=own", module, TARGET, *OWN)
    done = repository.run("pipelines.run", *arguments)
    assert done.returncode == 0 and len(done.stdout) < 10_000, done.stdout[-1000:] + done.stderr[-1000:]
    assert not repository.table()["found"].any()
    np.testing.assert_array_equal(repository.table()["l1"], [0])
    here = repository.table()["cell"][0]
    done = repository.run("pipelines.run", *arguments, f"search.python={sys.executable}")
    assert done.returncode == 0 and len(done.stdout) < 10_000, done.stdout[-1000:] + done.stderr[-1000:]
    there = repository.table()["cell"][0]
    assert here != there
    record = json.loads((repository.path / f"cells/{there}/record.json").read_text())
    assert record["own"]["packages"]["numpy"] == np.__version__
