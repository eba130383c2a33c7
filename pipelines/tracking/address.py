"""Checks of the address of an MLflow store: it must be reachable and contain no credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cfx.errors import InputError


@contextmanager
def connection(uri: str, option: str) -> Iterator[None]:
    """Raise InputError within seconds if the store at the address in `option` is not reachable."""
    check_credentials(uri)
    # only here: a server that fails during a sweep is retried for minutes
    timeouts = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    added = {key: value for key, value in timeouts.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    except Exception as error:  # of sqlalchemy, requests or mlflow
        reason = f"cannot connect to the MLflow store at {uri} ({str(error).splitlines()[0]})"
        reason = re.sub(r"//[^/@\s]*@", "//", reason)
        raise InputError(f"{option}: {reason}; check the address") from error
    finally:
        for key in added:
            del os.environ[key]


def check_credentials(uri: str) -> None:
    """Raise InputError if an address contains credentials, which would appear in logs and parameters."""
    is_server = uri.startswith(("http:", "https:"))
    if ("@" in uri if is_server else re.search(r"^(?!sqlite).*://[^@]*:.*@", uri)) or re.search("[?&]password=", uri):
        variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if is_server else "PGPASSWORD"
        raise InputError(f"tracking: an address contains a user name or a password; remove it and set {variables}")
