import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfx.errors import InputError
from cfx.methods.nearest_neighbour import NearestNeighbour
from cfx.problem import Problem


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def make_problem(x, x_train, *, target=None, classes=3, low=-0.5, high=0.5, target_proba=1.0, tol=0.4, weights=None):
    """A linear softmax model; by default each row may end in any class but its own."""
    features = int(np.prod(x.shape[1:]))
    weights = np.random.default_rng(7).normal(0, 6, (features, classes)) if weights is None else weights
    calls = []

    def probabilities(inputs):
        calls.append(len(inputs))
        return softmax(inputs.reshape(len(inputs), -1) @ weights).astype(np.float32)

    original = probabilities(x).argmax(axis=1)
    calls.clear()
    problem = Problem(
        x=x,
        target=np.arange(classes) != original[:, None] if target is None else target,
        original_class=original,
        target_proba=target_proba,
        tol=tol,
        low=np.asarray(low, np.float32),
        high=np.asarray(high, np.float32),
        x_train=x_train,
        y_train=np.zeros(len(x_train), int),
        seed=0,
        probabilities=probabilities,
        logits_and_gradient=lambda inputs, weights: pytest.fail("asks for gradients"),
    )
    return problem, calls


def brute_force(problem):
    """One pair after the other, in the words of the definition."""
    expected = problem.x.copy()
    known = problem.probabilities(problem.x_train)
    for row, x in enumerate(problem.x):
        best = np.inf
        for z, p in zip(problem.x_train, known, strict=True):
            is_inside = (z >= problem.low).all() and (z <= problem.high).all()
            f_t = p[problem.target[row]].max()
            l1 = np.abs(x.astype(np.float64) - z).sum()
            if is_inside and abs(f_t - np.float32(problem.target_proba)) <= problem.tol and l1 < best:
                best, expected[row] = l1, z
    return expected


def draw(seed, n, *shape):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1,), (7,), (4, 3, 2)])
@pytest.mark.parametrize(("target_proba", "tol"), [(1.0, 0.4), (0.5, 0.1), (1.0, 0.01)])
def test_it_is_the_nearest_of_all_that_qualify(shape, target_proba, tol):
    problem, _ = make_problem(draw(0, 30, *shape), draw(1, 400, *shape), target_proba=target_proba, tol=tol)
    found = NearestNeighbour().search(problem)
    np.testing.assert_array_equal(found, brute_force(problem))
    assert found.dtype == np.float32


@given(st.integers(0, 10_000))
def test_it_is_exact_on_few_values_where_most_distances_are_equal(seed):
    random = np.random.default_rng(seed)
    x, x_train = (random.choice(np.float32([-0.5, 0, 0.5]), (n, 4)) for n in (6, 40))
    problem, _ = make_problem(x, x_train)
    np.testing.assert_array_equal(NearestNeighbour().search(problem), brute_force(problem))


def test_of_several_at_one_distance_it_is_the_first():
    # the model looks at the first feature only, so that both neighbours qualify
    weights = np.zeros((3, 2))
    weights[0] = -9, 9
    x_train = np.float32([[0.5, 0.5, 0], [0.5, 0, 0.25], [0.5, 0.25, 0]])
    problem, _ = make_problem(np.float32([[-0.5, 0, 0]]), x_train, classes=2, weights=weights)
    np.testing.assert_array_equal(NearestNeighbour().search(problem), x_train[[1]])


def test_each_row_has_target_classes_of_its_own():
    x, x_train = draw(2, 12, 5), draw(3, 300, 5)
    target = np.eye(3, dtype=bool)[np.arange(12) % 3]
    problem, _ = make_problem(x, x_train, target=target)
    np.testing.assert_array_equal(NearestNeighbour().search(problem), brute_force(problem))


def test_features_of_unequal_ranges_and_a_far_origin():
    low, span = np.float32([0, 1000, -1e-3]), np.float32([1, 50, 2e-3])
    scaled, scaled_train = draw(4, 20, 3) + 0.5, draw(5, 300, 3) + 0.5
    x, x_train = (np.clip(low + part * span, low, low + span) for part in (scaled, scaled_train))
    weights = np.random.default_rng(0).normal(0, 6, (3, 3)) / span[:, None]
    problem, _ = make_problem(x, x_train, low=low, high=low + span, weights=weights)
    np.testing.assert_array_equal(NearestNeighbour().search(problem), brute_force(problem))


def test_training_instances_outside_the_range_do_not_qualify():
    x, x_train = 0.4 * draw(6, 20, 3), draw(7, 300, 3)
    problem, _ = make_problem(x, x_train, low=-0.3, high=0.3)
    found = NearestNeighbour().search(problem)
    np.testing.assert_array_equal(found, brute_force(problem))
    assert np.abs(found).max() <= np.float32(0.3)


def test_without_a_neighbour_the_instance_is_returned():
    x = draw(8, 5, 3)
    problem, _ = make_problem(x, x[:1], target=np.zeros((5, 3), bool))
    np.testing.assert_array_equal(NearestNeighbour().search(problem), x)


def test_the_model_is_given_each_training_instance_once():
    problem, calls = make_problem(draw(9, 300, 4), draw(10, 3000, 4))
    NearestNeighbour().search(problem)
    assert sum(calls) == 3000
    assert max(calls) <= 1024


def test_the_blocks_of_rows_and_of_training_instances_join():
    problem, _ = make_problem(draw(11, 150, 2), draw(12, 9000, 2))
    found = NearestNeighbour().search(problem)
    known = problem.probabilities(problem.x_train)
    distances = np.abs(problem.x[:, None].astype(np.float64) - problem.x_train).sum(axis=2)
    f_target = np.where(problem.target[:, None], known, 0).max(axis=2)
    distances[np.abs(f_target - np.float32(1)) > problem.tol] = np.inf
    np.testing.assert_array_equal(found, problem.x_train[distances.argmin(axis=1)])


def test_it_needs_training_instances():
    problem, _ = make_problem(draw(13, 2, 3), draw(13, 0, 3))
    with pytest.raises(InputError, match="train has no instances"):
        NearestNeighbour().search(problem)
