'''A method in a file of the user's, run in a process of its own: it may hang, exit or crash, and only its search fails.

A file holds one class, as the modules of `cfx.methods` do. This is a complete one:

    """Climb the probability of the likeliest target class until the instance is a counterfactual."""

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

Its fields are its hyperparameters, beside those of `cfx.method.Method`. It may import every package of the environment
that it runs in, and nothing that lies beside it: a method is one file, so that its digest says what was run.

The environment is this one, or another one, named by its interpreter, where `cfx` need not be installed: the file may
import `cfx.method` and `cfx.problem` there, which need Python 3.10 and numpy. The model stays in this process, and the
method calls it through `problem`. Of a Keras model it also has a copy, `problem.model_file`, where Keras can save it,
and `problem.model_weights`. The last of what it prints is in the message of a failure.

When the search is over, out of time, or its caller killed, its process ends with all that it has started, save what
has made itself a session of its own.

A `StepMethod` is compiled together with the model, so it runs in this process, after another one has tried the file.
'''

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """What a user's file holds, and the environment that it was imported in."""

    class_name: str
    form: Literal["array", "step"]
    fields: dict[str, Any]
    """The defaults of its hyperparameters by name, as JSON holds them, None where a value has to be given; without
    the fields of `Method`."""
    python: str
    """The version of the interpreter, such as "3.12.4"."""
    packages: dict[str, str]
    """The versions of the packages of the environment, by their normalized names."""
    sha256: str
    """Of the file's bytes."""


@dataclass(frozen=True, kw_only=True)
class OwnMethod(ArrayMethod):
    """The array method in a user's file. Its name is the file's, without `.py`.

    Raises InputError where an argument is of the wrong kind. Only `describe` and `search` look into the file.
    """

    module: Path
    """The file."""

    python: str | None = None
    """The interpreter of the environment that it runs in; None for this one."""

    timeout_s: float = 3600
    """The most seconds that a search may take, above 0."""

    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """The values of its fields by their names, as JSON can hold them; for others, the defaults of the file."""

    def __post_init__(self) -> None:
        """Check the arguments, and take the name of the file."""
        super().__post_init__()
        if not self.module or not isinstance(self.module, str | Path):
            raise InputError(f"module must be the path of a Python file, got {self.module!r}")
        if self.python is not None and not (self.python and isinstance(self.python, str)):
            raise InputError(f"python must be the path of an interpreter, or None, got {self.python!r}")
        self._check_number("timeout_s", lambda value: value > 0, "> 0")
        self._set("module", Path(self.module))
        self._set("hyperparameters", dict(self.hyperparameters))
        # The class has a name, too; that of an instance is the file's.
        self._set("name", self.module.stem)

    def search(self, problem: Problem) -> np.ndarray:
        """What the method gives: an array of numbers, which the engine still has to check.

        Raises:
            InputError: the file, its hyperparameters or its environment are wrong, or the method raises, exits, takes
                longer than `timeout_s` or gives something else than numbers.
        """
        weights = _weights(problem.model)
        arrays = {name: np.asarray(getattr(problem, name)) for name in _ARRAYS}
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
        """What a worker has to know beside arrays and model: the method, and the numbers of the problem."""
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
    """What a file holds, after its class has taken the hyperparameters of each of the points, in a process of its own.

    Raises:
        InputError: begins with the argument that is wrong, as in "module: ...". The file is missing, cannot be imported
            or does not hold one method; the interpreter is none of Python 3.10 or newer, has no numpy, or would have to
            run a step method; a hyperparameter is unknown, missing or refused; or all this takes longer than timeout_s.
    """
    request = {"module": str(module.absolute()), "points": [plain(point, "hyperparameters") for point in points]}
    source(module)
    with Process(module, python, timeout_s) as process:
        process.send(request)
        found = Description(**process.receive()[0]["description"])
    if python is not None and found.form == "step":
        raise InputError(
            f"python: {module.name} holds a step method, which is compiled in this environment; leave python out"
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
    """Whether a file holds an array or a step method: what is known of one version of it is not asked again."""
    return describe(module, python, timeout_s=timeout_s).form


def _is_keras(model: Any) -> bool:
    # Whoever has such a model has imported Keras; checking a configuration must not pay for it.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _saved(model: Any, folder: Path) -> str | None:
    """The path of a copy of a model, or None where Keras cannot save it; most methods do without."""
    if not _is_keras(model):
        return None
    path = folder / "model.keras"
    try:
        model.save(path)
    except (NotImplementedError, TypeError, ValueError):
        return None
    return str(path)


def _weights(model: Any) -> list[np.ndarray]:
    """A model's weights, those of a kind of number that numpy alone does not know, such as bfloat16, as float32."""
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
        # It is raised where the method called, which says more.
        return {"refused": str(error)}, {}
