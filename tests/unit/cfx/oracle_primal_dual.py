"""The search of `cfx.methods.primal_dual`, one instance at a time, in numpy: its docstrings' equations and no more."""

import numpy as np


def plan(max_iter, targets):
    """Phase, cycle and share of every step; targets: how many target classes there are."""
    count, cycles = min(targets, 9), 1 + max_iter // 25
    short, longer = (int(np.clip(max_iter // part, 8, 50)) for part in (8, 4))
    phases = [("all", short, count * short)] if count > 3 else []
    phases += [("best", longer, min(count, 3) * longer)] if count > 1 else []
    phases += [("refine", -(-max_iter // cycles), max_iter)]
    return [(name, k // size, k % size / max(size - 1, 1)) for name, size, steps in phases for k in range(steps)]


def search(model, x0, target, method):
    """The counterfactual (d,) of x0 (d,), and the steps taken.

    model(x) gives logits (classes,) and their gradients (classes, d); target: (classes,) bool.
    """
    low, high = method.feature_range
    floor, ceiling = (logit(method.target_proba + sign * 0.99 * method.tol) for sign in (-1, 1))
    noise = np.random.default_rng(0).standard_normal((64, len(x0)))
    steps = plan(method.max_iter, target.sum())
    before = sum(phase != "refine" for phase, _, _ in steps)
    candidates = np.argsort(-np.where(target, model(x0)[0], -np.inf), kind="stable")[: min(target.sum(), 9)]
    l1_of = dict.fromkeys(range(len(target)), np.inf)
    aim = nearest = candidates[0]
    side = -1 if margin(*model(x0), aim)[0] > ceiling else 1
    x, change, deviation, best, best_l1, met = x0, 0 * x0, 0.0, x0, np.inf, False
    total = weight = squares = surplus = 0.0
    lam, factor, rate = None, 2.0, method.learning_rate
    for k, (phase, _, share) in enumerate(steps, 1):
        logits, gradients = model(x)
        f = np.exp(np.where(target, logits, -np.inf).max() - np.logaddexp.reduce(logits))
        l1 = np.abs(x - x0).sum()
        if abs(f - method.target_proba) <= 0.999 * method.tol:
            met, l1_of[aim] = met or deviation == 0, min(l1_of[aim], l1)
            if l1 <= best_l1:
                best, best_l1, nearest = x, l1, np.where(target, logits, -np.inf).argmax()
        m, g = (side * value for value in margin(logits, gradients, aim))
        total, weight, squares = 0.6 * total + g, 0.6 * weight + 1, squares + g**2
        slope, root_mean_square = total / weight, np.sqrt(squares / k)
        missing = (floor if side > 0 else -ceiling) - m
        surplus = 0.0 if met or deviation > 0 else max(surplus + missing / 4, 0)
        reach = rate * (1 - 79 / 80 * share) * (high - low) / np.maximum(root_mean_square, 1e-10)
        lam = method.lam_init * np.abs(slope).max() if lam is None else lam
        change, lam, factor = proximal(x0, change, slope, reach, missing + surplus, lam, factor, low, high)
        if not met and lam < 0.02 * np.abs(slope).max():
            rate = max(rate, min(1.5 * rate, 0.8))
        if k == len(steps):
            return best, k
        last, (phase, cycle, share) = phase, steps[k]
        if (last, phase) == ("all", "best"):
            candidates = sorted(candidates, key=l1_of.get)
        if share == 0:
            total = weight = 0.0
            met = phase == "refine" and best_l1 < np.inf
            aim = nearest if phase == "refine" else candidates[cycle]
            change = best - x0 if met else change if phase == "refine" else 0 * x0
        deviation = 0.35 * max(1 - share / 0.45, 0)
        x = np.clip(x0 + change + deviation * (high - low) * noise[(k - before) % 64], low, high)


def proximal(x0, change, slope, reach, missing, lam, factor, low, high):
    """The next change (d,), lam and factor, as in `cfx.proximal`."""
    free, wanted = change + reach * slope, slope @ change + missing
    to = lambda lam: np.clip(x0 + np.sign(free) * np.maximum(np.abs(free) - reach * lam, 0), low, high) - x0  # noqa: E731
    excess = slope @ to(lam) - wanted
    other = lam * factor if excess > 0 else lam / factor
    other_excess = slope @ to(other) - wanted
    is_between = (excess > 0) != (other_excess > 0)
    lam += (excess / (excess - other_excess) if is_between else 1) * (other - lam)
    lam = np.clip(lam, 1e-4 * np.abs(slope).max(), 2 * np.abs(slope).max())
    return to(lam), lam, np.clip(1 + (factor - 1) * (0.7 if is_between else 1.6), 1.05, 5)


def margin(logits, gradients, aim):
    """The margin of the class aimed at and its gradient (d,)."""
    others = np.arange(len(logits)) != aim
    rest = np.logaddexp.reduce(logits[others])
    return logits[aim] - rest, gradients[aim] - np.exp(logits[others] - rest) @ gradients[others]


def logit(p):
    return np.inf if p >= 1 else np.log(max(p, 1e-30) / (1 - max(p, 1e-30)))
