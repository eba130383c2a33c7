"""The commands and the Python examples of README.md and docs/, run as they stand, each page in a clone of its own.

The defaults in conf/ of these clones describe small networks and short training, so that a command needs no other
options than those on its page.
"""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from pipelines.reporting import rating
from tests.unit.test_docs import FILE, PAGES, ROOT, blocks, name, write_files
from tests.workflow.conftest import Repository, fresh, shared

pytestmark = pytest.mark.long

SMALL = {
    "data/mnist_5k": {"epochs": 3, "steps": 20},
    **{f"data/{data}": {"epochs": 1, "steps": 5} for data in ("digits", "npz", "csv", "breast_cancer")},
    **{f"model/{model}": {"filters": [16, 16], "hidden": 64} for model in ("cnn", "robust")},
    "config": {"kinds": "[deep, dense]", "epochs": 1, "steps": 60},
    "search/wachter": {"max_iter": 300, "max_lam_steps": 3},
    "search/latent": {"training_steps": 100, "max_iter": 20},
    "search/prototype": {"max_iter": 20},
}
# The commands that are not run, by the reason.
NOT_RUN = {
    "creates an environment, from the network": (
        "make run",
        "make test",
        "make peers",
        "uv pip install --require-hashes -r requirements-services.lock",
    ),
    "is run by test_wheel.py, in a folder made by the installed package": (
        "uv pip install path/to/clone",
        "uv pip install 'path/to/clone[workflow]'",
        "cfx init study",
        "cd study",
        "cfx run +sweep=targets",
    ),
    "is run by test_compat.py": ("python seven.py",),
    "needs PyTorch, as tests/unit/cfx/test_frameworks.py does": (
        "python train_network.py",
        "python -m pipelines.run data=digits model=torch model.path=mine.pt model.module=network.py "
        "model.channels_first=true model.bounds=[0,1] search=primal_dual",
    ),
    "is run by test_notebook.py": (".venv/bin/jupyter execute --output=executed notebooks/cf_mnist.ipynb",),
    "activates the environment in which the tests run": ("source .venv/bin/activate",),
    "serves until it is stopped": (".venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db",),
    "needs a service or a launcher, as the tests in tests/services/ do": (
        "python -m pipelines.run +sweep=grid hydra/launcher=joblib",
        "python -m pipelines.run +sweep=grid hydra/launcher=ray launch.gpus=1",
        "python -m pipelines.run +sweep=grid hydra/launcher=slurm launch.gpus=1 hydra.launcher.partition=gpu",
        "createdb --host=127.0.0.1 mlflow",
        "mlflow server --backend-store-uri postgresql+psycopg2://127.0.0.1/mlflow --artifacts-destination mlflow-files",
        "python -m pipelines.run +sweep=targets tracking=server tracking.uri=http://127.0.0.1:5000",
    ),
    "needs the environments of other libraries, as test_peers.py does": (
        "python -m pipelines.run +experiment=field_small",
        "python -m pipelines.run -m search=primal_dual,adv_lib_fmn search.target_class=3,8",
        "python -m pipelines.run -m +experiment=field_small search=primal_dual,adv_lib_fmn,own "
        "search.module=my_method.py",
        "python -m benchmarks.dice --instances 2",
    ),
    "takes long, and needs the full MNIST": (
        "make paper",
        "make atlas",
        "python -m benchmarks.run --weights w.npz --mnist mnist.npz",
    ),
}
REPLACED = {
    # data that would be downloaded
    "+experiment=cf_mnist": "+experiment=cf_mnist data=mnist_5k",
    "+experiment=plausibility_fashion": "+experiment=plausibility_fashion data=mnist_5k instances.per_class=1",
    "data=fashion_mnist": "data=mnist_5k",
    # 900 counterfactuals and five more classifiers: minutes of work
    "instances.per_class=1": "instances.per_class=1 instances.classes=[7] search.target_class=1 training.replicas=0",
    # 132 cells, or 33 to 44, each with a record, an MLflow run and images; many samples
    "+sweep=grid launch": "+sweep=grid search.target_class=1 launch",
    "+sweep=targets search=": "+sweep=targets search.target_class=1,other search=",
    "search.draws=500,5000": "search.draws=50,500",
    # more classifiers, each with its judges and guides; four guides
    "model=cnn,mlp,resnet,robust": "model=cnn,mlp",
    "epochs=3, steps=900": "epochs=1, steps=60",
}
# The results of another data set are not those of the paper.
EXIT_CODES = {"python -m pipelines.paper cf_mnist data=mnist_5k": 1}
MODEL = """
import keras

model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
model.save("mine.keras")
"""


