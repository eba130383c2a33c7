"""Run the missing cells of a sweep as jobs of a Hydra launcher.

A launcher that needs more than its YAML file has a module of its name here, with this interface:

    check(config)         raises InputError if the launcher cannot be used on this machine
    context(config)       the context in which jobs are submitted and awaited; it leaves no job behind
    rejection(error)      the reason if no job was accepted, None for any other error; optional
    is_lost_job(error)    whether the error means that a job was lost, and not that there is a bug
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from cfx.errors import InputError
from pipelines.cells.plan import Cell
from pipelines.config import CONF
from pipelines.launching import job


def use_presets() -> None:
    """Make conf/hydra/launcher/*.yaml take precedence over the plugins' configs of the same names.

    Call it before composing: Hydra would validate the presets against these configs, and a preset sets more options.
    """
    Plugins.instance()
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for preset in (CONF / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(preset.name, None)


def check(launcher: str, config: DictConfig) -> None:
    """Raise InputError if a launcher is not installed or cannot be used. config: the sections `hydra` and `launch`."""
    package = str(config.hydra.launcher._target_).rpartition(".")[0].rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        lock = Path("requirements-services.lock")
        packages = f"-r {lock}" if lock.exists() else f"'counterfactual-instances[{launcher}]'"
        raise InputError(f"hydra/launcher={launcher}: is not installed; run uv pip install {packages}")
    if engine := _engine(launcher):
        engine.check(config)


def fan_out(missing: Sequence[Cell], plan: Path, launcher: str, config: DictConfig) -> None:
    """Run the missing cells as jobs of a Hydra launcher, and wait for all of them. The store has their results.

    plan: the file from which jobs read their cells. config: the sections `hydra` and `launch`. A lost job is reported
    in one line, any other exception with its traceback.
    """
    engine, size = _engine(launcher), config.launch.cells_per_job
    jobs = [[cell.id for cell in missing[start : start + size]] for start in range(0, len(missing), size)]
    config = deepcopy(config)
    # launchers write the names and numbers of jobs into the config
    OmegaConf.set_readonly(config.hydra, None)
    with open_dict(config):
        config.job = {"plan": str(plan.resolve()), "folder": str(Path.cwd()), "cells": []}
    try:
        with engine.context(config) if engine else nullcontext():
            context = HydraContext(cast(ConfigLoader, _JobConfigLoader()), cast(Any, Callback()))
            plugin = Plugins.instance().instantiate_launcher(context, job.run, config)
            for done in plugin.launch([[f"job.cells={json.dumps(cells)}"] for cells in jobs], initial_job_idx=0):
                _ = done.return_value  # raises the exception of the job
    except InputError:
        raise
    except Exception as error:
        rejection = getattr(engine, "rejection", lambda error: None)
        if reason := rejection(error):
            raise InputError(f"hydra/launcher={launcher}: {reason}; see conf/hydra/launcher/{launcher}.yaml") from None
        # without a module, only joblib has worker processes to lose
        if engine.is_lost_job(error) if engine else type(error).__module__.startswith("joblib"):
            # the second line of the message has the state of the job
            print(f"hydra/launcher={launcher}: {' '.join(str(error).strip().splitlines()[:2])}", file=sys.stderr)
        else:
            traceback.print_exc()


class _JobConfigLoader:
    """Replaces Hydra's config loader: the config of a job is already composed, except for its cells."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of one job."""
        config = deepcopy(master_config)
        OmegaConf.update(config, "job.cells", json.loads(sweep_overrides[-1].partition("=")[2]))
        return config


def _engine(launcher: str) -> ModuleType | None:
    has_module = Path(__file__).with_name(f"{launcher}.py").is_file()
    return importlib.import_module(f"pipelines.launching.{launcher}") if has_module else None
