from dataclasses import dataclass, fields, replace

import keras
import numpy as np
import pytest

from cfx import InputError, Plausible, PrimalDual, find_counterfactuals, guide_training
from tests.unit.cfx.test_guides import KINDS, two_classes

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def dataset():
    return two_classes(SHAPE)


@pytest.fixture(scope="module")
def trained(dataset):
    return guide_training.train(dataset, kinds=KINDS, epochs=1, steps=60, seed=2)


@pytest.fixture(scope="module")
def model(dataset):
    """A classifier that looks at four pixels alone, and so is fooled by them."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), layer])
    kernel = np.zeros((64, 2), np.float32)
    kernel[:4] = [[-20, 20]] * 4
    layer.set_weights([kernel, np.zeros(2, np.float32)])
    return model


@pytest.fixture(scope="module")
def split(dataset):
    return dataset.x_train, dataset.y_train


@pytest.fixture(scope="module")
def found(dataset, model, trained, split):
    return find_counterfactuals(model, dataset.x_test[:40], Plausible(anchors=1), train=split, guides=trained)


def test_the_guides_agree_where_those_of_the_nearest_point_do_not(dataset, model, trained, found):
    x = dataset.x_test[:40]
    near = find_counterfactuals(model, x, PrimalDual())
    assert found.found.all() and (found.plausible == 1).all()
    assert not trained.accept(near.x, near.cf_class, Plausible.plausibility).any()
    assert near.l1.mean() < found.l1.mean()


def test_no_counterfactual_is_further_than_its_anchor_and_each_feature_lies_between(dataset, found):
    x, anchors = dataset.x_test[:40], dataset.x_train[found.anchor]
    assert np.all(found.l1 <= np.abs(x - anchors).sum(axis=(1, 2, 3)) + 1e-4)
    assert np.all((np.minimum(x, anchors) <= found.x) & (found.x <= np.maximum(x, anchors)))
    np.testing.assert_array_equal(dataset.y_train[found.anchor], found.cf_class)


def test_the_anchor_is_the_nearest_that_classifier_and_guides_accept(dataset, model, trained, found):
    accepted = trained.accept_training(Plausible.plausibility)
    for row in range(5):
        allowed = np.flatnonzero(
            accepted
            & (dataset.y_train == found.cf_class[row])
            & (np.asarray(model(dataset.x_train))[:, found.cf_class[row]] >= 0.99)
        )
        distances = np.abs(dataset.x_train[allowed] - dataset.x_test[row]).reshape(len(allowed), -1).sum(axis=1)
        assert found.anchor[row] == allowed[distances.argmin()]


def test_without_plausibility_it_is_primal_dual_bit_for_bit(dataset, model):
    x = dataset.x_test[:20]
    one = find_counterfactuals(model, x, Plausible(plausibility=0, max_iter=30), path_rows=3)
    other = find_counterfactuals(model, x, PrimalDual(max_iter=30), path_rows=3)
    for field in fields(one):
        if field.name not in ("method", "runtime_s", "path"):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)
    np.testing.assert_array_equal(one.path.x, other.path.x)
    assert np.isnan(one.plausible).all() and (one.anchor == -1).all()


def test_more_plausibility_costs_distance_and_gains_margin(dataset, model, trained, split):
    x = dataset.x_test[:40]
    results = [
        find_counterfactuals(model, x, Plausible(plausibility=q), train=split, guides=trained)
        for q in (0.02, 0.125, 0.5)
    ]
    l1 = [result.l1.mean() for result in results]
    assert l1 == sorted(l1) and l1[0] < l1[-1]
    for q, result in zip((0.02, 0.125, 0.5), results, strict=True):
        assert trained.accept(result.x, result.cf_class, q).all()


@pytest.mark.parametrize("method", [Plausible(anchors=5), Plausible(box=False)])
def test_several_anchors_and_no_box_leave_more_room(dataset, model, trained, split, found, method):
    x = dataset.x_test[:40]
    # without the autoencoders, for the classes are so narrow that without a box only real instances satisfy them
    guides = replace(trained, models=trained.models[:5], margins=trained.margins[:, :5])
    wider = find_counterfactuals(model, x, method, train=split, guides=guides)
    anchors = dataset.x_train[wider.anchor]
    assert (wider.plausible == 1).all()
    outside = (wider.x < np.minimum(x, anchors)) | (wider.x > np.maximum(x, anchors))
    assert outside.any()
    assert np.all(np.abs(wider.x) <= 0.5)


@dataclass(frozen=True, kw_only=True)
class Dusty(Plausible):
    """The method without the rule for isolated pixels."""

    step = staticmethod(PrimalDual.step)


def test_isolated_pixels_change_less_and_strokes_change(model):
    """The classes differ in the first four rows, and in one pixel that is surrounded by others that do not."""
    dataset = two_classes(SHAPE)
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        x[:, 6, 6] += 0.4 * y[:, None]
    guides = guide_training.train(dataset, kinds=("deep", "dense"), epochs=1, steps=150, seed=2)
    split, x = (dataset.x_train, dataset.y_train), dataset.x_test[:40]
    isolated = {}
    for method in (Plausible(plausibility=0.02), Dusty(plausibility=0.02)):
        found = find_counterfactuals(model, x, method, train=split, guides=guides)
        assert (found.plausible == 1).all()
        assert np.abs(found.x - x)[:, :4].mean() > 0.1
        isolated[type(method)] = np.abs(found.x - x)[:, 6, 6].mean()
    assert isolated[Plausible] < isolated[Dusty] / 2


def test_where_there_is_no_anchor_the_search_starts_at_the_instance(dataset, model, trained):
    x = dataset.x_test[:4]
    # a training split whose labels are all of one class has anchors for one class alone
    labels = dataset.y_train == 0
    split = dataset.x_train[labels], dataset.y_train[labels]
    some = replace(trained, margins=trained.margins[labels], labels=trained.labels[labels])
    one_class = replace(some, labels=np.where(np.arange(labels.sum()) == 0, 1, some.labels))
    result = find_counterfactuals(model, x, Plausible(target_class=1), train=split, guides=one_class)
    searched = ~result.unchanged
    assert searched.any() and (result.anchor[searched] == -1).all()


def test_other_takes_the_nearest_of_several_classes(trained):
    """Three classes along one feature: the class in between is the nearest."""
    random = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = np.clip(random.normal(0, 0.02, (300, 4)) + 0.4 * (y[:, None] - 1) * [1, 1, 0, 0], -0.5, 0.5).astype(np.float32)
    from cfx.data import Dataset

    table = Dataset(x[:240], y[:240], x[240:], y[240:])
    guides = guide_training.train(table, kinds=("deep", "dense"), epochs=1, steps=150, seed=2)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(table.x_train, table.y_train, epochs=60, verbose=0)
    split = table.x_train, table.y_train
    ends = np.flatnonzero(table.y_test != 1)
    method = Plausible(target_proba=0.95, tol=0.05)
    both = find_counterfactuals(model, table.x_test[ends], method, train=split, guides=guides)
    assert (both.found & (both.cf_class == 1) & (both.plausible == 1)).all()
    fixed = find_counterfactuals(model, table.x_test[ends], replace(method, target_class=1), train=split, guides=guides)
    np.testing.assert_allclose(both.l1, fixed.l1, rtol=1e-5)
    assert np.all(both.l1 < np.abs(table.x_train[both.anchor] - table.x_test[ends]).sum(axis=1))


def test_a_row_comes_out_alike_in_any_batch(dataset, model, trained, split, found):
    rows = [31, 2, 17]
    some = find_counterfactuals(
        model, dataset.x_test[rows], Plausible(anchors=1), train=split, guides=trained, batch_size=2
    )
    np.testing.assert_allclose(some.x, found.x[rows], atol=0.02)
    np.testing.assert_array_equal(some.anchor, found.anchor[rows])


@pytest.mark.parametrize(
    ("method", "keywords", "message"),
    [
        (Plausible(), {}, "method plausible needs guides"),
        (Plausible(), {"guides": 100}, "guides were trained on 100 instances, train has 0"),
        (Plausible(), {"guides": 100, "train": 50}, "guides were trained on 100 instances, train has 50"),
    ],
)
def test_what_it_needs_is_asked_for(dataset, model, trained, method, keywords, message):
    given = {}
    if "guides" in keywords:
        given["guides"] = trained
    if "train" in keywords:
        given["train"] = dataset.x_train[:50], dataset.y_train[:50]
    with pytest.raises(InputError, match=message):
        find_counterfactuals(model, dataset.x_test[:2], method, **given)


@pytest.mark.parametrize(
    ("field", "value"),
    [("plausibility", -0.1), ("plausibility", 1.1), ("plausibility", None), ("anchors", 0), ("box", 1)],
)
def test_a_hyperparameter_outside_its_range_is_refused(field, value):
    with pytest.raises(InputError, match=field):
        Plausible(**{field: value})
