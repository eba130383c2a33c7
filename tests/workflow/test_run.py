"""`python -m pipelines.run`: a sweep, the same sweep again, and what it leaves."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import filelock
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from cfx.result import Result
from tests.workflow.conftest import ROOT, SWEEP, Repository

COLUMNS = [
    *("cell", "method", "lam_init", "learning_rate", "target_class", "instance", "place", "original_class"),
    *("cf_class", "probability", "found", "unchanged", "plausible", "anchor", "l1", "l2", "l0", "weighted_l1", "lam"),
    *("runtime_s", "iterations"),
    *("agreement", "majority", "oracle", "im1", "im2", "denoising_error", "neighbour_distance", "outlier_factor"),
    *("noise_stability", "seed_stability", "components", "diversity", "diversity_l0", "best_known"),
]


def test_a_sweep_leaves_a_row_and_a_result_for_each_cell(swept):
    table = swept.table()
    assert table.columns.tolist() == COLUMNS
    assert table["target_class"].tolist() == ["0", "1", "other"]
    for row in table.to_dict("records"):
        result = Result.load(swept.path / "artifacts/counterfactuals" / f"{row['cell']}.npz")
        assert result.l1[0] == row["l1"] and result.x.shape == (1, 28, 28, 1)
    assert table["found"].all() and (table["probability"] >= 0.99).all()
    assert (table["im1"] > 0).all() and (table["im2"] > 0).all() and table["agreement"].between(0, 1).all()


def test_the_default_instance_is_the_first_seven_of_the_test_split(swept):
    with np.load(swept.path / "artifacts/data.npz") as data:
        labels = data["y_test"]
    assert swept.table()["instance"].unique().tolist() == [int(np.flatnonzero(labels == 7)[0])]


def test_mlflow_holds_a_parent_and_a_child_for_each_cell(swept):
    (parent,), children = swept.runs("sweep"), swept.runs("cell")
    assert parent.info.status == "FINISHED" and parent.info.run_name == "targets"
    assert parent.data.params["training.epochs"] == "3" and "test_accuracy" in parent.data.metrics
    assert {"judges/committee_test_accuracy", "judges/real_agreement", "validity", "l1", "quality/im1"} <= set(
        parent.data.metrics
    )
    assert {"mlflow.source.git.commit", "cfx.git_dirty", "cfx.sha256.requirements.lock"} <= set(parent.data.tags)
    assert parent.data.tags["cfx.git_dirty"] == "no"
    assert {child.info.run_name for child in children} == {"target_class=0", "target_class=1", "target_class=other"}
    rows = {row["cell"]: row for row in swept.table().to_dict("records")}
    for child in children:
        row = rows.pop(child.data.tags["cfx.cell"])
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.params["target_class"] == row["target_class"] and float(child.data.params["lam_init"]) == 0.1
        for metric in ("probability", "l1", "runtime_s", "quality/im1", "quality/agreement", "quality/components"):
            assert child.data.metrics[metric] == pytest.approx(row[metric.removeprefix("quality/")])
        folder = swept.path / "mlartifacts" / child.info.run_id / "artifacts"
        assert (folder / "counterfactuals.json").exists() and list(folder.glob("images/*.png"))
    assert not rows


def test_the_same_command_again_does_no_work_and_imports_no_tensorflow(swept, tmp_path):
    repository = swept.copy(tmp_path / "again")
    before = {kind: {run.info.run_id for run in repository.runs(kind)} for kind in ("sweep", "cell")}
    records = repository.records()
    again = subprocess.run(
        [*repository.command("pipelines.run", *SWEEP)[:1], "-X", "importtime", "-m", "pipelines.run", *SWEEP],
        cwd=repository.path,
        env=repository.environment(),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0 and "3 cells, 0 to compute" in again.stdout
    assert "pipelines.stages.explain" in again.stderr
    assert not re.search(r"\| +(tensorflow|keras)$", again.stderr, re.MULTILINE)
    assert {kind: {run.info.run_id for run in repository.runs(kind)} for kind in ("sweep", "cell")} == before
    assert repository.records() == records
    assert "up to date" in repository.run("dvc", "status").stdout


def test_dvc_alone_gives_the_same_counterfactuals(swept, tmp_path):
    """From the first model to the last row, and all cells in one batch, which were a job each."""
    repository = swept.copy(tmp_path / "dvc")
    subprocess.run(["rm", "-rf", "cells", "artifacts", "dvc.lock", ".dvc/cache", ".dvc/tmp"], cwd=repository.path)
    done = repository.run("dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    timed = ["runtime_s"]
    pd.testing.assert_frame_equal(repository.table().drop(columns=timed), swept.table().drop(columns=timed))
    for cell in swept.table()["cell"]:
        one, two = (Result.load(r.path / "artifacts/counterfactuals" / f"{cell}.npz") for r in (swept, repository))
        assert one.x.tobytes() == two.x.tobytes() and one.path.x.tobytes() == two.path.x.tobytes()
        assert one.iterations.tolist() == two.iterations.tolist()
    metrics = repository.run("dvc", "metrics", "show", "--json")
    assert "test_accuracy" in metrics.stdout
    assert "up to date" in repository.run("dvc", "status").stdout


def test_a_job_that_asked_for_a_gpu_and_sees_none_fails_unless_told_otherwise(swept, tmp_path):
    """Then it has what was missing: a wider sweep computes only what is new, two cells a job."""
    repository, hidden = swept.copy(tmp_path / "gpu"), {"CUDA_VISIBLE_DEVICES": ""}
    before = repository.records()
    alone = ("pipelines.run", *SWEEP, "launch.gpus=1", "search.target_class=2")
    failed = repository.run(*alone, **hidden)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "missing: target_class=2: " in failed.stderr and "launch.without_gpu=cpu" in failed.stderr
    assert len(repository.table()) == 0 and repository.runs("sweep")[0].info.status == "FAILED"
    wider = (*alone[:-1], "search.target_class=1,2,3,4", "launch.without_gpu=cpu", "launch.cells_per_job=2")
    done = repository.run(*wider, **hidden)
    assert done.returncode == 0 and "4 cells, 3 to compute" in done.stdout, done.stdout + done.stderr
    assert len(repository.runs("sweep")) == 3 and len(repository.runs("cell")) == 3 + 4 + 1
    after = repository.records()
    assert {cell: after[cell] for cell in before} == before
    new = [after[cell] for cell in after.keys() - before.keys()]
    assert sorted(record["batch"] for record in new) == [1, 2, 2]
    for record in new:
        assert record["device"]["kind"] == "CPU" and record["device"]["cuda_visible_devices"] == ""


def test_runs_that_were_left_unfinished_or_doubled_are_put_right(swept, tmp_path):
    repository = swept.copy(tmp_path / "left")
    client = MlflowClient(f"sqlite:///{repository.path}/mlflow.db")
    good = repository.runs("cell")
    for run, status in zip(good, (None, "KILLED", "FAILED"), strict=True):
        tags = {key: run.data.tags[key] for key in ("mlflow.parentRunId", "cfx.kind", "cfx.cell")}
        double = client.create_run(run.info.experiment_id, tags=tags)
        if status is not None:
            client.set_terminated(double.info.run_id, status)
    client.delete_run(good[0].info.run_id)
    assert repository.run("pipelines.run", *SWEEP).returncode == 0
    after = repository.runs("cell")
    assert {run.info.status for run in after} == {"FINISHED"}
    assert sorted(run.data.tags["cfx.cell"] for run in after) == sorted(swept.table()["cell"])
    assert all("l1" in run.data.metrics for run in after)


def a_finished_cell(repository: Repository) -> subprocess.Popen[str]:
    """The driver of the sweep, once it has finished one more cell."""
    started = repository.start("pipelines.run", *SWEEP, "launch.cells_per_job=1")
    for line in started.stdout:
        if line.startswith("target_class="):
            return started
    pytest.fail("the driver ended before it finished a cell")


def test_a_killed_and_an_interrupted_sweep_keep_what_is_finished_and_run_again_give_the_same_table(swept, tmp_path):
    repository = swept.copy(tmp_path / "interrupted")
    repository.forget()
    killed = a_finished_cell(repository)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = repository.records()
    assert 1 <= len(before) < 3
    started = a_finished_cell(repository)
    started.send_signal(signal.SIGINT)
    said = started.stdout.read()
    assert started.wait() == 130 and "stopped: finished cells are kept" in said and "Traceback" not in said
    started.stdout.close()
    assert [run.info.status for run in repository.runs("sweep")] == ["KILLED"]
    assert {run.info.status for run in repository.runs("cell")} == {"FINISHED"}
    finished = repository.records()
    assert len(before) < len(finished) < 3
    assert {cell: finished[cell] for cell in before} == before
    again = repository.run("pipelines.run", *SWEEP)
    assert again.returncode == 0, again.stdout + again.stderr
    after = repository.records()
    assert {cell: after[cell] for cell in finished} == finished
    pd.testing.assert_frame_equal(repository.table().drop(columns="runtime_s"), swept.table().drop(columns="runtime_s"))
    assert len(repository.runs("sweep")) == 1 and len(repository.runs("cell")) == 3
    assert {run.info.status for kind in ("sweep", "cell") for run in repository.runs(kind)} == {"FINISHED"}


def test_an_interrupt_inside_a_destructor_ends_the_driver_too(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    program = f"""
import os, time
from pipelines.run import driver
os.chdir({str(tmp_path)!r})
class Fragile:
    def __del__(self):
        os.kill(os.getpid(), {signal.SIGTERM.value})
        time.sleep(1)
