"""The search by an array method: one call of its `search` for all rows, whose answer is checked before it counts."""

import time
from dataclasses import replace
from typing import cast

import numpy as np

from cfx.errors import InputError
from cfx.method import ArrayMethod
from cfx.problem import Problem
from cfx.result import Outcome, no_anchors, no_path
from cfx.rows import Rows

# How far beyond the feature range an answer may lie and is clipped: other libraries round otherwise.
_BEYOND = 1e-6


def search(asked: Rows, problem: Problem, wanted: np.ndarray) -> Outcome:
    """Search for the wanted rows (k,), given by their places: the instances of the problem.

    Raises InputError where the answer is not what a method has to give.
    """
    n, method, given = len(asked.x), cast(ArrayMethod, asked.method), 0
    x, iterations, runtime_s = asked.x.copy(), np.zeros(n, np.int32), np.zeros(n)
    nowhere = np.full(n, np.nan, np.float32)

    def probabilities(inputs: np.ndarray) -> np.ndarray:
        nonlocal given
        given += len(inputs)
        return problem.probabilities(inputs)

    def logits_and_gradient(inputs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal given
        given += len(inputs)
        return problem.logits_and_gradient(inputs, weights)

    counted = replace(problem, probabilities=probabilities, logits_and_gradient=logits_and_gradient)
    if len(wanted):
        started = time.perf_counter()
        x[wanted] = _checked(method.name, method.search(counted), problem)
        runtime_s[wanted] = (time.perf_counter() - started) / len(wanted)
        iterations[wanted] = -(-given // len(wanted))
    asked.progress(n, n)
    return Outcome(x, nowhere, iterations, runtime_s, no_path(x.shape[1:]), no_anchors(n))


def _checked(name: str, answer: object, problem: Problem) -> np.ndarray:
    """The answer of a method as float32 inside the feature range. Raises InputError where it cannot be taken so."""
    try:
        given = np.asarray(answer)
    except (TypeError, ValueError):
        raise InputError(f"method {name} returned {type(answer).__name__}, expected an array of numbers") from None
    if given.dtype.kind not in "biuf":
        raise InputError(
            f"method {name} returned {type(answer).__name__} of {given.dtype}, expected an array of numbers"
        )
    with np.errstate(over="ignore"):
        x = given.astype(np.float32)
    if x.shape != problem.x.shape:
        raise InputError(f"method {name} returned an array of shape {x.shape}, expected {problem.x.shape}")
    features = tuple(range(1, x.ndim))
    if not np.all(finite := np.isfinite(x).all(axis=features)):
        raise InputError(f"method {name} returned a number that is not finite in row {int(np.argmin(finite))}")
    inside = ((x >= problem.low - _BEYOND) & (x <= problem.high + _BEYOND)).all(axis=features)
    if not inside.all():
        row = int(np.argmin(inside))
        raise InputError(
            f"method {name} returned values from {x[row].min():g} to {x[row].max():g} in row {row}, outside "
            "feature_range: clip them"
        )
    return np.clip(x, problem.low, problem.high)
