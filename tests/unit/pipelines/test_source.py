"""Which source files a module needs, by its imports."""

from pathlib import Path

import pytest

import cfx
from pipelines.cells import source

CFX = Path(cfx.__file__).parent


@pytest.fixture
def project(tmp_path):
    """Writes the packages `cfx` and `pipelines` of a project; gives the names that the module `cfx/start.py` needs."""

    def needed(start: str, place: str = "cfx/start.py", **others: str) -> set[str]:
        for name in ("cfx/__init__.py", "cfx/part/__init__.py", "pipelines/__init__.py", "cfx/a.py", "pipelines/b.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        for name, text in {place: start, **others}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        found = source.modules(tmp_path / place)
        return {path.relative_to(tmp_path).as_posix() for path in found} - {place}

    return needed


def test_imports_are_followed_through_modules_and_packages(project):
    assert project("import cfx.a", **{"cfx/a.py": "from pipelines.b import x"}) == {"cfx/a.py", "pipelines/b.py"}


def test_two_modules_that_import_each_other_need_each_other(project):
    assert project("from cfx import a", **{"cfx/a.py": "from cfx import start"}) == {"cfx/a.py"}


@pytest.mark.parametrize("statement", ["import numpy", "from json import loads", "import cfx_more, pipelines_more"])
def test_what_other_people_wrote_is_left_out_also_beside_an_installed_package(project, statement):
    assert project(statement, **{"numpy/__init__.py": ""}) == set()


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("from cfx import a", "cfx/a.py"),
        ("from cfx.a import x", "cfx/a.py"),
        ("import cfx.a as other", "cfx/a.py"),
        ("from cfx import part", "cfx/part/__init__.py"),
        ("import cfx", "cfx/__init__.py"),
        ("from cfx import x", "cfx/__init__.py"),
        ("from cfx import *", "cfx/__init__.py"),
        ("from cfx.part import x", "cfx/part/__init__.py"),
    ],
)
def test_a_package_is_needed_only_for_what_is_not_one_of_its_modules(project, statement, file):
    assert project(statement) == {file}


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("from . import c", "cfx/part/c.py"),
        ("from .c import x", "cfx/part/c.py"),
        ("from .. import a", "cfx/a.py"),
        ("from ..a import x", "cfx/a.py"),
        ("from . import x", "cfx/part/__init__.py"),
    ],
)
def test_a_relative_import_starts_from_the_package_of_the_module(project, statement, file):
    assert project(statement, "cfx/part/start.py", **{"cfx/part/c.py": ""}) == {file}


def test_a_relative_import_of_a_package_starts_from_itself(project):
    assert project("from .c import x", "cfx/part/__init__.py", **{"cfx/part/c.py": ""}) == {"cfx/part/c.py"}


def test_an_import_inside_a_function_counts(project):
    assert project("def f():\n    if True:\n        from pipelines import b\n") == {"pipelines/b.py"}


@pytest.mark.parametrize("condition", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_an_import_for_a_type_checker_alone_does_not_count(project, condition):
    assert project(f"if {condition}:\n    from pipelines import b\nelse:\n    from cfx import a\n") == {"cfx/a.py"}


def test_a_submodule_that_is_missing_is_an_error(project):
    with pytest.raises(FileNotFoundError, match="neither a module nor a package"):
        project("import cfx.gone")


def test_a_method_needs_what_it_is_made_of_and_no_other_method():
    needed = {path.relative_to(CFX).as_posix() for path in source.modules(CFX / "methods" / "primal_dual.py")}
    assert {"methods/primal_dual.py", "proximal.py", "cycles.py", "method.py"} <= needed
    assert "methods/wachter.py" not in needed


def test_the_engine_needs_no_method():
    needed = {path.relative_to(CFX).as_posix() for path in source.modules(CFX / "search.py")}
    assert {"program.py", "classifier.py"} <= needed
    assert not [name for name in needed if name.startswith("methods/")]
