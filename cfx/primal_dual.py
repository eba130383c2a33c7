"""The search of least L1: proximal steps on a linearised margin, with the multiplier that the constraint asks for.

The problem, for a target class t with logits z, is

    minimise |x' - x|_1   subject to   m(x') >= kappa,  low <= x' <= high,       m = z_t - log sum_{c != t} exp z_c

since m = logit(f_t), with kappa = logit(target_proba - tol); where the instance lies above what is asked for, it is
-m >= -logit(target_proba + tol). Unlike f_t, the margin does not saturate. A step at x_k, where the margin's gradient
is g, solves what is left when m is taken as linear and each feature's step has a price D,

    minimise lam |x' - x|_1 - g (x' - x_k) + (x' - x_k)^T D (x' - x_k) / (2 rate)   subject to   low <= x' <= high.

Every feature does that on its own: a soft threshold of its change at rate lam / D, then the bounds. So one that is not
worth its change keeps the instance's value, bit for bit. lam = 1 / multiplier is the weight at which the linear margin
just meets the constraint, m + g (x' - x_k) = kappa; it is followed from step to step by regula falsi, which takes the
place of a loop over lambda. Sources: Lewis and Wright 2016, "A proximal method for composite minimization" (the linear
constraint); Daubechies, Defrise and De Mol 2004 (the threshold); Duchi, Hazan and Singer 2011, "Adaptive subgradient
methods" (D, the root mean square of all gradients so far). g is a mean of the latest gradients.

A network's margin has many local optima, and two things lead to better ones at no cost a step. The gradient is first
taken at x_k plus noise that dies away, which smooths the margin (Duchi, Bartlett and Wainwright 2012, "Randomized
smoothing"). And steps come in cycles: each starts with large ones at the best counterfactual so far and ends with small
ones (Loshchilov and Hutter 2017, "SGDR"; Wales and Doye 1997, "basin hopping"). The noise is the same in every search.

For `other`, short cycles from the instance first compare the nine likeliest target classes, then the best three of them
(successive halving: Karnin, Koren and Somekh 2013); the rest starts from the nearest counterfactual of all.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from cfx.point import Best, Point, Row, along

State = dict[str, tf.Tensor]

# The most steps of a cycle, the share of them with noise, and the last one's rate as a share of the first one's.
_CYCLE, _NOISY, _LAST_RATE = 25, 0.45, 1 / 80
# The standard deviation of the first noise, as a share of the feature range, and how many different ones there are.
_NOISE, _NOISES = 0.35, 64
# How much of the mean gradient stays from one step to the next.
_DECAY = 0.6
# A lam below this share of the steepest slope says that the target is out of reach: the rate then grows, up to this.
_OUT_OF_REACH, _GROWTH, _HIGHEST_RATE = 0.02, 1.5, 0.8
# The constraint is set at this share of tol, because a step ends near it on either side.
_SURE = 0.99
# How many classes `other` compares in its first and its second round, and the fewest and the most steps for each.
_CANDIDATES, _FINALISTS = 9, 3
_FEWEST, _MOST = 8, 50
# Keeps the division by D defined for a feature without a gradient. Being added to the root, it also keeps TensorFlow
# from making the two a reciprocal root, which rounds otherwise at the end of an array than within it.
_FLOOR = 1e-10


def path_length(settings: Any) -> Any:
    """How many cycles a row goes through after the comparison of classes, of a method or of its settings as tensors."""
    return 1 + settings.max_iter // _CYCLE


def start(settings: SimpleNamespace, row: Row) -> State:
    """The state of rows that have not taken a step. Steps below 0 are those that compare classes."""
    zero, none = tf.zeros_like(row.index), tf.zeros_like(row.lam_init)
    candidates = tf.repeat(zero[:, None], min(row.target.shape[1] - 1, _CANDIDATES), axis=1)
    has_choice = tf.math.count_nonzero(row.target, axis=1) > 1
    return {
        "x": row.x,
        "change": tf.zeros_like(row.x),
        "first": tf.zeros_like(row.x),
        "first_weight": none,
        "second": tf.zeros_like(row.x),
        "second_weight": none,
        "lam": none,
        "factor": none + 2,
        "rate": row.learning_rate,
        "surplus": none,
        "side": none,
        "aim": zero,
        "nearest": zero,
        "candidates": candidates,
        "candidates_l1": tf.fill(tf.shape(candidates), np.float32(np.inf)),
        "step": tf.where(has_choice, -sum(_rounds(settings, candidates.shape[1])), 0),
        "share": none,
        "noise": none,
        "met": zero > 0,
        "lam_step": zero,
        "done": zero > 0,
    }


def loss(settings: SimpleNamespace, row: Row, state: State, logits: tf.Tensor) -> tf.Tensor:
    """The margin of the class aimed at, with the sign by which more of it is better, (n,) float64."""
    return _aim(settings, row, state, logits)[2]


def step(settings: SimpleNamespace, row: Row, state: State, point: Point, best: Best) -> State:
    """One proximal step; rows that are through with a cycle begin the next."""
    is_first = state["second_weight"] == 0
    aim, side, margin = _aim(settings, row, state, point.logits)
    is_sharp = state["noise"] == 0
    met = state["met"] | (point.hit & is_sharp)
    first = _DECAY * state["first"] + point.gradient
    first_weight = _DECAY * state["first_weight"] + 1
    second, second_weight = state["second"] + tf.square(point.gradient), state["second_weight"] + 1
    low, high = _window(settings)
    missing = tf.cast(tf.where(side > 0, low, -high) - margin, tf.float32)
    # The linear margin promises too much: a row that has met nothing without noise asks it for more and more.
    surplus = tf.where(is_sharp & ~met, tf.maximum(state["surplus"] + missing / 4, 0), 0.0)

    slope = first / along(first_weight, first)
    steepest = tf.maximum(tf.reduce_max(slope, axis=_features(slope)), -tf.reduce_min(slope, axis=_features(slope)))
    rate = state["rate"] * (1 - (1 - _LAST_RATE) * state["share"]) * tf.sqrt(second_weight)
    reach = along(rate, second) * (settings.high - settings.low) / (tf.sqrt(second) + _FLOOR)
    lam = tf.where(is_first, row.lam_init * steepest, state["lam"])
    change, lam, factor = _proximal(settings, row, state, slope, reach, missing + surplus, lam, steepest)
    is_out_of_reach = ~met & (lam < _OUT_OF_REACH * steepest)
    rate = tf.maximum(state["rate"], tf.minimum(state["rate"] * _GROWTH, _HIGHEST_RATE))

    nearest = tf.where(is_first | (point.hit & (point.l1 <= best.l1)), _likeliest(row, point.logits), state["nearest"])
    candidates, candidates_l1 = tf.cond(
        tf.reduce_any(state["step"] < 0),
        lambda: _compared(settings, row, state, point, aim),
        lambda: (state["candidates"], state["candidates_l1"]),
    )
    taken = state["step"] + 1
    cycle, share = _place(settings, taken, candidates.shape[1])
    begins, compares = share == 0, taken < 0
    from_best = begins & ~compares & tf.math.is_finite(best.l1)
    change, first = tf.cond(
        tf.reduce_any(begins),
        lambda: (
            tf.where(along(from_best, change), best.x - row.x, tf.where(along(begins & compares, change), 0.0, change)),
            tf.where(along(begins, first), 0.0, first),
        ),
        lambda: (change, first),
    )
    candidate = tf.gather(candidates, tf.where(compares, cycle, 0), axis=1, batch_dims=1)
    noise = _NOISE * tf.nn.relu(1 - share / _NOISY)
    return {
        "x": _noisy(settings, row.x + change, noise, taken),
        "change": change,
        "first": first,
        "first_weight": tf.where(begins, 0.0, first_weight),
        "second": second,
        "second_weight": second_weight,
        "lam": lam,
        "factor": factor,
        "rate": tf.where(is_out_of_reach, rate, state["rate"]),
        "surplus": surplus,
        "side": side,
        "aim": tf.where(begins, tf.where(compares, candidate, nearest), aim),
        "nearest": nearest,
        "candidates": candidates,
        "candidates_l1": candidates_l1,
        "step": taken,
        "share": share,
        "noise": noise,
        "met": tf.where(begins, from_best, met),
        "lam_step": tf.where(compares | (noise > 0), -1, cycle),
        "done": state["done"] | (taken >= settings.max_iter),
    }


def _proximal(
    settings: SimpleNamespace,
    row: Row,
    state: State,
    slope: tf.Tensor,
    reach: tf.Tensor,
    missing: tf.Tensor,
    lam: tf.Tensor,
    steepest: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The next change, the lam at which the linear margin rises by what is missing, and the factor around that lam
    within which to look for the next."""
    wanted = missing + tf.reduce_sum(slope * state["change"], axis=_features(slope))
    free = state["change"] + reach * slope
    # on sizes the threshold and the bounds take four passes over the features, on signed changes seven
    sign = tf.sign(free)
    middle, half = (settings.high + settings.low) / 2, (settings.high - settings.low) / 2
    size, most = tf.abs(free), tf.abs(middle + half * sign - row.x)
    signed_slope = sign * slope

    def size_at(lam: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.nn.relu(size - reach * along(lam, reach)), most)

    def excess_at(lam: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(signed_slope * size_at(lam), axis=_features(slope)) - wanted

    lam, factor = _root(excess_at, lam, state["factor"])
    lam = tf.clip_by_value(lam, 1e-4 * steepest, 2 * steepest)
    return sign * size_at(lam), lam, factor


def _root(
    excess_at: Callable[[tf.Tensor], tf.Tensor], lam: tf.Tensor, factor: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A lam nearer to where the excess, which falls with it, is 0; and the factor for the next call."""
    excess = excess_at(lam)
    other = tf.where(excess > 0, lam * factor, lam / factor)
    other_excess = excess_at(other)
    is_between = (excess > 0) != (other_excess > 0)
    share = tf.where(is_between, excess / tf.where(is_between, excess - other_excess, 1), 1)
    next_factor = tf.clip_by_value(1 + (factor - 1) * tf.where(is_between, 0.7, 1.6), 1.05, 5)
    return lam + share * (other - lam), next_factor


def _noisy(settings: SimpleNamespace, x: tf.Tensor, noise: tf.Tensor, taken: tf.Tensor) -> tf.Tensor:
    """x with noise of this standard deviation, inside the feature range."""
    noises = tf.constant(np.random.default_rng(0).standard_normal((_NOISES, *x.shape[1:])), tf.float32)
    scale = along(noise, x) * (settings.high - settings.low)
    x = tf.cond(tf.reduce_any(noise > 0), lambda: x + scale * tf.gather(noises, taken % _NOISES), lambda: x)
    return tf.clip_by_value(x, settings.low, settings.high)


def _aim(
    settings: SimpleNamespace, row: Row, state: State, logits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The class aimed at; 1 where its margin must rise, -1 where it must fall; and the margin times that.

    The margin is float64 for the same reason as `target_probability`.
    """
    is_first = state["second_weight"] == 0
    aim = tf.where(is_first, _likeliest(row, logits), state["aim"])
    is_aim = tf.one_hot(aim, logits.shape[1], on_value=True, off_value=False)
    logits = tf.cast(logits, tf.float64)
    own = tf.reduce_sum(tf.where(is_aim, logits, 0), axis=1)
    margin = own - tf.reduce_logsumexp(tf.where(is_aim, np.float64(-np.inf), logits), axis=1)
    side = tf.where(is_first, tf.where(margin > _window(settings)[1], -1.0, 1.0), state["side"])
    return aim, side, tf.cast(side, tf.float64) * margin


def _likeliest(row: Row, logits: tf.Tensor) -> tf.Tensor:
    """The likeliest of the target classes, (n,)."""
    return tf.argmax(tf.where(row.target, logits, -np.inf), axis=1, output_type=tf.int32)


def _window(settings: SimpleNamespace) -> tuple[tf.Tensor, tf.Tensor]:
    """The lowest and the highest margin asked for, float64; the latter is infinite where 1 is near enough."""
    probability, tol = tf.cast(settings.target_proba, tf.float64), _SURE * tf.cast(settings.tol, tf.float64)
    low, high = tf.maximum(probability - tol, 1e-30), tf.minimum(probability + tol, 1)
    return tf.math.log(low / (1 - low)), tf.math.log(high / (1 - high))


def _compared(
    settings: SimpleNamespace, row: Row, state: State, point: Point, aim: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The classes to compare, (n, count), and the least L1 met on the way to each; for the second round best first."""
    count = state["candidates"].shape[1]
    is_first = (state["second_weight"] == 0)[:, None]
    likeliest = tf.math.top_k(tf.where(row.target, point.logits, -np.inf), count).indices
    candidates = tf.where(is_first, likeliest, state["candidates"])
    l1 = tf.where(point.hit, point.l1, np.inf)[:, None]
    l1 = tf.where(candidates == aim[:, None], tf.minimum(state["candidates_l1"], l1), state["candidates_l1"])
    is_second_round_next = (state["step"] + 1 == -_rounds(settings, count)[1])[:, None]
    order = tf.where(is_second_round_next, tf.argsort(l1, axis=1, stable=True), tf.range(count))
    return tf.gather(candidates, order, batch_dims=1), tf.gather(l1, order, batch_dims=1)


def _rounds(settings: SimpleNamespace, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The steps of the two rounds in which `other` compares this many classes."""
    first, second = _comparison(settings)
    return count * first * int(count > _FINALISTS), min(count, _FINALISTS) * second * int(count > 1)


def _comparison(settings: SimpleNamespace) -> tuple[tf.Tensor, tf.Tensor]:
    """The steps for one class in either round."""
    first, second = settings.max_iter // 8, settings.max_iter // 4
    return tf.clip_by_value(first, _FEWEST, _MOST), tf.clip_by_value(second, _FEWEST, _MOST)


def _place(settings: SimpleNamespace, taken: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The cycle of its round that a row is in, and from 0 at its first step to 1 at its last where in it."""
    first_round, second_round = _rounds(settings, count)
    first, second = _comparison(settings)
    last = -(-settings.max_iter // path_length(settings))
    is_first, is_second = taken < -second_round, taken < 0
    since = taken + tf.where(is_first, first_round + second_round, tf.where(is_second, second_round, 0))
    length = tf.where(is_first, first, tf.where(is_second, second, last))
    return since // length, tf.cast(since % length, tf.float32) / tf.cast(tf.maximum(length - 1, 1), tf.float32)


def _features(x: tf.Tensor) -> list[int]:
    """All axes but that of the rows."""
    return list(range(1, len(x.shape)))
