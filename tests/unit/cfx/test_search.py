import contextlib
import gc
import weakref
from dataclasses import fields, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cfx import GrowingSpheres, InputError, PrimalDual, StepMethod, Wachter, find_counterfactuals
from cfx.classifier import in_bfloat16

QUICK = {"max_iter": 60, "max_lam_steps": 4, "early_stop": 15}


@pytest.fixture(scope="module")
def model():
    """Three classes on a flat table of five features, not linear."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.layers.Input((5,)), *layers])
    model.set_weights([3 * weights for weights in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(2).uniform(-0.5, 0.5, (30, 5)).astype(np.float32)


def assert_same(one, other, rows=slice(None)):
    """Bit for bit, the time aside."""
    for field in fields(one):
        if field.name not in ("method", "runtime_s", "path", "instance"):
            np.testing.assert_array_equal(getattr(one, field.name)[rows], getattr(other, field.name), field.name)


target_classes = st.sampled_from(["other", "same", 0, 1, 2])


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    target_proba=st.sampled_from([1.0, 0.9, 0.6]),
    tol=st.sampled_from([0.01, 0.05, 0.3]),
    lam_init=st.sampled_from([1e-3, 0.1, 10]),
    learning_rate=st.sampled_from([0.01, 0.1, 1]),
)
def test_found_means_that_the_condition_holds(model, data, target_proba, tol, lam_init, learning_rate):
    features = st.lists(st.floats(-0.5, 0.5, width=32), min_size=5, max_size=5)
    x = np.array(data.draw(st.lists(features, min_size=1, max_size=6)), np.float32)
    asked = data.draw(st.lists(target_classes, min_size=len(x), max_size=len(x)))
    hyper = {"target_proba": target_proba, "tol": tol, "lam_init": lam_init, "learning_rate": learning_rate}
    method = Wachter(target_class=asked, **hyper, **QUICK)
    kernel, bias = model.layers[0].get_weights()
    # such as at 0, where no unit of this model is active and it has no slope
    if (x @ kernel + bias <= 0).all():
        with contextlib.suppress(InputError):
            find_counterfactuals(model, x, method)
        return
    result = find_counterfactuals(model, x, method)

    before, after = (model.predict(points, verbose=0) for points in (x, result.x))
    original = before.argmax(axis=1)
    classes = [
        [target for target in range(3) if target != original[row]]
        if ask == "other"
        else [original[row] if ask == "same" else ask]
        for row, ask in enumerate(asked)
    ]
    f_before, f_after = (
        np.array([predicted[row][of].max() for row, of in enumerate(classes)]) for predicted in (before, after)
    )
    np.testing.assert_array_equal(result.found, np.abs(f_after - np.float32(target_proba)) <= np.float32(tol))
    already = np.abs(f_before - np.float32(target_proba)) <= np.float32(tol)
    unchanged = already | ~result.found
    assert np.all((result.x >= -0.5) & (result.x <= 0.5))
    assert result.found[already].all()
    np.testing.assert_array_equal(result.x[unchanged], x[unchanged])
    assert np.all(result.l1[unchanged] == 0) and np.all(result.l1[~unchanged] > 0)
    np.testing.assert_array_equal(result.unchanged, already)
    np.testing.assert_array_equal(result.iterations == 0, already)
    np.testing.assert_array_equal(np.isnan(result.lam), unchanged)
    np.testing.assert_array_equal(result.original_class, original)
    np.testing.assert_array_equal(result.cf_class, after.argmax(axis=1))
    np.testing.assert_allclose(result.probability, after.max(axis=1), rtol=1e-5)
    assert result.target_class.tolist() == [str(ask) for ask in asked]


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_row_does_not_depend_on_the_others(model, x, data):
    method = Wachter(target_class=[["other", 0, 1, 2][row % 4] for row in range(30)], **QUICK)
    together = find_counterfactuals(model, x, method)
    order = np.array(data.draw(st.permutations(range(30))))
    size = data.draw(st.integers(1, 30))
    asked = [method.target_class[row] for row in order]
    batch_size = data.draw(st.integers(1, 12))
    part, rows = Wachter(target_class=asked[:size], **QUICK), order[:size]
    assert_same(together, find_counterfactuals(model, x[rows], part, batch_size=batch_size), rows)


def test_every_row_keeps_its_own_settings(model, x):
    lam_init, learning_rate = [0.1, 1, 0.01], [0.1, 0.3, 0.03]
    method = Wachter(target_class=["other", 2, "0"], lam_init=lam_init, learning_rate=learning_rate, **QUICK)
    together = find_counterfactuals(model, x[:3], method)
    for row, ask in enumerate(["other", 2, "0"]):
        hyper = {"lam_init": lam_init[row], "learning_rate": learning_rate[row]}
        alone = find_counterfactuals(model, x[row : row + 1], Wachter(target_class=ask, **hyper, **QUICK))
        assert_same(together, alone, slice(row, row + 1))
    assert together.lam_init.tolist() == lam_init


def test_no_rows_give_an_empty_result(model, x):
    result = find_counterfactuals(model, x[:0], Wachter(**QUICK), path_rows=3)
    assert result.x.shape == (0, 5)
    assert len(result.frame()) == len(result.path.row) == 0


def test_a_target_that_cannot_be_reached_is_not_found():
    even = keras.Sequential([keras.layers.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    even.set_weights([np.full((4, 2), 0.1) * [0, 1], np.array([1.0, 0.0])])
    x = np.zeros((3, 2, 2))
    result = find_counterfactuals(even, x, Wachter(target_class=["other", 1, "same"], **QUICK))
    assert not result.found.any()
    assert result.original_class.tolist() == result.cf_class.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(result.x, x)


def test_a_model_that_is_flat_everywhere_is_refused_by_a_step_method_and_searched_by_an_array_method(x):
    # like a tree: a step whose gradient is 0 everywhere
    def stump(x):
        second = np.where(x[:, 0] > 0.3, 0.9, 0.2).astype(np.float32)
        return np.stack([1 - second, second], axis=1)

    below = x[x[:, 0] < 0.25]
    for method in (Wachter(**QUICK), PrimalDual()):
        with pytest.raises(InputError, match=r"gradient is zero at every instance.*growing_spheres"):
            find_counterfactuals(stump, below, method)
        # where no step is taken, the gradient does not matter
        result = find_counterfactuals(stump, x[x[:, 0] > 0.35], replace(method, target_class=1, tol=0.3))
        assert result.found.all() and result.unchanged.all()
    assert find_counterfactuals(stump, below, GrowingSpheres(tol=0.3)).found.all()


@pytest.mark.parametrize("shape", [(4, 6), (4, 4), (4, 6, 1)])
@pytest.mark.parametrize("method", [PrimalDual(), GrowingSpheres()])
def test_an_instance_without_its_batch_axis_is_named(shape, method):
    layers = [keras.layers.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    with pytest.raises(InputError) as caught:
        find_counterfactuals(keras.Sequential(layers), np.zeros(shape), method)
    batch = ", ".join(map(str, shape))
    wanted = f"x has shape {shape}, the model needs a batch (n, {batch}): for one instance give x[None]"
    assert str(caught.value) == wanted


def test_images_may_leave_out_a_last_axis_of_one_where_keras_adds_it():
    layers = [keras.layers.Input((4, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 4, 6)).astype(np.float32)
    with_axis, without = (find_counterfactuals(model, images, PrimalDual()) for images in (x[..., None], x))
    np.testing.assert_array_equal(with_axis.x[..., 0], without.x)


def test_a_step_method_of_the_users_own_needs_no_registration(model, x, documented):
    method = documented(StepMethod).Descent
    rates = np.linspace(0.02, 0.1, 30)
    result = find_counterfactuals(model, x, method(learning_rate=rates, tol=0.1), batch_size=7, path_rows=3)
    assert result.method == "documented_step_method"
    assert result.found.sum() > 15
    f_target = np.where(np.arange(3) == result.original_class[:, None], 0, model.predict(result.x, verbose=0))
    np.testing.assert_array_equal(result.found, np.abs(f_target.max(axis=1) - 1) <= np.float32(0.1))
    assert (result.iterations[~result.found] == 100).all() and result.iterations[result.found].max() < 100
    np.testing.assert_array_equal(result.learning_rate, rates)
    assert set(result.path.row) <= {0, 1, 2} and len(result.path.row) > 0
    with pytest.raises(InputError, match="max_iter"):
        method(max_iter=0)


def test_the_path_holds_the_first_counterfactual_of_each_lambda(model, x):
    method = Wachter(target_class=1, **QUICK)
    result = find_counterfactuals(model, x, method, path_rows=7)
    path = result.path
    searched = np.flatnonzero(result.found & (result.iterations > 0))
    assert set(path.row) == set(searched[searched < 7])
    assert np.all(np.diff(path.row) >= 0)
    assert np.all(np.abs(model.predict(path.x, verbose=0)[:, 1] - 1) <= method.tol)
    np.testing.assert_allclose(path.l1, np.abs(path.x - x[path.row]).sum(axis=1), rtol=1e-5)
    for row in np.unique(path.row):
        of_row = path.row == row
        assert len(np.unique(path.lam[of_row])) == of_row.sum() > 1
        assert np.all(np.diff(path.step[of_row]) > 0) and path.step[of_row].max() < method.path_length(method)
        assert result.lam[row] in path.lam[of_row]
        assert result.l1[row] <= path.l1[of_row].min() + 1e-5
    assert len(find_counterfactuals(model, x[:2], method).path.row) == 0


def test_the_rows_share_the_time_of_the_search(model, x):
    done = []
    result = find_counterfactuals(model, x, Wachter(**QUICK), batch_size=8, progress=lambda *at: done.append(at))
    assert np.all(result.runtime_s > 0)
    searched = result.iterations > 0
    assert result.runtime_s[searched].min() > result.runtime_s[~searched].max(initial=0)
    assert done == sorted(done) and done[-1] == (30, 30)


def test_a_second_search_does_not_trace_the_model_again(x):
    traced = []

    class Counting(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            if not tf.executing_eagerly():
                traced.append(x.shape)
            return self.dense(x)

    model = Counting()
    find_counterfactuals(model, x, Wachter(**QUICK))
    before = len(traced)
    find_counterfactuals(model, x[:3], Wachter(target_class=1, lam_init=1, tol=0.1, max_iter=30), batch_size=2)
    assert before > 0 and len(traced) == before
    model.dense.kernel.assign(-model.dense.kernel)
    result = find_counterfactuals(model, x, Wachter(**QUICK))
    np.testing.assert_array_equal(result.original_class, model.predict(x, verbose=0).argmax(axis=1))
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None, "a compiled search keeps its model alive"


def test_models_searched_one_after_the_other_are_not_warned_of(x, caplog):
    for seed in range(6):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, "softmax")])
        find_counterfactuals(model, x[:2], PrimalDual(max_iter=2))
    assert [record.getMessage() for record in caplog.records] == []


def test_a_search_is_of_the_layers_that_the_model_has_now(model, x):
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    find_counterfactuals(changed, x, PrimalDual())
    changed.layers[0].activation = keras.activations.tanh
    assert not np.array_equal(changed(x), model(x))
    alike = keras.models.clone_model(changed)
    alike.set_weights(model.get_weights())
    assert_same(find_counterfactuals(changed, x, PrimalDual()), find_counterfactuals(alike, x, PrimalDual()))


class Scale(keras.layers.Layer):
    """A layer of the user's own, made with an array; keras can say no more of it than `config` does."""

    def __init__(self, by, config=None):
        super().__init__()
        self.by, self.config = by, config

    def call(self, x):
        return x * self.by

    def get_config(self):
        if self.config is None:
            raise NotImplementedError
        return {"by": self.by.copy()}


