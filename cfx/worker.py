"""The program that runs a user's method in a separate process, so that its failures do not affect others.

    python worker.py <requests> <replies> <caller>    two file descriptors, and the process that it ends with

It needs Python 3.10 and numpy, so that a method may run in an environment with other packages than this project. There,
`cfx` is loaded from the folder of this file, without other packages of the caller's environment.

The process forks. The parent, the guard, does not run the user's code: it waits for the child, the worker, and kills
the whole process group when the caller has ended, even if the user's code hangs or has started other processes.

A message consists of two lengths of 8 bytes, a header in JSON, and arrays as an .npz without pickle. After a first
message about the interpreter, the caller sends one request. The worker replies with any number of calls, which the
caller answers ("call", the functions of the model) or does not answer ("progress"), and finally the result or an error.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import signal
import struct
import sys
import threading
import time
from collections.abc import Mapping
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

# The lengths of the header and of the arrays, in bytes.
_LENGTHS = struct.Struct(">QQ")
# Seconds between two checks of the guard whether the caller exists.
_LOOK_S = 0.05


def send(stream: BinaryIO, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a message: a header of JSON types, and arrays of numbers."""
    body = BytesIO()
    if arrays:
        # Imported here, because an interpreter without numpy must be able to send an error.
        import numpy as np

        np.savez(body, **arrays)  # type: ignore[arg-type]
    text = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(text), body.tell()))
    stream.write(text)
    stream.write(body.getbuffer())
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a message. Raises EOFError if the other side has closed the stream."""
    text, body = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    header = json.loads(_exactly(stream, text))
    if not body:
        return header, {}
    import numpy as np

    with np.load(BytesIO(_exactly(stream, body)), allow_pickle=False) as arrays:
        return header, {name: arrays[name] for name in arrays.files}


def main(requests: int, replies: int, caller: int) -> None:
    """Answer one request, in a process guarded by another one."""
    # The messages of TensorFlow would hide those of the method; the user's own value takes precedence.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    worker = os.fork()
    _outlive_requests_to_end()
    if worker:
        os.close(requests)
        os.close(replies)
        _guard(worker, caller)
    # A program that the method starts must not keep the pipes open.
    os.set_inheritable(requests, False)
    os.set_inheritable(replies, False)
    folder = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != folder]
    with open(requests, "rb") as incoming, open(replies, "wb") as outgoing:
        try:
            import numpy as np

            problem_with_numpy = None if hasattr(np, "ndarray") else "its folder is empty"
        except Exception as error:
            problem_with_numpy = f"{type(error).__name__}: {error}"
        send(outgoing, {"python": list(sys.version_info[:3]), "numpy": problem_with_numpy})
        if problem_with_numpy is None:
            _load_cfx(folder)
            _serve(incoming, outgoing)


def _outlive_requests_to_end() -> None:
    """Leave it to the caller what a SIGTERM means: a cluster that ends a job sends it to all processes of the job."""
    process = os.getpid()

    def decide(number: int, frame: object) -> None:
        # a process that the method forks ends as any other does
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, decide)


def _guard(worker: int, caller: int) -> None:
    """Wait for the worker and exit with its code, or 128 plus the number of its signal; also exit with the caller."""
    # This may differ from the caller, if the interpreter is a script that starts another one.
    parent = os.getppid()
    while os.getppid() == parent and _exists(caller):
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        time.sleep(_LOOK_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _load_cfx(folder: Path) -> None:
    """Import `cfx` from its folder, without other packages beside it."""
    spec = importlib.util.spec_from_file_location(
        "cfx", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["cfx"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["cfx"])


def _serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Process the request, and send the result or an error with the invalid argument."""
    # `cfx` can be imported only now.
    from cfx.errors import InputError

    request, arrays = receive(incoming)
    try:
        if "points" in request:
            send(outgoing, {"description": _describe(Path(request["module"]), request["points"])})
        else:
            send(outgoing, {}, {"x": _search(request, arrays, _Model(incoming, outgoing, arrays))})
    except InputError as error:
        send(outgoing, {"wrong": str(error)})


