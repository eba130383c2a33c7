import importlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import venv
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cfx import keras2, own
from cfx.constraints import Constraints
from cfx.errors import InputError
from cfx.method import StepMethod
from cfx.own import OwnMethod, describe, of_file
from cfx.problem import Problem

ROOT = Path(own.__file__).parents[1]
WEIGHTS = np.random.default_rng(0).normal(0, 5, (6, 3)).astype(np.float32)

HEAD = """
import os, re, signal, subprocess, sys, threading, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from cfx import ArrayMethod, Problem
"""
DATACLASS = "@dataclass(frozen=True, kw_only=True)\n"
FIELDS = """class Mine(ArrayMethod):
    note: str = ""
    seed: int = 7
"""
SEARCH = "    def search(self, problem: Problem) -> np.ndarray:\n"
METHOD = HEAD + DATACLASS + FIELDS + SEARCH
DONE = "        return problem.x\n"
CHECKED = f"""{HEAD}{DATACLASS}class Mine(ArrayMethod):
    size: float
    def __post_init__(self):
        if not self.size > 0:
            raise ValueError(f"size is to be above 0,\\n got {{self.size}}")
{SEARCH}{DONE}"""


def logits(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def probabilities(x):
    powers = np.exp(logits(x) - logits(x).max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def problem():
    """A linear model of three classes, and any class but the predicted one as the target."""
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (25, 3, 2)).astype(np.float32)
    original_class = probabilities(points[:20]).argmax(axis=1)
    return Problem(
        x=points[:20],
        target=np.arange(3) != original_class[:, None],
        original_class=original_class,
        target_proba=1.0,
        tol=0.4,
        low=np.float32(-0.5),
        high=np.float32([[0.5, 0.6], [0.7, 0.8], [0.9, 1.0]]),
        x_train=points[20:],
        y_train=np.arange(5),
        seed=3,
        probabilities=probabilities,
        logits_and_gradient=lambda x, weights: (logits(x), (weights @ WEIGHTS.T).reshape(x.shape)),
    )


@pytest.fixture
def file(tmp_path):
    """Write a user's file: as it is, or the lines of `search`."""

    def write(text="", *, search=None, name="mine.py"):
        path = tmp_path / name
        path.write_text(text if search is None else METHOD + textwrap.indent(textwrap.dedent(search), " " * 8))
        return path

    return write


def test_it_gets_the_constraints_in_its_process(problem, file):
    rules = Constraints(immutable=[0], steps={}, mask=np.array([[True, True], [True, False], [True, True]]))
    region = rules.region(problem.x, (problem.low, problem.high))
    module = file(search="return problem.project(np.full_like(problem.x, 9)) + 0 * problem.lower")
    found = OwnMethod(module=module).search(replace(problem, region=region))
    np.testing.assert_array_equal(found, problem.project(problem.x) * 0 + region.bounds()[1])
    np.testing.assert_array_equal(found[:, 1, 1], problem.x[:, 1, 1])
    assert (found[:, 0, 1] == np.float32(0.6)).all()


@pytest.fixture(scope="session")
def empty_python(tmp_path_factory):
    """The interpreter of an environment without packages."""
    place = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(place, symlinks=True)
    return place / "bin/python"


@pytest.fixture(scope="session")
def other_python(tmp_path_factory):
    """The interpreter of an environment that holds numpy and nothing else."""
    place = tmp_path_factory.mktemp("other") / "venv"
    venv.create(place, symlinks=True)
    here, there = Path(np.__file__).parents[1], next(place.glob("lib/python*/site-packages"))
    for path in here.glob("numpy*"):
        (there / path.name).symlink_to(path)
    return str(place / "bin/python")


def refusal(call, *arguments, **keywords):
    with pytest.raises(InputError) as raised:
        call(*arguments, **keywords)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def is_gone(pid, patience_s=20):
    """Whether a process ends, or has ended."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def example(file):
    lines = own.__doc__[own.__doc__.index('    """Increase') :].splitlines()
    end = next(place for place, line in enumerate(lines) if line and not line.startswith("    "))
    return file(textwrap.dedent("\n".join(lines[:end])), name="climb.py")


def test_the_example_finds_counterfactuals_here_and_in_another_environment(example, problem, other_python):
    here = of_file(example, None, 60, {"steps": 100}, tol=0.4)
    assert here.name == "climb"
    found = here.search(problem)
    assert problem.is_met(found).all()
    there = of_file(example, other_python, 60, {"steps": 100}, tol=0.4)
    np.testing.assert_array_equal(there.search(problem), found)


def test_the_hyperparameters_reach_the_method(example, problem):
    one_step = OwnMethod(module=example, hyperparameters={"steps": 1, "size": np.float64(0.01)}).search(problem)
    assert np.abs(one_step - problem.x).max() == pytest.approx(0.01, rel=1e-5)


def test_a_file_is_described(example):
    found = describe(example, points=[{}, {"steps": 3}])
    assert (found.class_name, found.form) == ("Climb", "array")
    assert found.fields == {"steps": 200, "size": 0.05}
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.packages["numpy"] == np.__version__ and "tensorflow" in found.packages
    digest = subprocess.run(["sha256sum", example], capture_output=True, text=True, check=True).stdout.split()[0]
    assert found.sha256 == digest


def test_defaults_are_described_as_a_configuration_can_hold_them(file):
    fields = """    size: float
    many: list = field(default_factory=lambda: [1, 2])
    pair: tuple = (0.5, np.float32(2))
"""
    path = file(METHOD.replace(SEARCH, fields + SEARCH).replace("import dataclass", "import dataclass, field") + DONE)
    assert describe(path).fields == {"note": "", "seed": 7, "size": None, "many": [1, 2], "pair": [0.5, 2.0]}


def test_another_environment_has_its_own_packages_and_none_of_ours(file, other_python, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{Path(np.__file__).parents[1]}:{ROOT}")
    path = file(search="return problem.x")
    assert describe(path, other_python).packages == {"numpy": np.__version__}
    for package in ("pandas", "pipelines"):
        path.write_text(f"import {package}\n{METHOD}        return problem.x")
        assert f"No module named '{package}'" in refusal(describe, path, other_python)


def test_what_lies_beside_a_file_is_not_imported(file):
    file("", name="neighbour.py")
    assert "No module named 'neighbour'" in refusal(describe, file("import neighbour"))
    assert "No module named 'search'" in refusal(describe, file("import search"))


@pytest.mark.parametrize(
    ("text", "points", "message"),
    [
        ("x = 1\ny = = 2\n", [], "module: mine.py, line 2: invalid syntax"),
        ("x = '\0'", [], "module: mine.py.*null bytes"),
        ("\nimport no_such_package", [], "module: mine.py, line 2: .*No module named 'no_such_package'; install it"),
        ("def f():\n  return 1 / 0\nf()", [], "module: mine.py, line 2: ZeroDivisionError: division by zero"),
        ("import sys\nprint('bye')\nsys.exit(3)", [], "module: mine.py: its process ended with exit code 3.*bye"),
        ("from cfx import ArrayMethod, Problem", [], "module: mine.py has no method"),
        (METHOD + DONE + "class Other(Mine): pass", [], "module: mine.py has more than one method: Mine, Other"),
        (HEAD + DATACLASS + FIELDS, [], "module: Mine in mine.py is not complete; define search"),
        (HEAD + FIELDS + SEARCH + DONE, [], "module: Mine in mine.py is not a dataclass"),
        (METHOD + DONE, [{}, {"seeed": 1}], "hyperparameters: mine.py has no hyperparameter 'seeed'.*note, seed"),
        (METHOD + DONE, [{"tol": 0.1}], "hyperparameters: mine.py has no hyperparameter 'tol'"),
        (CHECKED, [{}], "hyperparameters: mine.py needs a value of size"),
        (CHECKED, [{"size": None}], "hyperparameters: mine.py needs a value of size"),
        (METHOD.replace('str = ""', "Path = Path('a')") + DONE, [], r"module: PosixPath\('a'\) is not a number"),
        (CHECKED, [{"size": 1}, {"size": -1}], "hyperparameters: size is to be above 0, got -1$"),
        (CHECKED, [{"size": "a"}], "hyperparameters: mine.py, line 11: TypeError: '>' not supported"),
        (CHECKED, [{"size": {1}}], "hyperparameters: .1. is not a number"),
    ],
)
def test_a_wrong_file_or_hyperparameter_is_refused(file, text, points, message):
    assert re.match(message, refusal(describe, file(text), points=points))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.py", tmp_path):
        assert refusal(describe, path).startswith(f"module: {path} cannot be read")
        assert refusal(of_file, path, None, 60, {}).startswith(f"module: {path} cannot be read")


def test_an_interpreter_that_is_none_is_refused(file, tmp_path, empty_python):
    path = file(search="return problem.x")
    old = tmp_path / "old"
    # an old interpreter, as far as the first message goes
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 9, 1); sys.argv[:] = sys.argv[4:];"
        'import runpy; sys.path.insert(0, ""); runpy.run_path(sys.argv[0], run_name="__main__")\' "$@"'
    )
    old.chmod(0o755)
    for python, message in {
        tmp_path / "none": "cannot be started .No such file",
        tmp_path: "cannot be started .Permission denied",
        "/bin/sh": "/bin/sh is not a Python interpreter of version 3.10 or newer",
        "/bin/true": "/bin/true is not a Python interpreter",
        empty_python: "has no numpy .*No module named 'numpy'.*install it there",
        old: "is Python 3.9.1; give one of version 3.10 or newer",
    }.items():
        assert re.match(f"python: .*{message}", refusal(describe, path, str(python)))


