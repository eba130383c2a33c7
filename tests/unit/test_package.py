"""What is installed: every package and file, and as dependencies what the code imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from setuptools import Distribution

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
# `cfx.attack` runs only in an environment of a user's file that has PyTorch, and `cfx.frameworks` imports by name
ELSEWHERE = {"torch"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def imported(package: str) -> set[str]:
    """The distributions that a package imports."""
    modules = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
    known = packages_distributions()
    others = modules - sys.stdlib_module_names - {"cfx", "pipelines"} - ELSEWHERE
    # several distributions may have parts of one module, such as mlflow and mlflow-skinny
    return {min(known[name], key=len).lower() for name in others}


LIBRARY = names(PROJECT["project"]["dependencies"])
WORKFLOW = names(PROJECT["project"]["optional-dependencies"]["workflow"])


def test_the_library_needs_what_it_imports_and_nothing_else():
    assert imported("cfx") == LIBRARY


def test_the_workflow_declares_what_it_imports():
    assert imported("pipelines") - LIBRARY <= WORKFLOW
    # pandas needs pyarrow for parquet, DVC uses ruamel.yaml.clib, and cfx.frameworks imports skops by name
    assert WORKFLOW - imported("pipelines") == {"pyarrow", "ruamel.yaml.clib", "skops"}


@pytest.fixture
def shipped(monkeypatch) -> dict[str, list[str]]:
    """The files of each package in the wheel that are no modules."""
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    return {package: files for package, _, _, files in command.data_files}


@pytest.mark.parametrize("package", ["cfx", "pipelines"])
def test_every_package_and_its_files_are_in_the_wheel(package, shipped):
    folders = {path.parent for path in (ROOT / package).rglob("__init__.py")}
    listed = {name for name in SETUPTOOLS["packages"] if name.split(".")[0] == package and name != "pipelines.project"}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == listed
    for folder in folders:
        below = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
        files = {path for path in below if next(one for one in path.parents if one in folders) == folder}
        assert files == {folder / name for name in shipped[".".join(folder.relative_to(ROOT).parts)]}


def test_no_config_file_in_the_wheel_needs_the_peers_of_a_clone(shipped):
    peers = {path.stem for path in (ROOT / "peers").glob("*.py")}
    needing = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml") if names_one(path, peers)}
    assert len(needing) > len(peers)
    everything = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert set(shipped["pipelines.project"]) == (everything - needing) | {"dvc.yaml", "paper/expected.json"}


def names_one(path: Path, peers: set[str]) -> bool:
    return any(peer in path.read_text() for peer in {"peers/", ".venv-peers", *peers})
