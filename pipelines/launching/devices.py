"""The device that a process computes on: memory as it is needed, and no CPU in place of a GPU that was asked for."""

from __future__ import annotations

import os

from cfx.errors import InputError
from pipelines.terminal import import_tensorflow


def claim(gpus: float, without_gpu: str) -> None:
    """Make TensorFlow take the memory of its GPUs as it needs it, before it first computes in this process.

    gpus: how many the job asked for. Raises InputError where it asked for some and sees none, unless `without_gpu` is
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
