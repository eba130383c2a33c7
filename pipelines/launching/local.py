"""Launchers that need only their YAML file: Hydra's basic launcher and joblib. See `fan_out` for the interface."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from omegaconf import DictConfig


def check(config: DictConfig) -> None:
    """Do nothing: these launchers are always available."""


def context(config: DictConfig) -> AbstractContextManager[None]:
    """The context in which jobs run."""
    return nullcontext()


def rejection(error: Exception) -> str | None:
    """None: all jobs are accepted."""
    return None


def is_lost_job(error: Exception) -> bool:
    """Whether joblib lost a worker process."""
    return type(error).__module__.split(".")[0] == "joblib"
