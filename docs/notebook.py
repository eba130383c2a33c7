"""Append the notebook with its outputs to the page `tutorial.md`. A hook of MkDocs, see mkdocs.yml."""

import re
from functools import cache
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOK, PAGE = "notebooks/cf_mnist.ipynb", "tutorial.md"


@cache
def _converted() -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, with its headings one level below that of the page, and its pictures by name."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub("^#", "##", cell.source, flags=re.MULTILINE)
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"output_files_dir": "tutorial"})
    return text, resources["outputs"]


def on_files(files: Files, config: Any) -> Files:
    """Add the pictures."""
    for name, content in _converted()[1].items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Append the text."""
    return f"{markdown}\n\n{_converted()[0]}" if page.file.src_uri == PAGE else markdown
