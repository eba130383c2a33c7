"""Classifiers of JAX: a module with the function `logits(weights, x)`, and its weights in an .npz file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cfx.bridge import Passes, PullBack
from cfx.errors import InputError
from cfx.frameworks.files import ModelFile, imported


def load(file: ModelFile) -> Passes:
    """The passes of the module's `logits` with the weights in a file. Raises InputError if they cannot be loaded."""
    logits = getattr(file.module, "logits", None)
    if logits is None:
        raise InputError(
            "model.module: must have the function logits(weights, x); weights is a dict of the file's arrays"
        )
    try:
        with np.load(io.BytesIO(file.content), allow_pickle=False) as arrays:
            weights = {name: np.asarray(arrays[name], np.float32) for name in arrays}
    except Exception as error:  # numpy raises many kinds of exception for an invalid file
        raise file.refused("JAX", error, "; write its weights with np.savez") from error
    return passes(logits, weights)


def passes(logits: Callable[[Any, Any], Any], weights: Mapping[str, Any]) -> Passes:
    """The passes of `logits(weights, x)`; weights: any pytree of arrays."""
    jax = imported("jax")
    forward = jax.jit(lambda x: logits(weights, x))
    # a pull-back is a pytree, so that both passes are compiled
    both = jax.jit(lambda x: jax.vjp(lambda x: logits(weights, x), x))
    backward = jax.jit(lambda pull, weights: pull(weights)[0])

    def vjp(x: np.ndarray) -> tuple[np.ndarray, PullBack]:
        values, pull = both(_padded(x))

        def pull_back(weights: np.ndarray) -> np.ndarray:
            return np.asarray(backward(pull, _padded(weights)))[: len(x)]

        return np.asarray(values)[: len(x)], pull_back

    return Passes(lambda x: np.asarray(forward(_padded(x)))[: len(x)], vjp)


def _padded(rows: np.ndarray) -> np.ndarray:
    """The rows, padded with zeros to a power of two, because JAX compiles each number of rows separately."""
    missing = 2 ** max(4, (len(rows) - 1).bit_length()) - len(rows)
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
