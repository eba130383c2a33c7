"""Convert a composed configuration to checked parameters: digests of the user's files, and numbers for class names."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cfx import data, datasets, tables
from cfx.errors import InputError
from pipelines.config import rules, searches
from pipelines.config.schema import FILES, Params, Upstream, check, user_file, validate
from pipelines.config.sections import Table


def from_config(
    config: Mapping[str, Any],
    axes: Mapping[str, list[Any]],
    variants: Iterable[tuple[dict[str, Any], Mapping[str, Any]]] = (),
) -> Params:
    """The parameters of a resolved configuration and of a sweep over it.

    axes: the axes of the search with their values; those of the axis `search` are whole sections. variants: the points
    of the axes upstream of the search, each with its configuration. Raises InputError as `check` and `user_file` do.
    """
    upstreams = [_upstream(variant) | {"swept": swept} for swept, variant in variants]
    first = {name: upstreams[0][name] for name in Upstream.model_fields} if upstreams else _upstream(config)
    raw = {key: value for key, value in config.items() if key not in first}
    search = config.get("search")
    if isinstance(search, Mapping):
        raw["search"] = {} if "search" in axes else {key: search[key] for key in search if key not in axes}
    params = check(_with_digests(_with_class_numbers(raw | first | {"sweep": dict(axes), "variants": upstreams})))
    params = params.model_copy(update={"constraints": rules.with_digest(params.constraints)})
    if any(searches.method(search).guide_quantile for _, search in params.points()):
        return params
    # guides that no method uses are not trained
    none = {"guides": None}
    return params.model_copy(update=none | {"variants": [one.model_copy(update=none) for one in params.variants]})


def _with_digests(raw: dict[str, Any]) -> dict[str, Any]:
    """Add the digests of the files of custom methods, after checking the hyperparameters of all points."""

    def with_digests(section: Any, sweep: Mapping[str, list[Any]]) -> Any:
        if not isinstance(section, Mapping) or section.get("method") != searches.OWN:
            return section
        names = searches.hyperparameters({**section, **sweep})
        axes = {axis: values for axis, values in sweep.items() if axis in names}
        points = [
            searches.hyperparameters({**section, **dict(zip(axes, values, strict=True))})
            for values in itertools.product(*axes.values())
        ]
        return searches.with_digests(section, searches.describe(section, points))

    sweep = raw["sweep"]
    if "search" not in sweep:
        return raw | {"search": with_digests(raw.get("search"), sweep)}
    sections = [with_digests(section, {k: v for k, v in sweep.items() if k in section}) for section in sweep["search"]]
    return raw | {"sweep": sweep | {"search": sections}}


def _with_class_numbers(raw: dict[str, Any]) -> dict[str, Any]:
    """Replace the names of target classes by their numbers, if all data sets of the sweep have the same class names."""

    def number(target: Any) -> Any:
        if not isinstance(target, str) or target in ("other", "same") or target.isdecimal():
            return target
        variants = raw["variants"] or [raw]
        found = {_class_names(one) for one in variants}
        names = found.pop()
        if found or not names:
            return target
        if target not in names:
            raise InputError(
                f"search.target_class: {target!r} is not a class of the data; choose one of {', '.join(names)}"
            )
        return names.index(target)

    def numbered(search: Any) -> Any:
        if not isinstance(search, Mapping) or "target_class" not in search:
            return search
        return {**search, "target_class": number(search["target_class"])}

    convert = {"target_class": number, "search": numbered}
    sweep = {axis: [convert[axis](v) if axis in convert else v for v in raw["sweep"][axis]] for axis in raw["sweep"]}
    return raw | {"search": numbered(raw.get("search")), "sweep": sweep}


def _class_names(variant: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names of a variant's data set; empty if it has none."""
    name, path = variant["data"]["name"], variant["paths"]["data"]
    if name in ("csv", "parquet"):
        schema = validate(Table, variant["data"], "data.").columns
        return tables.class_names(tables.read(path, name, schema)[schema.target], str(path))
    return data.class_names(path) if name == "npz" else datasets.CLASS_NAMES.get(name, ())


def _upstream(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections upstream of the search, with the digests of the user's files, so that DVC detects a change."""
    raw: dict[str, Any] = {name: config.get(name) for name in Upstream.model_fields}
    raw["paths"] = {}
    for name in ("data", "model"):
        if not isinstance(raw[name], Mapping):
            raise InputError(f"{name}: is missing; choose it with {name}=...")
        raw[name] = dict(raw[name])
    if isinstance(path := raw["data"].get("schema"), str):
        raw["data"]["schema"] = _schema(Path(path))
    for name, (option, _) in FILES.items():
        section, field = option.split(".")
        raw["paths"][name] = raw[section].pop(field, None)
    params = validate(Upstream, raw)
    for name, (_, digest) in FILES.items():
        section, field = digest.split(".")
        values = getattr(params, section)
        is_needed = name != "module" or params.paths.module is not None
        if field in type(values).model_fields and is_needed:
            found = user_file(params, name)[1]
            params = params.model_copy(update={section: values.model_copy(update={field: found})})
    return params.model_dump()


def _schema(path: Path) -> dict[str, Any]:
    """The content of the file with the schema of a table, so that the parameters do not depend on the file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"data.schema: {path} cannot be read as YAML ({reason}); see conf/data/csv.yaml") from error
    if not isinstance(content, dict):
        raise InputError(f"data.schema: {path} does not name the target and the columns; see conf/data/csv.yaml")
    return content
