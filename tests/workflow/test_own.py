"""A researcher's own images and classifiers: other classes, another shape, and models that end in other ways."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
import skops.io
from keras import layers
from sklearn.linear_model import LogisticRegression

from cfx.result import Result
from tests.workflow.conftest import fresh

NAMES = ["T-shirt/top", "trouser", "sandal", "bag", "ankle boot"]
SMALL = ("judges.steps=20", "search=primal_dual", "search.max_iter=20")

SOURCE = """
import keras
from keras import layers


class Patches(keras.Model):
    def __init__(self, classes, **options):
        super().__init__(**options)
        self.classes = classes
        self.pooled = layers.AveragePooling2D(8)
        self.flat = layers.Flatten()
        self.last = layers.Dense(classes, activation="softmax")

    def call(self, images):
        return self.last(self.flat(self.pooled(images)))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A clone in which nothing has been run; the tests here use it one after the other."""
    path = tmp_path_factory.mktemp("own") / "clone"
    path.mkdir()
    return fresh(path)


def images(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise (n, 32, 32, 3) with a bright square at a place that tells the class."""
    random = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = random.integers(0, 80, (count, 32, 32, 3))
    for label in range(classes):
        x[y == label, 6 * label : 6 * label + 8, 6 * label : 6 * label + 8] += 150
    return x.astype(np.uint8), y


def written(path, classes: int, scale: float = 1, **others):
    arrays = {}
    for seed, split in enumerate(("train", "test")):
        x, arrays[f"y_{split}"] = images(classes, 40 * classes, seed)
        arrays[f"x_{split}"] = x if scale == 1 else (x * scale).astype(np.float32)
    np.savez(path, **arrays, **others)
    return path


def fitted(model: keras.Model, x: np.ndarray, y: np.ndarray, loss) -> keras.Model:
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(0.05), loss)
    model.fit(x, y, epochs=40, batch_size=len(x), verbose=0)
    return model


def accuracy(repository) -> float:
    return json.loads((repository.path / "artifacts/metrics.json").read_text())["test_accuracy"]


