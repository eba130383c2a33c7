"""The examples in the docstrings of `cfx.method`, as the modules that they say they are."""

import importlib.util
import re
import sys
from textwrap import dedent

import pytest


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """A function that gives the module in the example of a class: `documented(StepMethod).Descent`."""

    def load(of):
        name = "documented_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", of.__name__).lower()
        example = re.split(r"Example of a complete module[^:]*:\n", of.__doc__)[1]
        path = tmp_path / f"{name}.py"
        path.write_text(dedent(example))
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
