"""What the engine does around an array method: the problem that it gives it, and the answer that it takes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from cfx import ArrayMethod, GrowingSpheres, InputError, NearestNeighbour, find_counterfactuals

WEIGHTS = np.array([[4, -2, 0], [0, 4, -4], [2, 0, 4], [0, 0, 1]], np.float32)


@pytest.fixture(scope="module")
def model():
    """Three classes, linear in four features."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", use_bias=False)])
    model.set_weights([WEIGHTS])
    return model


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (20, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def train():
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (400, 4)).astype(np.float32)
    return x, (x @ WEIGHTS).argmax(axis=1)


@dataclass(frozen=True, kw_only=True)
class Spy(ArrayMethod):
    """Remembers its problem and gives what it is told to, by default the instances."""

    seed: int = 0
    answer: Any = None
    problems: ClassVar[list] = []

    def search(self, problem):
        self.problems[:] = [problem]
        return self.answer(problem) if callable(self.answer) else problem.x


def test_a_method_is_given_the_rows_that_are_no_counterfactuals_yet(model, x, train):
    target_class = ["other", "same", 0, 2] * 5
    result = find_counterfactuals(model, x, Spy(target_class=target_class, tol=0.4, seed=7), train=train)
    (problem,) = Spy.problems
    before = model.predict(x, verbose=0)
    original = before.argmax(axis=1)
    target = np.array(
        [
            {"other": np.arange(3) != own, "same": np.arange(3) == own}.get(ask, np.arange(3) == ask)
            for ask, own in zip(target_class, original, strict=True)
        ]
    )
    already = np.abs(np.where(target, before, 0).max(axis=1) - 1) <= 0.4
    assert 0 < already.sum() < 20
    np.testing.assert_array_equal(result.unchanged, already)
    np.testing.assert_array_equal(result.found, already)
    np.testing.assert_array_equal(problem.x, x[~already])
    np.testing.assert_array_equal(problem.target, target[~already])
    np.testing.assert_array_equal(problem.original_class, original[~already])
    np.testing.assert_array_equal(problem.x_train, train[0])
    np.testing.assert_array_equal(problem.y_train, train[1])
    assert (problem.seed, problem.target_proba, problem.tol) == (7, 1.0, 0.4)
    assert (problem.low, problem.high) == (-0.5, 0.5)
    assert result.target_class.tolist() == [str(ask) for ask in target_class]


@pytest.mark.parametrize("as_function", [False, True])
def test_a_problem_has_the_model_in_batches_of_any_size(model, x, train, as_function):
    batches = []

    def function(inputs):
        batches.append(len(inputs))
        return model(inputs).numpy()

    given = function if as_function else model
    find_counterfactuals(given, x[:3], Spy(), batch_size=6, outputs="probabilities", eps=1e-2)
    (problem,) = Spy.problems
    assert problem.model is given
    assert len(problem.x_train) == 0 and problem.x_train.shape[1:] == (4,)
    inputs, weights = train[0][:17].astype(np.float64), np.random.default_rng(2).normal(size=(17, 3))
    probabilities = problem.probabilities(inputs)
    np.testing.assert_allclose(probabilities, model.predict(train[0][:17], verbose=0), rtol=1e-5)
    logits, gradient = problem.logits_and_gradient(inputs, weights)
    odds = np.exp(logits)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, rtol=1e-4)
    # of logits that are log-probabilities, the gradient has the softmax's share in it
    spread = weights - probabilities * weights.sum(axis=1, keepdims=True) if as_function else weights
    np.testing.assert_allclose(gradient, spread @ WEIGHTS.T, rtol=1e-2, atol=2e-3)
    for part in (logits, gradient, probabilities):
        assert part.dtype == np.float32
    # a gradient of a function takes two inputs a feature
    assert not as_function or max(batches) <= 6 * 2 * 4
    assert [len(part) for part in problem.logits_and_gradient(inputs[:0], weights[:0])] == [0, 0]
    with pytest.raises(InputError, match=r"weights have shape \(3,\), expected \(17, 3\)"):
        problem.logits_and_gradient(inputs, np.ones(3))


def test_what_the_model_does_not_confirm_is_not_found_and_holds_its_instance(model, x, train):
    def some(problem):
        return np.where(np.arange(len(problem.x))[:, None] % 2, 0.1, NearestNeighbour().search(problem))

    result = find_counterfactuals(model, x, Spy(answer=some, tol=0.3), train=train)
    searched = np.flatnonzero(~result.unchanged)
    assert result.found[searched[::2]].all() and not result.found[searched[1::2]].any()
    np.testing.assert_array_equal(result.x[~result.found], x[~result.found])
    assert (result.l1[~result.found] == 0).all() and (result.l1[searched[::2]] > 0).all()
    np.testing.assert_array_equal(result.cf_class[~result.found], result.original_class[~result.found])
    f_target = np.delete(model.predict(result.x[result.found], verbose=0), 0, axis=1)
    assert len(f_target) == result.found.sum()


def test_the_documented_method_needs_no_registration(model, x, train, documented):
    method = documented(ArrayMethod).TowardsMean
    result = find_counterfactuals(model, x, method(tol=0.4), train=train)
    assert result.method == "documented_array_method"
    assert result.found.sum() >= 10 and (result.l1[result.found & ~result.unchanged] > 0).all()
    finer = find_counterfactuals(model, x, method(tol=0.4, parts=200), train=train)
    assert (finer.l1[result.found] <= result.l1[result.found] + 1e-6).all()
    with pytest.raises(InputError, match="parts"):
        method(parts=0)


