"""The caller's Keras model in an environment with Keras 2, whose TensorFlow 2.14 is the newest that alibi supports.

Keras 2 cannot read a .keras file of Keras 3, but the configuration in it is JSON, and the weights are arrays of the
problem. So the layers of a Sequential model are created again, and the result is compared with the caller's model.
"""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np

from cfx.errors import InputError
from cfx.problem import Problem

# What the versions write differently, and what only matters for training.
_IGNORED = ("dtype", "initializer", "regularizer", "constraint")
# The largest difference of a probability.
_CLOSE = 1e-4


def rebuilt(problem: Problem) -> Any:
    """The model as a tf.keras.Sequential from inputs to probabilities.

    Raises InputError if it is not a Sequential model of layers that Keras 2 has, or gives other probabilities.
    """
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input(problem.x.shape[1:]), *map(_layer, _layers(problem))])
    try:
        model.set_weights(problem.model_weights)
    except ValueError as error:
        raise InputError(f"the model cannot be created again in Keras 2: {error}") from error
    probabilities = model.predict(problem.x, verbose=0)
    expected = problem.probabilities(problem.x)
    if probabilities.shape != expected.shape or np.abs(probabilities - expected).max() > _CLOSE:
        raise InputError("the model gives other probabilities in Keras 2; end it with softmax")
    return model


def _layers(problem: Problem) -> list[dict[str, Any]]:
    """The configurations of the layers of a Sequential model after its input."""
    if problem.model_file is None:
        raise InputError("the model is not a Keras model that can be saved, which alibi needs")
    with zipfile.ZipFile(problem.model_file) as archive:
        config = json.loads(archive.read("config.json"))
    if config["class_name"] != "Sequential":
        raise InputError(f"the model is of class {config['class_name']}; alibi's Keras 2 can run a Sequential one only")
    return [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]


def _layer(layer: dict[str, Any]) -> Any:
    import tensorflow as tf

    name = layer["class_name"]
    given = {key: value for key, value in layer["config"].items() if value is not None}
    config = {key: value for key, value in given.items() if not key.endswith(_IGNORED)}
    if layer["module"] != "keras.layers" or not hasattr(tf.keras.layers, name):
        raise InputError(f"Keras 2 has no layer {name}, so alibi cannot run the model")
    try:
        return getattr(tf.keras.layers, name).from_config(config)
    except (TypeError, ValueError) as error:
        raise InputError(f"the layer {name} cannot be created in Keras 2: {error}") from error
