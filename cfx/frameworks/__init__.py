"""Classifiers of other frameworks: PyTorch, JAX, ONNX and scikit-learn.

Each module imports its framework when it is used, and gives the passes of a model (`cfx.bridge.Passes`): of one in
memory (`passes`) or in a file (`load`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cfx.bridge import Bridge, bridge
from cfx.data import FEATURE_RANGE
from cfx.errors import InputError
from cfx.frameworks import jax, onnx, sklearn, torch
from cfx.frameworks.files import ModelFile
from cfx.outputs import Outputs

_LOADERS = {"torch": torch.load, "jax": jax.load, "onnx": onnx.load, "sklearn": sklearn.load}


def load(
    framework: str,
    path: Path,
    x: np.ndarray,
    *,
    module: ModuleType | None = None,
    bounds: tuple[float, float] = FEATURE_RANGE,
    channels_first: bool = False,
    outputs: Outputs = "auto",
    safe_mode: bool = True,
    trusted: Sequence[str] = (),
) -> Bridge:
    """Load a classifier from a file, as a model of `find_counterfactuals`.

    Args:
        framework: "torch" (TorchScript, torch.export, or weights with a module), "jax" (.npz with a module), "onnx" or
            "sklearn" (.skops).
        path: the file.
        x: float32 (n, *shape), n >= 1, instances inside [-0.5, 0.5].
        module: for weights, a module with the function `model()` (torch) or `logits(weights, x)` (jax).
        bounds: as in `cfx.bridge.bridge`, like `channels_first` and `outputs`.
        channels_first: see `bounds`.
        outputs: see `bounds`.
        safe_mode: False permits a file of torch.export, which PyTorch loads with pickle.
        trusted: names of types in a .skops file that skops does not know.

    Raises:
        InputError: the file cannot be loaded, would run code, or does not fit x; or the framework is not installed.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    file = ModelFile(content, str(path), module, safe_mode, trusted)
    return from_file(framework, file, x, bounds=bounds, channels_first=channels_first, outputs=outputs)


def from_file(framework: str, file: ModelFile, x: np.ndarray, **options: Any) -> Bridge:
    """The classifier in a file that has been read, as `load` describes."""
    passes = _LOADERS[framework](file)
    try:
        return bridge(passes, x, **options)
    except InputError as error:
        raise InputError(f"{file.where}: {error}") from error
