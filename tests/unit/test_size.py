"""What keeps modules short enough to be read at once, and methods from being tied to each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("cfx", "pipelines") for path in (ROOT / package).rglob("*.py"))
MOST_LINES_OF_A_MODULE, MOST_LINES_OF_A_FUNCTION = 300, 60


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_and_its_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES_OF_A_MODULE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {function.name: function.end_lineno - function.lineno + 1 for function in functions}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_the_engine_knows_no_method():
    # what a cell's identity follows: a method that the engine imported would make all other methods' cells stale
    engine = [path for path in (ROOT / "cfx").glob("*.py") if path.name != "__init__.py"]
    assert len(engine) > 15
    for path in engine:
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                imported = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in imported if name.startswith("cfx.methods.")], path
