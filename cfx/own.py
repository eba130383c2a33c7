'''A custom method in a user's file, run in a separate process, so that only its search fails if it hangs or crashes.

A file contains one class, like the modules of `cfx.methods`. A complete example:

    """Increase the probability of the most probable target class until the instance is a counterfactual."""

    from dataclasses import dataclass

    import numpy as np

    from cfx import ArrayMethod, Problem


    @dataclass(frozen=True, kw_only=True)
    class Climb(ArrayMethod):
        steps: int = 200  # the most steps that an instance takes, 1 to 10,000
        size: float = 0.05  # how far a step changes each feature, in units of the input, > 0

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 1 <= self.steps <= 10_000:
                raise ValueError(f"steps must be 1 to 10,000, got {self.steps}")
            if not self.size > 0:
                raise ValueError(f"size must be > 0, got {self.size}")

        def search(self, problem: Problem) -> np.ndarray:
            x = problem.x.copy()
            for _ in range(self.steps):
                rows = np.flatnonzero(~problem.is_met(x))
                if len(rows) == 0:
                    break
                problem.progress(len(x) - len(rows), len(x))
                f = problem.probabilities(x[rows])
                goal = np.where(problem.target[rows], f, -1).argmax(axis=1)
                # the gradient of log f_goal, for f = softmax(logits)
                _, gradient = problem.logits_and_gradient(x[rows], np.eye(f.shape[1])[goal] - f)
                x[rows] = np.clip(x[rows] + self.size * np.sign(gradient), problem.low, problem.high)
            return x

Its fields, together with those of `cfx.method.Method`, are its hyperparameters. It may import the packages of its
environment, but not other files in its folder, so that the digest of the file identifies the method.

The environment is this one, or that of another interpreter, where `cfx` need not be installed: the file may import
`cfx.method` and `cfx.problem` there, which need Python 3.10 and numpy, `cfx.attack` for an attack of a PyTorch library,
and `cfx.keras2`; peers/ has examples. The model stays in this process, and the method calls it through `problem`. A
Keras model is also available as a copy, `problem.model_file`, if Keras can save it, and as `problem.model_weights`. An
error message contains the last lines that the method printed.

At the end of the search, after a timeout, or if the caller is killed, the process and its children are killed, except
those that have started a new session.

A `StepMethod` is compiled together with the model, so it runs in this process, after a separate process has checked the
file.
'''

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from cfx.errors import InputError
from cfx.method import ArrayMethod, Method
from cfx.own_file import load, make, plain, source
from cfx.own_process import Process
from cfx.problem import Problem

# The fields of a problem that are arrays.
_ARRAYS = ("x", "target", "original_class", "low", "high", "x_train", "y_train")


@dataclass(frozen=True, kw_only=True)
class Description:
    """The class in a user's file, and the environment in which it was imported."""

    class_name: str
    form: Literal["array", "step"]
    fields: dict[str, Any]
    """The default values of its hyperparameters as JSON types, None for a required one; without those of `Method`."""
    python: str
    """The version of the interpreter, such as "3.12.4"."""
    packages: dict[str, str]
    """The versions of the packages of the environment, by their normalized names."""
    sha256: str
    """The digest of the file."""


