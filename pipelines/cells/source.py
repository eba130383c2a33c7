"""The import graph of this project's modules, for the identity of a cell and the dependencies in dvc.yaml."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from pipelines.config import ROOT

PACKAGES = ("cfx", "pipelines")
# Modules that do not affect the outputs of a stage.
_OUTPUT = ("pipelines/config/__init__.py", "pipelines/terminal.py", "pipelines/progress.py")
# Modules that do not affect the data and the models: params.yaml, whose sections DVC compares, paths, and checks.
_TRAINING_STAGES = ("prepare", "train", "judges", "guides", "variants")
_PARAMETERS = (
    *("pipelines/config/schema.py", "pipelines/config/sections.py"),
    *("pipelines/cells/paths.py", "pipelines/cells/plan.py"),
)
# Its modules are imported by name, without an import statement.
_METHODS = ROOT / "cfx" / "methods"
# Modules for the files of custom methods, which import them.
FOR_FILES = (ROOT / "cfx" / "attack.py", ROOT / "cfx" / "keras2.py")


@cache
def stage_modules(name: str) -> frozenset[Path]:
    """The source files that affect the outputs of a stage of dvc.yaml."""
    excluded = frozenset(ROOT / path for path in (*_OUTPUT, *(_PARAMETERS if name in _TRAINING_STAGES else ())))
    found = modules(ROOT / "pipelines" / "stages" / f"{name}.py", excluded)
    if _METHODS / "__init__.py" in found:
        found = found.union(*(modules(path, excluded) for path in (*_METHODS.glob("*.py"), *FOR_FILES)))
    return found


@cache
def modules(path: Path, excluded: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The source files that a module imports directly or indirectly, and the module itself.

    Only `PACKAGES` in the same folder as its own package count. Imports inside functions count, those under
    TYPE_CHECKING do not. `from package import name` needs the submodule of that name if it exists, otherwise the
    `__init__.py` of the package. Raises FileNotFoundError for a missing submodule.
    """
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in excluded:
            found.add(module)
            waiting += _imported(module)
    return frozenset(found)


@cache
def _imported(module: Path) -> tuple[Path, ...]:
    """The direct imports of a module."""
    root = module.parent
    while (root / "__init__.py").exists():
        root = root.parent
    package = module.parent.relative_to(root).parts
    found = []
    for node in _imports(ast.parse(module.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            named = [(alias.name.split("."), "") for alias in node.names]
        else:
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            named = [(base, alias.name) for alias in node.names]
        found += [_file(root.joinpath(*parts), name) for parts, name in named if parts[0] in PACKAGES]
    return tuple(found)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports in nodes and their children, without those under TYPE_CHECKING."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(node.orelse)
        else:
            yield from _imports(ast.iter_child_nodes(node))


def _file(package: Path, name: str) -> Path:
    """The source file of `import package` or, with a name, of `from package import name`."""
    candidates = [package / f"{name}.py", package / name / "__init__.py"] if name else []
    candidates += [package.with_name(f"{package.name}.py"), package / "__init__.py"]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{package}: neither a module nor a package")
