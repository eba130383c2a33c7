"""A sweep over what the classifier comes from: the seed, the training, the data, the model."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cfx import models
from tests.workflow.conftest import SMALL, Repository, fresh, shared

SEEDS = ("-m", "seed=0,1,2", "search.target_class=1", *SMALL)
# The user's own model beside ours, on two splits of the data: by choices that are added to conf/.
CHOICES = {
    "model/small.yaml": "defaults: [cnn]\nfilters: [16, 16]\nhidden: 64\n",
    "model/mine.yaml": "defaults: [keras]\npath: mine.keras\n",
    "data/again.yaml": "defaults: [mnist_5k]\nseed: 1\n",
}
OTHERS = ("-m", "model=small,mine", "data=mnist_5k,again", "search.target_class=1")
OTHERS += tuple(option for option in SMALL if not option.startswith("model."))


def contents(repository: Repository) -> dict[str, str]:
    """The digest of what each file of the sweep's models computes, or of what it says."""
    found = {}
    for path in sorted(repository.path.glob("artifacts/**/*")):
        name = path.relative_to(repository.path).as_posix()
        if path.suffix == ".keras":
            found[name] = models.sha256(path)
        elif path.name in ("data.json", "metrics.json", "confusion.csv"):
            found[name] = path.read_text()
    return found


def connect(repository: Repository, remote: Path, move: str) -> None:
    """Push to, or pull from, a remote of DVC in a folder."""
    assert repository.run("dvc", "remote", "add", "--default", "here", str(remote)).returncode == 0
    moved = repository.run("dvc", move)
    assert moved.returncode == 0, moved.stderr


def pulled(origin: Repository, path: Path) -> Repository:
    """Another clone, which has what the sweep has made by way of a remote, and nothing else."""
    (path / "remote").mkdir(parents=True)
    (path / "clone").mkdir()
    clone = fresh(path / "clone")
    for name in ("params.yaml", "dvc.lock"):
        shutil.copyfile(origin.path / name, clone.path / name)
    for repository, move in ((origin, "push"), (clone, "pull")):
        connect(repository, path / "remote", move)
    return clone


