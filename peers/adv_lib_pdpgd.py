"""PDPGD-L1, the Primal-Dual Proximal Gradient Descent attack, of adversarial-library 0.2.8 (BSD 3-Clause licence).

Matyasko and Chau: PDPGD: primal-dual proximal gradient descent adversarial attack. 2021, arXiv:2106.01538. The settings
are those of the library, which are the authors', for L1 and 500 steps. AttackBench (AAAI 2025) ranks it among the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cfx.attack import Attack


@dataclass(frozen=True, kw_only=True)
class Pdpgd(Attack):
    """Proximal steps of Adam on the L1 distance plus the weighted loss, whose weight is the dual variable."""

    steps: int = 500  # number of steps, 1 to 100,000

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        self._check_whole_number("steps", most=100_000)

    def perturb(self, model: Any, x: Any, target: Any, start: Any) -> Any:
        """The nearest counterfactual on the way."""
        from adv_lib.attacks import pdpgd

        return pdpgd(model, x, target, norm=1, targeted=True, num_steps=self.steps)
