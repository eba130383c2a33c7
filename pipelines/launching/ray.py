"""Ray, started for the jobs of one sweep or connected to a cluster. See `fan_out` for the interface."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from cfx.errors import InputError


def check(config: DictConfig) -> None:
    """Raise InputError if the address of a cluster does not accept connections."""
    address = str(config.hydra.launcher.ray.init.address)
    if address == "local":
        # Ray reads these when it is imported: listen on this machine only, and require a token
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif cluster := re.fullmatch(r"([^:/]+):(\d+)", address):
        # Ray would retry for minutes
        try:
            socket.create_connection((cluster[1], int(cluster[2])), timeout=10).close()
        except OSError as error:
            raise InputError(
                f"hydra.launcher.ray.init.address: cannot connect to {address} ({error}); check the address"
            ) from None


@contextmanager
def context(config: DictConfig) -> Iterator[None]:
    """Start Ray or connect to it, and shut it down or disconnect at the end.

    Raises InputError if a local Ray has fewer GPUs than a job requests, because Ray would wait for more.
    """
    settings, gpus = config.hydra.launcher.ray.init, config.launch.gpus
    ray = importlib.import_module("ray")
    ray.init(**cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True)))
    # Ray replaces the SIGTERM handler with one that aborts the driver after three seconds
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        available = ray.cluster_resources().get("GPU", 0)
        if gpus > available and settings.address == "local":
            raise InputError(f"launch.gpus={gpus:g}: Ray finds {available:g} GPUs on this machine; set launch.gpus=0")
        yield
    finally:
        ray.shutdown()


def is_lost_job(error: Exception) -> bool:
    """Whether the exception comes from Ray; a ConnectionError means that the cluster rejected the driver."""
    return type(error).__module__.split(".")[0] == "ray" or isinstance(error, ConnectionError)
