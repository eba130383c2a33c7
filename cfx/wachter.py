"""The published search: Adam on (f_t(x') - target_proba)^2 + lambda L1(x', x), with lambda bracketed, then bisected.

Wachter, Mittelstadt and Russell 2017, "Counterfactual explanations without opening the black box", equations 1 and 2.
The first lambda starts at the instance, and each other where the last one ended, with Adam and its rate anew: starting
again at the instance gave 2 to 4 times the L1. Lambda falls from `lam_init` by powers of ten, with max_iter / 10 steps
each, until two of ten have given a counterfactual; the bisection then runs between the second of them and the smallest
lambda that gave none. Where all give one, the upper end is ten times `lam_init`; where only one does, it is the lower
end; where none does, lambda goes on falling, with max_iter steps each, until one does.

Three rules save steps that come to nothing, a third of them at the same L1: a lambda of the sweep is left once it has
given `early_stop` counterfactuals in a row, one of the bisection also after four times `early_stop` steps without a
nearer counterfactual, and the bisection ends when lambda is known to a hundredth.
"""

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from cfx.point import Best, Point, Row, along, target_probability

State = dict[str, tf.Tensor]

_SWEEP = 10
# A bracket of this share of lambda is not bisected further: the L1 no longer depends on where in it lambda is.
_NARROW = 0.01
# Adam, Kingma and Ba 2015. The floor only keeps the division defined: a larger one would hold x at its instance where
# f_t, and with it the gradient of its squared loss, is nearly 0.
_BETA_1, _BETA_2, _FLOOR = 0.9, 0.999, 1e-18


def path_length(settings: Any) -> Any:
    """The most lambdas that a row goes through, of a method or of its settings as tensors."""
    return _SWEEP + settings.max_lam_steps


def start(settings: SimpleNamespace, row: Row) -> State:
    """The state of rows that have not taken a step."""
    none, zero = tf.zeros_like(row.lam_init), tf.zeros_like(row.index)
    return {
        "x": row.x,
        "first": tf.zeros_like(row.x),
        "second": tf.zeros_like(row.x),
        "first_weight": none,
        "second_weight": none,
        "lam": row.lam_init,
        "low": none,
        "high": 10 * row.lam_init,
        "lam_step": zero,
        "valid": zero,
        "step": zero,
        "streak": zero,
        "fruitless": zero,
        "met": zero > 0,
        "done": zero > 0,
    }


def loss(settings: SimpleNamespace, row: Row, state: State, logits: tf.Tensor) -> tf.Tensor:
    """(f_t - target_proba)^2, (n,) float64."""
    return tf.square(target_probability(logits, row.target) - tf.cast(settings.target_proba, tf.float64))


def step(settings: SimpleNamespace, row: Row, state: State, point: Point, best: Best) -> State:
    """One Adam step; rows that are through with a lambda go on to the next."""
    taken = state["step"] + 1
    met = state["met"] | point.hit
    streak = tf.where(point.hit, tf.maximum(state["streak"], 0) + 1, tf.minimum(state["streak"], 0) - 1)
    sweeping = state["lam_step"] < _SWEEP
    nearer = point.hit & (point.l1 <= best.l1)
    fruitless = tf.where(nearer, 0, state["fruitless"] + 1)
    most = tf.where(sweeping, tf.maximum(settings.max_iter // 10, 1), settings.max_iter)
    settled = tf.where(sweeping, streak, tf.maximum(tf.abs(streak), fruitless // 4))
    is_over = (taken >= most) | (settled >= settings.early_stop)

    gradient = point.gradient + along(state["lam"], point.x) * tf.sign(point.change)
    # Discounted sums, divided by those of their weights, are Adam's bias-corrected means; a new lambda begins new sums.
    decay_1, decay_2 = (tf.where(state["step"] == 0, 0.0, beta) for beta in (_BETA_1, _BETA_2))
    first = along(decay_1, point.x) * state["first"] + gradient
    second = along(decay_2, point.x) * state["second"] + tf.square(gradient)
    first_weight = decay_1 * state["first_weight"] + 1
    second_weight = decay_2 * state["second_weight"] + 1
    left = 1 - tf.cast(state["step"], tf.float32) / tf.cast(settings.max_iter, tf.float32)
    rate = row.learning_rate * left / first_weight * tf.sqrt(second_weight)
    moved = point.x - along(rate, point.x) * first / (tf.sqrt(second) + _FLOOR)

    valid = state["valid"] + tf.cast(is_over & sweeping & met, tf.int32)
    low = tf.where(is_over & met, state["lam"], state["low"])
    high = tf.where(is_over & ~met & (~sweeping | (valid == 0)), state["lam"], state["high"])
    swept = sweeping & ((valid == 2) | (state["lam_step"] == _SWEEP - 1))
    is_narrow = ~sweeping & (high - low <= _NARROW * high)
    lam_step = tf.where(swept, _SWEEP, state["lam_step"] + 1)
    next_lam = tf.where((sweeping & ~swept) | (low == 0), state["lam"] / 10, (low + high) / 2)
    return {
        "x": tf.clip_by_value(moved, settings.low, settings.high),
        "first": first,
        "second": second,
        "first_weight": first_weight,
        "second_weight": second_weight,
        "lam": tf.where(is_over, next_lam, state["lam"]),
        "low": low,
        "high": high,
        "lam_step": tf.where(is_over, lam_step, state["lam_step"]),
        "valid": valid,
        "step": tf.where(is_over, 0, taken),
        "streak": tf.where(is_over, 0, streak),
        "fruitless": tf.where(is_over, 0, fruitless),
        "met": met & ~is_over,
        "done": state["done"] | (is_over & ((lam_step >= path_length(settings)) | is_narrow)),
    }
