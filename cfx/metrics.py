"""How good counterfactuals are beyond their distance: do they look like their class, and do other models see it too?

A change that only the explained classifier sees is cheap. So counterfactuals are measured by judges (`cfx.judges`),
models that no search has met: a committee of classifiers, and autoencoders that know each class; by the training
instances of the class; and by what noise does to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd

from cfx.data import FEATURE_RANGE
from cfx.neighbourhood import Neighbourhoods
from cfx.result import CHANGED, Result

Model = Callable[[np.ndarray], object]

# The columns of `judge`, of which the first are shares, and those of `measure`, which are these and more.
SHARES = ("agreement", "majority", "oracle")
JUDGED = (*SHARES, "im1", "im2", "denoising_error", "neighbour_distance", "outlier_factor")
MEASURES = (*JUDGED, "noise_stability", "components")

# Keeps IM1 and IM2 finite where a reconstruction is perfect or an input is all zero.
_EPSILON = 1e-7
# Rows that are judged at once: enough to be fast, and few enough for the reconstructions of large images.
_ROWS = 64
# The noisy copies of a counterfactual, and the standard deviation of the noise as a share of the feature range.
_COPIES, _NOISE = 16, 0.05


@dataclass(frozen=True)
class Judges:
    """What measures counterfactuals and is used in no search. The models are Keras models or functions of arrays."""

    autoencoders: Model
    """Takes inputs (n, *shape) in [-0.5, 0.5] and returns reconstructions (n, classes + 2, *shape): by the autoencoder
    of each class, by the one of all classes, and by the denoising one."""
    committee: Model
    """Returns probabilities (n, members, classes)."""
    neighbourhoods: Neighbourhoods


def im1(x: np.ndarray, by_cf_class: np.ndarray, by_original_class: np.ndarray) -> np.ndarray:
    """IM1 = |x - AE_cf(x)|^2 / (|x - AE_original(x)|^2 + epsilon), Van Looveren and Klaise 2019, arXiv:1907.02584.

    x, by_cf_class, by_original_class: (n, *shape), the counterfactuals and their reconstructions by the autoencoders of
    their class and of the class that the instance had. Returns (n,) >= 0, the lower the better: below 1 a
    counterfactual is more like the class that it is in now than like the one that it came from.
    """
    return _squared_length(x - by_cf_class) / (_squared_length(x - by_original_class) + _EPSILON)


def im2(x: np.ndarray, by_cf_class: np.ndarray, by_all_classes: np.ndarray) -> np.ndarray:
    """IM2 = |AE_cf(x) - AE_all(x)|^2 / (|x|_1 + epsilon), Van Looveren and Klaise 2019, arXiv:1907.02584.

    x, by_cf_class, by_all_classes: (n, *shape), the counterfactuals and their reconstructions by the autoencoder of
    their class and by the one of all classes. Returns (n,) >= 0, the lower the better: near 0 its class alone
    describes a counterfactual as well as all of the data does. |x|_1 depends on where the features have their zero,
    so IM2 compares counterfactuals of one data set and not data sets.
    """
    size = np.abs(x, dtype=np.float64).reshape(len(x), -1).sum(axis=1)
    return _squared_length(by_cf_class - by_all_classes) / (size + _EPSILON)


def components(x: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """The number of connected regions of the changed pixels, (n,) float64: is a change one stroke, or dust?

    x, instances: (n, height, width, channels). A pixel has changed if one of its channels moved by more than 1e-3, and
    it is connected to its eight neighbours. Features of other shapes have no neighbours: NaN.
    """
    # scipy takes a third of a second to import, for which only what measures should wait
    from scipy import ndimage

    if x.ndim != 4:
        return np.full(len(x), np.nan)
    changed = (np.abs(x.astype(np.float64) - instances) > CHANGED).any(axis=3)
    return np.array([ndimage.label(one, np.ones((3, 3)))[1] for one in changed], np.float64)


def noise_stability(x: np.ndarray, classes: np.ndarray, classifier: Model, seed: int = 0) -> np.ndarray:
    """The share of 16 noisy copies of each input that a classifier puts into the input's class, (n,) in [0, 1].

    The noise is Gaussian, with a standard deviation of 5 % of the feature range. x: (n, *shape); classes: (n,) int;
    classifier: returns scores (n, classes).
    """
    random = np.random.default_rng(seed)
    deviation = np.float32(_NOISE * (FEATURE_RANGE[1] - FEATURE_RANGE[0]))
    # the same noise for each input, so that what is measured beside it changes nothing
    noise = deviation * random.standard_normal((_COPIES, *x.shape[1:]), np.float32)
    stable = np.empty(len(x))
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        copies = (x[rows][:, None] + noise).reshape(-1, *x.shape[1:])
        labels = np.asarray(classifier(copies)).argmax(axis=1).reshape(-1, _COPIES)
        stable[rows] = (labels == classes[rows, None]).mean(axis=1)
    return stable


def judge(x: np.ndarray, classes: np.ndarray, original_classes: np.ndarray, judges: Judges) -> pd.DataFrame:
    """What the judges say of inputs that are to be of their classes.

    Args:
        x: (n, *shape) in [-0.5, 0.5].
        classes: (n,) int.
        original_classes: (n,) int, the classes that `im1` compares with.
        judges: what measures.

    Returns:
        The columns `JUDGED`, all float: agreement, the share of the committee that puts the input into its class;
        majority, 1 where that is more than half; oracle, 1 where the first member does; im1, NaN where both classes are
        the same; im2; denoising_error, the root mean square of what the denoising autoencoder changes, in units of the
        input; neighbour_distance and outlier_factor, as `Neighbourhoods` has them.
    """
    parts = [slice(start, start + _ROWS) for start in range(0, len(x), _ROWS)]
    judged = [_judge(x[rows], classes[rows], original_classes[rows], judges) for rows in parts]
    empty = np.zeros((0, len(JUDGED)))
    return pd.DataFrame(np.concatenate([empty, *judged]), columns=list(JUDGED))


def _judge(x: np.ndarray, classes: np.ndarray, original_classes: np.ndarray, judges: Judges) -> np.ndarray:
    each = np.arange(len(x))
    reconstructions = np.asarray(judges.autoencoders(x))
    by_class, by_original = reconstructions[each, classes], reconstructions[each, original_classes]
    agree = np.asarray(judges.committee(x)).argmax(axis=2) == classes[:, None]
    agreement = agree.mean(axis=1)
    near = np.empty((2, len(x)))
    for label in np.unique(classes):
        rows = classes == label
        near[0, rows] = judges.neighbourhoods.distance(x[rows], int(label))
        near[1, rows] = judges.neighbourhoods.outlier_factor(x[rows], int(label))
    columns = {
        "agreement": agreement,
        "majority": agreement > 0.5,
        "oracle": agree[:, 0],
        "im1": np.where(classes == original_classes, np.nan, im1(x, by_class, by_original)),
        "im2": im2(x, by_class, reconstructions[:, -2]),
        "denoising_error": np.sqrt(_squared_length(x - reconstructions[:, -1]) / prod(x.shape[1:])),
        "neighbour_distance": near[0],
        "outlier_factor": near[1],
    }
    return np.stack([columns[name] for name in JUDGED], axis=1).astype(np.float64)


def measure(result: Result, instances: np.ndarray, judges: Judges, classifier: Model) -> pd.DataFrame:
    """What is measured of each counterfactual.

    Args:
        result: what a search found.
        instances: (n, *shape), what it explains.
        judges: what measures.
        classifier: the explained classifier.

    Returns:
        A row for each row of the result, with the columns `MEASURES`, all float: those of `judge` for `cf_class` and
        `original_class`, `noise_stability` and `components`. A row that is not found has NaN.
    """
    rows = np.flatnonzero(result.found)
    x, classes = result.x[rows], result.cf_class[rows]
    measured = judge(x, classes, result.original_class[rows], judges).assign(
        noise_stability=noise_stability(x, classes, classifier), components=components(x, instances[rows])
    )
    return measured.set_axis(rows).reindex(range(len(result.found)))[list(MEASURES)]


def _squared_length(x: np.ndarray) -> np.ndarray:
    return np.square(x, dtype=np.float64).reshape(len(x), -1).sum(axis=1)
