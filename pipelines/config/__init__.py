"""Parsing and validation of the command line, and the command line for given parameters."""

from pathlib import Path

CONF = Path(__file__).parents[2] / "conf"
