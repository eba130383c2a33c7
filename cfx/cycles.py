"""The schedule of a search in cycles: the phase, cycle and step of a row, and the noise added to its x.

Two techniques lead to better local optima without additional cost per step. The gradient is taken at x plus decaying
noise, which smooths the margin (Duchi, Bartlett and Wainwright 2012, "Randomized smoothing"). The steps form cycles:
each starts with large steps at the best counterfactual so far and ends with small ones (Loshchilov and Hutter 2017,
"SGDR"; Wales and Doye 1997, "basin hopping").

For `other`, short cycles from the instance first compare target classes (successive halving: Karnin, Koren and Somekh
2013); then the search continues from the nearest counterfactual. The phases with their cycles and steps per cycle:

    COMPARE_ALL   one for each of the nine most probable classes      max_iter // 8, from 8 to 50
    COMPARE_BEST  one for each of the three classes of least L1       max_iter // 4, from 8 to 50
    REFINE        1 + max_iter // 25                                  max_iter divided by these, rounded up

A search with one target class starts with the last phase, a search with two or three with the second. REFINE ends after
max_iter steps, even within a cycle.

The share of a step in its cycle goes from 0 at the first to 1 at the last. The noise at a step has the standard
deviation 0.35 max(0, 1 - share / 0.45) (high - low); only the first step of a search has none. It is the same in every
search: row k modulo 64 of numpy's default_rng(0).standard_normal((64, *shape)), where k counts the steps from the first
of REFINE, and those before it backwards from -1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cfx.backend import tf
from cfx.point import Row, along

# The phases of a search, in order.
COMPARE_ALL, COMPARE_BEST, REFINE = range(3)
# The maximum number of classes in the first two phases.
_MOST_CANDIDATES, _MOST_FINALISTS = 9, 3
_FEWEST_STEPS, _MOST_STEPS = 8, 50
# The maximum number of steps per cycle in REFINE, and the share of the steps of a cycle with noise.
_CYCLE, _NOISY = 25, 0.45
# The initial standard deviation of the noise as a share of the feature range, and the number of noise samples.
_NOISE, _NOISES = 0.35, 64


class Place(NamedTuple):
    """The position of rows in the schedule."""

    number: tf.Tensor
    """(n,) int32, the step, counted from the first of `REFINE`: below 0 in the comparison of classes."""
    phase: tf.Tensor
    """(n,) int32, `COMPARE_ALL`, `COMPARE_BEST` or `REFINE`."""
    cycle: tf.Tensor
    """(n,) int32, the number of finished cycles of the phase; in the comparison, the index of the candidate."""
    share: tf.Tensor
    """(n,) float32, from 0 at the first step of the cycle to 1 at its last."""


def count(settings: Any) -> Any:
    """The number of cycles of the phase `REFINE`."""
    return 1 + settings.max_iter // _CYCLE


def candidates(row: Row) -> int:
    """The number of target classes that the phase `COMPARE_ALL` compares."""
    return min(row.target.shape[1] - 1, _MOST_CANDIDATES)


def first_place(settings: Any, row: Row) -> Place:
    """The first position of rows, which depends on the number of their target classes."""
    has_choice = tf.math.count_nonzero(row.target, axis=1) > 1
    return _place(settings, row, tf.where(has_choice, -sum(_comparison_steps(settings, row)), 0))


def next_place(settings: Any, row: Row, place: Place) -> Place:
    """The position of the next step."""
    return _place(settings, row, place.number + 1)


def noise(place: Place) -> tf.Tensor:
    """The standard deviation of the noise (n,), as a share of the feature range; it falls linearly to none."""
    return _NOISE * tf.nn.relu(1 - place.share / _NOISY)


def noisy(settings: Any, row: Row, place: Place, x: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """x (n, *shape) with noise of this standard deviation, inside the bounds of each row."""
    noises = tf.constant(np.random.default_rng(0).standard_normal((_NOISES, *x.shape[1:])), tf.float32)
    scale = along(deviation, x) * (settings.high - settings.low)
    noisy_x = tf.cond(
        tf.reduce_any(deviation > 0), lambda: x + scale * tf.gather(noises, place.number % _NOISES), lambda: x
    )
    return tf.clip_by_value(noisy_x, row.low, row.high)


def _place(settings: Any, row: Row, number: tf.Tensor) -> Place:
    """The position of the step with this number."""
    all_steps, best_steps = _comparison_steps(settings, row)
    all_length, best_length = _comparison_lengths(settings)
    compares_all, compares = number < -best_steps, number < 0

    def by_phase(in_all: Any, in_best: Any, in_refine: Any) -> tf.Tensor:
        return tf.where(compares_all, in_all, tf.where(compares, in_best, in_refine))

    since = number + by_phase(all_steps + best_steps, best_steps, 0)
    length = by_phase(all_length, best_length, -(-settings.max_iter // count(settings)))
    share = tf.cast(since % length, tf.float32) / tf.cast(tf.maximum(length - 1, 1), tf.float32)
    return Place(number, by_phase(COMPARE_ALL, COMPARE_BEST, REFINE), since // length, share)


def _comparison_steps(settings: Any, row: Row) -> tuple[Any, Any]:
    """The steps of the two comparison phases; 0 for a phase that would not exclude any class."""
    all_length, best_length = _comparison_lengths(settings)
    most = candidates(row)
    return most * all_length * int(most > _MOST_FINALISTS), min(most, _MOST_FINALISTS) * best_length


def _comparison_lengths(settings: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The steps per cycle of the two comparison phases."""
    every, best = settings.max_iter // 8, settings.max_iter // 4
    return tf.clip_by_value(every, _FEWEST_STEPS, _MOST_STEPS), tf.clip_by_value(best, _FEWEST_STEPS, _MOST_STEPS)
