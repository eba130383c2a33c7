"""The search of `cfx.methods.wachter`, of one instance and in plain numpy: the equations of its docstring, and no more.

It is read first by whoever wants to know what the method does, and the engine is compared with it.
"""

import numpy as np

from cfx.method import Method

SURE = 0.999  # the share of tol within which the engine takes a point for a counterfactual


def search(model, x0: np.ndarray, target: np.ndarray, method: Method) -> tuple[np.ndarray, float, int]:
    """The counterfactual (d,) of an instance x0 (d,), the lambda at which it was met, and the steps taken.

    model(x) gives the probabilities (classes,) and their gradient (classes, d). target: (classes,) bool.
    """
    low, high, valid = 0.0, 10 * method.lam_init, 0
    lam, number, steps = method.lam_init, 0, 0
    x, best, best_l1, best_lam = x0, x0, np.inf, np.nan
    while True:
        is_sweep = number < 10
        streak, fruitless, met = 0, 0, False
        most = max(method.max_iter // 10, 1) if is_sweep else method.max_iter
        m = v = 0.0
        for t in range(1, most + 1):
            f, slope = f_and_slope(model, x, target)
            change, steps = x - x0, steps + 1
            hit, l1 = abs(f - method.target_proba) <= SURE * method.tol, np.abs(change).sum()
            streak = max(streak, 0) + 1 if hit else min(streak, 0) - 1
            met, fruitless = met or hit, 0 if hit and l1 <= best_l1 else fruitless + 1
            if hit and l1 < best_l1:
                best, best_l1, best_lam = x, l1, lam

            g = 2 * (f - method.target_proba) * slope + lam * np.sign(change)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            mean, square = m / (1 - 0.9**t), v / (1 - 0.999**t)
            rate = method.learning_rate * (1 - (t - 1) / method.max_iter)
            x = np.clip(x - rate * mean / (np.sqrt(square) + 1e-18), *method.feature_range)
            if streak >= method.early_stop or (
                not is_sweep and (-streak >= method.early_stop or fruitless >= 4 * method.early_stop)
            ):
                break

        valid += is_sweep and met
        if met:
            low = lam
        elif not is_sweep or valid == 0:
            high = lam
        ends_sweep = valid == 2 or number >= 9
        lam = lam / 10 if low == 0 or (is_sweep and not ends_sweep) else (low + high) / 2
        number = 10 if is_sweep and ends_sweep else number + 1
        if number >= 10 + method.max_lam_steps or (not is_sweep and high - low <= 0.01 * high):
            return best, best_lam, steps


def f_and_slope(model, x: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """f_t, the probability of the likeliest target class, and its gradient (d,)."""
    probability, gradient = model(x)
    likeliest = np.where(target, probability, -1).argmax()
    return probability[likeliest], gradient[likeliest]
