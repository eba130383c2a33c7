"""MLflow, as a projection of what is on disk: a parent run for a sweep, a child run for each of its cells.

No result is read back from it. A run that was left unfinished is removed and made again from the records, so that a
sweep that was killed at any moment ends with the same runs as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME
from PIL import Image

from cfx import data, figures, metrics
from cfx.errors import InputError
from cfx.methods import Method
from cfx.result import Result
from pipelines import artifacts, cells, provenance, store
from pipelines.cells import Cell
from pipelines.params import Params

# What a counterfactual is measured by: a metric each, at step = its place in the cell.
METRICS = (
    *("probability", "l1", "l2", "l0", "im1", "im2", "oracle", "lam", "runtime_s", "iterations"),
    *("found", "original_class", "cf_class", "instance"),
)
# MLflow's image view slows down beyond about this many.
PICTURES = 10
# What MLflow takes in one request.
METRICS_AT_ONCE = 1000
PARAM_LENGTH = 6000


@dataclass(frozen=True)
class Tracking:
    """An MLflow store and the experiment in it that holds the sweeps."""

    client: MlflowClient
    experiment_id: str


def connect(uri: str, artifacts: str, experiment: str) -> Tracking:
    """Open the store, making the database and the experiment where there is none.

    Raises InputError where the store does not answer.
    """
    # seconds, not minutes, until a server that is not there is reported; an explicit setting stands
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # the making of a database is no news
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return Tracking(client, client.create_experiment(experiment, Path(artifacts).resolve().as_uri()))
    except Exception as error:  # sqlalchemy, requests and mlflow each have their own
        reason = _without_credentials(f"the MLflow store at {uri} does not answer ({str(error).splitlines()[0]})")
        raise InputError(f"tracking.uri: {reason}") from error
    if found.lifecycle_stage != "active":
        raise InputError(f"tracking.experiment: {experiment} was deleted in MLflow; restore it or use another name")
    return Tracking(client, found.experiment_id)


def parent_run(tracking: Tracking, sweep: list[Cell], params: Params, name: str, command: str) -> Run:
    """This sweep's run: the one that is there, or a new one with what all of its cells share."""
    identity = cells.sweep_sha256(sweep)
    for run in _runs(tracking, f"tags.`cfx.kind` = 'sweep' and tags.`cfx.sweep` = '{identity}'"):
        if "cfx.described" in run.data.tags:
            return run
        _remove(tracking, run)
    tags = {MLFLOW_SOURCE_NAME: "pipelines.run", "cfx.kind": "sweep", "cfx.sweep": identity, "cfx.command": command}
    run_id = tracking.client.create_run(
        tracking.experiment_id, tags=tags | provenance.tags(), run_name=name
    ).info.run_id
    _log_params(tracking, run_id, dict(_flat(params.model_dump(mode="json"))))
    tracking.client.log_inputs(run_id, datasets=[_dataset(params.data.name)])
    _log_training(tracking, run_id)
    tracking.client.log_artifact(run_id, "params.yaml")
    tracking.client.set_tag(run_id, "cfx.described", "yes")
    return tracking.client.get_run(run_id)


