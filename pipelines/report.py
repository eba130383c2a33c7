"""Stage `report`: one page that shows what was run and what came out.   python -m pipelines.report

Writes artifacts/report/index.html, which holds its pictures and asks no other file or host for anything, and beside it
pictures/, the same as captioned PNG files for a paper. The same artefacts give the same bytes: no date is in it.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from cfx import data, figures, models
from cfx.files import replacing
from cfx.result import Result
from pipelines import artifacts, cells, params, store
from pipelines.cells import Cell
from pipelines.params import Params
from pipelines.terminal import user_errors

# How many counterfactuals are shown with their pictures, so that the page stays one that opens at once.
SHOWN = 100
# Embedded images have about this many pixels a side: smaller ones are enlarged pixel by pixel, for printers blur them.
_SIDE = 224
# The colour of text in figures on a light and on a dark ground, as in report.html.j2.
_LIGHT, _DARK = "#1c1e21", "#e4e6eb"


def main() -> None:
    """Run the stage."""
    chosen = params.read()
    sweep = cells.of_sweep(chosen)
    table = pd.read_parquet(artifacts.TABLE)
    tables = {str(cell): rows for cell, rows in table.groupby("cell")} if len(table) else {}
    finished = [cell for cell in sweep if cell.id in tables]
    asked = sum(len(cell.instances) for cell in sweep)
    with replacing(artifacts.REPORT) as folder:
        pictures = folder / "pictures"
        pictures.mkdir(parents=True)
        page = render(
            run=what_was_run(chosen, sweep),
            classifier=classifier(pictures),
            headline=headline(asked, [tables[cell.id] for cell in finished]),
            axes=_axes(sweep[0]),
            summary=[summary(cell, tables.get(cell.id)) for cell in sweep],
            judges=json.loads(artifacts.JUDGES_METRICS.read_text()),
            gallery=gallery(finished, tables, pictures),
        )
        (folder / "index.html").write_text(page, encoding="utf-8")


def what_was_run(chosen: Params, sweep: list[Cell]) -> dict[str, Any]:
    """The data and the model with their digests, the search, and the parameters as they stand in params.yaml."""
    # where the user's files lie on one machine is no part of what was run
    parameters = chosen.model_dump(mode="json", exclude={"paths"})
    return {
        "data": chosen.data.name,
        "card": json.loads(artifacts.DATA_CARD.read_text()),
        "model": chosen.model.name,
        "model_sha256": models.sha256(artifacts.MODEL),
        "methods": sorted({cell.method.name for cell in sweep}),
        "sweep": chosen.sweep,
        "instances": sweep[0].instances,
        "parameters": yaml.safe_dump(parameters, sort_keys=False, default_flow_style=None, width=88),
    }


def classifier(pictures: Path) -> dict[str, Any]:
    """What the explained classifier is worth on the test split, and how its training went."""
    confusion, history = pd.read_csv(artifacts.CONFUSION), pd.read_csv(artifacts.HISTORY)
    actual, predicted = confusion["actual"], confusion["predicted"]
    mistakes = confusion[actual != predicted].value_counts()
    described = (
        f"Confusion matrix: {(actual == predicted).sum()} of {len(confusion)} test examples are classified right"
    )
    if len(mistakes):
        (of, taken_for), times = mistakes.index[0], mistakes.iloc[0]
        described += f"; the most common mistake is a {of} taken for a {taken_for}, {times} times"
    drawn = [
        _figure(lambda ink: figures.confusion_figure(actual, predicted, ink), described, pictures / "confusion.png")
    ]
    if len(history):
        last = history.iloc[-1]
        described = (
            f"Loss and accuracy after each of {len(history)} epochs; after the last, the accuracy is "
            f"{last['accuracy']:.3f} on the training split and {last['test_accuracy']:.3f} on the test split"
        )
        drawn.append(_figure(lambda ink: figures.history_figure(history, ink), described, pictures / "history.png"))
    return {"metrics": json.loads(artifacts.METRICS.read_text()), "figures": drawn}


def headline(asked: int, tables: list[pd.DataFrame]) -> dict[str, Any]:
    """The whole sweep in a few numbers: of the counterfactuals asked for how many were found, and how good they are."""
    if not tables:
        return {"asked": asked, "found": 0, "l1": np.nan, "probability": np.nan, "runtime_s": 0.0}
    table = pd.concat(tables)
    found = table[table["found"]]
    return {
        "asked": asked,
        "found": len(found),
        "l1": found["l1"].median(),
        "probability": found["probability"].median(),
        "runtime_s": table["runtime_s"].sum(),
    }


def summary(cell: Cell, table: pd.DataFrame | None) -> dict[str, Any]:
    """A cell in one row: how many were found, and the medians of those; without a table, why there is none."""
    named = {"cell": cell, "values": [cell.swept.get(axis, cell.method.target_class) for axis in _axes(cell)]}
    if table is None:
        return named | {"reason": (store.failure(cell.id) or {}).get("error", "it has not been computed")}
    found = table[table["found"]]
    classes = found["cf_class"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return named | {
        "asked": len(table),
        "found": len(found),
        "classes": list(classes.items()),
        "runtime_s": table["runtime_s"].sum(),
        "anchor": _anchor(cell, cell.instances[0]),
        "oracle": found["oracle"].mean(),
        **{column: found[column].median() for column in ("probability", "l1", "l0", "im1", "im2", "lam")},
    }


def gallery(finished: list[Cell], tables: dict[str, pd.DataFrame], pictures: Path) -> list[list[dict[str, Any]]]:
    """The first counterfactuals with their pictures: for each instance, one from each cell."""
    if not finished:
        return []
    x_test = data.read_npz(artifacts.DATA, ("x_test",))["x_test"]
    places = range(len(finished[0].instances))
    shown = list(itertools.islice(itertools.product(places, finished), SHOWN))
    drawn: dict[tuple[int, str], dict[str, Any]] = {}
    for cell in finished:
        if of_cell := [place for place, shown_cell in shown if shown_cell is cell]:
            result, table = Result.load(artifacts.RESULTS / f"{cell.id}.npz"), tables[cell.id]
            for place in of_cell:
                drawn[place, cell.id] = counterfactual(cell, result, table.iloc[place], place, x_test, pictures)
    by_instance = itertools.groupby(shown, key=lambda pair: pair[0])
    return [[drawn[place, cell.id] for place, cell in pairs] for _, pairs in by_instance]


def counterfactual(
    cell: Cell, result: Result, row: pd.Series, place: int, x_test: np.ndarray, pictures: Path
) -> dict[str, Any]:
    """One counterfactual: its values, its pictures for the page, and the same as files of their own."""
    values = {str(column): value for column, value in row.drop("cell").items()}
    limits = cell.method.feature_range
    instance, x = x_test[values["instance"]], result.x[place]
    caption = figures.caption(
        values["original_class"], values["cf_class"], values["probability"], values["l1"], values["found"]
    )
    anchor = _anchor(cell, values["instance"])
    figures.counterfactual_picture(instance, x, caption, limits).save(pictures / f"{anchor}.png")

    path, steps = result.path, np.flatnonzero(result.path.row == place)
    if len(steps):
        points = path.x[steps], path.lam[steps], path.l1[steps], path.cf_class[steps]
        figures.evolution_strip(instance, *points, limits).save(pictures / f"{anchor}_evolution.png")
    return {
        "cell": cell,
        "anchor": anchor,
        "caption": caption,
        "original": _embedded(figures.input_image(instance, limits)),
        "counterfactual": _embedded(figures.input_image(x, limits)),
        "difference": _embedded(figures.difference_image(instance, x, limits)),
        "evolution": [
            {
                "image": _embedded(figures.input_image(path.x[step], limits)),
                **{name: getattr(path, name)[step] for name in ("lam", "l1", "cf_class", "probability")},
            }
            for step in steps
        ],
        **values,
    }


def render(**content: Any) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template("report.html.j2").render(shown=SHOWN, ink=_LIGHT, dark_ink=_DARK, **content)


def _number(value: float, spec: str) -> str:
    return "-" if np.isnan(value) else format(value, spec)


def _axes(cell: Cell) -> list[str]:
    """The columns that tell the cells apart: the target, which every reader asks for first, and what else is swept."""
    return ["target_class", *(axis for axis in cell.swept if axis != "target_class")]


def _anchor(cell: Cell, instance: int) -> str:
    """A counterfactual's name in links and file names."""
    return re.sub(r"[^\w.=+-]+", "_", f"instance={instance}_{cell.name}")


def _embedded(image: Image.Image) -> str:
    """An image as a data URI."""
    factor = _SIDE // max(image.size)
    if factor:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image.thumbnail((_SIDE, _SIDE))
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return _data_uri(png.getvalue())


def _figure(draw: Callable[[str], Figure], alt: str, path: Path) -> dict[str, str]:
    """A figure for a light and for a dark ground as data URIs, and the light one as a file."""
    dark = io.BytesIO()
    draw(_DARK).savefig(dark, format="png", dpi=160, transparent=True)
    draw(_LIGHT).savefig(path, dpi=160, transparent=True)
    return {"alt": alt, "name": path.stem, "light": _data_uri(path.read_bytes()), "dark": _data_uri(dark.getvalue())}


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


if __name__ == "__main__":
    with user_errors():
        main()