def trained(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines by which the stages say that they have made something."""
    return [line for line in done.stdout.splitlines() if line.split(":")[0] in ("prepare", "train", "judges", "guides")]


# a sweep over what a classifier comes from trains several
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seeds(swept, tmp_path_factory) -> Repository:
    """A clone after a sweep over three seeds, the first of which the sweep over targets has left."""

    def make(path):
        done = swept.copy(path).run("pipelines.run", *SEEDS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [line.split(":")[0] for line in trained(done)] == ["train", "train"]
        assert "3 cells, 2 to compute" in done.stdout

    return shared(tmp_path_factory, "seeds", make)


def test_a_sweep_over_the_seed_trains_each_model_once_and_explains_all_of_them(seeds, tmp_path):
    repository = seeds.copy(tmp_path / "clone")
    table = repository.table()
    assert table["seed"].tolist() == [0, 1, 2] and table["target_class"].tolist() == ["1", "1", "1"]
    assert table["l1"].nunique() == 3 and table["found"].all()
    apart = sorted(path.name.partition("-")[0] for path in repository.path.glob("artifacts/variants/*-*"))
    assert apart == ["model", "model"]
    (parent,) = [run for run in repository.runs("sweep") if run.info.run_name == "seed"]
    children = [run for run in repository.runs("cell") if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert {run.info.run_name for run in children} == {"seed=0", "seed=1", "seed=2"}
    assert {run.data.params["seed"] for run in children} == {"0", "1", "2"}

    again = repository.run("pipelines.run", *SEEDS)
    assert again.returncode == 0 and "3 cells, 0 to compute" in again.stdout and trained(again) == []
    assert "up to date" in repository.run("dvc", "status").stdout

    for name in ("models", "artifacts/variants"):
        shutil.rmtree(repository.path / name)
    refused = repository.run("pipelines.stages.explain")
    assert refused.returncode == 2 and "is missing, but the sweep needs it" in refused.stderr
    assert repository.run("dvc", "repro", "variants").returncode == 0
    assert contents(repository) == contents(seeds)


@pytest.mark.long
def test_a_sweep_in_another_order_and_back_trains_what_is_new_alone(seeds, tmp_path):
    repository = seeds.copy(tmp_path / "clone")
    other = repository.run("pipelines.run", "-m", "seed=2,1", *SEEDS[2:])
    assert other.returncode == 0 and "2 cells, 0 to compute" in other.stdout, other.stdout + other.stderr
    assert repository.table()["seed"].tolist() == [2, 1]
    back = repository.run("pipelines.run", *SEEDS)
    assert back.returncode == 0 and "3 cells, 0 to compute" in back.stdout and trained(back) == []


def test_a_clone_that_pulls_a_sweep_over_seeds_trains_and_computes_nothing(seeds, tmp_path):
    clone = pulled(seeds.copy(tmp_path / "origin"), tmp_path / "pulled")
    assert "up to date" in clone.run("dvc", "status").stdout
    reproduced = clone.run("dvc", "repro")
    assert reproduced.returncode == 0 and "up to date" in reproduced.stdout, reproduced.stdout
    done = clone.run("pipelines.run", *SEEDS)
    assert done.returncode == 0 and "3 cells, 0 to compute" in done.stdout, done.stdout + done.stderr
    assert trained(done) == [] and clone.table().equals(seeds.table())
    assert "up to date" in clone.run("dvc", "status").stdout

    wider = clone.run("pipelines.run", "-m", "seed=0,1,2,3", *SEEDS[2:])
    assert wider.returncode == 0 and "4 cells, 1 to compute" in wider.stdout, wider.stdout + wider.stderr
    assert [line.split(":")[0] for line in trained(wider)] == ["train"]


def redone(repository: Repository) -> None:
    """Remove all models, and every copy of them; DVC alone makes the same ones again, and the table."""
    before, table = contents(repository), repository.table()
    shutil.rmtree(repository.path / "models", ignore_errors=True)  # a clone that pulled has made none
    for name in ("artifacts", "cells", ".dvc/cache"):
        shutil.rmtree(repository.path / name)
    done = repository.run("dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(repository) == before
    timed = ["runtime_s"]
    assert repository.table().drop(columns=timed).equals(table.drop(columns=timed))
    assert "up to date" in repository.run("dvc", "status").stdout


def test_dvc_alone_makes_a_sweep_over_seeds_again(seeds, tmp_path):
    redone(seeds.copy(tmp_path / "clone"))


@pytest.mark.long
def test_a_run_that_is_stopped_while_it_trains_keeps_the_models_that_are_finished(swept, tmp_path):
    repository = swept.copy(tmp_path / "clone")
    slow = (*SEEDS, "training.batch_size=8")
    started = repository.start("pipelines.run", *slow)
    assert started.stdout is not None
    for line in started.stdout:
        if line.startswith("variants: seed=2"):
            break
    started.terminate()
    assert "stopped: " in started.communicate(timeout=60)[0] and started.returncode == 130
    assert "up to date" in repository.run("dvc", "status").stdout
    done = repository.run("pipelines.run", *slow)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall("variants: (.*)", done.stdout) == ["seed=2"]


def test_data_and_models_are_compared_in_one_table_and_shared(swept, tmp_path):
    repository = swept.copy(tmp_path / "origin")
    own = choose(repository, (swept.path / "artifacts/model.keras").read_bytes())
    done = repository.run("pipelines.run", *OTHERS)
    assert done.returncode == 0, done.stdout + done.stderr
    table = repository.table()
    assert table["model"].tolist() == ["small", "small", "mine", "mine"]
    assert table["data"].tolist() == ["mnist_5k", "again", "mnist_5k", "again"]
    cards = [json.loads(path.read_text()) for path in repository.path.glob("artifacts/**/data.json")]
    assert len(cards) == 2 and cards[0]["sha256"] != cards[1]["sha256"]
    assert len(list(repository.path.glob("artifacts/**/committee.keras"))) == 2

    clone = pulled(repository, tmp_path / "pulled")
    choose(clone, own)
    assert "up to date" in clone.run("dvc", "repro").stdout
    again = clone.run("pipelines.run", *OTHERS)
    assert again.returncode == 0 and "4 cells, 0 to compute" in again.stdout, again.stdout + again.stderr
    assert trained(again) == [] and clone.table().equals(table)
    redone(clone)


def choose(repository: Repository, model: bytes) -> bytes:
    """Add the choices to a clone, with the file of the user's model."""
    for name, text in CHOICES.items():
        (repository.path / "conf" / name).write_text(text)
    (repository.path / "mine.keras").write_bytes(model)
    return model
