"""A search in units of the cost: where a change of each feature by one unit costs 1, L1 is the weighted distance.

So methods need not know about weights. An input x is x w in these units, with the weights w of the features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from cfx.classifier import Classifier
from cfx.problem import Problem
from cfx.result import Outcome, distances
from cfx.rows import Rows

Search = Callable[[Rows, Problem, np.ndarray], Outcome]
"""A search for the rows with some indices (k,), which are the instances of the problem."""


class ScaledClassifier(Classifier):
    """A classifier of inputs in units of the cost."""

    def __init__(self, classifier: Classifier, weights: np.ndarray) -> None:
        """weights: (*shape) float32."""
        self.classifier, self.weights, self.classes = classifier, weights, classifier.classes

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """As `Classifier.logits`."""
        return self.classifier.logits(x / self.weights)

    def batched_probabilities(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        """As `Classifier.batched_probabilities`."""
        return self.classifier.batched_probabilities(x / self.weights, batch_size)

    def logits_and_gradient(self, x: np.ndarray, weights: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Classifier.logits_and_gradient`."""
        logits, gradient = self.classifier.logits_and_gradient(x / self.weights, weights, batch_size)
        return logits, gradient / self.weights


def in_units_of_cost(search: Search, weights: np.ndarray) -> Search:
    """The same search, done in units of the cost."""

    def scaled(asked: Rows, problem: Problem, wanted: np.ndarray) -> Outcome:
        inside = scaled_rows(asked, weights)
        return _in_units_of_x(search(inside, _scaled_problem(problem, weights), wanted), inside, asked, weights)

    return scaled


def scaled_rows(asked: Rows, weights: np.ndarray) -> Rows:
    """The arguments of a search in units of the cost."""
    low, high = (np.asarray(bound, np.float32) * weights for bound in asked.method.feature_range)
    return replace(asked, x=asked.x * weights, method=replace(asked.method, feature_range=(low, high)))


def _scaled_problem(problem: Problem, weights: np.ndarray) -> Problem:
    """A problem in units of the cost."""

    def logits_and_gradient(x: np.ndarray, of_logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, gradient = problem.logits_and_gradient(x / weights, of_logits)
        return logits, gradient / weights

    return replace(
        problem,
        x=problem.x * weights,
        low=problem.low * weights,
        high=problem.high * weights,
        x_train=problem.x_train * weights,
        region=problem.region and problem.region.scaled(weights),
        probabilities=lambda x: problem.probabilities(x / weights),
        logits_and_gradient=logits_and_gradient,
        # a library that calls it would give it inputs in other units
        model=None,
    )


def _in_units_of_x(outcome: Outcome, scaled: Rows, asked: Rows, weights: np.ndarray) -> Outcome:
    """The outcome of a search in units of the cost, in units of x; unchanged features are those of the instance."""

    def back(x: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        return np.where(x == scaled.x[rows], asked.x[rows], x / weights)

    path = outcome.path
    points = back(path.x, path.row)
    path = replace(path, x=points, l1=distances(points, asked.x[path.row])[0])
    return outcome._replace(x=back(outcome.x, slice(None)), path=path)
