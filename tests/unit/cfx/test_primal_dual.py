import itertools

import keras
import numpy as np
import pytest

from cfx import PrimalDual, find_counterfactuals


def linear(weights, bias=0.0):
    """Two classes; the logit of the second is weights * x + bias."""
    model = keras.Sequential([keras.layers.Input((len(weights),)), keras.layers.Dense(1, "sigmoid")])
    model.set_weights([np.array(weights, np.float32)[:, None], np.array([bias], np.float32)])
    return model


def cheapest(weights, x, needed, high):
    """The least L1 by which weights * x rises to what is needed: the steepest features first, each up to its bound."""
    l1 = 0.0
    for feature in np.argsort(-np.abs(weights)):
        room = high - x[feature] if weights[feature] > 0 else x[feature] + high
        used = min(room, max(needed - weights @ x, 0) / abs(weights[feature]))
        l1, x = l1 + used, x + used * np.sign(weights[feature]) * np.eye(len(x))[feature]
    return l1


@pytest.fixture(scope="module")
def wavy():
    """Five classes of 20 features with many local optima, and instances of it."""
    normal = keras.initializers.RandomNormal
    inputs = keras.Input((5, 4))
    hidden = keras.layers.Dense(32, "relu", kernel_initializer=normal(0, 1, 1), bias_initializer=normal(0, 0.5, 2))(
        keras.layers.Flatten()(inputs)
    )
    hidden = keras.layers.Dense(32, "tanh", kernel_initializer=normal(0, 0.5, 3))(hidden)
    outputs = keras.layers.Dense(5, "softmax", kernel_initializer=normal(0, 1.5, 4))(hidden)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (24, 5, 4)).astype(np.float32)
    return keras.Model(inputs, outputs), x


@pytest.fixture(scope="module")
def reachable(wavy):
    """A target class for every row: the second likeliest."""
    model, x = wavy
    return np.argsort(model.predict(x, verbose=0), axis=1)[:, -2].tolist()


def test_on_a_linear_model_it_is_the_exact_optimum():
    random = np.random.default_rng(1)
    weights, x = random.normal(0, 4, 30), random.uniform(-0.5, 0.5, (20, 30))
    x[x @ weights > 0] *= -1
    result = find_counterfactuals(linear(weights), x, PrimalDual(target_class=1))
    exact = np.array([cheapest(weights, row.copy(), np.log(99), 0.5) for row in x])
    assert result.found.all()
    np.testing.assert_allclose(result.l1, exact, rtol=0.01)


@pytest.mark.parametrize(
    ("target_proba", "tol", "logits"),
    [
        (1.0, 0.01, (np.log(99), np.inf)),
        (1.0, 1e-5, (np.log(1e5 - 1), np.inf)),
        (0.7, 0.05, (np.log(0.65 / 0.35), np.log(0.75 / 0.25))),
        (0.3, 0.1, (np.log(0.2 / 0.8), np.log(0.4 / 0.6))),
    ],
)
def test_in_one_dimension_it_stops_at_the_nearer_edge_of_the_condition(target_proba, tol, logits):
    x = np.array([[-0.45], [0.45], [-0.2], [0.1]])
    method = PrimalDual(target_class=1, target_proba=target_proba, tol=tol)
    result = find_counterfactuals(linear([30.0]), x, method)
    assert result.found.all()
    np.testing.assert_allclose(result.x, np.clip(x, *np.divide(logits, 30)), atol=2e-3)


