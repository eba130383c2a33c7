"""What is asked for on the command line: the composed configuration, the axes of the sweep, and how it is fanned out.

Hydra composes; what it cannot compose is told in one line.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cfx.errors import InputError
from pipelines.config import CONF, axes, parameters, schema
from pipelines.config.schema import Launch, Params

# The sections of the configuration that decide no result.
OPERATIONAL = ("tracking", "launch", "hydra")
# The ways to choose the instances, each with its options in the section.
CHOICES = {"index": ("index",), "range": ("range",), "per_class": ("per_class", "classes")}


@dataclass(frozen=True)
class Request:
    """One sweep, as the command line asks for it."""

    params: Params
    """What decides the results."""
    name: str
    """Of the experiment or the sweep, with the axes that were added to it."""
    tracking: dict[str, Any]
    """The arguments of `tracking.client.connect`."""
    launch: Launch
    """How the cells are fanned out."""
    hydra: DictConfig
    """The sections `hydra` and `launch`, which a Hydra launcher needs."""
    command: str
    """The command line, as it can be pasted."""

    @property
    def launcher(self) -> str:
        """The option of hydra/launcher."""
        return str(self.hydra.hydra.runtime.choices["hydra/launcher"])


def options(arguments: Sequence[str]) -> argparse.Namespace | None:
    """The flags and, under `overrides`, the rest of a command line; None where only Hydra itself has an answer to it.

    That is so of what shows the configuration (--help, --cfg, --info, ...), and of a flag that does not exist.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    try:
        given, unknown = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see python -m pipelines.run --help") from error
    return None if any(word.startswith("-") for word in unknown) else given


def compose(arguments: Sequence[str]) -> Request:
    """What a command line asks for. Raises InputError for what cannot be composed or is wrong in itself."""
    requested = options(arguments)
    if requested is None:
        flag = next(word for word in arguments if word.startswith("-"))
        raise InputError(f"{flag}: is not supported for a sweep; see python -m pipelines.run --help")
    with _hydra_errors(), initialize_config_dir(str(CONF), version_base="1.3", job_name="run"):
        given = axes.parse(requested.overrides)
        for override in given:
            if override.key_or_group in ("sweep", "experiment") and not (override.is_add() or override.is_delete()):
                raise InputError(f"{override.input_line}: has no default to override; write +{override.input_line}")
        of_search = [o for o in given if o.key_or_group.startswith("search.") and not o.is_sweep_override()]
        others = _search_path(requested.config_dir)
        others += [str(o.input_line) for o in given if not o.is_sweep_override() and o not in of_search]
        others += _other_choices(given)
        config = hydra.compose("config", others, return_hydra_config=True)
        # the resolver of `${hydra:...}` looks here
        HydraConfig.instance().set_config(config)
        _check_sweeper(config)
        swept = axes.swept(config, given)
        points = list(axes.variants(swept))
        composed = [hydra.compose("config", [*others, *own], return_hydra_config=True) for _, own in points]
        # what has no default, as the path of a file of the user's, is there at the points alone
        config = composed[0] if composed else config
        search, search_axes = axes.search_section(swept, config, others, of_search)
        variants = [(values, _scientific(one)) for (values, _), one in zip(points, composed, strict=True)]
        _check_training(given, {section["model"]["name"] for _, section in variants} or {config.model.name})
        # every variant is searched in the same way
        scientific = _scientific(config) | ({"search": search} if "search" in config else {})
        resolved = _resolved(config, ("tracking", "launch"))
        params = parameters.from_config(scientific, search_axes, variants)
        _check_guides(given, params)
        return Request(
            params=params,
            name=_name(config, given),
            tracking=_tracking(resolved.get("tracking")),
            launch=schema.validate(Launch, resolved.get("launch"), "launch"),
            hydra=OmegaConf.masked_copy(config, ["hydra", "launch"]),
            command=shlex.join(["python", "-m", "pipelines.run", *arguments]),
        )


def _search_path(config_dir: str | None) -> list[str]:
    """The override that lets Hydra find a user's own config files."""
    if config_dir is None:
        return []
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise InputError(f"--config-dir: {folder} is not a folder; give a folder with config files as in conf/")
    return [f"hydra.searchpath=[file://{folder}]"]


def _check_sweeper(config: DictConfig) -> None:
    sweeper = config.hydra.runtime.choices["hydra/sweeper"]
    if sweeper != "basic":
        raise InputError(
            f"hydra/sweeper={sweeper}: is not supported, because the driver plans all cells before the sweep starts; "
            "remove it, and give the values as a,b,c or range(start, stop)"
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
        raise InputError(
            f"{told[0]}: has no effect, because model=keras is already trained; remove it, or use model=cnn"
        )


def _check_guides(given: list[Override], params: Params) -> None:
    """Raise InputError where the command line says how to train guides, and no method uses them."""
    told = [override.input_line for override in given if override.key_or_group.split(".")[0] == "guides"]
    if told and params.guides is None:
        raise InputError(f"{told[0]}: has no effect, because no method of the sweep uses guides; remove it")


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
        raise InputError(f"{one} and {other} are mutually exclusive; give only one of {', '.join(CHOICES)}")
    usual = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))["instances"]
    others = [key for way, options in CHOICES.items() if chosen and way not in chosen for key in options]
    return [f"instances.{key}={json.dumps(usual[key])}" for key in others]


def _resolved(config: DictConfig, sections: Sequence[str]) -> dict[str, Any]:
    masked = OmegaConf.masked_copy(config, [key for key in sections if key in config])
    return cast(dict[str, Any], OmegaConf.to_container(masked, resolve=True, throw_on_missing=True))


def _scientific(config: DictConfig) -> dict[str, Any]:
    return _resolved(config, [str(key) for key in config if key not in (*OPERATIONAL, "search")])


def _tracking(section: Any) -> dict[str, Any]:
    optional = {"artifacts"}
    if not isinstance(section, dict) or not all(
        (isinstance(value, str) and value) or (value is None and key in optional) for key, value in section.items()
    ):
        raise InputError("tracking: uri, artifacts, experiment and ui must be text; see conf/tracking/")
    return section


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
