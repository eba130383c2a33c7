import keras
import numpy as np
import pytest

from cfx import Wachter, find_counterfactuals


def logistic(weights, bias):
    """Two classes; the logit of the second is weights * x + bias."""
    model = keras.Sequential([keras.layers.Input((len(weights),)), keras.layers.Dense(1, "sigmoid")])
    model.set_weights([np.array(weights)[:, None], np.array([bias])])
    return model


@pytest.fixture(scope="module")
def line():
    return logistic([20.0], 0.0)


@pytest.mark.parametrize(
    ("target_proba", "tol", "logit"),
    [(1.0, 0.01, np.log(99)), (1.0, 0.2, np.log(4)), (0.7, 0.05, np.log(0.65 / 0.35)), (0.3, 0.1, np.log(0.2 / 0.8))],
)
def test_in_one_dimension_it_stops_at_the_edge_of_the_condition(line, target_proba, tol, logit):
    x = np.array([[-0.4], [-0.2]])
    method = Wachter(target_class=1, target_proba=target_proba, tol=tol, learning_rate=0.02)
    result = find_counterfactuals(line, x, method)
    assert result.found.all()
    nearest = logit / 20
    np.testing.assert_allclose(result.x[:, 0], nearest, atol=0.02)
    assert np.all(result.x[:, 0] >= nearest - 1e-6)


def test_in_two_dimensions_it_comes_close_to_the_nearest_of_a_grid():
    random = keras.initializers.RandomNormal
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(8, "relu", kernel_initializer=random(0, 4, 4), bias_initializer=random(0, 1, 4))(inputs)
    outputs = keras.layers.Dense(3, "softmax", kernel_initializer=random(0, 4, 14))(hidden)
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (12, 2)).astype(np.float32)
    result = find_counterfactuals(model, x, Wachter(target_class="other", tol=0.1, learning_rate=0.03))

    axis = np.linspace(-0.5, 0.5, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    over_grid = model(grid).numpy()
    ratio = []
    for row in range(12):
        reached = np.delete(over_grid, result.original_class[row], axis=1).max(axis=1) >= 0.9
        ratio.append(result.l1[row] / np.abs(grid[reached] - x[row]).sum(axis=1).min())
    assert result.found.all()
    assert min(ratio) > 0.95
    assert np.median(ratio) < 1.1
    assert max(ratio) < 1.5


@pytest.mark.parametrize("lam_init", [1e-6, 1.0, 1e6])
def test_the_bracket_is_found_from_any_first_lambda(line, lam_init):
    result = find_counterfactuals(line, [[-0.4]], Wachter(target_class=1, lam_init=lam_init, learning_rate=0.05))
    assert result.found.all()
    np.testing.assert_allclose(result.l1, 0.4 + np.log(99) / 20, rtol=0.05)


def test_it_leaves_an_instance_where_the_probability_is_all_but_zero():
    steep = logistic([60.0], 0.0)
    result = find_counterfactuals(steep, [[-0.5]], Wachter(target_class=1))
    assert steep.predict(np.array([[-0.5]]), verbose=0)[0, 0] < 1e-12
    assert result.found.all()


def test_every_lambda_ends_within_its_steps(line):
    method = Wachter(target_class=1, max_iter=20, max_lam_steps=3, early_stop=1000)
    result = find_counterfactuals(line, [[-0.4], [-0.1]], method)
    sweep = result.iterations - 3 * method.max_iter
    assert np.all((sweep >= 2 * 2) & (sweep <= 10 * 2) & (sweep % 2 == 0))
    stopped = find_counterfactuals(line, [[-0.4]], Wachter(target_class=1, max_iter=20, max_lam_steps=3, early_stop=1))
    assert stopped.iterations[0] < result.iterations[0]


def test_a_model_that_is_nearly_certain_lets_lambda_fall_until_the_gradient_counts():
    model = logistic([60.0, 60.0], 24.0)  # at the instance f is 2e-16, and so is the gradient of its squared loss
    x = np.full((1, 2), -0.5, np.float32)
    result = find_counterfactuals(model, x, Wachter(target_class=1, learning_rate=0.005))
    assert result.found.all() and result.lam[0] < 1e-12
