"""Another environment for methods of the user: this Python, with a numpy of another major version and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.services.daemon import NotStarted

LOCK = Path(__file__).with_name("other-environment.lock")


def make(folder: Path) -> dict[str, str]:
    """Make it below the folder; returns where its interpreter is, as CFX_OTHER_PYTHON."""
    place = folder / "numpy1"
    python = place / "bin" / "python"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--require-hashes"]
    for step in (
        [sys.executable, "-m", "venv", "--without-pip", str(place)],
        [*uv, "--python", str(python), "--requirement", str(LOCK)],
    ):
        done = subprocess.run(step, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise NotStarted(f"{' '.join(step)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {"CFX_OTHER_PYTHON": str(python)}