def test_a_file_that_takes_too_long_is_given_up(file):
    path = file("import time\nprint('working', flush=True)\ntime.sleep(1000)")
    assert re.match("timeout_s: mine.py took longer than timeout_s=1.*working", refusal(describe, path, timeout_s=1))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("print('on the way')\nraise KeyError('a\\nb')", r"module: mine.py, line 13: KeyError: .*on the way"),
        ("np.linalg.inv(np.zeros((2, 2)))", "module: mine.py, line 12: LinAlgError: Singular matrix"),
        ("print('so long')\nsys.exit(3)", "module: mine.py: its process ended with exit code 3.*last: so long"),
        ("os._exit(0)", "module: mine.py: its process ended with exit code 0"),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "module: mine.py: its process was ended by SIGSEGV.*line 12 in search",
        ),
        ("os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(1000)", "module: mine.py: .* was ended by SIGKILL"),
        ("return None", "module: mine.py: search returned NoneType; return an array of numbers"),
        ("return np.full(problem.x.shape, 'a', object)", "module: mine.py: search returned an array of object"),
        ("return [[1], [1, 2]]", "module: mine.py.*(inhomogeneous|object)"),
        ("problem.probabilities(problem.x[0])", r"module: mine.py, line 12: ValueError: .*\(k, 3, 2\), got \(3, 2\)"),
        ("problem.logits_and_gradient(problem.x, np.ones(3))", r"module: .*weights must be of shape \(20, 3\)"),
    ],
)
def test_a_search_that_fails_is_one_line(file, problem, search, message):
    assert re.match(message, refusal(OwnMethod(module=file(search=search), timeout_s=60).search, problem))


