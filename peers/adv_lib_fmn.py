"""FMN-L1, the Fast Minimum-Norm attack, of adversarial-library 0.2.8 (BSD 3-Clause licence).

Pintor, Roli, Brendel and Biggio: Fast minimum-norm adversarial attacks through adaptive norm constraints. NeurIPS 2021,
arXiv:2102.12827. The authors report 1,000 steps and start at an input of the target class if there is one, which a
targeted attack needs: without it FMN found 6 to 15 of 40 digits. Its first step is 10, as tuned for MNIST in L1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cfx.attack import Attack


@dataclass(frozen=True, kw_only=True)
class Fmn(Attack):
    """Steps along the gradient of the margin, projected onto an L1 ball that grows and shrinks around the boundary."""

    NEEDS_START: ClassVar[bool] = True

    steps: int = 1000  # number of steps, 1 to 100,000
    step_size: float = 10.0  # L2 length of the first step, in units of the feature range, > 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("steps", most=100_000)
        self._check_number("step_size", lambda value: value > 0, "> 0")

    def perturb(self, model: Any, x: Any, target: Any, start: Any) -> Any:
        """The nearest point of the boundary on the way."""
        from adv_lib.attacks import fmn

        settings = {"steps": self.steps, "α_init": self.step_size, "starting_points": start}  # noqa: RUF001
        return fmn(model, x, target, norm=1, targeted=True, **settings)
