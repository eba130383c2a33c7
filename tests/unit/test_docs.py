"""README.md and docs/ against the repository: links, commands, and the names and messages that they quote."""

import ast
import re
import shlex
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from cfx import methods
from cfx.metrics import MEASURES
from cfx.result import COLUMNS
from pipelines.__main__ import COMMANDS
from pipelines.cells import measures
from pipelines.config import compose
from pipelines.launching import fan_out
from pipelines.stages import prepare, train

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"(?<!`)\[[^]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"# (\w+\.(?:py|yaml))\n")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


def blocks(language):
    """The code blocks in a language, each with its page; a command on several lines is on one here."""
    found = [(page, code) for page in PAGES for tongue, code in BLOCK.findall(page.read_text()) if tongue == language]
    return [(page, re.sub(r" *\\\n *", " ", code) if language == "bash" else code) for page, code in found]


def write_files(folder):
    """Write the blocks that are files, such as one that starts with "# my_method.py"."""
    for _, code in blocks("python") + blocks("yaml"):
        if file := FILE.match(code):
            (folder / file[1]).write_text(code)


def commands(program):
    """What follows that program in the lines of the shell blocks, without comments."""
    lines = chain.from_iterable(code.splitlines() for _, code in blocks("bash"))
    called = [shlex.split(line, comments=True) for line in lines if program in line]
    return sorted({tuple(words[words.index(program) + 1 :]) for words in called if program in words})


def anchors(page):
    """The anchors of a page's headings, as GitHub and MkDocs write them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_and_picture_exists(page):
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        # the anchors of the API are made from the source: `make docs` checks them
        if anchor and not anchor.startswith("cfx."):
            assert anchor in anchors(target), link


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files that the commands name; the data and the method are those of the pages."""
    folder = tmp_path_factory.mktemp("pages")
    write_files(folder)
    data = [code for _, code in blocks("python") if "np.save" in code or "to_csv" in code]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code in data:
            exec(code, {"np": np})
    for file in ("mine.keras", "mine.pt", "mine.skops"):
        (folder / file).touch()
    (folder / "peers").symlink_to(ROOT / "peers")
    for environment in ("alibi", "torch"):
        # an interpreter that can read the files; their libraries are imported by a search only
        python = folder / f".venv-peers/{environment}/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
    fan_out.use_presets()
    return folder


RUNS = {*commands("pipelines.run"), *(words[1:] for words in commands("cfx") if words[0] == "run")}


@pytest.mark.parametrize("arguments", sorted(RUNS), ids=" ".join)
def test_every_command_composes(arguments, files, monkeypatch):
    monkeypatch.chdir(files)
    for variable in ("MNIST_NPZ", "FASHION_MNIST_NPZ"):
        monkeypatch.delenv(variable, raising=False)
    if "--help" not in arguments:
        assert compose.compose(arguments).params


def test_every_command_of_cfx_exists():
    assert {words[0] for words in commands("cfx")} <= COMMANDS.keys()


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named | {words[0] for words in commands("make")} <= targets


@pytest.mark.parametrize(("page", "code"), blocks("python"), ids=lambda value: getattr(value, "stem", ""))
def test_every_python_example_parses(page, code):
    assert ast.parse(code)


def test_every_method_has_a_page_and_every_column_and_metric_a_row():
    assert {page.stem for page in ROOT.glob("docs/methods/*.md")} == {"index", *methods.names()}
    columns = (ROOT / "docs/reference/columns.md").read_text()
    named = {*COLUMNS, *MEASURES, *(measure.name for measure in measures.MEASURES)}
    assert {column for column in named if f"`{column}`" not in columns} == set()


def test_every_message_that_a_page_quotes_is_in_the_code():
    sources = chain(ROOT.glob("cfx/**/*.py"), ROOT.glob("pipelines/**/*.py"))
    # a message may span several literals
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in sources))
    code = code.replace("{invocation('run')}", "python -m pipelines.run")
    # a stage replaces the arguments that the library names
    code += "".join(code.replace(*names) for names in (*prepare.OPTIONS.items(), *train.OPTIONS.items()))
    rows = re.findall(r"^\| (``?)(?!-)(.*?) ?\1 \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 30
    # the code may put it together from clauses and values
    clauses = {clause.strip() for _, message in rows for clause in re.split("…|: |; ", message)}
    assert {clause for clause in clauses if re.search(r"\w{2}", clause) and clause.strip("() ,") not in code} == set()
