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
PATIENCE = 480

# Two GPUs are declared to each engine; TensorFlow sees none of them.
GPUS = ("launch.gpus=1", "launch.without_gpu=cpu")
ENGINES = {
    "joblib": (),
    "ray": (*GPUS, "hydra.launcher.ray.init.num_gpus=2"),
    "slurm": (*GPUS, "hydra.launcher.cpus_per_task=1"),
}

# Each cell is a job of its own.
ALONE = "launch.cells_per_job=1"

# A method whose cells with turn 2 and more end when the test says so, so that no test depends on how fast this is.
GATE = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

from cfx import ArrayMethod


@dataclass(frozen=True, kw_only=True)
class Gate(ArrayMethod):
    turn: int

    def search(self, problem):
        folder = Path(__file__).parent
        if self.turn >= 2:
            (folder / f"{os.getpid()}.waits").touch()
            while not (folder / "open").exists():
                time.sleep(0.1)
        return problem.x_train[: len(problem.x)]
"""
FAST, SLOW = (0, 1), 2


def uneven(slow: int = 1) -> tuple[str, ...]:
    """A sweep of two cells that end at once and some that wait for the gate, each a job."""
    turns = ",".join(map(str, range(len(FAST) + slow)))
    trained = (override for override in SMALL if not override.startswith("search."))
    return ("-m", "search=own", "search.module=gate.py", f"search.turn={turns}", *trained, ALONE)


@pytest.fixture
def repository(swept, tmp_path) -> Repository:
    """A clone with a trained model and no cells."""
    copy = swept.copy(tmp_path / "clone")
    copy.forget()
    return copy


@pytest.fixture
def gated(repository) -> Repository:
    """The clone with the file of the method that waits."""
    (repository.path / "gate.py").write_text(GATE)
    return repository


def open_gate(repository: Repository) -> None:
    (repository.path / "open").touch()


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


def test_a_joblib_worker_that_is_killed_leaves_what_is_finished(gated):
    command = ("pipelines.run", *uneven(), "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    with driving(gated, *command) as driver:
        wait_for_slow_cells(gated, driver)
        (searching,) = at_the_gate(gated)
        worker = next(process for process in searching.parents() if named(process, "popen_loky"))
        assert is_below(worker, driver)
        worker.kill()
    assert_only_the_slow_cell_is_missing(gated, driver)
    open_gate(gated)
    before = gated.records()
    again = gated.run(*command)
    assert again.returncode == 0 and "3 cells, 1 to compute" in again.stdout, again.stdout + again.stderr
    assert before.items() <= gated.records().items()
    assert statuses(gated) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 3}


def test_ray_is_not_waited_for_where_no_machine_has_the_gpu_that_a_job_asks_for(gated):
    refused = gated.run("pipelines.run", *uneven(), "hydra/launcher=ray", "launch.gpus=1")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "error: launch.gpus=1: Ray finds 0 GPUs on this machine; set launch.gpus=0\n" in refused.stderr
    assert statuses(gated) == {"sweep": ["FAILED"], "cell": []}


def test_ray_starts_a_job_again_whose_worker_is_killed(gated, ray_address):
    on_the_cluster = f"hydra.launcher.ray.init.address={ray_address}"
    with driving(gated, "pipelines.run", *uneven(), "hydra/launcher=ray", on_the_cluster) as driver:
        wait_for_slow_cells(gated, driver)
        (searching,) = at_the_gate(gated)
        worker = next(process for process in searching.parents() if named(process, "ray::_run_job"))
        worker.kill()
        open_gate(gated)
    assert driver.returncode == 0, driver.said
    (slow,) = (record for record in gated.records().values() if record["swept"] == {"turn": SLOW})
    assert slow["pid"] != worker.pid
    assert statuses(gated) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 3}


def test_a_partition_that_slurm_does_not_have_is_refused_before_anything_is_done(gated, slurm):
    before = statuses(gated)
    refused = gated.run("pipelines.run", *uneven(), "hydra/launcher=slurm", "hydra.launcher.partition=gpuu")
    assert refused.returncode == 2 and refused.stdout == ""
    partitions = ", ".join(slurm("sinfo", "--noheader", "--format=%R").split())
    assert (
        refused.stderr == f"error: hydra.launcher.partition: there is no partition gpuu; choose one of {partitions}\n"
    )
    assert statuses(gated) == before


def test_a_job_that_slurm_refuses_is_told_in_its_own_words(gated, slurm):
    refused = gated.run("pipelines.run", *uneven(), "hydra/launcher=slurm", "hydra.launcher.constraint=h100")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    *_, told = refused.stderr.splitlines()
    assert told.startswith("error: hydra/launcher=slurm: sbatch: error: ") and "Invalid feature" in told
    assert statuses(gated) == {"sweep": ["FAILED"], "cell": []}


def test_a_cancelled_slurm_job_is_missed_and_the_same_command_finishes_the_rest(gated, slurm):
    command = ("pipelines.run", *uneven(), "hydra/launcher=slurm")
    with driving(gated, *command) as driver:
        wait_for_slow_cells(gated, driver)
        slurm("scancel", only_job(slurm))
    assert_only_the_slow_cell_is_missing(gated, driver)
    open_gate(gated)
    before = gated.records()
    again = gated.run(*command)
    assert again.returncode == 0 and "3 cells, 1 to compute" in again.stdout, again.stdout + again.stderr
    assert before.items() <= gated.records().items()


def test_a_slurm_job_at_its_time_limit_is_missed(gated, slurm):
    # Slurm warns up to 30 seconds sooner than it is told to
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1")
    with driving(gated, "pipelines.run", *uneven(), "hydra/launcher=slurm", *limit) as driver:
        pass
    assert_only_the_slow_cell_is_missing(gated, driver)
    assert "timed-out" in driver.said


def test_a_preempted_slurm_job_and_one_whose_node_dies_are_queued_again(gated, slurm):
    """A cluster tells a job that it preempts by the signal USR2, as submitit asks for."""
    # a job takes a whole node
    whole = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=4")
    with driving(gated, "pipelines.run", *uneven(slow=2), *whole) as driver:
        wait_for_slow_cells(gated, driver, 2)
        # by its place in the array, because the number of the last job is that of the whole array
        slurm("scancel", "--signal=USR2", only_job(slurm, "n2", form="%i"))
        kill_node("n1", slurm)
        wait_for(lambda: slurm("sinfo", "--noheader", "--nodes=n1", "--format=%t").startswith("down"))
        subprocess.run([sys.executable, "-m", "tests.services", "start"], cwd=ROOT, check=True, capture_output=True)
        open_gate(gated)
    assert driver.returncode == 0, driver.said
    assert len(gated.records()) == 4
    assert statuses(gated) == {"sweep": ["FINISHED"], "cell": ["FINISHED"] * 4}


@pytest.mark.parametrize(("engine", "ending"), [("slurm", signal.SIGINT), ("ray", signal.SIGTERM)])
def test_an_end_that_is_asked_for_leaves_no_job(gated, slurm, engine, ending):
    with driving(gated, "pipelines.run", *uneven(), f"hydra/launcher={engine}") as driver:
        wait_for_slow_cells(gated, driver)
        driver.process.send_signal(ending)
    assert driver.returncode == 130 and "stopped: finished cells are kept" in driver.said
    assert "Traceback" not in driver.said
    assert slurm("squeue", "--noheader") == ""
    # Ray's workers end by themselves when they have lost their driver
    wait_for(lambda: not any(named(process, "ray::_run_job") for process in psutil.process_iter()))
    wait_for(lambda: not at_the_gate(gated))
    assert statuses(gated) == {"sweep": ["KILLED"], "cell": ["FINISHED"] * 2}


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
    assert len(missing) == 1 and missing[0].startswith("missing: turn="), driver.said
    assert "Traceback" not in driver.said
    assert sorted(record["swept"]["turn"] for record in repository.records().values()) == sorted(FAST)
    assert statuses(repository)["sweep"] == ["FAILED"]


def statuses(repository: Repository) -> dict[str, list[str]]:
    """How the runs in MLflow ended."""
    return {kind: [run.info.status for run in repository.runs(kind)] for kind in ("sweep", "cell")}


def wait_for_slow_cells(repository: Repository, driver: Driver, number: int = 1) -> None:
    """Wait until the fast cells are done and the searches of the slow ones have begun."""

    def begun() -> bool:
        assert driver.process.poll() is None, "it has ended"
        return len(repository.records()) == len(FAST) and len(at_the_gate(repository)) == number

    wait_for(begun)


def at_the_gate(repository: Repository) -> list[psutil.Process]:
    """The searches of a clone that wait."""
    waiting = []
    for path in repository.path.glob("*.waits"):
        with suppress(psutil.NoSuchProcess):
            waiting.append(psutil.Process(int(path.stem)))
    return [process for process in waiting if named(process, "cfx/worker.py")]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it does not come to that"
        time.sleep(0.2)


def only_job(slurm: Callable[..., str], *nodes: str, form: str = "%A") -> str:
    """The one job that runs, on a node or anywhere, when the others have ended; form: what squeue prints of it."""
    where = [f"--nodelist={node}" for node in nodes]
    running: list[str] = []

    def is_alone() -> bool:
        running[:] = slurm("squeue", "--noheader", "--states=RUNNING", f"--format={form}", *where).split()
        return len(running) == 1

    wait_for(is_alone)
    return running[0]


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
