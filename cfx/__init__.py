"""Counterfactual instances: the nearest input that a classifier assigns to another class.

The names below and the classes of all methods in `cfx.methods` are loaded on first use, so that a program that only
reads results does not import TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cfx import methods

if TYPE_CHECKING:
    from cfx.constraints import Constraints as Constraints
    from cfx.errors import InputError as InputError
    from cfx.method import ArrayMethod as ArrayMethod
    from cfx.method import Method as Method
    from cfx.method import StepMethod as StepMethod
    from cfx.methods.growing_spheres import GrowingSpheres as GrowingSpheres
    from cfx.methods.latent import Latent as Latent
    from cfx.methods.nearest_neighbour import NearestNeighbour as NearestNeighbour
    from cfx.methods.plausible import Plausible as Plausible
    from cfx.methods.primal_dual import PrimalDual as PrimalDual
    from cfx.methods.prototype import Prototype as Prototype
    from cfx.methods.segment import Segment as Segment
    from cfx.methods.wachter import Wachter as Wachter
    from cfx.problem import Problem as Problem
    from cfx.result import Result as Result
    from cfx.search import find_counterfactuals as find_counterfactuals

__version__ = "0.1.0"

_HOMES = {
    "ArrayMethod": "cfx.method",
    "Constraints": "cfx.constraints",
    "InputError": "cfx.errors",
    "Method": "cfx.method",
    "Problem": "cfx.problem",
    "Result": "cfx.result",
    "StepMethod": "cfx.method",
    "find_counterfactuals": "cfx.search",
} | {methods.class_name(name): f"cfx.methods.{name}" for name in methods.names()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
