"""The command line for given parameters, relative to the default values in conf/.

conf/ is read as plain YAML, because stages do not import Hydra.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import CONF, invocation, searches
from pipelines.config.schema import FILES, GROUP_NAMES, UPSTREAM
from pipelines.config.sections import MODEL_FILES


def command_line(params: Mapping[str, Any], conf: Path | None = CONF) -> str | None:
    """The command line for `Params` as JSON; None if none can express them, as for a params.yaml edited by hand.

    A user's file is given by its name and digest, because its folder differs between machines. The parameters may come
    from a commit with other options. conf: the folder with the default values; None lists every parameter.
    """
    variants = params["variants"] or [{**params, "swept": {}}]
    sweep = dict(params["sweep"])
    sections = sweep.pop("search", [params["search"]])
    groups = {name: list(dict.fromkeys(variant[name]["name"] for variant in variants)) for name in ("data", "model")}
    groups["search"] = [_search_option(search, conf) for search in sections]
    axes = {key: _unique(variant["swept"][key] for variant in variants) for key in variants[0]["swept"]}
    axes |= {f"search.{key}": values for key, values in sweep.items()}
    if "model" not in axes and len(groups["model"]) > 1:
        # each data set selects its own
        if any(variant["model"]["name"] != _default_model(variant["data"]["name"], conf) for variant in variants):
            return None
        groups["model"] = []
    files = dict(FILES.values())
    excluded = {*GROUP_NAMES, *axes, *(files[key] for key in axes if key in files)}

    upstream = [
        # older records have no guides
        ({key: variant[key] for key in UPSTREAM if variant.get(key) is not None}, _defaults(variant, conf))
        for variant in variants
    ]
    # the options of a file are those of search=own, if it is one of the methods
    skipped = searches.FILE if searches.OWN in groups["search"] else ()
    search = [
        ({"search": {key: one[key] for key in one if not (key in skipped and is_peer(one, conf))}}, {"search": known})
        for one, known in zip(sections, (_search_defaults(one, conf) for one in sections), strict=True)
    ]
    # beside index or range, per_class and classes have no effect
    chosen = {key: value for key, value in params["instances"].items() if key in ("index", "range") and value}
    instances = [({"instances": chosen or params["instances"]}, _defaults(variants[0], conf))]
    rules, defaults = params.get("constraints", {}), _defaults(variants[0], conf).get("constraints", {})
    changed = {f"constraints.{key}": value for key, value in rules.items() if defaults.get(key, ...) != value}
    for alternatives in (upstream, instances, search):
        # an option of the search applies to the methods that have it, any other to all variants
        common = _common_changes(alternatives, excluded, optional=alternatives is search)
        if common is None:
            return None
        changed |= common
    if len(set(groups["search"])) < len(sections):
        return None
    if groups["model"] and MODEL_FILES.issuperset(groups["model"]):
        # training options are rejected for a trained model
        changed = {key: value for key, value in changed.items() if not key.startswith("training.")}
    given = {FILES[name]: path for name, path in variants[0]["paths"].items() if path}
    paths = {option: path for (option, digest), path in given.items() if digest in flatten(params)}
    options = {key: [value] for key, value in (paths | changed).items()} | axes
    arguments = [f"{name}={','.join(chosen)}" for name, chosen in groups.items() if chosen]
    for key, values in options.items():
        if key not in groups:
            is_file = key in files or key in ("search.module", "constraints.mask")
            arguments.append(f"{key}={','.join(map(quoted, _file_names(values) if is_file else values))}")
    is_sweep = any(len(values) > 1 for values in (*groups.values(), *options.values()))
    return f"{invocation('run')} {shlex.join([*(['-m'] if is_sweep else []), *arguments])}"


def _file_names(paths: list[Any]) -> list[Any]:
    """The names of files, without folders; the paths if files in several folders have the same name."""
    names = [path and Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested parameters by the names of their options, such as `training.epochs`."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def quoted(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, Mapping):
        # null is the default of each option of a column
        return "{" + ",".join(f"{quoted(key)}:{quoted(one)}" for key, one in value.items() if one is not None) + "}"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[\w.+-]+", text, re.ASCII):
        return "'" + text.replace("'", r"\'") + "'"
    return text


def _common_changes(
    alternatives: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], excluded: set[str], optional: bool
) -> dict[str, Any] | None:
    """The parameters that differ from the defaults in any of the (parameters, defaults); None if they disagree.

    optional: a parameter may be absent from some of them.
    """
    changed: dict[str, Any] = {}
    flat = [(flatten(params), flatten(defaults)) for params, defaults in alternatives]
    for params, defaults in flat:
        new = {key: value for key, value in params.items() if key not in defaults or defaults[key] != value}
        changed |= {key: value for key, value in new.items() if key not in excluded}
    agree = all(
        params.get(key, value if optional else None) == value for params, _ in flat for key, value in changed.items()
    )
    return changed if agree else None


def _defaults(variant: Mapping[str, Any], conf: Path | None) -> dict[str, Any]:
    """The default values in conf/ for the data set and the model of a variant."""
    data = _read(f"data/{variant['data']['name']}", conf)
    config = _read("config", conf)
    merged = {name: config.get(name, {}) | data.get(name, {}) for name in ("training", "judges", "instances")}
    return config | data | merged | {"model": _read(f"model/{variant['model']['name']}", conf)}


def _default_model(data: str, conf: Path | None) -> str | None:
    """The option of the group `model` that conf/ selects for a data set."""
    defaults = [entry for name in ("config", f"data/{data}") for entry in _load(name, conf).get("defaults", [])]
    models = [
        one[key] for one in defaults if isinstance(one, dict) for key in one if key in ("model", "override /model")
    ]
    return models[-1] if models else None


def is_peer(search: Mapping[str, Any], conf: Path | None) -> bool:
    """Whether a custom method is an option of conf/search/, so that its file and its environment are in the commit."""
    module = search.get("module")
    return module is not None and _read(f"search/{searches.name(search)}", conf).get("module") == module


def _search_option(search: Mapping[str, Any], conf: Path | None) -> str:
    """The option of the group `search`."""
    return searches.name(search) if is_peer(search, conf) else str(search["method"])


def _search_defaults(search: Mapping[str, Any], conf: Path | None) -> dict[str, Any]:
    """The default values of a method, with those in its file, if it is that of the parameters.

    The digests of a peer follow from the commit, as its file does.
    """
    defaults, module = _read(f"search/{_search_option(search, conf)}", conf), search.get("module")
    if conf is None or module is None:
        return defaults
    if is_peer(search, conf):
        digests = {key: search.get(key) for key in ("module_sha256", "environment")}
        return _hyperparameters(conf.parent / module) | defaults | digests
    source = Path(module).read_bytes() if Path(module).is_file() else b""
    is_known = hashlib.sha256(source).hexdigest() == search.get("module_sha256")
    return (_hyperparameters(Path(module)) if is_known else {}) | defaults


def _hyperparameters(module: Path) -> dict[str, Any]:
    """The default values of the hyperparameters in a file, of those that are constants."""
    classes = [node for node in ast.parse(module.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    lines = [line for one in classes for line in one.body if isinstance(line, ast.AnnAssign)]
    return {ast.unparse(one.target): one.value.value for one in lines if isinstance(one.value, ast.Constant)}


def _read(name: str, conf: Path | None) -> dict[str, Any]:
    """A file of conf/ with the options of its group that it extends; empty if it does not exist."""
    values = _load(name, conf)
    extended = [one for one in values.pop("defaults", []) if name.startswith("search/") and one != "_self_"]
    for one in extended:
        values = _read(f"search/{one}", conf) | values
    return values


def _load(name: str, conf: Path | None) -> dict[str, Any]:
    path = None if conf is None else conf / f"{name}.yaml"
    return yaml.safe_load(path.read_text()) if path is not None and path.is_file() else {}


def _unique(values: Any) -> list[Any]:
    """The distinct values in order; they may be lists."""
    return list({repr(value): value for value in values}.values())
