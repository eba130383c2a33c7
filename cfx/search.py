"""Find the counterfactuals of many instances: what `cfx` is for.

Rows pass through batches that step together. Each row has its own target, weights, step counter and end; rows that have
ended leave, and waiting rows take their places. The steps themselves are in `cfx.program`, the methods in modules of
their own, and what is found counts only after the caller's own model has confirmed it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cfx.classifier import Classifier, Outputs
from cfx.errors import InputError
from cfx.methods import Method
from cfx.point import Best, Row
from cfx.program import Met, Program, no_path, program, settings_of
from cfx.result import LambdaPath, Result, distances

# The most rows in one step, and the most numbers in their instances: where a larger batch gains no more.
_LIMITS = {"CPU": (256, 2**20), "GPU": (1024, 2**22)}


def find_counterfactuals(
    model: Callable[..., Any],
    x: np.ndarray,
    method: Method,
    *,
    instances: Sequence[int] | np.ndarray | None = None,
    batch_size: int | None = None,
    path_rows: int = 0,
    outputs: Outputs = "auto",
    eps: float = 1e-3,
    jit_compile: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Search a counterfactual for every row of x.

    A row whose instance already is a counterfactual comes back unchanged, bit for bit, without a step. A row for which
    none is met comes back unchanged too, and is not `found`. The same call on the same machine gives the same bits, and
    on a CPU so does a row in any other batch, where the model's layers round alike at every place (convolutions, dense
    layers and relu do; an exponential may not, and differs by its rounding).

    Args:
        model: a Keras classifier that ends in probabilities or logits (n, classes) or in one unit (two classes), or a
            function of float32 arrays (n, *shape) that does: its gradients are taken numerically.
        x: (n, *shape), the instances, inside the method's feature range.
        method: `Wachter` or `PrimalDual`, with its hyperparameters.
        instances: (n,) indices of the instances, for the column `instance`; 0 to n - 1 where not given.
        batch_size: the most rows in one step; by default as many as go with the size of an instance.
        path_rows: for how many rows, from the first, to keep the path over lambda.
        outputs: what the model gives, "probabilities" or "logits"; "auto" finds out, or says that it cannot.
        eps: half the step of the numerical gradient of a function, in units of x.
        jit_compile: whether XLA compiles the steps; by default on a GPU only, where it is faster.
        progress: called with the rows done and n, now and then.

    Raises:
        InputError: x, a target class or a per-row value does not fit the model or x, or the model gives a number that
            is not finite.
    """
    x = _instances(x, method)
    n = len(x)
    indices = np.arange(n) if instances is None else np.asarray(instances)
    if indices.shape != (n,):
        raise InputError(f"instances must be one index a row of x: got shape {indices.shape} for {n} rows")
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    batch_size = _default_batch_size(x, device) if batch_size is None else batch_size
    if batch_size < 1:
        raise InputError(f"batch_size must be >= 1, got {batch_size}: give the most rows in one step")
    if path_rows < 0:
        raise InputError(f"path_rows must be >= 0, got {path_rows}: give how many rows keep their path")
    asked = _per_row("target_class", method.target_class, n).astype(str)
    lam_init = _per_row("lam_init", method.lam_init, n)
    learning_rate = _per_row("learning_rate", method.learning_rate, n)
    if jit_compile is None:
        jit_compile = device == "GPU" and isinstance(model, keras.Model)
    probe = x[:batch_size] if n else np.zeros((1, *x.shape[1:]), np.float32) + method.feature_range[0]
    compiled = program(model, probe, method, outputs, eps, jit_compile)

    started = time.perf_counter()
    before = _predict(compiled.classifier, x, batch_size)
    original_class = before.argmax(axis=1)
    target = _target_classes(asked, original_class, compiled.classifier.classes)
    row = Row(
        index=np.arange(n, dtype=np.int32),
        x=x,
        target=target,
        lam_init=lam_init.astype(np.float32),
        learning_rate=learning_rate.astype(np.float32),
    )
    wanted = np.flatnonzero(~_is_met(before, target, method))
    best, met, runtime_s = _search(compiled, method, row, wanted, batch_size, min(path_rows, n), progress)

    after = _predict(compiled.classifier, best.x, batch_size)
    cf_class = after.argmax(axis=1)
    l1, l2, l0 = distances(best.x, x)
    path = _path(compiled, met, x, method, batch_size)
    # What belongs to no step, such as the predictions before and after, is shared by all rows.
    runtime_s += (time.perf_counter() - started - runtime_s.sum()) / max(n, 1)
    return Result(
        method=method.name,
        x=best.x,
        found=_is_met(after, target, method),
        probability=after[np.arange(n), cf_class],
        cf_class=cf_class,
        original_class=original_class,
        target_class=asked,
        instance=indices,
        l1=l1,
        l2=l2,
        l0=l0,
        lam=best.lam,
        lam_init=lam_init,
        learning_rate=learning_rate,
        iterations=best.steps,
        runtime_s=runtime_s,
        path=path,
    )


