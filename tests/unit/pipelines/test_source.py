"""Which source files a module needs, by its imports."""

from pathlib import Path

import pytest

import cfx
from pipelines.cells import source

CFX = Path(cfx.__file__).parent


@pytest.fixture
def project(tmp_path):
    """Writes the packages `one` and `two` of a project; gives the names that the module `one/start.py` needs."""

    def needed(start: str, place: str = "one/start.py", **others: str) -> set[str]:
        for name in ("one/__init__.py", "one/part/__init__.py", "two/__init__.py", "one/a.py", "two/b.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        for name, text in {place: start, **others}.items():
            (tmp_path / name).write_text(text)
        found = source.modules(tmp_path / place)
        return {path.relative_to(tmp_path).as_posix() for path in found} - {place}

    return needed


def test_imports_are_followed_through_modules_and_packages(project):
    assert project("import one.a", **{"one/a.py": "from two.b import x"}) == {"one/a.py", "two/b.py"}


def test_two_modules_that_import_each_other_need_each_other(project):
    assert project("from one import a", **{"one/a.py": "from one import start"}) == {"one/a.py"}


@pytest.mark.parametrize("statement", ["import numpy", "from json import loads", "import onerous, two_more"])
def test_what_other_people_wrote_is_left_out(project, statement):
    assert project(statement) == set()


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("from one import a", "one/a.py"),
        ("from one.a import x", "one/a.py"),
        ("import one.a as other", "one/a.py"),
        ("from one import part", "one/part/__init__.py"),
        ("import one", "one/__init__.py"),
        ("from one import x", "one/__init__.py"),
        ("from one import *", "one/__init__.py"),
        ("from one.part import x", "one/part/__init__.py"),
    ],
)
def test_a_package_is_needed_only_for_what_is_not_one_of_its_modules(project, statement, file):
    assert project(statement) == {file}


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("from . import c", "one/part/c.py"),
        ("from .c import x", "one/part/c.py"),
        ("from .. import a", "one/a.py"),
        ("from ..a import x", "one/a.py"),
        ("from . import x", "one/part/__init__.py"),
    ],
)
def test_a_relative_import_starts_from_the_package_of_the_module(project, statement, file):
    assert project(statement, "one/part/start.py", **{"one/part/c.py": ""}) == {file}


def test_a_relative_import_of_a_package_starts_from_itself(project):
    assert project("from .c import x", "one/part/__init__.py", **{"one/part/c.py": ""}) == {"one/part/c.py"}


def test_an_import_inside_a_function_counts(project):
    assert project("def f():\n    if True:\n        from two import b\n") == {"two/b.py"}


@pytest.mark.parametrize("condition", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_an_import_for_a_type_checker_alone_does_not_count(project, condition):
    assert project(f"if {condition}:\n    from two import b\nelse:\n    from one import a\n") == {"one/a.py"}


def test_a_submodule_that_is_missing_is_an_error(project):
    with pytest.raises(FileNotFoundError, match="neither a module nor a package"):
        project("import one.gone")


def test_a_method_needs_what_it_is_made_of_and_no_other_method():
    needed = {path.relative_to(CFX).as_posix() for path in source.modules(CFX / "methods" / "primal_dual.py")}
    assert {"methods/primal_dual.py", "proximal.py", "cycles.py", "method.py"} <= needed
    assert "methods/wachter.py" not in needed


def test_the_engine_needs_no_method():
    needed = {path.relative_to(CFX).as_posix() for path in source.modules(CFX / "search.py")}
    assert {"program.py", "classifier.py"} <= needed
    assert not [name for name in needed if name.startswith("methods/")]
