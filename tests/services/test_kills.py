"""A sweep over many cells, killed again and again, driver or worker, ends as if nothing had happened."""

import contextlib
import importlib.util
import random
import sqlite3
import time

import pandas as pd
import psutil
import pytest

from tests.workflow.conftest import SMALL

TARGETS = "search.target_class=0,1,2,3,4,5,6,7,8,9,other,same"
CELLS = ("+sweep=targets", TARGETS, "search.lam_init=0.1,0.01", *SMALL, "search.max_iter=200")
COMMAND = ("pipelines.run", *CELLS, "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "launch.cells_per_job=2")


@pytest.fixture(scope="module")
def undisturbed(swept, tmp_path_factory):
    if not importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"):
        pytest.skip("hydra-joblib-launcher is not installed: make services")
    repository = swept.copy(tmp_path_factory.mktemp("undisturbed") / "clone")
    start = time.monotonic()
    done = repository.run(*COMMAND)
    assert done.returncode == 0, done.stdout + done.stderr
    return repository, time.monotonic() - start


@pytest.mark.service
@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.long)])
def test_killed_again_and_again(swept, undisturbed, tmp_path, kills):
    expected, duration = undisturbed
    repository = swept.copy(tmp_path / "killed")
    repository.forget()
    moment = random.Random(0)
    finished = {}
    for _ in range(kills):
        started = repository.start(*COMMAND)
        with contextlib.suppress(TimeoutError, psutil.NoSuchProcess):
            wait(started, moment.uniform(0, 0.7 * duration))
            driver = psutil.Process(started.pid)
            moment.choice([driver, *driver.children(recursive=True)]).kill()
        started.communicate(timeout=300)
        after = repository.records()
        assert {cell: after[cell] for cell in finished} == finished
        finished = after
    last = repository.run(*COMMAND)
    assert last.returncode == 0, last.stdout + last.stderr
    after = repository.records()
    assert {cell: after[cell] for cell in finished} == finished
    # the best known also depends on the other cells of the folder
    other = ["runtime_s", "best_known"]
    pd.testing.assert_frame_equal(repository.table().drop(columns=other), expected.table().drop(columns=other))
    (parent,), children = repository.runs("sweep"), repository.runs("cell")
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert sorted(run.data.tags["cfx.cell"] for run in children) == sorted(repository.table()["cell"])
    with contextlib.closing(sqlite3.connect(repository.path / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def wait(process, seconds):
    """Wait so long, or raise TimeoutError where the process ends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise TimeoutError
        time.sleep(0.05)
