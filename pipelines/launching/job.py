"""One job of the fan-out: computes its cells where the launcher has put it.

A module of its own, so that a worker on another machine finds the function by its name. It knows nothing of MLflow: the
driver shows there what it finds on disk, so a job needs no way to the server and no password.
"""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from cfx.errors import InputError
from pipelines.cells import plan, store
from pipelines.launching import devices
from pipelines.stages import explain


def run(config: DictConfig) -> None:
    """Compute the cells `job.cells` of the plan that are not in the store; one that fails is kept as a failure."""
    os.chdir(config.job.folder)
    params, planned = plan.read(Path(config.job.plan))
    mine = [cell for cell in planned if cell.id in set(config.job.cells) and not store.has(cell.id)]
    try:
        devices.claim(config.launch.gpus, config.launch.without_gpu)
    except InputError as error:
        for cell in mine:
            explain.save_failure(cell, error)
    else:
        explain.compute(mine, params)
