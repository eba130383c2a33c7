"""Several different counterfactuals of an instance.

Each of several searches may only change its own random half, quarter or eighth of the features, so that they find
different changes. From their results, the nearest is chosen first, and then, repeatedly, the one farthest from those
chosen (greedy max-min dispersion: Ravi, Rosenkrantz and Tayi 1994).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cfx.region import Region
from cfx.result import CHANGED, Result, distances

# The number of searches for each counterfactual that is asked for.
_SEARCHES = 4
# The shares of the features that the searches may change, in turn.
_SHARES = (1 / 2, 1 / 4, 1 / 8)
# The side of the blocks of an image that change together, as a share of its side.
_BLOCK = 0.25


def searches(count: int) -> int:
    """The number of searches of an instance."""
    return count * _SEARCHES


def shares(region: Region, times: int) -> Region:
    """The regions of `times` searches for each of n instances, (n times); the first may change all features."""
    random = np.random.default_rng(0)
    repeated = region.take(np.repeat(np.arange(len(region.x)), times))
    part = _parts(region)
    count = part.max() + 1
    sizes = [max(1, round(_SHARES[one % len(_SHARES)] * count)) for one in range(times)]
    chosen = np.array([random.permutation(count) < size for size in sizes])
    chosen[0] = True
    is_free = np.tile(chosen[:, part], (len(region.x), 1))
    lower, upper = (np.where(is_free, bound, repeated.x) for bound in (repeated.lower, repeated.upper))
    return replace(repeated, lower=lower, upper=upper)


def choose(x: np.ndarray, instances: np.ndarray, found: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` rows of each instance, (n count,), and which of the (n times) rows are chosen results, bool.

    If an instance has fewer different counterfactuals, its last rows are others, which are no results.

    x, instances: (n times, *shape), in units of the cost; found: (n times,).
    """
    x, cost = x.reshape(len(x), int(np.prod(x.shape[1:]))), distances(x, instances)[0]
    times = searches(count)
    is_result = np.zeros(len(x), bool)
    rows = []
    for start in range(0, len(x), times):
        of_instance = slice(start, start + times)
        chosen = start + _chosen(x[of_instance], np.where(found[of_instance], cost[of_instance], np.inf), count)
        is_result[chosen] = True
        others = np.setdiff1d(np.arange(start, start + times), chosen)
        rows += [chosen, others[: count - len(chosen)]]
    return np.concatenate([np.zeros(0, int), *rows]), is_result


def of_places(result: Result, chosen: np.ndarray, count: int) -> Result:
    """The chosen rows (n count,) with their places, and a share each of the time and the steps of all searches."""
    n, times = len(chosen) // count, searches(count)
    seconds, steps = (values.reshape(n, times).sum(axis=1) for values in (result.runtime_s, result.iterations))
    taken = result.take(chosen)
    return replace(
        taken,
        place=np.tile(np.arange(1, count + 1), n),
        runtime_s=np.repeat(seconds / count, count),
        iterations=np.repeat(-(-steps // count), count),
    )


def _parts(region: Region) -> np.ndarray:
    """The part of each feature, (features,) int: features of one part change together."""
    if len(region.shape) == 3:
        height, width, channels = region.shape
        rows, columns = (np.arange(side) // max(1, round(_BLOCK * side)) for side in (height, width))
        blocks = rows[:, None] * (columns.max() + 1) + columns
        return np.repeat(blocks.ravel(), channels)
    part = np.arange(len(region.group))
    for members in region.groups():
        part[members] = members[0]
    return np.unique(part, return_inverse=True)[1]


def _chosen(x: np.ndarray, cost: np.ndarray, count: int) -> np.ndarray:
    """The different searches chosen from those at x (times, features), at most `count`; cost is infinite if none."""
    is_left, nearest = np.isfinite(cost), np.full(len(x), np.inf)
    chosen: list[int] = []
    while is_left.any() and len(chosen) < count:
        score = nearest if chosen else -cost
        chosen.append(int(np.where(is_left, score, -np.inf).argmax()))
        change = np.abs(x - x[chosen[-1]])
        nearest = np.minimum(nearest, change.sum(axis=1))
        is_left &= change.max(axis=1) > CHANGED
    return np.array(chosen, int)
