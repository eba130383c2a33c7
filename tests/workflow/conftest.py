"""A repository of its own for the tests that run the real commands, with what a small sweep leaves in it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import pandas as pd
import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]

# A small network and a short search: seconds in place of minutes, the same code.
SMALL = (
    "training.epochs=3",
    "model.filters=[16,16]",
    "model.hidden=64",
    "judges.steps=20",
    "search.max_iter=600",
    "search.max_lam_steps=3",
)
SWEEP = ("+sweep=targets", "search.target_class=0,1,other", *SMALL)


@dataclass(frozen=True)
class Repository:
    """A clone of the project, with the uncommitted changes of the working tree."""

    path: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    def environment(self, **changes: str) -> dict[str, str]:
        cleared = {key: value for key, value in os.environ.items() if key not in ("MNIST_NPZ", "MLFLOW_TRACKING_URI")}
        commands = str(Path(sys.executable).parent)
        return cleared | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"} | changes

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m ...` to its end and return what it printed."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            timeout=900,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python -m ...` in a process group of its own, with its output as one stream of lines."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "artifacts/counterfactuals.parquet")

    def records(self) -> dict[str, dict]:
        """The records of the finished cells."""
        return {path.parent.name: json.loads(path.read_text()) for path in self.path.glob("cells/*/record.json")}

    def runs(self, kind: str) -> list:
        """The MLflow runs of a kind, `sweep` or `cell`."""
        client = MlflowClient(f"sqlite:///{self.path}/mlflow.db")
        experiment = client.get_experiment_by_name("counterfactuals")
        return list(client.search_runs([experiment.experiment_id], f"tags.`cfx.kind` = '{kind}'"))

    def forget(self) -> None:
        """Remove every counterfactual and every run; the data, the classifier and the judges stay."""
        client = MlflowClient(f"sqlite:///{self.path}/mlflow.db")
        for run in [*self.runs("sweep"), *self.runs("cell")]:
            client.delete_run(run.info.run_id)
        for name in ("cells", "artifacts/counterfactuals", "mlartifacts"):
            shutil.rmtree(self.path / name)
        for name in ("artifacts/counterfactuals.parquet", "dvc.lock"):
            (self.path / name).unlink()

    def cached(self) -> dict[str, str]:
        """The environment in which DVC in any other clone takes from this one what it has trained before."""
        settings = self.path / ".dvc/tmp/settings"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "config").write_text(f"[cache]\n    dir = {self.path / '.dvc/cache'}\n")
        return {"DVC_GLOBAL_CONFIG_DIR": str(settings)}

    def copy(self, path: Path) -> "Repository":
        shutil.copytree(self.path, path, symlinks=True)
        return Repository(path)


def fresh(path: Path) -> Repository:
    """A clone in which nothing has been run."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name != "dvc.lock" and (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "clone"]):
        subprocess.run([*git, *arguments], cwd=path, check=True)
    return Repository(path)


def shared(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Repository:
    """The repository that `make` leaves in a folder, made once for all processes of pytest-xdist.

    Tests read it; those that change it take a copy.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path, complete = folder / name, folder / f"{name}.complete"
    with filelock.FileLock(folder / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(path, ignore_errors=True)
            make(path)
            complete.touch()
    return Repository(path)


@pytest.fixture(scope="session")
def swept(tmp_path_factory) -> Repository:
    """A clone after one small sweep over three target classes, in one process, each cell a job."""

    def make(path: Path) -> None:
        path.mkdir()
        done = fresh(path).run("pipelines.run", *SWEEP, "launch.cells_per_job=1")
        assert done.returncode == 0, done.stdout + done.stderr

    return shared(tmp_path_factory, "swept", make)


def state(repository: Repository) -> dict[str, str]:
    """The digest of every file that a run could have touched."""
    places = [repository.path / name for name in ("params.yaml", "dvc.lock", "mlflow.db")]
    places += [path for top in ("artifacts", "cells") for path in sorted((repository.path / top).rglob("*"))]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in places if path.is_file()}


def assert_refused(repository: Repository, told: str, *arguments: str, **environment: str) -> str:
    """A command is refused in one line, with exit code 2, and changes nothing; returns what it wrote to stderr."""
    before = state(repository)
    done = repository.run("pipelines.run", *arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert told in line
    assert state(repository) == before
    return done.stderr
