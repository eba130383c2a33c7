"""The search with an array method: one call of its `search` for all rows, and a check of the result."""

import time
from dataclasses import replace
from typing import cast

import numpy as np

from cfx.errors import InputError
from cfx.method import ArrayMethod
from cfx.problem import Problem
from cfx.result import Outcome, no_anchors, no_path
from cfx.rows import Rows

# Results outside the feature range by at most this much are clipped, because other libraries round differently.
_BEYOND = 1e-6


def search(asked: Rows, problem: Problem, wanted: np.ndarray) -> Outcome:
    """Search for the rows with the indices `wanted` (k,), which are the instances of the problem.

    Raises InputError if the result of the method is invalid.
    """
    n, method = len(asked.x), cast(ArrayMethod, asked.method)
    given, last = 0, asked.x[:0]
    x, iterations, runtime_s = asked.x.copy(), np.zeros(n, np.int32), np.zeros(n)
    nowhere = np.full(n, np.nan, np.float32)

    def count(inputs: np.ndarray) -> None:
        nonlocal given, last
        # the logits of inputs and then their gradient are one step, as in a step method
        if not np.array_equal(inputs, last):
            given, last = given + len(inputs), np.array(inputs)

    def probabilities(inputs: np.ndarray) -> np.ndarray:
        count(inputs)
        return problem.probabilities(inputs)

    def logits_and_gradient(inputs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count(inputs)
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
    """The result of a method as float32 inside the feature range. Raises InputError if it is invalid."""
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
