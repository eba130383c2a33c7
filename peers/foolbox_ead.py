"""EAD, the Elastic-net Attack to Deep neural networks, of Foolbox 3.3.4 (MIT licence).

Chen, Sharma, Zhang, Yi and Hsieh: EAD: elastic-net attacks to deep neural networks via adversarial examples. AAAI 2018,
arXiv:1709.04114. The settings are the authors': beta 0.01, nine weights of the prediction loss from 0.001, a first step
of 0.01 and 1,000 steps a weight; the nearest counterfactual in L1 is kept (the decision rule L1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cfx.attack import Attack


@dataclass(frozen=True, kw_only=True)
class Ead(Attack):
    """Iterative shrinkage-thresholding on the hinge loss of the margin plus the elastic net of the change."""

    steps: int = 1000  # maximum number of steps for a weight of the prediction loss, 1 to 100,000
    weights: int = 9  # number of weights of the prediction loss, found by bisection, 1 to 50
    beta: float = 0.01  # weight of the L1 distance beside the squared L2 distance, > 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("steps", most=100_000)
        self._check_whole_number("weights", most=50)
        self._check_number("beta", lambda value: value > 0, "> 0")

    def perturb(self, model: Any, x: Any, target: Any, start: Any) -> Any:
        """The nearest counterfactual on the way."""
        import foolbox

        settings = {"steps": self.steps, "binary_search_steps": self.weights, "regularization": self.beta}
        attack = foolbox.attacks.EADAttack(decision_rule="L1", **settings)
        wanted = foolbox.criteria.TargetedMisclassification(target)
        return attack.run(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, wanted)
