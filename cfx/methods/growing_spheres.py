"""Growing spheres: random samples around the instance, in a layer that grows until it contains a counterfactual.

It uses only the probabilities of the model, so it also works for models without gradients, such as random forests.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from cfx.method import ArrayMethod
from cfx.problem import Problem

# The minimum radius of a ball as a share of the range's diagonal; smaller differences vanish in float32.
_LEAST_RADIUS = 1e-6


@dataclass(frozen=True, kw_only=True)
class GrowingSpheres(ArrayMethod):
    """The nearest counterfactual among uniform samples in spherical layers, with as few changed features as possible.

    Distances are Euclidean with each feature in units of its range, so the range's diagonal is sqrt(features) long.
    SL(r, s) is the layer of the points whose distance from the instance x is in [r, s], drawn from uniformly:

        r = first_radius * sqrt(features)
        while SL(0, r) contains a counterfactual:       r = r / 2
        s = 2 r
        while SL(r, s) contains no counterfactual:      r, s = s, s + growth * (s - r)
        e = the nearest counterfactual sampled
        for each feature, in order of |e - x|:          reset it to x; stop when e no longer is a counterfactual

    Samples outside the range are clipped to it. The search ends at the farthest corner of the range, or at the nearest
    counterfactual in the shrinking balls. If there is none, the instance is returned unchanged.

    The samples of a row depend only on `seed`, the instance and its target classes, and the model is called for one row
    at a time, so the result of a row does not depend on the other rows.

    Source: Laugel, Lesot, Marsala, Renard and Detyniecki 2018, "Comparison-based inverse classification for
    interpretability in machine learning", algorithms 1 and 2.

    Example, for a scikit-learn random forest `forest`, a table x (n, features) in [0, 1], and f_t >= 0.5:

        method = GrowingSpheres(tol=0.5, feature_range=(0, 1))
        result = find_counterfactuals(forest.predict_proba, x, method)
    """

    draws: int = 500
    """The number of samples per layer, 1 to 100,000. More samples give a lower distance and take more time."""

    first_radius: float = 0.1
    """The radius of the first ball as a share of the diagonal of the range, in (0, 1]."""

    growth: float = 1.0
    """The width of a layer relative to the previous one, 1 to 10. With 1, as published, there are at most
    1 / first_radius layers; a larger value saves layers if `first_radius` is small."""

    seed: int = 0
    """The random seed of the samples, 0 or above."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("draws", most=100_000)
        self._check_number("first_radius", lambda value: 0 < value <= 1, "in (0, 1]")
        self._check_number("growth", lambda value: 1 <= value <= 10, "in [1, 10]")
        self._check_whole_number("seed", least=0)

    def search(self, problem: Problem) -> np.ndarray:
        """Counterfactuals (n, *shape) float32; the instance itself if none is found."""
        counterfactuals = problem.x.copy()
        for row in range(len(problem.x)):
            around = _Around(problem, row, self.draws)
            nearest = self._generate(around)
            if nearest is not None:
                counterfactuals[row] = _reset_features(around, nearest).reshape(problem.x.shape[1:])
            problem.progress(row + 1, len(problem.x))
        return counterfactuals

    def _generate(self, around: _Around) -> np.ndarray | None:
        """The nearest counterfactual sampled around an instance, (features,), or None (algorithm 1)."""
        radius = self.first_radius * around.diagonal
        distance, nearest = closer = around.draw(0, radius)
        while closer[1] is not None and radius > _LEAST_RADIUS * around.diagonal:
            radius /= 2
            closer = around.draw(0, radius)
            if closer[0] < distance:
                distance, nearest = closer
        inner, width = radius, radius
        while inner < min(distance, around.reach):
            closer = around.draw(inner, inner + width)
            if closer[1] is not None:
                return closer[1] if closer[0] < distance else nearest
            inner, width = inner + width, self.growth * width
        return nearest


class _Around:
    """The neighbourhood of one instance: its features (d,), their range, and the random samples."""

    def __init__(self, problem: Problem, row: int, draws: int) -> None:
        self.problem, self.row, self.draws = problem, row, draws
        self.x = problem.x[row].ravel()
        shape = problem.x.shape[1:]
        self.low, self.high = (
            np.broadcast_to(np.asarray(bound, np.float32), shape).ravel() for bound in (problem.low, problem.high)
        )
        self.span = self.high.astype(np.float64) - self.low
        self.diagonal = np.sqrt(len(self.x))
        # the distance of the farthest corner
        self.reach = self.distance(np.where(self.high - self.x > self.x - self.low, self.high, self.low))
        digest = sha256(self.x.astype("<f4").tobytes() + problem.target[row].astype(bool).tobytes()).digest()
        self.random = np.random.default_rng([problem.seed, *np.frombuffer(digest, "<u4").tolist()])

    def distance(self, points: np.ndarray) -> np.ndarray:
        """The distance (...,) of points (..., d) from the instance, each feature in units of its range."""
        return np.sqrt(np.square((points.astype(np.float64) - self.x) / self.span).sum(axis=-1))

    def is_met(self, points: np.ndarray) -> np.ndarray:
        """Which of the points (k, d) are counterfactuals, (k,) bool."""
        return self.problem.is_met(points.reshape(-1, *self.problem.x.shape[1:]), np.full(len(points), self.row))

    def draw(self, inner: float, outer: float) -> tuple[float, np.ndarray | None]:
        """The distance and the point (d,) of the nearest counterfactual in a layer; infinity and None if none."""
        points = self.layer(inner, outer)
        points = points[self.is_met(points)]
        if len(points) == 0:
            return np.inf, None
        distances = self.distance(points)
        return float(distances.min()), points[distances.argmin()]

    def layer(self, inner: float, outer: float) -> np.ndarray:
        """Uniform samples (draws, d) float32 between two radii, clipped to the range."""
        d = len(self.x)
        direction = self.random.standard_normal((self.draws, d))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        # volume grows as radius^d; as shares of the outer radius, its powers stay finite for any d
        hollow = (inner / outer) ** d
        radius = outer * (hollow + (1 - hollow) * self.random.random((self.draws, 1))) ** (1 / d)
        points = (self.x + radius * direction * self.span).astype(np.float32)
        return self.project(points)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (k, d) inside the range, moved to the values that the constraints allow."""
        shaped = points.reshape(-1, *self.problem.x.shape[1:])
        return self.problem.project(shaped, np.full(len(points), self.row)).reshape(points.shape)


def _reset_features(around: _Around, found: np.ndarray) -> np.ndarray:
    """Reset the features of a counterfactual (d,), smallest change first, while it remains one (algorithm 2)."""
    change = np.abs(found.astype(np.float64) - around.x) / around.span
    rank = np.empty(len(change), int)
    rank[np.argsort(change, kind="stable")] = np.arange(len(change))
    fewest = found
    unchanged = np.count_nonzero(change == 0)
    # The model evaluates `draws` stages at once; the first that is not a counterfactual ends the loop.
    for start in range(unchanged + 1, len(change), around.draws):
        undone = np.arange(start, min(start + around.draws, len(change)))
        stages = around.project(np.where(rank < undone[:, None], around.x, found))
        is_met = around.is_met(stages)
        kept = len(stages) if is_met.all() else int(is_met.argmin())
        if kept:
            fewest = stages[kept - 1]
        if kept < len(stages):
            break
    return fewest
