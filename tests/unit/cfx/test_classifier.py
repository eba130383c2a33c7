import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from cfx import InputError
from cfx.classifier import Classifier

WEIGHTS = np.array([[2, -1, 0.5], [0.5, 1, -2], [-1, 0, 1], [0, 3, 1]], np.float32)
X = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 4)).astype(np.float32)
ODDS = np.exp(X @ WEIGHTS)
PROBABILITIES = ODDS / ODDS.sum(axis=1, keepdims=True)


def dense(units=3, activation=None, weights=WEIGHTS):
    layer = keras.layers.Dense(units, activation=activation, use_bias=False)
    layer.build((None, 4))
    layer.set_weights([weights])
    return layer


class Subclassed(keras.Model):
    def __init__(self, last=None):
        super().__init__()
        self.dense, self.last = dense(), last

    def call(self, x):
        return self.dense(x) if self.last is None else self.last(self.dense(x))


def functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Softmax()(dense()(inputs)))


MODELS = {
    "softmax": lambda: keras.Sequential([dense(activation="softmax")]),
    "functional, softmax layer": functional,
    "subclassed, softmax": lambda: Subclassed(tf.nn.softmax),
    "logits": lambda: keras.Sequential([dense()]),
    "subclassed, logits": Subclassed,
    "hidden softmax": lambda: Subclassed(tf.function(tf.nn.softmax)),
    "mixture": lambda: Subclassed(lambda z: 0.5 * tf.nn.softmax(z) + 0.5 * tf.nn.softmax(z)),
    "predict_fn": lambda: lambda x: (lambda odds: odds / odds.sum(axis=1, keepdims=True))(np.exp(x @ WEIGHTS)),
    "predict_fn, logits": lambda: lambda x: x @ WEIGHTS,
}