@pytest.mark.parametrize("config", [None, "arrays"])
def test_a_layer_of_the_users_own_may_say_nothing_of_itself_or_hold_arrays(x, config):
    layers = [keras.layers.Input((5,)), Scale(np.arange(1, 6, dtype=np.float32), config), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    first = find_counterfactuals(model, x, PrimalDual(max_iter=20))
    assert_same(find_counterfactuals(model, x, PrimalDual(max_iter=20)), first)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (3, 2, 2)])
def test_instances_may_have_any_rank_and_a_range_of_their_own(shape):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Rescaling(0.02), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.layers.Input(shape), *layers])
    low = np.linspace(0, 50, int(np.prod(shape))).reshape(shape)
    x = np.random.default_rng(0).uniform(low, 255, (4, *shape))
    method = Wachter(tol=0.4, learning_rate=20, lam_init=1e-3, feature_range=(low, 255), **QUICK)
    result = find_counterfactuals(model, x, method)
    assert result.found.any()
    assert np.all((result.x >= low.astype(np.float32)) & (result.x <= 255))


def test_a_function_is_searched_like_the_model_that_it_wraps():
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model.set_weights([np.array([[3.0], [-2.0], [1.0]]), np.array([0.1])])
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 3)).astype(np.float32)
    method = Wachter(tol=0.2, **QUICK)
    by_model = find_counterfactuals(model, x, method)
    by_function = find_counterfactuals(lambda x: model(x).numpy(), x, method, outputs="probabilities")
    assert by_model.found.all() and by_function.found.all()
    np.testing.assert_allclose(by_function.l1, by_model.l1, rtol=0.1)


