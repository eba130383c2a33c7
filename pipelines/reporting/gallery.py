"""Single counterfactuals in the report: images, in the page and as PNG files, or what they change in a table."""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cfx import changes, data, figures
from cfx.changes import Change
from cfx.charts import in_order
from cfx.result import Result
from pipelines.cells import measures, paths
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.reporting import tables

# The maximum number of counterfactuals with images, so that the page loads quickly.
SHOWN = 132
# The maximum number of cells with a chart of what changes in a table.
CHARTS = 12
# The approximate size of embedded images in pixels; those of an evolution have half of it. Small images are enlarged
# without interpolation, because printers blur them.
_SIDE = 224


def select(sweep: list[Cell], table: pd.DataFrame) -> list[tuple[int, Cell]]:
    """Select the counterfactuals to show, as (position of the instance, cell), sorted by instance and cell.

    The instances alternate between the original classes, and correctly classified ones come first. If there are too
    many cells, evenly spaced ones are selected. Unchanged instances are not shown.
    """
    collected = set(table["cell"].unique())
    finished = [cell for cell in sweep if cell.id in collected]
    if not finished:
        return []
    rows = _correct_first(table[table["cell"] == finished[0].id].reset_index(drop=True))
    rows = rows.assign(turn=rows.groupby("original_class").cumcount())
    positions = rows.sort_values(["turn", "original_class"]).index.tolist()
    n_cells = min(len(finished), max(SHOWN // rows["original_class"].nunique(), 1))
    cells = _evenly_spaced(finished, n_cells)
    unchanged = table[table["unchanged"]]
    excluded = set(zip(unchanged["cell"], unchanged["instance"], strict=True))
    return [
        (position, cell)
        for position, cell in itertools.product(positions[: max(SHOWN // n_cells, 1)], cells)
        if position < len(cell.rows) and (cell.id, cell.rows[position]) not in excluded
    ]


def _evenly_spaced(cells: list[Cell], most: int) -> list[Cell]:
    count = min(len(cells), most)
    return [cells[i] for i in np.linspace(0, len(cells) - 1, count).round().astype(int)]


def changed(sweep: list[Cell], table: pd.DataFrame) -> Iterator[tuple[Cell, list[list[Change]]]]:
    """The cells with a table in which something was found, and the changes of their counterfactuals.

    If there are too many cells, evenly spaced ones are selected.
    """
    found = set(measures.rows(table, "found")["cell"])
    cells = [cell for cell in sweep if cell.id in found and paths.features(cell.trained)]
    for cell in _evenly_spaced(cells, CHARTS):
        instances = test_split(cell.trained.data)[list(cell.rows)]
        yield cell, changes.of_result(paths.features(cell.trained), instances, _result(cell.id))


def render(shown: list[tuple[int, Cell]], table: pd.DataFrame, folder: Path) -> list[list[dict[str, Any]]]:
    """Write the images of the selected counterfactuals to `folder`; returns their images and values by instance.

    A counterfactual in a table has its changes in place of images.
    """
    folder.mkdir()
    x_test = {path: test_split(path) for path in {cell.trained.data for _, cell in shown}}
    rendered: dict[tuple[int, str], dict[str, Any]] = {}
    for cell in {cell.id: cell for _, cell in shown}.values():
        result, rows = _result(cell.id), tables.named([cell], table[table["cell"] == cell.id])
        for i in [i for i, shown_cell in shown if shown_cell is cell]:
            instance = x_test[cell.trained.data][cell.rows[i]]
            rendered[i, cell.id] = _counterfactual(cell, result, rows.iloc[i], i, instance, folder)
    by_instance = itertools.groupby(shown, key=lambda pair: pair[0])
    return [[rendered[i, cell.id] for i, cell in pairs] for _, pairs in by_instance]


def mosaic(
    sweep: list[Cell], table: pd.DataFrame
) -> tuple[list[list[Image.Image | None]], list[str], list[str]] | None:
    """An instance of each original class and its nearest counterfactual of each target class: images, row and column
    names.

    sweep, table: those of one method; if there are several classifiers, the first is used. The first column is the
    instance. An image is None if there is no counterfactual, and blank if the instance already is in the target class.
    A single instance has a second row with the changes. Returns None if there is one target class, if nothing was
    found, or for a table.
    """
    sweep = [cell for cell in sweep if cell.trained == sweep[0].trained]
    table = table[table["cell"].isin([cell.id for cell in sweep])]
    found = measures.rows(table, "found")
    if not len(found) or table["target_class"].nunique() < 2:
        return None
    instances = _correct_first(table).groupby("original_class")["instance"].first().head(20)
    targets = in_order(table["target_class"])[:20]
    x_test = test_split(sweep[0].trained.data)
    if x_test.ndim == 2:
        return None
    limits = sweep[0].method.feature_range
    reached = _nearest(found[found["instance"].isin(instances)])
    unchanged = table[table["unchanged"]]
    blank = Image.new("RGBA", figures.input_image(x_test[0], limits).size)
    shown: dict[tuple[int, str], Image.Image] = {
        key: blank for key in zip(unchanged["instance"], unchanged["target_class"], strict=True)
    }
    differences = shown | {key: figures.difference_image(x_test[key[0]], x, limits) for key, x in reached.items()}
    shown |= {key: figures.input_image(x, limits) for key, x in reached.items()}
    names, tiles = [], []
    for original_class, instance in instances.items():
        x = x_test[instance]
        names.append(str(class_name(original_class, sweep[0].trained)))
        tiles.append([figures.input_image(x, limits), *(shown.get((instance, target)) for target in targets)])
        if len(instances) == 1:
            names.append("change")
            tiles.append([figures.difference_image(x, x, limits), *(differences.get((instance, y)) for y in targets)])
    return tiles, names, ["original", *(str(class_name(target, sweep[0].trained)) for target in targets)]


def _nearest(found: pd.DataFrame) -> dict[tuple[int, str], np.ndarray]:
    """The nearest counterfactual of each instance and target class."""
    nearest = found.sort_values("l1", kind="stable").drop_duplicates(["instance", "target_class"])
    reached: dict[tuple[int, str], np.ndarray] = {}
    for name, rows in nearest.groupby("cell"):
        keys = zip(rows["instance"].tolist(), rows["target_class"].tolist(), strict=True)
        reached |= zip(keys, counterfactuals(str(name), rows["instance"]), strict=True)
    return reached


def counterfactuals(cell: str, instances: Iterable[int]) -> np.ndarray:
    """The counterfactuals (n, *shape) of these instances in the cell with this ID."""
    result = _result(cell)
    # the first of several counterfactuals of an instance is the nearest
    position = {instance: i for i, instance in reversed(list(enumerate(result.instance.tolist())))}
    return result.x[[position[instance] for instance in instances]]


def _correct_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows so that correctly classified instances come first, because they are better examples."""
    order = np.argsort((rows["label"] != rows["original_class"]).to_numpy(), kind="stable")
    return rows.iloc[order]


def anchor(cell: Cell, i: int) -> str:
    """The name of the counterfactual in row i in links and file names."""
    place = f"_place={i % cell.method.count + 1}" if cell.method.count > 1 else ""
    return re.sub(r"[^\w.=+-]+", "_", f"instance={cell.rows[i]}{place}_{cell.name}")


def files(shown: list[tuple[int, Cell]]) -> dict[str, Cell]:
    """The names of the files of the selected counterfactuals, with their cells; some have no evolution."""
    return {file: cell for i, cell in shown for file in _files(anchor(cell, i))}


def _files(name: str) -> tuple[str, str]:
    """The file names of the image and of the evolution."""
    return f"{name}.png", f"{name}_evolution.png"


def _counterfactual(
    cell: Cell, result: Result, row: pd.Series, i: int, instance: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Write the images of one counterfactual; returns its values, and its images or changes for the page."""
    values = {str(column): value for column, value in row.drop("cell").items()}
    x = result.x[i]
    caption = figures.caption(
        values["original_class"], values["cf_class"], values["probability"], values["l1"], values["found"]
    )
    name = anchor(cell, i)
    # a hyperparameter of a custom method may have the name of one of the others
    shown = {**values, "cell": cell, "id": name, "caption": caption}
    if features := paths.features(cell.trained):
        return shown | {"changes": changes.changes(features, instance, x), "original": None, "evolution": []}
    return (
        shown | {"changes": []} | _images(cell, result, i, instance, caption, [folder / file for file in _files(name)])
    )


def _images(
    cell: Cell, result: Result, i: int, instance: np.ndarray, caption: str, files: list[Path]
) -> dict[str, Any]:
    """Write the image and the evolution of one counterfactual to the files; returns the images for the page."""
    x, limits = result.x[i], cell.method.feature_range
    picture, evolution = files
    figures.counterfactual_picture(instance, x, caption, limits).save(picture)

    path, steps = result.path, np.flatnonzero(result.path.row == i)
    reached = [class_name(label, cell.trained) for label in path.cf_class[steps]]
    if len(steps):
        points = path.x[steps], path.lam[steps], path.l1[steps], reached
        figures.evolution_strip(instance, *points, limits).save(evolution)
    return {
        "original": embedded(figures.input_image(instance, limits), _SIDE),
        "counterfactual": embedded(figures.input_image(x, limits), _SIDE),
        "difference": embedded(figures.difference_image(instance, x, limits), _SIDE),
        "evolution": [
            {
                "image": embedded(figures.input_image(path.x[step], limits), _SIDE // 2),
                "cf_class": label,
                **{name: getattr(path, name)[step] for name in ("lam", "l1", "probability")},
            }
            for step, label in zip(steps, reached, strict=True)
        ],
    }


def test_split(path: Path) -> np.ndarray:
    """The inputs of the test split in a prepared data set."""
    return data.read_npz(path, ("x_test",))["x_test"]


def _result(cell: str) -> Result:
    return Result.load(paths.RESULTS / f"{cell}.npz")


def embedded(image: Image.Image, side: int) -> str:
    """An image of about `side` pixels as a data URI: lossless if it is small, otherwise compressed."""
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
    """Content of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
