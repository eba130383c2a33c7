"""The counterfactuals that the report shows as pictures: a choice that is spread over classes and cells.

Each is in the page, and as captioned PNG files in a folder beside it.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cfx import data, figures
from cfx.charts import in_order
from cfx.result import Result
from pipelines.cells import measures, paths
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.reporting import tables

# How many counterfactuals are shown with their pictures, so that the page stays one that opens at once: all of a grid
# sweep of one instance, or every target class for an instance of each class of MNIST.
SHOWN = 132
# Embedded images have about this many pixels a side, steps of an evolution half as many. Smaller ones are enlarged
# pixel by pixel, for printers blur them.
_SIDE = 224


def select(sweep: list[Cell], table: pd.DataFrame) -> list[tuple[int, Cell]]:
    """The counterfactuals shown, each as its place among the instances and its cell: by instance, then by cell.

    Instances of different original classes take turns, those that are classified right first, so that all classes are
    there as long as there is room; of more cells than there is room for, as many are left out between each two shown.
    Not shown is what was not changed, for the instance was in the target class already.
    """
    collected = set(table["cell"].unique())
    finished = [cell for cell in sweep if cell.id in collected]
    if not finished:
        return []
    rows = _right_first(table[table["cell"] == finished[0].id].reset_index(drop=True))
    rows = rows.assign(turn=rows.groupby("original_class").cumcount())
    places = rows.sort_values(["turn", "original_class"]).index.tolist()
    room = min(len(finished), max(SHOWN // rows["original_class"].nunique(), 1))
    cells = [finished[i] for i in np.linspace(0, len(finished) - 1, room).round().astype(int)]
    pairs = itertools.product(places[: max(SHOWN // room, 1)], cells)
    unchanged = table[table["unchanged"]]
    same = set(zip(unchanged["cell"], unchanged["instance"], strict=True))
    return [
        (place, cell)
        for place, cell in pairs
        if place < len(cell.instances) and (cell.id, cell.instances[place]) not in same
    ]


def render(shown: list[tuple[int, Cell]], table: pd.DataFrame, folder: Path) -> list[list[dict[str, Any]]]:
    """The pictures and values of the counterfactuals `chosen`, by instance; writes the files into `folder`."""
    folder.mkdir()
    x_test = {path: _x_test(path) for path in {cell.trained.data for _, cell in shown}}
    made: dict[tuple[int, str], dict[str, Any]] = {}
    for cell in {cell.id: cell for _, cell in shown}.values():
        result, rows = _result(cell), tables.named([cell], table[table["cell"] == cell.id])
        for place in [place for place, shown_cell in shown if shown_cell is cell]:
            instance = x_test[cell.trained.data][cell.instances[place]]
            made[place, cell.id] = _counterfactual(cell, result, rows.iloc[place], place, instance, folder)
    by_instance = itertools.groupby(shown, key=lambda pair: pair[0])
    return [[made[place, cell.id] for place, cell in pairs] for _, pairs in by_instance]


def mosaic(
    sweep: list[Cell], table: pd.DataFrame
) -> tuple[list[list[Image.Image | None]], list[str], list[str]] | None:
    """An instance of each original class and its nearest counterfactual of each target class: tiles and their names.

    sweep, table: of one method. The first column is the instance; what was not found is None, and a blank stands where
    the instance is in the target class already. One instance alone has a second row, of what was changed. None where
    only one target class was wanted, or nothing was found. Where several cells have a target class, the nearest counts;
    of several classifiers, the first.
    """
    sweep = [cell for cell in sweep if cell.trained == sweep[0].trained]
    table = table[table["cell"].isin([cell.id for cell in sweep])]
    found = measures.rows(table, "found")
    if not len(found) or table["target_class"].nunique() < 2:
        return None
    instances = _right_first(table).groupby("original_class")["instance"].first().head(20)
    targets = in_order(table["target_class"])[:20]
    x_test = _x_test(sweep[0].trained.data)
    limits = sweep[0].method.feature_range
    reached = _nearest(sweep, found[found["instance"].isin(instances)])
    unchanged = table[table["unchanged"]]
    blank = Image.new("RGBA", figures.input_image(x_test[0], limits).size)
    shown: dict[tuple[int, str], Image.Image] = {
        key: blank for key in zip(unchanged["instance"], unchanged["target_class"], strict=True)
    }
    changes = shown | {key: figures.difference_image(x_test[key[0]], x, limits) for key, x in reached.items()}
    shown |= {key: figures.input_image(x, limits) for key, x in reached.items()}
    names, tiles = [], []
    for original_class, instance in instances.items():
        x = x_test[instance]
        names.append(str(class_name(original_class, sweep[0].trained)))
        tiles.append([figures.input_image(x, limits), *(shown.get((instance, target)) for target in targets)])
        if len(instances) == 1:
            names.append("change")
            tiles.append([figures.difference_image(x, x, limits), *(changes.get((instance, y)) for y in targets)])
    return tiles, names, ["original", *(str(class_name(target, sweep[0].trained)) for target in targets)]


def _nearest(sweep: list[Cell], found: pd.DataFrame) -> dict[tuple[int, str], np.ndarray]:
    """The nearest counterfactual of each instance and target class, of those found."""
    nearest = found.sort_values("l1", kind="stable").drop_duplicates(["instance", "target_class"])
    by_id = {cell.id: cell for cell in sweep}
    reached: dict[tuple[int, str], np.ndarray] = {}
    for name, rows in nearest.groupby("cell"):
        result = _result(by_id[str(name)])
        for instance, target in zip(rows["instance"].tolist(), rows["target_class"].tolist(), strict=True):
            reached[instance, target] = result.x[result.instance == instance][0]
    return reached


def _right_first(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows in another order: a mistake of the classifier makes a poor example of its class."""
    order = np.argsort((rows["label"] != rows["original_class"]).to_numpy(), kind="stable")
    return rows.iloc[order]


