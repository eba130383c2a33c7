"""The package away from its clone: built, installed elsewhere, and used in a folder that it made."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, SWEEP, Repository

pytestmark = pytest.mark.slow


def called(*command: str | Path, cwd: Path, **environment: str) -> str:
    cleared = {key: value for key, value in os.environ.items() if key not in ("MNIST_NPZ", "PYTHONPATH")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=cleared | environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that is built from the sdist, which is built from a copy of the files that git knows."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in called("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    # without a network: setuptools is in the environment
    options = ("--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", built)
    called(sys.executable, "-m", "uv", "build", *options, cwd=source)
    (found,) = built.glob("*.whl")
    assert len(list(built.glob("*.tar.gz"))) == 1
    return found


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory) -> Path:
    """The commands of an environment with the package, which also sees the packages of this environment."""
    environment = tmp_path_factory.mktemp("environment")
    uv = (sys.executable, "-m", "uv")
    called(*uv, "venv", "--offline", "--clear", "--python", sys.executable, environment, cwd=environment)
    python = environment / "bin/python"
    called(*uv, "pip", "install", "--offline", "--no-deps", "--python", python, wheel, cwd=environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"


def test_a_sweep_in_a_folder_made_by_the_installed_package_finds_the_cells_of_a_clone(commands, swept, tmp_path):
    called(commands / "cfx", "init", "x", cwd=tmp_path)
    folder = Repository(tmp_path / "x")
    for package in ("cfx", "pipelines"):
        file = called(commands / "python", "-c", f"import {package}; print({package}.__file__)", cwd=folder.path)
        assert Path(file).is_relative_to(commands.parent)
    called(commands / "cfx", "run", *SWEEP, cwd=folder.path)
    assert "counterfactual" in (folder.path / "artifacts/report/index.html").read_text()
    assert len(folder.runs("sweep")) == 1 and len(folder.runs("cell")) == len(folder.records()) == 3
    # the source of the method and the engine is part of a cell's identity
    assert folder.records().keys() == swept.records().keys()
    version = called(commands / "cfx", "--version", cwd=folder.path).strip()
    for record in folder.records().values():
        assert record["commit"] is None and record["versions"]["counterfactual-instances"] == version
    assert all("counterfactual-instances" not in record["versions"] for record in swept.records().values())
    # all is done, for DVC and for the driver
    assert "up to date" in called(commands / "python", "-m", "dvc", "status", cwd=folder.path)
    assert "0 to compute" in called(commands / "cfx", "run", *SWEEP, cwd=folder.path)
    shown = called(commands / "cfx", "reproduce", next(iter(folder.records())), cwd=folder.path)
    assert f"counterfactual-instances[workflow]=={version}" in shown and "cfx init again && cd again" in shown


def test_the_library_needs_no_package_of_the_workflow(wheel, tmp_path):
    uv = (sys.executable, "-m", "uv")
    called(*uv, "pip", "install", "--offline", "--no-deps", "--target", tmp_path, wheel, cwd=tmp_path)
    program = """
import importlib, json, pkgutil, sys
for name in ("dvc", "filelock", "hydra", "jinja2", "mlflow", "omegaconf", "psutil", "pyarrow", "pydantic", "yaml"):
    sys.modules[name] = None
import cfx
for module in pkgutil.walk_packages(cfx.__path__, "cfx."):
    importlib.import_module(module.name)
print(json.dumps([cfx.__file__, cfx.__version__, [getattr(cfx, name).__name__ for name in cfx.__all__]]))
"""
    told = called(sys.executable, "-c", program, cwd=tmp_path)
    file, version, names = json.loads(told.splitlines()[-1])
    assert Path(file).is_relative_to(tmp_path) and (Path(file).parent / "py.typed").exists()
    assert version in wheel.name and "find_counterfactuals" in names
