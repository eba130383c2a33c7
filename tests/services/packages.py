"""The Debian packages that the services are made of, installed where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess

from tests.services.daemon import NotStarted

PACKAGES = (
    *("munge", "slurmctld", "slurmd", "slurm-client", "slurmdbd", "mariadb-server-core"),
    "postgresql",
    # for the tests of the report in a browser
    *("chromium", "fonts-dejavu-core"),
    # pdflatex with booktabs, for the report's tables
    "texlive-latex-recommended",
)


def install() -> None:
    """Install what is missing. Raises NotStarted where that cannot be done here."""
    if shutil.which("dpkg-query") is None:
        raise NotStarted(f"the services are Debian packages, and this is no Debian; they are {', '.join(PACKAGES)}")
    missing = [package for package in PACKAGES if not _installed(package)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--quiet", "--quiet", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise NotStarted(f"{', '.join(missing)}: not installed; as root: {' '.join(command)}")
    print(f"installing {', '.join(missing)}", flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "--quiet", "--quiet"], command):
        done = subprocess.run(step, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise NotStarted(f"{' '.join(step)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _installed(package: str) -> bool:
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
    return asked.stdout == "installed"