def test_a_search_that_never_ends_is_killed_with_what_it_has_started(file, problem, tmp_path):
    # a match that never ends holds the interpreter's lock, so no thread of the process could end it
    path = file(
        search="""
        children = [subprocess.Popen(["sleep", "1000"]).pid, os.getpid()]
        Path(self.note).write_text(" ".join(map(str, children)))
        re.match("(a+)+$", "a" * 100 + "b")
        """
    )
    method = OwnMethod(module=path, timeout_s=2, hyperparameters={"note": str(tmp_path / "pids")})
    assert refusal(method.search, problem).startswith("timeout_s: mine.py took longer than timeout_s=2")
    assert all(is_gone(pid) for pid in (tmp_path / "pids").read_text().split())


@pytest.mark.parametrize(
    ("end", "is_wrapped"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGKILL, True)]
)
def test_a_search_ends_with_the_process_that_called_it(file, tmp_path, end, is_wrapped):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    python.chmod(0o755)
    path = file(
        search="""
        children = [subprocess.Popen(["sleep", "1000"]).pid, os.getpid(), os.getppid()]
        Path(self.note + ".new").write_text(" ".join(map(str, children)))
        Path(self.note + ".new").rename(self.note)
        re.match("(a+)+$", "a" * 100 + "b")
        """
    )
    pids = tmp_path / "pids"
    caller = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from cfx.own import OwnMethod
