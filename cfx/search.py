"""Find the counterfactuals of a batch of instances, the main function of `cfx`.

A method has one of two forms (`cfx.step_search`, `cfx.array_search`). The caller's model checks its results.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cfx import array_search, diversity, program, repair, rows, step_search
from cfx.classifier import Classifier
from cfx.constraints import Constraints
from cfx.guides import Guides
from cfx.method import Method, StepMethod
from cfx.outputs import Outputs
from cfx.problem import Problem
from cfx.region import Region
from cfx.result import Result, distances
from cfx.rows import Rows
from cfx.scaling import Search, in_units_of_cost, scaled_rows

# The maximum number of rows and of features per batch; larger batches are not faster.
_LIMITS = {"CPU": (256, 2**20), "GPU": (1024, 2**22)}


def find_counterfactuals(
    model: Any,
    x: np.ndarray,
    method: Method,
    *,
    instances: Sequence[int] | np.ndarray | None = None,
    train: tuple[np.ndarray, np.ndarray] | None = None,
    guides: Guides | None = None,
    constraints: Constraints | None = None,
    batch_size: int | None = None,
    path_rows: int = 0,
    outputs: Outputs = "auto",
    eps: float = 1e-3,
    jit_compile: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Search for counterfactuals of every row of x, `method.count` for each.

    If an instance already is a counterfactual, its row is returned unchanged and marked `unchanged`. If none is found,
    the instance is returned, and the row is not marked `found`. The same call on the same machine is deterministic. On
    a CPU, the result of a row does not depend on its batch if the rounding of the model's layers does not depend on the
    position in the batch (true for convolutions, dense layers and relu, but not always for exponentials).

    Args:
        model: a Keras classifier that returns probabilities or logits (n, classes), or one unit for two classes; or an
            object with two methods on float32 arrays, `probabilities(x)` -> (n, classes) and
            `logits_and_gradient(x, weights)` -> the logits (n, classes) and the gradient (n, *shape) of each row's
            weighted sum of logits, such as one of `cfx.frameworks`; or a function of such arrays with such results,
            whose gradients are computed numerically.
        x: (n, *shape), the instances, inside the method's feature range.
        method: `PrimalDual`, `Wachter`, `NearestNeighbour` or any other `Method`, with its hyperparameters.
        instances: (n,) indices of the instances, for the column `instance`; by default 0 to n - 1.
        train: the training split, (m, *shape) and (m,) classes, for methods that need it.
        guides: the guides of this training split, for methods that need them.
        constraints: the rules that every counterfactual follows.
        batch_size: the maximum number of rows per call of the model; by default it depends on their size.
        path_rows: the number of rows, from the first, whose path over lambda is kept, for step methods.
        outputs: the outputs of the model, "probabilities" or "logits", or "auto" to detect them.
        eps: half the step of the numerical gradient of a function, in units of x.
        jit_compile: whether XLA compiles the steps; by default on a GPU only, where it is faster.
        progress: called regularly with (rows done, n).

    Raises:
        InputError: an argument does not fit the model or x; an instance breaks a constraint; the model returns a number
            that is not finite, or has no gradient for a step method; an array method does not return finite numbers
            (n, *shape) in the feature range.
    """
    x = rows.instances_of(x, method)
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    most = _default_batch_size(x, device) if batch_size is None else batch_size
    asked = rows.asked(method, x, instances, most, path_rows, progress)
    split = rows.training_split(train, x.shape[1:])
    classifier = program.classifier(model, asked.probe, outputs, eps)
    used = rows.guides_of(guides, method, split[0], classifier.classes)
    asked, region = _with_region(asked, constraints)
    weights = constraints.weights(split[0], method.feature_range) if constraints else None
    is_xla = device == "GPU" and isinstance(model, keras.Model) if jit_compile is None else jit_compile
    search = _search_of(model, classifier, asked, used.models if used else (), (outputs, eps, is_xla, weights))
    return _found(asked, model, classifier, split, used, region, weights, search)


def _with_region(asked: Rows, constraints: Constraints | None) -> tuple[Rows, Region | None]:
    """The rows of all searches and what they may change; None for all features."""
    method = asked.method
    if constraints is None and method.count == 1:
        return asked, None
    region = (constraints or Constraints()).region(asked.x, method.feature_range)
    if method.count == 1:
        return asked, region
    times = diversity.searches(method.count)
    return asked.repeated(times), diversity.shares(region, times)


def _search_of(
    model: Callable[..., Any],
    classifier: Classifier,
    asked: Rows,
    guides: tuple[keras.Model, ...],
    of_program: tuple[Outputs, float, bool, np.ndarray | None],
) -> Search:
    """The search with the method of the rows; the program of a step method is built on its first use."""
    weights = of_program[-1]
    method = asked.method if weights is None else scaled_rows(asked, weights).method
    search: Search = array_search.search
    if isinstance(method, StepMethod):
        build = partial(program.program, model, classifier, asked.probe, method, guides, *of_program)
        search = partial(step_search.search, build)
    return search if weights is None else in_units_of_cost(search, weights)


