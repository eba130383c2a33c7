"""The axes of a sweep, parsed with Hydra's override grammar, and the `search` section.

An axis is a hyperparameter of the search, the `search` group itself, or an option upstream of the search. In a sweep
over several methods, an option or axis applies to the methods that have it: `search=wachter,nearest_neighbour
search.max_iter=500` sets the one of wachter. Beside search=own, a peer keeps its file and its interpreter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from cfx.errors import InputError
from pipelines.config import invocation, searches
from pipelines.config.schema import UPSTREAM


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides. Raises InputError for an interval, which has no finite list of values."""
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    for override in parsed:
        if override.is_interval_sweep():
            raise InputError(
                f"{override.input_line}: an interval is not supported; give the values as a,b,c or range(start, stop)"
            )
    return parsed


def swept(config: DictConfig, overrides: Sequence[Override]) -> list[Override]:
    """The axes of hydra.sweeper.params and of the command line, which takes precedence."""
    configured = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    axes = {axis.key_or_group: axis for axis in parse(configured)}
    for override in overrides:
        if override.is_sweep_override() or override.key_or_group in axes:
            axes[override.key_or_group] = override
    allowed = ("search", *UPSTREAM)
    for key, axis in axes.items():
        if key.split(".")[0] not in allowed:
            raise InputError(f"{key}: cannot be swept; sweep options of {', '.join(allowed)}")
        if not _texts(axis):
            raise InputError(f"{axis.input_line}: matches no value; give the values as a,b,c")
    return list(axes.values())


def variants(axes: Sequence[Override]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The points of the axes upstream of the search, as values and as overrides; none if there is no such axis."""
    upstream = [axis for axis in axes if axis.key_or_group.split(".")[0] in UPSTREAM]
    keys = [axis.key_or_group for axis in upstream]
    if keys:
        for texts in itertools.product(*map(_texts, upstream)):
            overrides = [f"{key}={text}" for key, text in zip(keys, texts, strict=True)]
            yield dict(zip(keys, map(_value, texts), strict=True)), overrides


def search_section(
    axes: Sequence[Override], config: DictConfig, others: list[str], options: Sequence[Override]
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The `search` section, and the axes of the search with their values; those of the axis `search` are sections.

    config: composed from `others`, the overrides outside the search section. options: the overrides inside it.
    Raises InputError for an option or an axis that none of the methods has.
    """
    swept = {axis.key_or_group: axis for axis in axes if axis.key_or_group.split(".")[0] == "search"}
    group = swept.pop("search", None)
    fixed = [override for override in options if override.key_or_group not in swept]
    names = _texts(group) if group is not None and group.is_sweep_override() else None
    configs = [config] if names is None else [hydra.compose("config", [*others, f"search={name}"]) for name in names]
    for key in swept:
        if _option(key) in searches.FILE and any(one.search.method == searches.OWN for one in configs):
            raise InputError(f"{key}: cannot be swept; give one value, and sweep the hyperparameters of the file")
    for override in options:
        if override.is_delete():
            raise InputError(f"{override.input_line}: an option cannot be removed; set it to a value")
    given = [_given(one.search, configs, fixed) for one in configs]
    defaults = [_defaults(one.search, options) for one, options in zip(configs, given, strict=True)]
    for key in (*(override.key_or_group for override in fixed), *swept):
        if not any(_option(key) in known for known in defaults):
            methods = ", ".join(str(one.search.method) for one in configs)
            raise InputError(f"{key}: no such option of {methods}; `{invocation('run')} --help` lists them")
    sections = [_section(*of_method) for of_method in zip(configs, defaults, given, strict=True)]
    values = {_option(key): [_value(text) for text in _texts(axis)] for key, axis in swept.items()}
    if names is None:
        return {key: value for key, value in sections[0].items() if key not in values}, values
    return {}, {"search": sections} | values


def _given(search: DictConfig, configs: Sequence[DictConfig], fixed: Sequence[Override]) -> list[Override]:
    """The options that apply to a method: those of a file only to search=own, if it is one of the methods."""
    if _is_own(search) or not any(_is_own(one.search) for one in configs):
        return list(fixed)
    return [override for override in fixed if _option(override.key_or_group) not in searches.FILE]


def _is_own(search: DictConfig) -> bool:
    """Whether the file of a custom method is not in conf/, as that of a peer is."""
    return OmegaConf.is_missing(search, "module")


def _defaults(search: DictConfig, fixed: Sequence[Override]) -> Mapping[str, Any]:
    """The options of a search section, with the default values of those that a user's file adds."""
    options = {str(key): None for key in search}
    if search.method != searches.OWN:
        return options
    given = {_option(override.key_or_group): override.value() for override in fixed}
    file = {key: given.get(key, search.get(key)) for key in ("module", "python", "timeout_s")}
    return options | searches.describe(file).fields


def _section(config: DictConfig, defaults: Mapping[str, Any], fixed: Sequence[Override]) -> dict[str, Any]:
    with open_dict(config):
        for override in fixed:
            if _option(override.key_or_group) in defaults:
                OmegaConf.update(config, override.key_or_group, override.value())
    section = cast(dict[str, Any], OmegaConf.to_container(config.search, resolve=True, throw_on_missing=True))
    # added after the resolution: ${...} in a default value of a user's file is not an interpolation
    return section | {key: default for key, default in defaults.items() if key not in section}


def _option(key: str) -> str:
    return key.split(".")[1]


def _texts(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(text) for text in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _value(text: str) -> Any:
    return OverridesParser.create().parse_override(f"axis={text}").value()
