import hashlib
import zipfile

import keras
import numpy as np
import pytest

from cfx import architectures, models
from cfx.data import Dataset
from cfx.errors import InputError


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (rng.random((120, 8, 8, 1), np.float32) - 0.5) * 0.2
    for label in range(3):
        x[y == label, 2 * label : 2 * label + 2] += 0.4
    return Dataset(x[:90], y[:90], x[90:], y[90:])


@pytest.fixture(scope="module")
def model(dataset):
    return trained(dataset, 0)[0]


def trained(dataset, seed, seen=None):
    return models.train(
        lambda: architectures.cnn(dataset.input_shape, 3, filters=(4, 4), hidden=16, dropout=0, hidden_dropout=0.1),
        dataset,
        epochs=8,
        batch_size=16,
        learning_rate=0.01,
        seed=seed,
        progress=seen,
    )


def test_training_learns_and_tells_how_far_it_is(dataset):
    seen = []
    model, history = trained(dataset, 0, lambda done, total: seen.append((done, total)))
    assert history["test_accuracy"].iloc[-1] > 0.8
    assert history["epoch"].tolist() == list(range(1, 9))
    assert set(history) == {"epoch", "loss", "accuracy", "test_loss", "test_accuracy"}
    assert seen == [(i, 48) for i in range(1, 49)]
    assert np.argmax(model(dataset.x_test), axis=1).shape == (30,)


def test_the_same_seed_gives_the_same_file_digest_and_another_seed_another(dataset, model, tmp_path):
    digests = []
    for i, made in enumerate((model, trained(dataset, 0)[0], trained(dataset, 1)[0])):
        made.save(tmp_path / f"{i}.keras")
        digests.append(models.sha256(tmp_path / f"{i}.keras"))
    assert digests[0] == digests[1] != digests[2]


def test_a_model_is_read_back_and_checked_against_the_data(dataset, model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras", dataset)
    np.testing.assert_array_equal(loaded(dataset.x_test), model(dataset.x_test))


@pytest.mark.parametrize(
    ("shape", "units", "told"), [((9, 8, 1), 3, "takes inputs of shape"), ((8, 8, 1), 4, "3 classes")]
)
def test_a_model_that_does_not_fit_the_data_is_refused(dataset, tmp_path, shape, units, told):
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(units, "softmax")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=told):
        models.load(tmp_path / "model.keras", dataset)


def test_files_that_are_no_model_are_refused_in_one_line(tmp_path, model):
    (tmp_path / "text.keras").write_text("no model")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    model.save(tmp_path / "whole.keras")
    whole = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    for name in ("text.keras", "empty.keras", "cut.keras", "absent.keras"):
        with pytest.raises(InputError, match=name) as raised:
            models.load(tmp_path / name)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"text\.keras: is not a \.keras file, or is incomplete; save it with"):
        models.load(tmp_path / "text.keras")


def test_a_model_that_carries_code_is_not_run(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    model.save(tmp_path / "code.keras")
    with pytest.raises(InputError, match="safe mode"):
        models.load(tmp_path / "code.keras")


def test_code_in_a_model_is_run_where_the_file_is_trusted(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: 3 * x)])
    model.save(tmp_path / "code.keras")
    trusted = models.load(tmp_path / "code.keras", safe_mode=False)
    np.testing.assert_allclose(trusted(np.ones((1, 2))), 3)


SOURCE = """
from __future__ import annotations

import keras
from keras import layers

class Net(keras.Model):
    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.flat, self.dense = layers.Flatten(), layers.Dense(units, activation="softmax")

    def call(self, x):
        return self.dense(self.flat(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}
"""


@pytest.fixture
def subclassed(tmp_path):
    """A model of a class that keras does not know, its file, and the digest of the module in it."""
    made = {"__name__": "mine"}
    exec(SOURCE, made)
    model = made["Net"](3)
    model(np.zeros((1, 8, 8, 1)))
    model.save(tmp_path / "own.keras")
    models.embed(tmp_path / "own.keras", SOURCE.encode())
    return model, tmp_path / "own.keras", hashlib.sha256(SOURCE.encode()).hexdigest()


def test_a_subclassed_model_is_read_with_the_module_that_was_asked_for_and_with_no_other(dataset, subclassed):
    model, path, digest = subclassed
    loaded = models.load(path, dataset, module_sha256=digest)
    np.testing.assert_array_equal(loaded(dataset.x_test), model(dataset.x_test))
    with pytest.raises(InputError, match=r"Could not locate class 'Net'\); register classes and functions of your own"):
        models.load(path, dataset)
    with pytest.raises(InputError, match="does not have the given SHA-256"):
        models.load(path, dataset, module_sha256="0" * 64)


def test_the_module_of_a_model_is_part_of_its_digest(subclassed, tmp_path):
    _, path, _ = subclassed
    before = models.sha256(path)
    other = tmp_path / "other.keras"
    other.write_bytes(path.read_bytes())
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(other, "w") as two:
        for member in one.namelist():
            two.writestr(member, one.read(member) + (b"# changed" if member == models.MODULE else b""))
    assert models.sha256(other) != before


@pytest.mark.parametrize(
    ("source", "reason"),
    [(b"import nothing_of_that_name", "ModuleNotFoundError: .*nothing_of"), (b"raise SystemExit(3)", "SystemExit: 3")],
)
def test_a_module_that_cannot_be_run_is_named_in_one_line(dataset, model, tmp_path, source, reason):
    model.save(tmp_path / "model.keras")
    models.embed(tmp_path / "model.keras", source)
    with pytest.raises(InputError, match=rf"the module with the model's classes cannot be run \({reason}") as raised:
        models.load(tmp_path / "model.keras", dataset, module_sha256=hashlib.sha256(source).hexdigest())
    assert "\n" not in str(raised.value)
    models.load(tmp_path / "model.keras", dataset)


def test_a_model_with_named_outputs_is_told_so(dataset, tmp_path):
    image = keras.Input(dataset.input_shape)
    outputs = keras.layers.Dense(dataset.classes)(keras.layers.Flatten()(image))
    keras.Model(image, {"scores": outputs}).save(tmp_path / "named.keras")
    with pytest.raises(InputError, match="returns a dict of 1 outputs; give a model with one"):
        models.load(tmp_path / "named.keras", dataset)


@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)])
def test_a_model_trained_on_other_bounds_gets_its_inputs_in_these(dataset, model, tmp_path, bounds):
    low, high = bounds
    of_bounds = models.rescaled(model, (low, high), dataset)
    seen = low + (high - low) * (dataset.x_test + 0.5)
    np.testing.assert_allclose(of_bounds(dataset.x_test), model(seen), atol=1e-4)
    of_bounds.save(tmp_path / "rescaled.keras")
    np.testing.assert_array_equal(
        models.load(tmp_path / "rescaled.keras", dataset)(dataset.x_test), of_bounds(dataset.x_test)
    )


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, float("inf")), (float("nan"), 1), (0, 1e39)])
def test_bounds_of_a_model_that_are_no_range_are_refused(dataset, model, bounds):
    with pytest.raises(InputError, match=r"^bounds="):
        models.rescaled(model, bounds, dataset)
