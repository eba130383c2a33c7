"""Check IM1, IM2 and the oracle against published arrays and numbers.

    git clone https://github.com/fhvilshoj/EvaluatingCounterfactuals
    python -m benchmarks.published EvaluatingCounterfactuals --mnist mnist.npz

Hvilshoj, Iosifidis and Assent 2021, "On quantitative evaluations of counterfactuals", arXiv:2111.00177, published the
MNIST counterfactuals of three methods with the autoencoders of IM1 and IM2 and all results. This script computes the
means by `cfx.metrics` from these arrays and models. Their oracle's weights are not in the repository, so the share is
computed by the judges of this project instead, trained on MNIST.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from cfx import data, judges, metrics

METHODS = ("GB", "GL", "GEN")
_JUDGE_STEPS, _ROWS = 2000, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="a clone of EvaluatingCounterfactuals")
    parser.add_argument("--mnist", type=Path, default=os.environ.get("MNIST_NPZ"), help="MNIST (default: MNIST_NPZ)")
    arguments = parser.parse_args()
    results = json.loads((arguments.repository / "output" / "mnist_[0]" / "results.json").read_text())
    published = {name: {one["method"]: one["scores"] for one in scores} for name, scores in results.items()}
    autoencoders = _autoencoders(arguments.repository / "ckpts" / "mnist" / "aes")
    committee = judges.committee(data.mnist(arguments.mnist), steps=_JUDGE_STEPS, seed=1)
    rows = []
    for method in METHODS:
        x, original, target = _counterfactuals(arguments.repository / "data" / method / "mnist.npz")
        computed = _measured(x, original, target, autoencoders) | _judged(x, target, committee)
        for name, values in computed.items():
            mean, _, count = published["Oracle" if "oracle" in name or "judge" in name else name][method]
            row = {"method": method, "measure": name, "n": len(values), "published n": count}
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


def _measured(x: np.ndarray, original: np.ndarray, target: np.ndarray, autoencoders: list) -> dict[str, np.ndarray]:
    reconstructions = np.stack([one.predict(x, batch_size=_ROWS, verbose=0) for one in autoencoders])
    each = np.arange(len(x))
    by_target = reconstructions[target, each]
    return {
        "IM1": metrics.im1(x, by_target, reconstructions[original, each]),
        "IM2": metrics.im2(x, by_target, reconstructions[-1]),
    }


def _judged(x: np.ndarray, target: np.ndarray, committee) -> dict[str, np.ndarray]:
    scores = np.concatenate([np.asarray(committee(x[start : start + _ROWS])) for start in range(0, len(x), _ROWS)])
    agree = scores.argmax(axis=2) == target[:, None]
    return {"oracle of this project": agree[:, 0], "mean of the five judges": agree.mean(axis=1)}


if __name__ == "__main__":
    main()
