"""The judges of counterfactuals: a committee of five classifiers, and autoencoders that know each class.

Judges only evaluate (`cfx.metrics`); no search uses them, and their seeds and architectures differ from those of the
guides (`cfx.guide_training`). They are trained on the training split, never on the explained instances, for a fixed
number of steps, so that the training time does not depend on the size of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from cfx import training
from cfx.data import Dataset
from cfx.training import Progress

if TYPE_CHECKING:
    import keras

_EXAMPLES_A_STEP = 64
# Of the noise that the denoising autoencoder learns to remove, in units of the input.
_DEVIATION = np.float32(0.1)
# Units of an autoencoder's hidden layers, and of the code between them: 32, or a quarter of the features where there
# are few, for an autoencoder that can copy its input knows nothing of its class.
_HIDDEN, _CODE = 128, 32
# The most weights (256 MiB) that all autoencoders have together: large images get fewer hidden units.
_WEIGHTS = 2**26
# The maximum number of weights (64 MiB) of a dense layer of a classifier.
_LAYER_WEIGHTS = 2**24


def autoencoders(dataset: Dataset, *, steps: int, seed: int, progress: Progress | None = None) -> keras.Model:
    """Train an autoencoder on each class, one on all classes, and a denoising one on all classes, as one model.

    It takes inputs (n, *shape) in [-0.5, 0.5] and returns (n, classes + 2, *shape): the reconstructions by the
    autoencoder of each class, by the one of all classes, and by the denoising one, which is trained on inputs with
    Gaussian noise of standard deviation 0.1. They share no weights, and each is trained on separate examples. Per
    autoencoder: dense layers of 128, 32 (the code; less for a table), 128 and all features, trained by Adam on the mean
    squared error. progress: called with (steps done, in all).
    """
    import keras
    from keras import layers

    training.set_seed(seed)
    features, copies = prod(dataset.input_shape), dataset.classes + 2
    hidden = max(1, min(_HIDDEN, _WEIGHTS // (2 * copies * features)))
    code = max(1, min(_CODE, hidden, features // 4))

    stack = training.autoencoders(copies, features, hidden, code)
    apart = keras.Sequential([keras.Input((copies, features)), *stack])
    x = dataset.x_train.reshape(-1, features)
    groups = [*training.members(dataset), *[np.arange(len(x))] * 2]
    random = np.random.default_rng(seed)

    def examples() -> tuple[np.ndarray, np.ndarray]:
        drawn = training.drawn(x, groups, _EXAMPLES_A_STEP, random)
        noisy = drawn.copy()
        noisy[:, -1] += _DEVIATION * random.standard_normal(noisy[:, -1].shape, np.float32)
        return noisy, drawn

    training.fit(apart, "mean_squared_error", examples, steps, progress)
    inputs = [keras.Input(dataset.input_shape, name="x"), layers.Flatten(name="flat")]
    same_for_all = layers.RepeatVector(copies, name="copies")
    shaped = layers.Reshape((copies, *dataset.input_shape), name="reconstructions")
    return keras.Sequential([*inputs, same_for_all, *stack, shaped], name="autoencoders")


def committee(dataset: Dataset, *, steps: int, seed: int, progress: Progress | None = None) -> keras.Model:
    """Train five classifiers, as one model: (n, *shape) in [-0.5, 0.5] to probabilities (n, 5, classes).

    They share no weights. For images: the oracle, three 3x3 convolutions with pooling and no hidden layer; one with two
    5x5 convolutions and a hidden layer, after LeNet-5; one with residual blocks; one with depthwise separable
    convolutions; and one with three hidden layers and no convolution. For tables: five stacks of hidden layers that
    differ in depth, width and activation. They are trained together by Adam on the mean of their
    cross-entropies, with the same 64 examples in each step. progress: called with (steps done, steps in total).
    """
    import keras
    from keras import layers

    training.set_seed(seed)
    inputs = keras.Input(dataset.input_shape, name="x")
    makers = _IMAGE_MEMBERS if len(dataset.input_shape) == 3 else _TABLE_MEMBERS
    members = []
    for make in makers:
        features = layers.Dropout(0.2)(layers.Flatten()(make(inputs)))
        probabilities = layers.Dense(dataset.classes, activation="softmax")(features)
        members.append(layers.Reshape((1, dataset.classes))(probabilities))
    model = keras.Model(inputs, layers.Concatenate(axis=1)(members), name="committee")
    for number, layer in enumerate(model.layers):
        # Keras counts the layers of a process, and a digest must not depend on what else was made there
        layer.name = f"layer_{number}"
    random = np.random.default_rng(seed)

    def examples() -> tuple[np.ndarray, np.ndarray]:
        drawn = random.choice(len(dataset.x_train), _EXAMPLES_A_STEP)
        return dataset.x_train[drawn], np.repeat(dataset.y_train[drawn, None], len(makers), axis=1)

    # it is trained as a part of another model, so that the one returned carries no optimizer into its file
    training.fit(keras.Sequential([model]), "sparse_categorical_crossentropy", examples, steps, progress)
    return model


def _pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    return x


def _lenet(x: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    for filters in (8, 24):
        x = layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Flatten()(x)
    return layers.Dense(_units(x, 128), activation="relu")(x)


def _residual(x: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    x = layers.Conv2D(24, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    for _ in range(2):
        change = layers.Conv2D(24, 3, padding="same", activation="relu")(x)
        x = layers.Activation("relu")(layers.Add()([x, layers.Conv2D(24, 3, padding="same")(change)]))
    return x


def _separable(x: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    x = layers.SeparableConv2D(24, 5, strides=2, depth_multiplier=8, padding="same", activation="elu")(x)
    x = layers.SeparableConv2D(48, 5, padding="same", activation="elu")(x)
    return layers.MaxPooling2D(2, padding="same")(x)


def _units(x: keras.KerasTensor, count: int) -> int:
    """At most `count` units, fewer for a very large layer x (n, features)."""
    return max(1, min(count, _LAYER_WEIGHTS // x.shape[1]))


def _hidden(*units: int, activation: str) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    def make(x: keras.KerasTensor) -> keras.KerasTensor:
        from keras import layers

        x = layers.Flatten()(x)
        for count in units:
            x = layers.Dense(_units(x, count), activation=activation)(x)
        return x

    return make


_IMAGE_MEMBERS = (_pooled, _lenet, _residual, _separable, _hidden(384, 192, 96, activation="gelu"))
_TABLE_MEMBERS = (
    _hidden(64, 64, 64, activation="relu"),
    _hidden(96, activation="relu"),
    _hidden(128, 64, activation="tanh"),
    _hidden(48, 48, activation="gelu"),
    _hidden(32, 32, 32, 32, activation="elu"),
)
