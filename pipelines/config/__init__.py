"""Parsing and validation of the command line, and the command line for given parameters."""

from pathlib import Path

# The folder of the packages: the root of a clone, or site-packages.
ROOT = Path(__file__).resolve().parents[2]
_INSTALLED = Path(__file__).parents[1] / "project"
# The folder of the files outside the packages: in a wheel as pyproject.toml maps it, otherwise the root of the clone.
PROJECT = _INSTALLED if _INSTALLED.is_dir() else ROOT
CONF = PROJECT / "conf"


def is_clone() -> bool:
    """Whether the working directory is the clone whose code runs; otherwise, it is a folder of `cfx init`."""
    return Path.cwd() == ROOT


def invocation(name: str) -> str:
    """The start of the command line of a command in the working directory: `cfx run` in a folder of `cfx init`."""
    return f"python -m pipelines.{name}" if is_clone() else f"cfx {name}"


def own_conf() -> Path | None:
    """The folder `conf` of the working directory, if it is not `CONF`: it has experiments and sweeps of the user's."""
    own = Path("conf").resolve()
    return own if own.is_dir() and own != CONF.resolve() else None
