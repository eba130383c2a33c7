"""The L1 attack of Brendel and Bethge, of Foolbox 3.3.4 (MIT licence).

Brendel, Rauber, Kuemmerer, Ustyuzhaninov and Bethge: Accurate, reliable and fast robustness evaluation. NeurIPS 2019,
arXiv:1907.01003. The settings are those of Foolbox, the reference implementation, with 1,000 steps. It starts at the
nearest training instance of the target class, as a targeted attack of the authors does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cfx.attack import Attack


@dataclass(frozen=True, kw_only=True)
class BrendelBethge(Attack):
    """Steps along the boundary towards the instance, each the optimum inside a trust region."""

    NEEDS_START: ClassVar[bool] = True

    steps: int = 1000  # number of steps, 1 to 100,000

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        self._check_whole_number("steps", most=100_000)

    def perturb(self, model: Any, x: Any, target: Any, start: Any) -> Any:
        """The nearest point of the boundary on the way."""
        import foolbox

        attack = foolbox.attacks.L1BrendelBethgeAttack(steps=self.steps)
        wanted = foolbox.criteria.TargetedMisclassification(target)
        victim = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return attack.run(victim, x, wanted, starting_points=start)
