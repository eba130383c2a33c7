from dataclasses import replace

import numpy as np
import pytest

from cfx import InputError, Prototype
from cfx.methods.prototype import _prototypes
from cfx.problem import Problem

WEIGHTS = np.random.default_rng(0).normal(0, 6, (5, 3)).astype(np.float32)


def probabilities(x):
    """Those of a linear model."""
    odds = np.exp(x @ WEIGHTS - (x @ WEIGHTS).max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def make_problem(tol=0.1):
    random = np.random.default_rng(1)
    x, x_train = (random.uniform(-0.5, 0.5, (count, 5)).astype(np.float32) for count in (20, 300))
    original = probabilities(x).argmax(axis=1)
    return Problem(
        x=x,
        target=np.arange(3) != original[:, None],
        original_class=original,
        target_proba=1.0,
        tol=tol,
        low=np.float32(-0.5),
        high=np.float32(0.5),
        x_train=x_train,
        y_train=probabilities(x_train).argmax(axis=1),
        seed=0,
        probabilities=probabilities,
        logits_and_gradient=lambda x, weights: (x @ WEIGHTS, weights @ WEIGHTS.T),
    )


def test_what_it_finds_is_a_counterfactual_in_the_range_and_nearer_than_the_prototype_on_average():
    problem = make_problem()
    found = Prototype(tol=0.1).search(problem)
    assert found.dtype == np.float32 and problem.is_met(found).all()
    assert np.abs(found).max() <= 0.5
    assert np.abs(found - problem.x).sum() < 0.9 * np.abs(_prototypes(problem) - problem.x).sum()


def test_a_prototype_is_the_nearest_training_instance_that_the_model_assigns_to_a_target_class():
    problem = make_problem()
    found, labels = _prototypes(problem), probabilities(problem.x_train).argmax(axis=1)
    for row in range(len(problem.x)):
        allowed = np.flatnonzero(problem.target[row, labels])
        distances = np.square(problem.x_train[allowed].astype(float) - problem.x[row]).sum(axis=1)
        np.testing.assert_array_equal(found[row], problem.x_train[allowed[distances.argmin()]])


def test_the_slope_of_the_prediction_is_that_of_its_definition():
    problem, method = make_problem(), Prototype(tol=0.1)
    logits = problem.x.astype(float) @ WEIGHTS

    def loss(logits):
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        target = np.where(problem.target, p, -1).max(axis=1)
        return np.where(target < 0.9, np.where(problem.target, -1, p).max(axis=1) - target, 0)

    slope = method._weights(problem, probabilities(problem.x))
    for label in range(3):
        step = 1e-5 * (np.arange(3) == label)
        np.testing.assert_allclose(slope[:, label], (loss(logits + step) - loss(logits - step)) / 2e-5, atol=1e-3)


def test_a_larger_theta_leads_nearer_to_the_prototype():
    problem = make_problem()
    to_prototype = [
        np.abs(Prototype(tol=0.1, theta=theta).search(problem) - _prototypes(problem)).sum() for theta in (0.0, 20.0)
    ]
    assert to_prototype[1] < 0.9 * to_prototype[0]


def test_an_instance_without_a_counterfactual_is_returned_unchanged():
    # one step is too few
    problem = make_problem(tol=0.001)
    found = Prototype(tol=0.001, max_iter=1, rounds=1, learning_rate=1e-6).search(problem)
    np.testing.assert_array_equal(found, problem.x)


def test_rows_without_a_prototype_keep_their_instance_and_an_empty_training_split_is_refused():
    problem = make_problem()
    problem.target[:5] = [False, False, True]
    # none of class 2, and one of another class that is outside the range
    labels = probabilities(problem.x_train).argmax(axis=1)
    x_train = problem.x_train[labels != 2]
    x_train[0] *= 100
    found = Prototype(tol=0.1).search(replace(problem, x_train=x_train, y_train=labels[labels != 2]))
    np.testing.assert_array_equal(found[:5], problem.x[:5])
    assert problem.is_met(found[5:], np.arange(5, 20)).mean() > 0.8
    with pytest.raises(InputError, match="train has no instances"):
        Prototype().search(replace(problem, x_train=x_train[:0], y_train=labels[:0]))


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_iter", 0), ("rounds", 51), ("learning_rate", 0), ("beta", -1), ("theta", -0.1), ("c_init", 0)],
)
def test_hyperparameters_outside_their_range_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        Prototype(**{field: value})
