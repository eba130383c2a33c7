"""A Ray cluster of one node with two GPUs, which are declared and not there. Jobs reach it by its address."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.services.daemon import Daemon, listens

# Ray's own names for them, with an underscore.
PORTS = (
    "port",
    "node_manager_port",
    "object_manager_port",
    "dashboard_agent_listen_port",
    "dashboard_agent_grpc_port",
    "runtime_env_agent_port",
    "metrics_export_port",
    "ray_client_server_port",
)
GPUS = 2
CPUS = 4


def configure(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """Make the token that Ray asks for; returns the address, and what a client needs in its environment."""
    token = _token(folder)
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    return {"CFX_RAY_ADDRESS": f"127.0.0.1:{ports['port']}", **client(folder)}


def client(folder: Path) -> dict[str, str]:
    """The environment of Ray and of what speaks to it."""
    return {
        # Ray's name for "no node on another machine": with it all of Ray listens at 127.0.0.1 alone, and looks there
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token(folder)),
    }


def _token(folder: Path) -> Path:
    return folder / "ray.token"


def daemons(folder: Path, ports: dict[str, int]) -> list[Daemon]:
    """The head of the cluster, which starts and ends all that belongs to it."""
    ray = Path(sys.executable).with_name("ray")
    return [
        Daemon(
            "ray",
            [
                *(ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
                *(f"--{name.replace('_', '-')}={ports[name]}" for name in PORTS),
                # 0: any that is free
                *("--min-worker-port=0", "--max-worker-port=0"),
                *(f"--num-cpus={CPUS}", f"--num-gpus={GPUS}", f"--object-store-memory={100 * 2**20}"),
                *("--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={scratch(ports)}"),
            ],
            lambda: listens(ports["port"]) and listens(ports["node_manager_port"]),
            client(folder),
        )
    ]


def scratch(ports: dict[str, int]) -> Path:
    """Where Ray keeps its sockets and logs: outside of the services' folder, for a socket's path must be short."""
    return Path(tempfile.gettempdir()) / f"cfx-ray-{ports['port']}"


def clean(ports: dict[str, int]) -> None:
    """Remove what Ray leaves."""
    shutil.rmtree(scratch(ports), ignore_errors=True)
