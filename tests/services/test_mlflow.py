"""MLflow as its readers meet it: the UI of a real sweep in a real browser, and a server that two sweeps log to at once.

With CFX_SCREENSHOTS=folder the screenshots are kept there.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from mlflow import MlflowClient

from tests.services.conftest import missing
from tests.services.mlflow_server import serving
from tests.workflow.conftest import SMALL, SWEEP

try:
    import psycopg2
    from playwright.sync_api import Locator, Page, expect, sync_playwright
except ModuleNotFoundError as error:
    missing(f"{error.name} is not installed; `make services` does it")

pytestmark = pytest.mark.service

PASSWORD = secrets.token_hex()
# what a browser may take to draw a page on a busy machine, in milliseconds
LONG = 60_000

COLUMNS = [
    *("params.`target_class`", "params.`lam_init`", "params.`learning_rate`"),
    *("metrics.`l1`", "metrics.`probability`", "metrics.`runtime_s`", "metrics.`validity`"),
]


@pytest.fixture(scope="module")
def eleven(swept, tmp_path_factory):
    """A clone after a sweep over all targets."""
    repository = swept.copy(tmp_path_factory.mktemp("eleven") / "clone")
    done = repository.run("pipelines.run", "+sweep=targets", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return repository


@pytest.fixture(scope="module")
def runs(eleven):
    """The sweep's run and those of its cells."""
    parent = eleven.runs("sweep")[0]
    cells = [run for run in eleven.runs("cell") if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert len(cells) == 11
    return parent, cells


@pytest.fixture(scope="module")
def ui(eleven, tmp_path_factory):
    """The address of the UI over the runs of that clone."""
    folder = tmp_path_factory.mktemp("ui")
    with serving(f"sqlite:///{eleven.path}/mlflow.db", folder / "files", folder / "server.log") as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        # the plots of the compare page are drawn by WebGL, here without a GPU
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, ui):
    """A page that notes which hosts are asked for anything."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    # the assistant, which MLflow opens beside what is looked at
    page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    asked = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    yield page
    page.close()
    assert asked == {urlsplit(ui).netloc}


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("CFX_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def view(parent, mode: str) -> str:
    """The address inside the UI that the description of a sweep gives for its cells."""
    (address,) = re.findall(rf"\((#[^)]*compareRunsMode={mode})\)", parent.data.tags["mlflow.note.content"])
    return address


def assert_loaded(image: Locator) -> None:
    expect(image).to_be_visible(timeout=LONG)
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def assert_no_error(page: Page) -> None:
    expect(page.get_by_text(re.compile("something went wrong|error loading", re.IGNORECASE))).to_have_count(0)


def test_the_table_of_a_sweep_shows_what_was_swept_and_what_was_found(ui, runs, page, screenshots):
    parent, cells = runs
    page.goto(f"{ui}/{view(parent, 'TABLE')}")
    for column in COLUMNS:
        expect(page.locator(f"[role=columnheader][col-id='{column}']")).to_be_visible(timeout=LONG)
    shown = {
        header.get_attribute("col-id"): int(header.get_attribute("aria-colindex"))
        for header in page.locator("[role=columnheader][col-id]").all()
    }
    assert sorted(COLUMNS, key=shown.get) == COLUMNS
    for run in cells:
        expect(page.get_by_text(run.info.run_name, exact=True)).to_be_visible()
    page.screenshot(path=screenshots / "mlflow-table.png")
    assert_no_error(page)


def test_the_charts_of_a_sweep_draw_what_was_swept_against_what_was_found(ui, runs, page, screenshots):
    page.goto(f"{ui}/{view(runs[0], 'CHART')}")
    expect(page.get_by_text("Parallel Coordinates")).to_be_visible(timeout=LONG)
    expect(page.locator("canvas, .main-svg").first).to_be_visible(timeout=LONG)
    page.wait_for_timeout(2000)
    page.screenshot(path=screenshots / "mlflow-charts.png")
    assert_no_error(page)


def test_the_compare_page_of_all_cells_draws_its_plots(ui, runs, page, screenshots):
    parent, cells = runs
    ids, experiments = (
        json.dumps(names) for names in ([run.info.run_id for run in cells], [parent.info.experiment_id])
    )
    page.goto(f"{ui}/#/compare-runs?runs={quote(ids)}&experiments={quote(experiments)}")
    for plot in ("Parallel Coordinates Plot", "Scatter Plot"):
        page.get_by_role("tab", name=plot).click(timeout=LONG)
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=LONG)
        page.wait_for_timeout(1000)
        page.screenshot(path=screenshots / f"mlflow-compare-{plot.split()[0].lower()}.png")
        assert_no_error(page)


def test_the_description_of_a_sweep_shows_its_contact_sheet(ui, runs, page, screenshots):
    page.goto(f"{ui}/#/experiments/{runs[0].info.experiment_id}/runs/{runs[0].info.run_id}")
    assert_loaded(page.locator("img[src*='contact_sheet']"))
    page.screenshot(path=screenshots / "mlflow-sweep.png")
    assert_no_error(page)


def test_a_cell_shows_its_pictures(ui, runs, page, screenshots):
    run = runs[1][0]
    page.goto(f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("counterfactual", timeout=LONG)
    assert_loaded(page.locator("img[src*='counterfactual']").first)
    page.screenshot(path=screenshots / "mlflow-cell.png")
    assert_no_error(page)


@pytest.fixture
def server(postgres_url, tmp_path):
    """A server over a database of its own in PostgreSQL, with artifacts through it; its address and the database."""
    name = f"mlflow_{os.getpid()}"
    database = postgres_url.rpartition("/")[0] + f"/{name}"
    admin = psycopg2.connect(postgres_url)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        # sqlalchemy would take psycopg 3 for what does not say otherwise
        store = database.replace("postgresql://", "postgresql+psycopg2://", 1)
        with serving(store, tmp_path / "files", tmp_path / "server.log") as address:
            yield address, database
    finally:
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


def test_two_sweeps_at_once_log_to_a_server_and_no_credential_is_left_anywhere(swept, server, tmp_path):
    address, database = server

    def run(rate: str):
        repository = swept.copy(tmp_path / rate)
        for name in ("cells", "mlartifacts"):
            shutil.rmtree(repository.path / name)
        (repository.path / "mlflow.db").unlink()
        tracked = ("tracking=server", f"tracking.uri={address}", f"search.learning_rate={rate}")
        credentials = {"MLFLOW_TRACKING_USERNAME": "somebody", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        return repository, repository.run("pipelines.run", *SWEEP, *tracked, **credentials)

    with ThreadPoolExecutor(2) as both:
        sweeps = list(both.map(run, ("0.1", "0.2")))
    assert all(done.returncode == 0 for _, done in sweeps), [done.stdout + done.stderr for _, done in sweeps]
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("counterfactuals")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    parents = client.search_runs([experiment.experiment_id], "tags.`cfx.kind` = 'sweep'")
    assert [parent.info.status for parent in parents] == ["FINISHED", "FINISHED"]
    for repository, done in sweeps:
        assert done.returncode == 0, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr and not (repository.path / "mlflow.db").exists()
        for row in repository.table().to_dict("records"):
            (run,) = client.search_runs([experiment.experiment_id], f"tags.`cfx.cell` = '{row['cell']}'")
            assert run.info.status == "FINISHED" and run.data.metrics["l1"] == pytest.approx(row["l1"])
            logged = {file.path for file in client.list_artifacts(run.info.run_id)}
            assert logged == {"counterfactuals.json", "images"}
    left = [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert left == []
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        for table in ("tags", "params", "experiment_tags", "inputs", "datasets"):
            cursor.execute(f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE %s", [f"%{PASSWORD}%"])
            assert cursor.fetchone() == (0,)
