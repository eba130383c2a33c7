"""The compiled part of a search: steps of many rows at once, in one graph, for any method.

A method (`cfx.wachter`, `cfx.primal_dual`) is a module of pure functions on tensors with a leading row dimension:

    start(settings, row) -> state                     the state of rows that have not taken a step
    loss(settings, row, state, logits) -> (n,)        what the gradient at state["x"] is to be taken of
    step(settings, row, state, point, best) -> state  the next state, from what is known at state["x"] and so far
    path_length(settings)                             how many points of a row `Result.path` may hold

`settings` has the method's numbers as scalar tensors under their own names (`settings.max_iter` int32, `settings.tol`
float32), and `low` and `high` for the feature range; `path_length` is called with the method itself too. `row`,
`point` and `best` are those of `cfx.point`. `state` is a dict of tensors (n, ...) with at least

    x        (n, *shape) float32, where the row stands: always inside the feature range; `start` puts the instance there
    lam      (n,) float32, the weight of the L1 distance there
    lam_step (n,) int32, the place in the path of a counterfactual met there: the first one met for a place stays;
             below 0 none is kept
    done     (n,) bool, the row has ended: what else it holds no longer matters, and needs no mask

What all methods have in common is here: the forward and the gradient pass (one each a step), whether x is a
counterfactual, the one of least L1 so far, the steps taken, the path, and that the model gives numbers.
"""

import weakref
from collections.abc import Callable
from dataclasses import fields
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cfx import primal_dual, wachter
from cfx.classifier import Classifier, Outputs, in_bfloat16
from cfx.methods import Method
from cfx.point import Best, Point, Row, along, target_probability

_MODULES: dict[str, ModuleType] = {"primal_dual": primal_dual, "wachter": wachter}

# The most steps without a word to the host: often enough for a progress bar, seldom enough to cost nothing.
_STEPS = 50
# A model is given at least so many rows: for fewer, matrix products take other kernels, which round otherwise. So a row
# has the same bits in every batch that it may be in, and a search that makes much of little ends the same way.
_FEWEST = 16
# In the search a point is met within this share of tol, since the caller's model may round otherwise in another batch.
_SURE = 0.999
# Rough logits that are within so many times tol may be exact ones within tol.
_ROUGH = 3


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
    """What is built once for a model, a shape of instances and a method, and shared by all later searches."""

    classifier: Classifier
    rough: keras.Model | None
    """The copy of the model that the steps are computed with where that is not in float32."""
    module: ModuleType
    is_xla: bool
    """Each size of batch is compiled anew."""
    begin: Callable[..., Batch]
    """(settings, row): rows that have not taken a step."""
    join: Callable[..., Batch]
    """(batch, keep, fresh): the slots `keep` of a batch, then fresh rows, then what fills it up for the model."""
    run: Callable[..., tuple[Batch, Met]]
    """(settings, batch, met, path_rows, enough): steps until at most `enough` rows go on, or _STEPS are taken."""


# By model, and by what else they are built for; and the architecture that the model had.
_programs: weakref.WeakKeyDictionary[Any, tuple[Any, dict[tuple[Any, ...], Program]]] = weakref.WeakKeyDictionary()


def program(
    model: Callable[..., Any], probe: np.ndarray, method: Method, outputs: Outputs, eps: float, jit_compile: bool
) -> Program:
    """The compiled search for a model, made at its first use; `probe` (n, *shape), n >= 1, are some instances.

    Raises InputError where the model is no classifier of such instances (see `Classifier`).
    """
    shapes = probe.shape[1:], *map(np.shape, method.feature_range)
    key = (method.name, method.precision, *shapes, outputs, eps, jit_compile)
    architecture = _architecture(model)
    known, programs = _programs.get(model, (None, {}))
    if known != architecture:
        programs = {}
        _programs[model] = architecture, programs
    if key not in programs:
        classifier = Classifier(model, probe, outputs, eps)
        rough = in_bfloat16(model) if method.precision == "bfloat16" else None
        steps = classifier if rough is None else Classifier(rough, probe, classifier.outputs, eps)
        programs[key] = _compile(classifier, steps, rough, method, probe.shape[1:], jit_compile)
    if (rough := programs[key].rough) is not None:
        rough.set_weights(model.get_weights())  # type: ignore[attr-defined]
    return programs[key]