@dataclass(frozen=True, kw_only=True)
class OwnMethod(ArrayMethod):
    """The array method in a user's file. Its name is the file name without `.py`.

    Raises InputError for an argument of a wrong type. Only `describe` and `search` read the file.
    """

    module: Path
    """The file."""

    python: str | None = None
    """The interpreter of another environment; None for this one."""

    timeout_s: float = 3600
    """The time limit of a search in seconds, above 0."""

    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """The values of its fields by name, as JSON types; other fields have the default values of the file."""

    def __post_init__(self) -> None:
        """Check the arguments, and set the name."""
        super().__post_init__()
        if not self.module or not isinstance(self.module, str | Path):
            raise InputError(f"module must be the path of a Python file, got {self.module!r}")
        if self.python is not None and not (self.python and isinstance(self.python, str)):
            raise InputError(f"python must be the path of an interpreter, or None, got {self.python!r}")
        self._check_number("timeout_s", lambda value: value > 0, "> 0")
        self._set("module", Path(self.module))
        self._set("hyperparameters", dict(self.hyperparameters))
        # The class has another name.
        self._set("name", self.module.stem)

    def search(self, problem: Problem) -> np.ndarray:
        """The result of the method, an array of numbers that the engine checks.

        Raises:
            InputError: the file, its hyperparameters or its environment are invalid, or the method raises an exception,
                exits, exceeds `timeout_s` or does not return numbers.
        """
        weights = _weights(problem.model)
        arrays = {name: np.asarray(getattr(problem, name)) for name in _ARRAYS}
        if (region := problem.region) is not None:
            arrays |= {f"region_{item.name}": getattr(region, item.name) for item in fields(region)}
        arrays |= {f"weight_{place}": weight for place, weight in enumerate(weights)}
        with TemporaryDirectory() as folder, Process(self.module, self.python, self.timeout_s) as process:
            model_file = _saved(problem.model, Path(folder))
            process.send({**self._request(problem), "model_file": model_file, "weights": len(weights)}, arrays)
            while True:
                reply, given = process.receive()
                if "progress" in reply:
                    problem.progress(*reply["progress"])
                elif "call" in reply:
                    process.send(*_answer(problem, reply["call"], given))
                else:
                    return given["x"]

    def _request(self, problem: Problem) -> dict[str, Any]:
        """The request to the worker without arrays and model: the method and the numbers of the problem."""
        return {
            "module": str(self.module.absolute()),
            "hyperparameters": plain(self.hyperparameters, "hyperparameters"),
            "shared": {
                "target_class": self.target_class,
                "target_proba": self.target_proba,
                "tol": self.tol,
                "feature_range": [np.asarray(bound).tolist() for bound in self.feature_range],
            },
            "problem": {"target_proba": float(problem.target_proba), "tol": float(problem.tol)},
            "seed": int(problem.seed),
        }


def describe(
    module: Path, python: str | None = None, points: Sequence[Mapping[str, Any]] = (), timeout_s: float = 3600
) -> Description:
    """Import a file in a separate process, and validate the hyperparameters of each of the points with its class.

    Raises:
        InputError: the message begins with the invalid argument, as in "module: ...". The file is missing, cannot be
            imported or does not contain exactly one method; the interpreter is not Python 3.10 or newer, has no numpy,
            or is given for a step method; a hyperparameter is unknown, missing or invalid; or timeout_s is exceeded.
    """
    request = {"module": str(module.absolute()), "points": [plain(point, "hyperparameters") for point in points]}
    source(module)
    with Process(module, python, timeout_s) as process:
        process.send(request)
        found = Description(**process.receive()[0]["description"])
    if python is not None and found.form == "step":
        raise InputError(
            f"python: {module.name} has a step method, which is compiled in this environment; remove python"
        )
    return found


def of_file(
    module: Path, python: str | None, timeout_s: float, hyperparameters: Mapping[str, Any], **shared: Any
) -> Method:
    """The method of a file, ready to search. Raises InputError as `describe` does.

    shared: the fields of `Method`, such as `target_class`.
    """
    own = OwnMethod(module=module, python=python, timeout_s=timeout_s, hyperparameters=hyperparameters, **shared)
    digest = hashlib.sha256(source(own.module)).hexdigest()
    if _form(own.module.absolute(), python, timeout_s, digest) == "array":
        return own
    return make(load(own.module), own.module, hyperparameters, shared)


@lru_cache(maxsize=256)
def _form(module: Path, python: str | None, timeout_s: float, digest: str) -> str:
    """Whether a file contains an array or a step method; cached for one version of the file."""
    return describe(module, python, timeout_s=timeout_s).form


def _is_keras(model: Any) -> bool:
    # If there is a Keras model, Keras has been imported; it is not imported here.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _saved(model: Any, folder: Path) -> str | None:
    """The path of a copy of a model, or None if Keras cannot save it."""
    if not _is_keras(model):
        return None
    path = folder / "model.keras"
    try:
        model.save(path)
    except (NotImplementedError, TypeError, ValueError):
        return None
    return str(path)


def _weights(model: Any) -> list[np.ndarray]:
    """The weights of a model; types that numpy does not support, such as bfloat16, are converted to float32."""
    weights = [np.asarray(weight) for weight in model.get_weights()] if _is_keras(model) else []
    return [weight if weight.dtype.kind in "biuf" else weight.astype(np.float32) for weight in weights]


def _answer(
    problem: Problem, function: str, given: Mapping[str, np.ndarray]
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        if function == "probabilities":
            return {}, {"probabilities": np.asarray(problem.probabilities(given["x"]))}
        logits, gradient = problem.logits_and_gradient(given["x"], given["weights"])
        return {}, {"logits": np.asarray(logits), "gradient": np.asarray(gradient)}
    except InputError as error:
        # The worker raises it at the call in the method.
        return {"refused": str(error)}, {}
