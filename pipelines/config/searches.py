"""The `search` section of the configuration as a method of `cfx`: ours by its name, or one in a file of the user's.

A method of the user's own has the section of conf/search/own.yaml, with its hyperparameters beside the options there.
Its file is run in a process of its own even to find these out, so a broken one cannot take the driver with it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from cfx import methods, own
from cfx.data import FEATURE_RANGE
from cfx.errors import InputError
from cfx.method import Method
from cfx.own import Description, OwnMethod

OWN = "own"
# What the section of a method of the user's own holds beside the problem and the method's hyperparameters. The digests
# are filled in here: of the file, and of the packages of its environment where that is another one.
FILE = ("module", "python", "timeout_s", "module_sha256", "environment")
_PROBLEM = ("target_class", "target_proba", "tol", "feature_range")
# Where the options of the file stand in the configuration.
_OPTIONS = {"module": "search.module", "python": "search.python", "timeout_s": "search.timeout_s"}


def name(search: Mapping[str, Any]) -> str:
    """What the method of a section is called in columns and charts: its own name, or that of the user's file."""
    method = search.get("method")
    return Path(search["module"]).stem if method == OWN else str(method)


def method(search: Mapping[str, Any]) -> Method:
    """The method that a section describes. Raises InputError for an unknown name or hyperparameter."""
    section = dict(search)
    chosen = section.pop("method", None)
    own_values = hyperparameters(section) if chosen == OWN else {}
    for axis in ("target_class", "lam_init", "learning_rate"):
        if isinstance(section.get(axis), list | tuple):
            raise InputError(f"search.{axis}: must be one value, not {section[axis]}; to sweep it, give a,b,c")
    if chosen != OWN and chosen not in methods.names():
        raise InputError(
            f"search.method: unknown method {chosen!r}; choose one of {', '.join((*methods.names(), OWN))}"
        )
    try:
        if chosen == OWN:
            shared = {key: section[key] for key in _PROBLEM if key in section}
            made: Method = OwnMethod(**shared, **_file(section), hyperparameters=own_values)
        else:
            made = methods.get(str(chosen))(**section)
    except TypeError as error:
        reason = str(error).split("() ")[-1]
        raise InputError(f"search: method {chosen} {reason}; see conf/search/{chosen}.yaml") from error
    except InputError as error:
        raise InputError(f"search.{error}") from error
    _check_range(made)
    return made


def options(section: Mapping[str, Any]) -> set[str]:
    """The names of the options that a section may set."""
    if section["method"] == OWN:
        return set(section)
    return {field.name for field in fields(methods.get(section["method"]))}


def canonical(search: Mapping[str, Any]) -> dict[str, Any]:
    """The section with every option, each as the method reads it: 1 and 1.0, or 3 and "3", are one value."""
    chosen = method(search)
    named = _PROBLEM if isinstance(chosen, OwnMethod) else options(search)
    values = {key: getattr(chosen, key) for key in sorted(named)}
    return {**search, **values, "feature_range": list(chosen.feature_range)}


def hyperparameters(section: Mapping[str, Any]) -> dict[str, Any]:
    """What of the section of a method of the user's own is the method's: all but the file and the problem.

    Raises InputError for a number that is not finite: NaN equals nothing, and JSON holds neither it nor infinity, so
    that no cell would ever be found again.
    """
    values = {key: section[key] for key in section if key not in (*FILE, *_PROBLEM, "method")}
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                f"search.{key}: must be a finite number, not {value}; give one, or the text as \"'{value}'\""
            )
    return values


def describe(section: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()) -> Description:
    """What the user's file holds, after its class has taken the hyperparameters of all points.

    Raises InputError where it cannot be read or run, or refuses a hyperparameter.
    """
    if not section.get("module"):
        raise InputError("search.module: is missing; give search.module=my_method.py")
    try:
        file = OwnMethod(**_file(section))
        found = own.describe(file.module, file.python, list(points), file.timeout_s)
    except InputError as error:
        argument, _, reason = str(error).partition(": ")
        if argument in (*_OPTIONS, "hyperparameters"):
            raise InputError(f"{_OPTIONS.get(argument, 'search')}: {reason}") from error
        raise InputError(f"search.{error}") from error
    if taken := sorted(found.fields.keys() & {*FILE, "method"}):
        raise InputError(f"search.module: the hyperparameter {taken[0]} is already an option of search=own; rename it")
    if taken := sorted(found.fields.keys() & _columns()):
        raise InputError(f"search.module: the hyperparameter {taken[0]} is a column of the results; rename it")
    if file.module.stem in methods.names():
        raise InputError(f"search.module: {file.module.name} has the name of a built-in method; rename the file")
    try:
        file.module.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        # the record of a cell holds the file as text
        raise InputError(f"search.module: {file.module.name} is not UTF-8 text; save it in that encoding") from None
    return found


def _columns() -> set[str]:
    """The columns of the tables of counterfactuals and cells that hold a result, and no hyperparameter."""
    # imported here, so that a stage that only reads params.yaml does not import pandas
    from cfx.metrics import MEASURES
    from cfx.result import COLUMNS

    of_tables = {"cell", "label", "searched", "classes", "error"}
    return of_tables.union(MEASURES, COLUMNS).difference(("target_class", "lam_init", "learning_rate"))


def digests(section: Mapping[str, Any], found: Description) -> dict[str, Any]:
    """The section with the digests of the user's file and, where it runs in another environment, of its packages.

    Raises InputError where the file or the environment is not the one whose digest was given.
    """
    packages = json.dumps([found.python, sorted(found.packages.items())])
    environment = hashlib.sha256(packages.encode()).hexdigest() if section.get("python") else None
    values = {"module_sha256": found.sha256, "environment": environment}
    for key, value in values.items():
        if section.get(key) not in (None, value):
            raise InputError(
                f"search.{key}: {section['module']} has {value}, but {section[key]} was given; remove the option"
            )
    return {**section, **values}


def runnable(search: Mapping[str, Any]) -> Method:
    """The method of a section, ready to search: of a file of the user's, in the form that it takes."""
    chosen = method(search)
    if not isinstance(chosen, OwnMethod):
        return chosen
    shared = {key: getattr(chosen, key) for key in _PROBLEM}
    return own.of_file(chosen.module, chosen.python, chosen.timeout_s, chosen.hyperparameters, **shared)


def record(search: Mapping[str, Any]) -> dict[str, Any]:
    """What the record of a cell holds of a method of the user's own, so that it can be made again; else nothing.

    Raises RuntimeError where the file or its environment is no longer what the sweep was planned with.
    """
    if search["method"] != OWN:
        return {}
    found = describe(search)
    if digests({**search, "module_sha256": None, "environment": None}, found) != dict(search):
        raise RuntimeError(f"{search['module']} or its environment changed during the run; run the same command again")
    source = Path(search["module"]).read_text(encoding="utf-8")
    packages = found.packages if search["python"] else {}
    return {"own": {"module": Path(search["module"]).name, "source": source, "packages": packages}}


def _file(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: section[key] for key in ("module", "python", "timeout_s") if key in section}


def _check_range(chosen: Method) -> None:
    low, high = (np.asarray(bound) for bound in chosen.feature_range)
    if low.ndim or high.ndim or low > FEATURE_RANGE[0] or high < FEATURE_RANGE[1]:
        least = f"[{FEATURE_RANGE[0]}, {FEATURE_RANGE[1]}]"
        raise InputError(f"search.feature_range: must contain the range of the data, {least}; give two such numbers")
