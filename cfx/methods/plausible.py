"""The nearest plausible counterfactual: the least L1 such that the classifier and the guides predict the target class.

The problem, for a target class t, the classifier's margin m_0 and the margins m_1, ..., m_J of the guides, is

    minimise |x' - x|_1   subject to   m_j(x') >= kappa_j(t) for j = 0, ..., J,   low <= x' <= high

where kappa_0 is the logit of the required probability, as in `primal_dual`, and kappa_j(t) is the q-quantile of
the margin m_j over the training instances of class t, q being the plausibility (`cfx.guides`). The steps are those of
`primal_dual`, with the least slack min_j (m_j - kappa_j) instead of the margin, and with the gradient of
-log sum_j exp(kappa_j - m_j), a smooth minimum. Three rules restrict the change to features of the class:

- The anchors of an instance are the nearest training instances of the target class that meet all constraints. The box
  between the instance and them bounds each feature: low = min(x, anchors), high = max(x, anchors).
- The search starts with the nearest anchor as its best counterfactual, so that the result is never further away. With
  constraints, only if they allow the anchor.
- For images with channels, the gradient of a pixel is 0 if the absolute changes (their mean over the channels) of the
  3 x 3 pixels around it sum to less than the feature range, except in the first fifth of a cycle. So strokes change,
  and isolated pixels return to the instance.

For `other`, the three classes with the nearest anchors are searched, and the nearest result is returned.

Sources: Van Looveren and Klaise 2019, "Interpretable counterfactual explanations guided by prototypes"
(arXiv:1907.02584), and Poyiadzi et al. 2020, "FACE" (counterfactuals that are like the data); Augustin, Meinke and Hein
2020, "Adversarial robustness on in- and out-distribution improves explainability" (robust models give meaningful
changes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfx.backend import tf
from cfx.errors import InputError
from cfx.methods.primal_dual import PrimalDual, State
from cfx.neighbours import nearest
from cfx.point import Best, Point, Row, Starts, along

if TYPE_CHECKING:
    from cfx.guides import Guides
    from cfx.problem import Problem

# The maximum number of classes to search for `other`.
_CLASSES = 3
# The number of training instances, in addition to the anchors, that the classifier evaluates first, and the factor by
# which it increases if too few of them qualify.
_SPARE, _WIDER = 4, 8
# The side of the neighbourhood of a pixel, and the share of a cycle in which all pixels may change.
_WINDOW, _FREE = 3, 0.2


@dataclass(frozen=True, kw_only=True)
class Plausible(PrimalDual):
    """The least L1 such that the classifier and each guide are as confident as for real instances of the target class.

    `plausibility` controls the trade-off between near and plausible. The method needs guides and the training split,
    except with `plausibility=0`, where it is `PrimalDual` with the same `max_iter`. A point is a counterfactual only if
    the guides accept it as well. The column `plausible` states whether they accept the result, and the column `anchor`
    is the index of the training instance with which the search started. The rounding of the guides' dense layers
    depends on the batch size, so results may differ slightly between batches.

    Example, for a Keras classifier `model` and a `cfx.data.Dataset` of images in [-0.5, 0.5]:

        kinds = ("deep", "dense", "generative", "reconstructive")
        found = guide_training.train(dataset, kinds=kinds, epochs=3, steps=900, seed=2)
        split = dataset.x_train, dataset.y_train
        result = find_counterfactuals(model, x, Plausible(target_class=3), train=split, guides=found)
    """

    plausibility: float = 0.125
    """The quantile of the guides' margins over real instances of the class that a counterfactual must reach, 0 to 1. No
    guides are used with 0."""

    anchors: int = 2
    """The number of nearest real instances that span the box of the features, 1 or above: more give a lower L1 and a
    less certain class."""

    box: bool = True
    """Whether each feature stays between the instance and the anchors. This requires that a feature has the same
    meaning in all inputs, as in centred images and tables. With False, only the guides ensure plausibility."""

    max_iter: int = 24

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_number("plausibility", lambda value: 0 <= value <= 1, "in [0, 1]")
        self._check_whole_number("anchors", most=1_000)
        if not isinstance(self.box, bool):
            raise InputError(f"box must be true or false, got {self.box!r}")

    @property
    def guide_quantile(self) -> float:
        """The plausibility."""
        return self.plausibility

    def starts(self, problem: Problem) -> Starts:
        """One search for each target class with an anchor, at most three; one search if there is no anchor."""
        if problem.guides is None:
            return super().starts(problem)
        row, label, anchors = _anchors(problem, problem.guides, self)
        first = problem.x_train[anchors[:, 0]]
        of_row = problem.x[row]
        bounds = np.broadcast_arrays(problem.lower, problem.upper, problem.x)[:2]
        lower, upper = (bound[row] for bound in bounds)
        low, high = lower, upper
        if self.box:
            spanned = problem.x_train[anchors]
            low, high = np.minimum(of_row, spanned.min(axis=1)), np.maximum(of_row, spanned.max(axis=1))
        known = np.ones(len(row), bool)
        if problem.region is not None:
            low, high = np.clip(low, lower, upper), np.clip(high, lower, upper)
            known = (problem.project(first, row) == first).reshape(len(row), -1).all(axis=1)
            first = np.where(known.reshape(-1, *[1] * (first.ndim - 1)), first, of_row)
        target = label[:, None] == np.arange(problem.target.shape[1])
        found = Starts(row, target, low, high, first, known, np.where(known, anchors[:, 0], -1))
        return _completed(problem, found)

    @staticmethod
    def step(settings: Any, row: Row, state: State, point: Point, best: Best) -> State:
        """A step of `primal_dual`, for images without a gradient where only isolated pixels have changed."""
        if point.scores.guides.shape[1] and point.gradient.shape.rank == 4:
            share = tf.reduce_mean(tf.abs(state.change) / (settings.high - settings.low), axis=3, keepdims=True)
            around = _WINDOW**2 * tf.nn.avg_pool2d(share, _WINDOW, 1, "SAME")
            may_change = (around >= 1) | along(state.place.share <= _FREE, around)
            point = point._replace(gradient=tf.where(may_change, point.gradient, 0.0))
        return PrimalDual.step(settings, row, state, point, best)


def _anchors(problem: Problem, guides: Guides, method: Plausible) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The instances (k,) with an anchor, ascending, the classes (k,) of the anchors, and these (k, count) as indices.

    Each instance appears once for each of its target classes with an anchor, at most for the three nearest ones.
    """
    accepted = guides.accept_training(method.plausibility)
    rows, labels, anchors, distances = [], [], [], []
    for label in range(problem.target.shape[1]):
        of_label = np.flatnonzero(problem.target[:, label])
        allowed = np.flatnonzero(accepted & (guides.labels == label))
        if len(of_label) and len(allowed):
            row, found, distance = _nearest_met(problem, of_label, allowed, label, method.anchors)
            rows.append(row)
            labels.append(np.full(len(row), label))
            anchors.append(found)
            distances.append(distance)
    if not rows:
        return np.zeros(0, int), np.zeros(0, int), np.zeros((0, method.anchors), int)
    row, label_of, anchor, distance = map(np.concatenate, (rows, labels, anchors, distances))
    order = np.lexsort((distance, row))
    begins = np.searchsorted(row[order], row[order])
    order = order[np.arange(len(order)) - begins < _CLASSES]
    return row[order], label_of[order], anchor[order]


