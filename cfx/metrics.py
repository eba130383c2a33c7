"""Measures of counterfactuals beyond their distance: whether they resemble their class, and whether other models agree.

It is easy to change the prediction of the explained classifier alone. Therefore, judges (`cfx.judges`), models that no
search uses, evaluate the counterfactuals: a committee of classifiers, and autoencoders of each class. Further measures
compare counterfactuals with the training instances of their class and test their stability under noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd

from cfx.data import FEATURE_RANGE, widened_range
from cfx.neighbourhood import Neighbourhoods
from cfx.result import CHANGED, Result

Model = Callable[[np.ndarray], object]

# The columns of `judge`, of which the first are shares, and those of `measure`, which are these and more.
SHARES = ("agreement", "majority", "oracle")
JUDGED = (*SHARES, "im1", "im2", "denoising_error", "neighbour_distance", "outlier_factor")
MEASURES = (*JUDGED, "noise_stability", "seed_stability", "components", "diversity", "diversity_l0")

# Keeps IM1 and IM2 finite where a reconstruction is perfect or an input is all zero.
_EPSILON = 1e-7
# The maximum numbers of inputs that judges and the classifier are given at once, and of their values in total.
_ROWS, _INPUTS, _VALUES = 64, 1024, 2**22
# The noisy copies of a counterfactual, and the standard deviation of the noise as a share of the feature range.
_COPIES, _NOISE = 16, 0.05


@dataclass(frozen=True)
class Judges:
    """The models and training instances that evaluate counterfactuals. The models may be functions of arrays."""

    autoencoders: Model
    """Takes inputs (n, *shape) in [-0.5, 0.5] and returns reconstructions (n, classes + 2, *shape): by the autoencoder
    of each class, by the one of all classes, and by the denoising one."""
    committee: Model
    """Returns probabilities (n, members, classes)."""
    neighbourhoods: Neighbourhoods
    replicas: tuple[Model, ...] = ()
    """Classifiers that differ from the explained one only in their training seed; they return scores (n, classes)."""


def im1(x: np.ndarray, by_cf_class: np.ndarray, by_original_class: np.ndarray) -> np.ndarray:
    """IM1 = |x - AE_cf(x)|^2 / (|x - AE_original(x)|^2 + epsilon), Van Looveren and Klaise 2019, arXiv:1907.02584.

    x, by_cf_class, by_original_class: (n, *shape), the counterfactuals and their reconstructions by the autoencoders of
    their class and of the class that the instance had. Returns (n,) >= 0, lower is better; below 1, a
    counterfactual is closer to its new class than to its original class.
    """
    return _squared_length(x - by_cf_class) / (_squared_length(x - by_original_class) + _EPSILON)


def im2(x: np.ndarray, by_cf_class: np.ndarray, by_all_classes: np.ndarray) -> np.ndarray:
    """IM2 = |AE_cf(x) - AE_all(x)|^2 / (|x|_1 + epsilon), Van Looveren and Klaise 2019, arXiv:1907.02584.

    x, by_cf_class, by_all_classes: (n, *shape), the counterfactuals and their reconstructions by the autoencoder of
    their class and by the one of all classes. Returns (n,) >= 0, lower is better; near 0, the autoencoder of its
    class reconstructs a counterfactual like that of all classes. |x|_1 depends on the zero point of the features, so
    compare IM2 only within one data set.
    """
    size = np.abs(x, dtype=np.float64).reshape(len(x), -1).sum(axis=1)
    return _squared_length(by_cf_class - by_all_classes) / (size + _EPSILON)


def components(x: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """The number of connected regions of the changed pixels, (n,) float64: few for strokes, many for scattered pixels.

    x, instances: (n, height, width, channels). A pixel has changed if one of its channels moved by more than 1e-3, and
    it is connected to its eight neighbours. Features of other shapes have no neighbours: NaN.
    """
    # scipy takes a third of a second to import, for which only what measures should wait
    from scipy import ndimage

    if x.ndim != 4:
        return np.full(len(x), np.nan)
    changed = (
        (np.abs(one.astype(np.float64) - other) > CHANGED).any(axis=2) for one, other in zip(x, instances, strict=True)
    )
    return np.array([ndimage.label(one, np.ones((3, 3)))[1] for one in changed], np.float64)


def noise_stability(x: np.ndarray, classes: np.ndarray, classifier: Model) -> np.ndarray:
    """The share of 16 noisy copies of each input that a classifier assigns to the input's class, (n,) in [0, 1].

    The noise is Gaussian, with a standard deviation of 5 % of the feature range; the copies are clipped to the range.
    x: (n, *shape); classes: (n,) int; classifier: returns scores (n, classes).
    """
    random = np.random.default_rng(0)
    deviation = np.float32(_NOISE * (FEATURE_RANGE[1] - FEATURE_RANGE[0]))
    # the same noise for each input, so that the result of a row does not depend on the others
    noise = deviation * random.standard_normal((_COPIES, *x.shape[1:]), np.float32)
    stable = np.empty(len(x))
    step = max(1, min(_INPUTS, _VALUES // prod(x.shape[1:])) // _COPIES)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        copies = [np.clip(one + noise, *widened_range(one)) for one in x[rows]]
        labels = np.asarray(classifier(np.concatenate(copies))).argmax(axis=1).reshape(-1, _COPIES)
        stable[rows] = (labels == classes[rows, None]).mean(axis=1)
    return stable


def seed_stability(x: np.ndarray, classes: np.ndarray, replicas: Sequence[Model]) -> np.ndarray:
    """The share of retrained classifiers that assign each input to its class, (n,) in [0, 1]; NaN without any.

    A counterfactual that holds for only one training run says little about the data: see Pawelczyk,
    Broelemann and Kasneci 2020, arXiv:2006.13132. x: (n, *shape); classes: (n,) int; replicas: each returns scores
    (n, classes).
    """
    if not replicas:
        return np.full(len(x), np.nan)
    stable = np.empty(len(x))
    step = max(1, min(_INPUTS, _VALUES // prod(x.shape[1:])))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        labels = np.array([np.asarray(replica(x[rows])).argmax(axis=1) for replica in replicas])
        stable[rows] = (labels == classes[rows]).mean(axis=0)
    return stable


def diversity(x: np.ndarray, instance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How different the counterfactuals of an instance are: the mean L1 and L0 distances to its others, (n,) each.

    NaN for the only one of an instance. x: (n, *shape); instance: (n,), the instance of each. Source: Mothilal, Sharma
    and Tan 2020, "DiCE", section 4 (pairwise distances).
    """
    l1, l0 = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for one in np.unique(instance):
        rows = np.flatnonzero(instance == one)
        if len(rows) > 1:
            change = np.abs(x[rows, None].astype(np.float64) - x[rows]).reshape(len(rows), len(rows), -1)
            l1[rows] = change.sum(axis=2).sum(axis=1) / (len(rows) - 1)
            l0[rows] = (change > CHANGED).sum(axis=2).sum(axis=1) / (len(rows) - 1)
    return l1, l0


