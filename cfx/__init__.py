"""Counterfactual instances: the nearest input that a classifier puts into another class.

The names below are loaded at first use, so that a program that only reads results does not wait for TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfx.errors import InputError
    from cfx.methods import PrimalDual, Wachter
    from cfx.result import Result
    from cfx.search import find_counterfactuals

_HOMES = {
    "InputError": "cfx.errors",
    "PrimalDual": "cfx.methods",
    "Wachter": "cfx.methods",
    "Result": "cfx.result",
    "find_counterfactuals": "cfx.search",
}

__all__ = ["InputError", "PrimalDual", "Result", "Wachter", "find_counterfactuals"]


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
