"""The saved view of a sweep in MLflow's UI: swept parameters and metrics as columns and as charts.

MLflow 3.15 and later store a saved view as a tag of the experiment and list it under Views. Older versions ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TAG = "mlflow.sharedViewState."
# The prefix of the views of sweeps, and how many are kept: the UI allows a user to save one only if there are < 40.
OURS, KEPT = f"{TAG}sweep-", 20
KIND = "workflowType=machine_learning"
# The columns of every view.
PARAMETERS = ("target_class", "lam_init", "learning_rate")
MEASURES = ("l1", "probability", "runtime_s", "validity")


def tag(run_id: str) -> str:
    """The tag of the experiment with the view of a sweep."""
    return OURS + run_id


def link(experiment_id: str, run_id: str, mode: str = "TABLE") -> str:
    """The address of a view, relative to the UI. mode: TABLE or CHART."""
    key = tag(run_id).removeprefix(TAG)
    return f"#/experiments/{experiment_id}/runs?{KIND}&viewStateShareKey={key}&compareRunsMode={mode}"


def of_sweep(run_id: str, name: str, swept: Sequence[str], created: int) -> str:
    """The view of a sweep as JSON. swept: its axes; created: milliseconds since the epoch."""
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
        # the default is the first ten runs
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(swept),
        "compareRunSections": [{"uuid": "sweep", "name": "Sweep", "display": True, "isReordered": True}],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": name, "createdAt": created, "updatedAt": created, "state": json.dumps(state)})


def old_views(tags: Mapping[str, str]) -> Iterable[str]:
    """The tags of an experiment with the views of sweeps to delete: all except the newest."""
    ours = sorted((key for key in tags if key.startswith(OURS)), key=lambda key: json.loads(tags[key])["createdAt"])
    return ours[:-KEPT]


def _charts(swept: Sequence[str]) -> list[dict[str, Any]]:
    charts: list[dict[str, Any]] = []
    if swept:
        metrics = ["l1", "probability", "runtime_s"]
        charts.append({"type": "PARALLEL", "selectedParams": list(swept), "selectedMetrics": metrics})
    l1, *plausible = ({"key": key, "type": "METRIC"} for key in ("l1", "quality/agreement", "quality/im1"))
    charts += [{"type": "SCATTER", "xaxis": l1, "yaxis": y} for y in plausible]
    x_axes = [*({"key": axis, "type": "PARAM"} for axis in swept), {"key": "runtime_s", "type": "METRIC"}]
    charts += [{"type": "SCATTER", "xaxis": x, "yaxis": l1} for x in x_axes]
    charts += [{"type": "BAR", "metricKey": key} for key in MEASURES]
    common = {"metricSectionId": "sweep", "deleted": False, "isGenerated": False, "runsCountToCompare": 100}
    return [{"uuid": f"sweep-{i}"} | common | chart for i, chart in enumerate(charts)]
