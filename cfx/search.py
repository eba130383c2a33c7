"""The engine: many rows at once, each with its own target, weights, step counter and end.

A method (`cfx.wachter`, `cfx.primal_dual`) is a module of pure functions on tensors with a leading row dimension:

    start(settings, row) -> state               the state of rows that have not taken a step
    loss(settings, row, state, logits) -> (n,)  what the gradient at state["x"] is to be taken of
    step(settings, row, state, point) -> state  the next state, from what is known at state["x"]
    path_length(...)                            how many points `Result.path` may hold for a row

`settings` has the method's numbers as scalar tensors under their own names (`settings.max_iter` int32, `settings.tol`
float32), and `low`, `high` for the feature range; `row` and `point` are `cfx.point.Row` and `Point`. `state` is a dict
of tensors (n, ...) with at least

    x        (n, *shape) float32, where the row stands: always inside the feature range; `start` puts the instance there
    lam      (n,) float32, the weight of the L1 distance there
    lam_step (n,) int32, which place in the path a counterfactual met there takes: the first one met in it stays
    done     (n,) bool, the row has ended; its other entries no longer matter, and need no mask

What is common to all methods is here: the forward and the gradient pass (one each a step), whether x is a
counterfactual, the one of least L1 so far, the steps and the time a row took, the path, and which rows are in the
batch. Steps run in one `tf.while_loop`, without a word to the host until enough rows have ended; then the ended rows
leave, and waiting rows take their places.
"""

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import fields
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cfx import wachter
from cfx.classifier import Classifier, Outputs
from cfx.errors import InputError
from cfx.methods import Method
from cfx.point import Point, Row, along, target_probability
from cfx.result import LambdaPath, Result, distances

_MODULES: dict[str, ModuleType] = {"wachter": wachter}

# The most steps without a word to the host: often enough for a progress bar, seldom enough to cost nothing.
_STEPS = 50
# In the search a point is met within this share of tol, since the caller's model may round otherwise in another batch.
_SURE = 0.999
# The most rows in a step on a CPU, where larger batches gain nothing, and the most numbers in their instances.
_ROWS, _NUMBERS = 256, 2**20


class Best(NamedTuple):
    """What has come of rows so far."""

    x: tf.Tensor
    """(n, *shape) the counterfactual of least L1."""
    l1: tf.Tensor
    """(n,) its distance; infinite where none was met."""
    lam: tf.Tensor
    """(n,) the weight at which it was met."""
    steps: tf.Tensor
    """(n,) int32, the steps taken."""
    finite: tf.Tensor
    """(n,) bool, all that the model gave was a number."""


class Batch(NamedTuple):
    """The rows that are being searched."""

    row: Row
    state: dict[str, tf.Tensor]
    best: Best


class Met(NamedTuple):
    """The path of the first rows, by row and place; one more slot takes what is not to be kept."""

    x: tf.Tensor
    """(rows * places + 1, *shape)."""
    lam: tf.Tensor
    """(rows * places + 1,), NaN where none was met."""


class Program(NamedTuple):
    """What is built once a model, shape of instance and method, and shared by all later searches."""

    classifier: Classifier
    begin: Callable[..., Batch]
    """(settings, row): rows that have not taken a step."""
    join: Callable[..., Batch]
    """(batch, keep, fresh): the slots `keep` of a batch, then fresh rows."""
    run: Callable[..., tuple[Batch, Met]]
    """(settings, batch, met, path_rows, places, enough): steps until at most `enough` rows go on, or 50 are taken."""