def anchor(cell: Cell, instance: int) -> str:
    """A counterfactual's name in links and file names."""
    return re.sub(r"[^\w.=+-]+", "_", f"instance={instance}_{cell.name}")


def files(shown: list[tuple[int, Cell]]) -> dict[str, Cell]:
    """The names of the files that `drawn` writes of the counterfactuals `chosen`, each with its cell.

    Some of these files are not there: not every counterfactual has an evolution.
    """
    return {file: cell for place, cell in shown for file in _files(anchor(cell, cell.instances[place]))}


def _files(name: str) -> tuple[str, str]:
    """The files of a counterfactual: its picture and its evolution."""
    return f"{name}.png", f"{name}_evolution.png"


def _counterfactual(
    cell: Cell, result: Result, row: pd.Series, place: int, instance: np.ndarray, folder: Path
) -> dict[str, Any]:
    """One counterfactual: its values, its pictures for the page, and the same as files of their own."""
    values = {str(column): value for column, value in row.drop("cell").items()}
    limits = cell.method.feature_range
    x = result.x[place]
    caption = figures.caption(
        values["original_class"], values["cf_class"], values["probability"], values["l1"], values["found"]
    )
    name = anchor(cell, values["instance"])
    picture, evolution = (folder / file for file in _files(name))
    figures.counterfactual_picture(instance, x, caption, limits).save(picture)

    path, steps = result.path, np.flatnonzero(result.path.row == place)
    reached = [class_name(label, cell.trained) for label in path.cf_class[steps]]
    if len(steps):
        points = path.x[steps], path.lam[steps], path.l1[steps], reached
        figures.evolution_strip(instance, *points, limits).save(evolution)
    return {
        "cell": cell,
        "id": name,
        "caption": caption,
        "original": _embedded(figures.input_image(instance, limits), _SIDE),
        "counterfactual": _embedded(figures.input_image(x, limits), _SIDE),
        "difference": _embedded(figures.difference_image(instance, x, limits), _SIDE),
        "evolution": [
            {
                "image": _embedded(figures.input_image(path.x[step], limits), _SIDE // 2),
                "cf_class": label,
                **{name: getattr(path, name)[step] for name in ("lam", "l1", "probability")},
            }
            for step, label in zip(steps, reached, strict=True)
        ],
        **values,
    }


def _x_test(path: Path) -> np.ndarray:
    return data.read_npz(path, ("x_test",))["x_test"]


def _result(cell: Cell) -> Result:
    return Result.load(paths.RESULTS / f"{cell.id}.npz")


def _embedded(image: Image.Image, side: int) -> str:
    """An image as a data URI of about `side` pixels: the very pixels of a small one, a likeness of a large one."""
    factor = side // max(image.size)
    content = io.BytesIO()
    if factor:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        image.save(content, "PNG", optimize=True)
        return data_uri("image/png", content.getvalue())
    image.thumbnail((side, side))
    image.save(content, "WEBP", quality=90)
    return data_uri("image/webp", content.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Content of a media type as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
