"""Parsing and validation of the command line, and the command line for given parameters."""

from pathlib import Path

_INSTALLED = Path(__file__).parents[1] / "project"
# The folder of the files outside the packages: in a wheel as pyproject.toml maps it, otherwise the root of the clone.
PROJECT = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2]
CONF = PROJECT / "conf"


def own_conf() -> Path | None:
    """The folder `conf` of the working directory, if it is not `CONF`: it has experiments and sweeps of the user's."""
    own = Path("conf").resolve()
    return own if own.is_dir() and own != CONF.resolve() else None
