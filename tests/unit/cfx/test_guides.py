from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from cfx import InputError, guide_training
from cfx.data import Dataset
from cfx.guides import Guides, Kind, margins

KINDS = get_args(Kind)


def two_classes(shape, n=200, seed=0):
    """Two classes, apart in the first half of their features, with a little noise."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = random.normal(-0.2, 0.03, (n, int(np.prod(shape)))).astype(np.float32)
    x[:, : x.shape[1] // 2] += 0.4 * y[:, None]
    x = np.clip(x, -0.5, 0.5).reshape(n, *shape)
    return Dataset(x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :])


@pytest.fixture(scope="module")
def dataset():
    return two_classes((8, 8, 1))


@pytest.fixture(scope="module")
def trained(dataset):
    return guide_training.train(dataset, kinds=KINDS, epochs=1, steps=60, seed=2)


def test_guides_know_the_classes_of_examples_they_have_not_seen(dataset, trained):
    assert (margins(trained.models, dataset.x_test, dataset.y_test) > 0).mean() > 0.95
    for model in trained.models:
        assert np.asarray(model(dataset.x_test)).shape == (len(dataset.x_test), 2)


def test_a_table_has_guides_too():
    table = two_classes((6,))
    trained = guide_training.train(table, kinds=KINDS, epochs=1, steps=80, seed=2)
    assert (margins(trained.models, table.x_test, table.y_test) > 0).mean() > 0.9


def test_a_threshold_is_reached_by_the_share_of_the_class_that_it_says(trained):
    for quantile in (0, 0.25, 0.5):
        thresholds = trained.thresholds(quantile)
        assert thresholds.shape == (2, len(KINDS))
        for label in (0, 1):
            share = (trained.margins[trained.labels == label] >= thresholds[label] - 1e-2).mean(axis=0)
            np.testing.assert_allclose(share, 1 - quantile, atol=0.05)
    assert np.all(trained.thresholds(0.5) >= trained.thresholds(0.25))


def test_training_instances_are_accepted_by_their_thresholds(dataset, trained):
    accepted = trained.accept_training(0.25)
    assert 0.1 < accepted.mean() <= 0.75
    assert trained.accept(dataset.x_train[accepted], dataset.y_train[accepted], 0.25).all()
    assert not trained.accept(dataset.x_train, 1 - dataset.y_train, 0.25).any()


def test_a_margin_is_the_logit_of_the_probability():
    logits = np.array([[2.0, 0.0, -1.0], [100.0, 0.0, 0.0]])
    found = margins([lambda x, training: logits], np.zeros((2, 1), np.float32), np.array([0, 1]))
    np.testing.assert_allclose(found[:, 0], [2 - np.log(1 + np.exp(-1)), -100], rtol=1e-6)


def test_the_same_seed_gives_the_same_guides_and_guides_differ_from_each_other(dataset, trained):
    again = guide_training.train(dataset, kinds=KINDS[:2], epochs=1, steps=60, seed=2)
    np.testing.assert_array_equal(again.margins, trained.margins[:, :2])
    other = guide_training.train(dataset, kinds=KINDS[:1], epochs=1, steps=60, seed=9)
    assert not np.array_equal(other.margins[:, 0], trained.margins[:, 0])


def test_they_never_see_the_test_split(dataset, trained):
    changed = replace(dataset, x_test=-dataset.x_test, y_test=1 - dataset.y_test)
    again = guide_training.train(changed, kinds=KINDS[:1], epochs=1, steps=60, seed=2)
    np.testing.assert_array_equal(again.margins[:, 0], trained.margins[:, 0])


def test_saved_guides_are_the_same_when_loaded(dataset, trained, tmp_path):
    guide_training.save(trained, tmp_path)
    loaded = guide_training.load(tmp_path)
    np.testing.assert_array_equal(loaded.margins, trained.margins)
    np.testing.assert_array_equal(loaded.labels, trained.labels)
    for one, other in zip(loaded.models, trained.models, strict=True):
        np.testing.assert_array_equal(np.asarray(one(dataset.x_test)), np.asarray(other(dataset.x_test)))
    (tmp_path / "guide_1.keras").unlink()
    with pytest.raises(InputError, match=r"guide_1\.keras"):
        guide_training.load(tmp_path)


def test_progress_counts_the_steps_of_all_guides(dataset):
    seen = []
    guide_training.train(dataset, kinds=KINDS[:2], epochs=1, steps=5, seed=2, progress=lambda *at: seen.append(at))
    assert seen == [(step, 10) for step in range(1, 11)]


def test_an_unknown_kind_is_refused(dataset):
    with pytest.raises(InputError, match=r"kinds must be among deep, .*, reconstructive, got 'wide'"):
        guide_training.train(dataset, kinds=("wide",), epochs=1, steps=1, seed=0)


def test_guides_are_given_with_as_many_classes_as_labels():
    assert Guides((), np.zeros((3, 0)), np.array([0, 2, 1])).classes == 3
