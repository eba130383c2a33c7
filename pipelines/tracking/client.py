"""MLflow, as a projection of what is on disk: a parent run for a sweep, a child run for each of its cells.

No result is read back from it. A run that was left unfinished is removed and made again from the records, so that a
sweep that was killed at any moment ends with the same runs as one that was not.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_LOGGED_ARTIFACTS,
    MLFLOW_LOGGED_IMAGES,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
)

from cfx.errors import InputError
from pipelines.cells import paths, plan, provenance, store
from pipelines.cells.plan import Cell
from pipelines.config import schema
from pipelines.config.schema import Params
from pipelines.tracking import address, content, view

# What MLflow takes in one request, parameters and metrics together.
BATCH_SIZE = 1000
PARAM_LENGTH, TAG_LENGTH = 6000, 8000
# Files of a run.
TABLE, SHEET = "counterfactuals.json", "contact_sheet.png"
# The tags by which the UI shows the first of them as a table, and a cell's pictures.
HAS_TABLE = {MLFLOW_LOGGED_ARTIFACTS: json.dumps([{"path": TABLE, "type": "table"}])}
HAS_PICTURES = {MLFLOW_LOGGED_IMAGES: "True"}


@dataclass(frozen=True)
class Tracking:
    """An MLflow store and the experiment in it that holds the sweeps."""

    client: MlflowClient
    experiment_id: str
    ui: str
    """The address of its UI."""


@cache
def connect(uri: str, artifacts: str | None, experiment: str, ui: str) -> Tracking:
    """Open the store, making the database and the experiment where there is none. The arguments are conf/tracking.

    artifacts: the folder or URI of a new experiment's files; None leaves it to the server.
    Opened once a process. Raises InputError where the store does not answer, and for an address that holds credentials.
    """
    address.check_credentials(ui)
    # the making of a database is no news
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with address.connection(uri, "tracking.uri"):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment) or _create(client, experiment, artifacts)
    if found is None or found.lifecycle_stage != "active":
        raise InputError(f"tracking.experiment: {experiment} was deleted in MLflow; restore it or use another name")
    return Tracking(client, found.experiment_id, ui.rstrip("/"))


def find_cell(uri: str, run_id: str) -> str | None:
    """The cell of a run; None where the store at `uri` has no such run, or it is a sweep's. Nothing is made.

    Raises InputError where the store does not answer, and for an address that holds credentials.
    """
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return None
    with address.connection(uri, "--uri"):
        try:
            return MlflowClient(tracking_uri=uri).get_run(run_id).data.tags.get("cfx.cell")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None


def parent_run(tracking: Tracking, sweep: list[Cell], chosen: Params, name: str, command: str) -> Run:
    """This sweep's run: the one that is there, or a new one with what all of its cells share."""
    client, identity = tracking.client, plan.sweep_id(sweep)
    for run in _runs(tracking, f"tags.`cfx.kind` = 'sweep' and tags.`cfx.sweep` = '{identity}'"):
        if "cfx.described" in run.data.tags:
            return run
        _remove(tracking, run)
    tags = {MLFLOW_SOURCE_NAME: "pipelines.run", "cfx.kind": "sweep", "cfx.sweep": identity, "cfx.command": command}
    run = client.create_run(tracking.experiment_id, tags=tags | provenance.tags(), run_name=name)
    run_id = run.info.run_id
    _log(tracking, run_id, content.parameters(chosen))
    try:
        client.log_inputs(run_id, datasets=content.datasets(chosen))
    except MlflowException:
        # where two sweeps name the same new data set at once the server takes the first and fails the second
        client.log_inputs(run_id, datasets=content.datasets(chosen))
    client.log_artifact(run_id, str(schema.PATH))
    if not chosen.variants:
        trained = paths.LATEST
        _log(tracking, run_id, {}, content.quality(trained, _now()) + content.training_metrics(trained, _now()))
        client.log_artifact(run_id, str(trained.confusion))
        client.log_artifact(run_id, str(trained.model), "model")
    _show(tracking, run, sweep)
    client.set_tag(run_id, MLFLOW_RUN_NOTE, content.note(tracking.experiment_id, run_id, sweep))
    client.set_tag(run_id, "cfx.described", "yes")
    return client.get_run(run_id)


def sync_cells(tracking: Tracking, parent: str, sweep: Iterable[Cell]) -> None:
    """Make the child runs say what the records say: one finished run a finished cell, one failed run a failed one."""
    logged = _children(tracking, parent)
    for cell in sweep:
        status = "FINISHED" if store.has(cell.id) else "FAILED"
        right = [run for run in logged.get(cell.id, []) if run.info.status == status]
        for run in logged.get(cell.id, []):
            if run not in right[:1]:
                _remove(tracking, run)
        if not right:
            log_cell(tracking, parent, cell)


def log_cell(tracking: Tracking, parent: str, cell: Cell) -> None:
    """Make the child run of a cell from its record, finished or failed; a cell with neither has no run."""
    failure = store.failure(cell.id)
    if store.has(cell.id):
        about = store.record(cell.id)
    elif failure is not None:
        about = failure
    else:
        return
    client = tracking.client
    tags = {MLFLOW_PARENT_RUN_ID: parent, MLFLOW_SOURCE_NAME: "pipelines.run", "cfx.kind": "cell", "cfx.cell": cell.id}
    started, finished = (_milliseconds(about[key]) for key in ("started", "finished"))
    tags["cfx.host"] = about["host"]
    tags |= {"cfx.error": failure["error"][:TAG_LENGTH]} if failure else HAS_TABLE | HAS_PICTURES
    run_id = client.create_run(tracking.experiment_id, started, tags, cell.name).info.run_id
    if failure is None:
        _log_result(tracking, run_id, cell, finished)
    else:
        _log(tracking, run_id, content.cell_parameters(cell))
    client.set_terminated(run_id, "FAILED" if failure else "FINISHED", finished)


