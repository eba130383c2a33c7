"""The classifiers that the workflow trains: a function for each, which builds it untrained.

Their output is (n, classes) probabilities. Keras is imported only by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cfx.data import FEATURE_RANGE
from cfx.errors import InputError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def cnn(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    filters: Sequence[int] = (64, 32),
    kernel_size: int = 2,
    dropout: float = 0.3,
    hidden: int = 256,
    hidden_dropout: float = 0.5,
    name: str = "cnn",
) -> keras.Model:
    """Build the CNN of the reference example, untrained.

    input_shape: (height, width, channels). Its output is (n, classes) probabilities. For each of `filters`:
    convolution (same padding, ReLU), 2x2 max pooling, dropout; then a hidden layer with dropout, and softmax.
    """
    import keras
    from keras import layers

    _check_image(input_shape, 2 ** len(filters), name)
    model = keras.Sequential([keras.Input(input_shape, name="image")], name=name)
    for i, channels in enumerate(filters, start=1):
        model.add(layers.Conv2D(channels, kernel_size, padding="same", activation="relu", name=f"convolution_{i}"))
        model.add(layers.MaxPooling2D(2, name=f"pooling_{i}"))
        model.add(layers.Dropout(dropout, name=f"dropout_{i}"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(hidden, activation="relu", name="hidden"))
    model.add(layers.Dropout(hidden_dropout, name="hidden_dropout"))
    model.add(layers.Dense(classes, activation="softmax", name="probabilities"))
    return model


def mlp(input_shape: tuple[int, ...], classes: int, *, hidden: Sequence[int], dropout: float) -> keras.Model:
    """Build a multilayer perceptron: for each of `hidden`, that many units with ReLU and dropout; then softmax.

    input_shape: (features,) of a table, or (height, width, channels) of images, which are flattened.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape, name="x"), layers.Flatten(name="flatten")], name="mlp")
    for i, units in enumerate(hidden, start=1):
        model.add(layers.Dense(units, activation="relu", name=f"hidden_{i}"))
        model.add(layers.Dropout(dropout, name=f"dropout_{i}"))
    model.add(layers.Dense(classes, activation="softmax", name="probabilities"))
    return model


def resnet(
    input_shape: tuple[int, ...], classes: int, *, filters: Sequence[int], blocks: int, kernel_size: int
) -> keras.Model:
    """Build a small residual network for images (height, width, channels) with batch normalisation.

    For each of `filters`: a convolution with stride 2, and `blocks` residual blocks, each with two convolutions and
    initialised as the identity; then the mean over the image, and softmax. Outside the training, normalisation uses
    fixed statistics, so the rows of a batch are independent. Source: He, Zhang, Ren and Sun 2016, arXiv:1512.03385.
    """
    import keras
    from keras import layers

    def convolved(x: keras.KerasTensor, channels: int, name: str, stride: int = 1, gamma: str = "ones") -> Any:
        x = layers.Conv2D(channels, kernel_size, stride, "same", use_bias=False, name=f"{name}_convolution")(x)
        return layers.BatchNormalization(momentum=0.9, gamma_initializer=gamma, name=f"{name}_normalisation")(x)

    _check_image(input_shape, 1, "resnet")
    x = image = keras.Input(input_shape, name="image")
    for i, channels in enumerate(filters, start=1):
        x = layers.ReLU(name=f"stage_{i}")(convolved(x, channels, f"stage_{i}", stride=2))
        for j in range(1, blocks + 1):
            block = f"stage_{i}_block_{j}"
            branch = layers.ReLU(name=f"{block}_first")(convolved(x, channels, f"{block}_first"))
            branch = convolved(branch, channels, f"{block}_second", gamma="zeros")
            x = layers.ReLU(name=block)(layers.Add(name=f"{block}_sum")([x, branch]))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="probabilities")(x), name="resnet")


def robust(
    input_shape: tuple[int, ...], classes: int, *, eps: float, steps: int, **hyperparameters: Any
) -> keras.Model:
    """Build the CNN with a training step on adversarial examples in place of the inputs (see `attacked`).

    hyperparameters: those of `cnn`. Metrics of the training split are those of the adversarial examples.
    Source: Madry et al. 2018, arXiv:1706.06083; with one step, Wong, Rice and Kolter 2020, arXiv:2001.03994.
    """
    model = cnn(input_shape, classes, **hyperparameters, name="robust")
    plain_step = model.train_step

    def train_step(data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        x, y = data
        return plain_step((attacked(model, x, y, eps, steps), y))

    # on the instance and not in a subclass, which a saved file would need for loading
    model.train_step = train_step
    return model


def attacked(model: keras.Model, x: tf.Tensor, y: tf.Tensor, eps: float, steps: int) -> tf.Tensor:
    """Adversarial examples (n, *shape) of inputs x with labels y (n,), by projected gradient steps.

    Each starts at random within eps of x (in L_inf, inside [-0.5, 0.5]), and takes `steps` steps of length
    1.25 eps / sqrt(steps) by the sign of the gradient of the cross-entropy.
    """
    import keras
    import tensorflow as tf

    low, high = (tf.clip_by_value(x + change, *FEATURE_RANGE) for change in (-eps, eps))
    adversarial = tf.clip_by_value(x + tf.random.uniform(tf.shape(x), -eps, eps), low, high)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(adversarial)
            loss = keras.losses.sparse_categorical_crossentropy(y, model(adversarial, training=False))
        step = 1.25 * eps / steps**0.5 * tf.sign(tape.gradient(loss, adversarial))
        adversarial = tf.clip_by_value(adversarial + step, low, high)
    return adversarial


def _check_image(input_shape: tuple[int, ...], least: int, name: str) -> None:
    """Raise InputError unless the inputs are images of at least `least` pixels a side."""
    if len(input_shape) != 3 or min(input_shape[:2]) < least:
        needs = f"needs images (height, width, channels) of at least {least} pixels a side, not {input_shape}"
        if least == 1:
            needs = f"needs images (height, width, channels), not {input_shape}"
        raise InputError(f"{name} {needs}; use mlp")
