"""The addresses of the MLflow runs that the report links to: artifacts/runs.json, which the driver writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from cfx.files import replacing
from pipelines.cells import paths


def write(addresses: Mapping[str, str]) -> None:
    """Write the addresses of the MLflow runs for the report."""
    text = json.dumps(addresses, indent=2) + "\n"
    if not (paths.RUNS.exists() and paths.RUNS.read_text() == text):
        with replacing(paths.RUNS) as temporary:
            temporary.write_text(text)


def are_current() -> bool:
    """Whether the existing report has the current addresses of the MLflow runs."""
    linked = paths.REPORT / paths.RUNS.name
    return linked.exists() and linked.read_text() == paths.RUNS.read_text()


def read() -> dict[str, str]:
    """The addresses of the MLflow runs by cell ID, and of the parent run as `sweep`; empty after `dvc repro`."""
    if not paths.RUNS.exists():
        return {}
    addresses = json.loads(paths.RUNS.read_text())
    return {name: address for name, address in addresses.items() if urlsplit(address).scheme in ("http", "https")}
