"""`make paper`: an experiment's tables, figures and manifest, and what is named where it comes out otherwise."""

import json

import numpy as np
import pandas as pd
import pytest

from cfx import datasets
from tests.workflow.conftest import SMALL, Repository, shared


def run(repository: Repository, *arguments: str):
    chosen = ("cf_mnist", "data=npz", f"data.path={repository.path}/images.npz", *SMALL)
    return repository.run("pipelines.paper", *chosen, "--expected", "expected.json", *arguments)


@pytest.fixture(scope="module")
def accepted(swept, tmp_path_factory) -> Repository:
    """A clone that expects what its own experiment came to, on images of its own."""
    return shared(tmp_path_factory, "accepted", lambda path: accept(swept.copy(path)))


def accept(repository: Repository) -> None:
    dataset = datasets.mnist_5k(seed=0)
    images = {key: np.round((array + 0.5) * 255) for key, array in dataset.arrays().items() if key[0] == "x"}
    labels = {"y_train": dataset.y_train, "y_test": dataset.y_test}
    np.savez(repository.path / "images.npz", **{key: array.astype(np.uint8) for key, array in images.items()}, **labels)
    expected = json.loads((repository.path / "paper/expected.json").read_text())
    (repository.path / "expected.json").write_text(json.dumps(expected | {"experiments": {}}))
    done = run(repository, "--accept")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_number_and_figure_can_be_traced(accepted):
    folder = accepted.path / "artifacts/paper"
    traced = json.loads((folder / "manifest.json").read_text())["cf_mnist"]
    files = {"findings.csv", "findings.tex", "tables/cells.tex", "figures/confusion.pdf", "plots/confusion.png"}
    assert files <= traced["files"].keys() and all((folder / "cf_mnist" / name).is_file() for name in traced["files"])
    assert traced["files"]["figures/confusion.pdf"] == list(traced["cells"])
    table = accepted.table().set_index("cell")
    numbers = {number["name"]: number for number in traced["numbers"]}
    number = numbers["target_class=1: l1"]
    (cell,) = number["cells"]
    assert number["value"] == table["l1"][cell] and table["target_class"][cell] == "1"
    assert traced["files"]["pictures/instance=0_target_class=1.png"] == [cell]
    runs = {run.data.tags["cfx.cell"]: run.info.run_id for run in accepted.runs("cell")}
    assert runs[cell] in traced["cells"][cell]["run"]
    record = accepted.records()[cell]
    assert traced["cells"][cell]["model"] == record["identity"]["model"]
    assert (traced["cells"][cell]["commit"], traced["cells"][cell]["lock"]) == (record["commit"], record["lock"])
    findings = pd.read_csv(folder / "cf_mnist/findings.csv")
    assert len(findings) == len(traced["numbers"])
    assert r"\toprule" in (folder / "cf_mnist/findings.tex").read_text()


def test_the_same_again_computes_nothing_and_is_equal_bit_for_bit(accepted, tmp_path):
    repository = accepted.copy(tmp_path / "again")
    done = run(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cells, 0 to compute" in done.stdout and "identical bit for bit" in done.stdout
    assert "cause" not in done.stdout and "effect" not in done.stdout
    assert len(pd.read_csv(repository.path / "artifacts/paper/comparison.csv")) == 0


def test_another_version_in_the_lock_file_is_named(accepted, tmp_path):
    repository = accepted.copy(tmp_path / "lock")
    lock = repository.path / "requirements.lock"
    lock.write_text(lock.read_text().replace("\nrich==", "\nrich==0."))
    done = run(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "within the tolerances" in done.stdout and "differs: versions: rich: " in done.stdout


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("error: nothing: is not an experiment; conf/experiment/ has atlas, cf_mnist", ("nothing",)),
        ("error: --expected: absent.json: ", ("--expected", "absent.json")),
        ("error: search.speed: no such option", ("search.speed=1",)),
    ],
)
def test_a_mistake_is_told_in_a_line(accepted, tmp_path, told, arguments):
    repository = accepted.copy(tmp_path / "mistaken")
    before = (repository.path / "params.yaml").read_text()
    done = run(repository, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(told) and done.stderr.count("\n") == 1
    assert (repository.path / "params.yaml").read_text() == before


def a_seed(repository: Repository) -> tuple[str, ...]:
    return ("seed=1",)


def a_pixel(repository: Repository) -> tuple[str, ...]:
    with np.load(repository.path / "images.npz") as file:
        arrays = dict(file)
    arrays["x_train"][0, 0, 0] ^= 255
    np.savez(repository.path / "images.npz", **arrays)
    return ()


def a_line(repository: Repository) -> tuple[str, ...]:
    source = repository.path / "cfx/methods/wachter.py"
    source.write_text(source.read_text().replace("_BETA_1, _BETA_2, _FLOOR = 0.9,", "_BETA_1, _BETA_2, _FLOOR = 0.1,"))
    return ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (a_seed, "differs: cf_mnist: seed: 0 became 1"),
        (a_pixel, "differs: cf_mnist: data: "),
        (a_line, "differs: code: cfx/methods/wachter.py: "),
    ],
)
def test_one_thing_that_is_changed_is_named_as_the_cause(accepted, tmp_path, change, named):
    repository = accepted.copy(tmp_path / "changed")
    done = run(repository, *change(repository))
    assert done.returncode == 1, done.stdout + done.stderr
    assert ": expected " in done.stdout
    assert any(line.startswith(named) for line in done.stdout.splitlines())
