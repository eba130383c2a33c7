"""The report's LaTeX tables compile as they are, with nothing but the packages that they name."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from pipelines.reporting import tables
from tests.services.conftest import missing

pytestmark = pytest.mark.service

DOCUMENT = r"""
\documentclass{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,longtable}
\begin{document}
%s
\end{document}
"""


@pytest.fixture
def compiled(tmp_path):
    """A function that compiles tables to a PDF and returns what LaTeX had to say."""
    if shutil.which("pdflatex") is None or not has_booktabs():
        missing("there is no pdflatex with booktabs; `make services` installs it")

    def compile(*texts: str) -> str:
        (tmp_path / "paper.tex").write_text(DOCUMENT % "\n".join(texts), encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / "paper.pdf").stat().st_size > 1000
        return done.stdout

    return compile


def has_booktabs() -> bool:
    return bool(subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, text=True).stdout)


def test_the_tables_of_a_sweep_compile_and_fit_the_page(swept, compiled):
    files = sorted((swept.path / "artifacts/report/tables").glob("*.tex"))
    assert [path.name for path in files] == ["cells.tex", "counterfactuals.tex"]
    said = compiled(*(path.read_text(encoding="utf-8") for path in files))
    # points by which a line is wider than the page
    assert [width for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said) if float(width) > 1] == []


def test_text_that_means_something_to_latex_compiles(compiled):
    text = r"50% of $x_1$ & \input{/etc/passwd} #1 {~^} <>|"
    table = pd.DataFrame({"my_axis": [text] * 100, "l1": range(100)})
    compiled(tables.latex(table[:3], "Short.", "tab:short"), tables.latex(table, "Long.", "tab:long", True))
