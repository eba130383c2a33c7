"""Engines that need nothing beyond their YAML: Hydra's own launcher, which runs one job after the other, and joblib."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from omegaconf import DictConfig


def check(config: DictConfig) -> None:
    """Raise InputError where the engine cannot be used from here: never."""


def context(config: DictConfig) -> AbstractContextManager[None]:
    """Launch jobs and wait for them inside this context."""
    return nullcontext()


def rejection(error: Exception) -> str | None:
    """Why the engine took no job at all: it takes them all."""
    return None


def is_lost_job(error: Exception) -> bool:
    """Whether an error says that a job was lost, such as by a process that was killed."""
    return type(error).__module__.split(".")[0] == "joblib"
