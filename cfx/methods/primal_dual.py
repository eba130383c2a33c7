"""The search for the least L1 by proximal steps on a linearised margin, with the multiplier of the constraint.

The problem, for a target class t with logits z, is

    minimise |x' - x|_1   subject to   m(x') >= kappa,  low <= x' <= high,       m = z_t - log sum_{c != t} exp z_c

since m = logit(f_t), with kappa = logit(target_proba - 0.99 tol). Where at the instance m is above the other edge, at
logit(target_proba + 0.99 tol), -m takes the place of m, and the negative of that edge the place of kappa. A step
k = 1, 2, ..., with g_k the gradient of the margin at x_k, is that of `cfx.proximal` from the current change, with

    slope   g = sum_j 0.6^(k-j) g_j / sum_j 0.6^(k-j)                           over the steps j <= k of the cycle
    reach   r = rate (1 - 79/80 share) (high - low) / sqrt(mean_j g_j^2)        over the steps j <= k of the search
    missing     kappa - m + surplus

and the lam at which the linear margin just meets the constraint replaces a loop over lambda; the first is
lam_init max |g|. The initial rate is `learning_rate`, and the share goes from 0 at the first step of a cycle to 1 at
its last. Sources: Lewis and Wright 2016, "A proximal method for composite minimization" (the linear constraint);
Daubechies, Defrise and De Mol 2004 (the threshold); Duchi, Hazan and Singer 2011, "Adaptive subgradient methods" (the
reach).

The margin of a network has many local optima. The schedule of `cfx.cycles` leads to better ones without additional cost
per step: g_k is taken at x_k plus decaying noise; each cycle starts at the nearest counterfactual so far, with t the
most probable class there; and for `other`, short cycles from the instance first determine the nearest class. Until a
counterfactual is found, t is the most probable target class at the instance, and a cycle continues where the previous
one ended.

Two rules help a cycle that neither started at a counterfactual nor has found one so far at a step without noise.
At a step without noise the surplus becomes max(0, surplus + (kappa - m) / 4); at every other step, and in every other
cycle, it is 0. After a step with lam < max |g| / 50, the target is out of reach, and the rate increases by half, up to
0.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cfx import cycles, proximal
from cfx.backend import tf
from cfx.method import StepMethod
from cfx.point import Best, Point, Row, Scores, along, guide_slack, likeliest, margin

# The rate of the last step of a cycle relative to the first one.
_LAST_RATE = 1 / 80
# The decay of the mean gradient per step.
_DECAY = 0.6
# The target is out of reach if lam is below this share of the steepest slope; the factor and the limit of the rate.
_OUT_OF_REACH, _GROWTH, _HIGHEST_RATE = 0.02, 1.5, 0.8
# Avoids a division by zero for a feature without a gradient. As a summand, it also prevents TensorFlow from using a
# reciprocal root, whose rounding depends on the position in the array.
_FLOOR = 1e-10


@dataclass(frozen=True, kw_only=True)
class PrimalDual(StepMethod):
    """The least L1 subject to |f_t(x') - target_proba| <= tol, by proximal steps on a linearised margin.

    The weight of the L1 distance follows from the constraint in every step, so there is no loop over lambda: see
    `cfx.methods.primal_dual`. Features with little effect keep the value of the instance exactly.
    """

    max_iter: int = 80
    """The number of steps per row, 1 to 100,000. More steps give a lower L1: 20 is fast, 80 good, 400 thorough. For
    `other` with ten classes, nearly twice as many additional steps determine the nearest class."""

    lam_init: float | Sequence[float] = 0.3
    """The initial weight of the L1 distance as a share of the steepest slope of the margin at the instance, above 0:
    initially, only features with a steeper slope change."""

    learning_rate: float | Sequence[float] = 0.8
    """The maximum change of a feature in the first step of a cycle, as a share of its range, above 0. It decreases
    linearly to an eightieth, and increases if the target class is out of reach."""

    @staticmethod
    def path_length(settings: Any) -> Any:
        """The number of cycles per row after the comparison of classes."""
        return cycles.count(settings)

    @staticmethod
    def start(settings: Any, row: Row) -> State:
        """The instance, in the phase that depends on the number of target classes."""
        zero, none = tf.zeros_like(row.index), tf.zeros_like(row.lam_init)
        candidates = tf.repeat(zero[:, None], cycles.candidates(row), axis=1)
        return State(
            x=row.x,
            lam=none,
            lam_step=zero,
            done=zero > 0,
            change=tf.zeros_like(row.x),
            slope=Slope(tf.zeros_like(row.x), tf.zeros_like(row.x), none, none),
            factor=none + 2,
            rate=row.learning_rate,
            surplus=none,
            side=none,
            aim=zero,
            nearest=zero,
            candidates=candidates,
            candidates_l1=tf.fill(tf.shape(candidates), np.float32(np.inf)),
            place=cycles.first_place(settings, row),
            noise=none,
            met=zero > 0,
        )

    @staticmethod
    def loss(settings: Any, row: Row, state: State, scores: Scores) -> tf.Tensor:
        """The slack of the current class, (n,) float64; with several constraints, a smooth minimum."""
        slack = _aim(settings, row, state, scores)[2]
        return slack[:, 0] if slack.shape[1] == 1 else -tf.reduce_logsumexp(-slack, axis=1)

    @staticmethod
    def step(settings: Any, row: Row, state: State, point: Point, best: Best) -> State:
        """One proximal step; rows that have finished a cycle start the next."""
        aim, side, slack = _aim(settings, row, state, point.scores)
        met = state.met | (point.hit & (state.noise == 0))
        sums = _added(state.slope, point.gradient)
        change, lam, factor, rate, surplus = _proximal_step(settings, row, state, sums, met, slack)
        place = cycles.next_place(settings, row, state.place)
        nearest, candidates, candidates_l1 = _ranked(row, state, point, best, aim, place)

        begins, compares = place.share == 0, place.phase < cycles.REFINE
        from_best = begins & ~compares & tf.math.is_finite(best.l1)
        change, gradient = _begun(row, best, change, sums.gradient, begins, compares, from_best)
        candidate = tf.gather(candidates, tf.where(compares, place.cycle, 0), axis=1, batch_dims=1)
        noise = cycles.noise(place)
        return State(
            x=cycles.noisy(settings, row, place, row.x + change, noise),
            lam=lam,
            lam_step=tf.where(compares | (noise > 0), -1, place.cycle),
            done=state.done | (place.number >= settings.max_iter),
            change=change,
            slope=sums._replace(gradient=gradient, gradient_weight=tf.where(begins, 0.0, sums.gradient_weight)),
            factor=factor,
            rate=rate,
            surplus=surplus,
            side=side,
            aim=tf.where(begins, tf.where(compares, candidate, nearest), aim),
            nearest=nearest,
            candidates=candidates,
            candidates_l1=candidates_l1,
            place=place,
            noise=noise,
            met=tf.where(begins, from_best, met),
        )


class Slope(NamedTuple):
    """Sums of the margin's gradients; divided by the sum of their weights, they are means."""

    gradient: tf.Tensor
    """(n, *shape), the discounted sum in the cycle, in units of the margin per unit of the input."""
    square: tf.Tensor
    """(n, *shape), the sum of all squares."""
    gradient_weight: tf.Tensor
    """(n,), the sum of the weights of the discounted sum."""
    square_weight: tf.Tensor
    """(n,), the number of squares, 0 before the first step of the search."""


class State(NamedTuple):
    """The state of n rows."""

    x: tf.Tensor
    """(n, *shape) float32, in units of the input: the instance plus `change` plus noise."""
    lam: tf.Tensor
    """(n,) float32, the weight of the L1 distance, in units of a slope."""
    lam_step: tf.Tensor
    """(n,) int32, the cycle, or -1 during the comparison of classes or with noise."""
    done: tf.Tensor
    """(n,) bool."""
    change: tf.Tensor
    """(n, *shape) float32, of the instance, without the noise."""
    slope: Slope
    factor: tf.Tensor
    """(n,) float32, above 1: the range around lam in which the next one is searched."""
    rate: tf.Tensor
    """(n,) float32, the reach of the first step of a cycle, as a share of the feature range."""
    surplus: tf.Tensor
    """(n,) float32, the additional increase of the linear margin."""
    side: tf.Tensor
    """(n,) float32, 1 if the margin must increase, -1 if it must decrease; 0 before the first step."""
    aim: tf.Tensor
    """(n,) int32, the current class."""
    nearest: tf.Tensor
    """(n,) int32, the class of the nearest counterfactual so far."""
    candidates: tf.Tensor
    """(n, count) int32, the classes to compare, in order."""
    candidates_l1: tf.Tensor
    """(n, count) float32, the least L1 found for each; infinite if none was found."""
    place: cycles.Place
    noise: tf.Tensor
    """(n,) float32, the standard deviation of the noise in x, as a share of the feature range."""
    met: tf.Tensor
    """(n,) bool, whether the cycle started at a counterfactual or has found one without noise."""


def _has_not_stepped(state: State) -> tf.Tensor:
    return state.slope.square_weight == 0


def _aim(settings: Any, row: Row, state: State, scores: Scores) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The current class; 1 if its margin must increase, -1 if it must decrease; and the slack of each constraint.

    The slack (n, 1 + guides) float64 is the margin minus its threshold, of the classifier and of each guide.
    """
    is_first = _has_not_stepped(state)
    aim = tf.where(is_first, likeliest(row.target, scores.logits), state.aim)
    of_classifier = margin(scores.logits, aim)
    low, high = proximal.window(settings)
    side = tf.where(is_first, tf.where(of_classifier > high, -1.0, 1.0), state.side)
    slack = (tf.cast(side, tf.float64) * of_classifier - tf.where(side > 0, low, -high))[:, None]
    if scores.guides.shape[1]:
        slack = tf.concat([slack, guide_slack(settings, scores, aim)], axis=1)
    return aim, side, slack


def _added(sums: Slope, gradient: tf.Tensor) -> Slope:
    return Slope(
        gradient=_DECAY * sums.gradient + gradient,
        square=sums.square + tf.square(gradient),
        gradient_weight=_DECAY * sums.gradient_weight + 1,
        square_weight=sums.square_weight + 1,
    )


def _proximal_step(
    settings: Any, row: Row, state: State, sums: Slope, met: tf.Tensor, slack: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The next change, lam, factor, rate and surplus."""
    missing = tf.cast(-tf.reduce_min(slack, axis=1), tf.float32)
    # The linear margin overestimates the increase, so a row without a counterfactual requires more and more of it.
    surplus = tf.where((state.noise == 0) & ~met, tf.maximum(state.surplus + missing / 4, 0), 0.0)

    slope = sums.gradient / along(sums.gradient_weight, sums.gradient)
    steepest = proximal.steepest(slope)
    rate = state.rate * (1 - (1 - _LAST_RATE) * state.place.share) * tf.sqrt(sums.square_weight)
    reach = along(rate, sums.square) * (settings.high - settings.low) / (tf.sqrt(sums.square) + _FLOOR)
    lam = tf.where(_has_not_stepped(state), row.lam_init * steepest, state.lam)
    bounds = row.low, row.high
    change, lam, factor = proximal.step(
        row.x, state.change, slope, steepest, reach, missing + surplus, lam, state.factor, bounds
    )
    is_out_of_reach = ~met & (lam < _OUT_OF_REACH * steepest)
    grown = tf.maximum(state.rate, tf.minimum(state.rate * _GROWTH, _HIGHEST_RATE))
    return change, lam, factor, tf.where(is_out_of_reach, grown, state.rate), surplus


def _ranked(
    row: Row, state: State, point: Point, best: Best, aim: tf.Tensor, place: cycles.Place
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The class of the nearest counterfactual so far, and the candidates with the least L1 found for each."""
    is_nearest = _has_not_stepped(state) | (point.hit & (point.l1 <= best.l1))
    nearest = tf.where(is_nearest, likeliest(row.target, point.scores.logits), state.nearest)
    candidates, candidates_l1 = tf.cond(
        tf.reduce_any(state.place.phase < cycles.REFINE),
        lambda: _compared(row, state, point, aim, place),
        lambda: (state.candidates, state.candidates_l1),
    )
    return nearest, candidates, candidates_l1


def _compared(row: Row, state: State, point: Point, aim: tf.Tensor, place: cycles.Place) -> tuple[tf.Tensor, tf.Tensor]:
    """The candidates, (n, count), and the least L1 found for each; after the comparison, the best first."""
    count = state.candidates.shape[1]
    ranked = tf.math.top_k(tf.where(row.target, point.scores.logits, -np.inf), count).indices
    candidates = tf.where(_has_not_stepped(state)[:, None], ranked, state.candidates)
    l1 = tf.where(point.hit, point.l1, np.inf)[:, None]
    l1 = tf.where(candidates == aim[:, None], tf.minimum(state.candidates_l1, l1), state.candidates_l1)
    is_over = ((state.place.phase == cycles.COMPARE_ALL) & (place.phase == cycles.COMPARE_BEST))[:, None]
    order = tf.where(is_over, tf.argsort(l1, axis=1, stable=True), tf.range(count))
    return tf.gather(candidates, order, batch_dims=1), tf.gather(l1, order, batch_dims=1)


def _begun(
    row: Row,
    best: Best,
    change: tf.Tensor,
    gradient: tf.Tensor,
    begins: tf.Tensor,
    compares: tf.Tensor,
    from_best: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The start of a cycle: the change of the best so far, or none during the comparison, and no mean gradient."""

    def begun() -> tuple[tf.Tensor, tf.Tensor]:
        anew = tf.where(along(begins & compares, change), 0.0, change)
        return tf.where(along(from_best, change), best.x - row.x, anew), tf.where(
            along(begins, gradient), 0.0, gradient
        )

    return tf.cond(tf.reduce_any(begins), begun, lambda: (change, gradient))
