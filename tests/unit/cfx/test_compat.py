"""The interface of alibi's `Counterfactual`, against its documentation and against the search that it stands for."""

import numpy as np
import pytest
import tensorflow as tf

from cfx import InputError, Wachter, find_counterfactuals
from cfx.compat import Counterfactual

from .networks import network

SHORT = {"max_iter": 60, "max_lam_steps": 4}
ARGUMENTS = {"shape": (1, 4), "tol": 0.3, "learning_rate_init": 0.05, "feature_range": (-0.5, 0.5), **SHORT}
METHOD = Wachter(target_class="other", tol=0.3, learning_rate=0.05, **SHORT)


@pytest.fixture(scope="module")
def model():
    return network(1, 4, 3, 8)[0]


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(2).uniform(-0.5, 0.5, (12, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def explanations(model, x):
    return Counterfactual(model, **ARGUMENTS).fit(x).explain(x)


def test_several_instances_give_a_list_with_the_counterfactuals_of_wachter(explanations, model, x):
    result = find_counterfactuals(model, x, METHOD)
    assert result.found.sum() >= 4
    for row, explanation in enumerate(explanations):
        assert explanation.success == result.found[row]
        assert explanation.orig_class == result.original_class[row]
        assert explanation.orig_proba == pytest.approx(model.predict(x, verbose=0)[row].max(), abs=1e-6)
        if explanation.success:
            np.testing.assert_array_equal(explanation.cf["X"][0], result.x[row])
            assert explanation.cf["class"] == result.cf_class[row]


def test_a_counterfactual_has_the_documented_values(explanations, model, x):
    searched = [(row, one) for row, one in enumerate(explanations) if one.success and one.cf["index"] >= 0]
    assert len(searched) >= 3
    for row, explanation in searched:
        assert list(explanation.all) == [0, 1, 2, 3]
        every = [one for step in explanation.all.values() for one in step]
        assert every
        for one in (explanation.cf, *every):
            assert one["X"].shape == (1, 4)
            np.testing.assert_allclose(one["proba"], model.predict(one["X"], verbose=0), atol=1e-6)
            assert one["class"] == one["proba"].argmax() != explanation.orig_class
            assert one["proba"][0, one["class"]] >= 0.7 - 1e-6
            assert one["distance"] == pytest.approx(np.abs(one["X"] - x[row]).sum(), rel=1e-5)
            loss = (1 - one["proba"].max()) ** 2 + one["lambda"] * one["distance"]
            assert one["loss"] == pytest.approx(loss, rel=1e-4)
            assert one["distance"] >= explanation.cf["distance"] - 1e-5
        indices = [one["index"] for one in every]
        assert indices == sorted(indices)
        assert {step + 10 for step, ones in explanation.all.items() if ones} == set(indices)


def test_one_instance_gives_its_explanation(explanations, model, x):
    explainer = Counterfactual(model, **ARGUMENTS)
    row = next(row for row, one in enumerate(explanations) if one.success)
    explanation = explainer.explain(x[row : row + 1])
    np.testing.assert_array_equal(explanation.cf["X"], explanations[row].cf["X"])
    assert set(explanation.data) == {"cf", "all", "orig_class", "orig_proba", "success"}
    assert explanation["cf"] is explanation.cf
    assert explanation.meta["name"] == "Counterfactual"
    assert explanation.meta["params"]["max_lam_steps"] == 4 and explanation.meta["params"]["decay"] is True
    assert explainer.explain(x[:0]) == []


def test_an_instance_without_a_counterfactual_says_so(model, x):
    explanation = Counterfactual(model, **ARGUMENTS | {"tol": 1e-6, "max_iter": 5}).explain(x[:1])
    assert explanation.cf is None and explanation.success is False
    assert explanation.all == {0: [], 1: [], 2: [], 3: []}


def test_an_instance_that_is_a_counterfactual_is_its_own(model, x):
    (explanation, *_) = Counterfactual(model, **ARGUMENTS | {"target_class": "same", "tol": 0.999}).explain(x)
    np.testing.assert_array_equal(explanation.cf["X"], x[:1])
    assert explanation.cf["distance"] == 0 and explanation.cf["index"] == -1


def test_a_function_and_a_range_of_each_feature_are_taken(model, x):
    low, high = np.minimum(x, -0.4).min(axis=0, keepdims=True), np.full((4,), 0.5)
    arguments = ARGUMENTS | {"feature_range": (low, high), "eps": np.full((1, 4), 1e-3), "max_iter": 20}
    explained = Counterfactual(lambda x: model(x).numpy(), **arguments).explain(x)
    assert any(one.success for one in explained)
    assert all((one.cf["X"] >= low).all() for one in explained if one.success)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distance_fn": "l2"}, "distance_fn='l2' is not supported: use 'l1'"),
        ({"init": "random"}, "init='random' is not supported"),
        ({"decay": False}, "decay=False is not supported"),
        ({"eps": np.array([[0.1, 0.2]])}, "eps has 2 values"),
        ({"tol": 2}, "tol must be in"),
        ({"feature_range": (np.zeros(3), np.ones(3))}, "feature_range must be numbers or arrays"),
        ({"feature_range": "auto"}, "feature_range must be"),
        ({"target_class": "another"}, "target_class must be"),
    ],
)
def test_what_would_change_the_result_is_refused(changes, message, model):
    with pytest.raises(InputError, match=message):
        Counterfactual(model, **ARGUMENTS | changes)


def test_an_instance_of_another_shape_is_refused(model, x):
    with pytest.raises(InputError, match=r"X has shape \(4,\): give \(n, 4\)"):
        Counterfactual(model, **ARGUMENTS).explain(x[0])


def test_what_has_no_effect_is_said(model):
    with pytest.warns(UserWarning, match="write_dir, debug: no effect"):
        Counterfactual(model, **ARGUMENTS, write_dir="logs", debug=True)


def test_the_default_range_does_not_limit_the_features(model, x):
    explanations = Counterfactual(model, (1, 4), max_iter=300, max_lam_steps=2).explain(x)
    assert max(np.abs(one.cf["X"]).max() for one in explanations if one.success) > 0.5


def test_tensorflow_without_eager_execution_is_refused(model):
    with tf.Graph().as_default(), pytest.raises(InputError, match="TensorFlow 2 is switched off"):
        Counterfactual(model, **ARGUMENTS)
