"""The cells of a sweep: what each is asked to compute, and the identity under which it is kept.

A cell's identity is a hash of all that decides what it holds: the method with its hyperparameters, the instances, the
digests of the data, the model and the judges, and the source of the search and the measures. Where it is computed, how
it is tracked and where files lie are not in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import cfx
from cfx import data, models
from cfx.errors import InputError
from cfx.methods import Method
from pipelines.cells import paths, provenance
from pipelines.cells.paths import Trained
from pipelines.config.schema import Instances, Params

# The modules of cfx that decide what a cell holds.
CELL_CODE = ("classifier", "methods", "metrics", "point", "primal_dual", "program", "result", "search", "wachter")


@dataclass(frozen=True)
class Cell:
    """One point of a sweep, for all chosen instances."""

    id: str
    """32 hexadecimal digits."""
    upstream: dict[str, Any]
    """The values of the sweep's axes over data, model and training at this point."""
    swept: dict[str, Any]
    """The values of all of its axes."""
    method: Method
    """What is searched, with all hyperparameters."""
    instances: tuple[int, ...]
    """Places in the test split."""
    trained: Trained
    """The data, the classifier that is explained, and the judges."""

    @property
    def name(self) -> str:
        """How a reader tells the cell from the others: its swept values, or its target where nothing is swept."""
        shown = self.swept or {"target_class": self.method.target_class}
        return ", ".join(f"{key}={value}" for key, value in shown.items())


def of_sweep(params: Params) -> list[Cell]:
    """The cells that the parameters describe, in order, for the prepared data, the trained models and the judges.

    Raises InputError for an instance or a target class that the data does not have, for a model that is not there, and
    where the artefacts are not those of the first model.
    """
    if not params.variants:
        return _of_model(params, {}, paths.LATEST)
    if params != params.of(params.variants[0]):
        raise InputError(
            "params.yaml: its data, model or training is not the first of its variants; run the sweep again"
        )
    return [cell for variant in params.variants for cell in _of_model(params, variant.swept, variant.trained)]


def _of_model(params: Params, upstream: dict[str, Any], trained: Trained) -> list[Cell]:
    if not trained.folder.is_dir():
        raise InputError(f"{trained.folder}: a model of the sweep is not here; run `python -m pipelines.run` for it")
    instances = check(params, *prepared(trained))
    digests = _digests(trained)
    cells = []
    for swept, method in params.points():
        sha256 = _sha256(_decided(method, instances) | digests)
        cells.append(Cell(sha256, upstream, upstream | swept, method, instances, trained))
    return cells


def identity(cell: Cell) -> dict[str, Any]:
    """All that decides what a cell holds, by value or by SHA-256, in a form that can be written as JSON.

    Raises RuntimeError where an artefact is no longer the one that the cell was planned for.
    """
    decided = _decided(cell.method, cell.instances) | _digests(cell.trained)
    if _sha256(decided) != cell.id:
        raise RuntimeError(
            f"the data, the classifier or the judges of cell {cell.id} were changed meanwhile; run again"
        )
    return decided


def _sha256(decided: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:32]


def _decided(method: Method, instances: tuple[int, ...]) -> dict[str, Any]:
    bounds = [np.asarray(bound).tolist() for bound in method.feature_range]
    return {"method": method.name, **asdict(method), "feature_range": bounds, "instances": list(instances)}


def _digests(trained: Trained) -> dict[str, Any]:
    return {
        "data": json.loads(trained.data_card.read_text())["sha256"],
        "model": models.sha256(trained.model),
        "judges": [models.sha256(path) for path in (trained.autoencoders, trained.oracle)],
        "code": code_sha256(),
    }


def prepared(trained: Trained) -> tuple[dict[str, Any], np.ndarray]:
    """What the prepared data are, and the labels of their test split."""
    return json.loads(trained.data_card.read_text()), data.read_npz(trained.data, ("y_test",))["y_test"]


def check(params: Params, card: Mapping[str, Any], labels: np.ndarray) -> tuple[int, ...]:
    """Check the sweep against what its data are; returns the chosen places in the test split, which has these labels.

    Raises InputError for an instance or a target class that the data does not have.
    """
    classes, names = card["classes"], card.get("class_names")
    for _, method in params.points():
        if isinstance(method.target_class, int) and method.target_class >= classes:
            target = method.target_class
            known = f"0 to {classes - 1}" + (f" ({', '.join(names)})" if names else "")
            raise InputError(f"search.target_class: {target} is not a class of the data, which has {known}")
    return _chosen_instances(params.instances, labels)


def _chosen_instances(chosen: Instances, labels: np.ndarray) -> tuple[int, ...]:
    """The places in the test split that are to be explained. Raises InputError where there is none of them."""
    if chosen.index is not None or chosen.range is not None:
        key, greatest = ("index", max(chosen.index)) if chosen.index else ("range", (chosen.range or (0, 0))[1] - 1)
        if greatest >= len(labels):
            last = len(labels) - 1
            raise InputError(f"instances.{key}: {greatest} is outside the test split, which goes from 0 to {last}")
        return tuple(chosen.index or range(*chosen.range or ()))
    classes = sorted(set(labels.tolist())) if chosen.classes == "all" else chosen.classes
    if unknown := sorted(set(classes) - set(labels.tolist())):
        raise InputError(f"instances.classes: the test split has no instance of class {unknown[0]}")
    return tuple(int(place) for label in classes for place in np.flatnonzero(labels == label)[: chosen.per_class])


@cache
def code_sha256() -> str:
    """The digest of the source that fills a cell: a comment, a docstring or a line break makes no old cell stale."""
    sources = (Path(cfx.__file__).with_name(f"{module}.py") for module in CELL_CODE)
    return hashlib.sha256("\n".join(map(provenance.syntax, sources)).encode()).hexdigest()


def sweep_sha256(cells: list[Cell]) -> str:
    """The identity of a sweep: of its cells, in order."""
    return hashlib.sha256("\n".join(cell.id for cell in cells).encode()).hexdigest()[:32]
