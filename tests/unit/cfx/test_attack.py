"""The classifier that an adversarial attack is given, on linear models: no PyTorch is needed."""

from dataclasses import replace

import numpy as np
import pytest

from cfx.attack import Classifier, accepted, starts
from cfx.problem import Problem

FEATURES = 6


def problem(classes: int = 4, n: int = 5, target_proba: float = 1.0, tol: float = 0.01, **changes) -> Problem:
    """Rows of a linear softmax model, each with its own target class."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(FEATURES, classes)).astype(np.float32) * 5
    x = random.uniform(-0.5, 0.5, (n, FEATURES)).astype(np.float32)
    target = np.arange(n) % classes

    def probabilities(inputs: np.ndarray) -> np.ndarray:
        exponential = np.exp(inputs @ matrix - (inputs @ matrix).max(axis=1, keepdims=True))
        return exponential / exponential.sum(axis=1, keepdims=True)

    return Problem(
        x=x,
        target=np.eye(classes, dtype=bool)[target],
        original_class=(x @ matrix).argmax(axis=1),
        target_proba=target_proba,
        tol=tol,
        low=np.float32(-0.5),
        high=np.float32(0.5),
        x_train=changes.get("x_train", x[:0]),
        y_train=changes.get("y_train", target[:0]),
        seed=0,
        probabilities=probabilities,
        logits_and_gradient=lambda inputs, weights: (inputs @ matrix, weights @ matrix.T),
    )


def attacked(asked: Problem) -> Classifier:
    return Classifier(asked, asked.target.argmax(axis=1), np.float32(-0.5), np.float32(1))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("target_proba", "tol"), [(1.0, 0.01), (0.5, 0.01), (0.9, 0.3)])
def test_it_predicts_the_target_exactly_where_the_probability_is_high_enough(classes, target_proba, tol):
    asked = problem(classes, n=2000, target_proba=target_proba, tol=tol)
    target = asked.target.argmax(axis=1)
    logits, _ = attacked(asked).logits(asked.x + 0.5)
    f_target = asked.probabilities(asked.x)[np.arange(len(target)), target]
    is_clear = np.abs(f_target - (target_proba - tol)) > 1e-3
    is_met = f_target >= target_proba - tol
    assert is_met.any() and not is_met.all()
    np.testing.assert_array_equal((logits.argmax(axis=1) == target)[is_clear], is_met[is_clear])
    # none on the boundary is a counterfactual to the attack and not to the engine
    assert (f_target[logits.argmax(axis=1) == target] >= target_proba - tol).all()


def test_its_gradient_is_that_of_its_logits():
    asked = problem()
    classifier, x = attacked(asked), (asked.x + 0.5).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=asked.target.shape).astype(np.float32)
    _, z = classifier.logits(x)
    gradient, step = classifier.gradient(x, z, weights), np.float32(1e-3)
    for feature in range(FEATURES):
        change = np.zeros_like(x)
        change[:, feature] = step
        higher, lower = (classifier.logits(x + sign * change)[0] for sign in (1, -1))
        numerical = ((higher - lower) * weights).sum(axis=1) / (2 * step)
        np.testing.assert_allclose(gradient[:, feature], numerical, rtol=0.02, atol=0.02)


def test_it_refuses_other_rows_than_those_of_the_problem():
    asked = problem()
    with pytest.raises(ValueError, match="5 rows"):
        attacked(asked).logits(asked.x[:2])


def test_a_start_is_the_nearest_training_instance_that_is_a_counterfactual():
    asked = problem(n=3, target_proba=0.6)
    random = np.random.default_rng(2)
    x_train = random.uniform(-0.5, 0.5, (400, FEATURES)).astype(np.float32)
    # no training instance of the target class of the last row
    y_train = asked.probabilities(x_train).argmax(axis=1)
    y_train[y_train == 2] = 3
    asked = problem(n=3, target_proba=0.9, tol=0.3, x_train=x_train, y_train=y_train)
    nearest, is_found = starts(asked, asked.target.argmax(axis=1))
    assert is_found.tolist() == [True, True, False]
    for row in (0, 1):
        is_one = (y_train == row) & (asked.probabilities(x_train)[:, row] >= 0.6)
        expected = np.abs(x_train[is_one] - asked.x[row]).sum(axis=1).min()
        assert np.abs(nearest[row] - asked.x[row]).sum() == pytest.approx(expected)


def test_a_row_that_the_attack_leaves_not_finite_or_no_counterfactual_is_the_instance_and_costs_no_other_row():
    asked = problem(n=6, target_proba=0.9, tol=0.3)

    def probabilities(inputs: np.ndarray) -> np.ndarray:
        assert np.isfinite(inputs).all(), "a model rejects the whole batch"
        return np.where(inputs[:, :1] > 0.49, asked.target[rows], 0.25)

    rows = np.array([5, 0, 2, 3])
    asked = replace(asked, probabilities=probabilities)
    unit = asked.x[rows] + np.float32(0.5)
    attacked = unit.copy()
    attacked[:3, 0] = 1.5
    attacked[2, 1] = np.nan
    x = accepted(asked, rows, unit, attacked)
    assert x.dtype == np.float32 and (x[:2, 0] == 0.5).all()
    np.testing.assert_array_equal(x[:2, 1:], asked.x[rows[:2], 1:])
    np.testing.assert_array_equal(x[2:], asked.x[rows[2:]])
