"""`Counterfactual` of alibi 0.9.6 (Business Source Licence 1.1, which permits to run it).

Wachter, Mittelstadt and Russell: Counterfactual explanations without opening the black box. Harvard Journal of Law &
Technology 31(2), 2018. The settings are those of alibi's MNIST example, which are also its defaults: 10 weights of the
distance by bisection, 1,000 steps of Adam each. It asks for |f_t - target_proba| <= tol itself.

alibi runs a copy of the model, so `iterations` does not count its calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfx import ArrayMethod, Problem
from cfx.keras2 import rebuilt


@dataclass(frozen=True, kw_only=True)
class AlibiCounterfactual(ArrayMethod):
    """Steps of Adam on the squared error of f_t plus the weighted L1 distance, one instance at a time."""

    steps: int = 1000  # maximum number of steps for a weight of the distance, 1 to 100,000
    weights: int = 10  # number of weights of the distance, 1 to 1,000
    first_weight: float = 0.1  # the first of them, > 0
    rate: float = 0.1  # learning rate of Adam, decays linearly to 0, > 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("steps", most=100_000)
        self._check_whole_number("weights", most=1000)
        for name in ("first_weight", "rate"):
            self._check_number(name, lambda value: value > 0, "> 0")

    def search(self, problem: Problem) -> np.ndarray:
        """The counterfactual of each instance; the instance itself if alibi finds none."""
        import tensorflow as tf

        tf.compat.v1.disable_eager_execution()
        tf.keras.utils.set_random_seed(problem.seed)
        from alibi.explainers import Counterfactual

        model, explainers, found = rebuilt(problem), {}, problem.x.copy()
        for row, x in enumerate(problem.x):
            problem.progress(row, len(problem.x))
            classes = np.flatnonzero(problem.target[row])
            target = int(classes[0]) if len(classes) == 1 else "other"
            if target not in explainers:
                explainers[target] = Counterfactual(
                    model,
                    shape=x[None].shape,
                    target_class=target,
                    target_proba=problem.target_proba,
                    tol=problem.tol,
                    feature_range=(np.float32(problem.low), np.float32(problem.high)),
                    max_iter=self.steps,
                    max_lam_steps=self.weights,
                    lam_init=self.first_weight,
                    learning_rate_init=self.rate,
                )
            if (best := explainers[target].explain(x[None]).cf) is not None:
                found[row] = best["X"][0]
        return found
