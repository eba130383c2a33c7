"""The training of the models that a search or a measurement uses beside the classifier: judges and guides.

They are trained for a number of steps on examples that are drawn at random, so that the time is bounded whatever the
size of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cfx.data import FEATURE_RANGE, Dataset

if TYPE_CHECKING:
    import keras

Progress = Callable[[int, int], None]

_LEARNING_RATE = 0.002


def set_seed(seed: int) -> None:
    """Make what Keras draws from here on repeatable."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model,
    loss: object,
    examples: Callable[[], tuple[np.ndarray, np.ndarray]],
    steps: int,
    progress: Progress | None,
) -> None:
    """Train by Adam, with a learning rate that falls from 0.002 as a cosine.

    examples: draws the inputs and targets of a step. progress: called with (steps done, in all).
    """
    import keras

    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)), loss)
    for step in range(steps):
        model.train_on_batch(*examples())
        if progress:
            progress(step + 1, steps)


def autoencoders(copies: int, features: int, hidden: int, code: int) -> list[keras.Layer]:
    """The layers of several autoencoders as one stack, (n, copies, features) to the same shape; they share no weight.

    Each has dense layers of `hidden`, `code`, `hidden` and `features` units, and gives values in [-0.5, 0.5].
    """
    import keras
    from keras import layers

    def dense(units: int, activation: str, name: str) -> keras.Layer:
        return layers.EinsumDense(
            "ngi,gio->ngo",
            (copies, units),
            bias_axes="go",
            activation=activation,
            # Glorot's, once the factor undoes that keras counts the copies among a unit's inputs and outputs
            kernel_initializer=keras.initializers.VarianceScaling(copies, "fan_avg", "uniform"),
            name=name,
        )

    return [
        dense(hidden, "relu", "encoder"),
        dense(code, "linear", "code"),
        dense(hidden, "relu", "decoder"),
        dense(features, "sigmoid", "features"),
        layers.Rescaling(1.0, FEATURE_RANGE[0], name="scaled"),
    ]


def members(dataset: Dataset) -> list[np.ndarray]:
    """The training instances of each class, by their indices."""
    return [np.flatnonzero(dataset.y_train == label) for label in range(dataset.classes)]


def drawn(x: np.ndarray, groups: list[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of the instances x (m, features) of each group of indices, (count, groups, features)."""
    return x[np.stack([random.choice(rows, count) for rows in groups], axis=1)]
