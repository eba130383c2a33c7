"""The classifiers that the workflow trains: what they take and give, and what adversarial training is good for."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from cfx import architectures, models
from cfx.data import Dataset
from cfx.errors import InputError

CNN = {"filters": [8], "kernel_size": 2, "dropout": 0.1, "hidden": 16, "hidden_dropout": 0.1}
SMALL = {
    "cnn": CNN,
    "mlp": {"hidden": [8, 4], "dropout": 0.1},
    "resnet": {"filters": [4, 8], "blocks": 2, "kernel_size": 3},
    "robust": CNN | {"eps": 0.1, "steps": 1},
}


def test_the_cnn_is_the_one_of_the_reference_example():
    model = architectures.cnn((28, 28, 1), 10)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        *("Conv2D", "MaxPooling2D", "Dropout") * 2,
        *("Flatten", "Dense", "Dropout", "Dense"),
    ]
    assert [w.shape for w in model.get_weights()][::2] == [(2, 2, 1, 64), (2, 2, 64, 32), (1568, 256), (256, 10)]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.3, 0.3, 0.5]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 9, 3), (6,)], ids=str)
def test_a_classifier_gives_a_probability_for_each_class_or_says_that_it_needs_images(name, shape):
    build = partial(getattr(architectures, name), shape, 3, **SMALL[name])
    if len(shape) == 1 and name != "mlp":
        with pytest.raises(InputError, match=rf"^{name} needs images .* not \(6,\); use mlp") as raised:
            build()
        assert "\n" not in str(raised.value)
        return
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (7, *shape)).astype(np.float32)
    probabilities = np.asarray(build()(x))
    assert probabilities.shape == (7, 3) and probabilities.min() > 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(probabilities, axis=0).max() > 0


def test_a_classifier_for_images_of_any_size_names_no_size():
    with pytest.raises(InputError, match=r"^resnet needs images \(height, width, channels\), not \(6,\)"):
        architectures.resnet((6,), 3, **SMALL["resnet"])


def test_images_too_small_for_the_cnn_are_refused():
    with pytest.raises(InputError, match=r"^cnn needs .* at least 4 pixels"):
        architectures.cnn((3, 8, 1), 10)


def test_an_adversarial_example_is_inside_its_limits_and_has_a_higher_loss():
    keras.utils.set_random_seed(0)
    model = architectures.cnn((8, 8, 1), 3, **CNN)
    x = tf.constant(np.random.default_rng(0).uniform(-0.5, 0.5, (20, 8, 8, 1)), tf.float32)
    y = tf.range(20) % 3
    adversarial = architectures.attacked(model, x, y, eps=0.2, steps=5)
    assert np.abs(adversarial - x).max() <= 0.2 + 1e-6 and np.abs(adversarial).max() <= 0.5
    losses = [keras.losses.sparse_categorical_crossentropy(y, model(inputs)) for inputs in (x, adversarial)]
    assert (losses[1] > losses[0]).numpy().all()


def test_adversarial_training_is_repeatable_holds_more_attacks_and_is_saved_as_a_plain_model(tmp_path):
    # all but two rows of an image tell the class without noise, but by less than an attack can change
    random = np.random.default_rng(0)
    y = np.arange(240) % 2
    x = np.broadcast_to(np.where(y, 0.04, -0.04)[:, None, None, None], (240, 8, 8, 1)).astype(np.float32)
    x[:, :2] = 6 * x[:, :2] + random.normal(0, 0.1, (240, 2, 8, 1))
    dataset = Dataset(x[:180], y[:180], x[180:], y[180:])

    def trained(name):
        build = partial(getattr(architectures, name), (8, 8, 1), 2, **SMALL[name])
        return models.train(build, dataset, epochs=6, batch_size=30, learning_rate=0.01, seed=0)[0]

    def held(model):
        keras.utils.set_random_seed(0)
        attack = partial(architectures.attacked, model, eps=0.1, steps=10)
        adversarial = attack(tf.constant(dataset.x_test), tf.constant(dataset.y_test))
        return (np.asarray(model(adversarial)).argmax(axis=1) == dataset.y_test).mean()

    plain, robust, again = trained("cnn"), trained("robust"), trained("robust")
    for one, other in zip(robust.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert held(robust) > held(plain) + 0.3
    robust.save(tmp_path / "model.keras")
    assert type(models.load(tmp_path / "model.keras", dataset)) is keras.Sequential
