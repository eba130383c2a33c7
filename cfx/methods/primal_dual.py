"""The search of least L1: proximal steps on a linearised margin, with the multiplier that the constraint asks for.

The problem, for a target class t with logits z, is

    minimise |x' - x|_1   subject to   m(x') >= kappa,  low <= x' <= high,       m = z_t - log sum_{c != t} exp z_c

since m = logit(f_t), with kappa = logit(target_proba - 0.99 tol). Where at the instance m is above the other edge, at
logit(target_proba + 0.99 tol), -m takes the place of m, and the negative of that edge the place of kappa. A step
k = 1, 2, ..., with g_k the gradient of the margin where the row stands, is that of `cfx.proximal` from the change so
far, with

    slope   g = sum_j 0.6^(k-j) g_j / sum_j 0.6^(k-j)                           over the steps j <= k of the cycle
    reach   r = rate (1 - 79/80 share) (high - low) / sqrt(mean_j g_j^2)        over the steps j <= k of the search
    missing     kappa - m + surplus

and the lam at which the linear margin just meets the constraint takes the place of a loop over lambda; the first is
lam_init max |g|. The rate is at first `learning_rate`, and the share goes from 0 at the first step of a cycle to 1 at
its last. Sources: Lewis and Wright 2016, "A proximal method for composite minimization" (the linear constraint);
Daubechies, Defrise and De Mol 2004 (the threshold); Duchi, Hazan and Singer 2011, "Adaptive subgradient methods" (the
reach).

A network's margin has many local optima, and the plan of `cfx.cycles` leads to better ones at no cost a step: g_k is
first taken at x_k plus noise that dies away; steps come in cycles that each begin at the nearest counterfactual so far,
with t the class that is likeliest there; and for `other` short cycles from the instance first find out which class is
nearest. As long as none was met, t is the likeliest target class at the instance, and a cycle goes on where the last
one ended.

Two rules help a cycle that neither began at a counterfactual nor has met one, up to this step, at a step without noise.
At a step without noise the surplus becomes max(0, surplus + (kappa - m) / 4); at every other step, and in every other
cycle, it is 0. After a step with lam < max |g| / 50 the target is out of reach, and the rate grows by half, up to 0.8.
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

# How much the last step of a cycle moves, as a share of the first one.
_LAST_RATE = 1 / 80
# How much of the mean gradient stays from one step to the next.
_DECAY = 0.6
# A lam below this share of the steepest slope says that the target is out of reach: the rate then grows, up to this.
_OUT_OF_REACH, _GROWTH, _HIGHEST_RATE = 0.02, 1.5, 0.8
# Keeps the division by the root defined for a feature without a gradient. Being added to it, it also keeps TensorFlow
# from making the two a reciprocal root, which rounds otherwise at the end of an array than within it.
_FLOOR = 1e-10


@dataclass(frozen=True, kw_only=True)
class PrimalDual(StepMethod):
    """The least L1 subject to |f_t(x') - target_proba| <= tol, by proximal steps on a linearised margin.

    The weight of the L1 distance follows the constraint from step to step, so there is no loop over lambda: see
    `cfx.methods.primal_dual`. Features that are not worth their change keep the instance's value exactly.
    """

    max_iter: int = 80
    """The steps of a row towards its target class, 1 to 100,000. More give a lower L1: 20 is fast, 80 good, 400
    thorough. For `other` of ten classes, nearly twice as many go before, to find out which is the nearest."""

    lam_init: float | Sequence[float] = 0.3
    """The first weight of the L1 distance against the margin, as a share of the margin's steepest slope at the
    instance, above 0: only features of a steeper slope than this share change at first."""

    learning_rate: float | Sequence[float] = 0.8
    """The most that a feature changes in the first step of a cycle, as a share of its range, above 0. It falls linearly
    to an eightieth, and grows where the target class is out of reach of such steps."""

    @staticmethod
    def path_length(settings: Any) -> Any:
        """How many cycles a row goes through after the comparison of classes."""
        return cycles.count(settings)

    @staticmethod
    def start(settings: Any, row: Row) -> State:
        """At the instance, in the phase that the number of target classes calls for."""
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
        """The slack of the class aimed at, (n,) float64; of several constraints, a smooth minimum."""
        slack = _aim(settings, row, state, scores)[2]
        return slack[:, 0] if slack.shape[1] == 1 else -tf.reduce_logsumexp(-slack, axis=1)

    @staticmethod
    def step(settings: Any, row: Row, state: State, point: Point, best: Best) -> State:
        """One proximal step; rows that are through with a cycle begin the next."""
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
    """(n, *shape) of those of the cycle, discounted, in units of the margin per unit of the input."""
    square: tf.Tensor
    """(n, *shape) of the squares of all."""
    gradient_weight: tf.Tensor
    """(n,) of the weights of the former."""
    square_weight: tf.Tensor
    """(n,) the number of the latter, 0 before the first step of the search."""


class State(NamedTuple):
    """Where n rows are in their search."""

    x: tf.Tensor
    """(n, *shape) float32, in units of the input: the instance plus `change` plus noise."""
    lam: tf.Tensor
    """(n,) float32, the weight of the L1 distance, in units of a slope."""
    lam_step: tf.Tensor
    """(n,) int32, the cycle, or -1 where classes are compared or there is noise."""
    done: tf.Tensor
    """(n,) bool."""
    change: tf.Tensor
    """(n, *shape) float32, of the instance, without the noise."""
    slope: Slope
    factor: tf.Tensor
    """(n,) float32, above 1: how far around lam to look for the next."""
    rate: tf.Tensor
    """(n,) float32, the reach of the first step of a cycle, as a share of the feature range."""
    surplus: tf.Tensor
    """(n,) float32, what the linear margin is to rise by beyond what is missing."""
    side: tf.Tensor
    """(n,) float32, 1 where the margin must rise, -1 where it must fall; 0 before the first step."""
    aim: tf.Tensor
    """(n,) int32, the class aimed at."""
    nearest: tf.Tensor
    """(n,) int32, the class of the nearest counterfactual so far."""
    candidates: tf.Tensor
    """(n, count) int32, the classes that are compared, in the order in which they are tried."""
    candidates_l1: tf.Tensor
    """(n, count) float32, the least L1 met on the way to each; infinite where none was met."""
    place: cycles.Place
    noise: tf.Tensor
    """(n,) float32, the standard deviation of the noise in x, as a share of the feature range."""
    met: tf.Tensor
    """(n,) bool, the cycle began at a counterfactual or has met one without noise."""


def _has_not_stepped(state: State) -> tf.Tensor:
    return state.slope.square_weight == 0


def _aim(settings: Any, row: Row, state: State, scores: Scores) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The class aimed at; 1 where its margin must rise, -1 where it must fall; and the slack of each constraint.

    The slack (n, 1 + guides) float64 is what the classifier's margin and those of the guides have beyond what is
    wanted, below 0 where they miss it.
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
    # The linear margin promises too much: a row that has met nothing without noise asks it for more and more.
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
    """The class of the nearest counterfactual so far, and the candidates with the least L1 met on the way to each."""
    is_nearest = _has_not_stepped(state) | (point.hit & (point.l1 <= best.l1))
    nearest = tf.where(is_nearest, likeliest(row.target, point.scores.logits), state.nearest)
    candidates, candidates_l1 = tf.cond(
        tf.reduce_any(state.place.phase < cycles.REFINE),
        lambda: _compared(row, state, point, aim, place),
        lambda: (state.candidates, state.candidates_l1),
    )
    return nearest, candidates, candidates_l1


def _compared(row: Row, state: State, point: Point, aim: tf.Tensor, place: cycles.Place) -> tuple[tf.Tensor, tf.Tensor]:
    """The candidates, (n, count), and the least L1 met on the way to each; once all are compared, best first."""
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
    """Where a cycle begins: the change of the best so far, none where classes are compared, and no mean gradient."""

    def begun() -> tuple[tf.Tensor, tf.Tensor]:
        anew = tf.where(along(begins & compares, change), 0.0, change)
        return tf.where(along(from_best, change), best.x - row.x, anew), tf.where(
            along(begins, gradient), 0.0, gradient
        )

    return tf.cond(tf.reduce_any(begins), begun, lambda: (change, gradient))