def _search(
    compiled: Program,
    method: Method,
    row: Row,
    waiting: np.ndarray,
    batch_size: int,
    path_rows: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Best, Met, np.ndarray]:
    """Pass the waiting rows through batches; what has come of every row, the path, and each row's time."""
    n = len(row.x)
    nan = np.full(n, np.nan, np.float32)
    best = Best(row.x.copy(), nan, nan.copy(), np.zeros(n, np.int32), np.ones(n, bool))
    met = no_path(path_rows, compiled.module.path_length(method), row.x.shape[1:])
    runtime_s = np.zeros(n)
    settings = settings_of(method)
    slots, going = waiting[:0], np.zeros(0, bool)
    batch = compiled.begin(settings, _rows(row, slots))
    while going.any() or len(waiting):
        began = time.perf_counter()
        keep = np.flatnonzero(going)
        fresh, waiting = np.split(waiting, [batch_size - len(keep)])
        if compiled.is_xla and not len(fresh):
            keep = _padded(going)
        batch = compiled.join(batch, keep, compiled.begin(settings, _rows(row, fresh)))
        slots = np.concatenate([slots[keep], fresh])
        going = np.ones(len(slots), bool)
        # A few places empty are worth a new batch, or half of them where its size has to be compiled.
        enough = len(slots) // 2 if compiled.is_xla and not len(waiting) else len(slots) - max(1, len(slots) // 32)
        while going.sum() > enough:
            before = batch.best.steps.numpy()[: len(slots)]
            batch, met = compiled.run(settings, batch, met, path_rows, enough)
            going = ~batch.state["done"].numpy()[: len(slots)]
            steps = batch.best.steps.numpy()[: len(slots)] - before
            began, took = time.perf_counter(), time.perf_counter() - began
            runtime_s[slots] += took * steps / steps.sum()
            if not np.all(finite := batch.best.finite.numpy()[: len(slots)]):
                which = slots[np.argmin(finite)]
                raise InputError(f"the model gives a number that is not finite on the way from row {which} of x")
            if progress:
                progress(n - len(waiting) - int(going.sum()), n)
        ended = np.flatnonzero(~going)
        for values, ending in zip(best, batch.best, strict=True):
            values[slots[ended]] = tf.gather(ending, ended)
    return best, met, runtime_s


def _padded(going: np.ndarray) -> np.ndarray:
    """The slots that go on, and as many that have ended as make their number a power of two."""
    size = 2 ** int(np.ceil(np.log2(going.sum())))
    return np.argsort(~going, kind="stable")[:size]


def _path(compiled: Program, met: Met, x: np.ndarray, method: Method, batch_size: int) -> LambdaPath:
    kept = np.flatnonzero(~np.isnan(met.lam))
    points, row = tf.gather(met.x, kept).numpy(), kept // compiled.module.path_length(method)
    probabilities = _predict(compiled.classifier, points, batch_size)
    cf_class = probabilities.argmax(axis=1)
    probability = probabilities[np.arange(len(kept)), cf_class]
    return LambdaPath(row, points, met.lam.numpy()[kept], probability, cf_class, distances(points, x[row])[0])


def _instances(x: np.ndarray, method: Method) -> np.ndarray:
    """x as float32; raises InputError unless it is inside the feature range."""
    try:
        x = np.ascontiguousarray(x, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"x must be an array of numbers (n, *shape), got {type(x).__name__}") from None
    if x.ndim < 2:
        raise InputError(f"x must be a batch (n, *shape), got shape {x.shape}: for one instance give x[None]")
    low, high = (np.asarray(bound, np.float32) for bound in method.feature_range)
    for bound in (low, high):
        if bound.shape != x.shape[1:][x.ndim - 1 - bound.ndim :]:
            raise InputError(f"feature_range has shape {bound.shape}, instances {x.shape[1:]}: give a number or that")
    outside = ~np.all((x >= low) & (x <= high), axis=tuple(range(1, x.ndim)))
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(
            f"row {row} of x goes from {x[row].min():g} to {x[row].max():g}, outside feature_range: "
            "scale x, or give the range that it has"
        )
    return x


def _default_batch_size(x: np.ndarray, device: str) -> int:
    rows, numbers = _LIMITS[device]
    return int(2 ** np.floor(np.log2(np.clip(numbers / np.prod(x.shape[1:]), 1, rows))))


def _per_row(field: str, value: Any, n: int) -> np.ndarray:
    """A value of a method for each of n rows."""
    if isinstance(value, tuple) and len(value) != n:
        raise InputError(f"{field} has {len(value)} values for {n} rows of x: give one for all, or one each")
    return np.array(value if isinstance(value, tuple) else [value] * n)


def _target_classes(asked: np.ndarray, original_class: np.ndarray, classes: int) -> np.ndarray:
    """Which classes each row may end in, (n, classes) bool."""
    each = np.arange(classes)
    target = np.empty((len(asked), classes), bool)
    for text in np.unique(asked):
        rows = asked == text
        if text in ("other", "same"):
            target[rows] = (each == original_class[rows, None]) == (text == "same")
        elif int(text) < classes:
            target[rows] = each == int(text)
        else:
            raise InputError(f"target_class {text} does not exist: the model has the classes 0 to {classes - 1}")
    return target


def _is_met(probabilities: np.ndarray, target: np.ndarray, method: Method) -> np.ndarray:
    f = np.where(target, probabilities, 0).max(axis=1)
    return np.abs(f - np.float32(method.target_proba)) <= method.tol


def _predict(classifier: Classifier, x: np.ndarray, batch_size: int) -> np.ndarray:
    parts = [classifier.probabilities(x[at : at + batch_size]) for at in range(0, len(x), batch_size)]
    return np.concatenate([np.zeros((0, classifier.classes), np.float32), *parts])


def _rows(row: Row, which: np.ndarray) -> Row:
    return Row(*(tf.constant(values[which]) for values in row))
