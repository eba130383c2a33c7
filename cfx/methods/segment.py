"""The nearest counterfactual on the line segment to the nearest training instance that is one, a cheap baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfx.method import ArrayMethod
from cfx.methods.nearest_neighbour import nearest_neighbours
from cfx.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Segment(ArrayMethod):
    """The nearest point to the instance x, on the segment from it to its neighbour z, that is a counterfactual.

        x'(a) = (1 - a) x + a z,    0 < a <= 1,    z the result of `nearest_neighbour`

    The method tries a = 1 / grid, 2 / grid, ..., 1 and stops at the first counterfactual. Then it bisects the interval
    between this point and the previous one `steps` times. Each row needs at most grid + steps evaluations of the model,
    in addition to those of the training split.

    Guarantees: x' is a counterfactual; no previous point of the grid is one; and a point at most 2^-steps / grid of the
    segment's length before x' is not one. If the class changes once along the segment, no counterfactual on it is
    nearer, up to this resolution; otherwise, only one in a stretch shorter than 1 / grid can be. An instance without a
    neighbour is returned unchanged.

    Source: Delaney, Greene and Keane 2021, "Instance-based counterfactual explanations for time series classification"
    (from the instance towards its nearest unlike neighbour until the class changes).

    Example, for a Keras classifier `model` and float32 images x (n, 28, 28) in [-0.5, 0.5]:

        result = find_counterfactuals(model, x, Segment(steps=15), train=(x_train, y_train))
    """

    grid: int = 50
    """The number of equal parts of the segment, 1 to 10,000."""

    steps: int = 10
    """The number of bisections of the last part, 1 to 50; ten reduce it to a thousandth."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("grid", most=10_000)
        self._check_whole_number("steps", most=50)

    def search(self, problem: Problem) -> np.ndarray:
        """Counterfactuals (n, *shape) float32; the instance itself if it has no neighbour.

        Raises:
            InputError: the problem has no training instances.
        """
        neighbours = nearest_neighbours(problem)
        rows = np.flatnonzero((neighbours != problem.x).reshape(len(neighbours), -1).any(axis=1))
        if len(rows) == 0:
            return neighbours
        inside = _walk(problem, neighbours, rows, self.grid)
        outside = inside - 1 / self.grid
        for _ in range(self.steps):
            middle = (outside + inside) / 2
            is_met = problem.is_met(_points(problem, neighbours, rows, middle), rows)
            inside, outside = np.where(is_met, middle, inside), np.where(is_met, outside, middle)
        counterfactuals = problem.x.copy()
        counterfactuals[rows] = _points(problem, neighbours, rows, inside)
        return counterfactuals


def _walk(problem: Problem, neighbours: np.ndarray, rows: np.ndarray, grid: int) -> np.ndarray:
    """The first a of 1 / grid, 2 / grid, ..., 1 whose point is a counterfactual, for rows (k,): (k,) float64."""
    first = np.ones(len(rows))
    left = np.arange(len(rows))
    # The last point, the neighbour, is known to be a counterfactual.
    for part in range(1, grid):
        if len(left) == 0:
            break
        a = np.full(len(left), part / grid)
        is_met = problem.is_met(_points(problem, neighbours, rows[left], a), rows[left])
        first[left[is_met]] = part / grid
        left = left[~is_met]
    return first


def _points(problem: Problem, neighbours: np.ndarray, rows: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The points (k, *shape) float32 at the positions a (k,) in [0, 1] on the segments of the rows (k,)."""
    a = a.reshape(-1, *[1] * (problem.x.ndim - 1))
    # in float64, so that a = 1 gives the neighbour and common features are kept bit for bit
    points = ((1 - a) * problem.x[rows].astype(np.float64) + a * neighbours[rows]).astype(np.float32)
    return points if problem.region is None else problem.project(points, rows)