def test_hyperparameters_that_a_method_does_not_have_are_nan(model, x):
    result = find_counterfactuals(model, x, GrowingSpheres(tol=0.3), path_rows=5)
    for name in ("lam", "lam_init", "learning_rate"):
        assert np.isnan(getattr(result, name)).all()
    assert result.path.x.shape == (0, 4) and len(result.path.row) == 0
    assert result.frame()[["lam", "lam_init", "learning_rate"]].isna().all(axis=None)
    assert result.frame().method.unique().tolist() == ["growing_spheres"]


def test_iterations_are_the_inputs_given_to_the_model_for_each_row_searched(model, x):
    def four_and_a_bit(problem):
        problem.probabilities(np.repeat(problem.x, 3, axis=0))
        problem.logits_and_gradient(problem.x[:1], np.ones((1, 3)))
        # the logits and then the gradient at the same inputs are one step
        for weight in (0, 1):
            problem.logits_and_gradient(problem.x.copy(), np.full((len(problem.x), 3), weight))
        return problem.x

    result = find_counterfactuals(model, x, Spy(target_class=["other", "same"] * 10, tol=0.4, answer=four_and_a_bit))
    assert 0 < result.unchanged.sum() < 20
    np.testing.assert_array_equal(result.iterations, np.where(result.unchanged, 0, 5))
    assert np.unique(result.runtime_s[~result.unchanged]).size == 1
    assert result.runtime_s[~result.unchanged].min() > result.runtime_s[result.unchanged].max() > 0


def test_progress_counts_all_rows(model, x):
    told = []
    method = GrowingSpheres(target_class=["other", "same"] * 10, tol=0.4)
    result = find_counterfactuals(model, x, method, progress=lambda *at: told.append(at))
    assert told == sorted(told) and told[-1] == (20, 20)
    assert told[0] == (result.unchanged.sum() + 1, 20)


def test_no_rows_to_search_make_no_call(model, x):
    Spy.problems.clear()
    assert len(find_counterfactuals(model, x[:0], Spy()).frame()) == 0
    assert find_counterfactuals(model, x, Spy(target_class="same", tol=0.9)).unchanged.all()
    assert Spy.problems == []


def test_the_answer_may_round_beyond_the_range_and_is_clipped(model, x):
    beyond = lambda problem: np.full(problem.x.shape, 0.5 + 5e-7) * [1, -1, -1, -1]  # noqa: E731
    result = find_counterfactuals(model, x, Spy(target_class=0, answer=beyond, tol=0.3))
    assert result.found.all()
    np.testing.assert_array_equal(np.abs(result.x[~result.unchanged]), 0.5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda problem: problem.x[:, :3],
            r"method test_array_search returned an array of shape \(20, 3\), expected \(20, 4\)",
        ),
        (lambda problem: problem.x[:1], r"returned an array of shape \(1, 4\)"),
        (lambda problem: None, "returned NoneType"),
        (lambda problem: [[1, 2], [3]], "returned list"),
        (lambda problem: problem.x.astype(str), "returned ndarray of <U"),
        (lambda problem: problem.x + 1j, "returned ndarray of complex"),
        (lambda problem: {"x": problem.x}, "returned dict"),
        (lambda problem: np.where(np.arange(20)[:, None] == 3, np.nan, problem.x), "not finite in row 3"),
        (lambda problem: np.full((20, 4), 1e300), "not finite in row 0"),
        (lambda problem: problem.x + np.eye(20, 4), "in row 0, outside feature_range"),
        (lambda problem: np.full((20, 4), 0.5 + 1e-5), "outside feature_range"),
    ],
)
def test_an_answer_that_cannot_be_taken_is_one_line(model, x, answer, message):
    with pytest.raises(InputError, match=message) as caught:
        find_counterfactuals(model, x, Spy(answer=answer, tol=1e-6))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros((3, 5)), np.zeros(3)), r"train has shapes \(3, 5\) and \(3,\)"),
        ((np.zeros((3, 4)), np.zeros(2)), r"train has shapes \(3, 4\) and \(2,\)"),
        ((np.zeros((3, 4)), np.zeros((3, 2))), "give"),
        ((np.zeros((3, 4)),), "two arrays"),
        (([["a"]], [1]), "two arrays"),
        ((np.full((3, 4), np.nan), np.zeros(3)), "not finite"),
    ],
)
def test_a_training_split_that_does_not_fit_is_named(model, x, given, message):
    with pytest.raises(InputError, match=message):
        find_counterfactuals(model, x, NearestNeighbour(), train=given)


def test_a_method_that_looks_at_the_training_split_says_that_it_needs_one(model, x):
    with pytest.raises(InputError, match="train has no instances"):
        find_counterfactuals(model, x, NearestNeighbour())


def test_target_classes_of_each_row_must_be_as_many_and_exist(model, x):
    with pytest.raises(InputError, match="target_class has 3 values for 20 rows"):
        find_counterfactuals(model, x, Spy(target_class=[0, 1, 2]))
    with pytest.raises(InputError, match="target_class 3 does not exist"):
        find_counterfactuals(model, x, Spy(target_class=3))
