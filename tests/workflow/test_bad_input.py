"""Each mistake gives one line, exit code 2, and leaves everything as it was."""

import pickle
import socket
from importlib.util import find_spec

import keras
import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier

from tests.workflow.conftest import SWEEP, assert_refused


@pytest.fixture(scope="module")
def repository(swept, tmp_path_factory):
    """A clone with a sweep in it, for one process: all of its tests are refused, and leave it as it is."""
    return swept.copy(tmp_path_factory.mktemp("bad_input") / "clone")


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("search.target_class", ["search.target_class=seven"]),
        ("10 is not a class of the data", [*SWEEP, "search.target_class=1,10"]),
        ("search.lam_init must be > 0", ["search.lam_init=0"]),
        ("search.learning_rate must be > 0", ["-m", "search.learning_rate=0.1,-1"]),
        ("search.tol must be in (0, 1)", ["search.tol=1"]),
        ("1000 is outside the test split", [*SWEEP, "instances.index=[0,1000]"]),
        ("instances.index: cannot be swept", ["-m", "instances.index=[1],[2]"]),
        ("seed: input should be a valid integer", ["-m", "seed=1,two"]),
        ("the same cell twice", ["-m", "seed=1,1"]),
        ("launch.cells_per_job: input should be greater", ["launch.cells_per_job=0"]),
        ("launch.without_gpu: input should be 'fail' or 'cpu'", ["launch.without_gpu=wait"]),
        ("--config-dir: ", ["--config-dir", "absent"]),
        ("search.speed: no such option", ["search.speed=1"]),
        ("an interval is not supported", ["-m", "search.lam_init=interval(0.1,1)"]),
        ("hydra/sweeper", ["-m", "hydra/sweeper=optuna", "search.lam_init=0.1,1"]),
        ("data.colour: no such option", ["+data.colour=1"]),
        ("sweep=nothing: unknown option; choose one of grid, ", ["+sweep=nothing"]),
        ("data.path: is missing", ["data=npz"]),
        ("cannot be read", ["data=npz", "data.path=absent.npz"]),
        ("cannot be read", ["model=keras", "model.path=absent.keras"]),
        ("search.count must be a whole number from 1 to 1,000", ["search.count=0"]),
        ("constraints.scale: input should be 'unit', 'mad' or 'inverse_range'", ["constraints.scale=std"]),
        ("constraints.immutable: 'age' is not a feature of the data; give 0 to 783", ["constraints.immutable=[age]"]),
        ("constraints.ranges.3.0: input should be a valid number", ["constraints.ranges={3: [low, high]}"]),
        ("feature 3 is in increase and in decrease", ["constraints.increase=[3]", "constraints.decrease=[3]"]),
        ("feature 0 of instance 14 is outside its range", ["constraints.ranges={0: [0, 0.5]}"]),
        ("in the group [0, 1]: one feature must be at the maximum", ["constraints.groups=[[0, 1]]"]),
        ("constraints.mask: absent.npy cannot be read", ["constraints.mask=absent.npy"]),
    ],
)
def test_a_mistake_on_the_command_line(repository, told, arguments):
    assert_refused(repository, told, *arguments)


def own(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (40, 28, 28), np.uint8),
        "y_train": np.arange(40) % 10,
        "x_test": rng.integers(0, 256, (20, 28, 28), np.uint8),
        "y_test": np.arange(20) % 10,
    }
    np.savez(path, **arrays | changes)
    return path


def test_a_data_file_that_is_not_what_it_should_be(repository, tmp_path):
    path = own(tmp_path / "nan.npz", x_train=np.full((40, 28, 28), np.nan))
    assert_refused(repository, "x_train holds NaN", "data=npz", f"data.path={path}")
    path.write_bytes(path.read_bytes()[:5000])
    assert_refused(repository, "cannot be read as an .npz", "data=npz", f"data.path={path}")
    assert_refused(repository, "is not that of mnist", "data=mnist", MNIST_NPZ=str(own(tmp_path / "mnist.npz")))


def test_a_table_that_is_not_as_its_schema_says(repository, tmp_path):
    table, schema = tmp_path / "loans.csv", tmp_path / "loans.yaml"
    table.write_text("age,outcome\n" + "31,repaid\n,defaulted\n" * 20)
    chosen = ("data=csv", f"data.path={table}", f"data.schema={schema}")
    assert_refused(repository, "loans.yaml cannot be read as YAML", *chosen)
    schema.write_text("target: outcome\ncolumns: {age: years}")
    assert_refused(repository, "the column 'age' has the kind 'years'; choose one of numeric", *chosen)
    schema.write_text("target: outcome\ncolumns: {age: integer}")
    assert_refused(repository, "the column 'age' has no value in 20 rows, first in row 2", *chosen)
    assert_refused(repository, "cannot be read as parquet", "data=parquet", *chosen[1:])


