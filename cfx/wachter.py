"""The published search: Adam on (f_t(x') - target_proba)^2 + lambda L1(x', x), with lambda bracketed, then bisected.

Wachter, Mittelstadt and Russell 2017, "Counterfactual explanations without opening the black box", equations 1 and 2.
The first lambda starts at the instance and each other where the last one ended, with Adam and its rate anew: starting
again at the instance gave 2 to 4 times the L1. Lambda falls from `lam_init` by powers of ten, with max_iter / 10 steps each,
until two of ten have given a counterfactual; the bisection then runs between the second of them and the smallest lambda
that gave none. Where all ten give one, the upper end is ten times `lam_init`; where only one does, it is the lower end;
where none does, the lower end is 0, and the full max_iter steps at smaller lambdas may still find one.
"""

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from cfx.point import Point, Row, along, target_probability

State = dict[str, tf.Tensor]

_SWEEP = 10
# Adam, Kingma and Ba 2015. The floor under v only keeps the division defined: a larger one would keep x at the instance
# where f_t is nearly 0 and with it the gradient of the squared loss.
_BETA_1, _BETA_2, _FLOOR = 0.9, 0.999, 1e-32


def path_length(settings: Any) -> Any:
    """The most lambdas that a row goes through, of a method or of its settings as tensors."""
    return _SWEEP + settings.max_lam_steps


def start(settings: SimpleNamespace, row: Row) -> State:
    """The state of rows that have not taken a step."""
    none, zero = tf.zeros_like(row.lam_init), tf.zeros_like(row.index)
    return {
        "x": row.x,
        "first_moment": tf.zeros_like(row.x),
        "second_moment": tf.zeros_like(row.x),
        "lam": row.lam_init,
        "low": none,
        "high": 10 * row.lam_init,
        "lam_step": zero,
        "valid": zero,
        "step": zero,
        "streak": zero,
        "met": zero > 0,
        "done": zero > 0,
    }


def loss(settings: SimpleNamespace, row: Row, state: State, logits: tf.Tensor) -> tf.Tensor:
    """(f_t - target_proba)^2, (n,)."""
    return tf.square(target_probability(logits, row.target) - settings.target_proba)


def step(settings: SimpleNamespace, row: Row, state: State, point: Point) -> State:
    """One Adam step; rows that are through with a lambda go on to the next."""
    taken = state["step"] + 1
    count = tf.cast(taken, tf.float32)
    met = state["met"] | point.hit
    streak = tf.where(point.hit, tf.maximum(state["streak"], 0) + 1, tf.minimum(state["streak"], 0) - 1)
    sweeping = state["lam_step"] < _SWEEP
    is_over = tf.where(
        sweeping,
        taken >= tf.maximum(settings.max_iter // 10, 1),
        (taken >= settings.max_iter) | (tf.abs(streak) >= settings.early_stop),
    )

    gradient = point.gradient + along(state["lam"], point.x) * tf.sign(point.change)
    is_first = state["step"] == 0
    first = along(tf.where(is_first, 0.0, _BETA_1), point.x) * state["first_moment"] + gradient
    second = along(tf.where(is_first, 0.0, _BETA_2), point.x) * state["second_moment"] + tf.square(gradient)
    # The moments are plain discounted sums: what makes them the bias-corrected means goes into the rate.
    correction = (1 - _BETA_1) / (1 - _BETA_1**count) * tf.sqrt((1 - _BETA_2**count) / (1 - _BETA_2))
    rate = row.learning_rate * (1 - (count - 1) / tf.cast(settings.max_iter, tf.float32)) * correction
    moved = point.x - along(rate, point.x) * first * tf.math.rsqrt(second + _FLOOR)

    valid = state["valid"] + tf.cast(is_over & sweeping & met, tf.int32)
    low = tf.where(is_over & met, state["lam"], state["low"])
    high = tf.where(is_over & ~met & (~sweeping | (valid == 0)), state["lam"], state["high"])
    swept = sweeping & ((valid == 2) | (state["lam_step"] == _SWEEP - 1))
    lam_step = tf.where(swept, _SWEEP, state["lam_step"] + 1)
    next_lam = tf.where(sweeping & ~swept, state["lam"] / 10, (low + high) / 2)
    return {
        "x": tf.clip_by_value(moved, settings.low, settings.high),
        "first_moment": first,
        "second_moment": second,
        "lam": tf.where(is_over, next_lam, state["lam"]),
        "low": low,
        "high": high,
        "lam_step": tf.where(is_over, lam_step, state["lam_step"]),
        "valid": valid,
        "step": tf.where(is_over, 0, taken),
        "streak": tf.where(is_over, 0, streak),
        "met": met & ~is_over,
        "done": state["done"] | (is_over & (lam_step >= path_length(settings))),
    }
