"""The judges of counterfactuals: autoencoders that know each class, and an oracle, a second classifier.

They are trained on the training split, never on what is explained, for a number of steps and not of epochs: that
bounds the time whatever the size of the data. `cfx.metrics` asks them.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from cfx import training
from cfx.data import Dataset
from cfx.training import Progress

if TYPE_CHECKING:
    import keras

_EXAMPLES_A_STEP = 64
# Units of an autoencoder's hidden layers, and of the code between them: 32, or a quarter of the features where there
# are few, for an autoencoder that can copy its input knows nothing of its class.
_HIDDEN, _CODE = 128, 32
# The most weights (256 MiB) that all autoencoders have together: large images get fewer hidden units.
_WEIGHTS = 2**26


def autoencoders(dataset: Dataset, *, steps: int, seed: int, progress: Progress | None = None) -> keras.Model:
    """Train an autoencoder on each class and one on all classes, as one model.

    It takes inputs (n, *shape) in [-0.5, 0.5] and returns (n, classes + 1, *shape): the reconstructions by the
    autoencoder of each class, and last by the one of all classes. They share no weight, and each learns from examples
    of its own. Per autoencoder: dense layers of 128, 32 (the code; less for a table), 128 and all features, trained by
    Adam on the mean squared error. progress: called with (steps done, in all).
    """
    import keras
    from keras import layers

    training.set_seed(seed)
    features, copies = prod(dataset.input_shape), dataset.classes + 1
    hidden = max(1, min(_HIDDEN, _WEIGHTS // (2 * copies * features)))
    code = max(1, min(_CODE, hidden, features // 4))

    stack = training.autoencoders(copies, features, hidden, code)
    apart = keras.Sequential([keras.Input((copies, features)), *stack])
    x = dataset.x_train.reshape(-1, features)
    groups = [*training.members(dataset), np.arange(len(x))]
    random = np.random.default_rng(seed)

    def examples() -> tuple[np.ndarray, np.ndarray]:
        drawn = training.drawn(x, groups, _EXAMPLES_A_STEP, random)
        return drawn, drawn

    training.fit(apart, "mean_squared_error", examples, steps, progress)
    inputs = [keras.Input(dataset.input_shape, name="x"), layers.Flatten(name="flat")]
    same_for_all = layers.RepeatVector(copies, name="copies")
    shaped = layers.Reshape((copies, *dataset.input_shape), name="reconstructions")
    return keras.Sequential([*inputs, same_for_all, *stack, shaped], name="autoencoders")


def oracle(dataset: Dataset, *, steps: int, seed: int, progress: Progress | None = None) -> keras.Model:
    """Train a classifier that is not the explained one: (n, *shape) in [-0.5, 0.5] to probabilities (n, classes).

    For images three 3x3 convolutions with pooling and no hidden layer, for tables three hidden layers: its opinion
    counts because it has another architecture and another seed than the explained classifier. Trained by Adam on the
    cross-entropy. progress: called with (steps done, in all).
    """
    import keras
    from keras import layers

    training.set_seed(seed)
    model = keras.Sequential([keras.Input(dataset.input_shape, name="x")], name="oracle")
    for i, units in enumerate((16, 32, 64), start=1):
        if len(dataset.input_shape) == 3:
            model.add(layers.Conv2D(units, 3, padding="same", activation="relu", name=f"convolution_{i}"))
            model.add(layers.MaxPooling2D(2, padding="same", name=f"pooling_{i}"))
        else:
            model.add(layers.Dense(64, activation="relu", name=f"hidden_{i}"))
    model.add(layers.Flatten(name="flat"))
    model.add(layers.Dropout(0.3, name="dropout"))
    model.add(layers.Dense(dataset.classes, activation="softmax", name="probabilities"))
    random = np.random.default_rng(seed)

    def examples() -> tuple[np.ndarray, np.ndarray]:
        drawn = random.choice(len(dataset.x_train), _EXAMPLES_A_STEP)
        return dataset.x_train[drawn], dataset.y_train[drawn]

    # the layers are trained in a model of their own, so that the one returned carries no optimizer into its file
    training.fit(keras.Sequential(model.layers), "sparse_categorical_crossentropy", examples, steps, progress)
    return model
