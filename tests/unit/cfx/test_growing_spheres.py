from dataclasses import replace

import numpy as np
import pytest

from cfx.errors import InputError
from cfx.methods.growing_spheres import GrowingSpheres, _Around, _reset_features
from cfx.problem import Problem


def make_problem(x, probabilities, *, low=-0.5, high=0.5, tol=0.5, seed=0):
    original = probabilities(x).argmax(axis=1)
    return Problem(
        x=x,
        target=np.arange(probabilities(x).shape[1]) != original[:, None],
        original_class=original,
        target_proba=1.0,
        tol=tol,
        low=np.asarray(low, np.float32),
        high=np.asarray(high, np.float32),
        x_train=x[:0],
        y_train=original[:0],
        seed=seed,
        probabilities=probabilities,
        logits_and_gradient=lambda inputs, weights: pytest.fail("asks for gradients"),
    )


def two_classes(f_second):
    def probabilities(inputs):
        second = f_second(inputs.reshape(len(inputs), -1)).astype(np.float32)
        return np.stack([1 - second, second], axis=1)

    return probabilities


# f_t depends on the mean of the first two of six features: the other changes can be undone
halfspace = two_classes(lambda inputs: 1 / (1 + np.exp(-20 * (inputs[:, 0] + inputs[:, 1] - 0.2))))


@pytest.fixture(scope="module")
def x():
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (80, 3, 2)).astype(np.float32)
    return drawn[halfspace(drawn)[:, 1] < 0.5][:20]


@pytest.fixture(scope="module")
def forest():
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(1)
    x = random.uniform(0, 1, (500, 4)).astype(np.float32)
    return RandomForestClassifier(30, random_state=0).fit(x, (x[:, 0] + x[:, 1] > 1) + (x[:, 2] > 0.8).astype(int)), x


def test_what_it_finds_is_a_counterfactual_in_the_range_and_near(x):
    problem = make_problem(x, halfspace)
    found = GrowingSpheres().search(problem)
    assert found.dtype == np.float32
    assert problem.is_met(found).all()
    assert np.abs(found).max() <= 0.5
    # the distance of the plane x_0 + x_1 = 0.2, as far as the range lets one go straight to it
    flat = x.reshape(len(x), -1)
    least = (0.2 - flat[:, 0] - flat[:, 1]) / np.sqrt(2)
    l2 = np.sqrt(np.square(found - x).sum(axis=(1, 2)))
    assert (l2 >= least - 1e-6).all()
    assert np.median(l2 / least) < 1.4


def test_changes_that_the_class_does_not_need_are_undone(x):
    found = GrowingSpheres().search(make_problem(x, halfspace))
    changed = (found != x).reshape(len(x), -1).sum(axis=1)
    assert changed.max() <= 5
    assert np.median(changed) <= 3


def test_undoing_is_that_of_the_published_loop(x):
    problem = make_problem(x, halfspace)
    for row in range(len(x)):
        # fewer draws than features, so that the stages come in several blocks
        around = _Around(problem, row, draws=2)
        start = np.full(6, 0.5, np.float32) - np.float32(0.01) * np.arange(6, dtype=np.float32)
        expected, trial = start, start.copy()
        while around.is_met(trial[None])[0]:
            expected = trial.copy()
            change = np.where(trial == around.x, np.inf, np.abs(trial - around.x))
            trial[change.argmin()] = around.x[change.argmin()]
        np.testing.assert_array_equal(_reset_features(around, start), expected)


def test_undoing_never_leaves_the_class(x):
    # a class that is scattered over the range, so that most changes matter
    scattered = two_classes(lambda inputs: (np.sin(40 * inputs).sum(axis=1) > 1).astype(float))
    problem = make_problem(x, scattered)
    found = GrowingSpheres(draws=50).search(problem)
    is_changed = (found != x).any(axis=(1, 2))
    assert is_changed.sum() >= 15
    assert problem.is_met(found)[is_changed].all()


