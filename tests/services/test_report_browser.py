"""The report in a real browser: everything is drawn, nothing is fetched, tables sort and links lead somewhere."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.workflow.conftest import Repository

pytestmark = pytest.mark.service

RUNS = "http://127.0.0.1:5000/#/experiments/1/runs"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def reported(swept: Repository, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The report of a sweep whose runs have addresses: the page's file, and the table it shows."""
    repository = swept.copy(tmp_path_factory.mktemp("reported") / "clone")
    table = repository.table()
    addresses = {cell: f"{RUNS}/of-{cell}" for cell in table["cell"]}
    (repository.path / "artifacts/runs.json").write_text(json.dumps(addresses | {"sweep": f"{RUNS}/parent"}))
    done = repository.run("pipelines.stages.report")
    assert done.returncode == 0, done.stderr
    page = repository.path / "artifacts/report/index.html"
    return SimpleNamespace(path=page, table=table, repository=repository)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="there is no playwright; `make services` installs it"
    )
    with playwright.sync_playwright() as started:
        # Chromium's sandbox refuses root
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where pictures of the page are kept: the folder that CFX_SCREENSHOTS names, or the test's own."""
    folder = Path(os.environ.get("CFX_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opened(browser, reported) -> Iterator:
    """The page in a new window, with what it asked for and what it complained of."""
    page = browser.new_page(viewport=WIDE)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(reported.path.as_uri())
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [reported.path.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_picture_is_drawn_and_nothing_is_wider_than_the_window(opened, screenshots, scheme, size):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size(size)
    widths = opened.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    # three cells of three panels, the confusion matrix, the training, the examples, four charts against target_class
    assert len(widths) > 3 * 3 + 2 + 1 + 4 and min(widths) > 0
    assert opened.evaluate("document.scrollingElement.scrollWidth") <= size["width"]
    opened.screenshot(path=screenshots / f"report-{scheme}-{size['width']}.png", full_page=True)


@pytest.mark.parametrize(
    ("table", "head", "column"), [("cells", "L1", "l1"), ("counterfactuals", "probability", "probability")]
)
def test_a_click_on_a_columns_head_sorts_by_it(opened, reported, table, head, column):
    heads = opened.locator(f"table[aria-labelledby={table}] thead th")
    place = heads.all_text_contents().index(f"{head}")
    shown = opened.locator(f"table[aria-labelledby={table}] tbody tr > :nth-child({place + 1})")
    digits = {"l1": 1, "probability": 3}[column]
    rising = [f"{value:.{digits}f}" for value in sorted(reported.table[column])]
    heads.nth(place).get_by_role("button").click()
    assert shown.all_text_contents() == rising
    assert heads.nth(place).get_attribute("aria-sort") == "ascending"
    heads.nth(place).get_by_role("button").click()
    assert shown.all_text_contents() == rising[::-1]


def test_a_row_leads_to_its_picture_and_to_its_run(opened, reported):
    row = reported.table.iloc[1]
    of_row = opened.locator("table[aria-labelledby=counterfactuals] tbody tr").nth(1)
    of_row.get_by_role("link", name=str(row["instance"])).click()
    article = opened.locator("article:target")
    assert f"target_class={row['target_class']}" in article.inner_text()
    # the page scrolls there by itself, which takes a moment
    top = "document.querySelector('article:target').getBoundingClientRect().top"
    opened.wait_for_function(f"0 <= {top} && {top} < innerHeight")
    run = of_row.get_by_role("link", name="run")
    assert run.get_attribute("href") == f"{RUNS}/of-{row['cell']}"
    assert opened.get_by_role("link", name="the sweep in MLflow").get_attribute("href") == f"{RUNS}/parent"


def test_the_page_prints(opened, screenshots):
    printed = opened.pdf(path=screenshots / "report.pdf", format="A4", print_background=False)
    assert printed.count(b"/Type /Page\n") >= 3
    opened.emulate_media(media="print")
    assert not opened.locator("nav").is_visible()


def test_the_page_of_the_blind_rating_saves_answers_that_the_command_evaluates(browser, reported, tmp_path):
    page = browser.new_page(viewport=WIDE)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(reported.path.with_name("rating.html").as_uri())
    assert page.inner_text("#progress") == "Picture 1 of 4"
    assert page.evaluate("document.getElementById('picture').naturalWidth") == 112
    page.keyboard.press("7")
    page.keyboard.press("1")
    page.click("#back")
    page.get_by_role("button", name="none").click()
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "answers.csv")
    assert [line.split(",", 1)[1] for line in (tmp_path / "answers.csv").read_text().splitlines()] == [
        "picture,answer",
        "1,7",
        "2,-1",
    ]
    page.keyboard.press("0")
    page.keyboard.press("0")
    assert page.inner_text("#progress") == "You have answered all 4 pictures. Save the answers."
    assert not page.is_visible("#picture")
    assert said == []
    done = reported.repository.run("pipelines.rating", str(tmp_path / "answers.csv"))
    assert done.returncode == 0 and "95 % interval" in done.stdout, done.stderr
    assert (reported.repository.path / "artifacts/rating.csv").read_text().startswith("source,answers,share,low,high")
    done = reported.repository.run("pipelines.rating", "elsewhere.csv")
    assert done.returncode == 2 and done.stderr.startswith("error: elsewhere.csv: no such file")
