"""From the command line to checked parameters, and back to a command line."""

from pathlib import Path

CONF = Path(__file__).parents[2] / "conf"
