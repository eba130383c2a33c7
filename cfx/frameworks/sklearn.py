"""Classifiers of scikit-learn in a file of skops, which has no pickle; linear models and networks have a gradient.

Logits and gradients are exact, by the arithmetic of the model: a linear classifier and a network of layers
(`MLPClassifier`), after any affine preprocessing, such as a scaler or a PCA. Whether a step is affine, and whether the
probabilities of the arithmetic are those of the model, is tested. Trees, forests, neighbours and kernels have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cfx.bridge import Passes, PullBack
from cfx.errors import InputError
from cfx.frameworks.files import ModelFile, imported
from cfx.outputs import as_probabilities

# The most features of a model whose gradient is looked for, because an affine step is tested at each unit vector.
_MOST_FEATURES = 4096
# An affine layer: weights (inputs, units) and biases (units,).
Layer = tuple[np.ndarray, np.ndarray]
# The hidden activations of MLPClassifier and their derivatives, by the value of the activation.
_ACTIVATIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "identity": (lambda z: z, np.ones_like),
    "logistic": (lambda z: 1 / (1 + np.exp(-z)), lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(a.dtype)),
}


def load(file: ModelFile) -> Passes:
    """The passes of a .skops file.

    Raises InputError if it has types that neither skops nor the user trusts, or is not a classifier with probabilities.
    """
    skops = imported("skops.io")
    try:
        others = [name for name in skops.get_untrusted_types(data=file.content) if name not in file.trusted]
        model = None if others else skops.loads(file.content, trusted=list(file.trusted))
    except Exception as error:  # skops raises many kinds of exception for an invalid file
        raise file.refused("scikit-learn", error, "; write it with skops.io.dump") from error
    if others:
        raise InputError(
            f"{file.where}: has types that can run code; model.trusted=[{','.join(others)}] permits them: only for a "
            "file you trust"
        )
    if not hasattr(model, "predict_proba"):
        raise InputError(f"{file.where}: {type(model).__name__} has no predict_proba; give a classifier that has")
    return passes(model)


def passes(model: Any) -> Passes:
    """The passes of a fitted classifier with `predict_proba`; without a gradient unless it is affine or a network."""

    def outputs(x: np.ndarray) -> np.ndarray:
        return model.predict_proba(_table(x))

    if (found := _layers(model)) is None:
        return Passes(outputs, None)
    layers, activation = found
    function, slope = _ACTIVATIONS[activation]

    def forward(x: np.ndarray) -> list[np.ndarray]:
        """The values before each layer, and the logits."""
        values = [_table(x)]
        for weights, biases in layers[:-1]:
            values.append(function(values[-1] @ weights + biases))
        return [*values, values[-1] @ layers[-1][0] + layers[-1][1]]

    def vjp(x: np.ndarray) -> tuple[np.ndarray, PullBack]:
        *values, logits = forward(x)

        def pull_back(gradient: np.ndarray) -> np.ndarray:
            for (weights, _), inputs in zip(reversed(layers), reversed(values), strict=True):
                gradient = gradient @ weights.T
                if inputs is not values[0]:
                    gradient = gradient * slope(inputs)
            return gradient.reshape(x.shape).astype(np.float32)

        return logits, pull_back

    probe = np.random.default_rng(0).uniform(-1, 1, (8, model.n_features_in_))
    is_same = np.allclose(as_probabilities(forward(probe)[-1], are_logits=True), outputs(probe), atol=1e-6)
    # logits, because probabilities that round to 0 have no gradient
    return Passes(lambda x: forward(x)[-1], vjp) if is_same else Passes(outputs, None)


def _layers(model: Any) -> tuple[list[Layer], str] | None:
    """The layers of a classifier to its logits, and the activation between them; None if it has no such form."""
    last, features = model, getattr(model, "n_features_in_", _MOST_FEATURES + 1)
    if features > _MOST_FEATURES:
        return None
    before: Layer | None = (np.eye(features), np.zeros(features))
    if hasattr(model, "steps"):
        last = model[-1]
        before = _affine(model[:-1].transform, features) if len(model.steps) > 1 else before
    if before is None:
        return None
    if hasattr(last, "coefs_") and hasattr(last, "out_activation_"):
        layers, activation = list(zip(last.coefs_, last.intercepts_, strict=True)), last.activation
    elif hasattr(last, "decision_function"):
        linear = _affine(last.decision_function, before[0].shape[1])
        if linear is None:
            return None
        layers, activation = [linear], "identity"
    else:
        return None
    matrix, biases = layers[0]
    layers[0] = before[0] @ matrix, before[1] @ matrix + biases
    matrix, biases = layers[-1]
    if matrix.shape[1] == 1:
        # one logit, of the second class
        layers[-1] = np.pad(matrix, ((0, 0), (1, 0))), np.pad(biases, (1, 0))
    return layers, activation


def _affine(function: Callable[[np.ndarray], np.ndarray], features: int) -> Layer | None:
    """The weights and biases of a function of arrays (n, features); None if it is not affine."""
    points = np.concatenate(
        [np.zeros((1, features)), np.eye(features), np.random.default_rng(0).normal(size=(8, features))]
    )
    values = function(points)
    if not isinstance(values, np.ndarray):
        return None
    values = values.reshape(len(points), -1)
    biases = values[0]
    weights = values[1 : features + 1] - biases
    is_affine = np.allclose(points[features + 1 :] @ weights + biases, values[features + 1 :], rtol=1e-6, atol=1e-6)
    return (weights, biases) if is_affine else None


def _table(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float64)