def _nearest_met(
    problem: Problem, rows: np.ndarray, allowed: np.ndarray, label: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest `count` of the allowed training instances (m,) that the classifier assigns to a class, for rows (k,).

    Returns the rows that have one, their training instances (n, count), where the last one is repeated if there are
    fewer, and the distance to the first (n,). The classifier only evaluates near instances.
    """
    x, x_train = problem.x[rows], problem.x_train[allowed]
    is_met = np.zeros(len(allowed), bool)
    is_known = ~problem.is_inside(x_train)
    reach = count + _SPARE
    while True:
        found, distance = nearest(x, x_train, problem.low, problem.high, reach)
        new = np.unique(found)
        new = new[~is_known[new]]
        f_label = problem.probabilities(x_train[new])[:, label]
        is_met[new] = np.abs(f_label - np.float32(problem.target_proba)) <= problem.tol
        is_known[new] = True
        enough = is_met[found].sum(axis=1) >= count
        if enough.all() or reach >= len(allowed):
            break
        reach *= _WIDER
    first = np.argsort(~is_met[found], axis=1, kind="stable")[:, :count]
    met = np.take_along_axis(is_met[found], first, axis=1)
    last = np.minimum(np.arange(count), met.sum(axis=1, keepdims=True) - 1)
    has_one = met.any(axis=1)
    chosen = np.take_along_axis(first, last, axis=1)[has_one]
    nearest_ones = np.take_along_axis(found[has_one], chosen, axis=1)
    return rows[has_one], allowed[nearest_ones], np.take_along_axis(distance[has_one], chosen[:, :1], axis=1)[:, 0]


def _completed(problem: Problem, found: Starts) -> Starts:
    """The starts in the order of the instances, with a start at the instance for those without an anchor."""
    n = len(problem.x)
    row = np.setdiff1d(np.arange(n), found.row)
    x, none = problem.x[row], np.zeros(len(row), bool)
    low, high = (bound[row] for bound in np.broadcast_arrays(problem.lower, problem.upper, problem.x)[:2])
    rest = Starts(row, problem.target[row], low, high, x, none, np.full(len(row), -1))
    order = np.argsort(np.concatenate([found.row, row]), kind="stable")
    return Starts(*(np.concatenate(both)[order] for both in zip(found, rest, strict=True)))