def _architecture(layer: Any) -> list[tuple[weakref.ref[Any], str | None]]:
    """What of a Keras model a graph keeps as it was: its layers and what they are made with, but not their weights."""
    if layers := getattr(layer, "layers", None):
        return [part for inner in layers for part in _architecture(inner)]
    try:
        # as text, for a configuration may hold arrays, which cannot be compared as a whole
        config = repr(layer.get_config()) if isinstance(layer, keras.Layer) else None
    except NotImplementedError:
        # a layer of the user's own that says nothing of itself
        config = None
    return [(weakref.ref(layer), config)]


def settings_of(method: Method) -> dict[str, tf.Tensor]:
    """The numbers of a method that all rows share, as tensors: another value needs no graph of its own."""
    numbers = {field.name: getattr(method, field.name) for field in fields(method)}
    settings = {
        name: tf.constant(value, tf.int32 if isinstance(value, int) else tf.float32)
        for name, value in numbers.items()
        if name not in ("target_class", "lam_init", "learning_rate", "feature_range", "precision")
    }
    low, high = (tf.constant(bound, tf.float32) for bound in method.feature_range)
    return settings | {"low": low, "high": high}


def no_path(path_rows: int, places: int, shape: tuple[int, ...]) -> Met:
    """The path of rows that have met nothing yet."""
    slots = path_rows * places + 1
    return Met(tf.zeros([slots, *shape]), tf.fill([slots], np.float32(np.nan)))


def _compile(
    classifier: Classifier,
    steps: Classifier,
    rough: keras.Model | None,
    method: Method,
    shape: tuple[int, ...],
    jit_compile: bool,
) -> Program:
    """Trace a method for a classifier, once for batches of any size; `steps` is the same, or the rough copy of it."""
    module = _MODULES[method.name]

    def begin(settings: dict[str, tf.Tensor], row: Row) -> Batch:
        count = tf.shape(row.x)[:1]
        best = Best(
            row.x,
            tf.fill(count, np.float32(np.inf)),
            tf.fill(count, np.float32(np.nan)),
            tf.zeros(count, tf.int32),
            tf.fill(count, True),
        )
        return Batch(row, module.start(SimpleNamespace(**settings), row), best)

    def join(batch: Batch, keep: tf.Tensor, fresh: Batch) -> Batch:
        return _filled(tf.nest.map_structure(lambda old, new: tf.concat([tf.gather(old, keep), new], 0), batch, fresh))

    def run(
        settings: dict[str, tf.Tensor], batch: Batch, met: Met, path_rows: tf.Tensor, enough: tf.Tensor
    ) -> tuple[Batch, Met]:
        numbers, row = SimpleNamespace(**settings), batch.row
        places = module.path_length(numbers)

        def is_worthwhile(step: tf.Tensor, state: dict[str, tf.Tensor], best: Best, met: Met) -> tf.Tensor:
            return (step < _STEPS) & (tf.math.count_nonzero(~state["done"], dtype=tf.int32) > enough)

        def one_step(step: tf.Tensor, state: dict[str, tf.Tensor], best: Best, met: Met) -> tuple[Any, ...]:
            point = _point(steps, module, numbers, row, state)
            if rough is not None:
                point = _checked(point, classifier, numbers, row, state, best, jit_compile)
            best, met = _better(best, state, point), _kept(met, row, state, point, path_rows, places)
            return step + 1, module.step(numbers, row, state, point, best), best, met

        _, state, best, met = tf.while_loop(is_worthwhile, one_step, (0, batch.state, batch.best, met))
        return Batch(row, state, best), met

    def spec(value: tf.Tensor) -> tf.TensorSpec:
        return tf.TensorSpec([None, *value.shape[1:]] if value.shape.rank else [], value.dtype)

    settings = settings_of(method)
    settings_spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, settings)
    none = Row(
        index=tf.zeros([0], tf.int32),
        x=tf.zeros([0, *shape]),
        target=tf.zeros([0, classifier.classes], tf.bool),
        lam_init=tf.zeros([0]),
        learning_rate=tf.zeros([0]),
    )
    # As concrete functions, of which TensorFlow does not count those of several models as one that is traced too often.
    begin_spec = [settings_spec, tf.nest.map_structure(spec, none)]
    begin_graph = tf.function(begin, begin_spec, autograph=False).get_concrete_function()
    batch, met = begin_graph(settings, none), no_path(0, 0, shape)
    batch_spec, met_spec = tf.nest.map_structure(spec, (batch, met))
    keep_spec, number_spec = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int32)
    join_graph = tf.function(join, [batch_spec, keep_spec, batch_spec], autograph=False).get_concrete_function()
    run_spec = [settings_spec, batch_spec, met_spec, number_spec, number_spec]
    run_graph = tf.function(run, run_spec, autograph=False, jit_compile=jit_compile).get_concrete_function()
    # A run without rows takes no step: what is left is to build the graph, which then counts in nobody's time.
    run_graph(settings, join_graph(batch, tf.zeros([0], tf.int64), batch), met, 0, 0)
    return Program(classifier, rough, module, jit_compile, begin_graph, join_graph, run_graph)