def test_no_network_for_the_download(repository, tmp_path):
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    assert_refused(repository, "use data=mnist_5k", "data=mnist", **nowhere)


def test_a_model_file_that_does_not_load_or_fit(repository, tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    assert_refused(repository, "is not a .keras file", "model=keras", f"model.path={tmp_path / 'text.keras'}")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.save(tmp_path / "small.keras")
    assert_refused(repository, "takes inputs of shape", "model=keras", f"model.path={tmp_path / 'small.keras'}")


def test_a_model_file_of_another_framework(repository, tmp_path):
    """A file that is not what `model` says, one with types to trust, and one whose classifier has no gradient."""
    path = tmp_path / "forest.skops"
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(3, random_state=0).fit(rng.uniform(-0.5, 0.5, (40, 784)), np.arange(40) % 10)
    path.write_bytes(pickle.dumps(forest))
    chosen = ("model=sklearn", f"model.path={path}", "judges.steps=20")
    assert_refused(repository, "cannot be loaded as a model of scikit-learn", *chosen)
    skops.io.dump(forest, path)
    assert_refused(repository, "model.trusted=[sklearn.tree._tree.Tree] permits them", *chosen)
    assert_refused(
        repository, "search=wachter: the model has no gradient", *chosen, "model.trusted=[sklearn.tree._tree.Tree]"
    )


@pytest.mark.skipif(find_spec("jax") is not None, reason="JAX is installed")
def test_a_framework_that_is_not_installed(repository, tmp_path):
    np.savez(tmp_path / "mine.npz", weights=np.zeros(3))
    (tmp_path / "mine.py").write_text("def logits(weights, x): ...")
    chosen = ("model=jax", f"model.path={tmp_path / 'mine.npz'}", f"model.module={tmp_path / 'mine.py'}")
    assert_refused(repository, "the package jax is not installed; run `pip install jax`", *chosen)


def test_own_data_and_models_that_do_not_go_together(repository, tmp_path):
    names = np.array([f"class {i}" for i in range(9)])
    path = own(tmp_path / "names.npz", class_names=names)
    assert_refused(repository, "9 names for 10 classes", "data=npz", f"data.path={path}")
    path = own(tmp_path / "data.npz", class_names=np.array([*names, "last"]))
    told = "'first' is not a class of the data; choose one of class 0, class 1"
    assert_refused(repository, told, "data=npz", f"data.path={path}", "search.target_class=first")
    floats = np.random.default_rng(0).random((40, 28, 28))
    path = own(tmp_path / "floats.npz", x_train=floats, x_test=floats[:20])
    assert_refused(repository, "less than a hundredth of data.bounds=", "data=npz", f"data.path={path}")
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    model.save(tmp_path / "three.keras")
    chosen = ("data=npz", f"data.path={tmp_path / 'data.npz'}", "model=keras")
    assert_refused(repository, "the data has 10 classes", *chosen, f"model.path={tmp_path / 'three.keras'}")


def test_a_model_that_needs_trust_is_not_run_without_it(repository, tmp_path):
    ran = tmp_path / "ran"
    code = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()])
    code.save(tmp_path / "code.keras")
    assert_refused(repository, "model.safe_mode=false", "model=keras", f"model.path={tmp_path / 'code.keras'}")

    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.Input((28, 28, 1)), Own()]).save(tmp_path / "own.keras")
    chosen = ("model=keras", f"model.path={tmp_path / 'own.keras'}")
    assert_refused(repository, "Could not locate class 'Own'); classes and functions of your own need", *chosen)
    absent = f"model.module={tmp_path / 'absent.py'}"
    assert_refused(repository, "model.module: ", *chosen, absent)
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')")
    pinned = f"model.module_sha256={'0' * 64}"
    assert_refused(
        repository, "but model.module_sha256 is 0000", *chosen, f"model.module={tmp_path / 'mine.py'}", pinned
    )
    assert not ran.exists()


def test_an_mlflow_store_that_does_not_answer(repository):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{bound.getsockname()[1]}"
        assert_refused(repository, "cannot connect", *SWEEP, f"tracking.uri=http://{nobody}")
        done = repository.run("pipelines.run", *SWEEP, f"tracking.uri=http://user:secret@{nobody}")
    assert done.returncode == 2 and "MLFLOW_TRACKING_PASSWORD" in done.stderr
    assert "secret" not in done.stdout + done.stderr
