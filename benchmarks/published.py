"""Compare IM1, IM2 and the oracle with published numbers, on the published counterfactuals.

    git clone https://github.com/fhvilshoj/EvaluatingCounterfactuals
    python -m benchmarks.published EvaluatingCounterfactuals --mnist mnist.npz

Hvilshoj, Iosifidis and Assent 2021, "On quantitative evaluations of counterfactuals", arXiv:2111.00177, published the
MNIST counterfactuals of three methods (GB, GL, GEN), the autoencoders of IM1 and IM2, and all results. IM1 and IM2 are
computed by `cfx.metrics` from these arrays and autoencoders. The weights of the published oracle, independent.h5, are
not in the repository. Two classifiers take its place, both trained here on MNIST: the first judge of this project, and
the reference CNN, which has the architecture that the published configuration names (vanlooveren2019). On
gradient-based counterfactuals, an oracle with the architecture of the explained classifier agrees far more often.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cfx import architectures, data, datasets, judges, metrics, models

METHODS = ("GB", "GL", "GEN")
_ROWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="a clone of EvaluatingCounterfactuals")
    parser.add_argument("--mnist", type=Path, default=os.environ.get("MNIST_NPZ"), help="MNIST (default: MNIST_NPZ)")
    arguments = parser.parse_args()
    path = arguments.repository / "output" / "mnist_[0]" / "results.json"
    if not path.is_file():
        parser.error(f"{path}: no such file; give a clone of EvaluatingCounterfactuals")
    published = {
        name: {one["method"]: one["scores"] for one in scores} for name, scores in json.loads(path.read_text()).items()
    }
    autoencoders = _autoencoders(arguments.repository / "ckpts" / "mnist" / "aes")
    oracles = _oracles(datasets.mnist(arguments.mnist))
    rows = []
    for method in METHODS:
        x, original, target = _counterfactuals(arguments.repository / "data" / method / "mnist.npz")
        reconstructions = np.stack([one.predict(x, batch_size=_ROWS, verbose=0) for one in autoencoders])
        by_target, by_original = (reconstructions[label, np.arange(len(x))] for label in (target, original))
        computed = [
            ("IM1", "IM1", metrics.im1(x, by_target, by_original)),
            ("IM2", "IM2", metrics.im2(x, by_target, reconstructions[-1])),
            *(("Oracle", name, predict(x) == target) for name, predict in oracles.items()),
        ]
        for name, label, values in computed:
            mean, _, count = published[name][method]
            row = {"method": method, "measure": label, "n": len(values), "published n": count}
            rows.append({**row, "published": mean, "here": values.mean(), "ratio": values.mean() / mean})
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.5f"))


def _counterfactuals(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The counterfactuals (n, 28, 28, 1) in [-0.5, 0.5], their original classes and their target classes.

    As in the published evaluation, rows without a counterfactual and black images are left out.
    """
    arrays = data.read_npz(path, ("cfs", "orig_pred", "q", "cf_pred"))
    x = (arrays["cfs"] / 255 - 0.5).astype(np.float32)[..., None]
    kept = (arrays["cf_pred"] != -1) & (arrays["cfs"].reshape(len(x), -1).max(axis=1) > 0)
    return x[kept], arrays["orig_pred"][kept], arrays["q"][kept]


def _autoencoders(folder: Path) -> list:
    """The autoencoders of the ten classes and the one of all classes.

    Keras 3 does not read the architecture in the files of Keras 2, so it is written out here.
    """
    import h5py
    import keras
    from keras import layers

    def convolution(filters: int, activation: str) -> layers.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation=activation)

    models = []
    for name in (*range(10), "all"):
        encoder = [convolution(16, "relu"), convolution(16, "relu"), layers.MaxPooling2D(2), convolution(1, "linear")]
        decoder = [convolution(16, "relu"), layers.UpSampling2D(2), convolution(16, "relu"), convolution(1, "linear")]
        model = keras.Sequential([keras.Input((28, 28, 1)), *encoder, *decoder])
        with h5py.File(folder / f"ae_{name}.h5") as file:
            parts = [part for group in ("model", "model_1") for part in file["model_weights"][group].values()]
            model.set_weights([part[kind][()] for part in parts for kind in ("kernel:0", "bias:0")])
        models.append(model)
    return models


def _oracles(mnist: data.Dataset) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Functions from inputs to the predicted classes."""
    committee = judges.committee(mnist, steps=2000, seed=1)
    build = partial(architectures.cnn, mnist.input_shape, mnist.classes)
    cnn, _ = models.train(build, mnist, epochs=3, batch_size=64, learning_rate=0.001, seed=1)
    return {
        "oracle: first judge": lambda x: committee.predict(x, batch_size=_ROWS, verbose=0)[:, 0].argmax(axis=1),
        "oracle: reference CNN": lambda x: cnn.predict(x, batch_size=_ROWS, verbose=0).argmax(axis=1),
    }


if __name__ == "__main__":
    main()