def _describe(module: Path, points: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of `cfx.own.Description`, after the class of the file has validated all points."""
    from cfx import own_file
    from cfx.method import StepMethod

    method = own_file.load(module)
    for values in points:
        own_file.make(method, module, values)
    return {
        "class_name": method.__name__,
        "form": "step" if issubclass(method, StepMethod) else "array",
        "fields": own_file.plain(own_file.hyperparameters(method), "module"),
        "python": platform.python_version(),
        "packages": _packages(),
        "sha256": hashlib.sha256(own_file.source(module)).hexdigest(),
    }


def _packages() -> dict[str, str]:
    """The version of each importable package, by its normalized name."""
    packages: dict[str, str] = {}
    for found in metadata.distributions():
        name = found.metadata["Name"]
        # The first of several with the same name is imported.
        if name:
            packages.setdefault(re.sub(r"[-_.]+", "-", name).lower(), found.version)
    return dict(sorted(packages.items()))


def _search(request: dict[str, Any], arrays: dict[str, np.ndarray], model: _Model) -> np.ndarray:
    """The result of the method for the problem of a request, as an array of numbers."""
    import numpy as np

    from cfx import own_file
    from cfx.errors import InputError
    from cfx.method import ArrayMethod
    from cfx.problem import Problem
    from cfx.region import Region

    module = Path(request["module"])
    method = own_file.make(own_file.load(module), module, request["hyperparameters"], request["shared"])
    if not isinstance(method, ArrayMethod):
        raise InputError(f"module: {module.name} has a step method, which cannot run in a separate process")
    weights = tuple(arrays.pop(f"weight_{place}") for place in range(request["weights"]))
    of_region: Any = {
        name.removeprefix("region_"): arrays.pop(name) for name in list(arrays) if name.startswith("region_")
    }
    given: Any = {**arrays, **request["problem"]}
    problem = Problem(
        **given,
        seed=getattr(method, "seed", request["seed"]),
        probabilities=model.probabilities,
        logits_and_gradient=model.logits_and_gradient,
        progress=model.progress,
        model_file=Path(request["model_file"]) if request["model_file"] else None,
        model_weights=weights,
        region=Region(**of_region) if of_region else None,
    )
    try:
        given = method.search(problem)
        x = np.asarray(given)
    except Exception as error:
        raise InputError(f"module: {own_file.blame(error, module)}") from error
    if x.dtype.kind not in "biuf":
        what = f"an array of {x.dtype}" if isinstance(given, np.ndarray) else type(given).__name__
        raise InputError(f"module: {module.name}: search returned {what}; return an array of numbers, as problem.x is")
    return x


class _Model:
    """The functions of the caller's model, called through the pipes; from one thread at a time."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._process, self._lock = os.getpid(), threading.Lock()
        if "x" in arrays:
            self._shape, self._classes = arrays["x"].shape[1:], arrays["target"].shape[1]
        os.register_at_fork(after_in_child=self._let_go)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return self._call("probabilities", x=self._inputs(x))["probabilities"]

    def logits_and_gradient(self, x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        x, weights = self._inputs(x), np.asarray(weights, np.float32)
        if weights.shape != (len(x), self._classes):
            raise ValueError(f"weights must be of shape {(len(x), self._classes)}, got {weights.shape}")
        answer = self._call("logits_and_gradient", x=x, weights=weights)
        return answer["logits"], answer["gradient"]

    def progress(self, done: int, total: int) -> None:
        with self._lock:
            self._send({"progress": [int(done), int(total)]})

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        x = np.asarray(x, np.float32)
        if x.shape[1:] != self._shape or not x.ndim:
            raise ValueError(f"the model takes inputs of shape (k, {', '.join(map(str, self._shape))}), got {x.shape}")
        return x

    def _call(self, function: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        from cfx.errors import InputError

        with self._lock:
            self._send({"call": function}, arrays)
            header, answer = receive(self._incoming)
        if "refused" in header:
            raise InputError(header["refused"])
        return answer

    def _send(self, header: dict[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        if os.getpid() != self._process:
            raise RuntimeError("only the process in which search is called can use the model")
        send(self._outgoing, header, arrays)

    def _let_go(self) -> None:
        """Close the pipes in a process that the method forks, so that the caller detects when this process ends."""
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (self._incoming, self._outgoing):
            os.dup2(null, stream.fileno(), inheritable=False)
        # Another thread may have held the lock.
        self._lock = threading.Lock()


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the other process has ended")
    return data


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
