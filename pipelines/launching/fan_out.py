"""The fan-out: the missing cells of a sweep as the jobs of a Hydra launcher, packed, followed and cleared away."""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from cfx.errors import InputError
from pipelines.cells.plan import Cell
from pipelines.config import CONF
from pipelines.config.schema import Float, Int, Section
from pipelines.launching import job, slurm


class Launch(Section):
    """How the cells are fanned out; which engine does it is the option of hydra/launcher."""

    cells_per_job: Int = Field(ge=1)
    gpus: Float = Field(ge=0)
    without_gpu: Literal["fail", "cpu"]


def prefer_presets() -> None:
    """Let the presets in conf/hydra/launcher alone say what a launcher is given. To be called before composing.

    The plugins register configurations of the same names, against which Hydra would check the presets; but a preset
    sets more than its launcher.
    """
    Plugins.instance()
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for preset in (CONF / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(preset.name, None)


def fan_out(missing: Sequence[Cell], parent: str, launch: Launch, launcher: str, overrides: list[str]) -> None:
    """Let Hydra's launcher run the jobs that compute the missing cells, and wait until all have ended.

    What became of a cell is in the store. A job that the engine lost is told in a line; an exception is shown whole.
    """
    size = launch.cells_per_job
    packs = [[cell.id for cell in missing[start : start + size]] for start in range(0, len(missing), size)]
    own = [f"job.parent_run='{parent}'", f"job.host='{socket.gethostname()}'"]
    engine: AbstractContextManager[None] = nullcontext()
    if launcher == "slurm":
        # one driver works in a folder: by the folder's name for its jobs it finds what a killed one left in the queue
        name = "cfx-" + hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:12]
        own.append(f"hydra.launcher.name={name}")
        engine = slurm.jobs(name)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="run"):
            driver = GlobalHydra.instance().hydra
            assert driver is not None
            # without a sweeper, which would compose every job once more to see whether it can be composed
            config = driver.compose_config("config", [*overrides, *own], RunMode.MULTIRUN, with_log_configuration=False)
            if launcher == "ray":
                engine = _ray(config.hydra.launcher.ray.init, config.launch.gpus)
            context = HydraContext(driver.config_loader, Callbacks(config))
            jobs = Plugins.instance().instantiate_launcher(context, job.run, config)
            same = [str(override) for override in config.hydra.overrides.task]
            with engine:
                for ended in jobs.launch([[*same, f"job.cells={pack}"] for pack in packs], initial_job_idx=0):
                    _ = ended.return_value  # raises what the job has raised
    except InputError:
        raise
    except Exception as error:
        if launcher == "slurm" and (refusal := slurm.refusal(error)):
            raise InputError(f"hydra/launcher=slurm: {refusal}; see conf/hydra/launcher/slurm.yaml") from None
        of_engine = type(error).__module__.split(".")[0] in ("joblib", "ray", "submitit")
        # a cluster that does not take the driver is a ConnectionError of Ray's
        if of_engine or isinstance(error, slurm.JobsGone | ConnectionError):
            # submitit says in its second line what the state of the job is
            print(f"hydra/launcher={launcher}: {' '.join(str(error).strip().splitlines()[:2])}", file=sys.stderr)
        else:
            traceback.print_exc()


@contextmanager
def _ray(settings: DictConfig, gpus: float) -> Iterator[None]:
    """Have Ray for as long as its jobs run and no longer, however they end; the launcher takes what is there.

    Raises InputError where this machine has fewer GPUs than a job asks for: Ray would wait for more. A cluster that is
    named by its address may yet get some.
    """
    ray = importlib.import_module("ray")
    ray.init(**cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True)))
    # Ray takes over SIGTERM, and aborts the driver three seconds after it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        there = ray.cluster_resources().get("GPU", 0)
        if gpus > there and settings.address == "local":
            raise InputError(f"launch.gpus={gpus:g}: Ray sees {there:g} GPUs on this machine; give launch.gpus=0")
        yield
    finally:
        ray.shutdown()
