"""What a command line sweeps, in Hydra's grammar, and what it sets of the searches.

The axes of a sweep are over hyperparameters of the search, over whole searches, and over what a classifier comes from.
Where several searches are swept, an option or an axis is of those that have it: `search=wachter,nearest_neighbour
search.max_iter=500` sets that of wachter.
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
from pipelines.config import searches

# What can be swept beside the search.
UPSTREAM = ("seed", "data", "model", "training", "judges", "guides")


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides by Hydra's grammar. Raises InputError for a sweep that has no values, such as an interval."""
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    for override in parsed:
        if override.is_interval_sweep():
            raise InputError(
                f"{override.input_line}: an interval is not supported; give the values as a,b,c or range(start, stop)"
            )
    return parsed


def swept(config: DictConfig, given: Sequence[Override]) -> list[Override]:
    """The axes of the configuration's sweep and of the command line; of one that is given twice, the last."""
    configured = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    axes = {axis.key_or_group: axis for axis in parse(configured)}
    for override in given:
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
    """The points of the axes upstream of the search: their values, and these as overrides; none where none is swept."""
    upstream = [axis for axis in axes if axis.key_or_group.split(".")[0] in UPSTREAM]
    keys = [axis.key_or_group for axis in upstream]
    if keys:
        for values in itertools.product(*map(_texts, upstream)):
            chosen = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
            yield dict(zip(keys, map(_value, values), strict=True)), chosen


def search_section(
    axes: Sequence[Override], config: DictConfig, others: list[str], given: Sequence[Override]
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The `search` section, and the axes of the search with their values: hyperparameters, and whole sections.

    config: composed of `others`, the overrides that are not of the search; given: those that set its options.
    Raises InputError for an option or an axis that no chosen method has.
    """
    swept = {axis.key_or_group: axis for axis in axes if axis.key_or_group.split(".")[0] == "search"}
    whole = swept.pop("search", None)
    fixed = [override for override in given if override.key_or_group not in swept]
    names = _texts(whole) if whole is not None and whole.is_sweep_override() else None
    composed = [config] if names is None else [hydra.compose("config", [*others, f"search={name}"]) for name in names]
    for key in swept:
        # a cell is the same wherever the file lies and however long it may take
        if _option(key) in searches.FILE and any(one.search.method == searches.OWN for one in composed):
            raise InputError(f"{key}: cannot be swept; give one value, and sweep the hyperparameters of the file")
    for override in given:
        if override.is_delete():
            raise InputError(f"{override.input_line}: an option cannot be removed; set it to a value")
    known = [_known(one.search, fixed) for one in composed]
    for key in (*(override.key_or_group for override in fixed), *swept):
        if not any(_option(key) in options for options in known):
            of = ", ".join(str(one.search.method) for one in composed)
            raise InputError(f"{key}: no such option of {of}; `python -m pipelines.run --help` lists them")
    sections = [_section(one, options, fixed) for one, options in zip(composed, known, strict=True)]
    values = {_option(key): [_value(text) for text in _texts(axis)] for key, axis in swept.items()}
    if names is None:
        return {key: value for key, value in sections[0].items() if key not in values}, values
    return {}, {"search": sections} | values


def _known(search: DictConfig, fixed: Sequence[Override]) -> Mapping[str, Any]:
    """The options of a search with their defaults: those of its section and, of a user's file, its hyperparameters."""
    options = {str(key): None for key in search}
    if search.method != searches.OWN:
        return options
    given = {_option(override.key_or_group): override.value() for override in fixed}
    file = {key: given.get(key, search.get(key)) for key in ("module", "python", "timeout_s")}
    return options | searches.describe(file).fields


def _section(config: DictConfig, known: Mapping[str, Any], fixed: Sequence[Override]) -> dict[str, Any]:
    """A search as it is configured, with the options that are given."""
    with open_dict(config):
        for override in fixed:
            if _option(override.key_or_group) in known:
                OmegaConf.update(config, override.key_or_group, override.value())
    section = cast(dict[str, Any], OmegaConf.to_container(config.search, resolve=True, throw_on_missing=True))
    # the defaults of a user's file are values, in which ${...} means nothing
    return section | {key: default for key, default in known.items() if key not in section}


def _option(key: str) -> str:
    return key.split(".")[1]


def _texts(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(text) for text in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _value(text: str) -> Any:
    return OverridesParser.create().parse_override(f"axis={text}").value()
