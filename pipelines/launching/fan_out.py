"""The fan-out: the missing cells of a sweep as the jobs of a Hydra launcher, packed, waited for and cleared away.

What an engine needs beyond its YAML is in a module of its name beside this one, all with the same face:

    check(config)      raises InputError where the engine cannot be used from here
    context(config)    a context inside which jobs are launched and waited for, and that leaves none behind
    rejection(error)     why the engine took no job at all, in its own words; None for any other error
    is_lost_job(error)     whether an error says that a job was lost, which costs its cells and nothing else
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Sequence
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
from pipelines.launching import job, local


def use_presets() -> None:
    """Let the presets in conf/hydra/launcher alone say what a launcher is given. To be called before composing.

    The plugins register configurations of the same names, against which Hydra would check the presets; but a preset
    sets more than its launcher.
    """
    Plugins.instance()
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for preset in (CONF / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(preset.name, None)


def check(launcher: str, config: DictConfig) -> None:
    """Raise InputError where the engine of a launcher is not installed or cannot be used from here.

    config: the sections `hydra` and `launch`.
    """
    package = str(config.hydra.launcher._target_).rpartition(".")[0].rpartition(".")[0]
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise InputError(f"hydra/launcher={launcher}: is not installed; run pip install '.[{launcher}]'")
    _engine(launcher).check(config)


def fan_out(missing: Sequence[Cell], plan: Path, launcher: str, config: DictConfig) -> None:
    """Let a Hydra launcher run the jobs that compute the missing cells, and wait until all have ended.

    plan: the file in which jobs find their cells. config: the sections `hydra` and `launch`, which jobs take as they
    are. What became of a cell is in the store. A job that the engine lost is told in a line; an exception that is a bug
    is shown whole.
    """
    engine, size = _engine(launcher), config.launch.cells_per_job
    packs = [[cell.id for cell in missing[start : start + size]] for start in range(0, len(missing), size)]
    config = deepcopy(config)
    # an engine writes there what its jobs are called, a launcher which of them each is
    OmegaConf.set_readonly(config.hydra, None)
    with open_dict(config):
        config.job = {"plan": str(plan.resolve()), "folder": str(Path.cwd()), "cells": []}
    try:
        with engine.context(config):
            context = HydraContext(cast(ConfigLoader, _Composed()), cast(Any, Callback()))
            jobs = Plugins.instance().instantiate_launcher(context, job.run, config)
            for ended in jobs.launch([[f"job.cells={json.dumps(pack)}"] for pack in packs], initial_job_idx=0):
                _ = ended.return_value  # raises what the job has raised
    except InputError:
        raise
    except Exception as error:
        if refusal := engine.rejection(error):
            raise InputError(f"hydra/launcher={launcher}: {refusal}; see conf/hydra/launcher/{launcher}.yaml") from None
        if engine.is_lost_job(error):
            # an engine says in its second line what the state of the job is
            print(f"hydra/launcher={launcher}: {' '.join(str(error).strip().splitlines()[:2])}", file=sys.stderr)
        else:
            traceback.print_exc()


class _Composed:
    """In place of Hydra's loader of configurations: that of a job is composed already, but for its cells."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of one job."""
        config = deepcopy(master_config)
        OmegaConf.update(config, "job.cells", json.loads(sweep_overrides[-1].partition("=")[2]))
        return config


def _engine(launcher: str) -> ModuleType:
    """The module of a launcher's engine; that of this machine where it needs none of its own."""
    is_own = (Path(__file__).with_name(f"{launcher}.py")).is_file()
    return importlib.import_module(f"pipelines.launching.{launcher}") if is_own else local
