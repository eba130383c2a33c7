"""The built-in methods. Each is one module in this package and is found by its name.

A module contains one class with the name of the module in CamelCase: `primal_dual` has `PrimalDual`. It is a subclass
of `cfx.method.StepMethod` or `cfx.method.ArrayMethod`. Importing it must not import TensorFlow, so that a configuration
can be checked quickly; use `from cfx.backend import tf`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from cfx.errors import InputError

if TYPE_CHECKING:
    from cfx.method import Method


def names() -> tuple[str, ...]:
    """The names of all methods, sorted: `nearest_neighbour`, `primal_dual`, `wachter`, ..."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def class_name(name: str) -> str:
    """The name of the class of a method: `PrimalDual` for `primal_dual`."""
    return name.title().replace("_", "")


def get(name: str) -> type[Method]:
    """The class of a method. Raises InputError for an unknown name."""
    if name not in names():
        raise InputError(f"there is no method {name!r}: choose one of {', '.join(names())}")
    method: type[Method] = getattr(import_module(f"{__name__}.{name}"), class_name(name))
    return method
