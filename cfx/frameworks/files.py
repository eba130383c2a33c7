"""A model file of another framework, what may run when it is loaded, and the package that loads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from cfx.errors import InputError


@dataclass(frozen=True)
class ModelFile:
    """A user's model file."""

    content: bytes
    """The content of the file."""
    where: str
    """The name of the file in error messages."""
    module: ModuleType | None = None
    """The user's module, for a framework whose file has only weights."""
    safe_mode: bool = True
    """Whether a file that can run code is refused."""
    trusted: Sequence[str] = ()
    """The names of types that may be made although the framework does not know them."""

    def refused(self, framework: str, error: BaseException, action: str = "") -> InputError:
        """The error of one line for an exception of the framework."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:200] if lines else type(error).__name__
        return InputError(f"{self.where}: cannot be loaded as a model of {framework} ({reason}){action}")


def imported(name: str) -> ModuleType:
    """An optional package. Raises InputError if it is not installed."""
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise InputError(f"the package {package} is not installed; run `pip install {package}`") from error