def _filled(batch: Batch) -> Batch:
    """The batch, and after it its first row as many times, ended, as it takes to give the model enough rows."""
    count = tf.shape(batch.row.index)[0]
    missing = tf.where(count > 0, tf.maximum(_FEWEST - count, 0), 0)
    filled = tf.nest.map_structure(lambda rows: tf.concat([rows, tf.repeat(rows[:1], missing, axis=0)], 0), batch)
    filled.state["done"] = tf.concat([batch.state["done"], tf.fill([missing], True)], 0)
    return filled


def _point(
    classifier: Classifier, module: ModuleType, settings: SimpleNamespace, row: Row, state: dict[str, tf.Tensor]
) -> Point:
    x = state["x"]

    # A function of its own: in the loop TensorFlow orders the operations as it happens, and where the gradient of a
    # pooling layer comes before the layer oneDNN does not take it: the whole step then takes two thirds longer.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def passes(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = classifier.logits(x)
            loss = module.loss(settings, row, state, logits)
        return logits, tape.gradient(loss, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    logits, gradient = passes(x)
    change = x - row.x
    l1 = tf.reduce_sum(tf.abs(change), axis=list(range(1, len(x.shape))))
    return Point(x, change, logits, gradient, *_judged(settings, row, logits), l1)


def _judged(settings: SimpleNamespace, row: Row, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """f_t, and whether it is near enough to what is asked for."""
    probability = tf.cast(target_probability(logits, row.target), tf.float32)
    return probability, tf.abs(probability - settings.target_proba) <= _SURE * settings.tol


def _checked(
    point: Point,
    classifier: Classifier,
    settings: SimpleNamespace,
    row: Row,
    state: dict[str, tf.Tensor],
    best: Best,
    is_xla: bool,
) -> Point:
    """A point from rough logits, with exact ones for the rows that may be nearer counterfactuals than any so far."""
    is_near = tf.abs(point.probability - settings.target_proba) <= _ROUGH * settings.tol
    doubtful = ~state["done"] & is_near & (point.l1 < best.l1)

    def exact() -> tf.Tensor:
        # XLA compiles for one number of rows, so it gets all of them
        if is_xla:
            return tf.where(doubtful[:, None], classifier.logits(point.x), point.logits)
        rows = tf.where(doubtful)
        logits = classifier.logits(tf.gather(point.x, rows[:, 0]))
        return tf.tensor_scatter_nd_update(point.logits, rows, logits)

    logits = tf.cond(tf.reduce_any(doubtful), exact, lambda: point.logits)
    probability, hit = _judged(settings, row, logits)
    return point._replace(logits=logits, probability=probability, hit=hit)


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
    is_followed = point.hit & ~state["done"] & (state["lam_step"] >= 0) & (row.index < path_rows)

    def keep() -> Met:
        last = path_rows * places
        slot = tf.where(is_followed, row.index * places + state["lam_step"], last)
        slot = tf.where(tf.math.is_nan(tf.gather(met.lam, slot)), slot, last)
        lam = tf.where(slot < last, state["lam"], np.float32(np.nan))
        return Met(
            tf.tensor_scatter_nd_update(met.x, slot[:, None], point.x),
            tf.tensor_scatter_nd_update(met.lam, slot[:, None], lam),
        )

    return tf.cond(tf.reduce_any(is_followed), keep, lambda: met)
