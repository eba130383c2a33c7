"""Convert the `search` section to a method of `cfx`: a built-in one, or a custom one in the user's file (search=own).

The hyperparameters of a custom method are in the section beside the options of conf/search/own.yaml. The file is
inspected in a separate process, so that an error or a crash in it does not affect the driver.
"""

from __future__ import annotations

import ast
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
_FILE_OPTIONS = ("module", "python", "timeout_s")
# The options of search=own that are not hyperparameters; the digests of the file and of its packages are filled in.
FILE = (*_FILE_OPTIONS, "module_sha256", "environment")
_PROBLEM = ("target_class", "target_proba", "tol", "feature_range", "count")
# The environments of the files in peers/.
_PEERS = ".venv-peers/"
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def name(search: Mapping[str, Any]) -> str:
    """The name of the method in tables and charts: of a custom method, that of its file."""
    method = search.get("method")
    return Path(search["module"]).stem if method == OWN else str(method)


def method(search: Mapping[str, Any]) -> Method:
    """The method of a section. Raises InputError for an unknown name or an invalid hyperparameter."""
    section = dict(search)
    chosen = section.pop("method", None)
    values = hyperparameters(section) if chosen == OWN else {}
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
            made: Method = OwnMethod(**shared, **_file(section), hyperparameters=values)
        else:
            made = methods.get(str(chosen))(**section)
    except TypeError as error:
        reason = str(error).split("() ")[-1]
        raise InputError(f"search: method {chosen} {reason}; see conf/search/{chosen}.yaml") from error
    except InputError as error:
        raise InputError(f"search.{error}") from error
    low, high = (np.asarray(bound) for bound in made.feature_range)
    if low.ndim or high.ndim or low > FEATURE_RANGE[0] or high < FEATURE_RANGE[1]:
        least = f"[{FEATURE_RANGE[0]}, {FEATURE_RANGE[1]}]"
        raise InputError(f"search.feature_range: must contain the range of the data, {least}; give two such numbers")
    return made


def options(section: Mapping[str, Any]) -> set[str]:
    """The names of the options that a section accepts."""
    if section["method"] == OWN:
        return set(section)
    return {field.name for field in fields(methods.get(section["method"]))}


def canonical(search: Mapping[str, Any]) -> dict[str, Any]:
    """The section with all options, as the method normalizes them: 1 and 1.0, or 3 and "3", become equal."""
    chosen = method(search)
    named = _PROBLEM if isinstance(chosen, OwnMethod) else options(search)
    values = {key: getattr(chosen, key) for key in sorted(named)}
    return {**search, **values, "feature_range": list(chosen.feature_range)}


