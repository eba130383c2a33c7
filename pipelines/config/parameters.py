"""From a composed configuration to checked parameters: digests of the user's files, classes by their names.

The driver alone needs this; a stage reads the params.yaml that came of it (`pipelines.config.schema`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from cfx import data
from cfx.errors import InputError
from pipelines.config import searches
from pipelines.config.schema import FILES, Params, Upstream, check, user_file, validate


def from_config(
    config: Mapping[str, Any],
    axes: Mapping[str, list[Any]],
    variants: Iterable[tuple[dict[str, Any], Mapping[str, Any]]] = (),
) -> Params:
    """The parameters of a resolved configuration and of the sweep over it.

    axes: those of the search with their values, whole sections under `search`. variants: the values of the other axes,
    each with the configuration at that point. Raises InputError as `check` and `user_file` do.
    """
    compared = [_upstream(other) | {"swept": swept} for swept, other in variants]
    first = {name: compared[0][name] for name in Upstream.model_fields} if compared else _upstream(config)
    others = {key: value for key, value in config.items() if key not in first}
    search = config.get("search")
    if isinstance(search, Mapping):
        others["search"] = {} if "search" in axes else {key: search[key] for key in search if key not in axes}
    return _without_idle_guides(
        check(_with_digests(_with_numbers(others | first | {"sweep": dict(axes), "variants": compared})))
    )


def _without_idle_guides(params: Params) -> Params:
    """The same without guides where no method of the sweep uses them, so that none are trained."""
    if any(searches.method(search).guide_quantile for _, search in params.points()):
        return params
    none = {"guides": None}
    return params.model_copy(update=none | {"variants": [one.model_copy(update=none) for one in params.variants]})


def _with_digests(requested: dict[str, Any]) -> dict[str, Any]:
    """The same with the digests of methods of the user's own, whose hyperparameters their files have accepted."""

    def described(section: Any, sweep: Mapping[str, list[Any]]) -> Any:
        if not isinstance(section, Mapping) or section.get("method") != searches.OWN:
            return section
        axes = {
            axis: values for axis, values in sweep.items() if axis in searches.hyperparameters({**section, **sweep})
        }
        points = [
            searches.hyperparameters(section) | dict(zip(axes, values, strict=True))
            for values in itertools.product(*axes.values())
        ]
        return searches.digests(section, searches.describe(section, points))

    sweep = requested["sweep"]
    if "search" not in sweep:
        return requested | {"search": described(requested.get("search"), sweep)}
    whole = [described(section, {k: v for k, v in sweep.items() if k in section}) for section in sweep["search"]]
    return requested | {"sweep": sweep | {"search": whole}}


def _with_numbers(asked: dict[str, Any]) -> dict[str, Any]:
    """The same with numbers for target classes that are given by name, as may be where the user's data has names."""

    def number(target: Any) -> Any:
        if not isinstance(target, str) or target in ("other", "same") or target.isdecimal():
            return target
        every = asked["variants"] or [asked]
        known = {data.class_names(one["paths"]["data"]) if one["data"]["name"] == "npz" else () for one in every}
        names = known.pop()
        if known or not names:
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

    axes = {"target_class": number, "search": numbered}
    sweep = {axis: [axes.get(axis, lambda value: value)(v) for v in values] for axis, values in asked["sweep"].items()}
    return asked | {"search": numbered(asked.get("search")), "sweep": sweep}


def _upstream(config: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream sections of a configuration, with the digests of the user's files, so that DVC sees a change."""
    raw: dict[str, Any] = {name: config.get(name) for name in Upstream.model_fields}
    raw["paths"] = {}
    for name in ("data", "model"):
        if not isinstance(raw[name], Mapping):
            raise InputError(f"{name}: is missing; choose it with {name}=...")
        raw[name] = dict(raw[name])
    for name, (option, _) in FILES.items():
        section, field = option.split(".")
        raw["paths"][name] = raw[section].pop(field, None)
    chosen = validate(Upstream, raw)
    for name, (_, digest) in FILES.items():
        section, field = digest.split(".")
        values = getattr(chosen, section)
        is_asked = name != "module" or chosen.paths.module is not None
        if field in type(values).model_fields and is_asked:
            found = user_file(chosen, name)[1]
            chosen = chosen.model_copy(update={section: values.model_copy(update={field: found})})
    return chosen.model_dump()