def test_a_random_forest(forest):
    model, x = forest
    # like any classifier of float64 probabilities that jump
    problem = make_problem(x[:15], model.predict_proba, low=0, high=1, tol=0.45)
    found = GrowingSpheres(draws=200).search(problem)
    assert problem.is_met(found).all()
    assert (model.predict(found) != model.predict(x[:15])).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_a_row_has_the_same_bits_whatever_is_searched_with_it(x):
    whole = make_problem(x, halfspace)
    found = GrowingSpheres(draws=100).search(whole)
    order = [7, 3, 3, 11]
    part = replace(whole, x=x[order], target=whole.target[order], original_class=whole.original_class[order])
    assert GrowingSpheres(draws=100).search(part).tobytes() == found[order].tobytes()


def test_the_seed_and_the_instance_make_the_draws(x):
    first, again, other = (_Around(make_problem(x, halfspace, seed=seed), 0, 10).layer(0.1, 0.2) for seed in (0, 0, 1))
    neighbour = _Around(make_problem(x, halfspace), 1, 10).layer(0.1, 0.2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.allclose(first - x[0].ravel(), neighbour - x[1].ravel())


@pytest.mark.parametrize(("inner", "outer"), [(0.0, 0.4), (0.2, 0.3)])
def test_draws_are_uniform_in_the_layer(inner, outer):
    around = _Around(make_problem(np.zeros((1, 3), np.float32), halfspace), 0, 40_000)
    points = around.layer(inner, outer)
    radius = np.linalg.norm(points, axis=1)
    assert inner - 1e-6 <= radius.min() < radius.max() <= outer + 1e-6
    # the share of the volume that lies inside each radius is uniform in [0, 1]
    volume = np.sort((radius**3 - inner**3) / (outer**3 - inner**3))
    assert np.abs(volume - np.linspace(0, 1, len(volume))).max() < 0.01
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.005)


def test_draws_of_many_features_are_finite():
    around = _Around(make_problem(np.zeros((1, 4000), np.float32), halfspace), 0, 5)
    for inner, outer in [(0, 1e-3), (1e-3, 2e-3), (30, 60)]:
        assert np.isfinite(around.layer(inner, outer)).all()


def test_rows_without_a_counterfactual_keep_their_instance_and_come_to_an_end(x):
    calls = []

    def never(inputs):
        calls.append(len(inputs))
        return np.tile(np.float32([1, 0]), (len(inputs), 1))

    problem = make_problem(x[:3], never)
    calls.clear()
    np.testing.assert_array_equal(GrowingSpheres(draws=20).search(problem), x[:3])
    assert set(calls) == {20}
    assert len(calls) <= 3 * 10


def test_counterfactuals_at_every_distance_come_to_an_end():
    # all but the instance itself
    x = np.full((1, 4), 0.25, np.float32)
    problem = make_problem(x, two_classes(lambda inputs: (inputs != 0.25).any(axis=1).astype(float)))
    found = GrowingSpheres(draws=20).search(problem)
    assert problem.is_met(found).all()
    assert np.count_nonzero(found != x) == 1
    assert np.abs(found - x).max() < 1e-4


def test_features_count_in_units_of_their_range():
    # the same problem with other units gives the same counterfactuals, up to rounding
    x = np.random.default_rng(3).uniform(-0.5, 0, (5, 2)).astype(np.float32)
    span = np.float32([4, 0.25])
    found = GrowingSpheres().search(make_problem(x, halfspace))
    scaled = make_problem(x * span, lambda inputs: halfspace(inputs / span), low=-0.5 * span, high=0.5 * span)
    other = GrowingSpheres().search(scaled) / span
    # the bits of the instance make its draws, so the two agree as two seeds do
    l2, other_l2 = (np.linalg.norm(point - x, axis=1) for point in (found, other))
    np.testing.assert_allclose(l2, other_l2, rtol=0.1)


@pytest.mark.parametrize(
    "values",
    [
        {"draws": 0},
        {"draws": 100_001},
        {"first_radius": 0},
        {"first_radius": 1.1},
        {"growth": 0.9},
        {"growth": 11},
        {"seed": -1},
        {"seed": True},
    ],
)
def test_hyperparameters_outside_their_range_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        GrowingSpheres(**values)
