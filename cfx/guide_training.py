"""Train, save and load guides (`cfx.guides`).

A search exploits the weaknesses of a guide, so guides of many kinds, which have different weaknesses, give more
plausible counterfactuals at the same distance than a few guides that must be very confident. Five kinds are classifiers
trained on noisy inputs:

- `deep`: two or more 3x3 convolutions with stride 2 and a hidden layer; for a table, four hidden layers.
- `coarse`: one or more 7x7 convolutions with stride 3 and a hidden layer; for a table, one hidden layer of tanh units.
- `smooth`: three or more strided convolutions of elu units; for a table, three hidden layers of elu units.
- `dense`: two wide hidden layers.
- `tapered`: a wide and a narrow hidden layer of gelu units.

Two kinds consist of an autoencoder per class. Their logits are -log |x - AE_c(x)|^2 / T, the log-likelihood of Gaussian
errors of unknown scale, with the temperature T that maximises the likelihood of the training labels:

- `generative`: small autoencoders, trained to remove noise.
- `reconstructive`: larger autoencoders, trained without noise.

The standard deviation of the noise is drawn for each input from 0 to 4/3 d / sqrt(features), half of that for
`generative`, where d is the median distance between instances of different classes: so images and tables need no
separate settings.

Sources: Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via randomized smoothing" (training with
noise); Vincent et al. 2010, "Stacked denoising autoencoders"; Schott et al. 2019, "Towards the first adversarially
robust neural network model on MNIST" (classification by one autoencoder per class).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from cfx import models, training
from cfx.data import Dataset, read_npz
from cfx.errors import InputError
from cfx.files import replacing
from cfx.guides import Guides, Kind, margins
from cfx.training import Progress

if TYPE_CHECKING:
    import keras

_EXAMPLES_A_STEP = 128
# The hidden units of an autoencoder per class, the maximum units of its code, and its noise as a share of the
# classifiers'. A small code cannot copy instances of other classes.
_AUTOENCODERS = {"generative": (96, 16, 0.5), "reconstructive": (256, 24, 0.0)}
# The largest noise, as a share of the median distance between classes, and the pairs that this is taken of.
_NOISE, _PAIRS = 4 / 3, 4096
# Added to the squared reconstruction error, as a share of its median.
_LEAST_SHARE = 1e-6


def train(
    dataset: Dataset,
    *,
    kinds: Sequence[Kind],
    epochs: int,
    steps: int,
    seed: int,
    progress: Progress | None = None,
) -> Guides:
    """Train guides on the training split.

    Args:
        dataset: images or a table.
        kinds: see `cfx.guide_training`.
        epochs: the minimum number of passes over the training split; the examples are drawn at random with replacement.
        steps: the minimum number of steps per guide, for small data sets; a step has 128 examples, or 32 per class.
        seed: the random seed of weights, examples and noise; guide number i has seed + i.
        progress: called with (steps done, steps in total), over all guides.

    Raises:
        InputError: a kind is unknown.
    """
    for kind in kinds:
        if kind not in get_args(Kind):
            raise InputError(f"kinds must be among {', '.join(get_args(Kind))}, got {kind!r}")
    noise = _noise(dataset, seed)
    count = max(steps, epochs * len(dataset.x_train) // _EXAMPLES_A_STEP)
    trained = []
    for number, kind in enumerate(kinds):
        # before the first layer is made, for it draws the seed of its weights then
        training.set_seed(seed + number)
        make = _autoencoders if kind in _AUTOENCODERS else _classifier
        trained.append(make(kind, dataset, noise, count, seed + number, _part(progress, number, len(kinds))))
    return Guides(tuple(trained), margins(trained, dataset.x_train, dataset.y_train), dataset.y_train)


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Progress of one of several parts of equal length, as progress of the whole."""
    return progress and (lambda done, total: progress(number * total + done, parts * total))