@pytest.mark.parametrize("as_function", [False, True])
def test_a_model_that_gives_nan_is_named(as_function):
    class Undefined(keras.Model):
        def call(self, x):
            total = tf.reduce_sum(x, axis=1, keepdims=True)
            return tf.concat([total - 1, tf.sqrt(0.2 - total)], axis=1)

    model = Undefined()
    x = np.array([[0, 0], [0.5, 0.5], [-0.1, 0]], np.float32)
    with pytest.raises(InputError, match="gives"):
        find_counterfactuals(model, x, Wachter(**QUICK))
    given = (lambda x: model(x).numpy()) if as_function else model
    with pytest.raises(InputError, match=r"not finite.* row [01]"):
        find_counterfactuals(given, x[[0, 2]], Wachter(**QUICK))


@pytest.mark.parametrize("method", [Wachter(**QUICK, precision="bfloat16"), PrimalDual(precision="bfloat16")])
def test_rough_steps_lead_as_near_and_are_checked_in_float32(model, x, method):
    result = find_counterfactuals(model, x, method)
    exact = find_counterfactuals(model, x, replace(method, precision="float32"))
    probability = model.predict(result.x, verbose=0)[np.arange(len(x)), result.cf_class]
    assert result.found.sum() == exact.found.sum() > 10
    assert (np.abs(probability - 1) <= 0.01)[result.found].all()
    np.testing.assert_allclose(result.l1[result.found].sum(), exact.l1[exact.found].sum(), rtol=0.05)
    assert (result.x != exact.x).any()


