"""The import graph of this project's own packages: which source files a module needs.

A cell's identity and the test of the dependencies in dvc.yaml derive from it, so that nobody has to list by hand what
decides a result.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What stages import and what does not decide their outputs: it shows a person what they do meanwhile.
_SHOWN = ("pipelines/terminal.py", "pipelines/progress.py")
# The same for the stages that make data and models: how params.yaml is read, whose sections DVC compares, where the
# outputs lie, and whether a sweep fits the data. A change there must not train everything again.
_MAKING = ("prepare", "train", "judges", "guides", "variants")
_READ = ("pipelines/config/schema.py", "pipelines/cells/paths.py", "pipelines/cells/plan.py")
# Its modules are imported by their names, which no import statement shows.
_METHODS = ROOT / "cfx" / "methods"


@cache
def stage_modules(name: str) -> frozenset[Path]:
    """The source files that decide what a stage of dvc.yaml makes; where it has methods by their names, all of them."""
    aside = frozenset(ROOT / path for path in (*_SHOWN, *(_READ if name in _MAKING else ())))
    found = modules(ROOT / "pipelines" / "stages" / f"{name}.py", aside)
    if _METHODS / "__init__.py" in found:
        found = found.union(*(modules(path, aside) for path in _METHODS.glob("*.py")))
    return found


@cache
def modules(path: Path, aside: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The source files that a module imports, directly or not, itself included, of all packages beside its own.

    Packages of others, which lie elsewhere, are left out. An import inside a function counts, one for a type checker
    alone does not. `from package import name` needs the submodule of that name where there is one, otherwise the
    package's `__init__.py`. Those that are put aside, and what only they import, are left out.

    Files are read once a process. Raises FileNotFoundError for a submodule that is missing.
    """
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in aside:
            found.add(module)
            waiting += _imported(module)
    return frozenset(found)


@cache
def _imported(module: Path) -> tuple[Path, ...]:
    """What a module imports itself."""
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
        found += [_file(root.joinpath(*parts), name) for parts, name in named if (root / parts[0]).is_dir()]
    return tuple(found)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports among nodes and inside them, without those for a type checker alone."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(node.orelse)
        else:
            yield from _imports(ast.iter_child_nodes(node))


def _file(place: Path, name: str) -> Path:
    """The source of `import place` or, with a name, of `from place import name`."""
    candidates = [place / f"{name}.py", place / name / "__init__.py"] if name else []
    candidates += [place.with_name(f"{place.name}.py"), place / "__init__.py"]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{place}: neither a module nor a package")
