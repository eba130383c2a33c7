"""The proximal step on a linearised margin, which several methods share.

The margin of a class t with logits z is m = z_t - log sum_{c != t} exp z_c = logit(f_t). Unlike f_t, it does not
saturate. With the slope g of the margin at x_k and a reach r for each feature, the step solves

    minimise lam |x' - x|_1 - g (x' - x_k) + sum (x' - x_k)^2 / (2 r)   subject to   low <= x' <= high.

The solution is separate for each feature: a soft threshold of the change c = x_k + r g - x, then the bounds,

    x'(lam) = clip(x + sign(c) max(|c| - r lam, 0), low, high).

So a feature with little effect keeps the value of the instance bit for bit. lam = 1 / multiplier is the weight at which
the linear margin just increases by `missing`: the root of e(lam) = g (x'(lam) - x_k) - missing, which decreases in lam.
Each call takes one step of regula falsi, with a factor q that is initially 2: with lam' = q lam if e(lam) > 0, else
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

# The share of tol for the constraint, because a step ends near it on either side.
_SURE = 0.99
# The limits of lam as shares of the steepest slope: above 1, no feature changes.
_LEAST_LAM, _MOST_LAM = 1e-4, 2
# The factor around the last lam: how it shrinks if the root lies within it and grows otherwise, and its limits.
_SHRINK, _GROW, _LEAST_FACTOR, _MOST_FACTOR = 0.7, 1.6, 1.05, 5


def window(settings: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The minimum and maximum margin of a counterfactual, float64; infinite if a probability of 1 is accepted."""
    probability, tol = tf.cast(settings.target_proba, tf.float64), _SURE * tf.cast(settings.tol, tf.float64)
    low, high = tf.maximum(probability - tol, 1e-30), tf.minimum(probability + tol, 1)
    return tf.math.log(low / (1 - low)), tf.math.log(high / (1 - high))


def features(x: tf.Tensor) -> list[int]:
    """All axes except that of the rows."""
    return list(range(1, len(x.shape)))


def steepest(slope: tf.Tensor) -> tf.Tensor:
    """The maximum absolute slope of the features, (n,)."""
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
        change: (n, *shape), the current change x_k - x.
        slope: (n, *shape), g, in units of the margin per unit of the input.
        top: (n,), `steepest(slope)`.
        reach: (n, *shape), r, the change of a feature per unit of slope.
        missing: (n,), the required increase of the margin from x_k.
        lam: (n,), the last weight of the L1 distance, in units of a slope.
        factor: (n,), above 1: the next lam is between lam and lam times factor, or lam divided by factor.
        bounds: the minimum and maximum of a feature; each broadcasts to (n, *shape).

    Returns:
        The next change, the lam near which the linear margin increases by `missing`, and the next factor.
    """
    low, high = bounds
    wanted = missing + tf.reduce_sum(slope * change, axis=features(slope))
    free = change + reach * slope
    # with absolute values, the threshold and the bounds need four passes over the features instead of seven
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
    """A lam nearer to the root of the excess, which decreases in lam, and the factor for the next call."""
    excess = excess_at(lam)
    other = tf.where(excess > 0, lam * factor, lam / factor)
    other_excess = excess_at(other)
    is_between = (excess > 0) != (other_excess > 0)
    share = tf.where(is_between, excess / tf.where(is_between, excess - other_excess, 1), 1)
    next_factor = 1 + (factor - 1) * tf.where(is_between, _SHRINK, _GROW)
    return lam + share * (other - lam), tf.clip_by_value(next_factor, _LEAST_FACTOR, _MOST_FACTOR)
