"""One job of the fan-out: computes its cells where the launcher has put it, and shows each in MLflow.

A module of its own, so that a worker on another machine finds the function by its name.
"""

from __future__ import annotations

import os
import socket
import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cfx.errors import InputError
from pipelines.cells import plan, store
from pipelines.cells.plan import Cell
from pipelines.config import schema
from pipelines.launching import devices
from pipelines.stages import explain


def run(config: DictConfig) -> None:
    """Compute the cells `job.cells` that are not in the store; one that fails is kept as a failure."""
    os.chdir(HydraConfig.get().runtime.cwd)
    chosen = schema.read()
    planned = {cell.id: cell for cell in plan.of_sweep(chosen)}
    if unknown := set(config.job.cells) - set(planned):
        raise RuntimeError(f"params.yaml or an artefact is no longer what cell {min(unknown)} was planned for")
    mine = [planned[cell] for cell in config.job.cells if not store.has(cell)]
    try:
        devices.claim(config.launch.gpus, config.launch.without_gpu)
    except InputError as error:
        for cell in mine:
            explain.keep_failure(cell, error)
    else:
        explain.compute(mine, chosen)
    _log(config, mine)


def _log(config: DictConfig, finished: list[Cell]) -> None:
    """Show the cells in MLflow at once, where that is safe; the driver brings in line what is missing there."""
    uri = str(config.tracking.uri)
    if not uri.startswith("http") and socket.gethostname() != config.job.host:
        # a database file on a shared disk is written from one host only
        return
    from pipelines.tracking import client

    try:
        mlflow = client.connect(**config.tracking)
        for cell in finished:
            client.log_cell(mlflow, config.job.parent_run, cell)
    except Exception as error:
        print(f"MLflow: not logged from the job ({error}); the driver does it at the end", file=sys.stderr)
