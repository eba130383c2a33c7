"""`CounterfactualProto` of alibi 0.9.6 (Business Source Licence 1.1, which permits to run it).

Van Looveren and Klaise: Interpretable counterfactual explanations guided by prototypes. ECML PKDD 2021,
arXiv:1907.02584. The weights of the loss are those of alibi's MNIST example: beta 0.1, gamma and theta 100, with its
convolutional autoencoder, trained here on the training split. Two settings differ from the example, which stops at a
change of class: kappa = target_proba - tol asks for f_t at least that much above the other classes, and 10 weights of
the prediction loss in place of 2 find more of the instances. A table, for which an autoencoder of images has no form,
uses k-d trees, as in alibi's example of a table.

alibi runs a copy of the model, so `iterations` does not count its calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cfx import ArrayMethod, Problem
from cfx.keras2 import rebuilt


@dataclass(frozen=True, kw_only=True)
class AlibiPrototype(ArrayMethod):
    """Steps of FISTA on the prediction loss, the elastic net, and the distances from the data and from a prototype."""

    steps: int = 500  # maximum number of steps for a weight of the prediction loss, 1 to 100,000
    weights: int = 10  # number of weights of the prediction loss, 1 to 50
    theta: float = 100.0  # weight of the squared distance from the prototype, >= 0
    gamma: float = 100.0  # weight of the reconstruction error, for images, >= 0
    epochs: int = 4  # number of passes of the autoencoder's training over the training split, 1 to 1,000
    seed: int = 0  # random seed of the training of the autoencoder, >= 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("steps", most=100_000)
        self._check_whole_number("weights", most=50)
        self._check_whole_number("epochs", most=1000)
        self._check_whole_number("seed", least=0)
        for name in ("theta", "gamma"):
            self._check_number(name, lambda value: value >= 0, ">= 0")

    def search(self, problem: Problem) -> np.ndarray:
        """The counterfactual of each instance; the instance itself if alibi finds none."""
        import tensorflow as tf

        tf.compat.v1.disable_eager_execution()
        tf.keras.utils.set_random_seed(problem.seed)
        from alibi.explainers import CounterfactualProto

        model, shape = rebuilt(problem), problem.x[:1].shape
        if len(shape) == 4:
            encoder, autoencoder = _autoencoder(problem.x_train, self.epochs)
            guide: dict[str, Any] = {"enc_model": encoder, "ae_model": autoencoder, "gamma": self.gamma}
        else:
            guide = {"use_kdtree": True}
        explainer = CounterfactualProto(
            model,
            shape,
            kappa=problem.target_proba - problem.tol,
            theta=self.theta,
            feature_range=(float(problem.low), float(problem.high)),
            max_iterations=self.steps,
            c_init=1.0,
            c_steps=self.weights,
            **guide,
        ).fit(problem.x_train)
        found = problem.x.copy()
        for row, x in enumerate(problem.x):
            problem.progress(row, len(problem.x))
            classes = np.flatnonzero(problem.target[row]).tolist()
            if (best := explainer.explain(x[None], target_class=classes).cf) is not None:
                found[row] = np.clip(best["X"][0], problem.low, problem.high)
        return found


def _autoencoder(x: np.ndarray, epochs: int) -> tuple[Any, Any]:
    """The encoder and the autoencoder of alibi's MNIST example, for images (n, height, width, channels)."""
    import tensorflow as tf

    layers = tf.keras.layers
    height, width, channels = x.shape[1:]

    def convolution(filters: int, activation: str | None = "relu") -> Any:
        return layers.Conv2D(filters, 3, padding="same", activation=activation)

    image = layers.Input((height, width, channels))
    encoded = image
    for layer in (convolution(16), convolution(16), layers.MaxPooling2D(2, padding="same"), convolution(1, None)):
        encoded = layer(encoded)
    decoded = encoded
    for layer in (convolution(16), layers.UpSampling2D(2), convolution(16), convolution(channels, None)):
        decoded = layer(decoded)
    # an odd size has been rounded up by the pooling
    decoded = layers.Cropping2D(((0, height % 2), (0, width % 2)))(decoded)
    autoencoder = tf.keras.Model(image, decoded)
    autoencoder.compile(optimizer="adam", loss="mse")
    autoencoder.fit(x, x, batch_size=128, epochs=epochs, verbose=0)
    return tf.keras.Model(image, encoded), autoencoder
