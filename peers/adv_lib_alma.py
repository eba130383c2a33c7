"""ALMA-L1, the Augmented Lagrangian Method for Adversarial attacks, of adversarial-library 0.2.8 (BSD 3-Clause).

Rony, Granger, Pedersoli and Ben Ayed: Augmented Lagrangian adversarial attacks. ICCV 2021, arXiv:2011.11857. The
settings are the authors' for L1 and 1,000 steps: the penalty P2, a first step that changes the L1 distance by 0.5, and
alpha 0.9. It normalises the margin by the third and fourth logit, so a model needs at least four classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cfx import InputError, Problem
from cfx.attack import Attack


@dataclass(frozen=True, kw_only=True)
class Alma(Attack):
    """Steps of RMSProp on the L1 distance plus a penalty of the margin, whose weight adapts to each row."""

    steps: int = 1000  # number of steps, 20 to 100,000
    first_distance: float = 0.5  # L1 distance of the first step, in units of the feature range, > 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("steps", least=20, most=100_000)
        self._check_number("first_distance", lambda value: value > 0, "> 0")

    def search(self, problem: Problem) -> np.ndarray:
        """Refuse a model of fewer than four classes."""
        if problem.target.shape[1] < 4:
            raise InputError(f"ALMA needs a model of four classes or more, got {problem.target.shape[1]}")
        return super().search(problem)

    def perturb(self, model: Any, x: Any, target: Any, start: Any) -> Any:
        """The nearest counterfactual on the way."""
        from adv_lib.attacks import alma

        settings = {"num_steps": self.steps, "init_lr_distance": self.first_distance}
        return alma(model, x, target, targeted=True, distance="l1", **settings)