from cfx.problem import Problem
x = np.zeros((1, 2), np.float32)
problem = Problem(x, x > 0, x[:, 0].astype(int), 1.0, 0.1, x, x, x, x[:, 0], 0, None, None)
python = {str(python) if is_wrapped else None!r}
OwnMethod(module={str(path)!r}, python=python, hyperparameters={{"note": {str(pids)!r}}}).search(problem)
"""
    with subprocess.Popen([sys.executable, "-c", caller]) as process:
        while not pids.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(end)
    assert all(is_gone(pid) for pid in pids.read_text().split())


def test_a_request_to_end_is_for_the_caller_to_follow_and_for_what_the_method_forks(file, problem):
    path = file(
        search="""
        child = os.fork()
        if child == 0:
            time.sleep(1000)
        # Python forgets what arrives while it forks
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        os.kill(os.getppid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        return problem.x
        """
    )
    assert OwnMethod(module=path, timeout_s=60).search(problem).shape == problem.x.shape


def test_a_search_that_returns_leaves_no_process(file, problem, tmp_path):
    path = file(
        search="""
        Path(self.note).write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
        threading.Thread(target=time.sleep, args=[1000]).start()
        return problem.x
        """
    )
    note = tmp_path / "pid"
    OwnMethod(module=path, timeout_s=60, hyperparameters={"note": str(note)}).search(problem)
    assert is_gone(note.read_text())


def test_a_process_that_leaves_the_group_does_not_hold_up_the_caller(file, problem):
    path = file(
        search="""
        if os.fork() == 0:
            os.setsid()
            time.sleep(5)
            os._exit(0)
        os._exit(4)
        """
    )
    assert "ended with exit code 4" in refusal(OwnMethod(module=path, timeout_s=3000).search, problem)


def test_a_forked_process_cannot_use_the_model(file, problem):
    path = file(
        search="""
        if (child := os.fork()) == 0:
            try:
                problem.probabilities(problem.x)
            except RuntimeError as error:
                os._exit(7 * ("only the process" in str(error)))
            os._exit(1)
        return problem.x + os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """
    )
    np.testing.assert_array_equal(OwnMethod(module=path, timeout_s=60).search(problem), problem.x + 7)


def test_megabytes_of_output_neither_block_nor_reach_the_caller(file, problem, capfd):
    path = file(
        search="""
        for _ in range(200):
            print("x" * 10_000)
            os.write(2, b"y" * 10_000)
        if self.note:
            raise ValueError("the end")
        return problem.x
        """
    )
    np.testing.assert_array_equal(OwnMethod(module=path, timeout_s=60).search(problem), problem.x)
    failing = OwnMethod(module=path, timeout_s=60, hyperparameters={"note": "fail"})
    message = refusal(failing.search, problem)
    assert "ValueError: the end" in message and len(message) < 2200
    assert capfd.readouterr() == ("", "")


def test_the_problem_arrives_as_it_is(file, problem):
    path = file(
        search="""
        assert (problem.target_proba, problem.tol, problem.seed) == (1.0, 0.4, self.seed)
        assert problem.target.dtype == bool and problem.x.dtype == np.float32
        assert problem.model is None and problem.model_file is None and problem.model_weights == ()
        problem.progress(2, 3)
        parts = [problem.x, problem.target, problem.original_class, problem.low, problem.high]
        parts += [problem.x_train, problem.y_train, problem.probabilities(problem.x)]
        parts += problem.logits_and_gradient(problem.x, problem.target.astype(float))
        return np.concatenate([np.ravel(part) for part in parts])
        """
    )
    told = []
    given = replace(problem, progress=lambda *counts: told.append(counts), model=lambda x: x)
    parts = [given.x, given.target, given.original_class, given.low, given.high, given.x_train, given.y_train]
    parts += [given.probabilities(given.x), *given.logits_and_gradient(given.x, given.target.astype(np.float32))]
    found = OwnMethod(module=path, timeout_s=60, hyperparameters={"seed": 11}).search(given)
    np.testing.assert_array_equal(found, np.concatenate([np.ravel(part) for part in parts]))
    assert told == [(2, 3)]


def test_a_keras_model_arrives_as_a_file_and_as_arrays(file, problem):
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.set_weights([WEIGHTS, np.arange(3)])
    path = file(
        search="""
        import keras
        loaded = keras.saving.load_model(problem.model_file, safe_mode=True)
        weights, bias = problem.model_weights
        return np.stack([problem.x.reshape(-1, 6) @ weights + bias, loaded(problem.x)])
        """
    )
    found = OwnMethod(module=path, timeout_s=300).search(replace(problem, model=model))
    np.testing.assert_allclose(found, np.stack([logits(problem.x) + np.arange(3)] * 2), rtol=1e-5, atol=1e-5)


def test_a_model_that_keras_cannot_save_is_no_reason_to_fail(file, problem):

    class Odd(keras.Model):
        def get_config(self):
            raise NotImplementedError

        def call(self, x):
            return x

    model = Odd()
    model(problem.x)
    path = file(search="assert problem.model_file is None\nreturn problem.x")
    found = OwnMethod(module=path, timeout_s=60).search(replace(problem, model=model))
    np.testing.assert_array_equal(found, problem.x)


def test_what_the_model_refuses_is_told_without_a_line_of_the_file(file, problem):
    def refuses(x):
        raise InputError("the model gives a number that is not finite")

    path = file(search="problem.probabilities(problem.x)")
    message = refusal(OwnMethod(module=path, timeout_s=60).search, replace(problem, probabilities=refuses))
    assert message == "module: mine.py: the model gives a number that is not finite"


def test_messages_of_tensorflow_are_off_in_the_process_of_the_method_only(file, problem, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    importlib.reload(keras2)
    path = file(search='return np.array(int(os.environ["TF_CPP_MIN_LOG_LEVEL"]))')
    assert OwnMethod(module=path, timeout_s=60).search(problem) == 3
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ


def test_a_defect_of_the_model_is_not_blamed_on_the_method(file, problem):
    method = OwnMethod(module=file(search="problem.probabilities(problem.x)"), timeout_s=60)
    with pytest.raises(ZeroDivisionError):
        method.search(replace(problem, probabilities=lambda x: 1 / 0))


STEP = f"""{HEAD}from cfx import StepMethod
{DATACLASS}class Descent(StepMethod):
    max_iter: int = 10
    lam_init: float = 0.1
    learning_rate: float = 0.1
    path_length = start = loss = step = staticmethod(lambda *_: None)
"""


def test_a_step_method_is_loaded_into_this_process(file, empty_python, other_python):
    path = file(STEP, name="descent.py")
    first = of_file(path, None, 60, {"max_iter": 5}, target_class=3)
    assert isinstance(first, StepMethod)
    assert (first.name, first.max_iter, first.target_class) == ("descent", 5, 3)
    # one class of one version of the file, so that what was compiled for it is used again
    assert type(of_file(path, None, 60, {"max_iter": 6})) is type(first)
    assert refusal(of_file, path, None, 60, {"max_iter": 0}).startswith("hyperparameters: max_iter must be")
    assert refusal(of_file, path, other_python, 60, {}).startswith("python: descent.py has a step method")


def test_a_changed_file_is_loaded_anew(file):
    old = of_file(file(STEP), None, 60, {})
    new = of_file(file(STEP.replace("= 10", "= 20")), None, 60, {})
    assert (old.max_iter, new.max_iter) == (10, 20)


@pytest.mark.parametrize(
    "values",
    [
        {"module": None},
        {"module": "a.py", "python": 3},
        {"module": "a.py", "timeout_s": 0},
        {"module": "a.py", "tol": 2},
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(values):
    assert refusal(OwnMethod, **values).startswith(list(values)[-1])
