"""One job of the fan-out. Workers on other machines import `run` by its name. A job does not access MLflow."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from cfx.errors import InputError
from pipelines.cells import plan, store
from pipelines.launching import devices
from pipelines.stages import explain


def run(config: DictConfig) -> None:
    """Compute the cells `job.cells` of the plan that are not in the store, and save the result or error of each."""
    os.chdir(config.job.folder)
    params, planned = plan.read(Path(config.job.plan))
    cells = [cell for cell in planned if cell.id in set(config.job.cells) and not store.has(cell.id)]
    try:
        devices.configure(config.launch.gpus, config.launch.without_gpu)
    except InputError as error:
        for cell in cells:
            explain.save_failure(cell, error)
    else:
        explain.compute(cells, params)
