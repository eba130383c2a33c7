"""The device of a job: GPU memory on demand, and an error if a requested GPU is not visible."""

from __future__ import annotations

import os

from cfx.errors import InputError
from pipelines.terminal import import_tensorflow


def configure(gpus: float, without_gpu: str) -> None:
    """Let TensorFlow allocate GPU memory on demand. Call it before the first computation of the process.

    gpus: the number requested per job. Raises InputError if it is not 0, no GPU is visible, and `without_gpu` is not
    `cpu`.
    """
    import_tensorflow()
    import tensorflow as tf

    visible = tf.config.list_physical_devices("GPU")
    for gpu in visible:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus and not visible and without_gpu != "cpu":
        masked = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise InputError(
            f"launch.gpus={gpus:g}: the job sees no GPU (CUDA_VISIBLE_DEVICES={masked}); "
            "install TensorFlow with CUDA, or set launch.without_gpu=cpu"
        )
