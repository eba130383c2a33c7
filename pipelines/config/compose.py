"""What is asked for on the command line: the composed configuration, the axes of the sweep, and how it is fanned out.

Hydra composes; what it cannot compose is told in one line.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cfx.errors import InputError
from pipelines.config import CONF, schema
from pipelines.config.schema import Params
from pipelines.launching import slurm
from pipelines.launching.fan_out import Launch

# The sections of the configuration that decide no result.
OPERATIONAL = ("tracking", "launch", "job", "hydra")
# The ways to choose the instances, each with its options in the section.
CHOICES = {"index": ("index",), "range": ("range",), "per_class": ("per_class", "classes")}
# What can be swept beside the search.
UPSTREAM = ("seed", "data", "model", "training", "judges")


@dataclass(frozen=True)
class Request:
    """One sweep, as the command line asks for it."""

    params: Params
    """What decides the results."""
    name: str
    """Of the experiment or the sweep, with the axes that were added to it."""
    tracking: dict[str, Any]
    """The arguments of `tracking.connect`."""
    launch: Launch
    """How the cells are fanned out."""
    launcher: str
    """The option of hydra/launcher."""
    overrides: list[str]
    """The overrides that are the same in every cell."""
    command: str
    """The command line, as it can be pasted."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's reading of a command line: its flags, and under `overrides` the rest."""
    return get_args_parser().parse_intermixed_args(arguments)


def compose(arguments: Sequence[str]) -> Request:
    """What a command line asks for. Raises InputError for what cannot be composed or is wrong in itself."""
    asked = options(arguments)
    if asked.config_path or asked.config_name or asked.package or asked.experimental_rerun:
        raise InputError("--config-path, --config-name, --package and --experimental-rerun have no meaning here")
    same = []
    if asked.config_dir:
        folder = Path(asked.config_dir).resolve()
        if not folder.is_dir():
            raise InputError(f"--config-dir: {folder} is no folder; give one with config files as in conf/")
        same.append(f"hydra.searchpath=[file://{folder}]")
    with _hydra_errors(), initialize_config_dir(str(CONF), version_base="1.3"):
        given = OverridesParser.create().parse_overrides(asked.overrides)
        if own := [override.input_line for override in given if override.key_or_group.split(".")[0] == "job"]:
            raise InputError(f"{own[0]}: `job` is filled in by the driver; choose cells by the sweep")
        same += [str(override.input_line) for override in given if not override.is_sweep_override()]
        same += _other_choices(given)
        config = hydra.compose("config", same, return_hydra_config=True)
        # the resolver of `${hydra:...}` looks here
        HydraConfig.instance().set_config(config)
        swept = _swept(config, given)
        axes = _axes(swept, same)
        points = list(_variants(swept))
        composed = [hydra.compose("config", [*same, *own], return_hydra_config=True) for _, own in points]
        variants = [(values, _scientific(one)) for (values, _), one in zip(points, composed, strict=True)]
        if composed:
            # what has no default, as the path of a file of the user's, is there at the points alone
            config = composed[0]
        _check_training(given, {section["model"]["name"] for _, section in variants} or {config.model.name})
        resolved = _resolved(config)
        choices = config.hydra.runtime.choices
        launcher = str(choices["hydra/launcher"])
        _check_launcher(launcher, config.hydra.launcher)
    return Request(
        params=schema.from_config(_scientific(config), axes, variants),
        name=_name(config, given),
        tracking=_tracking(resolved.get("tracking")),
        launch=schema.checked(Launch, resolved.get("launch"), "launch"),
        launcher=launcher,
        overrides=same,
        command=shlex.join(["python", "-m", "pipelines.run", *arguments]),
    )


def _name(config: DictConfig, given: list[Override]) -> str:
    """What a reader calls the sweep: the experiment or the sweep that was named, and the axes that were added to it."""
    choices = config.hydra.runtime.choices
    known = config.hydra.sweeper.params or {}
    added = [axis.key_or_group for axis in given if axis.is_sweep_override() and axis.key_or_group not in known]
    named = [
        choices.get("experiment") or choices.get("sweep"),
        *(axis.rpartition(".")[2] for axis in dict.fromkeys(added)),
    ]
    return ", ".join(filter(None, named)) or "counterfactuals"


def _check_training(given: list[Override], models: set[str]) -> None:
    """Raise InputError where the command line says how to train, and nothing is trained."""
    told = [override.input_line for override in given if override.key_or_group.split(".")[0] == "training"]
    if told and models == {"keras"}:
        raise InputError(f"{told[0]}: model=keras is trained already; leave it out, or train a model=cnn")


