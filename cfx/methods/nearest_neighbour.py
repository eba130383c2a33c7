"""The nearest training instance that is a counterfactual, a baseline for all other methods.

It is plausible by construction, because it is a real instance. The look-up is a separate function, because other
methods start from its result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfx.method import ArrayMethod
from cfx.neighbours import nearest, qualifying
from cfx.problem import Problem

# The number of candidates that the model evaluates at once where there are constraints.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class NearestNeighbour(ArrayMethod):
    """The nearest training instance, in L1, that the model assigns to the target class with the required probability.

        x' = argmin |z - x|_1   over the training instances z with |f_t(z) - target_proba| <= tol and low <= z <= high

    The result is exact, and the first of several at the same distance. With constraints, z is the training instance
    with the values that the constraints allow, so features that may not change are those of the instance. If no
    training instance qualifies, the instance is returned unchanged. The method needs the training split, uses no
    gradients and has no hyperparameters of its own; the probabilities of the training split are computed once per
    search.

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

    The instance itself if there is none. Of several at the same distance, the first in the training split.

    Raises:
        InputError: the problem has no training instances.
    """
    is_met, mask_of_row = qualifying(problem)
    neighbours, done = problem.x.copy(), 0
    if problem.region is not None:
        for row, mask in enumerate(mask_of_row):
            neighbours[row] = _nearest_allowed(problem, row, problem.x_train[is_met[mask]])
            problem.progress(row + 1, len(problem.x))
        return neighbours
    for mask, is_qualified in enumerate(is_met):
        rows, allowed = np.flatnonzero(mask_of_row == mask), np.flatnonzero(is_qualified)
        if len(allowed):
            found, _ = nearest(
                problem.x[rows],
                problem.x_train[allowed],
                problem.low,
                problem.high,
                progress=lambda rows_done, before=done: problem.progress(before + rows_done, len(problem.x)),  # type: ignore[misc]
            )
            neighbours[rows] = problem.x_train[allowed[found[:, 0]]]
        done += len(rows)
        problem.progress(done, len(problem.x))
    return neighbours


def _nearest_allowed(problem: Problem, row: int, x_train: np.ndarray) -> np.ndarray:
    """The nearest of the training instances (m, *shape), moved to allowed values, that is a counterfactual of a row."""
    allowed = problem.project(x_train, np.full(len(x_train), row))
    distance = np.abs(allowed - problem.x[row], dtype=np.float64).reshape(len(allowed), -1).sum(axis=1)
    order = np.argsort(distance, kind="stable")
    for start in range(0, len(order), _BLOCK):
        points = allowed[order[start : start + _BLOCK]]
        is_met = problem.is_met(points, np.full(len(points), row))
        if is_met.any():
            return points[is_met.argmax()]
    return problem.x[row]
