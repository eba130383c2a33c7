"""Log a sweep to MLflow: a parent run with a child run for each cell.

No result is read from MLflow. An incomplete run is deleted and logged again from the records on disk, so that a sweep
that was killed ends with the same runs as any other.
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

# MLflow's limits: parameters and metrics per request, and characters.
BATCH_SIZE = 1000
PARAM_LENGTH, TAG_LENGTH = 6000, 8000
# Files of a run.
TABLE, SHEET = "counterfactuals.json", "contact_sheet.png"
# The tags that make the UI show the table and the images of a run.
HAS_TABLE = {MLFLOW_LOGGED_ARTIFACTS: json.dumps([{"path": TABLE, "type": "table"}])}
HAS_PICTURES = {MLFLOW_LOGGED_IMAGES: "True"}


@dataclass(frozen=True)
class Tracking:
    """An MLflow store and the experiment that contains the sweeps."""

    client: MlflowClient
    experiment_id: str
    ui: str
    """The address of the UI."""


@cache
def connect(uri: str, artifacts: str | None, experiment: str, ui: str) -> Tracking:
    """Connect to the store, and create the database and the experiment if they do not exist.

    The arguments are the options in conf/tracking/. Raises InputError if the store is not reachable, an address
    contains credentials, or the experiment was deleted.
    """
    address.check_credentials(ui)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with address.connection(uri, "tracking.uri"):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment) or _create(client, experiment, artifacts)
    if found is None or found.lifecycle_stage != "active":
        raise InputError(f"tracking.experiment: {experiment} was deleted in MLflow; restore it or use another name")
    return Tracking(client, found.experiment_id, ui.rstrip("/"))


def find_cell(uri: str, run_id: str) -> str | None:
    """The cell ID of a run; None if the store has no such run, or if it is the run of a sweep.

    Does not create a store. Raises InputError if it is not reachable or the address contains credentials.
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


def parent_run(tracking: Tracking, sweep: list[Cell], params: Params, name: str, command: str) -> Run:
    """The run of a sweep: the existing one, or a new one with the parameters, data and model of the sweep."""
    client, identity = tracking.client, plan.sweep_id(sweep)
    for run in _runs(tracking, f"tags.`cfx.kind` = 'sweep' and tags.`cfx.sweep` = '{identity}'"):
        if "cfx.described" in run.data.tags:
            return run
        _remove(tracking, run)
    tags = {MLFLOW_SOURCE_NAME: "pipelines.run", "cfx.kind": "sweep", "cfx.sweep": identity, "cfx.command": command}
    run = client.create_run(tracking.experiment_id, tags=tags | provenance.tags(), run_name=name)
    run_id = run.info.run_id
    _log(tracking, run_id, content.parameters(params))
    try:
        client.log_inputs(run_id, datasets=content.datasets(params))
    except MlflowException:
        # the server fails if another sweep logs the same new data set at the same time
        client.log_inputs(run_id, datasets=content.datasets(params))
    client.log_artifact(run_id, str(schema.PATH))
    if not params.variants:
        trained = paths.LATEST
        _log(tracking, run_id, {}, content.quality(trained, _now()) + content.training_metrics(trained, _now()))
        client.log_artifact(run_id, str(trained.confusion))
        client.log_artifact(run_id, str(trained.model), "model")
    _save_view(tracking, run, sweep)
    client.set_tag(run_id, MLFLOW_RUN_NOTE, content.note(tracking.experiment_id, run_id, sweep))
    client.set_tag(run_id, "cfx.described", "yes")
    return client.get_run(run_id)


def sync_cells(tracking: Tracking, parent: str, sweep: Iterable[Cell]) -> None:
    """Synchronise the child runs with the store: one finished or failed run per cell."""
    logged = _children(tracking, parent)
    for cell in sweep:
        status = "FINISHED" if store.has(cell.id) else "FAILED"
        valid = [run for run in logged.get(cell.id, []) if run.info.status == status]
        for run in logged.get(cell.id, []):
            if run not in valid[:1]:
                _remove(tracking, run)
        if not valid:
            log_cell(tracking, parent, cell)


def log_cell(tracking: Tracking, parent: str, cell: Cell) -> None:
    """Log the child run of a finished or failed cell from its record."""
    failure = store.failure(cell.id)
    record = store.record(cell.id) if store.has(cell.id) else failure
    if record is None:
        return
    client = tracking.client
    tags = {MLFLOW_PARENT_RUN_ID: parent, MLFLOW_SOURCE_NAME: "pipelines.run", "cfx.kind": "cell", "cfx.cell": cell.id}
    started, finished = (
        round(datetime.fromisoformat(record[key]).timestamp() * 1000) for key in ("started", "finished")
    )
    tags["cfx.host"] = record["host"]
    tags |= {"cfx.error": failure["error"][:TAG_LENGTH]} if failure else HAS_TABLE | HAS_PICTURES
    run_id = client.create_run(tracking.experiment_id, started, tags, cell.name).info.run_id
    metrics: list[Metric] = []
    if failure is None:
        table = store.table(cell.id, cell.upstream)
        metrics = content.quality(cell.trained, finished) if cell.upstream else []
        metrics += content.metrics(table, finished) + content.per_instance_metrics(table, finished)
        _log_table(tracking, run_id, table)
        for name, instance, picture in content.pictures(cell):
            client.log_image(run_id, picture, key=name, step=instance)
    _log(tracking, run_id, content.cell_parameters(cell), metrics)
    client.set_terminated(run_id, "FAILED" if failure else "FINISHED", finished)


