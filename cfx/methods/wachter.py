"""The published method: Adam on (f_t(x') - target_proba)^2 + lambda |x' - x|_1, with a search over lambda.

Wachter, Mittelstadt and Russell 2017, "Counterfactual explanations without opening the black box", equations 1 and 2.
For each lambda, Adam (Kingma and Ba 2015) takes, for s = 0, 1, 2, ...,

    g_s = 2 (f_t(x_s) - target_proba) grad f_t(x_s) + lambda sign(x_s - x)
    m_s = 0.9 m_{s-1} + 0.1 g_s         v_s = 0.999 v_{s-1} + 0.001 g_s^2         m_{-1} = v_{-1} = 0
    x_{s+1} = x_s - learning_rate (1 - s / max_iter) m_s / (1 - 0.9^{s+1}) / sqrt(v_s / (1 - 0.999^{s+1}))

and clips x_{s+1} to the feature range. The first lambda starts at the instance, each other one at the end of the
previous one: restarting at the instance gave 2 to 4 times the L1. The result is the nearest counterfactual of all.

- Sweep: lambda = lam_init, lam_init / 10, ..., lam_init / 10^9, with max_iter // 10 steps each, at least one, until two
  of them have given a counterfactual. a is the last of these two, and b the lambda before the first of them, or
  10 lam_init if there is none.
- Bisection: lambda = (a + b) / 2, max_lam_steps times, with max_iter steps each. It replaces a if it gives a
  counterfactual, otherwise b. Until a lambda has given a counterfactual, lambda / 10 comes next.

Three rules skip about a third of the steps without a change in L1. The sweep stops a lambda after `early_stop`
consecutive counterfactuals. The bisection stops a lambda after `early_stop` consecutive steps that all are
counterfactuals, or all are not, and after four times as many steps without a counterfactual at least as near as the
best. The bisection ends when b - a <= b / 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cfx.backend import tf
from cfx.method import StepMethod
from cfx.point import Best, Point, Row, Scores, along, target_probability

# The maximum number of lambdas in the sweep.
_SWEEP = 10
# The relative width of a bracket at which the bisection ends, because the L1 hardly changes within it.
_NARROW = 0.01
# Adam, Kingma and Ba 2015. The floor only avoids a division by zero: with a larger one, x would remain at the instance
# if f_t, and thus the gradient of its squared loss, is nearly 0.
_BETA_1, _BETA_2, _FLOOR = 0.9, 0.999, 1e-18


@dataclass(frozen=True, kw_only=True)
class Wachter(StepMethod):
    """The published objective, (f_t(x') - target_proba)^2 + lambda L1(x', x), with Adam and a search over lambda.

    Wachter, Mittelstadt and Russell 2017, "Counterfactual explanations without opening the black box", equations 1
    and 2, with the L1 distance. Lambda first decreases from `lam_init` by powers of ten, with max_iter / 10 steps each,
    until it is bracketed, and then it is bisected.
    """

    max_iter: int = 1000
    """The maximum number of Adam steps per lambda, with a learning rate that decreases linearly to 0; 1 to 100,000."""

    lam_init: float | Sequence[float] = 0.1
    """The largest lambda of the bracketing sweep, above 0."""

    max_lam_steps: int = 10
    """The number of bisections of lambda; 1 to 1,000."""

    learning_rate: float | Sequence[float] = 0.1
    """Adam's initial learning rate for each lambda, above 0, in units of the input."""

    early_stop: int = 50
    """The number of consecutive steps after which a lambda is stopped if all are counterfactuals, or all are not; also
    after four times as many steps without a nearer one; 1 to 100,000."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("max_lam_steps", most=1_000)
        self._check_whole_number("early_stop", most=100_000)

    @staticmethod
    def path_length(settings: Any) -> Any:
        """The maximum number of lambdas per row."""
        return _SWEEP + settings.max_lam_steps

    @staticmethod
    def start(settings: Any, row: Row) -> State:
        """At the instance, with the first lambda of the sweep."""
        none, zero = tf.zeros_like(row.lam_init), tf.zeros_like(row.index)
        return State(
            x=row.x,
            lam=row.lam_init,
            lam_step=zero,
            done=zero > 0,
            adam=Adam(tf.zeros_like(row.x), tf.zeros_like(row.x), none, none),
            trial=Trial(step=zero, streak=zero, fruitless=zero, met=zero > 0),
            bracket=Bracket(low=none, high=10 * row.lam_init, valid=zero),
        )

    @staticmethod
    def loss(settings: Any, row: Row, state: State, scores: Scores) -> tf.Tensor:
        """(f_t - target_proba)^2, (n,) float64."""
        return tf.square(target_probability(scores.logits, row.target) - tf.cast(settings.target_proba, tf.float64))

    @staticmethod
    def step(settings: Any, row: Row, state: State, point: Point, best: Best) -> State:
        """One Adam step; rows that have finished a lambda continue with the next."""
        trial, is_over = _tried(settings, state, point, best)
        x, adam = _adam_step(settings, row, state, point)
        bracket, lam, lam_step, is_last = _next_lambda(settings, state, trial.met, is_over)
        return State(
            x=x,
            lam=tf.where(is_over, lam, state.lam),
            lam_step=tf.where(is_over, lam_step, state.lam_step),
            done=state.done | (is_over & is_last),
            adam=adam,
            trial=Trial(
                step=tf.where(is_over, 0, trial.step),
                streak=tf.where(is_over, 0, trial.streak),
                fruitless=tf.where(is_over, 0, trial.fruitless),
                met=trial.met & ~is_over,
            ),
            bracket=bracket,
        )


class Adam(NamedTuple):
    """Discounted sums over the steps for one lambda; divided by the sum of their weights, they are means."""

    gradient: tf.Tensor
    """(n, *shape) of the gradients, in units of the objective per unit of the input."""
    square: tf.Tensor
    """(n, *shape) of their squares."""
    gradient_weight: tf.Tensor
    """(n,) of the weights of the gradients, 0 before the first step."""
    square_weight: tf.Tensor
    """(n,) of the weights of the latter."""


class Trial(NamedTuple):
    """The progress of one lambda."""

    step: tf.Tensor
    """(n,) int32, the steps taken."""
    streak: tf.Tensor
    """(n,) int32, the number of latest consecutive steps that are counterfactuals or, if negative, are not."""
    fruitless: tf.Tensor
    """(n,) int32, the number of latest consecutive steps without a nearer counterfactual."""
    met: tf.Tensor
    """(n,) bool, whether any step was a counterfactual."""


class Bracket(NamedTuple):
    """The bracket of lambda."""

    low: tf.Tensor
    """(n,) float32, the latest lambda that gave a counterfactual; 0 if none has."""
    high: tf.Tensor
    """(n,) float32, the latest lambda that gave none; 10 `lam_init` if all have given one."""
    valid: tf.Tensor
    """(n,) int32, the number of lambdas of the sweep that gave a counterfactual."""


class State(NamedTuple):
    """The state of n rows."""

    x: tf.Tensor
    """(n, *shape) float32, in units of the input."""
    lam: tf.Tensor
    """(n,) float32, lambda."""
    lam_step: tf.Tensor
    """(n,) int32, the number of previous lambdas; `_SWEEP` or above in the bisection."""
    done: tf.Tensor
    """(n,) bool."""
    adam: Adam
    trial: Trial
    bracket: Bracket


def _tried(settings: Any, state: State, point: Point, best: Best) -> tuple[Trial, tf.Tensor]:
    """The progress of a lambda including this step, and whether it is finished, (n,) bool."""
    trial, is_sweep = state.trial, state.lam_step < _SWEEP
    taken = trial.step + 1
    streak = tf.where(point.hit, tf.maximum(trial.streak, 0) + 1, tf.minimum(trial.streak, 0) - 1)
    is_nearer = point.hit & (point.l1 <= best.l1)
    fruitless = tf.where(is_nearer, 0, trial.fruitless + 1)
    most = tf.where(is_sweep, tf.maximum(settings.max_iter // 10, 1), settings.max_iter)
    settled = tf.where(is_sweep, streak, tf.maximum(tf.abs(streak), fruitless // 4))
    is_over = (taken >= most) | (settled >= settings.early_stop)
    return Trial(taken, streak, fruitless, trial.met | point.hit), is_over


def _adam_step(settings: Any, row: Row, state: State, point: Point) -> tuple[tf.Tensor, Adam]:
    """Adam's next x, and its sums; a new lambda begins new sums."""
    gradient = point.gradient + along(state.lam, point.x) * tf.sign(point.change)
    decay_1, decay_2 = (tf.where(state.trial.step == 0, 0.0, beta) for beta in (_BETA_1, _BETA_2))
    adam = Adam(
        gradient=along(decay_1, point.x) * state.adam.gradient + gradient,
        square=along(decay_2, point.x) * state.adam.square + tf.square(gradient),
        gradient_weight=decay_1 * state.adam.gradient_weight + 1,
        square_weight=decay_2 * state.adam.square_weight + 1,
    )
    left = 1 - tf.cast(state.trial.step, tf.float32) / tf.cast(settings.max_iter, tf.float32)
    rate = row.learning_rate * left / adam.gradient_weight * tf.sqrt(adam.square_weight)
    x = point.x - along(rate, point.x) * adam.gradient / (tf.sqrt(adam.square) + _FLOOR)
    return tf.clip_by_value(x, row.low, row.high), adam


def _next_lambda(
    settings: Any, state: State, met: tf.Tensor, is_over: tf.Tensor
) -> tuple[Bracket, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The updated bracket, the next lambda, its number, and whether the search ends.

    It ends, (n,) bool, after the last lambda, or if the bracket is sufficiently narrow.
    """
    bracket, is_sweep = state.bracket, state.lam_step < _SWEEP
    valid = bracket.valid + tf.cast(is_over & is_sweep & met, tf.int32)
    low = tf.where(is_over & met, state.lam, bracket.low)
    high = tf.where(is_over & ~met & (~is_sweep | (valid == 0)), state.lam, bracket.high)
    ends_sweep = is_sweep & ((valid == 2) | (state.lam_step == _SWEEP - 1))
    lam_step = tf.where(ends_sweep, _SWEEP, state.lam_step + 1)
    lam = tf.where((is_sweep & ~ends_sweep) | (low == 0), state.lam / 10, (low + high) / 2)
    is_narrow = ~is_sweep & (high - low <= _NARROW * high)
    return Bracket(low, high, valid), lam, lam_step, (lam_step >= Wachter.path_length(settings)) | is_narrow
