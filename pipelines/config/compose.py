"""Compose the command line with Hydra: the parameters, the axes of the sweep, and the launcher."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import hydra
import yaml
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import Field

from cfx.errors import InputError
from pipelines.config import CONF, axes, invocation, own_conf, parameters, schema
from pipelines.config.schema import GROUP_NAMES, Params
from pipelines.config.sections import MODEL_FILES, Float, Int, Section

# The sections of the configuration that do not change the results.
OPERATIONAL = ("tracking", "launch", "hydra")
# The ways to select instances, with their options in the section `instances`.
SELECTIONS = {"index": ("index",), "range": ("range",), "per_class": ("per_class", "classes")}


# How --help names the command.
OmegaConf.register_new_resolver("invocation", invocation, replace=True)


class Launch(Section):
    """The distribution of cells over jobs."""

    cells_per_job: Int = Field(ge=1)
    gpus: Float = Field(ge=0)
    without_gpu: Literal["fail", "cpu"]


class Tracking(Section):
    """The MLflow store."""

    uri: str = Field(min_length=1)
    artifacts: str | None
    experiment: str = Field(min_length=1)
    ui: str = Field(min_length=1)


@dataclass(frozen=True)
class Request:
    """A composed command line."""

    params: Params
    """The parameters that determine the results."""
    name: str
    """The experiment or sweep, and the axes of the command line."""
    tracking: dict[str, Any]
    """The arguments of `tracking.client.connect`."""
    hydra: DictConfig
    """The sections `hydra` and `launch`, for a Hydra launcher."""
    command: str
    """The command line, quoted for a shell."""

    @property
    def launcher(self) -> str:
        """The option of hydra/launcher."""
        return str(self.hydra.hydra.runtime.choices["hydra/launcher"])


def options(arguments: Sequence[str]) -> argparse.Namespace | None:
    """The flags of a sweep and its `overrides`; None if there is another flag, such as --help, which Hydra handles."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    try:
        parsed, unknown = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see {invocation('run')} --help") from error
    return None if any(argument.startswith("-") for argument in unknown) else parsed


def compose(arguments: Sequence[str]) -> Request:
    """Compose a command line. Raises InputError if it is invalid."""
    parsed = options(arguments)
    if parsed is None:
        flag = next(argument for argument in arguments if argument.startswith("-"))
        raise InputError(f"{flag}: is not supported for a sweep; see {invocation('run')} --help")
    folders = _own_folders(parsed.config_dir)
    with _hydra_errors(), initialize_config_dir(str(CONF), version_base="1.3", job_name="run"):
        overrides = axes.parse(parsed.overrides)
        _check_groups(overrides)
        of_search = [o for o in overrides if o.key_or_group.startswith("search.") and not o.is_sweep_override()]
        others = [str(o.input_line) for o in overrides if not o.is_sweep_override() and o not in of_search]
        others += _deselected(overrides)
        if folders:
            searched = [f"file://{folder}" for folder in folders]
            others.append(f"hydra.searchpath={json.dumps(searched, ensure_ascii=False)}")
        config = hydra.compose("config", others, return_hydra_config=True)
        # required by the resolver of `${hydra:...}`
        HydraConfig.instance().set_config(config)
        sweeper = config.hydra.runtime.choices["hydra/sweeper"]
        if sweeper != "basic":
            raise InputError(
                f"hydra/sweeper={sweeper}: is not supported, because the driver plans all cells before the sweep "
                "starts; remove it, and give the values as a,b,c or range(start, stop)"
            )
        swept = axes.swept(config, overrides)
        points = list(axes.variants(swept))
        composed = [hydra.compose("config", [*others, *point], return_hydra_config=True) for _, point in points]
        # options without a default, such as the path of a file, may be set by the points only
        config = composed[0] if composed else config
        search, search_axes = axes.search_section(swept, config, others, of_search)
        variants = [(values, _scientific(one)) for (values, _), one in zip(points, composed, strict=True)]
        params = parameters.from_config(_scientific(config) | {"search": search}, search_axes, variants)
        _check_unused(overrides, params)
        operational = _resolved(config, ("tracking", "launch"))
        schema.validate(Launch, operational.get("launch"), "launch.")
        return Request(
            params=params,
            name=_name(config, overrides),
            tracking=schema.validate(Tracking, operational.get("tracking"), "tracking.").model_dump(),
            hydra=OmegaConf.masked_copy(config, ["hydra", "launch"]),
            command=f"{invocation('run')} {shlex.join(arguments)}".strip(),
        )