def test_in_two_dimensions_it_comes_close_to_the_nearest_of_a_grid():
    normal = keras.initializers.RandomNormal
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(8, "relu", kernel_initializer=normal(0, 4, 4), bias_initializer=normal(0, 1, 4))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", kernel_initializer=normal(0, 4, 14))(hidden))
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (12, 2)).astype(np.float32)
    result = find_counterfactuals(model, x, PrimalDual(target_class="other", tol=0.1))

    axis = np.linspace(-0.5, 0.5, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    over_grid = model.predict(grid, verbose=0)
    nearest = np.empty(12)
    for row in range(12):
        reached = np.delete(over_grid, result.original_class[row], axis=1).max(axis=1) >= 0.9
        nearest[row] = np.abs(grid[reached] - x[row]).sum(axis=1).min()
    assert result.found.all()
    assert np.max(result.l1 / nearest) < 1.1


def test_what_is_not_changed_is_equal_bit_for_bit(wavy, reachable):
    model, x = wavy
    result = find_counterfactuals(model, x, PrimalDual(target_class=reachable))
    changed = result.x != x
    assert result.found.all()
    assert np.all(np.any(changed, axis=(1, 2)))
    assert np.median(np.sum(changed, axis=(1, 2))) < 10
    assert np.all(result.l0 <= np.sum(changed, axis=(1, 2)))


def test_more_steps_give_a_lower_l1(wavy, reachable):
    model, x = wavy
    totals = []
    for max_iter in (20, 60, 240):
        result = find_counterfactuals(model, x, PrimalDual(target_class=reachable, max_iter=max_iter))
        assert result.found.all()
        assert np.all(result.iterations == max_iter)
        totals.append(result.l1.sum())
    assert all(more <= less for less, more in itertools.pairwise(totals))


@pytest.mark.parametrize("lam_init", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize("learning_rate", [0.003, 0.1, 1.0])
def test_any_lam_init_and_learning_rate_lead_there(wavy, reachable, lam_init, learning_rate):
    model, x = wavy
    settled = find_counterfactuals(model, x, PrimalDual(target_class=reachable))
    method = PrimalDual(target_class=reachable, lam_init=lam_init, learning_rate=learning_rate)
    result = find_counterfactuals(model, x, method)
    assert result.found.all()
    assert result.l1.sum() < 1.25 * settled.l1.sum()


def test_other_is_the_nearest_of_all_classes(wavy):
    model, x = wavy
    other = find_counterfactuals(model, x, PrimalDual(target_class="other"))
    l1 = np.full((5, len(x)), np.inf)
    for target in range(5):
        result = find_counterfactuals(model, x, PrimalDual(target_class=target))
        l1[target] = np.where(result.found & (result.original_class != target), result.l1, np.inf)
    assert other.found.all()
    assert np.all(other.cf_class != other.original_class)
    assert other.l1.sum() < 1.06 * l1.min(axis=0).sum()


def test_features_of_other_ranges_are_searched_as_well(wavy, reachable):
    model, x = wavy
    scale, shift = np.float32(100) * np.arange(1, 5, dtype=np.float32), np.float32(7)
    inputs = keras.Input((5, 4))
    wide = keras.Model(inputs, model(keras.layers.Rescaling((1 / scale).tolist(), (-shift / scale).tolist())(inputs)))
    method = PrimalDual(target_class=reachable, feature_range=(shift - scale / 2, shift + scale / 2))
    bounded = np.clip(x * scale + shift, *method.feature_range)
    result = find_counterfactuals(wide, bounded, method, outputs="probabilities")
    assert result.found.all()
    assert np.all((result.x >= method.feature_range[0]) & (result.x <= method.feature_range[1]))


def test_a_row_comes_out_the_same_in_any_batch():
    normal = keras.initializers.RandomNormal
    layers = [keras.layers.Dense(8, "relu", kernel_initializer=normal(0, 3, 1)), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.layers.Input((5,)), *layers])
    model.layers[-1].set_weights([np.random.default_rng(3).normal(0, 2, (8, 3)), np.zeros(3)])
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 5)).astype(np.float32)
    whole = find_counterfactuals(model, x, PrimalDual(max_iter=40))
    order = np.random.default_rng(2).permutation(len(x))
    split = find_counterfactuals(model, x[order], PrimalDual(max_iter=40), batch_size=7)
    assert whole.found.any()
    np.testing.assert_array_equal(split.x, whole.x[order])


def test_the_path_holds_one_counterfactual_a_cycle(wavy, reachable):
    model, x = wavy
    result = find_counterfactuals(model, x, PrimalDual(target_class=reachable, max_iter=100), path_rows=2)
    assert set(result.path.row) == {0, 1}
    assert np.all(result.path.probability >= 0.99)
    assert np.all(np.unique(result.path.row, return_counts=True)[1] <= 5)