def test_logits_of_named_classes_by_the_template(repository, tmp_path):
    """The model was trained on [0, 1]; a target is given by its name; what a person reads has names."""
    data = written(tmp_path / "mine.npz", 5, class_names=np.array(NAMES))
    x, y = images(5, 200, 0)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.AveragePooling2D(8), layers.Flatten(), layers.Dense(5, name="logits")]
    )
    fitted(model, x / 255, y, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(tmp_path / "mine.keras")
    shutil.copyfile(repository.path / "conf/experiment/own.yaml", repository.path / "conf/experiment/mine.yaml")
    chosen = ("+experiment=mine", f"data.path={data}", f"model.path={tmp_path / 'mine.keras'}", *SMALL)
    done = repository.run("pipelines.run", *chosen, "search.target_class=other,'ankle boot'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert accuracy(repository) > 0.95
    kept, x_test = keras.saving.load_model(repository.path / "artifacts/model.keras"), images(5, 200, 1)[0]
    np.testing.assert_allclose(kept(x_test / 255 - 0.5), model(x_test / 255), atol=1e-4)
    table = repository.table()
    assert table["target_class"].tolist() == ["other"] * 5 + ["4"] * 5 and table["found"].all()
    assert table["original_class"].tolist() == [0, 1, 2, 3, 4] * 2
    assert (table["cf_class"][5:] == 4).all() and (table["cf_class"] != table["original_class"])[:5].all()
    for cell in table["cell"].unique():
        assert Result.load(repository.path / "artifacts/counterfactuals" / f"{cell}.npz").x.shape == (5, 32, 32, 3)

    report = repository.path / "artifacts/report"
    page = (report / "index.html").read_text()
    assert "sandal → ankle boot, p=" in page and "<td>T-shirt/top<td>ankle boot<td>" in page
    assert "Instance 2, classified as sandal" in page
    assert f"in 5 classes: {', '.join(NAMES)}" in page
    assert r" & ankle boot & sandal & ankle boot & " in (report / "tables/counterfactuals.tex").read_text()
    with (report / "tables/counterfactuals.csv").open() as file:
        assert {row["cf_class"] for row in csv.DictReader(file)} <= set("01234")
    shown = [line.split() for line in done.stdout.splitlines()]
    assert any(row[:2] == ["other", "5/5"] for row in shown)
    assert any(row[:2] == ["ankle", "boot"] for row in shown)
    card = json.loads((repository.path / "artifacts/data.json").read_text())
    assert (card["classes"], card["class_names"], card["input_shape"]) == (5, NAMES, [32, 32, 3])

    again = repository.run("pipelines.run", *chosen, "search.target_class=other,'ankle boot'")
    assert again.returncode == 0 and "2 cells, 0 to compute" in again.stdout
    assert "up to date" in repository.run("dvc", "status").stdout


@pytest.mark.slow
def test_one_sigmoid_for_two_classes_of_floats_and_code_that_is_trusted(repository, tmp_path):
    data = written(tmp_path / "two.npz", 2, 1 / 255)
    x, y = images(2, 80, 0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Lambda(lambda images: 2 * images),
            layers.AveragePooling2D(8),
            layers.Flatten(),
            layers.Dense(1, "sigmoid"),
        ]
    )
    fitted(model, x / 255 - 0.5, y, "binary_crossentropy").save(tmp_path / "two.keras")
    chosen = ("data=npz", f"data.path={data}", "data.bounds=[0,1]", "instances.classes=all", *SMALL)
    own = ("model=keras", f"model.path={tmp_path / 'two.keras'}", "model.safe_mode=false")
    done = repository.run("pipelines.run", *chosen, *own)
    assert done.returncode == 0, done.stdout + done.stderr
    table = repository.table()
    assert accuracy(repository) > 0.95 and table["found"].all()
    assert (table["original_class"].tolist(), table["cf_class"].tolist()) == ([0, 1], [1, 0])
    assert "0 → 1, p=" in (repository.path / "artifacts/report/index.html").read_text()


@pytest.mark.slow
def test_a_classifier_of_scikit_learn_is_explained_with_its_own_gradients(repository, tmp_path):
    data = written(tmp_path / "mine.npz", 3)
    x, y = images(3, 120, 0)
    linear = LogisticRegression().fit(x.reshape(120, -1) / 255, y)
    skops.io.dump(linear, repository.path / "mine.skops")
    chosen = ("data=npz", f"data.path={data}", "model=sklearn", "model.path=mine.skops", "model.bounds=[0,1]", *SMALL)
    done = repository.run("pipelines.run", *chosen, "instances.classes=all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert accuracy(repository) > 0.95 and repository.table()["found"].all()
    (cell,) = repository.table()["cell"].unique()
    result = Result.load(repository.path / "artifacts/counterfactuals" / f"{cell}.npz")
    probabilities = linear.predict_proba(result.x.reshape(3, -1).astype(float) + 0.5)
    np.testing.assert_allclose(probabilities.max(axis=1), result.probability, atol=1e-5)
    again = repository.run("pipelines.run", *chosen, "instances.classes=all")
    assert again.returncode == 0 and "1 cell, 0 to compute" in again.stdout


@pytest.mark.slow
def test_a_subclassed_model_goes_with_its_module_and_is_another_with_another(repository, tmp_path):
    data, module, path = written(tmp_path / "mine.npz", 3), tmp_path / "patches.py", tmp_path / "patches.keras"
    module.write_text(SOURCE)
    defined = {"__name__": "patches"}
    exec(SOURCE, defined)
    x, y = images(3, 120, 0)
    fitted(defined["Patches"](3), x / 255 - 0.5, y, "sparse_categorical_crossentropy").save(path)
    chosen = ("data=npz", f"data.path={data}", "model=keras", f"model.path={path}", f"model.module={module}", *SMALL)
    chosen = (*chosen, "instances.classes=[0]", "-m", "search.target_class=1,2")
    done = repository.run("pipelines.run", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert accuracy(repository) > 0.95 and repository.table()["found"].all()
    assert repository.table()["cf_class"].tolist() == [1, 2]

    module.write_text(SOURCE.replace("self.pooled(images)", "self.pooled(0.9 * images)"))
    changed = repository.run("pipelines.run", *chosen)
    assert changed.returncode == 0 and "2 cells, 2 to compute" in changed.stdout, changed.stdout + changed.stderr
