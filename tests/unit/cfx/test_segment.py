import numpy as np
import pytest

from cfx.errors import InputError
from cfx.methods.nearest_neighbour import NearestNeighbour
from cfx.methods.segment import Segment
from cfx.problem import Problem


def make_problem(x, x_train, f_target, tol=0.4):
    """A model of two classes, by the probability of the second, which is the target."""

    def probabilities(inputs):
        second = f_target(inputs.reshape(len(inputs), -1))
        return np.stack([1 - second, second], axis=1).astype(np.float32)

    return Problem(
        x=x,
        target=np.tile([False, True], (len(x), 1)),
        original_class=np.zeros(len(x), int),
        target_proba=1.0,
        tol=tol,
        low=np.float32(-0.5),
        high=np.float32(0.5),
        x_train=x_train,
        y_train=np.ones(len(x_train), int),
        seed=0,
        probabilities=probabilities,
        logits_and_gradient=lambda inputs, weights: pytest.fail("asks for gradients"),
    )


def wavy(inputs):
    """Crosses the tolerance several times on most lines."""
    return 1 / (1 + np.exp(-8 * np.sin(9 * inputs[:, 0] + 5 * inputs[:, 1] ** 2 - 3 * inputs[:, 2])))


@pytest.fixture(scope="module")
def problem():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (600, 3, 2)).astype(np.float32)
    split = make_problem(points[:200], points[200:], wavy)
    return make_problem(points[:200][~split.is_met(points[:200])], points[200:], wavy)


def places(problem, found, neighbours):
    """Where on its segment each point lies, in [0, 1]."""
    along, whole = ((end - problem.x).astype(np.float64).reshape(len(found), -1) for end in (found, neighbours))
    return (along * whole).sum(axis=1) / (whole**2).sum(axis=1)


def test_it_is_the_first_counterfactual_of_a_dense_grid(problem):
    neighbours = NearestNeighbour().search(problem)
    found = Segment(grid=200, steps=10).search(problem)
    assert problem.is_met(found).all()
    dense = np.linspace(0, 1, 20_001)
    for row in range(len(found)):
        x, z = problem.x[row].ravel(), neighbours[row].ravel()
        line = ((1 - dense[:, None]) * x + dense[:, None] * z).astype(np.float32)
        first = dense[problem.is_met(line, np.full(len(line), row)).argmax()]
        assert places(problem, found, neighbours)[row] == pytest.approx(first, abs=1e-4)


def test_it_lies_on_the_segment_and_a_little_nearer_there_is_none(problem):
    neighbours = NearestNeighbour().search(problem)
    found = Segment(grid=5, steps=8).search(problem)
    a = places(problem, found, neighbours)[:, None, None]
    np.testing.assert_allclose(found, (1 - a) * problem.x + a * neighbours, atol=1e-6)
    nearer = a - 2.0**-8 / 5
    before = (1 - nearer) * problem.x + nearer * neighbours
    # where the halved part begins at the instance, which is none, float32 may put the point past it
    assert not problem.is_met(before.astype(np.float32)).any()


def test_a_grid_of_one_part_bisects_from_the_instance():
    # 0.5 is crossed once, at 0.1 in the first feature
    x, z = np.float32([[-0.5, 0.3]]), np.float32([[0.5, 0.3]])
    problem = make_problem(x, z, lambda inputs: (inputs[:, 0] >= 0.1).astype(float))
    found = Segment(grid=1, steps=20).search(problem)
    np.testing.assert_allclose(found, [[0.1, 0.3]], atol=2e-6)
    assert found[0, 1] == x[0, 1]


def test_a_grid_sees_a_nearer_stretch_that_bisection_alone_misses():
    x, z = np.float32([[-0.5]]), np.float32([[0.5]])
    in_two_stretches = lambda inputs: ((np.abs(inputs[:, 0] + 0.25) <= 0.05) | (inputs[:, 0] >= 0.4)).astype(float)  # noqa: E731
    problem = make_problem(x, z, in_two_stretches)
    np.testing.assert_allclose(Segment(grid=1, steps=15).search(problem), [[0.4]], atol=1e-4)
    np.testing.assert_allclose(Segment(grid=20, steps=15).search(problem), [[-0.3]], atol=1e-4)


def test_a_neighbour_that_alone_is_a_counterfactual_is_given_bit_for_bit():
    x, z = np.float32([[-0.3, 0.1]]), np.float32([[0.1, -0.2]])
    problem = make_problem(x, z, lambda inputs: (inputs == z).all(axis=1).astype(float))
    np.testing.assert_array_equal(Segment().search(problem), z)


def test_rows_without_a_neighbour_keep_their_instance():
    x = np.float32([[-0.3, 0.1], [0.2, 0.2]])
    problem = make_problem(x, x[:1], lambda inputs: np.zeros(len(inputs)))
    np.testing.assert_array_equal(Segment().search(problem), x)


def test_it_needs_training_instances():
    with pytest.raises(InputError, match="train has no instances"):
        Segment().search(make_problem(np.zeros((1, 2), np.float32), np.zeros((0, 2), np.float32), wavy))


@pytest.mark.parametrize("values", [{"grid": 0}, {"grid": 10_001}, {"steps": 0}, {"steps": 51}, {"steps": 1.5}])
def test_hyperparameters_outside_their_range_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Segment(**values)