def _own_folders(config_dir: str | None) -> list[Path]:
    """The folders with config files of the user's. Raises InputError for a file that Hydra would ignore."""
    folders = [own] if (own := own_conf()) else []
    if config_dir is not None:
        folders.insert(0, Path(config_dir).resolve())
        if not folders[0].is_dir():
            raise InputError(f"--config-dir: {folders[0]} is not a folder; give a folder with config files as in conf/")
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            if folder != CONF.resolve() and (CONF / file.relative_to(folder)).exists():
                raise InputError(f"{file}: the project has a config file of this name; rename yours")
    return folders


def _check_groups(overrides: list[Override]) -> None:
    """Raise InputError for an override that Hydra would reject or apply without selecting the group's option."""
    for override in overrides:
        key, line = override.key_or_group, str(override.input_line)
        if key in ("sweep", "experiment") and not (override.is_add() or override.is_delete()):
            raise InputError(f"{line}: has no default to override; write +{line}")
        if key in GROUP_NAMES:
            group = key.partition(".")[0]
            option = line.partition("=")[2] or "..."
            raise InputError(f"{line}: is chosen by the config group {group}; write {group}={option}")
        if override.is_delete() and key in ("data", "model", "search", "tracking"):
            raise InputError(f"{line}: a config group cannot be removed; choose one of its options with {key}=...")


def _check_unused(overrides: list[Override], params: Params) -> None:
    """Raise InputError for an option of the training or of the guides if there are none to train."""
    reasons = {}
    models = [one.model.name for one in (params, *params.variants)]
    if MODEL_FILES.issuperset(models):
        reasons["training"] = f"model={models[0]} is already trained; remove it, or use model=cnn"
    if params.guides is None:
        reasons["guides"] = "no method of the sweep uses guides; remove it"
    for override in overrides:
        if reason := reasons.get(override.key_or_group.split(".")[0]):
            raise InputError(f"{override.input_line}: has no effect, because {reason}")


def _deselected(overrides: list[Override]) -> list[str]:
    """Overrides that reset the selection of instances in an experiment, if the command line selects others.

    Raises InputError if the command line selects them in two ways.
    """
    given = {
        override.key_or_group.removeprefix("instances."): override.input_line
        for override in overrides
        if override.key_or_group.startswith("instances.") and override.value() is not None
    }
    selected = {way: given[key] for way, keys in SELECTIONS.items() for key in keys if key in given}
    if len(selected) > 1:
        one, other, *_ = selected.values()
        raise InputError(f"{one} and {other} are mutually exclusive; give only one of {', '.join(SELECTIONS)}")
    defaults = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))["instances"]
    others = [key for way, keys in SELECTIONS.items() if selected and way not in selected for key in keys]
    return [f"instances.{key}={json.dumps(defaults[key])}" for key in others]


def _name(config: DictConfig, overrides: list[Override]) -> str:
    choices = config.hydra.runtime.choices
    configured = config.hydra.sweeper.params or {}
    added = [o.key_or_group for o in overrides if o.is_sweep_override() and o.key_or_group not in configured]
    names = [choices.get("experiment") or choices.get("sweep")]
    names += [axis.rpartition(".")[2] for axis in dict.fromkeys(added)]
    return ", ".join(filter(None, names)) or "counterfactuals"


def _resolved(config: DictConfig, sections: Sequence[str]) -> dict[str, Any]:
    masked = OmegaConf.masked_copy(config, [key for key in sections if key in config])
    return cast(dict[str, Any], OmegaConf.to_container(masked, resolve=True, throw_on_missing=True))


def _scientific(config: DictConfig) -> dict[str, Any]:
    return _resolved(config, [str(key) for key in config if key not in (*OPERATIONAL, "search")])


@contextmanager
def _hydra_errors() -> Iterator[None]:
    """Convert an exception of Hydra or OmegaConf to an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise InputError(" ".join(_message(error).split())) from error


def _message(error: Exception) -> str:
    message = str(error)
    if unknown := re.match(r"Could not override '([^']+)'", message):
        return f"{unknown[1]}: no such option; `{invocation('run')} --help` lists them"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: is missing; give {error.full_key}=..."
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        close = difflib.get_close_matches(option, error.options, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{group}={option}: unknown option; choose one of {', '.join(error.options)}{hint}"
    if isinstance(error, OverrideParseException):
        key, separator, value = error.override.partition("=")
        if not separator:
            return f"{key}: has no value; write {key}=..."
        example = shlex.quote(f'{key}="{value}"') if '"' not in value else f"{key}='...'"
        return f"{error.override}: cannot be parsed; quote a value with special characters, as in {example}"
    return message.partition("Config search path")[0]
