"""The compiled part of a search: the steps of a batch of rows in one graph, for any step method.

It combines the functions of a `cfx.method.StepMethod` with `cfx.evaluation` in three graphs, which are built once for a
model and a method and accept batches of any size.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf

from cfx import evaluation
from cfx.classifier import Classifier, in_bfloat16
from cfx.evaluation import Met
from cfx.method import StepMethod
from cfx.outputs import Outputs
from cfx.point import Best, Row, Starts
from cfx.scaling import ScaledClassifier

# The maximum number of steps between two returns to Python, which update the progress.
_STEPS = 50
# The minimum number of rows per call of the model. For fewer rows, matrix products use other kernels with different
# rounding; with the minimum, the result of a row does not depend on its batch.
_FEWEST = 16
# The fields of a method that are not scalar tensors in `settings`.
_NOT_SHARED = ("target_class", "count", "lam_init", "learning_rate", "feature_range", "precision")


class Batch(NamedTuple):
    """The current rows of a search."""

    row: Row
    state: Any
    best: Best


class Program(NamedTuple):
    """The graphs for a model, a shape of instances and a method, which all later searches share."""

    classifier: Classifier
    guides: tuple[keras.Model, ...]
    """The models, which must live as long as the graphs."""
    rough: keras.Model | None
    """The copy of the model for steps in a lower precision."""
    is_xla: bool
    """Whether XLA is used, which compiles each batch size separately."""
    begin: Callable[..., Batch]
    """(settings, row, x, known): start rows, with the counterfactuals x where `known` is true."""
    join: Callable[..., Batch]
    """(batch, keep, fresh): join the slots `keep` of a batch, fresh rows, and padding for the model."""
    run: Callable[..., tuple[Batch, Met]]
    """(settings, batch, met, path_rows, enough): run steps until at most `enough` rows are active, at most _STEPS."""


# The programs by model and other arguments, with the architecture of the model.
_programs: weakref.WeakKeyDictionary[Any, tuple[Any, dict[tuple[Any, ...], Any]]] = weakref.WeakKeyDictionary()
T = TypeVar("T")


def classifier(model: Callable[..., Any], probe: np.ndarray, outputs: Outputs, eps: float) -> Classifier:
    """The cached `Classifier` of a model; `probe` (n, *shape), n >= 1, are instances.

    Raises InputError if the model is not a classifier of such instances.
    """
    return _kept(model, ("classifier", probe.shape[1:], outputs, eps), lambda: Classifier(model, probe, outputs, eps))


def program(
    model: Callable[..., Any],
    classifier: Classifier,
    probe: np.ndarray,
    method: StepMethod,
    guides: tuple[keras.Model, ...],
    outputs: Outputs,
    eps: float,
    is_xla: bool,
    weights: np.ndarray | None,
    settings: dict[str, tf.Tensor],
    starts: Starts,
) -> Program:
    """The cached program of a model.

    probe: (n, *shape), n >= 1, instances. weights: (*shape), if the search is in units of the cost (`cfx.scaling`).
    """
    shapes = probe.shape[1:], starts.low.shape[1:]

    def build() -> Program:
        rough = in_bfloat16(model) if method.precision == "bfloat16" else None
        steps = classifier if rough is None else Classifier(rough, probe, classifier.outputs, eps)
        views = tuple(Classifier(guide, probe, "logits") for guide in guides)
        if weights is None:
            graphs = _Graphs(type(method), classifier, steps, views, is_xla)
        else:
            # the steps are the classifier itself if no rough copy takes them
            scaled = {one: ScaledClassifier(one, weights) for one in (classifier, steps, *views)}
            graphs = _Graphs(type(method), scaled[classifier], scaled[steps], [scaled[view] for view in views], is_xla)
        return _compile(graphs, settings, shapes, guides, rough)

    ranges = map(np.shape, method.feature_range)
    of_weights = None if weights is None else weights.tobytes()
    key = (type(method), method.precision, *shapes, *ranges, *map(id, guides), outputs, eps, is_xla, of_weights)
    built = _kept(model, key, build)
    if (rough := built.rough) is not None:
        rough.set_weights(model.get_weights())  # type: ignore[attr-defined]
    return built


def _kept(model: Callable[..., Any], key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """The cached object of a model and a key, created if it does not exist or the architecture has changed."""
    architecture = _architecture(model)
    known, kept = _programs.get(model, (None, {}))
    if known != architecture:
        kept = {}
        _programs[model] = architecture, kept
    if key not in kept:
        kept[key] = make()
    return kept[key]


def _architecture(layer: Any) -> list[tuple[weakref.ref[Any], str | None]]:
    """The layers of a Keras model and their configurations, without the weights."""
    if isinstance(layer, keras.Layer) and (layers := getattr(layer, "layers", None)):
        return [part for inner in layers for part in _architecture(inner)]
    try:
        # as text, because a configuration may contain arrays, which cannot be compared with ==
        config = repr(layer.get_config()) if isinstance(layer, keras.Layer) else None
    except NotImplementedError:
        # a custom layer without get_config
        config = None
    return [(weakref.ref(layer), config)]


def settings_of(method: StepMethod, thresholds: np.ndarray) -> dict[str, tf.Tensor]:
    """The scalar hyperparameters of a method as tensors, so that another value does not need another graph.

    thresholds: (classes, guides), the required margins of the guides.
    """
    shared = {field.name: getattr(method, field.name) for field in fields(method) if field.name not in _NOT_SHARED}
    settings = {
        name: tf.constant(value, tf.int32 if isinstance(value, int) else tf.float32) for name, value in shared.items()
    }
    low, high = (tf.constant(bound, tf.float32) for bound in method.feature_range)
    return settings | {"low": low, "high": high, "thresholds": tf.constant(thresholds, tf.float32)}


@dataclass(frozen=True)
class _Graphs:
    """The functions that are compiled to the graphs of a program."""

    method: type[StepMethod]
    classifier: Classifier
    steps: Classifier
    """The classifier, or its rough copy."""
    guides: Sequence[Classifier]
    is_xla: bool

    def begin(self, settings: dict[str, tf.Tensor], row: Row, x: tf.Tensor, known: tf.Tensor) -> Batch:
        return Batch(row, self.method.start(SimpleNamespace(**settings), row), evaluation.first_best(row, x, known))

    def join(self, batch: Batch, keep: tf.Tensor, fresh: Batch) -> Batch:
        return _filled(tf.nest.map_structure(lambda old, new: tf.concat([tf.gather(old, keep), new], 0), batch, fresh))

    def run(
        self, settings: dict[str, tf.Tensor], batch: Batch, met: Met, path_rows: tf.Tensor, enough: tf.Tensor
    ) -> tuple[Batch, Met]:
        numbers, row = SimpleNamespace(**settings), batch.row
        places = self.method.path_length(numbers)

        def is_worthwhile(step: tf.Tensor, state: Any, best: Best, met: Met) -> tf.Tensor:
            return (step < _STEPS) & (tf.math.count_nonzero(~state.done, dtype=tf.int32) > enough)

        def one_step(step: tf.Tensor, state: Any, best: Best, met: Met) -> tuple[Any, ...]:
            point = evaluation.evaluated(self.steps, self.guides, self.method, numbers, row, state)
            if self.steps is not self.classifier:
                point = evaluation.confirmed(point, self.classifier, numbers, row, state.done, best, self.is_xla)
            best = evaluation.better(best, state, point)
            met = evaluation.followed(met, row, state, point, path_rows, places)
            return step + 1, self.method.step(numbers, row, state, point, best), best, met

        _, state, best, met = tf.while_loop(is_worthwhile, one_step, (0, batch.state, batch.best, met))
        return Batch(row, state, best), met


def _compile(
    graphs: _Graphs,
    settings: dict[str, tf.Tensor],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    guides: tuple[keras.Model, ...],
    rough: keras.Model | None,
) -> Program:
    """Trace the graphs for batches of any size; shapes: those of an instance and of its bounds."""
    shape, shape_of_bounds = shapes
    none = Row(
        index=tf.zeros([0], tf.int32),
        x=tf.zeros([0, *shape]),
        target=tf.zeros([0, graphs.classifier.classes], tf.bool),
        low=tf.zeros([0, *shape_of_bounds]),
        high=tf.zeros([0, *shape_of_bounds]),
        lam_init=tf.zeros([0]),
        learning_rate=tf.zeros([0]),
    )
    settings_spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, settings)
    # Concrete functions, because TensorFlow warns if the functions of several models are traced repeatedly.
    nowhere = none.x, tf.zeros([0], tf.bool)
    begin_spec = [settings_spec, *tf.nest.map_structure(_spec, (none, *nowhere))]
    begin = tf.function(graphs.begin, begin_spec, autograph=False).get_concrete_function()
    batch, met = begin(settings, none, *nowhere), evaluation.no_path(0, 0, shape)
    batch_spec, met_spec = tf.nest.map_structure(_spec, (batch, met))
    keep_spec, number_spec = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int32)
    join = tf.function(graphs.join, [batch_spec, keep_spec, batch_spec], autograph=False).get_concrete_function()
    run_spec = [settings_spec, batch_spec, met_spec, number_spec, number_spec]
    run = tf.function(graphs.run, run_spec, autograph=False, jit_compile=graphs.is_xla).get_concrete_function()
    # Calls without rows build the graphs, so that this time is not attributed to any row.
    run(settings, join(batch, tf.zeros([0], tf.int64), batch), met, 0, 0)
    return Program(graphs.classifier, guides, rough, graphs.is_xla, begin, join, run)


def _spec(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]] if value.shape.rank else [], value.dtype)


def _filled(batch: Batch) -> Batch:
    """Pad the batch to the minimum number of rows with finished copies of its first row."""
    count = tf.shape(batch.row.index)[0]
    missing = tf.where(count > 0, tf.maximum(_FEWEST - count, 0), 0)
    filled = tf.nest.map_structure(lambda rows: tf.concat([rows, tf.repeat(rows[:1], missing, axis=0)], 0), batch)
    done = tf.concat([batch.state.done, tf.fill([missing], True)], 0)
    return filled._replace(state=filled.state._replace(done=done))