def bring_in_line(tracking: Tracking, parent: str, sweep: Iterable[Cell]) -> None:
    """Make the child runs say what the records say: one finished run a finished cell, one failed run a failed one."""
    logged: dict[str, list[Run]] = {}
    for run in _runs(tracking, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"):
        logged.setdefault(run.data.tags["cfx.cell"], []).append(run)
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
    tags |= {"cfx.host": about["host"]} | ({"cfx.error": failure["error"][:PARAM_LENGTH]} if failure else {})
    run_id = client.create_run(tracking.experiment_id, started, tags, cell.name).info.run_id
    asked = {"method": cell.method.name, **asdict(cell.method), "instances": len(cell.instances)} | cell.upstream
    _log_params(tracking, run_id, asked)
    if failure is None:
        _log_result(tracking, run_id, cell, finished)
    client.set_terminated(run_id, "FAILED" if failure else "FINISHED", finished)


def log_outcome(tracking: Tracking, parent: str) -> None:
    """Give the sweep's run the table, the totals and the report that stand in the artefacts."""
    table = pd.read_parquet(artifacts.TABLE)
    tracking.client.log_text(parent, table.to_csv(index=False), "counterfactuals.csv")
    if len(table):
        _log_metrics(tracking, parent, [Metric(key, value, 0, 0) for key, value in _totals(table).items()])
    tracking.client.log_artifact(parent, str(artifacts.REPORT / "index.html"), "report")


def close(tracking: Tracking, parent: str, status: str) -> None:
    """End the sweep's run as FINISHED, FAILED or KILLED."""
    if tracking.client.get_run(parent).info.status != status:
        tracking.client.set_terminated(parent, status)


def _log_result(tracking: Tracking, run_id: str, cell: Cell, timestamp: int) -> None:
    result = Result.load(store.result_path(cell.id))
    table = store.table(cell.id)
    values = table[list(METRICS)].astype(float)
    _log_metrics(
        tracking,
        run_id,
        [Metric(key, value, timestamp, step) for key in METRICS for step, value in enumerate(values[key])]
        + [Metric(key, value, timestamp, 0) for key, value in _totals(table).items()],
    )
    tracking.client.log_text(run_id, table.to_csv(index=False), "counterfactuals.csv")
    for step, picture in enumerate(_pictures(result, cell.method)):
        tracking.client.log_image(run_id, picture, key="counterfactual", step=step)


def _log_training(tracking: Tracking, run_id: str) -> None:
    measured = json.loads(artifacts.METRICS.read_text()) | json.loads(artifacts.JUDGES_METRICS.read_text())
    values = [Metric(key, value, 0, 0) for key, value in measured.items()]
    for row in pd.read_csv(artifacts.HISTORY).to_dict("records"):
        epoch = int(row.pop("epoch"))
        values += [Metric(f"training_{key}", value, 0, epoch) for key, value in row.items()]
    _log_metrics(tracking, run_id, values)
    tracking.client.log_artifact(run_id, str(artifacts.CONFUSION))
    tracking.client.log_artifact(run_id, str(artifacts.MODEL), "model")


def _log_params(tracking: Tracking, run_id: str, values: Mapping[str, Any]) -> None:
    tracking.client.log_batch(run_id, params=[Param(key, str(value)[:PARAM_LENGTH]) for key, value in values.items()])


def _log_metrics(tracking: Tracking, run_id: str, values: list[Metric]) -> None:
    # what has no value (a lambda that was not needed, a measure of what was not found) is not logged
    values = [metric for metric in values if math.isfinite(metric.value)]
    for first in range(0, len(values), METRICS_AT_ONCE):
        tracking.client.log_batch(run_id, metrics=values[first : first + METRICS_AT_ONCE])


def _totals(table: pd.DataFrame) -> dict[str, float]:
    """What a cell or a sweep is compared by at a glance."""
    return metrics.totals(table) | {"runtime_s_total": table["runtime_s"].sum()}


def _pictures(result: Result, method: Method) -> Iterator[Image.Image]:
    places = result.instance[:PICTURES]
    originals = data.read_npz(artifacts.DATA, ("x_test",))["x_test"][places]
    for i, original in enumerate(originals):
        caption = figures.caption(
            result.original_class[i], result.cf_class[i], result.probability[i], result.l1[i], result.found[i]
        )
        yield figures.counterfactual_picture(original, result.x[i], caption, method.feature_range)


def _dataset(name: str) -> DatasetInput:
    card = json.loads(artifacts.DATA_CARD.read_text())
    return DatasetInput(
        Dataset(
            name=name,
            digest=card["sha256"][:36],
            source_type="local",
            source=json.dumps({"uri": str(artifacts.DATA)}),
            profile=json.dumps({key: card[key] for key in ("classes", "input_shape", "train", "test")}),
        ),
        tags=[InputTag(MLFLOW_DATASET_CONTEXT, "explained")],
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
