"""The content of MLflow runs: parameters, metrics, data sets, images and descriptions. `client` logs it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from PIL import Image

from cfx import changes, data, figures
from cfx.change_chart import changes_figure
from cfx.changes import Change
from cfx.result import Result
from pipelines.cells import measures, paths, store, variants
from pipelines.cells.paths import Trained, class_name
from pipelines.cells.plan import Cell
from pipelines.config.command import flatten
from pipelines.config.schema import Params
from pipelines.tracking import view

# The number of images per run; MLflow's image view is slow with more.
PICTURES = 10
# The number of images in a contact sheet.
SHEET = 300

EXPERIMENT_NOTE = """\
Counterfactual instances: what is the smallest change that makes a classifier predict another class?

Each sweep is a parent run with one child run per cell. **Views** above the table contains a saved view of each of the
latest sweeps, which shows the swept parameters next to the metrics, as a sorted table and as charts; the description of
a sweep links to it. To compare the cells of several sweeps, filter by ``tags.`cfx.kind` = 'cell'``, for example
``tags.`cfx.kind` = 'cell' and params.target_class = '3' and metrics.l1 < 20``.

"""


def metrics(table: pd.DataFrame, timestamp: int) -> list[Metric]:
    """The metrics of rows of counterfactuals.parquet."""
    return [Metric(name, value, timestamp, 0) for name, value in measures.values(table).items()]


def per_instance_metrics(table: pd.DataFrame, timestamp: int) -> list[Metric]:
    """The metrics `per_instance/...` of a cell with several instances; the step is the index into the test split.

    Rows that were not found have a runtime only; unchanged rows have no metrics.
    """
    if len(table) == 1:
        return []
    table = measures.changed(table)
    found = table[table["found"]]
    columns = {"l1": found, "probability": found, "runtime_s": table}
    return [
        Metric(f"per_instance/{name}", value, timestamp, instance)
        for name, rows in columns.items()
        for instance, value in zip(rows["instance"].tolist(), rows[name].tolist(), strict=True)
    ]


def quality(trained: Trained, timestamp: int) -> list[Metric]:
    """The accuracy and loss of a classifier and its judges on the test split."""
    measured = json.loads(trained.metrics.read_text())
    measured |= {f"judges/{key}": value for key, value in json.loads(trained.judges_metrics.read_text()).items()}
    return [Metric(key, value, timestamp, 0) for key, value in measured.items()]


def training_metrics(trained: Trained, timestamp: int) -> list[Metric]:
    """The training history of a classifier; the step is the epoch."""
    epochs = pd.read_csv(trained.history).to_dict("records")
    names = [name for name in epochs[0] if name != "epoch"] if epochs else []
    return [Metric(f"training/{name}", row[name], timestamp, int(row["epoch"])) for row in epochs for name in names]


def parameters(params: Params) -> dict[str, Any]:
    """All parameters by the names of their options, with the values of each axis of the sweep."""
    tree = params.model_dump(mode="json", exclude={"variants"})
    for variant in params.variants:
        for axis, value in variant.swept.items():
            values = tree["sweep"].setdefault(axis, [])
            values += [] if value in values else [value]
    return flatten(tree)


def cell_parameters(cell: Cell) -> dict[str, Any]:
    """The parameters of a cell; the swept and the most important ones have short names, which the UI lists first."""
    method = {**cell.search, "method": cell.method.name}
    short = {"method", *view.PARAMETERS, *cell.swept}
    return {name if name in short else f"search.{name}": value for name, value in method.items()} | cell.upstream


def datasets(params: Params) -> list[DatasetInput]:
    """The distinct data sets of a sweep as MLflow datasets."""
    sources = [(variant.data.name, variants.trained(variant, params)) for variant in params.variants]
    cards: dict[str, tuple[str, Trained, dict[str, Any]]] = {}
    for name, trained in sources or [(params.data.name, paths.LATEST)]:
        card = json.loads(trained.data_card.read_text())
        cards.setdefault(card["sha256"], (name, trained, card))
    return [
        DatasetInput(
            Dataset(
                name=name,
                digest=card["sha256"][:36],
                source_type="local",
                source=json.dumps({"uri": str(trained.data)}),
                profile=json.dumps({key: card[key] for key in ("classes", "input_shape", "train", "test")}),
            ),
            tags=[InputTag(MLFLOW_DATASET_CONTEXT, "explained")],
        )
        for name, trained, card in cards.values()
    ]


def note(experiment_id: str, run_id: str, sweep: list[Cell], picture: str | None = None) -> str:
    """The description of a sweep's run as Markdown. picture: the contact sheet among the files of the run."""
    swept = sweep[0].swept
    table, charts = (view.link(experiment_id, run_id, mode) for mode in ("TABLE", "CHART"))
    lines = [
        f"Compare the {len(sweep)} cells [in a table]({table}) or [in charts]({charts}). Instances per cell: "
        f"{len(sweep[0].instances)}; swept parameters: {', '.join(f'`{axis}`' for axis in swept) or 'none'}."
    ]
    if picture:
        # a relative address is valid for any address of the UI
        lines.append(f"![contact sheet](get-artifact?path={picture}&run_uuid={run_id})")
    targets = [cell.swept.get("target_class") for cell in sweep]
    if {type(target) for target in targets} == {int, str}:
        lines.append("The charts with `target_class` as an axis omit `other`; the table and the bar charts include it.")
    return "\n\n".join([*lines, metrics_table()])


