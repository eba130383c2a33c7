"""How good counterfactuals are beyond their distance: do they look like their class, and do others see that class?

A low L1 is cheap to have with changes that only the explained classifier sees. So judges that the search has never met
are asked: autoencoders that know what each class looks like, and an oracle, another classifier (`cfx.judges`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from cfx.result import Result

# The columns of `measure`.
MEASURES = ("im1", "im2", "oracle")
# Keeps IM1 and IM2 finite where a reconstruction is perfect or an input is all zero.
_EPSILON = 1e-7
# Rows that are judged at once: enough to be fast, and few enough for the reconstructions of large images.
_ROWS = 64


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


def measure(
    result: Result, autoencoders: Callable[[np.ndarray], object], oracle: Callable[[np.ndarray], object]
) -> pd.DataFrame:
    """What the judges say of each counterfactual.

    autoencoders: takes inputs (n, *shape), returns their reconstructions (n, classes + 1, *shape): by the autoencoder
    of each class, and last by the one of all classes. oracle: returns scores (n, classes). Keras models are both.

    Returns a table of one row a counterfactual, all columns float: im1, im2, and oracle, 1 where the oracle's class is
    `cf_class` and 0 where it is another. A row that is not found has NaN in all three; one whose class is still the
    original one has NaN for im1, which compares two classes.
    """
    measures = {name: np.full(len(result.found), np.nan) for name in MEASURES}
    found = np.flatnonzero(result.found)
    for start in range(0, len(found), _ROWS):
        rows = found[start : start + _ROWS]
        x, cf_class, original_class = result.x[rows], result.cf_class[rows], result.original_class[rows]
        reconstructions = np.asarray(autoencoders(x))
        each = np.arange(len(rows))
        by_cf_class = reconstructions[each, cf_class]
        compared = im1(x, by_cf_class, reconstructions[each, original_class])
        measures["im1"][rows] = np.where(cf_class == original_class, np.nan, compared)
        measures["im2"][rows] = im2(x, by_cf_class, reconstructions[:, -1])
        measures["oracle"][rows] = np.asarray(oracle(x)).argmax(axis=1) == cf_class
    return pd.DataFrame(measures)


def _squared_length(x: np.ndarray) -> np.ndarray:
    return np.square(x, dtype=np.float64).reshape(len(x), -1).sum(axis=1)
