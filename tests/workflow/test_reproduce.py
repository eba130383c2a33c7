"""`python -m pipelines.reproduce`: a cell again, from its record alone."""

import json
import subprocess

import pytest

from tests.workflow.conftest import Repository


@pytest.fixture
def repository(swept, tmp_path) -> Repository:
    return swept.copy(tmp_path / "clone")


def a_cell(repository) -> str:
    table = repository.table()
    return table.loc[table["target_class"] == "1", "cell"].item()


def test_the_commands_say_what_cannot_be_guessed(repository):
    told = repository.run("pipelines.reproduce", a_cell(repository)).stdout
    record = repository.records()[a_cell(repository)]
    for part in (record["commit"], record["lock"], record["identity"]["data"], "search.target_class=1"):
        assert part in told
    row = repository.table()["target_class"].tolist().index("1")
    assert repository.run("pipelines.reproduce", str(row)).stdout == told
    for nothing in ("nothing", "3"):
        refused = repository.run("pipelines.reproduce", nothing)
        assert refused.returncode == 2 and "is not a cell or a row" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_cell_is_made_again_bit_for_bit_and_a_changed_line_of_the_search_is_the_only_difference_named(repository):
    source, cell = repository.path / "cfx/methods/wachter.py", a_cell(repository)
    source.write_text(source.read_text() + "\nUNUSED = 1\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-qm", "change", "cfx"], cwd=repository.path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository.path, capture_output=True, text=True).stdout
    path = repository.path / "artifacts/counterfactuals" / f"{cell}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": head.strip()}))
    (run,) = [run for run in repository.runs("cell") if run.data.tags["cfx.cell"] == cell]
    done = repository.run("pipelines.reproduce", run.info.run_id, "--check", **repository.cached())
    assert done.returncode == 0, done.stdout + done.stderr
    _, *named = [line.split(":")[0].strip() for line in done.stdout.splitlines()]
    assert named == ["the counterfactuals are identical bit for bit", "code (SHA-256)"]