def hyperparameters(section: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a custom method in its section.

    Raises InputError for NaN and infinity, which JSON cannot represent, so the cell would never be found in the store.
    """
    values = {key: section[key] for key in section if key not in (*FILE, *_PROBLEM, "method")}
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                f"search.{key}: must be a finite number, not {value}; give one, or the text as \"'{value}'\""
            )
    return values


def describe(section: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()) -> Description:
    """Inspect the user's file, and validate the hyperparameters of all points with its class.

    Raises InputError if the file cannot be read or run, or a hyperparameter is invalid.
    """
    if not section.get("module"):
        raise InputError("search.module: is missing; give search.module=my_method.py")
    check_python(str(section.get("python")))
    try:
        file = OwnMethod(**_file(section))
        arguments = file.module, file.python
        try:
            found = own.describe(*arguments, points, file.timeout_s)
        except InputError as error:
            # a ValueError is a check of the class; another exception may be due to a wrong type
            if str(error).startswith("hyperparameters: ") and ".py, line " in str(error):
                _check_types(own.describe(*arguments, (), file.timeout_s), file.module, points)
            raise
    except InputError as error:
        raise InputError(error_message(error, points)) from error
    _check_types(found, file.module, points)
    if reserved := sorted(found.fields.keys() & {*FILE, "method"}):
        raise InputError(
            f"search.module: the hyperparameter {reserved[0]} is already an option of search=own; rename it"
        )
    if reserved := sorted(found.fields.keys() & _columns()):
        raise InputError(f"search.module: the hyperparameter {reserved[0]} is a column of the results; rename it")
    if file.module.stem in methods.names():
        raise InputError(f"search.module: {file.module.name} has the name of a built-in method; rename the file")
    return found


def check_python(python: str) -> None:
    """Raise InputError if an interpreter is that of a peer and does not exist."""
    if python.startswith(_PEERS) and not Path(python).exists():
        raise InputError(f"search.python: {python} does not exist; create it with `make peers`")


def error_message(error: InputError, points: Sequence[Mapping[str, Any]] = ()) -> str:
    """The message of an error of a custom method, with the names of options instead of arguments.

    points: the hyperparameters, for a message that begins with the name of one.
    """
    argument, _, reason = str(error).partition(": ")
    if argument == "hyperparameters":
        if ".py, line " in reason:
            return f"search.module: {reason}"
        return f"search.{reason}" if any(reason.split(" ")[0] in point for point in points) else f"search: {reason}"
    return f"search.{error}" if argument.split(" ")[0] in _FILE_OPTIONS else str(error)


def _check_types(found: Description, module: Path, points: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError for a hyperparameter whose value does not match an annotation of a simple type."""
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"search.module: {module.name} is not UTF-8 text; save it in that encoding") from None
    except SyntaxError:  # the syntax of the newer Python of search.python
        return
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ClassDef) and node.name == found.class_name):
            continue
        annotated = [line for line in node.body if isinstance(line, ast.AnnAssign)]
        types = {ast.unparse(line.target): ast.unparse(line.annotation).strip("'\"") for line in annotated}
        for key, value in ((key, value) for point in points for key, value in point.items()):
            kind = types.get(key, "")
            if kind not in _TYPES or (value is None and found.fields.get(key) is None):
                continue
            if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise InputError(f"search.{key}: must be of type {kind}, not {value!r}; change the value")


def _columns() -> set[str]:
    """The columns of the results that are not hyperparameters."""
    # imported here, because they import pandas, which stages that only read params.yaml do not need
    from cfx.metrics import MEASURES
    from cfx.result import COLUMNS

    of_tables = {"cell", "label", "best_known", "searched", "classes", "error", "n", "share_found", "is_dominated"}
    of_tables |= {"setting", "classifier", "validity", "passes", "l1_ratio", "mean_rank"}
    of_tables |= {"pairs", "wins", "median_ratio", "ratio_low", "ratio_high", "p_value", "p_holm"}
    of_tables |= {f"{measure}_{end}" for measure in ("l1", "agreement", "im1") for end in ("low", "high")}
    return of_tables.union(MEASURES, COLUMNS).difference(("target_class", "lam_init", "learning_rate"))


def with_digests(section: Mapping[str, Any], found: Description) -> dict[str, Any]:
    """The section with the digests of the user's file and, if it runs in another environment, of its packages.

    Raises InputError if the section already has other digests.
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
    """The method of a section, ready to search; a custom method is loaded from its file."""
    chosen = method(search)
    if not isinstance(chosen, OwnMethod):
        return chosen
    shared = {key: getattr(chosen, key) for key in _PROBLEM}
    return own.of_file(chosen.module, chosen.python, chosen.timeout_s, chosen.hyperparameters, **shared)


def record(search: Mapping[str, Any]) -> dict[str, Any]:
    """The entry `own` of a cell's record: the source and the packages of a custom method; empty for a built-in one.

    Raises RuntimeError if the file or its environment changed after the sweep was planned.
    """
    if search["method"] != OWN:
        return {}
    found = describe(search)
    if with_digests({**search, "module_sha256": None, "environment": None}, found) != dict(search):
        raise RuntimeError(f"{search['module']} or its environment changed during the run; run the same command again")
    source = Path(search["module"]).read_text(encoding="utf-8")
    packages = found.packages if search["python"] else {}
    return {"own": {"module": Path(search["module"]).name, "source": source, "packages": packages}}


def _file(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: section[key] for key in _FILE_OPTIONS if key in section}
