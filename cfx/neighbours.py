"""The exact nearest training instances in L1, by matrix products; a look-up in the full MNIST takes milliseconds.

Inside the feature range, no change d of a feature exceeds its range s, so sum d^2 / s <= sum |d|. The left side is a
squared Euclidean distance, which a matrix product computes. As a lower bound of the L1 distance, it leaves few training
instances (about 200 of 60,000 on MNIST) whose L1 distance must be computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cfx.errors import InputError
from cfx.problem import Problem

# The batch sizes of the model and of the matrix product, which limit the memory to about 100 MB for the full MNIST.
_MODEL_BLOCK, _ROW_BLOCK, _TRAIN_BLOCK = 1024, 128, 8192
# The same for instances with many features: the maximum number of values in a block.
_VALUES = 2**23


def qualifying(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The training instances that are counterfactuals of a problem's instances.

    Returns a mask (masks, m) bool of the training instances for each distinct row of `problem.target`, and the index of
    the mask of each instance, (n,) int. Raises InputError if the problem has no training instances.
    """
    if len(problem.x_train) == 0:
        raise InputError("train has no instances: give train=(x_train, y_train)")
    blocks = [problem.x_train[start : start + _MODEL_BLOCK] for start in range(0, len(problem.x_train), _MODEL_BLOCK)]
    known = np.concatenate([problem.probabilities(block) for block in blocks])
    is_inside = np.concatenate([problem.is_inside(block) for block in blocks])
    # There are few distinct masks: those of `other` and of the fixed classes.
    answered = replace(problem, probabilities=lambda x: known)
    _, first_rows, mask_of_row = np.unique(problem.target, axis=0, return_index=True, return_inverse=True)
    is_met = [answered.is_met(problem.x_train, np.full(len(known), row)) & is_inside for row in first_rows]
    return np.array(is_met), mask_of_row.ravel()


def nearest(
    x: np.ndarray,
    x_train: np.ndarray,
    low: np.ndarray | float,
    high: np.ndarray | float,
    count: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The indices (n, k) of the nearest training instances, nearest first, and their L1 distances (n, k) float64.

    Of several at the same distance, the first in the training split comes first.

    Args:
        x: (n, *shape), inside the feature range.
        x_train: (m, *shape), inside the feature range, m >= 1.
        low: the lowest value of each feature, a number or an array that broadcasts to an instance.
        high: the highest value, likewise.
        count: the number to find; k is the minimum of this and m.
        progress: called regularly with the number of rows done.
    """
    flat, flat_train = (part.reshape(len(part), -1) for part in (x, x_train))
    lowest, highest = (
        np.broadcast_to(np.asarray(bound, np.float32), x.shape[1:]).ravel().astype(np.float64) for bound in (low, high)
    )
    k = min(count, len(x_train))
    indices, distances = np.empty((len(x), k), int), np.empty((len(x), k))
    for start in range(0, len(x), _ROW_BLOCK):
        rows = slice(start, start + _ROW_BLOCK)
        bounds = _lower_bounds(flat[rows], flat_train, lowest, highest - lowest)
        for row, bound in enumerate(bounds, start):
            indices[row], distances[row] = _nearest(flat[row : row + 1], flat_train, bound, k)
        progress(min(start + _ROW_BLOCK, len(x)))
    return indices, distances


def _lower_bounds(x: np.ndarray, x_train: np.ndarray, low: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Lower bounds (n, m) of the L1 distances between x (n, features) and x_train (m, features)."""
    scaled = (x - low) / np.sqrt(span)
    squares = np.square(scaled).sum(axis=1)
    # allows for rounding in the products, so that the bounds are strict
    slack = 1 - 8 * x.shape[1] * np.finfo(np.float64).eps
    bounds = np.empty((len(x), len(x_train)))
    block = max(1, min(_TRAIN_BLOCK, _VALUES // x.shape[1]))
    for start in range(0, len(x_train), block):
        train = (x_train[start : start + block] - low) / np.sqrt(span)
        both = squares[:, None] + np.square(train).sum(axis=1)
        bounds[:, start : start + block] = slack * both - 2 * scaled @ train.T
    return bounds


def _nearest(x: np.ndarray, x_train: np.ndarray, bounds: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest to one row (1, features), given lower bounds (m,) of its distances."""
    # imported here, because scipy takes a third of a second, which checking a configuration does not need
    from scipy.spatial.distance import cdist

    likeliest = np.argpartition(bounds, k - 1)[:k]
    reach = cdist(x, x_train[likeliest], "cityblock").max()
    candidates = np.flatnonzero(bounds <= reach)
    blocks = [candidates[start : start + _TRAIN_BLOCK] for start in range(0, len(candidates), _TRAIN_BLOCK)]
    distances = np.concatenate([cdist(x, x_train[block], "cityblock")[0] for block in blocks])
    first = np.argsort(distances, kind="stable")[:k]
    return candidates[first], distances[first]
