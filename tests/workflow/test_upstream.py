"""A sweep over what the classifier comes from: the seed, the training, the data."""

import json
import shutil

from cfx import models
from tests.workflow.conftest import SMALL

SEEDS = ("-m", "seed=1,0", "search.target_class=1", *SMALL)


def test_a_sweep_over_the_seed_trains_each_model_once_and_explains_all_of_them(swept, tmp_path):
    repository = swept.copy(tmp_path / "seeds")
    done = repository.run("pipelines.run", *SEEDS)
    assert done.returncode == 0, done.stdout + done.stderr
    # the cell of seed 0 is the one that the sweep over targets has left
    assert "2 cells, 1 to compute" in done.stdout
    table = repository.table()
    assert table["seed"].tolist() == [1, 0] and table["target_class"].tolist() == ["1", "1"]
    assert table["l1"].nunique() == 2 and table["found"].all()
    kept = [models.sha256(path) for path in sorted(repository.path.glob("models/*/model.keras"))]
    assert len(set(kept)) == 2
    (parent,) = [run for run in repository.runs("sweep") if run.info.run_name == "seed"]
    children = [run for run in repository.runs("cell") if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert {run.info.run_name for run in children} == {"seed=1", "seed=0"}
    assert {run.data.params["seed"] for run in children} == {"0", "1"}

    again = repository.run("pipelines.run", *SEEDS)
    assert again.returncode == 0 and "2 cells, 0 to compute" in again.stdout and "train:" not in again.stdout
    assert "up to date" in repository.run("dvc", "status").stdout

    # the models are kept by what they are made from, and DVC has them: a new folder of them needs no training
    shutil.rmtree(repository.path / "models")
    refused = repository.run("dvc", "repro", "--force", "--single-item", "explain")
    assert "a model of the sweep is not here" in refused.stderr
    restored = repository.run("pipelines.run", *SEEDS)
    assert restored.returncode == 0 and "train:" not in restored.stdout, restored.stdout


def test_data_sets_are_compared_in_one_table(swept, tmp_path):
    repository = swept.copy(tmp_path / "data")
    done = repository.run("pipelines.run", "-m", "data.seed=0,1", "search.target_class=1", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert repository.table()["data.seed"].tolist() == [0, 1]
    cards = [json.loads(path.read_text()) for path in repository.path.glob("models/*/data.json")]
    assert len({card["sha256"] for card in cards}) == 2
