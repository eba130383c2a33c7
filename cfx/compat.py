"""The interface of alibi's `Counterfactual`, so that a program written for alibi runs with one changed line.

`from cfx.compat import Counterfactual` takes the place of `from alibi.explainers import Counterfactual`. Arguments and
results are those of alibi's public documentation; the search is `cfx.Wachter`, on TensorFlow 2 and for any number of
instances at once.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from cfx import InputError, Result, Wachter, __version__, find_counterfactuals
from cfx.classifier import Classifier

# alibi needs graphs of TensorFlow 1, so programs written for it switch TensorFlow 2 off before they import it.
if not tf.executing_eagerly():
    tf.compat.v1.enable_v2_behavior()

# The maximum number of rows per call of the model outside the search.
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Explanation:
    """The counterfactual of one instance. A counterfactual is a dictionary with these keys:

    - `X`: (1, *shape) float32.
    - `class`: int, the class that the model predicts.
    - `proba`: (1, classes), the probabilities.
    - `distance`: float, the L1 distance from the instance.
    - `lambda`: float, the weight of the distance at which it was found; NaN if the instance already was one.
    - `index`: int, the position of this weight in the search, from 0; -1 if the instance already was one.
    - `loss`: float, (f_t - target_proba)^2 + lambda L1.
    """

    meta: dict[str, Any]
    """`name`, `type`, `explanations`, `version` (of cfx), and `params`, the arguments of the explainer."""
    cf: dict[str, Any] | None
    """The nearest counterfactual; None if none was found."""
    all: dict[int, list[dict[str, Any]]]
    """For each step of the bisection of lambda, 0 to max_lam_steps - 1, its first counterfactual in a list, or none."""
    orig_class: int
    """The class that the model predicts for the instance."""
    orig_proba: float
    """The probability of this class."""
    success: bool
    """Whether a counterfactual was found."""

    @property
    def data(self) -> dict[str, Any]:
        """All fields except `meta`."""
        return {name: value for name, value in vars(self).items() if name != "meta"}

    def __getitem__(self, name: str) -> Any:
        """A field of `data`, as in `explanation["cf"]`."""
        return self.data[name]


class Counterfactual:
    """Find counterfactuals with the arguments of alibi's explainer of the same name, by `cfx.Wachter`.

    Args:
        predict_fn: a Keras classifier, or a function from an array (n, *shape) to probabilities (n, classes).
        shape: (1, *shape) of an instance; the first number does not limit the rows of `explain`.
        distance_fn: "l1".
        target_proba: the required probability of the target class, in (0, 1].
        target_class: "other", "same" or a class.
        max_iter: the maximum number of steps for each lambda.
        early_stop: the number of consecutive steps after which a lambda ends if all or none are counterfactuals.
        lam_init: the first weight of the distance, lambda, above 0.
        max_lam_steps: the number of bisections of lambda.
        tol: the tolerance of the probability, in (0, 1).
        learning_rate_init: the initial learning rate, above 0, in units of the input; it decreases linearly to 0.
        feature_range: the minimum and maximum, as numbers or as arrays that broadcast to (1, *shape).
        eps: half the step of the numerical gradient of a function, in units of the input, one for all features.
        init: "identity", the search starts at the instance.
        decay: True.
        write_dir: has no effect, because there are no TensorBoard logs.
        debug: has no effect, for the same reason.
        sess: has no effect, because there are no sessions.

    Raises:
        InputError: an argument is out of range, or has a value that would change the result but is not supported.

    Example:
        explainer = Counterfactual(model, shape=(1, 28, 28, 1), target_class=3, feature_range=(-0.5, 0.5))
        explanation = explainer.explain(x_test[:1])
        explanation.cf["X"], explanation.cf["class"], explanation.cf["distance"]

    Source: the documentation of alibi 0.9, methods/CF and api/alibi.explainers.counterfactual.
    """

    def __init__(
        self,
        predict_fn: Callable[..., Any],
        shape: tuple[int, ...],
        distance_fn: str = "l1",
        target_proba: float = 1.0,
        target_class: str | int = "other",
        max_iter: int = 1000,
        early_stop: int = 50,
        lam_init: float = 0.1,
        max_lam_steps: int = 10,
        tol: float = 0.05,
        learning_rate_init: float = 0.1,
        feature_range: tuple[Any, Any] = (-1e10, 1e10),
        eps: float | np.ndarray = 0.01,
        init: str = "identity",
        decay: bool = True,
        write_dir: str | None = None,
        debug: bool = False,
        sess: Any = None,
    ) -> None:
        """Check the arguments; the search begins with `explain`."""
        params = {name: value for name, value in locals().items() if name not in ("self", "predict_fn", "sess")}
        for name, supported in (("distance_fn", "l1"), ("init", "identity"), ("decay", True)):
            if params[name] != supported:
                raise InputError(f"{name}={params[name]!r} is not supported: use {supported!r}")
        if not tf.executing_eagerly():
            raise InputError("TensorFlow 2 is switched off: remove tf.compat.v1.disable_v2_behavior()")
        if unused := [name for name, value in (("write_dir", write_dir), ("debug", debug), ("sess", sess)) if value]:
            warnings.warn(f"{', '.join(unused)}: no effect, there are no logs and no sessions", stacklevel=2)
        self.meta = {
            "name": "Counterfactual",
            "type": ["blackbox", "tensorflow", "keras"],
            "explanations": ["local"],
            "params": params,
            "version": __version__,
        }
        self._predict_fn, self._shape, self._eps = predict_fn, tuple(shape[1:]), _one_step(eps)
        self._method = Wachter(
            target_class=target_class,
            target_proba=target_proba,
            tol=tol,
            feature_range=_bounds(feature_range, self._shape),
            max_iter=max_iter,
            lam_init=lam_init,
            max_lam_steps=max_lam_steps,
            learning_rate=learning_rate_init,
            early_stop=early_stop,
        )

    def fit(self, X: Any = None, y: Any = None) -> "Counterfactual":
        """Return the explainer: there is nothing to fit."""
        return self

    def explain(self, X: np.ndarray) -> Explanation | list[Explanation]:
        """Search for the counterfactuals of all rows of X at once.

        Args:
            X: (n, *shape), inside the feature range.

        Returns:
            The explanation if n is 1, otherwise a list of n explanations.

        Raises:
            InputError: X has another shape or is outside the feature range, or the model does not fit it.
        """
        X = np.asarray(X, np.float32)
        if X.ndim == 0 or X.shape[1:] != self._shape:
            raise InputError(f"X has shape {X.shape}: give (n, {', '.join(map(str, self._shape))}), as in shape")
        result = find_counterfactuals(self._predict_fn, X, self._method, path_rows=len(X), eps=self._eps)
        explanations = self._explanations(X, result) if len(X) else []
        return explanations[0] if len(X) == 1 else explanations

    def _explanations(self, x: np.ndarray, result: Result) -> list[Explanation]:
        """The explanations of the rows of x (n, *shape), n >= 1."""
        classifier = Classifier(self._predict_fn, x)
        before, after, on_path = (classifier.batched_probabilities(of, _BATCH) for of in (x, result.x, result.path.x))
        return [self._explanation(result, row, before[row], after[row], on_path) for row in range(len(x))]

    def _explanation(
        self, result: Result, row: int, before: np.ndarray, after: np.ndarray, on_path: np.ndarray
    ) -> Explanation:
        """The explanation of a row, from its probabilities (classes,) and those of all points of the path."""
        path, original = result.path, int(result.original_class[row])

        def counterfactual(x: np.ndarray, proba: np.ndarray, l1: float, lam: float, step: int) -> dict[str, Any]:
            error = _target_probability(proba, original, result.target_class[row]) - self._method.target_proba
            return {
                "X": x[None],
                "distance": float(l1),
                "lambda": float(lam),
                "index": int(step),
                "class": int(proba.argmax()),
                "proba": proba[None],
                "loss": float(error**2 + lam * l1),
            }

        points = np.flatnonzero(path.row == row)
        step = max(path.step[points][path.lam[points] == result.lam[row]], default=-1)
        nearest = counterfactual(result.x[row], after, result.l1[row], result.lam[row], step)
        # the steps before the bisection only bracket lambda
        steps = self._method.max_lam_steps
        first = self._method.path_length(self._method) - steps
        every: dict[int, list[dict[str, Any]]] = {step: [] for step in range(steps)}
        for point in points[path.step[points] >= first]:
            values = (of[point] for of in (path.x, on_path, path.l1, path.lam, path.step))
            every[path.step[point] - first].append(counterfactual(*values))
        found = bool(result.found[row])
        return Explanation(self.meta, nearest if found else None, every, original, float(before[original]), found)


def _target_probability(proba: np.ndarray, original: int, target_class: str) -> float:
    """f_t, from the probabilities (classes,) of one input."""
    if target_class == "other":
        return np.delete(proba, original).max()
    return proba[original if target_class == "same" else int(target_class)]


def _one_step(eps: float | np.ndarray) -> float:
    steps = np.unique(eps)
    if len(steps) != 1:
        raise InputError(f"eps has {len(steps)} values: give one for all features")
    return float(steps[0])


def _bounds(feature_range: tuple[Any, Any], shape: tuple[int, ...]) -> Any:
    """The minimum and the maximum of each feature, (*shape) each."""
    try:
        return tuple(np.broadcast_to(np.asarray(bound, np.float32), (1, *shape))[0] for bound in feature_range)
    except ValueError:
        raise InputError(f"feature_range must be numbers or arrays (1, {', '.join(map(str, shape))})") from None
