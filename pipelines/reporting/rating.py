"""A blind rating: people name pictures that are shown without labels, and their answers are compared with the classes.

The page shows real instances and the counterfactuals of each method in random order. A picture has a number; only the
key, `tables/rating_key.csv`, relates it to a method and a class.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfx import data, figures
from cfx.charts import wilson_interval
from cfx.errors import InputError
from pipelines.cells import measures
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.reporting import gallery, trade_off

KEY, PAGE = "rating_key.csv", "rating.html"
# The answer for a picture that resembles no class.
NO_CLASS = -1
# The columns of a file of answers; `report` is the digest of the key, and an answer is the index of a class.
ANSWERS = ("report", "picture", "answer")
REAL = "real instances"
# The maximum number of pictures of real instances and of each method and setting, and of all.
_PICTURES, _MOST = 20, 200
# The approximate size of the pictures, in pixels.
_SIDE = 112


def write(sweep: list[Cell], table: pd.DataFrame, folder: Path) -> dict[str, Any] | None:
    """Write the key to the report's folder; returns the content of the page.

    If there are several data sets, the pictures are from the first one. Returns None if its data are not images, or if
    nothing was found.
    """
    cells = [cell for cell in sweep if cell.trained.data == sweep[0].trained.data]
    arrays = data.read_npz(cells[0].trained.data, ("x_test", "y_test"))
    found = measures.rows(table[table["cell"].isin([cell.id for cell in cells])], "found")
    if arrays["x_test"].ndim != 4 or not len(found):
        return None
    random = np.random.default_rng(0)
    by = trade_off.settings(cells, found)
    groups = [rows for _, rows in found.groupby(by, sort=False, dropna=False)]
    count = max(1, min(_PICTURES, _MOST // (len(groups) + 1)))
    instances = random.permutation(cells[0].instances)[:count]
    shown = [pd.DataFrame({"source": REAL, "cell": "", "instance": instances, "class": arrays["y_test"][instances]})]
    for rows in groups:
        drawn = rows.iloc[random.permutation(len(rows))[:count]].rename(columns={"cf_class": "class"})
        source = trade_off.label(rows.iloc[0].to_dict(), by)
        shown.append(drawn[["cell", "instance", "class"]].assign(source=source))
    key = pd.concat(shown, ignore_index=True)
    key = key.iloc[random.permutation(len(key))].reset_index(drop=True)
    key.insert(0, "picture", np.arange(1, len(key) + 1))
    key.to_csv(folder / "tables" / KEY, index=False)
    classes = json.loads(cells[0].trained.data_card.read_text())["classes"]
    limits = cells[0].method.feature_range
    return {
        "report": digest(folder / "tables" / KEY),
        "classes": [str(class_name(label, cells[0].trained)) for label in range(classes)],
        "pictures": [gallery.embedded(figures.input_image(x, limits), _SIDE) for x in _inputs(key, arrays["x_test"])],
        "no_class": NO_CLASS,
    }


def _inputs(key: pd.DataFrame, x_test: np.ndarray) -> np.ndarray:
    """The inputs (n, *shape) that the pictures of a key show."""
    x = x_test[key["instance"]]
    for cell, rows in key[key["source"] != REAL].groupby("cell"):
        x[rows.index] = gallery.counterfactuals(str(cell), rows["instance"])
    return x


def digest(key: Path) -> str:
    """The digest of a key, by which a file of answers names its report."""
    return hashlib.sha256(key.read_bytes()).hexdigest()[:16]


def agreement(files: list[Path], report: Path) -> pd.DataFrame:
    """The share of the answers that name the class of the picture, one row for each source.

    files: CSV files that the page saved, one for each person. Returns the columns source, answers, share, low, high and
    none: low and high are the 95 % Wilson interval of the share, which treats the answers of several people to one
    picture as independent, and none is the share of the answers "none", which count as wrong.
    Raises InputError if a file does not contain answers to this report.
    """
    path = report / "tables" / KEY
    if not path.is_file():
        raise InputError(f"{path}: no such file; run a sweep on images first")
    if len(set(files)) < len(files):
        raise InputError("a file of answers is given twice; give each once")
    key = pd.read_csv(path).set_index("picture")
    answers = pd.concat([_answers(file, digest(path), key.index) for file in files], ignore_index=True)
    known = key.loc[answers["picture"]].reset_index(drop=True)
    is_named = known["class"].astype(str) == answers["answer"]
    named = is_named.groupby(known["source"], sort=False).agg(["sum", "size"])
    low, high = wilson_interval(named["sum"], named["size"])
    none = (answers["answer"] == str(NO_CLASS)).groupby(known["source"], sort=False).mean()
    share = named["sum"] / named["size"]
    found = pd.DataFrame({"answers": named["size"], "share": share, "low": low, "high": high, "none": none})
    found = found.reset_index(names="source")
    return found.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def _answers(file: Path, report: str, pictures: Iterable[int]) -> pd.DataFrame:
    """The answers in a file. Raises InputError if they are not answers to this report."""
    try:
        answers = pd.read_csv(file, dtype={"report": str, "answer": str}, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; save the answers in {PAGE}") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: cannot be read as CSV ({reason}); save the answers in {PAGE}") from error
    if missing := [column for column in ANSWERS if column not in answers]:
        raise InputError(f"{file}: has no column {missing[0]}; save the answers in {PAGE}")
    if not len(answers):
        raise InputError(f"{file}: has no answers; name at least one picture")
    if (answers["report"] != report).any():
        raise InputError(f"{file}: answers another report; run the sweep that it belongs to again")
    if unknown := sorted(set(map(str, answers["picture"])) - set(map(str, pictures))):
        raise InputError(f"{file}: the report has no picture {unknown[0]}; save the answers in {PAGE}")
    if len(repeated := answers["picture"][answers["picture"].duplicated()]):
        raise InputError(f"{file}: has two answers to picture {repeated.iloc[0]}; remove one")
    return answers
