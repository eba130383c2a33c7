"""Counterfactuals with discrete features, from those of a search that treats all features as continuous.

`moved_to_target` gives each discrete feature an allowed value: the nearest one, and where that loses the class, the
moves that gain the most by the gradient of the model are tried. `shortened` returns each changed feature as far
towards the instance as the class allows. Both evaluate the model in batches of rows, one move of every row at a time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cfx.method import StepMethod
from cfx.problem import Problem
from cfx.region import Region
from cfx.result import Outcome, distances, no_path
from cfx.rows import Rows
from cfx.scaling import Search

# The maximum number of moves of a row, and of moves that are evaluated before one is made.
_MOVES, _TRIED = 40, 8
# A long move of a feature, as a share of its range; a short one is a step of its grid.
_LONG = 0.1
# The maximum number of features of a row that are shortened, and the number of bisections of each.
_SHORTENED, _BISECTIONS = 64, 5


def allowed(
    outcome: Outcome,
    asked: Rows,
    problem: Problem,
    wanted: np.ndarray,
    weights: np.ndarray | None,
    search: Search,
) -> Outcome:
    """The outcome of a search, with inputs that the constraints allow for the rows `wanted` (k,).

    A step method searches twice more where there are discrete features: with those of the instance, and with those of
    the repaired result, so that the others are as near as they can be.
    """
    region = problem.region
    assert region is not None
    x = outcome.x.copy()
    if not region.is_discrete.any():
        x[wanted] = problem.project(x[wanted])
        return outcome._replace(x=x)
    found, is_met = moved_to_target(problem, region, x[wanted])
    scale = 1 if weights is None else weights
    cost = np.where(is_met, distances(found * scale, problem.x * scale)[0], np.inf)
    steps, seconds = outcome.iterations.copy(), outcome.runtime_s.copy()
    if isinstance(asked.method, StepMethod) and not region.is_discrete.all():
        for values in (found.copy(), problem.x):
            again = _search_others(asked, problem, region, wanted, values, search)
            other = problem.project(again.x[wanted])
            other_cost = np.where(problem.is_met(other), distances(other * scale, problem.x * scale)[0], np.inf)
            is_nearer = other_cost < cost
            found[is_nearer], cost = other[is_nearer], np.minimum(cost, other_cost)
            steps, seconds = steps + again.iterations, seconds + again.runtime_s
    x[wanted] = found
    rows = np.flatnonzero(np.isfinite(cost))
    if len(rows):
        x[wanted[rows]] = shortened(problem.take(rows), region.take(rows), found[rows], weights)
    # the points of the path may have other values of discrete features than they can have
    return outcome._replace(x=x, iterations=steps, runtime_s=seconds, path=no_path(x.shape[1:]))


def _search_others(
    asked: Rows, problem: Problem, region: Region, wanted: np.ndarray, values: np.ndarray, search: Search
) -> Outcome:
    """The outcome of a search in the continuous features, with the discrete ones of the values (k, *shape)."""
    discrete = region.is_discrete
    start = np.where(discrete, values.reshape(len(wanted), -1), region.x)
    frozen = region.frozen(start, np.broadcast_to(discrete, start.shape))
    x = asked.x.copy()
    x[wanted] = start.reshape(-1, *region.shape)
    silent = replace(asked, x=x, progress=lambda done, total: None)
    return search(silent, replace(problem, x=x[wanted], region=frozen, progress=silent.progress), wanted)


def moved_to_target(problem: Problem, region: Region, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Allowed inputs near x (n, *shape), and whether they are counterfactuals, (n,) bool."""
    x = problem.project(x)
    is_met = problem.is_met(x)
    open_rows = np.flatnonzero(~is_met)
    reached = _reached(problem, x[open_rows], open_rows)
    for _ in range(_MOVES):
        if not len(open_rows):
            break
        trials = _moves(problem, region, x[open_rows], open_rows)
        rows = np.repeat(open_rows, trials.shape[1])
        flat = problem.project(trials.reshape(-1, *problem.x.shape[1:]), rows)
        gained = _reached(problem, flat, rows).reshape(len(open_rows), -1)
        best = gained.argmax(axis=1)
        each = np.arange(len(open_rows))
        is_gain = gained[each, best] > reached
        chosen = flat.reshape(*trials.shape[:2], *problem.x.shape[1:])[each, best]
        x[open_rows[is_gain]] = chosen[is_gain]
        met_now = problem.is_met(x[open_rows], open_rows)
        is_met[open_rows] = met_now
        goes_on = is_gain & ~met_now
        open_rows, reached = open_rows[goes_on], gained[each, best][goes_on]
    return x, is_met


