"""A method of the user in an environment with another numpy: the same under every launcher, gone with the driver."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest

from tests.services.test_launchers import ELSEWHERE, driving, named, wait_for
from tests.workflow.conftest import SMALL, Repository

pytestmark = pytest.mark.service

METHOD = """
import time
from dataclasses import dataclass

import numpy as np

from cfx import ArrayMethod


@dataclass(frozen=True, kw_only=True)
class Towards(ArrayMethod):
    share: float = 1.0
    wait_s: float = 0.0

    def search(self, problem):
        assert np.__version__.startswith("1."), np.__version__
        assert problem.model_file.suffix == ".keras" and len(problem.model_weights) > 1
        time.sleep(self.wait_s)
        is_target = problem.probabilities(problem.x_train)[:, problem.target[0]].max(axis=1) >= 0.9
        return problem.x + self.share * (problem.x_train[is_target][:1] - problem.x)
"""


@pytest.fixture
def repository(swept, tmp_path) -> Repository:
    """A clone with a trained model, and the method's file."""
    copy = swept.copy(tmp_path / "clone")
    (copy.path / "towards.py").write_text(METHOD)
    return copy


@pytest.fixture
def command(environment) -> tuple[str, ...]:
    python = f"search.python={environment['CFX_OTHER_PYTHON']}"
    own = ("search=own", "search.module=towards.py", python, "search.tol=0.1", "search.target_class=0,1")
    return ("pipelines.run", "-m", *own, *(option for option in SMALL if not option.startswith("search.")))


def test_every_launcher_gives_the_records_of_one_process(repository, command, slurm, ray_address, tmp_path):
    records, arrays = {}, {}
    for engine in ("basic", "joblib", "ray", "slurm"):
        copy = repository.copy(tmp_path / engine)
        copy.forget()
        done = copy.run(*command, "launch.cells_per_job=1", f"hydra/launcher={engine}")
        assert done.returncode == 0, done.stdout + done.stderr
        records[engine] = {
            cell: {key: value for key, value in record.items() if key not in ELSEWHERE}
            for cell, record in copy.records().items()
        }
        assert copy.table()["found"].all()
        arrays[engine] = [np.load(path)["x"] for path in sorted(copy.path.glob("cells/*/result.npz"))]
    for record in records["basic"].values():
        assert record["own"]["packages"] == {"numpy": "1.26.4"}
    for engine in ("joblib", "ray", "slurm"):
        assert records[engine] == records["basic"]
        np.testing.assert_array_equal(arrays[engine], arrays["basic"])


def test_a_driver_that_is_killed_takes_the_method_with_it(repository, command):
    with driving(repository, *command, "search.wait_s=600") as driver:

        def at_work() -> list[psutil.Process]:
            started = psutil.Process(driver.process.pid).children(recursive=True)
            return [process for process in started if named(process, "cfx/worker.py")]

        wait_for(lambda: at_work() and list(repository.path.glob("cells/*.running.json")))
        searching = at_work()
        os.kill(driver.process.pid, signal.SIGKILL)
    wait_for(lambda: not any(named(process, "cfx/worker.py") for process in searching))
