"""What both systems are given: the weights of one reference CNN, instances of the test split, and a target for each."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.apart import apart

# conf/data/*.yaml: what the reference CNN needs on each data set.
EPOCHS_MNIST, EPOCHS_MNIST_5K = 3, 20


@dataclass(frozen=True)
class Problem:
    weights: list[np.ndarray]
    """Of the reference CNN, in the order of `model.get_weights()`."""
    x: np.ndarray
    """(n, 28, 28, 1) float32 in [-0.5, 0.5]."""
    index: np.ndarray
    """(n,) places in the test split."""
    fixed: np.ndarray
    """(n,) a class for each instance: (predicted + 1 + index mod 9) mod 10, never the predicted one."""

    def targets(self, task: str) -> tuple[str, ...] | tuple[int, ...]:
        """The target class of each row: its own for the task `fixed`, any but the predicted one for `other`."""
        return tuple(self.fixed.tolist()) if task == "fixed" else ("other",) * len(self.x)

    def repeated(self, n: int) -> "Problem":
        """The first n rows, all of them again and again where there are fewer."""
        places = np.arange(n) % len(self.x)
        return Problem(self.weights, self.x[places], self.index[places], self.fixed[places])


def load(weights: Path | None, mnist: Path | None, first: int, count: int) -> Problem:
    """The test images from `first` on, `count` of them or as many as there are, and a model.

    weights: an .npz of arrays in the order of `model.get_weights()`; without it, the model is trained.
    mnist: MNIST in Keras's layout; without it, the 5,000 images that come with the environment.
    """
    return apart(_load, weights, mnist, first, count)


def reference_cnn(weights: list[np.ndarray]):
    """The CNN of the reference example with these weights."""
    from cfx import architectures

    model = architectures.cnn((28, 28, 1), 10)
    model.set_weights(weights)
    return model


def use_threads(threads: int) -> None:
    """Give TensorFlow so many threads, within an operation and for operations side by side, as the peer has."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _load(weights, mnist, first, count):
    from cfx import architectures, datasets, models

    dataset = datasets.mnist(mnist) if mnist else datasets.mnist_5k(seed=0)
    if weights:
        with np.load(weights, allow_pickle=False) as file:
            model = reference_cnn([file[name] for name in file.files])
    else:
        epochs = EPOCHS_MNIST if mnist else EPOCHS_MNIST_5K
        print(f"training the reference CNN, {epochs} epochs on {len(dataset.x_train)} images", flush=True)
        build = partial(architectures.cnn, (28, 28, 1), 10)
        model, _ = models.train(build, dataset, epochs=epochs, batch_size=64, learning_rate=1e-3, seed=0)
    x = dataset.x_test[first : first + count]
    index = np.arange(first, first + len(x))
    predicted = model.predict(x, verbose=0).argmax(axis=1)
    return Problem(model.get_weights(), x, index, (predicted + 1 + index % 9) % 10)