def _other_choices(given: list[Override]) -> list[str]:
    """Overrides that take back how an experiment chooses its instances, where the command line chooses them.

    Raises InputError where that chooses them in two ways, of which one would have no effect.
    """
    named = {
        override.key_or_group.removeprefix("instances."): override.input_line
        for override in given
        if override.key_or_group.startswith("instances.") and override.value() is not None
    }
    chosen = {way: named[key] for way, options in CHOICES.items() for key in options if key in named}
    if len(chosen) > 1:
        one, other, *_ = chosen.values()
        raise InputError(f"{one} and {other} exclude each other; give one of {', '.join(CHOICES)}")
    usual = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))["instances"]
    others = [key for way, options in CHOICES.items() if chosen and way not in chosen for key in options]
    return [f"instances.{key}={json.dumps(usual[key])}" for key in others]


def _axes(swept: list[Override], same: list[str]) -> dict[str, list[Any]]:
    """The axes of the search with their values: hyperparameters, and `search` for whole search sections."""
    axes: dict[str, list[Any]] = {}
    for override in swept:
        key = override.key_or_group
        if key == "search":
            # one that is chosen in place of several has been composed already
            if override.is_sweep_override():
                axes["search"] = [_search(same, str(choice)) for choice in override.sweep_string_iterator()]
        elif key.startswith("search."):
            axes[key.removeprefix("search.")] = _values(override)
        elif key.split(".")[0] not in UPSTREAM:
            raise InputError(f"{key}: cannot be swept; the axes of a sweep are over search, {', '.join(UPSTREAM)}")
    return axes


def _variants(swept: list[Override]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The points of the axes upstream of the search: their values, and these as overrides; none where none is swept."""
    upstream = [override for override in swept if override.key_or_group.split(".")[0] in UPSTREAM]
    keys = [override.key_or_group for override in upstream]
    if keys:
        for values in itertools.product(*(_texts(override) for override in upstream)):
            chosen = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
            yield dict(zip(keys, map(_value, values), strict=True)), chosen


def _swept(config: DictConfig, given: list[Override]) -> list[Override]:
    """The axes of the configuration's sweep and of the command line; of one that is given twice, the last."""
    parser = OverridesParser.create()
    configured = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    axes = {axis.key_or_group: axis for axis in parser.parse_overrides(configured)}
    for override in given:
        if override.is_sweep_override() or override.key_or_group in axes:
            axes[override.key_or_group] = override
    return list(axes.values())


def _values(override: Override) -> list[Any]:
    return [_value(text) for text in _texts(override)]


def _texts(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(text) for text in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _value(text: str) -> Any:
    return OverridesParser.create().parse_override(f"axis={text}").value()


def _search(overrides: list[str], choice: str) -> dict[str, Any]:
    """The `search` section with another method."""
    config = hydra.compose("config", [*overrides, f"search={choice}"])
    return cast(dict[str, Any], OmegaConf.to_container(config.search, resolve=True))


def _resolved(config: DictConfig) -> dict[str, Any]:
    masked = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(masked, resolve=True, throw_on_missing=True))


def _scientific(config: DictConfig) -> dict[str, Any]:
    resolved = _resolved(config)
    return {key: resolved[key] for key in resolved if key not in OPERATIONAL}


def _tracking(section: Any) -> dict[str, Any]:
    optional = {"artifacts"}
    if not isinstance(section, dict) or not all(
        (isinstance(value, str) and value) or (value is None and key in optional) for key, value in section.items()
    ):
        raise InputError("tracking: needs uri, artifacts, experiment and ui, all text; see conf/tracking/")
    return section


def _check_launcher(launcher: str, settings: DictConfig) -> None:
    package = str(settings._target_).rpartition(".")[0].rpartition(".")[0]
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise InputError(f"hydra/launcher={launcher}: is not installed; pip install '.[{launcher}]'")
    if launcher == "slurm":
        slurm.check(str(settings.partition or ""))
    if launcher == "ray":
        _check_ray(str(settings.ray.init.address))


def _check_ray(address: str) -> None:
    if address == "local":
        # read when Ray is imported: it is to listen on this machine alone, and to ask for a token there, without a note
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif cluster := re.fullmatch(r"([^:/]+):(\d+)", address):
        # Ray itself would try for minutes
        try:
            socket.create_connection((cluster[1], int(cluster[2])), timeout=10).close()
        except OSError as error:
            raise InputError(f"hydra.launcher.ray.init.address: nothing answers at {address} ({error})") from None


@contextmanager
def _hydra_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf say about an override or a config file into an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        message = str(error)
        if unknown := re.match(r"Could not override '([^']+)'", message):
            message = f"{unknown[1]}: no such option; `python -m pipelines.run --help` lists them"
        elif isinstance(error, MissingMandatoryValue):
            message = f"{error.full_key}: is missing; give {error.full_key}=..."
        raise InputError(" ".join(message.split())) from error