_programs: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], Program]] = weakref.WeakKeyDictionary()


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
    none is met comes back unchanged too, and is not `found`. The same call on the same machine gives the same bits.

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
    batch_size = _default_batch_size(x) if batch_size is None else batch_size
    if batch_size < 1:
        raise InputError(f"batch_size must be >= 1, got {batch_size}: give the most rows in one step")
    asked = _per_row("target_class", method.target_class, n).astype(str)
    lam_init = _per_row("lam_init", method.lam_init, n).astype(np.float32)
    learning_rate = _per_row("learning_rate", method.learning_rate, n).astype(np.float32)
    probe = x[:batch_size] if n else np.zeros((1, *x.shape[1:]), np.float32) + method.feature_range[0]
    program = _program(model, probe, method, outputs, eps, jit_compile)

    started = time.perf_counter()
    before = _predict(program.classifier, x, batch_size)
    original_class = before.argmax(axis=1)
    target = _target_classes(asked, original_class, program.classifier.classes)
    row = Row(np.arange(n, dtype=np.int32), x, target, lam_init, learning_rate)
    wanted = np.flatnonzero(~_is_met(before, target, method))
    best, met, runtime_s = _search(program, method, row, wanted, batch_size, min(path_rows, n), progress)

    after = _predict(program.classifier, best.x, batch_size)
    cf_class = after.argmax(axis=1)
    l1, l2, l0 = distances(best.x, x)
    path = _path(program.classifier, met, x, _MODULES[method.name].path_length(method), batch_size)
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
    program: Program,
    method: Method,
    row: Row,
    waiting: np.ndarray,
    batch_size: int,
    path_rows: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Best, Met, np.ndarray]:
    """Pass the waiting rows through batches; what has come of every row, the path, and each row's time."""
    n, places = len(row.x), _MODULES[method.name].path_length(method)
    none = np.full(n, np.nan, np.float32)
    best = Best(row.x.copy(), none, none.copy(), np.zeros(n, np.int32), np.ones(n, bool))
    met = Met(tf.zeros([path_rows * places + 1, *row.x.shape[1:]]), tf.fill([path_rows * places + 1], np.nan))
    runtime_s = np.zeros(n)
    settings = _settings(method)
    slots, going = waiting[:0], np.zeros(0, bool)
    batch = program.begin(settings, _rows(row, slots))
    while going.any() or len(waiting):
        began = time.perf_counter()
        keep = np.flatnonzero(going)
        fresh, waiting = np.split(waiting, [batch_size - len(keep)])
        batch = program.join(batch, keep, program.begin(settings, _rows(row, fresh)))
        slots = np.concatenate([slots[keep], fresh])
        going = np.ones(len(slots), bool)
        enough = len(slots) - max(1, len(slots) // 8)
        while going.sum() > enough:
            before = batch.best.steps.numpy()
            batch, met = program.run(settings, batch, met, path_rows, places, enough)
            going = ~batch.state["done"].numpy()
            steps = batch.best.steps.numpy() - before
            began, took = time.perf_counter(), time.perf_counter() - began
            runtime_s[slots] += took * steps / steps.sum()
            if not np.all(batch.best.finite):
                which = slots[np.argmin(batch.best.finite)]
                raise InputError(f"the model gives a number that is not finite on the way from row {which} of x")
            if progress:
                progress(n - len(waiting) - int(going.sum()), n)
        ended = np.flatnonzero(~going)
        for values, ending in zip(best, batch.best, strict=True):
            values[slots[ended]] = tf.gather(ending, ended)
    return best, met, runtime_s


def _program(
    model: Callable[..., Any],
    probe: np.ndarray,
    method: Method,
    outputs: Outputs,
    eps: float,
    jit_compile: bool | None,
) -> Program:
    """The compiled search for a model, made at its first use."""
    key = (method.name, probe.shape[1:], *map(np.shape, method.feature_range), outputs, eps, jit_compile)
    programs = _programs.setdefault(model, {})
    if key not in programs:
        classifier = Classifier(model, probe, outputs, eps)
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        programs[key] = _compile(classifier, method, probe.shape[1:], on_gpu if jit_compile is None else jit_compile)
    return programs[key]


def _compile(classifier: Classifier, method: Method, shape: tuple[int, ...], jit_compile: bool) -> Program:
    """Trace a method for a classifier, once for batches of any size."""
    module = _MODULES[method.name]

    def begin(settings: dict[str, tf.Tensor], row: Row) -> Batch:
        count = tf.shape(row.x)[:1]
        infinite = tf.fill(count, np.inf)
        best = Best(row.x, infinite, infinite, tf.zeros(count, tf.int32), tf.fill(count, True))
        return Batch(row, module.start(SimpleNamespace(**settings), row), best)

    def join(batch: Batch, keep: tf.Tensor, fresh: Batch) -> Batch:
        return tf.nest.map_structure(lambda old, new: tf.concat([tf.gather(old, keep), new], 0), batch, fresh)

    def run(
        settings: dict[str, tf.Tensor],
        batch: Batch,
        met: Met,
        path_rows: tf.Tensor,
        places: tf.Tensor,
        enough: tf.Tensor,
    ) -> tuple[Batch, Met]:
        numbers, row = SimpleNamespace(**settings), batch.row

        def is_worthwhile(step: tf.Tensor, state: dict[str, tf.Tensor], best: Best, met: Met) -> tf.Tensor:
            return (step < _STEPS) & (tf.math.count_nonzero(~state["done"], dtype=tf.int32) > enough)

        def one_step(step: tf.Tensor, state: dict[str, tf.Tensor], best: Best, met: Met) -> tuple[Any, ...]:
            point = _point(classifier, module, numbers, row, state)
            best, met = _better(best, state, point), _kept(met, row, state, point, path_rows, places)
            return step + 1, module.step(numbers, row, state, point), best, met

        _, state, best, met = tf.while_loop(is_worthwhile, one_step, (0, batch.state, batch.best, met))
        return Batch(row, state, best), met

    settings_spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, _settings(method))
    row_spec = Row(
        index=tf.TensorSpec([None], tf.int32),
        x=tf.TensorSpec([None, *shape], tf.float32),
        target=tf.TensorSpec([None, classifier.classes], tf.bool),
        lam_init=tf.TensorSpec([None], tf.float32),
        learning_rate=tf.TensorSpec([None], tf.float32),
    )
    begin = tf.function(begin, input_signature=[settings_spec, row_spec])
    batch_spec = tf.nest.map_structure(
        lambda value: tf.TensorSpec(value.shape, value.dtype), begin.get_concrete_function().structured_outputs
    )
    met_spec = Met(tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([None], tf.float32))
    number = tf.TensorSpec([], tf.int32)
    join = tf.function(join, input_signature=[batch_spec, tf.TensorSpec([None], tf.int64), batch_spec])
    run_spec = [settings_spec, batch_spec, met_spec, number, number, number]
    run = tf.function(run, input_signature=run_spec, jit_compile=jit_compile)
    run.get_concrete_function()
    return Program(classifier, begin, join, run)


