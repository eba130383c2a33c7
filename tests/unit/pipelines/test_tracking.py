"""What MLflow is given, in a real sqlite store: every counterfactual, medians that do not mislead, no credentials."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from mlflow.utils.validation import MAX_EXPERIMENT_TAG_VAL_LENGTH
from PIL import Image

from cfx import Wachter
from cfx.data import Dataset
from cfx.errors import InputError
from cfx.result import LambdaPath, Result
from pipelines.cells import paths, store
from pipelines.cells.plan import Cell
from pipelines.tracking import client, content, view
from tests.unit.pipelines.made import cell as made_cell

WHEN = "2026-01-01T00:00:00.000+00:00"


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> client.Tracking:
    # an address of a file may hold what in another would be credentials
    folder = tmp_path_factory.mktemp("some:body@home")
    return client.connect(f"sqlite:///{folder}/mlflow.db", str(folder / "files"), "made up", "http://127.0.0.1:5000/")


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (9, 4, 4, 1)).astype(np.float32)
    Dataset(x, np.arange(9) % 3, x, np.arange(9) % 3).save(paths.LATEST.data)
    paths.LATEST.data_card.write_text("{}")


@pytest.fixture
def parent(database) -> str:
    return database.client.create_run(database.experiment_id).info.run_id


def made(target_class: int | str, instances: tuple[int, ...], found: list[bool], l1: list[float]) -> Cell:
    """A finished cell in the store."""
    n = len(instances)
    name = f"{target_class}-{len(instances)}"
    cell = made_cell(
        name, {}, {"target_class": target_class}, Wachter(target_class=target_class), instances, paths.LATEST
    )
    result = Result(
        method="wachter",
        x=np.zeros((n, 4, 4, 1), np.float32),
        found=np.array(found),
        unchanged=np.full(n, False),
        plausible=np.full(n, np.nan),
        anchor=np.full(n, -1),
        probability=np.where(found, 0.99, 0.3),
        cf_class=np.where(found, 1, 2),
        original_class=np.full(n, 2),
        target_class=np.full(n, str(target_class)),
        instance=np.array(instances),
        place=np.ones(n, int),
        l1=np.array(l1),
        l2=np.array(l1) / 2,
        l0=np.arange(n),
        weighted_l1=np.array(l1),
        lam=np.where(found, 0.1, np.nan),
        lam_init=np.full(n, 0.1),
        learning_rate=np.full(n, 0.1),
        iterations=np.full(n, 100),
        runtime_s=np.full(n, 0.25),
        path=LambdaPath(**{key: np.zeros(0) for key in ("row", "step", "x", "lam", "probability", "cf_class", "l1")}),
    )
    judged = np.where(found, 1.0, np.nan)
    measures = pd.DataFrame({"im1": 0.5 * judged, "im2": 0.01 * judged, "agreement": judged})
    store.save(cell.id, result, measures, {"host": "here", "started": WHEN, "finished": WHEN})
    return cell


def child(database, parent, cell):
    client.log_cell(database, parent, cell)
    (run,) = database.client.search_runs([database.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    return run


def test_a_cell_of_one_instance_has_its_own_values(database, parent):
    run = child(database, parent, made(1, (4,), [True], [7.5]))
    assert run.info.run_name == "target_class=1" and run.data.params["target_class"] == "1"
    assert {"method", "lam_init", "learning_rate", "search.max_iter"} <= set(run.data.params)
    expected = {"l1": 7.5, "probability": 0.99, "runtime_s": 0.25, "validity": 1, "quality/im1": 0.5, "search/lam": 0.1}
    assert {key: run.data.metrics[key] for key in expected} == expected
    assert not any(key.startswith("per_instance/") for key in run.data.metrics)


def test_a_cell_of_many_instances_has_medians_of_the_found_and_every_counterfactual_as_a_step(database, parent):
    run = child(database, parent, made(1, (4, 2, 8, 5), [True, True, False, True], [9, 3, 0, 5]))
    assert run.data.metrics["l1"] == 5 and run.data.metrics["validity"] == 0.75
    assert run.data.metrics["search/runtime_s_total"] == 1
    history = database.client.get_metric_history(run.info.run_id, "per_instance/l1")
    assert {point.step: point.value for point in history} == {4: 9, 2: 3, 5: 5}
    history = database.client.get_metric_history(run.info.run_id, "per_instance/runtime_s")
    assert {point.step for point in history} == {2, 4, 5, 8}


def test_the_table_of_a_cell_is_complete_and_one_that_mlflow_shows_as_a_table(database, parent, monkeypatch):
    # MLflow's own reader asks the store of the environment
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database.client.tracking_uri)
    cell = made(1, (4, 2, 8), [True, False, True], [9, 0, 5])
    run = child(database, parent, cell)
    table = database.client.load_table(database.experiment_id, client.TABLE, [run.info.run_id])
    # JSON does not tell the text 1 from the number
    kept = store.table(cell.id, {}).assign(target_class=1)
    pd.testing.assert_frame_equal(table, kept, check_dtype=False)
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": client.TABLE, "type": "table"}]


def test_a_cell_in_which_nothing_was_found_has_no_distance(database, parent):
    run = child(database, parent, made(1, (4,), [False], [0]))
    assert run.data.metrics["validity"] == 0 and "l1" not in run.data.metrics
    assert "probability" not in run.data.metrics and "quality/im1" not in run.data.metrics


def test_a_failed_cell_is_a_failed_run_with_its_reason(database, parent):
    cell = replace(made(1, (4,), [True], [1]), id="failed")
    store.save_failure(
        cell.id, {"host": "here", "started": WHEN, "finished": WHEN, "error": "MemoryError: " + 9999 * "x"}
    )
    run = child(database, parent, cell)
    assert run.info.status == "FAILED" and run.data.tags["cfx.error"].startswith("MemoryError: x")
    assert run.data.params["target_class"] == "1" and not run.data.metrics


def test_more_counterfactuals_than_mlflow_takes_at_once(database, parent):
    n = 2 * client.BATCH_SIZE + 1
    x = np.zeros((n, 4, 4, 1), np.float32)
    Dataset(x, np.arange(n) % 2, x, np.arange(n) % 2).save(paths.LATEST.data)
    run = child(database, parent, made(1, tuple(range(n)), n * [True], list(range(n))))
    history = database.client.get_metric_history(run.info.run_id, "per_instance/l1")
    assert sorted(point.step for point in history) == list(range(n))


def log(uri: str, parent: str, cell: Cell) -> None:
    client.log_cell(client.connect(uri, None, "made up", "http://127.0.0.1:5000"), parent, cell)


@pytest.mark.slow
def test_eight_processes_log_to_one_database_at_once(database, parent):
    first = made(1, (4, 2, 8), 3 * [True], [9, 3, 5])
    sweep = [replace(first, id=f"copy-{i}") for i in range(24)]
    for cell in sweep:
        shutil.copytree(store.CELLS / first.id, store.CELLS / cell.id)
    with ProcessPoolExecutor(8, get_context("spawn")) as processes:
        list(processes.map(partial(log, database.client.tracking_uri, parent), sweep))
    runs = database.client.search_runs([database.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.data.tags["cfx.cell"] for run in runs} == {cell.id for cell in sweep} and len(runs) == len(sweep)
    assert all(run.info.status == "FINISHED" and run.data.metrics["l1"] == 5 for run in runs)


def test_the_links_lead_to_the_runs_that_there_are(database, parent):
    done, absent = made(1, (4,), [True], [1]), made_cell("absent", {}, {}, Wachter(), (4,), paths.LATEST)
    run = child(database, parent, done)
    runs = f"http://127.0.0.1:5000/#/experiments/{database.experiment_id}/runs"
    links = client.run_links(database, parent, [done, absent])
    assert {name: link.partition("?")[0] for name, link in links.items()} == {
        done.id: f"{runs}/{run.info.run_id}",
        "sweep": f"{runs}/{parent}",
    }


def test_the_contact_sheet_has_a_row_an_instance_and_a_column_a_cell():
    sweep = [made(target, (4, 2), [True, target != 2], [1, 1]) for target in range(3)]
    few = content.contact_sheet(sweep)
    assert isinstance(few, Image.Image)
    more = content.contact_sheet(
        [*sweep, made_cell("absent", {}, {"target_class": 9}, Wachter(), (4, 2), paths.LATEST)]
    )
    assert more.width > few.width and more.height == few.height
    longer = content.contact_sheet([made(target, (4, 2, 5), 3 * [True], [1, 1, 1]) for target in range(3)])
    assert longer.width == few.width and longer.height > few.height


@pytest.mark.parametrize(
    "uri",
    [
        "http://someone:s3cret@127.0.0.1:5000",
        "https://s3cret@127.0.0.1",
        "http://someone:s3/cret@127.0.0.1",
        "postgresql://someone:s3cret@127.0.0.1/mlflow",
        "postgresql+psycopg2://someone:s3:c/r@et@127.0.0.1/mlflow",
        "postgresql://127.0.0.1/mlflow?user=someone&password=s3cret",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(uri):
    for addresses in ({"uri": uri, "ui": "http://127.0.0.1"}, {"uri": "sqlite:///x.db", "ui": uri}):
        with pytest.raises(InputError) as refused:
            client.connect(**addresses, artifacts=None, experiment="x")
        assert "remove it and set" in str(refused.value)
        assert not any(part in str(refused.value) for part in ("s3", "cret", "c/r", "someone"))


def test_a_server_that_does_not_answer_is_told_in_one_line_and_leaves_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = dict(os.environ)
    with pytest.raises(InputError, match="cannot connect") as refused:
        client.connect("http://127.0.0.1:9", None, "x", "http://127.0.0.1:9")
    assert "\n" not in str(refused.value) and dict(os.environ) == before


def test_the_views_that_are_kept_are_the_newest_and_those_of_others():
    tags = {view.tag(f"run{i}"): view.of_sweep(f"run{i}", "targets", ["target_class"], i) for i in range(view.KEPT + 2)}
    tags |= {f"{view.TAG}somebody": "{}", "mlflow.note.content": "x"}
    assert list(view.old_views(tags)) == [view.tag("run0"), view.tag("run1")]


def test_a_view_draws_the_distance_against_how_plausible_the_results_are():
    state = json.loads(json.loads(view.of_sweep("run", "targets", ["target_class"], 0))["state"])
    drawn = [
        (one["xaxis"]["key"], one["yaxis"]["key"]) for one in state["compareRunCharts"] if one["type"] == "SCATTER"
    ]
    assert {("l1", "quality/agreement"), ("l1", "quality/im1"), ("target_class", "l1")} <= set(drawn)


def test_a_view_of_every_axis_fits_into_a_tag():
    axes = ["method", *Wachter.__dataclass_fields__]
    assert len(view.of_sweep(32 * "x", "grid", axes, 0)) < MAX_EXPERIMENT_TAG_VAL_LENGTH


def test_a_run_is_asked_for_its_cell(database, parent):
    uri = database.client.tracking_uri
    run = database.client.create_run(database.experiment_id, tags={"cfx.cell": "one"}).info.run_id
    assert client.find_cell(uri, run) == "one"
    assert client.find_cell(uri, parent) is None and client.find_cell(uri, "0" * 32) is None
