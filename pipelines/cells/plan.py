"""The plan of a sweep: its cells, what each is asked to compute, and the file that takes them to the jobs.

The driver makes the plan once, from checked parameters; a job reads it, and composes and checks nothing again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfx import data
from cfx.errors import InputError
from cfx.files import replacing
from cfx.method import Method
from pipelines.cells import identity, paths, variants
from pipelines.cells.paths import Trained, class_name
from pipelines.config import schema, searches
from pipelines.config.schema import Instances, Params, Upstream


@dataclass(frozen=True)
class Cell:
    """One point of a sweep, for all chosen instances."""

    id: str
    """32 hexadecimal digits."""
    upstream: dict[str, Any]
    """The values of the sweep's axes over data, model and training at this point."""
    swept: dict[str, Any]
    """The values of all of its axes; None where the cell's method has no such hyperparameter."""
    search: dict[str, Any]
    """The `search` section of the configuration at this point."""
    instances: tuple[int, ...]
    """Places in the test split."""
    trained: Trained
    """The data, the classifier that is explained, the judges and the guides."""
    trust: dict[str, Any]
    """What may run when the classifier is read: arguments of `cfx.models.load`."""

    @cached_property
    def method(self) -> Method:
        """What is searched, with all hyperparameters."""
        return searches.method(self.search)

    @property
    def name(self) -> str:
        """How a reader tells the cell from the others: its swept values, or its target where nothing is swept."""
        return ", ".join(f"{axis}={value}" for axis, value in self._values.items())

    @property
    def title(self) -> str:
        """The same with the names that the data give their classes."""
        return ", ".join(f"{axis}={self.shown(axis, value)}" for axis, value in self._values.items())

    def shown(self, axis: str, value: Any) -> str:
        """A value of an axis as a reader is shown it."""
        return str(class_name(value, self.trained) if axis == "target_class" else value)

    @property
    def _values(self) -> dict[str, Any]:
        values = {axis: value for axis, value in self.swept.items() if value is not None}
        return values or {"target_class": self.target_class}

    @property
    def target_class(self) -> int | str:
        """Where the counterfactuals are to lie: `other`, `same` or a class."""
        return self.search["target_class"]


class Plan(NamedTuple):
    """What a job needs to know of the sweep that it is part of."""

    params: Params
    """Of the whole sweep."""
    cells: list[Cell]
    """Those that are to be computed."""


def write(path: Path, plan: Plan) -> None:
    """Write the plan as JSON."""
    cells = [asdict(cell) for cell in plan.cells]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"params": plan.params.model_dump(mode="json"), "cells": cells}, default=str))


def read(path: Path) -> Plan:
    """Read what `write` wrote."""
    content = json.loads(path.read_text())
    cells = []
    for cell in content["cells"]:
        trained = Trained(**{name: Path(folder) for name, folder in cell["trained"].items()})
        cells.append(Cell(**cell | {"instances": tuple(cell["instances"]), "trained": trained}))
    return Plan(schema.check(content["params"]), cells)


def make_cells(params: Params) -> list[Cell]:
    """The cells that the parameters describe, in order, for the prepared data, the trained models, judges and guides.

    Raises InputError for an instance or a target class that the data does not have, and for a model that is not there.
    """
    if not params.variants:
        return _of_model(params, params, {}, paths.LATEST)
    return [
        cell
        for variant in params.variants
        for cell in _of_model(params, variant, variant.swept, variants.trained(variant, params))
    ]


def _of_model(params: Params, upstream: Upstream, swept_upstream: dict[str, Any], trained: Trained) -> list[Cell]:
    for folder in trained.folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: is missing, but the sweep needs it; run `dvc repro variants`")
    instances = check(params, *prepared_data(trained))
    cells = []
    for swept, section in params.points():
        search = searches.canonical(section)
        name = identity.sha256(identity.inputs(search, instances, trained))
        # a hyperparameter may be called as an axis of the classifier is: `seed`
        swept = swept_upstream | {f"search.{axis}" if axis in swept_upstream else axis: v for axis, v in swept.items()}
        cells.append(Cell(name, swept_upstream, swept, search, instances, trained, upstream.trust))
    return cells


def current_inputs(cell: Cell) -> dict[str, Any]:
    """All that decides what a cell holds, as its artefacts are now.

    Raises RuntimeError where that is no longer what the cell was planned for.
    """
    found = identity.inputs(cell.search, cell.instances, cell.trained)
    if identity.sha256(found) != cell.id:
        raise RuntimeError(
            f"the data, the models or the code of cell {cell.id} changed during the run; run the same command again"
        )
    return found


def prepared_data(trained: Trained) -> tuple[dict[str, Any], np.ndarray]:
    """What the prepared data are, and the labels of their test split."""
    return json.loads(trained.data_card.read_text()), data.read_npz(trained.data, ("y_test",))["y_test"]


def check(params: Params, card: Mapping[str, Any], labels: np.ndarray) -> tuple[int, ...]:
    """Check the sweep against what its data are; returns the chosen places in the test split, which has these labels.

    Raises InputError for an instance or a target class that the data does not have.
    """
    classes, names = card["classes"], card.get("class_names")
    for _, search in params.points():
        target = searches.method(search).target_class
        if isinstance(target, int) and target >= classes:
            known = f"0 to {classes - 1}" + (f" ({', '.join(names)})" if names else "")
            raise InputError(f"search.target_class: {target} is not a class of the data; choose one of {known}")
    return _chosen_instances(params.instances, labels)


def _chosen_instances(chosen: Instances, labels: np.ndarray) -> tuple[int, ...]:
    """The places in the test split that are to be explained. Raises InputError where there is none of them."""
    if chosen.index is not None or chosen.range is not None:
        key, greatest = ("index", max(chosen.index)) if chosen.index else ("range", (chosen.range or (0, 0))[1] - 1)
        if greatest >= len(labels):
            last = len(labels) - 1
            raise InputError(f"instances.{key}: {greatest} is outside the test split; use indices from 0 to {last}")
        return tuple(chosen.index or range(*chosen.range or ()))
    classes = sorted(set(labels.tolist())) if chosen.classes == "all" else chosen.classes
    if unknown := sorted(set(classes) - set(labels.tolist())):
        raise InputError(f"instances.classes: the test split has no instance of class {unknown[0]}; remove it")
    return tuple(int(place) for label in classes for place in np.flatnonzero(labels == label)[: chosen.per_class])


def sweep_id(cells: Sequence[Cell]) -> str:
    """The identity of a sweep: of its cells, in order."""
    return hashlib.sha256("\n".join(cell.id for cell in cells).encode()).hexdigest()[:32]
