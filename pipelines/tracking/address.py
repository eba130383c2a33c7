"""The address of an MLflow store: it must answer, and it must hold no credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cfx.errors import InputError


@contextmanager
def connection(uri: str, option: str) -> Iterator[None]:
    """Raise an InputError of one line, in seconds, where the store at the address of an option does not answer."""
    check_credentials(uri)
    try:
        with _short_timeouts():
            yield
    except Exception as error:  # sqlalchemy, requests and mlflow each have their own
        reason = f"cannot connect to the MLflow store at {uri} ({str(error).splitlines()[0]})"
        raise InputError(f"{option}: {_without_credentials(reason)}; check the address") from error


@contextmanager
def _short_timeouts() -> Iterator[None]:
    """Report a server that is not there in seconds; one that goes away in the middle of a sweep is waited for, minutes.

    An explicit setting stands.
    """
    hasty = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    added = {key: value for key, value in hasty.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


def check_credentials(uri: str) -> None:
    """Raise InputError for an address that holds credentials: it would end up in logs, messages and parameters."""
    is_server = uri.startswith(("http:", "https:"))
    if ("@" in uri if is_server else re.search(r"^(?!sqlite).*://[^@]*:.*@", uri)) or re.search("[?&]password=", uri):
        instead = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if is_server else "PGPASSWORD"
        raise InputError(f"tracking: an address contains a user name or a password; remove it and set {instead}")


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
