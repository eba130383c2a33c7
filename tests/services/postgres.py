"""PostgreSQL, for MLflow on a server: a database of its own, at a port of this machine, with a random password.

It refuses to run as root, so where the tests are run by root it is run by the user that its package makes.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.services.daemon import Daemon, NotStarted, succeeds

PORTS = ("postgres",)
USER = "cfx"
DATABASE = "postgres"


def configure(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """Make the database; returns where it is, with its password. Raises NotStarted."""
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    password = home / "password"
    password.touch(0o600)
    password.write_text(secrets.token_urlsafe(24))
    if os.geteuid() == 0:
        for path in (home, password):
            shutil.chown(path, *_owner())
    made = subprocess.run(
        [
            *(*_as_owner(), _program("initdb"), "--pgdata", home / "data", "--username", USER),
            *("--auth=scram-sha-256", "--pwfile", password, "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"),
        ],
        cwd="/",
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        raise NotStarted(f"postgres: initdb failed: {made.stdout[-1000:]}{made.stderr[-1000:]}")
    url = f"postgresql://{USER}:{password.read_text()}@127.0.0.1:{ports['postgres']}/{DATABASE}"
    return {"CFX_POSTGRES_URL": url}


def daemons(folder: Path, ports: dict[str, int]) -> list[Daemon]:
    """The server."""
    port = str(ports["postgres"])
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    return [
        Daemon(
            "postgres",
            [
                *(*_as_owner(), _program("postgres"), "-D", folder / "postgres/data"),
                *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
            ],
            lambda: succeeds(_program("pg_isready"), "--host=127.0.0.1", f"--port={port}"),
        )
    ]


def _program(name: str) -> Path:
    """A program of the newest PostgreSQL here; Debian has them outside the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    if not versions:
        raise NotStarted(f"postgres: no {name} in /usr/lib/postgresql")
    return versions[-1]


def _owner() -> tuple[int, int]:
    """User and group that the server runs as."""
    entry = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return entry.pw_uid, entry.pw_gid


def _as_owner() -> list[str]:
    """What a command is to begin with so that it runs as the owner, in the same process."""
    if os.geteuid() != 0:
        return []
    user, group = _owner()
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]
