"""The identity of a cell: a hash of all inputs that determine its result.

The inputs are the method with its hyperparameters, the instances, the digests of the data, the model, the judges and
the guides that the method uses, and the source of the engine, the metrics and the method, by the import graph. Other
methods, the launcher, tracking and paths are not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cfx
from cfx import models, stored
from pipelines.cells import provenance, source
from pipelines.cells.paths import Trained
from pipelines.config import searches

_CFX = Path(cfx.__file__).parent
_ENGINE = (_CFX / "search.py", _CFX / "metrics.py")
# The modules that run a custom method, or that its file may import, and its options that do not change the result.
_OWN = (_CFX / "own.py", _CFX / "worker.py", *source.FOR_FILES)
_OPERATIONAL = ("module", "python", "timeout_s")


def inputs(
    search: Mapping[str, Any], instances: tuple[int, ...], constraints: Mapping[str, Any], trained: Trained
) -> dict[str, Any]:
    """The inputs that determine the result of a cell, by value or by SHA-256, as JSON types.

    search: the `search` section of the cell; instances: indices into the test split; constraints: those of `Cell`.
    """
    method = {key: value for key, value in search.items() if key not in _OPERATIONAL}
    return {
        **method,
        "method": searches.name(search),
        "instances": list(instances),
        "constraints": {key: value for key, value in constraints.items() if key != "mask"},
        "data": json.loads(trained.data_card.read_text())["sha256"],
        "model": models.sha256(trained.model),
        "judges": judges(trained),
        **({"guides": guides(trained)} if searches.method(search).guide_quantile else {}),
        "code": code_sha256(search["method"], stored.about(trained.model).get("framework")),
    }


def judges(trained: Trained) -> list[str]:
    """The digests of the autoencoders, of the committee, and of the replicas, in order."""
    replicas = sorted(trained.replicas.glob("*.keras"))
    return [models.sha256(path) for path in (trained.autoencoders, trained.committee, *replicas)]


def guides(trained: Trained) -> list[str]:
    """The digests of the guides, in order."""
    return [models.sha256(path) for path in sorted(trained.guides_folder.glob("*.keras"))]


def sha256(inputs: Mapping[str, Any]) -> str:
    """The ID of the cell with these inputs, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code_sha256(method: str, framework: str | None = None) -> str:
    """The digest of the source that computes the cells of a method, without comments, docstrings and a user's file.

    framework: that of the classifier, unless it is a Keras model.
    """
    roots = (*_ENGINE, *(_OWN if method == searches.OWN else (_CFX / "methods" / f"{method}.py",)))
    if framework:
        roots += (_CFX / "frameworks" / f"{framework}.py",)
    modules = sorted({module for root in roots for module in source.modules(root)})
    return hashlib.sha256("\n".join(map(provenance.syntax, modules)).encode()).hexdigest()