def save(guides: Guides, folder: Path) -> None:
    """Write guide_<number>.keras and margins.npz into a folder."""
    for number, model in enumerate(guides.models):
        with replacing(folder / f"guide_{number}.keras") as temporary:
            model.save(temporary)
    with replacing(folder / "margins.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, margins=guides.margins, labels=guides.labels)


def load(folder: str | Path) -> Guides:
    """Read what `save` wrote. Raises InputError where a file is missing or damaged."""
    folder = Path(folder)
    arrays = read_npz(folder / "margins.npz", ("margins", "labels"))
    loaded = tuple(models.load(folder / f"guide_{number}.keras") for number in range(arrays["margins"].shape[1]))
    return Guides(loaded, arrays["margins"], arrays["labels"])


def _noise(dataset: Dataset, seed: int) -> float:
    """The largest standard deviation of the noise, in units of the input."""
    one, other = np.random.default_rng(seed).choice(len(dataset.x_train), (2, _PAIRS))
    differ = dataset.y_train[one] != dataset.y_train[other]
    change = dataset.x_train[one[differ]] - dataset.x_train[other[differ]]
    distance = np.median(np.sqrt(np.square(change).reshape(len(change), -1).sum(axis=1)))
    return float(_NOISE * distance / np.sqrt(prod(dataset.input_shape)))


def _noisy(x: np.ndarray, noise: float, random: np.random.Generator, rank: int) -> np.ndarray:
    """x with noise whose standard deviation is drawn for each input; the last `rank` axes are the input's."""
    deviation = random.uniform(0, noise, (*x.shape[: x.ndim - rank], *[1] * rank)).astype(np.float32)
    return x + deviation * random.standard_normal(x.shape, np.float32)


def _hidden_layers(kind: Kind, shape: tuple[int, ...]) -> list[keras.Layer]:
    """The layers of a classifier before the logits."""
    from keras import layers

    def conv(filters: int, size: int, strides: int, activation: str = "relu") -> keras.Layer:
        return layers.Conv2D(filters, size, strides=strides, padding="same", activation=activation)

    def dense(activation: str, *units: int) -> list[keras.Layer]:
        return [layers.Flatten(), *(layers.Dense(count, activation) for count in units)]

    if kind == "dense":
        return dense("relu", 256, 256)
    if kind == "tapered":
        return dense("gelu", 512, 128)
    if len(shape) < 3:
        units = {"deep": (64, 64, 64, 64), "coarse": (192,), "smooth": (96, 48, 24)}[kind]
        return dense({"deep": "relu", "coarse": "tanh", "smooth": "elu"}[kind], *units)
    # halved until a side is short, so that the dense layer does not grow with the images
    halvings = max(2, int(np.ceil(np.log2(max(shape[:2]) / 8))))
    if kind == "deep":
        return [*(conv(min(32 * 2**i, 128), 3, 2) for i in range(halvings)), *dense("relu", 128)]
    if kind == "coarse":
        return [*(conv(32, 7, 3) for _ in range(halvings - 1)), *dense("relu", 256)]
    inner = (conv(min(32 * 2**i, 64), 3 if i else 5, 2, "elu") for i in range(halvings))
    return [conv(16, 5, 2, "elu"), *inner, layers.Flatten()]


def _classifier(
    kind: Kind, dataset: Dataset, noise: float, steps: int, seed: int, progress: Progress | None
) -> keras.Model:
    """A classifier trained on noisy inputs."""
    import keras
    from keras import layers

    body = _hidden_layers(kind, dataset.input_shape)
    stack = [keras.Input(dataset.input_shape, name="x"), *body, layers.Dense(dataset.classes, name="logits")]
    model = keras.Sequential(stack, name="guide")
    random = np.random.default_rng(seed)

    def examples() -> tuple[np.ndarray, np.ndarray]:
        drawn = random.choice(len(dataset.x_train), _EXAMPLES_A_STEP)
        return _noisy(dataset.x_train[drawn], noise, random, len(dataset.input_shape)), dataset.y_train[drawn]

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # the layers are trained in a model of their own, so that the one returned carries no optimizer into its file
    training.fit(keras.Sequential(model.layers), loss, examples, steps, progress)
    return model


def _autoencoders(
    kind: Kind, dataset: Dataset, noise: float, steps: int, seed: int, progress: Progress | None
) -> keras.Model:
    """An autoencoder of each class, as one model that gives logits."""
    import keras
    from keras import layers, ops

    features, random = prod(dataset.input_shape), np.random.default_rng(seed)
    hidden, code, share = _AUTOENCODERS[kind]
    stack = training.autoencoders(dataset.classes, features, hidden, min(code, max(1, features // 4)))
    x, groups = dataset.x_train.reshape(-1, features), training.members(dataset)

    def examples() -> tuple[np.ndarray, np.ndarray]:
        drawn = training.drawn(x, groups, _EXAMPLES_A_STEP // 4, random)
        return _noisy(drawn, share * noise, random, 1), drawn

    apart = keras.Sequential([keras.Input((dataset.classes, features)), *stack])
    training.fit(apart, "mean_squared_error", examples, steps, progress)
    inputs = keras.Input(dataset.input_shape, name="x")
    copies = layers.RepeatVector(dataset.classes, name="copies")(layers.Flatten(name="flat")(inputs))
    missed = copies
    for layer in stack:
        missed = layer(missed)
    squares = ops.sum(ops.square(missed - copies), axis=2)
    chosen = random.choice(len(x), min(len(x), _PAIRS), replace=False)
    typical = float(np.median(np.asarray(keras.Model(inputs, squares)(dataset.x_train[chosen]))))
    # the logarithm stays finite where the reconstruction is perfect
    energy = ops.log(squares + _LEAST_SHARE * typical + np.finfo(np.float32).tiny)
    energies = np.asarray(keras.Model(inputs, energy)(dataset.x_train[chosen]))
    temperature = _temperature(energies, dataset.y_train[chosen])
    return keras.Model(inputs, layers.Rescaling(-1 / temperature, name="logits")(energy), name="guide")


def _temperature(energies: np.ndarray, labels: np.ndarray) -> float:
    """The T > 0 that makes the labels (n,) likeliest by the logits -energies / T (n, classes)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    spread = np.log(np.std(energies) + np.finfo(np.float32).tiny)

    def misfit(log_temperature: float) -> float:
        logits = -energies / np.exp(spread + log_temperature)
        return -float(np.take_along_axis(log_softmax(logits, axis=1), labels[:, None].astype(int), axis=1).mean())

    return float(np.exp(spread + minimize_scalar(misfit, bounds=(-8, 4), method="bounded").x))
