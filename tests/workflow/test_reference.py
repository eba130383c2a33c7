"""At full size: the reference example, and the same bits from the same seed in two fresh clones."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cfx import models
from cfx.result import Result
from tests.workflow.conftest import fresh

pytestmark = pytest.mark.slow

# the networks and the search as they are by default, for less long
SHORT = ("training.epochs=4", "judges.steps=60", "search.max_iter=300")


def test_the_reference_example_on_all_of_mnist(tmp_path):
    if not os.environ.get("MNIST_NPZ"):
        pytest.skip("MNIST_NPZ does not name MNIST's .npz")
    repository = fresh(tmp_path)
    mnist = Path(os.environ["MNIST_NPZ"]).resolve()
    done = repository.run("pipelines.run", "+experiment=cf_mnist", "judges.steps=60", MNIST_NPZ=str(mnist))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "artifacts/metrics.json").read_text())["test_accuracy"] >= 0.985
    table = repository.table().set_index("target_class")
    assert table["instance"].tolist() == [0, 0] and table["original_class"].tolist() == [7, 7]
    assert table["found"].all() and (table["probability"] >= 0.99).all()
    assert table["cf_class"]["1"] == 1 and table["cf_class"]["other"] != 7
    for cell in table["cell"]:
        path = Result.load(tmp_path / "artifacts/counterfactuals" / f"{cell}.npz").path
        assert len(path.lam) > 1 and (path.probability >= 0.99).all()
    pictures = list((tmp_path / "artifacts/report/pictures").glob("*.png"))
    assert len(pictures) >= 4  # a counterfactual with its difference and an evolution for each of the two


def test_the_same_seed_gives_the_same_bits_in_two_fresh_clones(tmp_path):
    def run(name: str):
        (tmp_path / name).mkdir()
        repository = fresh(tmp_path / name)
        return repository, repository.run("pipelines.run", "-m", "search.target_class=1,other", *SHORT)

    weights, counterfactuals = [], []
    with ThreadPoolExecutor(2) as both:
        clones = list(both.map(run, ("one", "two")))
    for repository, done in clones:
        assert done.returncode == 0, done.stdout + done.stderr
        weights.append(models.load(repository.path / "artifacts/model.keras").get_weights())
        results = [
            Result.load(repository.path / "artifacts/counterfactuals" / f"{cell}.npz")
            for cell in repository.table()["cell"]
        ]
        counterfactuals.append([result.x.tobytes() for result in results])
    assert all(np.array_equal(one, two) for one, two in zip(*weights, strict=True))
    assert counterfactuals[0] == counterfactuals[1]