def log_results(tracking: Tracking, parent: str) -> None:
    """Give the sweep's run the table, the measures, the contact sheet and the report of what is in the artefacts."""
    client, sweep, table = tracking.client, plan.make_cells(schema.read()), pd.read_parquet(paths.TABLE)
    if len(table):
        _log_table(tracking, parent, table)
        client.log_batch(parent, content.metrics(table, _now()), tags=[RunTag(*tag) for tag in HAS_TABLE.items()])
        client.log_text(parent, table.to_csv(index=False), "counterfactuals.csv")
        client.log_image(parent, content.contact_sheet(sweep), artifact_file=SHEET)
    client.log_artifacts(parent, str(paths.REPORT), "report")
    client.set_tag(parent, MLFLOW_RUN_NOTE, content.note(tracking.experiment_id, parent, sweep, SHEET))


def run_links(tracking: Tracking, parent: str, sweep: Iterable[Cell]) -> dict[str, str]:
    """Where the runs are in the UI: of the sweep under "sweep", and under its id of each cell that has one."""
    runs = {cell: logged[0].info.run_id for cell, logged in _children(tracking, parent).items()}
    wanted = {cell.id: runs[cell.id] for cell in sweep if cell.id in runs} | {"sweep": parent}
    start = f"{tracking.ui}/#/experiments/{tracking.experiment_id}/runs"
    return {name: f"{start}/{run_id}?{view.KIND}" for name, run_id in wanted.items()}


def comparison_link(tracking: Tracking, parent: str) -> str:
    """Where the UI compares the cells of a sweep."""
    return f"{tracking.ui}/{view.link(tracking.experiment_id, parent)}"


def end_run(tracking: Tracking, parent: str, status: str) -> None:
    """End the sweep's run as FINISHED, FAILED or KILLED."""
    if tracking.client.get_run(parent).info.status != status:
        tracking.client.set_terminated(parent, status)


def _create(client: MlflowClient, name: str, artifacts: str | None) -> Experiment | None:
    place = artifacts if artifacts is None or "://" in artifacts else Path(artifacts).resolve().as_uri()
    try:
        client.create_experiment(name, place, {MLFLOW_RUN_NOTE: content.EXPERIMENT_NOTE + content.metrics_table()})
    except MlflowException as error:
        # another sweep was faster
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(name)


def _show(tracking: Tracking, run: Run, sweep: list[Cell]) -> None:
    """Give the sweep a view in MLflow's UI, in place of the oldest where there are many."""
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    name = f"{run.info.run_name}, {len(sweep)} cell{'s' * (len(sweep) != 1)}, {started}"
    saved = view.of_sweep(run.info.run_id, name, list(sweep[0].swept), run.info.start_time)
    tracking.client.set_experiment_tag(tracking.experiment_id, view.tag(run.info.run_id), saved)
    for tag in view.old_views(tracking.client.get_experiment(tracking.experiment_id).tags):
        try:
            tracking.client.delete_experiment_tag(tracking.experiment_id, tag)
        except MlflowException as error:
            # another sweep was faster
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def _log_result(tracking: Tracking, run_id: str, cell: Cell, timestamp: int) -> None:
    table = store.table(cell.id, cell.upstream)
    classifier = content.quality(cell.trained, timestamp) if cell.upstream else []
    measured = content.metrics(table, timestamp) + content.per_instance_metrics(table, timestamp)
    _log(tracking, run_id, content.cell_parameters(cell), classifier + measured)
    _log_table(tracking, run_id, table)
    for instance, picture in content.pictures(cell):
        tracking.client.log_image(run_id, picture, key="counterfactual", step=instance)


def _log(tracking: Tracking, run_id: str, asked: Mapping[str, Any], metrics: Sequence[Metric] = ()) -> None:
    """Log parameters and metrics in as few requests as MLflow takes: each is a transaction, or a way to a server."""
    params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in asked.items()]
    room = BATCH_SIZE - len(params)
    tracking.client.log_batch(run_id, metrics[:room], params)
    for first in range(room, len(metrics), BATCH_SIZE):
        tracking.client.log_batch(run_id, metrics[first : first + BATCH_SIZE])


def _log_table(tracking: Tracking, run_id: str, table: pd.DataFrame) -> None:
    """Log a table as `mlflow.log_table` does, but for its tag; and that appends to one that is there."""
    tracking.client.log_text(run_id, table.to_json(orient="split", index=False), TABLE)


def _children(tracking: Tracking, parent: str) -> dict[str, list[Run]]:
    """The runs of a sweep's cells, by cell."""
    logged: dict[str, list[Run]] = {}
    for run in _runs(tracking, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"):
        logged.setdefault(run.data.tags["cfx.cell"], []).append(run)
    return logged


def _runs(tracking: Tracking, query: str) -> list[Run]:
    runs: list[Run] = []
    page = tracking.client.search_runs([tracking.experiment_id], query, max_results=1000)
    runs += page
    while page.token:
        page = tracking.client.search_runs([tracking.experiment_id], query, max_results=1000, page_token=page.token)
        runs += page
    return runs


def _remove(tracking: Tracking, run: Run) -> None:
    if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
        tracking.client.set_terminated(run.info.run_id, "KILLED")
    tracking.client.delete_run(run.info.run_id)


def _now() -> int:
    return round(time.time() * 1000)


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
