"""The classifier of the workflow in one file: a .keras file, or an archive with the file of another framework.

A .keras file is an archive too. So every classifier is one artefact at the same path, with one digest
(`cfx.models.sha256`) and a user's module inside (`cfx.models.embed`). Such an archive has the user's file as it is, and
the options of `cfx.bridge.bridge`. What may run when it is loaded is no part of it, but an argument.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cfx import frameworks, models
from cfx.bridge import Bridge
from cfx.data import Dataset
from cfx.errors import InputError
from cfx.frameworks.files import ModelFile

_OPTIONS, _FILE = "framework.json", "file"


def store(path: Path, framework: str, content: bytes, dataset: Dataset, loaded: Bridge | None, **options: Any) -> None:
    """Write an archive with the content of a model file.

    loaded: the classifier, if it has been loaded, so that its outputs and whether it has a gradient are known later.
    options: those of `cfx.bridge.bridge`.
    """
    if loaded is not None:
        options |= {"outputs": loaded.outputs}
    has_gradient = loaded is None or hasattr(loaded, "logits_and_gradient")
    about = {"framework": framework, "input_shape": dataset.input_shape, "has_gradient": has_gradient, **options}
    with zipfile.ZipFile(path, "w") as archive:
        # a ZipInfo has a fixed date, so that the file is deterministic
        archive.writestr(zipfile.ZipInfo(_OPTIONS), json.dumps(about))
        archive.writestr(zipfile.ZipInfo(_FILE), content)


def about(path: Path) -> dict[str, Any]:
    """What `store` wrote about a classifier, such as its `framework`; any other file only has a gradient."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if _OPTIONS in archive.namelist():
                return json.loads(archive.read(_OPTIONS))
    return {"has_gradient": True}


def load(
    path: Path,
    dataset: Dataset | None = None,
    *,
    safe_mode: bool = True,
    module_sha256: str | None = None,
    trusted: Sequence[str] = (),
    where: str | None = None,
) -> Any:
    """Load a classifier, a Keras model or a `cfx.bridge.Bridge`, and check that it fits `dataset`, if given.

    The other arguments are those of `cfx.models.load` and `cfx.frameworks.load`. Raises InputError as they do.
    """
    options = about(path) if path.is_file() else {}
    if "framework" not in options:
        return models.load(path, dataset, safe_mode=safe_mode, module_sha256=module_sha256, where=where)
    with zipfile.ZipFile(path) as archive:
        content = archive.read(_FILE)
    module = models.own_module(path, module_sha256) if module_sha256 else None
    file = ModelFile(content, where or str(path), module, safe_mode, trusted)
    name, shape, _ = (options.pop(key) for key in ("framework", "input_shape", "has_gradient"))
    x = np.zeros((2, *shape), np.float32) if dataset is None else dataset.x_test[:16]
    bridge = frameworks.from_file(name, file, x, **options)
    if dataset is not None and bridge.classes != dataset.classes:
        raise InputError(f"{file.where}: returns {bridge.classes} classes, but the data has {dataset.classes}")
    return bridge
