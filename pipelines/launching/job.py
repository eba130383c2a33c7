"""One job of the fan-out. Workers on other machines import `run` by its name. A job does not access MLflow."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from cfx.errors import InputError
from pipelines.cells import plan, store
from pipelines.stages import explain
from pipelines.terminal import import_tensorflow


def run(config: DictConfig) -> None:
    """Compute the cells `job.cells` of the plan that are not in the store, and save the result or error of each."""
    os.chdir(config.job.folder)
    params, planned = plan.read(Path(config.job.plan))
    cells = [cell for cell in planned if cell.id in set(config.job.cells) and not store.has(cell.id)]
    try:
        _configure_gpus(config.launch)
    except InputError as error:
        for cell in cells:
            explain.save_failure(cell, error)
    else:
        explain.compute(cells, params)


def _configure_gpus(launch: DictConfig) -> None:
    """Let TensorFlow allocate GPU memory on demand. Raises InputError if a requested GPU is not visible."""
    import_tensorflow()
    import tensorflow as tf

    visible = tf.config.list_physical_devices("GPU")
    for gpu in visible:
        tf.config.experimental.set_memory_growth(gpu, True)
    if launch.gpus and not visible and launch.without_gpu != "cpu":
        masked = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise InputError(
            f"launch.gpus={launch.gpus:g}: the job sees no GPU (CUDA_VISIBLE_DEVICES={masked}); "
            "install TensorFlow with CUDA, or set launch.without_gpu=cpu"
        )
