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
from cfx.errors import InputError
from cfx.result import Result
from pipelines.cells import measures, paths
from pipelines.cells.paths import class_name
from pipelines.cells.plan import Cell
from pipelines.reporting import gallery, trade_off

KEY = "rating_key.csv"
# The answer for a picture that resembles no class.
NO_CLASS = "none"
# The columns of a file of answers; `report` is the digest of the key.
ANSWERS = ("report", "picture", "answer")
REAL = "real instances"
# The maximum number of pictures of real instances, and of each method and setting.
_PICTURES = 20
# The approximate size of the pictures, in pixels.
_SIDE = 112


def write(sweep: list[Cell], table: pd.DataFrame, folder: Path) -> dict[str, Any] | None:
    """Write the key to the report's folder; returns the content of the page, or None if the data are not images.

    If there are several data sets, the pictures are from the first one.
    """
    cells = [cell for cell in sweep if cell.trained.data == sweep[0].trained.data]
    arrays = data.read_npz(cells[0].trained.data, ("x_test", "y_test"))
    x_test = arrays["x_test"]
    found = measures.rows(table, "found")
    found = found[found["cell"].isin([cell.id for cell in cells])]
    if x_test.ndim != 4 or not len(found):
        return None
    random = np.random.default_rng(0)
    shown, images = [], []
    instances = np.array(cells[0].instances)
    for instance in random.permutation(instances)[:_PICTURES]:
        shown.append({"source": REAL, "cell": "", "instance": instance, "class": int(arrays["y_test"][instance])})
        images.append(x_test[instance])
    by = trade_off.settings(cells, found)
    for _, rows in found.groupby(by, sort=False, dropna=False):
        for row in rows.iloc[random.permutation(len(rows))[:_PICTURES]].to_dict("records"):
            result = Result.load(paths.RESULTS / f"{row['cell']}.npz")
            source = {"source": trade_off.label(row, by), "cell": row["cell"]}
            shown.append({**source, "instance": row["instance"], "class": row["cf_class"]})
            images.append(result.x[result.instance == row["instance"]][0])
    order = random.permutation(len(shown))
    key = pd.DataFrame([shown[i] for i in order]).assign(picture=np.arange(1, len(shown) + 1))
    key["class"] = [str(class_name(label, cells[0].trained)) for label in key["class"]]
    key.to_csv(folder / "tables" / KEY, index=False)
    limits = cells[0].method.feature_range
    classes = json.loads(cells[0].trained.data_card.read_text())["classes"]
    return {
        "report": digest(folder / "tables" / KEY),
        "classes": [str(class_name(label, cells[0].trained)) for label in range(classes)],
        "pictures": [gallery.embedded(figures.input_image(images[i], limits), _SIDE) for i in order],
        "no_class": NO_CLASS,
    }


def digest(key: Path) -> str:
    """The digest of a key, by which a file of answers names its report."""
    return hashlib.sha256(key.read_bytes()).hexdigest()[:16]


def agreement(files: list[Path], report: Path) -> pd.DataFrame:
    """The share of the answers that name the class of the picture, one row for each source.

    files: CSV files that the page saved. Returns the columns source, answers, share, low and high (the 95 % Wilson
    interval). Raises InputError if a file is not one of answers to this report.
    """
    # imported here, because SciPy takes a third of a second
    from scipy.stats import binomtest

    path = report / "tables" / KEY
    if not path.is_file():
        raise InputError(f"{path}: no such file; run a sweep on images first")
    key = pd.read_csv(path, dtype={"class": str}).set_index("picture")
    answers = pd.concat([_answers(file, digest(path), key.index) for file in files])
    known = key.loc[answers["picture"]]
    is_named = pd.Series(known["class"].to_numpy() == answers["answer"].to_numpy())
    rows = []
    for source, named in is_named.groupby(known["source"].to_numpy(), sort=False):
        interval = binomtest(int(named.sum()), len(named)).proportion_ci(method="wilson")
        share = {"share": named.mean(), "low": interval.low, "high": interval.high}
        rows.append({"source": source, "answers": len(named), **share})
    return pd.DataFrame(rows).sort_values("share", ascending=False, ignore_index=True)


def _answers(file: Path, report: str, pictures: Iterable[int]) -> pd.DataFrame:
    """The answers in a file. Raises InputError if they are not answers to this report."""
    try:
        answers = pd.read_csv(file, dtype={"report": str, "answer": str}, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; save the answers in rating.html") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error}); save the answers in rating.html") from error
    if missing := [column for column in ANSWERS if column not in answers]:
        raise InputError(f"{file}: has no column {missing[0]}; save the answers in rating.html")
    if not len(answers):
        raise InputError(f"{file}: has no answers; name at least one picture")
    if (answers["report"] != report).any():
        raise InputError(f"{file}: answers another report; run `dvc checkout` or the sweep that it belongs to")
    if unknown := sorted(set(map(str, answers["picture"])) - set(map(str, pictures))):
        raise InputError(f"{file}: the report has no picture {unknown[0]}; save the answers in rating.html")
    if len(repeated := answers["picture"][answers["picture"].duplicated()]):
        raise InputError(f"{file}: has two answers to picture {repeated.iloc[0]}; remove one")
    return answers