with driver():
    Fragile()
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 130 and "stopped: finished cells are kept" in ended.stderr
    assert "Traceback" not in ended.stderr


def a_stage(started: subprocess.Popen[str]) -> psutil.Process:
    """The process that trains, once it has begun to."""
    while started.poll() is None:
        time.sleep(0.2)
        # other children may be gone when they are looked at
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(started.pid).children(recursive=True):
                if "pipelines.stages.train" in child.cmdline() and any(
                    ".stage.lock" in f.path for f in child.open_files()
                ):
                    return child
    pytest.fail("the driver ended before it trained")


def test_a_stage_ends_with_its_driver_and_the_artefacts_stay_as_they_were(swept, tmp_path):
    repository = swept.copy(tmp_path / "training")
    model = (repository.path / "artifacts/model.keras").read_bytes()
    started = repository.start("pipelines.run", *SWEEP, "training.epochs=500")
    stage = a_stage(started)
    started.terminate()
    assert "stopped: " in started.communicate(timeout=60)[0] and started.returncode == 130
    assert not stage.is_running()
    assert (repository.path / "artifacts/model.keras").read_bytes() == model
    assert "up to date" in repository.run("dvc", "status").stdout


def test_what_a_killed_driver_left_at_work_is_waited_for(swept, tmp_path):
    repository = swept.copy(tmp_path / "left_at_work")
    started = repository.start("pipelines.run", *SWEEP, "training.epochs=500")
    stage = a_stage(started)
    started.kill()
    started.wait()
    refused = repository.run("pipelines.run", *SWEEP)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert (
        refused.stderr.startswith("error: a stage is still running in this folder") and refused.stderr.count("\n") == 1
    )
    stage.kill()
    started.stdout.close()
    assert repository.run("pipelines.run", *SWEEP).returncode == 0
    assert "up to date" in repository.run("dvc", "status").stdout


def test_a_second_run_in_the_same_folder_is_refused(swept, tmp_path):
    repository = swept.copy(tmp_path / "two")
    with filelock.FileLock(repository.path / ".run.lock"):
        refused = repository.run("pipelines.run", *SWEEP)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: another run is active") and refused.stderr.count("\n") == 1
