"""Load and check the class in a user's file, in the process that runs it. Only numpy is required."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cfx.errors import InputError
from cfx.method import Method

# The maximum length of an exception's message, in characters.
_MESSAGE = 500


def source(module: Path) -> bytes:
    """The bytes of a file. Raises InputError if it cannot be read."""
    try:
        return module.read_bytes()
    except OSError as error:
        raise InputError(
            f"module: {module} cannot be read ({error.strerror}); give the path of a Python file"
        ) from error


def load(module: Path) -> type[Method]:
    """Import the class of a file into this process. Raises InputError unless there is exactly one."""
    text = source(module)
    # The module name ends with the name of the method, and each version of a file is imported once.
    name = f"{__name__}.{hashlib.sha256(text).hexdigest()[:16]}.{module.stem}"
    if name not in sys.modules:
        try:
            code = compile(text, str(module), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            raise InputError(f"module: {module.name}{line}: {getattr(error, 'msg', error)}") from error
        loaded = ModuleType(name)
        loaded.__file__ = str(module)
        # A dataclass looks up its module there.
        sys.modules[name] = loaded
        try:
            exec(code, vars(loaded))
        except Exception as error:
            del sys.modules[name]
            advice = "; install it in the environment that runs the file" if isinstance(error, ImportError) else ""
            raise InputError(f"module: {blame(error, module)}{advice}") from error
    return _only_class(sys.modules[name], module)


def make(
    method: type[Method], module: Path, values: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> Method:
    """Create a method. Raises InputError if a hyperparameter is unknown, missing or invalid."""
    known = hyperparameters(method)
    of_problem = {item.name: item.default for item in fields(Method)}
    if changed := [item.name for item in fields(method) if of_problem.get(item.name, item.default) != item.default]:
        raise InputError(f"module: {module.name} changes the default of {changed[0]}; remove this field from the class")
    if unknown := sorted(values.keys() - known):
        raise InputError(
            f"hyperparameters: {module.name} has no hyperparameter {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )
    # A configuration may contain None for a required value.
    if missing := [name for name in known if name in _needed(method) and values.get(name) is None]:
        raise InputError(f"hyperparameters: {module.name} needs a value of {missing[0]}, which has no default")
    try:
        return method(**(shared or {}), **values)
    except ValueError as error:
        raise InputError(f"hyperparameters: {one_line(str(error))}") from error
    except Exception as error:
        raise InputError(f"hyperparameters: {blame(error, module)}") from error


def hyperparameters(method: type[Method]) -> dict[str, Any]:
    """The default values of a method's own fields by name, None for a required value."""
    shared = {item.name for item in fields(Method)}
    own = [item for item in fields(method) if item.init and item.name not in shared]
    factories = {item.name: item.default_factory for item in own if item.default_factory is not MISSING}
    defaults = {item.name: item.default for item in own if item.default is not MISSING}
    return {item.name: factories[item.name]() if item.name in factories else defaults.get(item.name) for item in own}


def plain(values: Mapping[str, Any], argument: str) -> dict[str, Any]:
    """Convert values to JSON types, including numpy numbers and arrays. Raises InputError for other objects."""

    def plain_value(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        what = one_line(repr(value))[:_MESSAGE]
        raise InputError(f"{argument}: {what} is not a number, string, list or mapping; give one of these")

    made: dict[str, Any] = json.loads(json.dumps(dict(values), default=plain_value))
    return made


def blame(error: Exception, module: Path) -> str:
    """An exception of a user's file in one line: the line of the file, the class of the exception and its message.

    An InputError is no defect of the file, so its message stands alone.
    """
    message = one_line(str(error))[:_MESSAGE]
    if isinstance(error, InputError):
        return f"{module.name}: {message}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(module)]
    where = f"{module.name}, line {frames[-1].lineno}" if frames else module.name
    return f"{where}: {type(error).__name__}: {message}"


def one_line(text: str) -> str:
    """A text in one line, without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _only_class(loaded: ModuleType, module: Path) -> type[Method]:
    found = {
        value
        for value in vars(loaded).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == loaded.__name__
    }
    complete = [method for method in found if not inspect.isabstract(method)]
    if len(complete) > 1:
        names = ", ".join(sorted(method.__name__ for method in complete))
        raise InputError(f"module: {module.name} has more than one method: {names}; leave one class in it")
    for method in complete:
        if "__dataclass_fields__" not in vars(method):
            wanted = "@dataclass(frozen=True, kw_only=True)"
            raise InputError(f"module: {method.__name__} in {module.name} is not a dataclass; write {wanted} above it")
        method.name = module.stem
        return method
    for method in found:
        missing = ", ".join(sorted(method.__abstractmethods__))
        raise InputError(f"module: {method.__name__} in {module.name} is not complete; define {missing}")
    raise InputError(f"module: {module.name} has no method; write a class that extends cfx.ArrayMethod")


def _needed(method: type[Method]) -> set[str]:
    return {item.name for item in fields(method) if item.default is MISSING and item.default_factory is MISSING}