def logits_and_gradient(classifier, x, score):
    @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]])], autograph=False)
    def evaluate(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = classifier.logits(x)
            total = tf.reduce_sum(score(logits))
        return logits, tape.gradient(total, x)

    return tuple(value.numpy() for value in evaluate(x))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("rows", [1, 20])
def test_every_kind_gives_the_same_probabilities_and_gradients(kind, rows):
    model = MODELS[kind]()
    classifier = Classifier(model, X)
    assert classifier.classes == 3
    np.testing.assert_allclose(classifier.probabilities(X[:rows]), PROBABILITIES[:rows], rtol=1e-5)
    logits, gradient = logits_and_gradient(classifier, X[:rows], lambda logits: tf.nn.log_softmax(logits)[:, 1])
    np.testing.assert_allclose(tf.nn.softmax(logits), PROBABILITIES[:rows], rtol=1e-5)
    expected = WEIGHTS[:, 1] - PROBABILITIES[:rows] @ WEIGHTS.T
    np.testing.assert_allclose(gradient, expected, atol=2e-3 if "predict_fn" in kind else 1e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("rows", [0, 1, 20])
def test_every_kind_gives_arrays_of_logits_and_of_their_weighted_gradients(kind, rows):
    # weights that sum to 0, for logits are known up to a constant of each row
    weights = np.random.default_rng(1).normal(size=(rows, 3)) @ (np.eye(3) - 1 / 3)
    model = MODELS[kind]()
    logits, gradient = Classifier(model, X).logits_and_gradient(X[:rows], weights, batch_size=7)
    np.testing.assert_allclose(tf.nn.softmax(logits), PROBABILITIES[:rows], rtol=1e-5)
    np.testing.assert_allclose(gradient, weights @ WEIGHTS.T, atol=5e-3 if "predict_fn" in kind else 1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_unit_means_two_classes(activation):
    model = keras.Sequential([dense(1, activation, WEIGHTS[:, :1])])
    classifier = Classifier(model, X)
    second = 1 / (1 + np.exp(-X @ WEIGHTS[:, :1]))
    assert classifier.classes == 2
    np.testing.assert_allclose(classifier.probabilities(X), np.concatenate([1 - second, second], 1), rtol=1e-5)
    logits, gradient = logits_and_gradient(classifier, X, lambda logits: logits[:, 1] - logits[:, 0])
    np.testing.assert_allclose(tf.nn.softmax(logits), np.concatenate([1 - second, second], 1), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.tile(WEIGHTS[:, 0], (20, 1)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "functional, softmax layer", "subclassed, softmax"])
def test_margins_do_not_saturate_where_the_softmax_does(kind):
    model = MODELS[kind]()
    model.set_weights([1000 * WEIGHTS])
    classifier = Classifier(model, X)
    assert (classifier.probabilities(X).max(axis=1) > 1 - 1e-6).any()
    logits, gradient = logits_and_gradient(classifier, X, lambda logits: logits[:, 1] - logits[:, 0])
    np.testing.assert_allclose(logits, 1000 * X @ WEIGHTS, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(gradient, np.tile(1000 * (WEIGHTS[:, 1] - WEIGHTS[:, 0]), (20, 1)), rtol=1e-5)


def test_half_precision_models_are_read_in_float32():
    model = keras.Sequential([keras.layers.Dense(3, activation="softmax", dtype="mixed_float16")])
    model.build((None, 4))
    logits, gradient = logits_and_gradient(Classifier(model, X), X, lambda logits: logits[:, 0])
    assert logits.dtype == gradient.dtype == np.float32


@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 1, 2), (1, 2, 1, 2)])
def test_the_numerical_gradient_takes_instances_of_any_rank(shape):
    def predict(x):
        return x.reshape(len(x), 4) @ WEIGHTS

    x = X.reshape(20, *shape)
    _, gradient = logits_and_gradient(Classifier(predict, x), x, lambda logits: logits[:, 2] - logits[:, 0])
    assert gradient.shape == x.shape
    np.testing.assert_allclose(gradient[3].ravel(), WEIGHTS[:, 2] - WEIGHTS[:, 0], atol=2e-3)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: np.full((len(x), 2), 0.5),
        lambda x: np.full(len(x), 0.5),
    ],
)
def test_an_explicit_kind_of_output_is_obeyed(model):
    assert np.allclose(Classifier(model, X, "probabilities").probabilities(X), 0.5)
    as_logits = Classifier(model, X, "logits").probabilities(X)
    assert np.allclose(as_logits.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: np.full(len(x), 0.5), "outputs="),
        (lambda x: np.full((len(x), 3), np.nan), "nan"),
        (lambda x: np.zeros((len(x), 2, 2)), "shape|array"),
        (lambda x: np.zeros((len(x) + 1, 2)), "20 instances"),
        (lambda x: {"a": 1}, "does not take"),
        (keras.Sequential([keras.layers.Input((7,)), keras.layers.Dense(3)]), r"\(4,\)"),
        (keras.Sequential([dense(activation="sigmoid")]), "sigmoid"),
    ],
)
def test_what_is_no_classifier_is_refused(model, message):
    with pytest.raises(InputError, match=message) as caught:
        Classifier(model, X)
    assert str(caught.value).isprintable()


def test_a_model_that_cannot_be_compiled_is_refused():
    class Branching(keras.Model):
        def call(self, x):
            return x[:, :2] if tf.reduce_sum(x) > 0 else x[:, 1:3]

    with pytest.raises(InputError, match="graph"):
        Classifier(Branching(), X)


def test_a_linear_layer_whose_outputs_look_like_probabilities_is_in_doubt():
    layer = keras.layers.Dense(2, kernel_initializer="zeros", bias_initializer=lambda *_, **__: tf.constant([0.5, 0.5]))
    model = keras.Sequential([layer])
    with pytest.raises(InputError, match="outputs="):
        Classifier(model, X)
    assert np.allclose(Classifier(model, X, "logits").probabilities(X), 0.5)


def test_a_classifier_does_not_keep_its_model_alive():
    model = MODELS["softmax"]()
    classifier, alive = Classifier(model, X), weakref.ref(model)
    logits_and_gradient(classifier, X, tf.reduce_sum)
    classifier.logits_and_gradient(X, np.ones((20, 3)), batch_size=20)
    del model
    gc.collect()
    assert alive() is None


def test_several_sigmoids_are_refused_also_where_they_happen_to_sum_to_one():
    confident = keras.layers.Dense(3, "sigmoid", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), confident])
    confident.bias.assign([20, -20, -20])
    np.testing.assert_allclose(model(X).numpy().sum(axis=1), 1, atol=1e-6)
    with pytest.raises(InputError, match="3 sigmoid outputs"):
        Classifier(model, X)
