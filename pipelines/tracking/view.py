"""How a sweep opens in MLflow's UI: its swept parameters and its measures as the columns, sorted, and as charts.

MLflow 3.15 and later keep a view that somebody saved as a tag of the experiment, and list it under Views; these are
such views, one a sweep. An older UI shows its own columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TAG = "mlflow.sharedViewState."
# What the UI calls our views; it lets somebody save one of their own only while there are fewer than 40 in all.
OURS, KEPT = f"{TAG}sweep-", 20
# The part of the UI that is for models and not for chats.
KIND = "workflowType=machine_learning"
# What every reader asks for first.
PARAMETERS = ("target_class", "lam_init", "learning_rate")
MEASURES = ("l1", "probability", "runtime_s", "validity")


def tag(run_id: str) -> str:
    """The experiment's tag that holds a sweep's view."""
    return OURS + run_id


def link(experiment_id: str, run_id: str, mode: str = "TABLE") -> str:
    """The address of the view inside the UI. mode: TABLE or CHART."""
    key = tag(run_id).removeprefix(TAG)
    return f"#/experiments/{experiment_id}/runs?{KIND}&viewStateShareKey={key}&compareRunsMode={mode}"


def of_sweep(run_id: str, name: str, swept: Sequence[str], created: int) -> str:
    """A sweep's view. swept: its axes; created: milliseconds, the newest view is listed first."""
    parameters = [*swept, *(key for key in PARAMETERS if key not in swept)]
    columns = [f"params.`{key}`" for key in parameters] + [f"metrics.`{key}`" for key in MEASURES]
    state = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run_id}'",
        "orderByKey": "metrics.`l1`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": columns,
        # all runs, where a UI left to itself draws the first ten
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(swept),
        "compareRunSections": [{"uuid": "sweep", "name": "Sweep", "display": True, "isReordered": True}],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": name, "createdAt": created, "updatedAt": created, "state": json.dumps(state)})


def old_views(tags: Mapping[str, str]) -> Iterable[str]:
    """Which of an experiment's tags hold views of ours that are too many, the oldest."""
    ours = sorted((key for key in tags if key.startswith(OURS)), key=lambda key: json.loads(tags[key])["createdAt"])
    return ours[:-KEPT]


def _charts(swept: Sequence[str]) -> list[dict[str, Any]]:
    charts: list[dict[str, Any]] = []
    if swept:
        metrics = ["l1", "probability", "runtime_s"]
        charts.append({"type": "PARALLEL", "selectedParams": list(swept), "selectedMetrics": metrics})
    for axis in swept:
        x, y = {"key": axis, "type": "PARAM"}, {"key": "l1", "type": "METRIC"}
        charts.append({"type": "SCATTER", "xaxis": x, "yaxis": y})
    x, y = {"key": "runtime_s", "type": "METRIC"}, {"key": "l1", "type": "METRIC"}
    charts.append({"type": "SCATTER", "xaxis": x, "yaxis": y})
    charts += [{"type": "BAR", "metricKey": key} for key in MEASURES]
    common = {"metricSectionId": "sweep", "deleted": False, "isGenerated": False, "runsCountToCompare": 100}
    return [{"uuid": f"sweep-{place}"} | common | chart for place, chart in enumerate(charts)]
