"""The proximal step on a linearised margin: what the methods that follow the constraint itself have in common.

The margin of a class t with logits z is m = z_t - log sum_{c != t} exp z_c = logit(f_t). Unlike f_t, it does not
saturate. With the slope g of the margin at x_k and a reach r for each feature, the step solves

    minimise lam |x' - x|_1 - g (x' - x_k) + sum (x' - x_k)^2 / (2 r)   subject to   low <= x' <= high.

Every feature does that on its own: a soft threshold of the change c = x_k + r g - x, then the bounds,

    x'(lam) = clip(x + sign(c) max(|c| - r lam, 0), low, high).

So one that is not worth its change keeps the instance's value, bit for bit. lam = 1 / multiplier is the weight at which
the linear margin just rises by what is missing, the root of e(lam) = g (x'(lam) - x_k) - missing, which falls with lam.
One step of regula falsi a call follows it, with a factor q that is 2 at first: with lam' = q lam where e(lam) > 0, else
lam / q,

    root between them:  lam + (lam' - lam) e(lam) / (e(lam) - e(lam')),   q becomes 1 + 0.7 (q - 1)
    else:               lam',                                             q becomes 1 + 1.6 (q - 1)

with lam kept in [1e-4, 2] times max |g| and q in [1.05, 5]. The step is x' at the new lam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cfx.backend import tf
from cfx.point import along

# The constraint is set at this share of tol, because a step ends near it on either side.
_SURE = 0.99
# The lams that are tried, as shares of the steepest slope: above 1, no feature is worth a change.
_LEAST_LAM, _MOST_LAM = 1e-4, 2
# How the factor around the last lam, within which the next one is looked for, shrinks where the root lies within and
# grows where it does not; and the least and the largest factor.
_SHRINK, _GROW, _LEAST_FACTOR, _MOST_FACTOR = 0.7, 1.6, 1.05, 5


def window(settings: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The lowest and the highest margin wanted, float64; the latter is infinite where a probability of 1 will do."""
    probability, tol = tf.cast(settings.target_proba, tf.float64), _SURE * tf.cast(settings.tol, tf.float64)
    low, high = tf.maximum(probability - tol, 1e-30), tf.minimum(probability + tol, 1)
    return tf.math.log(low / (1 - low)), tf.math.log(high / (1 - high))


def features(x: tf.Tensor) -> list[int]:
    """All axes but that of the rows."""
    return list(range(1, len(x.shape)))


def steepest(slope: tf.Tensor) -> tf.Tensor:
    """The largest size of a slope among the features, (n,)."""
    return tf.maximum(tf.reduce_max(slope, axis=features(slope)), -tf.reduce_min(slope, axis=features(slope)))


def step(
    instance: tf.Tensor,
    change: tf.Tensor,
    slope: tf.Tensor,
    top: tf.Tensor,
    reach: tf.Tensor,
    missing: tf.Tensor,
    lam: tf.Tensor,
    factor: tf.Tensor,
    bounds: tuple[tf.Tensor, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One proximal step.

    Args:
        instance: (n, *shape), from which the L1 distance is measured.
        change: (n, *shape), of the instance up to now: x_k - x.
        slope: (n, *shape), g, in units of the margin per unit of the input.
        top: (n,), `steepest(slope)`, which a method uses too.
        reach: (n, *shape), r, how far a slope of 1 moves a feature.
        missing: (n,), by how much the margin has to rise from x_k on.
        lam: (n,), the last weight of the L1 distance, in units of a slope.
        factor: (n,), above 1: the next lam is looked for between lam and factor times that, or that part of it.
        bounds: the lowest and the highest value of a feature; each broadcasts to (n, *shape), around the instance.

    Returns:
        The next change, the lam near which the linear margin rises by what is missing, and the next factor.
    """
    low, high = bounds
    wanted = missing + tf.reduce_sum(slope * change, axis=features(slope))
    free = change + reach * slope
    # on sizes the threshold and the bounds take four passes over the features, on signed changes seven
    sign = tf.sign(free)
    middle, half = (high + low) / 2, (high - low) / 2
    size, most = tf.abs(free), tf.abs(middle + half * sign - instance)
    signed_slope = sign * slope

    def size_at(lam: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.nn.relu(size - reach * along(lam, reach)), most)

    def excess_at(lam: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(signed_slope * size_at(lam), axis=features(slope)) - wanted

    lam, factor = _root(excess_at, lam, factor)
    lam = tf.clip_by_value(lam, _LEAST_LAM * top, _MOST_LAM * top)
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
    next_factor = 1 + (factor - 1) * tf.where(is_between, _SHRINK, _GROW)
    return lam + share * (other - lam), tf.clip_by_value(next_factor, _LEAST_FACTOR, _MOST_FACTOR)
