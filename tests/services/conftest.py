"""What the tests need of the services that `make services` starts; where one is missing they skip and say so.

With CFX_REQUIRE_SERVICES=1 a missing service is a failure.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.services.__main__ import home
from tests.workflow.conftest import swept as swept


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What the services were started with: KEY=VALUE, a line each."""
    written = home() / "environment"
    if not written.exists():
        missing("the services are not started; `make services` does it")
    return dict(line.split("=", 1) for line in written.read_text().splitlines())


@pytest.fixture
def slurm(environment) -> Iterator[Callable[..., str]]:
    """A Slurm command: what it printed. SLURM_CONF is set, so that the commands under test find the cluster too.

    What a test leaves in the queue is cancelled.
    """
    os.environ["SLURM_CONF"] = environment["SLURM_CONF"]

    def command(*arguments: str) -> str:
        return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout

    try:
        command("scontrol", "ping")
    except (OSError, subprocess.SubprocessError) as error:
        missing(f"Slurm does not answer: {error}")
    yield command
    command("scancel", "--me")


@pytest.fixture(scope="session")
def ray_address(environment) -> str:
    """host:port of the Ray cluster, where the commands under test find it."""
    os.environ.update({key: value for key, value in environment.items() if key.startswith("RAY_")})
    return reachable("Ray", environment["CFX_RAY_ADDRESS"])


@pytest.fixture(scope="session")
def postgres_url(environment) -> str:
    """postgresql://user:password@host:port/database, a database that tests may fill."""
    url = environment["CFX_POSTGRES_URL"]
    reachable("PostgreSQL", urlsplit(url).netloc.rpartition("@")[2])
    return url


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    return shutil.which("chromium") or missing("there is no chromium; `make services` installs it")


def reachable(service: str, address: str) -> str:
    """The address, if something listens there."""
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        if client.connect_ex((host, int(port))) != 0:
            missing(f"{service} does not answer at {address}; `make services` starts it")
    return address


def missing(reason: str) -> str:
    """Skip the test, or the module that is being imported; or fail where every service is to be there."""
    if os.environ.get("CFX_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
