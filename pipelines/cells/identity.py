"""The identity of a cell: a hash of all that decides what it holds, so that no cell is computed twice or mistaken.

It covers the method with its hyperparameters, the instances, the digests of the data, the model, the judges and the
guides that the method uses, and the source of the engine, the measures and the method, by the import graph. It leaves
out other methods, the launcher, tracking and where files lie.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cfx
from cfx import models
from pipelines.cells import provenance, source
from pipelines.cells.paths import Trained
from pipelines.config import searches

_CFX = Path(cfx.__file__).parent
# What every cell is computed with: the search, and the measures by the judges.
_ENGINE = (_CFX / "search.py", _CFX / "metrics.py")
# What runs a method of the user's own.
_OWN = (_CFX / "own.py", _CFX / "worker.py")
# What of such a section says where the file lies and how long it may take, and not what it does.
_OPERATIONAL = ("module", "python", "timeout_s")


def inputs(search: Mapping[str, Any], instances: tuple[int, ...], trained: Trained) -> dict[str, Any]:
    """All that decides what a cell holds, by value or by SHA-256, in a form that can be written as JSON.

    search: the `search` section at the cell's point; instances: places in the test split.
    """
    method = {key: value for key, value in search.items() if key not in _OPERATIONAL}
    return {
        **method,
        "method": searches.name(search),
        "instances": list(instances),
        "data": json.loads(trained.data_card.read_text())["sha256"],
        "model": models.sha256(trained.model),
        "judges": [models.sha256(path) for path in (trained.autoencoders, trained.oracle)],
        **({"guides": guides(trained)} if searches.method(search).guide_quantile else {}),
        "code": code_sha256(search["method"]),
    }


def guides(trained: Trained) -> list[str]:
    """The digests of the guides, in their order."""
    return [models.sha256(path) for path in sorted(trained.guides_folder.glob("*.keras"))]


def sha256(deciding: Mapping[str, Any]) -> str:
    """The name under which the cell is kept, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code_sha256(method: str) -> str:
    """The digest of the source that fills the cells of a method; of one of the user's own, without its file.

    A comment, a docstring or a line break makes no old cell stale.
    """
    roots = (*_ENGINE, *(_OWN if method == searches.OWN else (_CFX / "methods" / f"{method}.py",)))
    modules = sorted({module for root in roots for module in source.modules(root)})
    return hashlib.sha256("\n".join(map(provenance.syntax, modules)).encode()).hexdigest()