def judge(x: np.ndarray, classes: np.ndarray, original_classes: np.ndarray, judges: Judges) -> pd.DataFrame:
    """The judges' measures of inputs, given the class that each input should have.

    Args:
        x: (n, *shape) in [-0.5, 0.5].
        classes: (n,) int.
        original_classes: (n,) int, the classes that `im1` compares with.
        judges: the models and training instances that compute the measures.

    Returns:
        The columns `JUDGED`, all float: agreement, the share of the committee that assigns the input to its class;
        majority, 1 if that is more than half; oracle, 1 if the first member does; im1, NaN if both classes are equal;
        im2; denoising_error, the root mean square of what the denoising autoencoder changes, in units of the input;
        neighbour_distance and outlier_factor, as `Neighbourhoods` has them.
    """
    judged = {name: np.empty(len(x)) for name in JUDGED}
    step = max(1, min(_ROWS, _VALUES // prod(x.shape[1:])))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        for name, values in _by_models(x[rows], classes[rows], original_classes[rows], judges).items():
            judged[name][rows] = values
    for label in np.unique(classes):
        of_class = classes == label
        judged["neighbour_distance"][of_class] = judges.neighbourhoods.distance(x[of_class], int(label))
        judged["outlier_factor"][of_class] = judges.neighbourhoods.outlier_factor(x[of_class], int(label))
    return pd.DataFrame(judged)


def _by_models(
    x: np.ndarray, classes: np.ndarray, original_classes: np.ndarray, judges: Judges
) -> dict[str, np.ndarray]:
    each = np.arange(len(x))
    reconstructions = np.asarray(judges.autoencoders(x))
    by_class, by_original = reconstructions[each, classes], reconstructions[each, original_classes]
    agree = np.asarray(judges.committee(x)).argmax(axis=2) == classes[:, None]
    agreement = agree.mean(axis=1)
    return {
        "agreement": agreement,
        "majority": agreement > 0.5,
        "oracle": agree[:, 0],
        "im1": np.where(classes == original_classes, np.nan, im1(x, by_class, by_original)),
        "im2": im2(x, by_class, reconstructions[:, -2]),
        "denoising_error": np.sqrt(_squared_length(x - reconstructions[:, -1]) / prod(x.shape[1:])),
    }


def measure(result: Result, instances: np.ndarray, judges: Judges, classifier: Model) -> pd.DataFrame:
    """The measures of each counterfactual.

    Args:
        result: the result of a search.
        instances: (n, *shape), the explained instances.
        judges: the models and training instances that compute the measures.
        classifier: the explained classifier, which returns scores (n, classes).

    Returns:
        A row for each row of the result, with the columns `MEASURES`, all float: those of `judge` for `cf_class` and
        `original_class`, `noise_stability`, `seed_stability`, `components` and `diversity`. A row that is not
        found has NaN.
    """
    rows = np.flatnonzero(result.found)
    x, classes = result.x[rows], result.cf_class[rows]
    of_others = diversity(x, result.instance[rows])
    measured = judge(x, classes, result.original_class[rows], judges).assign(
        noise_stability=noise_stability(x, classes, classifier),
        seed_stability=seed_stability(x, classes, judges.replicas),
        components=components(x, instances[rows]),
        diversity=of_others[0],
        diversity_l0=of_others[1],
    )
    return measured.set_axis(rows).reindex(range(len(result.found)))[list(MEASURES)]


def _squared_length(x: np.ndarray) -> np.ndarray:
    return np.square(x, dtype=np.float64).reshape(len(x), -1).sum(axis=1)