def shortened(problem: Problem, region: Region, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Counterfactuals x (n, *shape) with each change, the most expensive first, as small as the class allows."""
    flat, instance = x.reshape(len(x), -1).copy(), region.x
    unit = np.arange(flat.shape[1])
    for members in region.groups():
        unit[members] = members[0]
    cost = np.abs(flat - instance) * (1 if weights is None else weights.ravel())
    cost_of_unit = np.zeros_like(cost)
    np.add.at(cost_of_unit.T, unit, cost.T)
    order = np.argsort(-cost_of_unit, axis=1, kind="stable")[:, :_SHORTENED]
    for place in range(order.shape[1]):
        feature = order[:, place]
        rows = np.flatnonzero(cost_of_unit[np.arange(len(x)), feature] > 0)
        if not len(rows):
            break
        is_of_unit = unit == feature[rows, None]
        # the share of the change that is kept: none, then by bisection
        least, kept = np.zeros(len(rows)), np.ones(len(rows))
        share = least.copy()
        for _ in range(1 + _BISECTIONS):
            shorter = instance[rows] + share[:, None].astype(np.float32) * (flat[rows] - instance[rows])
            trial = problem.project(np.where(is_of_unit, shorter, flat[rows]).reshape(-1, *x.shape[1:]), rows)
            is_met = problem.is_met(trial, rows)
            kept, least = np.where(is_met, share, kept), np.where(is_met, least, share)
            share = (least + kept) / 2
        shorter = instance[rows] + kept[:, None].astype(np.float32) * (flat[rows] - instance[rows])
        ended = problem.project(np.where(is_of_unit, shorter, flat[rows]).reshape(-1, *x.shape[1:]), rows)
        is_met = problem.is_met(ended, rows) & (kept < 1)
        flat[rows[is_met]] = ended.reshape(len(rows), -1)[is_met]
    return flat.reshape(x.shape)


def _reached(problem: Problem, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How near f_t is to the required probability, (k,): the negative distance."""
    f_target = np.where(problem.target[rows], problem.probabilities(x), 0).max(axis=1)
    return -np.abs(f_target - np.float32(problem.target_proba))


def _moves(problem: Problem, region: Region, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The moves of one feature each that gain the most to first order, (k, _TRIED, features) inputs."""
    probabilities = problem.probabilities(x)
    of_targets = np.where(problem.target[rows], probabilities, 0)
    # the derivative of log f_t with respect to the logits, or of its negative if f_t is too high
    towards = np.eye(problem.target.shape[1], dtype=np.float32)[of_targets.argmax(axis=1)] - probabilities
    towards *= np.sign(problem.target_proba - of_targets.max(axis=1))[:, None]
    slope = problem.logits_and_gradient(x, towards.astype(np.float32))[1].reshape(len(x), -1)
    flat, lower, upper = x.reshape(len(x), -1), region.lower[rows], region.upper[rows]
    span = region.high - region.low
    way = np.sign(slope)
    of_group = region.group >= 0
    long = way * np.maximum(_LONG * span, region.step)
    deltas = [np.where(of_group, way * span, long)]
    if np.any(region.step > 0):
        deltas.append(np.where(region.step > 0, way * region.step, 0))
    moved = [np.clip(flat + delta, lower, upper) for delta in deltas]
    gain = np.concatenate([slope * (after - flat) for after in moved], axis=1)
    after = np.concatenate(moved, axis=1)
    best = np.argsort(-gain, axis=1, kind="stable")[:, :_TRIED]
    feature = best % flat.shape[1]
    trials = np.repeat(flat[:, None], best.shape[1], axis=1)
    each, place = np.mgrid[: len(flat), : best.shape[1]]
    trials[each, place, feature] = np.take_along_axis(after, best, axis=1)
    # a category that is switched on switches the others of its group off
    for members in region.groups():
        at, trial = np.nonzero(np.isin(feature, members) & (way[each, feature] > 0))
        trials[at[:, None], trial[:, None], members] = region.low[members]
        trials[at, trial, feature[at, trial]] = region.high[feature[at, trial]]
    return trials
