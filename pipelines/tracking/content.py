"""What of a sweep MLflow shows: the measures that its runs are compared by, the table of every counterfactual, and the
words that explain them. `pipelines.tracking.client` puts it into runs.
"""

from __future__ import annotations

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

from cfx import data, figures
from cfx.result import Result
from pipelines.cells import measures, paths, store, variants
from pipelines.cells.paths import Trained, class_name
from pipelines.cells.plan import Cell
from pipelines.config.command import flatten
from pipelines.config.schema import Params
from pipelines.tracking import view

# MLflow's image view slows down beyond about this many.
PICTURES = 10
# A contact sheet of more than this is no longer looked at.
SHEET = 300


EXPERIMENT_NOTE = """\
Counterfactual instances: what is the least change that makes a classifier see another class?

A sweep is a run with a run for each of its cells inside. **Views** above the table has a saved view of each of the last
sweeps: its swept parameters beside what was found, sorted and plotted; the description of a sweep links to it. To look
at cells of several sweeps at once, filter by ``tags.`cfx.kind` = 'cell'``, for example
``tags.`cfx.kind` = 'cell' and params.target_class = '3' and metrics.l1 < 20``.

"""


def metrics(table: pd.DataFrame, timestamp: int) -> list[Metric]:
    """The measures of rows of counterfactuals.parquet."""
    return [Metric(name, value, timestamp, 0) for name, value in measures.values(table).items()]


def per_instance_metrics(table: pd.DataFrame, timestamp: int) -> list[Metric]:
    """Each counterfactual of a cell of several, as `per_instance/...`; the step is its place in the test split.

    A row that was not found has a runtime and nothing else, one that is unchanged has nothing.
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
    """How good a classifier and its judges are on the test split."""
    measured = json.loads(trained.metrics.read_text())
    measured |= {f"judges/{key}": value for key, value in json.loads(trained.judges_metrics.read_text()).items()}
    return [Metric(key, value, timestamp, 0) for key, value in measured.items()]


def training_metrics(trained: Trained, timestamp: int) -> list[Metric]:
    """How a classifier's training went; the step is the epoch."""
    epochs = pd.read_csv(trained.history).to_dict("records")
    names = [name for name in epochs[0] if name != "epoch"] if epochs else []
    return [Metric(f"training/{name}", row[name], timestamp, int(row["epoch"])) for row in epochs for name in names]


def parameters(chosen: Params) -> dict[str, Any]:
    """All parameters on one level, `training.epochs` and so on, and the values of each axis of the sweep."""
    tree = chosen.model_dump(mode="json", exclude={"variants"})
    for variant in chosen.variants:
        for axis, value in variant.swept.items():
            values = tree["sweep"].setdefault(axis, [])
            values += [] if value in values else [value]
    return flatten(tree)


def cell_parameters(cell: Cell) -> dict[str, Any]:
    """A cell's parameters: what it is told from others by has a short name, which the compare page lists first."""
    method = {**cell.search, "method": cell.method.name}
    short = {"method", *view.PARAMETERS, *cell.swept}
    return {name if name in short else f"search.{name}": value for name, value in method.items()} | cell.upstream


def datasets(chosen: Params) -> list[DatasetInput]:
    """The prepared data, as MLflow shows datasets; where variants share one it is there once."""
    sources = [(variant.data.name, variants.trained(variant, chosen)) for variant in chosen.variants]
    cards: dict[str, tuple[str, Trained, dict[str, Any]]] = {}
    for name, trained in sources or [(chosen.data.name, paths.LATEST)]:
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
    """What a reader of a sweep's run is told, as Markdown. picture: a file of the run that shows the sweep."""
    swept = sweep[0].swept
    table, charts = (view.link(experiment_id, run_id, mode) for mode in ("TABLE", "CHART"))
    lines = [
        f"Compare its {len(sweep)} cells [as a table]({table}) or [as charts]({charts}). "
        f"Instances in each: {len(sweep[0].instances)}; swept: {', '.join(f'`{axis}`' for axis in swept) or 'nothing'}."
    ]
    if picture:
        # relative to the page, so that it holds wherever the UI is served
        lines.append(f"![contact sheet](get-artifact?path={picture}&run_uuid={run_id})")
    targets = [cell.swept.get("target_class") for cell in sweep]
    if {type(target) for target in targets} == {int, str}:
        lines.append("The charts draw `target_class` as numbers and leave `other` out; the table and the bars have it.")
    return "\n\n".join([*lines, metrics_table()])


def metrics_table() -> str:
    """The measures and what they mean, as Markdown."""
    rows = [f"| `{m.name}` | {m.meaning} | {m.statistic} of {m.over} |" for m in measures.MEASURES]
    return "\n".join(["| metric | what it is | of several instances |", "| --- | --- | --- |", *rows]) + "\n"


def pictures(cell: Cell) -> Iterator[tuple[int, Image.Image]]:
    """The first counterfactuals of a cell: the instance's place in the test split, and original, result, difference."""
    result = Result.load(store.result_path(cell.id))
    for i, (instance, original) in enumerate(zip(cell.instances, _originals(cell, PICTURES), strict=False)):
        classes = _change(cell, result, i)
        caption = figures.caption(*classes, result.probability[i], result.l1[i], result.found[i], result.unchanged[i])
        yield instance, figures.counterfactual_picture(original, result.x[i], caption, cell.method.feature_range)


def contact_sheet(sweep: list[Cell]) -> Image.Image:
    """The first instances of a sweep, a row each, and what every cell made of them that has the same data."""
    shown = [cell for cell in sweep if _card(cell) == _card(sweep[0])]
    originals = _originals(sweep[0], max(1, SHEET // len(shown)))
    axes = list(sweep[0].swept) or ["target_class"]
    columns = []
    for cell in shown:
        target = class_name(cell.target_class, cell.trained)
        heading = [str(target if axis == "target_class" else cell.swept[axis]) for axis in axes]
        result = Result.load(store.result_path(cell.id)) if store.has(cell.id) else None
        columns.append((heading, [_entry(cell, result, i) for i in range(len(originals))]))
    return figures.contact_sheet(originals, axes, columns, sweep[0].method.feature_range)


def _entry(cell: Cell, result: Result | None, i: int) -> tuple[np.ndarray | None, list[str]]:
    if result is None:
        return None, ["failed", ""]
    if not result.found[i]:
        return None, ["not found", ""]
    if result.unchanged[i]:
        return result.x[i], ["unchanged", ""]
    return result.x[i], [" → ".join(map(str, _change(cell, result, i))), f"L1={result.l1[i]:.1f}"]


def _change(cell: Cell, result: Result, i: int) -> tuple[int | str, int | str]:
    """The class of the instance and of the counterfactual, as a person is shown them."""
    return class_name(result.original_class[i], cell.trained), class_name(result.cf_class[i], cell.trained)


def _originals(cell: Cell, first: int) -> np.ndarray:
    about = cell.trained.data.stat()
    return _x_test(cell.trained.data, about.st_ino, about.st_mtime_ns)[list(cell.instances[:first])]


@lru_cache(maxsize=1)
def _x_test(path: Path, *version: int) -> np.ndarray:
    """The test split, read once for all cells as long as the file does not change."""
    return data.read_npz(path, ("x_test",))["x_test"]


def _card(cell: Cell) -> str:
    return cell.trained.data_card.read_text()
