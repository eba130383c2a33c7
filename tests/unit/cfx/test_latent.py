import random

import keras
import numpy as np
import pytest

from cfx import InputError, Latent, find_counterfactuals
from cfx.methods import latent
from tests.unit.cfx.test_guides import two_classes

SMALL = {"training_steps": 300, "code": 3, "max_iter": 60, "tol": 0.05}


@pytest.fixture(scope="module")
def dataset():
    return two_classes((8, 8, 1))


@pytest.fixture(scope="module")
def model(dataset):
    """A classifier that looks at the first half of the pixels."""
    kernel = np.zeros((64, 2), np.float32)
    kernel[:32] = [[-2, 2]] * 32
    layer = keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), layer])
    layer.set_weights([kernel, np.zeros(2, np.float32)])
    return model


@pytest.fixture(scope="module")
def found(dataset, model):
    split = dataset.x_train, dataset.y_train
    return find_counterfactuals(model, dataset.x_test[:20], Latent(**SMALL), train=split)


def test_what_it_finds_resembles_the_training_instances_of_its_class(dataset, found):
    assert found.found.all() and (found.cf_class != found.original_class).all()
    for label in (0, 1):
        mean = dataset.x_train[dataset.y_train == label].mean(axis=0)
        assert np.abs(found.x[found.cf_class == label] - mean).mean() < 0.1


def test_it_is_nearer_than_what_the_code_of_the_instance_stands_for(dataset, model, found):
    # the first step evaluates the start
    split = dataset.x_train, dataset.y_train
    start = find_counterfactuals(model, dataset.x_test[:20], Latent(**SMALL | {"max_iter": 1}), train=split)
    both = start.found & found.found
    assert both.any() and (found.l1[both] <= start.l1[both]).all() and (found.l1[both] < start.l1[both]).any()


def test_the_same_seed_gives_the_same_bits_and_leaves_the_random_state(dataset, model, found):
    latent._trained.cache_clear()
    before = random.getstate()
    split = dataset.x_train, dataset.y_train
    again = find_counterfactuals(model, dataset.x_test[:20], Latent(**SMALL), train=split)
    np.testing.assert_array_equal(again.x, found.x)
    assert random.getstate() == before
    other = find_counterfactuals(model, dataset.x_test[:20], Latent(**SMALL, seed=1), train=split)
    assert not np.array_equal(other.x, found.x)


def test_the_autoencoder_is_trained_once_for_a_training_split(dataset, model):
    latent._trained.cache_clear()
    for target in (0, 1):
        split = dataset.x_train.copy(), dataset.y_train.copy()
        find_counterfactuals(model, dataset.x_test[:4], Latent(**SMALL, target_class=target), train=split)
    assert latent._trained.cache_info().misses == 1


def test_it_needs_a_training_split(dataset, model):
    with pytest.raises(InputError, match="train has no instances in the feature range"):
        find_counterfactuals(model, dataset.x_test[:2], Latent())
    with pytest.raises(InputError, match="the classes must be whole numbers from 0 to 1"):
        find_counterfactuals(model, dataset.x_test[:2], Latent(), train=(dataset.x_train, dataset.y_train + 5))


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_iter", 0), ("lam_init", 0), ("learning_rate", -1), ("code", 0), ("training_steps", 0), ("seed", -1)],
)
def test_hyperparameters_outside_their_range_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        Latent(**{field: value})
