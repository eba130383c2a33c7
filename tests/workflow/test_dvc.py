"""DVC as its users know it: a remote, metrics, parameters."""

import io
import shutil
import subprocess

import pandas as pd

from tests.workflow.conftest import SWEEP, fresh


def test_a_clone_that_pulls_computes_no_cell(swept, tmp_path):
    (tmp_path / "remote").mkdir()
    (tmp_path / "clone").mkdir()
    origin, clone = swept.copy(tmp_path / "origin"), fresh(tmp_path / "clone")
    for name in ("params.yaml", "dvc.lock"):
        shutil.copyfile(origin.path / name, clone.path / name)
    for repository, move in ((origin, "push"), (clone, "pull")):
        assert repository.run("dvc", "remote", "add", "--default", "here", str(tmp_path / "remote")).returncode == 0
        moved = repository.run("dvc", move)
        assert moved.returncode == 0, moved.stderr
    done = clone.run("pipelines.run", *SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 cells, 0 to compute" in done.stdout and "train:" not in done.stdout
    assert clone.records() == origin.records()
    assert clone.table().equals(origin.table())
    assert len(clone.runs("cell")) == 3


def test_experiments_vary_a_parameter_and_show_what_came_of_it(swept, tmp_path):
    repository = swept.copy(tmp_path / "experiments")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["add", "-A"], ["commit", "-qm", "swept"]):
        subprocess.run([*git, *arguments], cwd=repository.path, check=True)
    changes = ("-S", "search.lam_init=0.2", "-S", "sweep.target_class=[1]")
    done = repository.run("dvc", "exp", "run", "--name", "wider", *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'train' didn't change" in done.stdout and repository.table()["lam_init"].tolist() == [0.2]
    differences = repository.run("dvc", "params", "diff").stdout
    assert "search.lam_init" in differences and "0.2" in differences and "training.epochs" not in differences
    metrics = repository.run("dvc", "metrics", "show").stdout
    assert "artifacts/metrics.json" in metrics and "artifacts/judges/metrics.json" in metrics
    shown = pd.read_csv(io.StringIO(repository.run("dvc", "exp", "show", "--csv").stdout))
    (wider,) = shown[shown["Experiment"] == "wider"].to_dict("records")
    before = shown[shown["typ"] == "baseline"].iloc[-1]
    assert (wider["search.lam_init"], before["search.lam_init"]) == (0.2, 0.1)
    assert wider["l1"] == repository.table()["l1"].item() != before["l1"]
    assert repository.run("dvc", "plots", "show", "--out", "plots").returncode == 0
    assert "confusion.png" in (repository.path / "plots/index.html").read_text()