def _found(
    asked: Rows,
    model: Any,
    classifier: Classifier,
    train: tuple[np.ndarray, np.ndarray],
    guides: Guides | None,
    region: Region | None,
    weights: np.ndarray | None,
    search: Search,
) -> Result:
    """Search for the rows that are not counterfactuals yet, and check the results with the model."""
    n, started = len(asked.x), time.perf_counter()
    before = classifier.batched_probabilities(asked.x, asked.batch_size)
    original_class = before.argmax(axis=1)
    target = asked.target(original_class, classifier.classes)
    unchanged = asked.is_met(before, target)
    wanted = np.flatnonzero(~unchanged)
    problem = _problem(asked, model, classifier, train, guides, region, original_class, target, wanted)
    outcome = search(asked, problem, wanted)
    if problem.region is not None and len(wanted):
        outcome = repair.allowed(outcome, asked, problem, wanted, weights, search)

    after = classifier.batched_probabilities(outcome.x, asked.batch_size)
    found = asked.is_met(after, target)
    chosen, count, factor = np.arange(n), asked.method.count, 1 if weights is None else weights
    if count > 1:
        chosen, is_chosen = diversity.choose(outcome.x * factor, asked.x * factor, found, count)
        found &= is_chosen
    after = np.where(found[:, None], after, before)
    x = np.where(found.reshape(-1, *[1] * (asked.x.ndim - 1)), outcome.x, asked.x)
    cf_class = after.argmax(axis=1)
    l1, l2, l0 = distances(x, asked.x)
    plausible = _plausible(guides, asked.method, x, cf_class, found)
    # The time outside the steps, such as that of the predictions before and after, is divided among all rows.
    rest = time.perf_counter() - started - outcome.untimed_s - outcome.runtime_s.sum()
    result = Result(
        method=asked.method.name,
        x=x,
        found=found,
        unchanged=unchanged,
        plausible=plausible,
        anchor=outcome.anchor,
        probability=after[np.arange(n), cf_class],
        cf_class=cf_class,
        original_class=original_class,
        target_class=asked.target_class,
        instance=asked.instance,
        place=np.ones(n, int),
        l1=l1,
        l2=l2,
        l0=l0,
        weighted_l1=l1 if weights is None else distances(x * weights, asked.x * weights)[0],
        lam=np.where(found, outcome.lam, np.float32(np.nan)),
        lam_init=asked.of("lam_init"),
        learning_rate=asked.of("learning_rate"),
        iterations=outcome.iterations,
        runtime_s=outcome.runtime_s + rest / max(n, 1),
        path=outcome.path,
    )
    return diversity.of_places(result, chosen, count) if count > 1 else result


def _problem(
    asked: Rows,
    model: Any,
    classifier: Classifier,
    train: tuple[np.ndarray, np.ndarray],
    guides: Guides | None,
    region: Region | None,
    original_class: np.ndarray,
    target: np.ndarray,
    wanted: np.ndarray,
) -> Problem:
    """The problem of the rows `wanted` (k,)."""
    n, method = len(asked.x), asked.method
    low, high = (np.asarray(bound, np.float32) for bound in method.feature_range)
    return Problem(
        x=asked.x[wanted],
        target=target[wanted],
        original_class=original_class[wanted],
        target_proba=method.target_proba,
        tol=method.tol,
        low=low,
        high=high,
        x_train=train[0],
        y_train=train[1],
        region=region and region.take(wanted),
        guides=guides,
        seed=getattr(method, "seed", 0),
        probabilities=lambda x: classifier.batched_probabilities(np.asarray(x, np.float32), asked.batch_size),
        logits_and_gradient=lambda x, weights: classifier.logits_and_gradient(
            np.asarray(x, np.float32), weights, asked.batch_size
        ),
        progress=lambda done, total: asked.progress(n - len(wanted) + done, n),
        model=model,
    )


def _plausible(
    guides: Guides | None, method: Method, x: np.ndarray, cf_class: np.ndarray, found: np.ndarray
) -> np.ndarray:
    """Whether the guides agree, as in `Result`."""
    agreed = np.full(len(x), np.nan)
    if guides is not None:
        agreed[found] = guides.accept(x[found], cf_class[found], method.guide_quantile)
    return agreed


def _default_batch_size(x: np.ndarray, device: str) -> int:
    most, numbers = _LIMITS[device]
    return int(2 ** np.floor(np.log2(np.clip(numbers / np.prod(x.shape[1:]), 1, most))))