def commands() -> dict[Path, list[str]]:
    """The commands of each page that are run, without comments; a command of several pages is run on the first."""
    known = set(chain(*NOT_RUN.values()))
    found: dict[Path, list[str]] = {page: [] for page in PAGES}
    for page, code in blocks("bash"):
        found[page] += [line for line in re.sub(r"\s+# .*", "", code).splitlines() if line not in known]
        known.update(found[page])
    return {page: lines for page, lines in found.items() if lines}


def examples() -> dict[Path, str]:
    """The Python examples of each page that are no files, which follow each other."""
    found: dict[Path, str] = {}
    for page, code in blocks("python"):
        # PyTorch is not in the environment, and `explainer` is that of seven.py
        if not FILE.match(code) and "import torch" not in code and "explainer" not in code:
            found[page] = found.get(page, "") + code
    return found


def replaced(text: str) -> str:
    for part, other in REPLACED.items():
        text = text.replace(part, other)
    return text


def run(repository: Repository, *command: str) -> subprocess.CompletedProcess[str]:
    author = {f"GIT_{role}_{key}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = repository.environment(**repository.cached(), **author)
    return subprocess.run(command, cwd=repository.path, env=environment, capture_output=True, text=True, timeout=900)


COMMANDS, EXAMPLES = commands(), examples()


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Repository:
    """A clone with small defaults, after a sweep, and with the files that the commands name."""

    def make(path: Path) -> None:
        path.mkdir()
        repository = fresh(path)
        for file, values in SMALL.items():
            options = path / f"conf/{file}.yaml"
            text = options.read_text()
            for key, value in values.items():
                text, count = re.subn(rf"(?m)^( *{key}:) [\d\[][^#\n]*", rf"\1 {value} ", text)
                assert count == 1, f"{file}: {key}"
            options.write_text(text)
        sweep = [sys.executable, "-m", "pipelines.run"]
        python = [sys.executable, "-c"]
        write_files(path)
        for command in (
            ["git", "commit", "-qam", "small"],
            [*sweep, "search=plausible"],  # trains the guides, which DVC then keeps
            [*sweep, "+sweep=targets"],
            *([*python, EXAMPLES[ROOT / f"docs/how-to/{page}.md"]] for page in ("own-data", "constraints", "tables")),
            [*python, MODEL],
        ):
            done = run(repository, *command)
            assert done.returncode == 0, done.stdout + done.stderr
        key = path / "artifacts/report/tables" / rating.KEY
        shown = pd.read_csv(key)
        answers = {"report": rating.digest(key), "picture": shown["picture"], "answer": shown["class"]}
        pd.DataFrame(answers).to_csv(path / "answers.csv", index=False)

    return shared(tmp_path_factory, "small", make)


@pytest.mark.parametrize("page", COMMANDS, ids=name)
def test_the_commands_of_a_page_succeed_in_their_order(page, small, tmp_path):
    repository = small.copy(tmp_path / "clone")
    for line in COMMANDS[page]:
        done = run(repository, "bash", "-ec", replaced(line))
        assert done.returncode == EXIT_CODES.get(line, 0), f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", EXAMPLES, ids=name)
def test_the_python_examples_of_a_page_run_after_a_sweep(page, small, tmp_path):
    (tmp_path / "artifacts").symlink_to(small.path / "artifacts")
    done = subprocess.run(
        [sys.executable, "-c", replaced(EXAMPLES[page])],
        cwd=tmp_path,
        env=small.environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_that_is_not_run_is_on_a_page():
    assert [line for line in chain(*NOT_RUN.values()) if not any(line in code for _, code in blocks("bash"))] == []
