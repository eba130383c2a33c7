"""Small classifiers, each as a Keras model and as plain numpy in float64 with its exact gradient."""

from functools import cache
from itertools import pairwise

import keras
import numpy as np


@cache
def network(seed: int, features: int, classes: int, hidden: int | None = None):
    """A Keras model; its logits and its probabilities as functions of one x (d,), with their gradients (classes, d)."""
    random = np.random.default_rng(seed)
    sizes = [features, classes] if hidden is None else [features, hidden, classes]
    weights = [
        (random.normal(0, 4 / np.sqrt(size), (size, following)), random.normal(0, 0.5, following))
        for size, following in pairwise(sizes)
    ]
    layers = [] if hidden is None else [keras.layers.Dense(hidden, "tanh")]
    model = keras.Sequential([keras.Input((features,)), *layers, keras.layers.Dense(classes, "softmax")])
    model.set_weights([part.astype(np.float32) for layer in weights for part in layer])
    (*first, (last, bias)) = [[part.astype(np.float32).astype(float) for part in layer] for layer in weights]

    def logits(x):
        code, slope = x, np.eye(features)
        for kernel, shift in first:
            code = np.tanh(code @ kernel + shift)
            slope = slope @ kernel * (1 - code**2)
        return code @ last + bias, (slope @ last).T

    def probabilities(x):
        z, gradient = logits(x)
        p = np.exp(z - np.logaddexp.reduce(z))
        return p, p[:, None] * (gradient - p @ gradient)

    return model, logits, probabilities
