"""The same sweep on the real engines: joblib, Ray and Slurm give what one process gives, and survive their failures."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.services import daemon
from tests.services.__main__ import ROOT, home
from tests.workflow.conftest import SMALL, SWEEP, Repository

pytestmark = pytest.mark.service

# What says where, when and how fast a cell was computed, and not what came out.
ELSEWHERE = {"pid", "started", "finished", "seconds", "device"}

# How long something may take that is waited for, in seconds.
PATIENCE = 240

# Two GPUs are declared to each engine; TensorFlow sees none of them.
GPUS = ("launch.gpus=1", "launch.without_gpu=cpu")
ENGINES = {
    "joblib": (),
    "ray": (*GPUS, "hydra.launcher.ray.init.num_gpus=2"),
    "slurm": (*GPUS, "hydra.launcher.cpus_per_task=1"),
}

# Each cell is a job of its own.
ALONE = "launch.cells_per_job=1"

# A sweep in which one cell takes long enough to be hit, and the others seconds.
FAST, SLOW = (20, 30), 2500
UNEVEN = (
    *("-m", f"search.max_iter={','.join(map(str, (*FAST, SLOW)))}", "search.early_stop=100000"),
    *(override for override in SMALL if not override.startswith("search.max_iter")),
    ALONE,
)


@pytest.fixture
def repository(swept, tmp_path) -> Repository:
    """A clone with a trained model and no cells."""
    copy = swept.copy(tmp_path / "clone")
    copy.forget()
    return copy


@pytest.mark.parametrize("engine", ENGINES)
def test_every_launcher_gives_the_records_of_one_process(swept, repository, slurm, engine):
    done = repository.run("pipelines.run", *SWEEP, ALONE, f"hydra/launcher={engine}", *ENGINES[engine])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    expected, records = swept.records(), repository.records()
    assert records.keys() == expected.keys()
    for cell, record in records.items():
        assert {key: value for key, value in record.items() if key not in ELSEWHERE} == {
            key: value for key, value in expected[cell].items() if key not in ELSEWHERE
        }
        one, two = (np.load(r.path / "cells" / cell / "result.npz") for r in (swept, repository))
        assert one.files == two.files
        assert [key for key in one.files if one[key].tobytes() != two[key].tobytes()] == ["runtime_s"]
        one.close(), two.close()
    pd.testing.assert_frame_equal(repository.table().drop(columns="runtime_s"), swept.table().drop(columns="runtime_s"))
    assert statuses(repository) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 3}
    if engine == "joblib":
        assert {record["device"]["cuda_visible_devices"] for record in records.values()} == {"-1"}
    else:
        assert_no_device_is_shared(list(records.values()))


def assert_no_device_is_shared(records: list[dict]) -> None:
    places = {(record["device"]["node"], record["device"]["cuda_visible_devices"]) for record in records}
    assert {device for _, device in places} <= {"0", "1"} and len(places) > 1
    for one, two in itertools.combinations(records, 2):
        if one["started"] < two["finished"] and two["started"] < one["finished"]:
            assert [one["device"][key] for key in ("node", "cuda_visible_devices")] != [
                two["device"][key] for key in ("node", "cuda_visible_devices")
            ]


def test_a_joblib_worker_that_is_killed_leaves_what_is_finished(repository):
    command = ("pipelines.run", *UNEVEN, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    with driving(repository, *command) as driver:
        wait_for_slow_cells(repository, driver)
        workers = [
            process for process in psutil.process_iter() if named(process, "popen_loky") and is_below(process, driver)
        ]
        max(workers, key=lambda process: process.cpu_times().user).kill()
    assert_only_the_slow_cell_is_missing(repository, driver)
    before = repository.records()
    again = repository.run(*command)
    assert again.returncode == 0 and "3 cells, 1 to compute" in again.stdout, again.stdout + again.stderr
    assert before.items() <= repository.records().items()
    assert statuses(repository) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 3}


def test_ray_is_not_waited_for_where_no_machine_has_the_gpu_that_a_job_asks_for(repository):
    refused = repository.run("pipelines.run", *UNEVEN, "hydra/launcher=ray", "launch.gpus=1")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "error: launch.gpus=1: Ray finds 0 GPUs on this machine; set launch.gpus=0\n" in refused.stderr
    assert statuses(repository) == {"sweep": ["FAILED"], "cell": []}


def test_ray_starts_a_job_again_whose_worker_is_killed(repository, ray_address):
    on_the_cluster = f"hydra.launcher.ray.init.address={ray_address}"
    with driving(repository, "pipelines.run", *UNEVEN, "hydra/launcher=ray", on_the_cluster) as driver:
        wait_for_slow_cells(repository, driver)
        finished = {record["pid"] for record in repository.records().values()}
        workers = [process for process in psutil.process_iter() if named(process, "ray::_run_job")]
        (worker,) = (process for process in workers if process.pid not in finished)
        worker.kill()
    assert driver.returncode == 0, driver.said
    (slow,) = (record for record in repository.records().values() if record["swept"] == {"max_iter": SLOW})
    assert slow["pid"] != worker.pid
    assert statuses(repository) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 3}


def test_a_partition_that_slurm_does_not_have_is_refused_before_anything_is_done(repository, slurm):
    before = statuses(repository)
    refused = repository.run("pipelines.run", *UNEVEN, "hydra/launcher=slurm", "hydra.launcher.partition=gpuu")
    assert refused.returncode == 2 and refused.stdout == ""
    partitions = ", ".join(slurm("sinfo", "--noheader", "--format=%R").split())
    assert (
        refused.stderr == f"error: hydra.launcher.partition: there is no partition gpuu; choose one of {partitions}\n"
    )
    assert statuses(repository) == before


def test_a_job_that_slurm_refuses_is_told_in_its_own_words(repository, slurm):
    refused = repository.run("pipelines.run", *UNEVEN, "hydra/launcher=slurm", "hydra.launcher.constraint=h100")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    *_, told = refused.stderr.splitlines()
    assert told.startswith("error: hydra/launcher=slurm: sbatch: error: ") and "Invalid feature" in told
    assert statuses(repository) == {"sweep": ["FAILED"], "cell": []}


def test_a_cancelled_slurm_job_is_missed_and_the_same_command_finishes_the_rest(repository, slurm):
    command = ("pipelines.run", *UNEVEN, "hydra/launcher=slurm")
    with driving(repository, *command) as driver:
        wait_for_slow_cells(repository, driver)
        slurm("scancel", only_job(slurm))
    assert_only_the_slow_cell_is_missing(repository, driver)
    before = repository.records()
    again = repository.run(*command)
    assert again.returncode == 0 and "3 cells, 1 to compute" in again.stdout, again.stdout + again.stderr
    assert before.items() <= repository.records().items()


def test_a_slurm_job_at_its_time_limit_is_missed(repository, slurm):
    endless = [override.replace(str(SLOW), "100000") for override in UNEVEN]
    # Slurm warns up to 30 seconds sooner than it is told to
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1")
    with driving(repository, "pipelines.run", *endless, "hydra/launcher=slurm", *limit) as driver:
        pass
    assert_only_the_slow_cell_is_missing(repository, driver)
    assert "timed-out" in driver.said


def test_a_preempted_slurm_job_and_one_whose_node_dies_are_queued_again(repository, slurm):
    """A cluster tells a job that it preempts by the signal USR2, as submitit asks for."""
    two_slow = [override.replace(str(SLOW), f"{SLOW},{SLOW + 1}") for override in UNEVEN]
    # a job takes a whole node
    whole = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=4")
    with driving(repository, "pipelines.run", *two_slow, *whole) as driver:
        wait_for_slow_cells(repository, driver, 2)
        slurm("scancel", "--signal=USR2", only_job(slurm, "n2"))
        kill_node("n1", slurm)
        wait_for(lambda: slurm("sinfo", "--noheader", "--nodes=n1", "--format=%t").startswith("down"))
        subprocess.run([sys.executable, "-m", "tests.services", "start"], cwd=ROOT, check=True, capture_output=True)
    assert driver.returncode == 0, driver.said
    assert len(repository.records()) == 4
    assert statuses(repository) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 4}


@pytest.mark.parametrize(("engine", "ending"), [("slurm", signal.SIGINT), ("ray", signal.SIGTERM)])
def test_an_end_that_is_asked_for_leaves_no_job(repository, slurm, engine, ending):
    with driving(repository, "pipelines.run", *UNEVEN, f"hydra/launcher={engine}") as driver:
        wait_for_slow_cells(repository, driver)
        driver.process.send_signal(ending)
    assert driver.returncode == 130 and "stopped: finished cells are kept" in driver.said
    assert "Traceback" not in driver.said
    assert slurm("squeue", "--noheader") == ""
    # Ray's workers end by themselves when they have lost their driver
    wait_for(lambda: not any(named(process, "ray::_run_job") for process in psutil.process_iter()))
    assert statuses(repository) == {"sweep": ["KILLED"], "cell": ["FINISHED"] * 2}


@dataclass
class Driver:
    """A command that runs beside the test."""

    process: subprocess.Popen[bytes]
    said: str = ""
    """All that it printed, when it has ended."""

    @property
    def returncode(self) -> int | None:
        return self.process.returncode


@contextmanager
def driving(repository: Repository, *arguments: str) -> Iterator[Driver]:
    """Run `python -m ...` while the context lasts, which ends when the command has."""
    said = repository.path.parent / "said.txt"
    with said.open("wb") as output:
        process = subprocess.Popen(
            repository.command(*arguments),
            cwd=repository.path,
            env=repository.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    driver = Driver(process)
    try:
        yield driver
        process.wait(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        driver.said = said.read_text()
        # shown where the test fails
        print(driver.said)


def assert_only_the_slow_cell_is_missing(repository: Repository, driver: Driver) -> None:
    assert driver.returncode == 1, driver.said
    missing = [line for line in driver.said.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 1 and missing[0].startswith("missing: max_iter="), driver.said
    assert "Traceback" not in driver.said
    assert sorted(record["swept"]["max_iter"] for record in repository.records().values()) == sorted(FAST)
    assert statuses(repository)["sweep"] == ["FAILED"]


def statuses(repository: Repository) -> dict[str, list[str]]:
    """How the runs in MLflow ended."""
    return {kind: [run.info.status for run in repository.runs(kind)] for kind in ("sweep", "cell")}


def wait_for_slow_cells(repository: Repository, driver: Driver, number: int = 1) -> None:
    """Wait until the fast cells are done and the slow ones well begun."""

    def begun() -> bool:
        assert driver.process.poll() is None, "it has ended"
        at_work = list(repository.path.glob("cells/*.running.json"))
        return len(repository.records()) == len(FAST) and len(at_work) == number

    wait_for(begun)
    time.sleep(1)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it does not come to that"
        time.sleep(0.2)


def only_job(slurm: Callable[..., str], *nodes: str) -> str:
    """The one job that runs, on a node or anywhere, when the others have ended."""
    where = [f"--nodelist={node}" for node in nodes]

    def jobs() -> list[str]:
        return slurm("squeue", "--noheader", "--states=RUNNING", "--format=%A", *where).split()

    wait_for(lambda: len(jobs()) == 1)
    return jobs()[0]


def kill_node(node: str, slurm: Callable[..., str]) -> None:
    """End all that runs on a node at once, as when its power fails."""
    job = only_job(slurm, node)
    server = daemon.running(home(), node)
    assert server is not None
    os.kill(server, signal.SIGKILL)
    for step in [process for process in psutil.process_iter() if named(process, f"slurmstepd: [{job}.")]:
        family = [step, *step.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def named(process: psutil.Process, part: str) -> bool:
    """Whether a process has this in its command line."""
    with suppress(psutil.Error):
        return part in " ".join(process.cmdline())
    return False


def is_below(process: psutil.Process, driver: Driver) -> bool:
    """Whether a process was started by the driver or by one that it started."""
    return driver.process.pid in [parent.pid for parent in process.parents()]