def test_rough_steps_follow_the_weights_of_the_model(x):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, "softmax")])
    ways = [np.eye(5, 2, dtype=np.float32)[:, ::turn] * 20 for turn in (1, -1)]
    for kernel in ways:
        model.set_weights([kernel, np.zeros(2, np.float32)])
        result = find_counterfactuals(model, x[:4], PrimalDual(precision="bfloat16"))
        assert result.found.all() and (result.cf_class == 1 - result.original_class).all()


def test_rough_steps_reach_into_a_model_inside_a_model(model, x):
    whole = keras.Sequential([keras.Input((5,)), keras.layers.Rescaling(1.0), model])
    rough = in_bfloat16(whole)
    rough.set_weights(whole.get_weights())
    assert {layer.dtype_policy.name for layer in rough.layers[-1].layers} == {"mixed_bfloat16"}
    np.testing.assert_allclose(rough.predict(x, verbose=0), model.predict(x, verbose=0), atol=0.05)


def test_rough_steps_need_a_model_that_can_be_copied(model, x):
    class Own(keras.Model):
        def call(self, inputs):
            return model(inputs)

    class Turned(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return super().call(-inputs, training=training, mask=mask)

    turned = Turned([keras.Input((5,)), keras.layers.Dense(3, "softmax")])
    for classifier in (Own(), turned, lambda x: model(x).numpy()):
        with pytest.raises(InputError, match="precision=bfloat16 needs a Sequential or functional"):
            find_counterfactuals(classifier, x, PrimalDual(precision="bfloat16"))


def test_xla_finds_what_the_plain_graph_does(model, x):
    method = Wachter(target_class=1, **QUICK)
    plain, compiled = (find_counterfactuals(model, x[:6], method, jit_compile=xla) for xla in (False, True))
    np.testing.assert_array_equal(plain.found, compiled.found)
    np.testing.assert_allclose(plain.l1, compiled.l1, rtol=0.05)


@pytest.mark.parametrize(
    ("given_x", "method", "options", "message"),
    [
        ("x", {"target_class": 3}, {}, "classes 0 to 2"),
        ("x", {"target_class": ["other"] * 29}, {}, "29 values for 30 rows"),
        ("x", {"lam_init": [0.1]}, {}, "lam_init has 1"),
        ("x", {"feature_range": (0, 1)}, {}, "outside feature_range"),
        ("x", {"feature_range": ([-1, -1], [1, 1])}, {}, "feature_range has shape"),
        ("x", {}, {"batch_size": 0}, "batch_size"),
        ("x", {}, {"path_rows": -1}, "path_rows"),
        ("x", {}, {"outputs": "softmax"}, "outputs must be"),
        ("x", {}, {"eps": 0}, "eps must be"),
        ("x", {}, {"instances": [1, 2]}, "one index per row"),
        ("one", {}, {}, r"x\[None\]"),
        ("text", {}, {}, "array of numbers"),
        ("nan", {}, {}, "row 1"),
        ("wide", {}, {}, "does not take"),
    ],
)
def test_a_users_mistake_is_one_line(model, x, given_x, method, options, message):
    nan = x[:2].copy()
    nan[1, 1] = np.nan
    given = {"x": x, "one": x[0], "text": [["a"]], "nan": nan, "wide": np.zeros((2, 7))}[given_x]
    with pytest.raises(InputError, match=message) as caught:
        find_counterfactuals(model, given, Wachter(**method), **options)
    assert "\n" not in str(caught.value)