def _point(
    classifier: Classifier, module: ModuleType, settings: SimpleNamespace, row: Row, state: dict[str, tf.Tensor]
) -> Point:
    x = state["x"]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logits = classifier.logits(x)
        loss = module.loss(settings, row, state, logits)
    gradient = tape.gradient(loss, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    probability = target_probability(logits, row.target)
    change = x - row.x
    l1 = tf.reduce_sum(tf.abs(change), axis=list(range(1, len(x.shape))))
    hit = tf.abs(probability - settings.target_proba) <= _SURE * settings.tol
    return Point(x, change, logits, gradient, probability, l1, hit)


def _better(best: Best, state: dict[str, tf.Tensor], point: Point) -> Best:
    """The best of rows, with this point where it is the nearest counterfactual yet."""
    going = ~state["done"]
    nearer = going & point.hit & (point.l1 < best.l1)
    return Best(
        tf.cond(tf.reduce_any(nearer), lambda: tf.where(along(nearer, point.x), point.x, best.x), lambda: best.x),
        tf.where(nearer, point.l1, best.l1),
        tf.where(nearer, state["lam"], best.lam),
        best.steps + tf.cast(going, tf.int32),
        best.finite & (~going | tf.math.is_finite(point.probability + point.l1)),
    )


def _kept(
    met: Met, row: Row, state: dict[str, tf.Tensor], point: Point, path_rows: tf.Tensor, places: tf.Tensor
) -> Met:
    """The path, with this point where it is the first counterfactual of its row at its place."""
    is_followed = point.hit & ~state["done"] & (row.index < path_rows)

    def keep() -> Met:
        last = path_rows * places
        slot = tf.where(is_followed, row.index * places + state["lam_step"], last)
        slot = tf.where(tf.math.is_nan(tf.gather(met.lam, slot)), slot, last)
        lam = tf.where(slot < last, state["lam"], np.nan)
        return Met(
            tf.tensor_scatter_nd_update(met.x, slot[:, None], point.x),
            tf.tensor_scatter_nd_update(met.lam, slot[:, None], lam),
        )

    return tf.cond(tf.reduce_any(is_followed), keep, lambda: met)


def _path(classifier: Classifier, met: Met, x: np.ndarray, places: int, batch_size: int) -> LambdaPath:
    kept = np.flatnonzero(~np.isnan(met.lam))
    points, row = tf.gather(met.x, kept).numpy(), kept // places
    probabilities = _predict(classifier, points, batch_size)
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


def _default_batch_size(x: np.ndarray) -> int:
    numbers = int(np.prod(x.shape[1:]))
    return int(2 ** np.floor(np.log2(np.clip(_NUMBERS / max(numbers, 1), 1, _ROWS))))


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


def _settings(method: Method) -> dict[str, tf.Tensor]:
    """The numbers of a method that all rows share, as tensors: another value needs no trace of its own."""
    numbers = {field.name: getattr(method, field.name) for field in fields(method)}
    settings = {
        name: tf.constant(value, tf.int32 if isinstance(value, int) else tf.float32)
        for name, value in numbers.items()
        if name not in ("target_class", "lam_init", "learning_rate", "feature_range")
    }
    low, high = (tf.constant(bound, tf.float32) for bound in method.feature_range)
    return settings | {"low": low, "high": high}
