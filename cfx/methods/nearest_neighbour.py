"""The nearest training instance that counts as a counterfactual: what every other method is compared with.

It is real data, so it is plausible by construction, and any method that ends further away has found little. The look-up
is a function of its own, because other methods start from its answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cfx.errors import InputError
from cfx.method import ArrayMethod
from cfx.problem import Problem

# How many training instances the model, and how many instances the matrix product, is given at once: both keep what
# lies in memory to some 100 MB for all of MNIST.
_MODEL_BLOCK, _ROW_BLOCK, _TRAIN_BLOCK = 1024, 128, 8192


@dataclass(frozen=True, kw_only=True)
class NearestNeighbour(ArrayMethod):
    """The nearest training instance, in L1, to which the model gives the target class with the probability wanted.

        x' = argmin |z - x|_1   over the training instances z with |f_t(z) - target_proba| <= tol and low <= z <= high

    The result is exact, and the first of several at the same distance. An instance for which no training instance
    qualifies is returned as it is. The method needs the training split, takes no gradient and has no hyperparameters
    of its own; the model's probabilities of the training split are computed once per search.

    Sources: Wexler et al. 2019, "The What-If Tool: interactive probing of machine learning models" (the nearest
    counterfactual in the data); Keane and Smyth 2020, "Good counterfactuals and where to find them" (native
    counterfactuals).

    Example, for a Keras classifier `model` and float32 images x (n, 28, 28) in [-0.5, 0.5]:

        result = find_counterfactuals(model, x, NearestNeighbour(target_class=3), train=(x_train, y_train))
        result.x[result.found]  # images of the training split
    """

    def search(self, problem: Problem) -> np.ndarray:
        """Counterfactuals (n, *shape), as in `nearest_neighbours`."""
        return nearest_neighbours(problem)


def nearest_neighbours(problem: Problem) -> np.ndarray:
    """The nearest training instance, in L1, that is a counterfactual of each instance: (n, *shape) float32.

    The instance itself where there is none. Of several at the same distance, the first in the training split.

    Raises:
        InputError: the problem has no training instances.
    """
    if len(problem.x_train) == 0:
        raise InputError("train has no instances to look for a neighbour in: give train=(x_train, y_train)")
    low, span = _scale(problem)
    is_met, mask_of_row = _is_met_by_training(problem)
    neighbours = problem.x.copy()
    for start in range(0, len(problem.x), _ROW_BLOCK):
        rows = np.arange(start, min(start + _ROW_BLOCK, len(problem.x)))
        bounds = _lower_bounds(_flat(problem.x[rows]), _flat(problem.x_train), low, span)
        for row, bound in zip(rows.tolist(), bounds, strict=True):
            allowed = np.flatnonzero(is_met[mask_of_row[row]])
            if len(allowed):
                neighbours[row] = problem.x_train[_nearest(problem, row, allowed, bound[allowed])]
        problem.progress(int(rows[-1]) + 1, len(problem.x))
    return neighbours


def _scale(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The lowest value and the range of each feature, both (features,) float64."""
    low, high = (
        np.broadcast_to(np.asarray(bound, np.float32), problem.x.shape[1:]).ravel().astype(np.float64)
        for bound in (problem.low, problem.high)
    )
    return low, high - low


def _is_met_by_training(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Which training instances qualify, (masks, m) bool, for each distinct row of `target`; each row's mask (n,)."""
    blocks = [problem.x_train[start : start + _MODEL_BLOCK] for start in range(0, len(problem.x_train), _MODEL_BLOCK)]
    known = np.concatenate([problem.probabilities(block) for block in blocks])
    low, high = np.asarray(problem.low, np.float32), np.asarray(problem.high, np.float32)
    features = tuple(range(1, problem.x_train.ndim))
    inside = np.concatenate([((low <= block) & (block <= high)).all(axis=features) for block in blocks])
    # `other` and the fixed classes make few distinct masks, and the problem itself says what it accepts.
    answered = replace(problem, probabilities=lambda x: known)
    _, first_rows, mask_of_row = np.unique(problem.target, axis=0, return_index=True, return_inverse=True)
    is_met = [answered.is_met(problem.x_train, np.full(len(known), row)) & inside for row in first_rows]
    return np.array(is_met), mask_of_row.ravel()


def _lower_bounds(x: np.ndarray, x_train: np.ndarray, low: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Lower bounds (n, m) of the L1 distances between x (n, features) and x_train (m, features), by matrix products.

    Inside the range no change d exceeds its feature's range s, so sum d^2 / s <= sum |d|. The left side is a squared
    Euclidean distance. On MNIST it leaves some 200 of 60,000 training instances whose L1 has to be computed.
    """
    scaled = (x - low) / np.sqrt(span)
    squares = np.square(scaled).sum(axis=1)
    # what the products may lose to rounding, so that the bounds hold to the last bit
    slack = 1 - 8 * x.shape[1] * np.finfo(np.float64).eps
    bounds = np.empty((len(x), len(x_train)))
    for start in range(0, len(x_train), _TRAIN_BLOCK):
        train = (x_train[start : start + _TRAIN_BLOCK] - low) / np.sqrt(span)
        both = squares[:, None] + np.square(train).sum(axis=1)
        bounds[:, start : start + _TRAIN_BLOCK] = slack * both - 2 * scaled @ train.T
    return bounds


def _nearest(problem: Problem, row: int, allowed: np.ndarray, bounds: np.ndarray) -> int:
    """The index of the nearest of the allowed (k,) training instances, given lower bounds (k,) of their distances."""

    # scipy takes a third of a second to import, for which the check of a configuration should not wait
    from scipy.spatial.distance import cdist

    def distances(indices: np.ndarray) -> np.ndarray:
        return cdist(_flat(problem.x[row : row + 1]), _flat(problem.x_train[indices]), "cityblock")[0]

    likeliest = distances(allowed[[bounds.argmin()]])[0]
    candidates = allowed[bounds <= likeliest]
    blocks = [candidates[start : start + _TRAIN_BLOCK] for start in range(0, len(candidates), _TRAIN_BLOCK)]
    return int(candidates[np.concatenate([distances(block) for block in blocks]).argmin()])


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)
