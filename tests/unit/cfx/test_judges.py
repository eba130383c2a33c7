import io
import zipfile

import h5py
import numpy as np
import pytest

from cfx import judges, models
from cfx.data import Dataset
from cfx.metrics import Judges
from cfx.neighbourhood import Neighbourhoods
from pipelines.stages.judges import accuracy, likeness, of_real


def images() -> Dataset:
    """A bar at a height that tells the class, of odd size and with two channels."""
    random = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = random.uniform(-0.5, -0.3, (240, 7, 9, 2)).astype(np.float32)
    for label in range(3):
        x[y == label, 2 * label : 2 * label + 2] += 0.6
    return Dataset(x[:180], y[:180], x[180:], y[180:])


def table() -> Dataset:
    """Two classes, each along a line of its own through eight features."""
    random = np.random.default_rng(0)
    y = np.arange(240) % 2
    directions = np.array([[1, 1, 0, 0, 1, -1, 0, 0], [0, 0, 1, -1, 0, 0, 1, 1]])
    x = (random.uniform(0.1, 0.4, (240, 1)) * directions[y] + random.normal(0, 0.01, (240, 8))).astype(np.float32)
    return Dataset(x[:180], y[:180], x[180:], y[180:])


@pytest.mark.parametrize("dataset", [images(), table()], ids=["images", "table"])
def test_the_judges_know_the_classes_of_examples_they_have_not_seen(dataset):
    seen = []
    autoencoders = judges.autoencoders(dataset, steps=80, seed=1, progress=lambda *at: seen.append(at))
    committee = judges.committee(dataset, steps=80, seed=1)
    assert autoencoders(dataset.x_test).shape == (60, dataset.classes + 2, *dataset.input_shape)
    assert accuracy(lambda x: likeness(x, np.asarray(autoencoders(x))), dataset) > 0.9
    assert committee(dataset.x_test).shape == (60, 5, dataset.classes)
    for member in range(5):
        assert accuracy(lambda x, member=member: np.asarray(committee(x))[:, member], dataset) > 0.9
    assert seen == [(step, 80) for step in range(1, 81)]


def test_real_instances_are_of_their_own_class_to_the_judges():
    dataset = images()
    trained = [train(dataset, steps=80, seed=1) for train in (judges.autoencoders, judges.committee)]
    real = of_real(dataset, Judges(*trained, Neighbourhoods(dataset.x_train, dataset.y_train)))
    assert real["real_agreement"] > 0.9 and real["real_majority"] > 0.9 and real["real_im1"] < 1
    assert 0.8 < real["real_neighbour_distance"] < 1.3 and 0.8 < real["real_outlier_factor"] < 1.3


def test_an_autoencoder_learns_from_its_own_class_alone():
    dataset = table()
    changed = Dataset(
        np.where(dataset.y_train[:, None] == 1, -dataset.x_train, dataset.x_train), dataset.y_train, *[None] * 2
    )
    before, after = (np.asarray(judges.autoencoders(d, steps=5, seed=1)(dataset.x_test)) for d in (dataset, changed))
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-6)
    assert np.abs(after[:, 1] - before[:, 1]).max() > 1e-3 and np.abs(after[:, 2] - before[:, 2]).max() > 1e-3


@pytest.mark.parametrize("train", [judges.autoencoders, judges.committee])
def test_the_same_seed_gives_the_same_judge_and_its_file_holds_no_optimizer(train, tmp_path):
    dataset, path = images(), tmp_path / "judge.keras"
    digests = []
    for seed in (1, 1, 2):
        judge = train(dataset, steps=3, seed=seed)
        judge.save(path)
        digests.append(models.sha256(path))
    assert digests[0] == digests[1] != digests[2]
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        assert b"Adam" not in archive.read("config.json") and "optimizer" not in weights
    np.testing.assert_array_equal(models.load(path)(dataset.x_test), judge(dataset.x_test))
