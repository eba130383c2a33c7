"""Counterfactuals guided by prototypes: gradient steps towards the nearest training instance of the target class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfx.errors import InputError
from cfx.method import ArrayMethod
from cfx.problem import Problem

# The factor by which c grows while no counterfactual is found.
_GROWTH = 10.0


@dataclass(frozen=True, kw_only=True)
class Prototype(ArrayMethod):
    """The nearest counterfactual on the path of FISTA from the instance towards a prototype.

    The objective, that of the paper without the autoencoder's term, for a change d, is

        minimise  c f(x + d) + beta |d|_1 + |d|_2^2 + theta |x + d - proto|_2^2
        f(x') = max_{i not in T} p_i(x') - max_{t in T} p_t(x')         while max_{t in T} p_t(x') < target_proba - tol

    with the target classes T and the Euclidean nearest training instance `proto` that the model assigns to one of them.
    With S_k the soft threshold of the change by a_k beta and the clipping to the range, and the rate
    a_k = learning_rate sqrt(1 - k / max_iter), a step k = 0, 1, ... of FISTA is

        d_{k+1} = S_k(y_k - a_k grad(y_k)),      y_{k+1} = d_{k+1} + k / (k + 3) (d_{k+1} - d_k)

    The first round has c = c_init. While no round has succeeded, c is multiplied by ten; afterwards it is the mean of
    the largest c that failed (0 if none has) and the smallest that succeeded. The result is the one of least L1 of all
    rounds. An instance for which none is found, or whose target classes have no training instance in the feature range,
    is returned unchanged. Distances are in units of the input. The search only raises f_t, so it may miss a
    `target_proba` below the probability where it starts.

    Source: after Van Looveren and Klaise 2019, "Interpretable counterfactual explanations guided by prototypes",
    arXiv:1907.02584; FISTA: Beck and Teboulle 2009. The authors' implementation also has an autoencoder's term, an
    encoder for the prototypes, and the soft threshold beta in place of a_k beta.

    Example, for a Keras classifier `model` and float32 images x (n, 28, 28, 1) in [-0.5, 0.5]:

        result = find_counterfactuals(model, x, Prototype(target_class=3), train=(x_train, y_train))
    """

    max_iter: int = 200
    """The number of steps per round, each at most two calls of the model and one of its gradient; 1 to 100,000."""

    rounds: int = 4
    """The number of values of c, 1 to 50."""

    learning_rate: float = 0.01
    """The rate of the first step, above 0."""

    beta: float = 0.1
    """The weight of the L1 distance, 0 or above."""

    theta: float = 1.0
    """The weight of the squared distance from the prototype, 0 or above."""

    c_init: float = 10.0
    """The first weight of the prediction, above 0."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("max_iter", most=100_000)
        self._check_whole_number("rounds", most=50)
        self._check_number("learning_rate", lambda value: value > 0, "> 0")
        self._check_number("beta", lambda value: value >= 0, ">= 0")
        self._check_number("theta", lambda value: value >= 0, ">= 0")
        self._check_number("c_init", lambda value: value > 0, "> 0")

    def search(self, problem: Problem) -> np.ndarray:
        """Counterfactuals (n, *shape) float32; the instance itself if none is found.

        Raises:
            InputError: the problem has no training instances.
        """
        prototypes = _prototypes(problem)
        has_one = np.isfinite(prototypes).all(axis=tuple(range(1, prototypes.ndim)))
        counterfactuals = problem.x.copy()
        if has_one.any():
            rows = np.flatnonzero(has_one)
            counterfactuals[rows] = self._nearest(problem.take(rows), prototypes[rows])
        return counterfactuals

    def _nearest(self, problem: Problem, prototypes: np.ndarray) -> np.ndarray:
        """The result of all rounds."""
        n = len(problem.x)
        best, best_l1 = problem.x.copy(), np.full(n, np.inf)
        c, failed, worked = np.full(n, self.c_init), np.zeros(n), np.full(n, np.inf)
        for number in range(self.rounds):
            found, l1 = self._round(problem, prototypes, c.astype(np.float32), number)
            nearer = l1 < best_l1
            best[nearer], best_l1[nearer] = found[nearer], l1[nearer]
            is_found = np.isfinite(l1)
            worked, failed = np.where(is_found, c, worked), np.where(is_found, failed, c)
            c = np.where(np.isfinite(worked), (failed + worked) / 2, c * _GROWTH)
        return best

    def _round(
        self, problem: Problem, prototypes: np.ndarray, c: np.ndarray, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The counterfactual of least L1 of each row with the weights c (n,), and its distance, infinite if none."""
        x, n = problem.x, len(problem.x)
        best, best_l1 = x.copy(), np.full(n, np.inf)
        change, ahead = np.zeros_like(x), np.zeros_like(x)
        for step in range(self.max_iter):
            at = np.clip(x + ahead, problem.lower, problem.upper)
            weights = c[:, None] * self._weights(problem, problem.probabilities(at))
            prediction = problem.logits_and_gradient(at, weights)[1]
            gradient = prediction + 2 * ahead + 2 * self.theta * (at - prototypes)
            rate = np.float32(self.learning_rate * np.sqrt(1 - step / self.max_iter))
            moved = ahead - rate * gradient
            moved = np.sign(moved) * np.maximum(np.abs(moved) - rate * np.float32(self.beta), 0)
            moved = np.clip(x + moved, problem.lower, problem.upper) - x
            ahead = moved + np.float32(step / (step + 3)) * (moved - change)
            ahead = np.clip(x + ahead, problem.lower, problem.upper) - x
            change = moved
            points = np.clip(x + change, problem.lower, problem.upper)
            l1 = np.abs(points - x).reshape(n, -1).sum(axis=1)
            nearer = np.flatnonzero(l1 < best_l1)
            nearer = nearer[problem.is_met(points[nearer], nearer)]
            best[nearer], best_l1[nearer] = points[nearer], l1[nearer]
            problem.progress(int(n * (number + (step + 1) / self.max_iter) / self.rounds), n)
        return best, best_l1

    def _weights(self, problem: Problem, p: np.ndarray) -> np.ndarray:
        """The derivative (n, classes) of f with respect to the logits, at the probabilities p (n, classes)."""
        each = np.arange(len(p))
        other = np.where(problem.target, -1, p).argmax(axis=1)
        target = np.where(problem.target, p, -1).argmax(axis=1)
        is_open = p[each, target] < self.target_proba - self.tol
        derivative = np.zeros_like(p)
        for label, sign in ((other, 1), (target, -1)):
            p_label = p[each, label][:, None]
            derivative -= sign * p_label * p
            derivative[each, label] += sign * p_label[:, 0]
        return derivative * is_open[:, None]


def _prototypes(problem: Problem) -> np.ndarray:
    """The Euclidean nearest training instance (n, *shape) that the model assigns to a target class; NaN if none."""
    # imported here, because it takes a third of a second, which checking a configuration does not need
    from sklearn.neighbors import NearestNeighbors

    if len(problem.x_train) == 0:
        raise InputError("train has no instances: give train=(x_train, y_train)")
    labels = problem.probabilities(problem.x_train).argmax(axis=1)
    inside = problem.is_inside(problem.x_train)
    found = np.full_like(problem.x, np.nan)
    distinct, group = np.unique(problem.target, axis=0, return_inverse=True)
    for number, target in enumerate(distinct):
        allowed, rows = np.flatnonzero(target[labels] & inside), np.flatnonzero(group.ravel() == number)
        if len(allowed):
            neighbours = NearestNeighbors(n_neighbors=1).fit(problem.x_train[allowed].reshape(len(allowed), -1))
            nearest = neighbours.kneighbors(problem.x[rows].reshape(len(rows), -1), return_distance=False)[:, 0]
            found[rows] = problem.x_train[allowed[nearest]]
    return found
