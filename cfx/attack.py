"""The base class of adversarial attacks of PyTorch libraries, for a user's file that runs in such an environment.

An attack ends where the predicted class changes, which for a counterfactual is too early: the probability f_t of the
target class must be at least q = target_proba - tol. So it attacks a classifier that predicts the target class exactly
in that case. With z the logits of the caller's model, f_t >= q is z_t - logsumexp(z_j, j != t) >= log(q / (1 - q)), so
z_t is lowered by the right-hand side, and the other logits are raised until their maximum is their logsumexp.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cfx.errors import InputError
from cfx.method import ArrayMethod
from cfx.problem import Problem

# Added to the required log odds: the attack's arithmetic and the engine's differ by less.
_MARGIN = 1e-3
# How many training instances, nearest first, are classified at once to find a starting point.
_AT_ONCE = 10


@dataclass(frozen=True, kw_only=True)
class Attack(ArrayMethod):
    """A targeted attack that minimises L1 on inputs in [0, 1]. For `other`, it attacks the most probable other class.

    Example of a complete file:

        from dataclasses import dataclass

        from cfx.attack import Attack


        @dataclass(frozen=True, kw_only=True)
        class Fmn(Attack):
            steps: int = 1000

            def perturb(self, model, x, target, start):
                from adv_lib.attacks import fmn

                return fmn(model, x, target, norm=1, targeted=True, steps=self.steps)
    """

    NEEDS_START: ClassVar[bool] = False
    """Whether the attack starts at a training instance of the target class; rows without one are not attacked."""

    @abstractmethod
    def perturb(self, model: Any, x: Any, target: Any, start: Any) -> Any:
        """The attacked inputs (n, *shape), a tensor in [0, 1].

        model: a torch.nn.Module from inputs (n, *shape) to logits (n, classes), for the same rows in the same order.
        x: the instances (n, *shape), float32. target: (n,) int64. start: (n, *shape), float32, the nearest training
        instance of the target class if NEEDS_START, otherwise None.
        """

    def search(self, problem: Problem) -> np.ndarray:
        """The attacked inputs; the instance itself where the attack fails."""
        import torch

        torch.manual_seed(problem.seed)
        low, width = _unit(problem)
        target = np.where(problem.target, problem.probabilities(problem.x), -1).argmax(axis=1)
        found, rows, start = problem.x.copy(), np.arange(len(problem.x)), None
        if self.NEEDS_START:
            start, is_started = starts(problem, target)
            rows = np.flatnonzero(is_started)
            start = torch.from_numpy((start[rows] - low) / width)
        if not len(rows):
            return found
        x = (problem.x[rows] - low) / width
        model = _module(Classifier(problem, target[rows], low, width))
        attacked = self.perturb(model, torch.from_numpy(x), torch.from_numpy(target[rows]), start).detach().numpy()
        found[rows] = accepted(problem, rows, x, attacked)
        return found


@dataclass(frozen=True)
class Classifier:
    """A classifier of inputs in [0, 1] that predicts the target class of a row if and only if f_t >= q."""

    problem: Problem
    target: np.ndarray
    """(n,) int, the target class of each row."""
    low: np.float32
    width: np.float32

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Its logits (n, classes), and those of the caller's model, for inputs (n, *shape)."""
        if len(x) != len(self.target):
            raise ValueError(f"the model takes the {len(self.target)} rows of the problem, got {len(x)}")
        none = np.zeros((len(x), self.problem.target.shape[1]), np.float32)
        z, _ = self.problem.logits_and_gradient(self._inputs(x), none)
        rest, rows = self._rest(z), np.arange(len(z))
        shift = np.log(np.exp(rest - rest.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
        decided = z + shift
        decided[rows, self.target] = z[rows, self.target] - _log_odds(self.problem)
        return decided.astype(np.float32), z

    def gradient(self, x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The gradient (n, *shape) of each row's weighted sum of its logits; z: the logits of the caller's model."""
        rest, rows = self._rest(z), np.arange(len(z))
        share = np.exp(rest - rest.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share[rows, rest.argmax(axis=1)] -= 1
        others = weights.copy()
        others[rows, self.target] = 0
        of_model = weights + others.sum(axis=1, keepdims=True) * share
        return self.problem.logits_and_gradient(self._inputs(x), of_model)[1] * self.width

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        return (x * self.width + self.low).astype(np.float32)

    def _rest(self, z: np.ndarray) -> np.ndarray:
        rest = z.copy()
        rest[np.arange(len(z)), self.target] = -np.inf
        return rest


def starts(problem: Problem, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training instance in L1 that is a counterfactual of each row, (n, *shape), and whether there is one.

    target: (n,) int. The instance has the label `target` and f_t >= target_proba - tol.
    """
    nearest, is_found = problem.x.copy(), np.zeros(len(target), bool)
    # twice the margin, because the attacked classifier rounds
    required = 1 / (1 + np.exp(-_log_odds(problem) - _MARGIN))
    for row, label in enumerate(target):
        real = problem.x_train[problem.y_train == label]
        order = np.abs(real - problem.x[row]).sum(axis=tuple(range(1, real.ndim))).argsort()
        for first in range(0, len(order), _AT_ONCE):
            candidates = real[order[first : first + _AT_ONCE]]
            is_met = problem.probabilities(candidates)[:, label] >= required
            if is_met.any():
                nearest[row], is_found[row] = candidates[is_met.argmax()], True
                break
    return nearest, is_found


def accepted(problem: Problem, rows: np.ndarray, x: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """The attacked inputs that are counterfactuals, in the range of the problem; the instance in place of any other.

    rows: (k,) their indices in the problem. x: (k, *shape), the instances in [0, 1]. attacked: (k, *shape).
    """
    low, width = _unit(problem)
    instances, features = problem.x[rows], tuple(range(1, x.ndim))
    # an unchanged feature keeps its exact value, which scaling to [0, 1] and back would round
    moved = np.where(attacked == x, instances, np.clip(attacked, 0, 1) * width + low).astype(np.float32)
    # the model rejects all rows if one is not finite
    moved = np.where(np.isfinite(moved).all(axis=features, keepdims=True), moved, instances)
    return np.where(np.expand_dims(problem.is_met(moved, rows), features), moved, instances)


def _log_odds(problem: Problem) -> float:
    """The smallest z_t - logsumexp(z_j, j != t) of a counterfactual."""
    q = max(problem.target_proba - problem.tol, 1e-6)
    return float(np.log(q / (1 - q))) + _MARGIN


def _unit(problem: Problem) -> tuple[np.float32, np.float32]:
    """The minimum of the features and their width, because libraries expect inputs in [0, 1]."""
    if np.ndim(problem.low) or np.ndim(problem.high):
        raise InputError("feature_range must be two numbers, because an attack has one range for all features")
    return np.float32(problem.low), np.float32(problem.high) - np.float32(problem.low)


def _module(classifier: Classifier) -> Any:
    """The classifier as a torch.nn.Module that can be differentiated once."""
    import torch

    class Logits(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.x = x.detach().numpy().copy()
            logits, ctx.z = classifier.logits(ctx.x)
            return torch.from_numpy(logits)

        @staticmethod
        def backward(ctx: Any, *weights: Any) -> Any:
            return torch.from_numpy(classifier.gradient(ctx.x, ctx.z, weights[0].numpy()))

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return Logits.apply(x)

    return Module().eval()
