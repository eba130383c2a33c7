"""What the stage `train` makes of a classifier of the user's own."""

import json

import keras
import numpy as np
import pytest

from cfx.data import Dataset
from cfx.errors import InputError
from pipelines.cells import paths
from pipelines.config import schema
from pipelines.config.parameters import from_config
from pipelines.stages import train
from tests.unit.pipelines.test_schema import raw


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with prepared data of two classes, told apart by their only feature."""
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-0.5, 0.5, 40, dtype=np.float32)[:, np.newaxis]
    Dataset(x, (x[:, 0] > 0).astype(int), x, (x[:, 0] > 0).astype(int)).save(paths.LATEST.data)


def trained(threshold: float, replicas: int = 0, **section) -> None:
    """Run the stage for a model that takes a table of one feature, and says 1 above the threshold."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid")])
    model.set_weights([np.array([[50.0]]), np.array([-50.0 * threshold])])
    model.save("mine.keras")
    given = {"name": "keras", "path": "mine.keras", "sha256": None, "module_sha256": None, "safe_mode": True}
    schema.write(from_config(raw(training={"replicas": replicas}) | {"model": given | section}, {}))
    train.make(schema.read(), paths.LATEST)


def test_a_model_is_fed_inputs_in_its_own_bounds(repository, capsys):
    trained(0.5, bounds=[0, 1])
    assert "test accuracy 1.0000" in capsys.readouterr().out
    kept = keras.saving.load_model(paths.LATEST.model)
    np.testing.assert_allclose(kept(np.array([[-0.5], [0.0], [0.5]])), [[0], [0.5], [1]], atol=1e-6)


def test_a_model_that_guesses_is_explained_but_told_what_may_be_wrong(repository, capsys):
    trained(0.5, bounds=[-0.5, 0.5])
    said = capsys.readouterr().out
    assert "test accuracy 0.5000" in said and "check that model.bounds is the range" in said
    trained(0.0, bounds=[-0.5, 0.5])
    assert "model.bounds" not in capsys.readouterr().out


def test_a_model_for_the_usual_bounds_is_kept_as_it_is(repository, tmp_path):
    trained(0.0, bounds=[-0.5, 0.5])
    assert paths.LATEST.model.read_bytes() == (tmp_path / "mine.keras").read_bytes()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("import sys; sys.exit(3)", r"cannot be run \(SystemExit: 3\)"),
        ("raise KeyboardInterrupt", r"ends the process when it is run \(Keyboard"),
    ],
)
def test_a_module_that_ends_the_process_is_refused(repository, tmp_path, end, reason):
    (tmp_path / "mine.py").write_text(end)
    with pytest.raises(InputError, match=rf"model\.module: {reason}"):
        trained(0.0, bounds=[-0.5, 0.5], module="mine.py")


def test_replicas_are_the_classifiers_of_the_next_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 8, 8, 1)).astype(np.float32)
    labels = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    Dataset(x, labels, x, labels).save(paths.LATEST.data)

    def weights(replicas: int, **section) -> tuple[list, list]:
        schema.write(from_config(raw(training={"replicas": replicas}, **section), {}))
        train.make(schema.read(), paths.LATEST)
        loaded = [keras.saving.load_model(path) for path in sorted(paths.LATEST.replicas.glob("*.keras"))]
        return keras.saving.load_model(paths.LATEST.model).get_weights(), [one.get_weights() for one in loaded]

    first, replicas = weights(2)
    second, none = weights(0, seed=1)
    assert len(replicas) == 2 and none == []
    assert "replicas_test_accuracy" not in json.loads(paths.LATEST.metrics.read_text())
    np.testing.assert_equal(replicas[0], second)
    assert not np.array_equal(first[0], second[0]) and not np.array_equal(replicas[0][0], replicas[1][0])


def test_a_model_that_is_not_trained_here_has_no_replicas_and_is_told_so(repository, capsys):
    trained(0.0, replicas=2, bounds=[-0.5, 0.5])
    assert "no replicas of a model that is not trained here" in capsys.readouterr().out
    assert [path.name for path in paths.LATEST.replicas.iterdir()] == ["metrics.json"]
    trained(0.0, bounds=[-0.5, 0.5])
    assert "replicas" not in capsys.readouterr().out