def log_results(tracking: Tracking, parent: str) -> None:
    """Log the table, the metrics, the contact sheet and the report of a sweep from the artefacts."""
    client, sweep, table = tracking.client, plan.make_cells(schema.read()), pd.read_parquet(paths.TABLE)
    if len(table):
        _log_table(tracking, parent, table)
        client.log_batch(parent, content.metrics(table, _now()), tags=[RunTag(*tag) for tag in HAS_TABLE.items()])
        client.log_text(parent, table.to_csv(index=False), "counterfactuals.csv")
        client.log_image(parent, content.contact_sheet(sweep), artifact_file=SHEET)
    client.log_artifacts(parent, str(paths.REPORT), "report")
    client.set_tag(parent, MLFLOW_RUN_NOTE, content.note(tracking.experiment_id, parent, sweep, SHEET))


def run_links(tracking: Tracking, parent: str, sweep: Iterable[Cell]) -> dict[str, str]:
    """The addresses of the runs in the UI, by cell ID, and of the parent run as "sweep"."""
    runs = {cell: logged[0].info.run_id for cell, logged in _children(tracking, parent).items()}
    wanted = {cell.id: runs[cell.id] for cell in sweep if cell.id in runs} | {"sweep": parent}
    start = f"{tracking.ui}/#/experiments/{tracking.experiment_id}/runs"
    return {name: f"{start}/{run_id}?{view.KIND}" for name, run_id in wanted.items()}


def comparison_link(tracking: Tracking, parent: str) -> str:
    """The address of the comparison of the cells in the UI."""
    return f"{tracking.ui}/{view.link(tracking.experiment_id, parent)}"


def end_run(tracking: Tracking, parent: str, status: str) -> None:
    """Set the status of the parent run: FINISHED, FAILED or KILLED."""
    if tracking.client.get_run(parent).info.status != status:
        tracking.client.set_terminated(parent, status)


def _create(client: MlflowClient, name: str, artifacts: str | None) -> Experiment | None:
    location = artifacts if artifacts is None or "://" in artifacts else Path(artifacts).resolve().as_uri()
    try:
        client.create_experiment(name, location, {MLFLOW_RUN_NOTE: content.EXPERIMENT_NOTE + content.metrics_table()})
    except MlflowException as error:
        # another sweep may create it at the same time
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(name)


def _save_view(tracking: Tracking, run: Run, sweep: list[Cell]) -> None:
    """Save a view of the sweep for MLflow's UI, and delete old views."""
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    name = f"{run.info.run_name}, {len(sweep)} cell{'s' * (len(sweep) != 1)}, {started}"
    saved = view.of_sweep(run.info.run_id, name, list(sweep[0].swept), run.info.start_time)
    tracking.client.set_experiment_tag(tracking.experiment_id, view.tag(run.info.run_id), saved)
    for tag in view.old_views(tracking.client.get_experiment(tracking.experiment_id).tags):
        try:
            tracking.client.delete_experiment_tag(tracking.experiment_id, tag)
        except MlflowException as error:
            # another sweep may delete it at the same time
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def _log(tracking: Tracking, run_id: str, values: Mapping[str, Any], metrics: Sequence[Metric] = ()) -> None:
    """Log parameters and metrics in as few requests as possible, because each is a transaction."""
    params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in values.items()]
    first = BATCH_SIZE - len(params)
    tracking.client.log_batch(run_id, metrics[:first], params)
    for start in range(first, len(metrics), BATCH_SIZE):
        tracking.client.log_batch(run_id, metrics[start : start + BATCH_SIZE])


def _log_table(tracking: Tracking, run_id: str, table: pd.DataFrame) -> None:
    """Log a table in the format of `mlflow.log_table`, which would append to an existing table."""
    tracking.client.log_text(run_id, table.to_json(orient="split", index=False), TABLE)


def _children(tracking: Tracking, parent: str) -> dict[str, list[Run]]:
    """The child runs by cell ID."""
    logged: dict[str, list[Run]] = {}
    for run in _runs(tracking, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"):
        logged.setdefault(run.data.tags["cfx.cell"], []).append(run)
    return logged


def _runs(tracking: Tracking, query: str) -> list[Run]:
    runs: list[Run] = []
    token = None
    while token is None or token:
        page = tracking.client.search_runs([tracking.experiment_id], query, max_results=1000, page_token=token)
        runs += page
        token = page.token or ""
    return runs


def _remove(tracking: Tracking, run: Run) -> None:
    if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
        tracking.client.set_terminated(run.info.run_id, "KILLED")
    tracking.client.delete_run(run.info.run_id)


def _now() -> int:
    return round(time.time() * 1000)