def metrics_table() -> str:
    """The metrics and their meanings as a Markdown table."""
    rows = [f"| `{m.name}` | {m.meaning} | {m.statistic} of {m.over} |" for m in measures.MEASURES]
    return "\n".join(["| metric | meaning | with several instances |", "| --- | --- | --- |", *rows]) + "\n"


def pictures(cell: Cell) -> Iterator[tuple[str, int, Image.Image]]:
    """The first counterfactuals of a cell as images, each with a name and the index of its instance in the test split.

    For a table, one image: the chart of the columns that its counterfactuals change.
    """
    if paths.features(cell.trained):
        yield "changes", 0, _change_chart([cell])
        return
    result = Result.load(store.result_path(cell.id))
    for i, (instance, original) in enumerate(zip(cell.rows, _originals(cell, PICTURES), strict=False)):
        classes = _change(cell, result, i)
        caption = figures.caption(*classes, result.probability[i], result.l1[i], result.found[i], result.unchanged[i])
        picture = figures.counterfactual_picture(original, result.x[i], caption, cell.method.feature_range)
        yield "counterfactual", instance, picture


def contact_sheet(sweep: list[Cell]) -> Image.Image:
    """An image with one row per instance and one column per cell, of the cells with the data of the first one.

    For a table, the chart of the columns that their counterfactuals change.
    """
    cards = [cell.trained.data_card.read_text() for cell in sweep]
    shown = [cell for cell, card in zip(sweep, cards, strict=True) if card == cards[0]]
    if paths.features(sweep[0].trained):
        return _change_chart(shown)
    originals = _originals(sweep[0], max(1, SHEET // len(shown)))
    axes = list(sweep[0].swept) or ["target_class"]
    columns = []
    for cell in shown:
        target = class_name(cell.target_class, cell.trained)
        heading = [str(target if axis == "target_class" else cell.swept[axis]) for axis in axes]
        result = Result.load(store.result_path(cell.id)) if store.has(cell.id) else None
        columns.append((heading, [_entry(cell, result, i) for i in range(len(originals))]))
    return figures.contact_sheet(originals, axes, columns, sweep[0].method.feature_range)


def _change_chart(cells: list[Cell]) -> Image.Image:
    """The chart of the columns that the counterfactuals of the finished cells change in the same table."""
    features = paths.features(cells[0].trained)
    found: list[list[Change]] = []
    for cell in cells:
        if store.has(cell.id):
            result = Result.load(store.result_path(cell.id))
            found += changes.of_result(features, _originals(cell, len(cell.rows)), result)
    content = io.BytesIO()
    changes_figure(found, features, "black").savefig(content, format="png", dpi=100)
    return Image.open(content)


def _entry(cell: Cell, result: Result | None, i: int) -> tuple[np.ndarray | None, list[str]]:
    if result is None:
        return None, ["failed", ""]
    if not result.found[i]:
        return None, ["not found", ""]
    if result.unchanged[i]:
        return result.x[i], ["unchanged", ""]
    return result.x[i], [" → ".join(map(str, _change(cell, result, i))), f"L1={result.l1[i]:.1f}"]


def _change(cell: Cell, result: Result, i: int) -> tuple[int | str, int | str]:
    """The names of the classes of an instance and of its counterfactual."""
    return class_name(result.original_class[i], cell.trained), class_name(result.cf_class[i], cell.trained)


def _originals(cell: Cell, first: int) -> np.ndarray:
    status = cell.trained.data.stat()
    return _x_test(cell.trained.data, status.st_ino, status.st_mtime_ns)[list(cell.rows[:first])]


@lru_cache(maxsize=1)
def _x_test(path: Path, *version: int) -> np.ndarray:
    """The test split, cached for one version of the file."""
    return data.read_npz(path, ("x_test",))["x_test"]
