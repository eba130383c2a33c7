"""Start and stop the services.   python -m tests.services start|stop"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.services import other_environment, packages, postgres, ray_cluster, slurm
from tests.services.daemon import NotStarted, end, running

ROOT = Path(__file__).parents[2]
SERVICES = (slurm, postgres, ray_cluster)


def main() -> int:
    """Do what the command line asks for; returns the exit code."""
    if sys.argv[1:] not in (["start"], ["stop"]):
        print("usage: python -m tests.services start|stop", file=sys.stderr)
        return 2
    folder = home()
    try:
        start(folder) if sys.argv[1] == "start" else stop(folder)
    except NotStarted as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def home() -> Path:
    """The folder with all that the services write."""
    return Path(os.environ.get("CFX_SERVICES", ROOT)).resolve() / ".services"


def start(folder: Path) -> None:
    """Start what does not run and wait until all of it answers. Where nothing runs all begins anew, without a past."""
    packages.install()
    chosen = folder / "ports.json"
    if not any(running(folder, path.stem) for path in (folder / "run").glob("*.pid")):
        prepare(folder)
    ports = json.loads(chosen.read_text())
    for service in SERVICES:
        for daemon in service.daemons(folder, ports):
            daemon.start(folder)
    print(f"the services run; {folder / 'environment'} says where")


def prepare(folder: Path) -> None:
    """Make the folder, choose the ports and write every configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("", "run", "log"):
        (folder / part).mkdir(mode=0o755, parents=True)
    ports = dict(zip((name for service in SERVICES for name in service.PORTS), free_ports(), strict=False))
    environment: dict[str, str] = {}
    for service in SERVICES:
        environment |= service.configure(folder, ports)
    environment |= other_environment.make(folder)
    written = folder / "environment"
    written.touch(0o600)
    written.write_text("".join(f"{key}={value}\n" for key, value in environment.items()))
    # last: with it the folder is complete
    (folder / "ports.json").write_text(json.dumps(ports))


def stop(folder: Path) -> None:
    """End what runs, the last first."""
    if not (folder / "ports.json").exists():
        return
    slurm.cancel_all(folder)
    ports = json.loads((folder / "ports.json").read_text())
    for service in reversed(SERVICES):
        for daemon in reversed(service.daemons(folder, ports)):
            end(folder, daemon.name)
    ray_cluster.clean(ports)


def free_ports() -> Iterator[int]:
    """Ports that nothing listens at, below those that the kernel gives to connections."""
    ports = list(range(20000, 32000))
    random.shuffle(ports)
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


if __name__ == "__main__":
    sys.exit(main())
