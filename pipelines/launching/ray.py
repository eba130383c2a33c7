"""Ray, for as long as the jobs of a sweep run and no longer."""

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
    """Raise InputError where nothing answers at the address of a cluster."""
    address = str(config.hydra.launcher.ray.init.address)
    if address == "local":
        # read when Ray is imported: it is to listen on this machine alone, and to ask for a token there, without a note
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif cluster := re.fullmatch(r"([^:/]+):(\d+)", address):
        # Ray itself would try for minutes
        try:
            socket.create_connection((cluster[1], int(cluster[2])), timeout=10).close()
        except OSError as error:
            raise InputError(
                f"hydra.launcher.ray.init.address: cannot connect to {address} ({error}); check the address"
            ) from None


@contextmanager
def context(config: DictConfig) -> Iterator[None]:
    """Start or reach Ray, and leave it however the jobs end; the launcher takes what is there.

    Raises InputError where this machine has fewer GPUs than a job asks for: Ray would wait for more. A cluster that is
    named by its address may yet get some.
    """
    settings, gpus = config.hydra.launcher.ray.init, config.launch.gpus
    ray = importlib.import_module("ray")
    ray.init(**cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True)))
    # Ray takes over SIGTERM, and aborts the driver three seconds after it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        there = ray.cluster_resources().get("GPU", 0)
        if gpus > there and settings.address == "local":
            raise InputError(f"launch.gpus={gpus:g}: Ray finds {there:g} GPUs on this machine; set launch.gpus=0")
        yield
    finally:
        ray.shutdown()


def rejection(error: Exception) -> str | None:
    """Why Ray took no job at all: what it cannot run now it waits for."""
    return None


def is_lost_job(error: Exception) -> bool:
    """Whether an error is Ray's; a cluster that does not take the driver is a ConnectionError."""
    return type(error).__module__.split(".")[0] == "ray" or isinstance(error, ConnectionError)
