"""The cells of a sweep, and the plan file from which the jobs read them.

The driver makes the plan once from checked parameters; a job composes and checks nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfx import data, stored
from cfx.bridge import NO_GRADIENT
from cfx.errors import InputError
from cfx.files import replacing
from cfx.method import Method, StepMethod
from pipelines.cells import identity, paths, variants
from pipelines.cells.paths import Trained, class_name
from pipelines.config import rules, schema, searches
from pipelines.config.schema import Params, Variant
from pipelines.config.sections import Instances


@dataclass(frozen=True)
class Cell:
    """One point of a sweep, for all selected instances."""

    id: str
    """32 hexadecimal digits."""
    upstream: dict[str, Any]
    """The values of the axes upstream of the search."""
    swept: dict[str, Any]
    """The values of all axes; None if the method does not have the hyperparameter."""
    search: dict[str, Any]
    """The `search` section of the configuration."""
    instances: tuple[int, ...]
    """Indices into the test split."""
    trained: Trained
    """The data, the classifier that is explained, the judges and the guides."""
    trust: dict[str, Any]
    """The arguments of `cfx.models.load` that permit the classifier to run code."""
    constraints: dict[str, Any] = field(default_factory=dict)
    """The rules of the counterfactuals, as `pipelines.config.rules` has them."""

    @cached_property
    def method(self) -> Method:
        """The method with its hyperparameters."""
        return searches.method(self.search)

    @property
    def rows(self) -> tuple[int, ...]:
        """The instance of each row of the result: each instance `search.count` times."""
        return tuple(instance for instance in self.instances for _ in range(self.method.count))

    @property
    def name(self) -> str:
        """The swept values, or the target class if nothing is swept."""
        return ", ".join(f"{axis}={value}" for axis, value in self._values.items())

    @property
    def title(self) -> str:
        """The name with the class names of the data."""
        return ", ".join(f"{axis}={self.shown(axis, value)}" for axis, value in self._values.items())

    def shown(self, axis: str, value: Any) -> str:
        """The value of an axis as text, with the class names of the data."""
        return str(class_name(value, self.trained) if axis == "target_class" else value)

    @property
    def _values(self) -> dict[str, Any]:
        values = {axis: value for axis, value in self.swept.items() if value is not None}
        return values or {"target_class": self.target_class}

    @property
    def target_class(self) -> int | str:
        """The target class: `other`, `same` or a class."""
        return self.search["target_class"]


class Plan(NamedTuple):
    """The content of the plan file."""

    params: Params
    """The parameters of the whole sweep."""
    cells: list[Cell]
    """The missing cells."""


def write(path: Path, plan: Plan) -> None:
    """Write the plan as JSON."""
    cells = [asdict(cell) for cell in plan.cells]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"params": plan.params.model_dump(mode="json"), "cells": cells}, default=str))


def read(path: Path) -> Plan:
    """Read a plan that `write` wrote."""
    content = json.loads(path.read_text())
    cells = []
    for cell in content["cells"]:
        trained = Trained(**{name: Path(folder) for name, folder in cell["trained"].items()})
        trust = {name: tuple(value) if isinstance(value, list) else value for name, value in cell["trust"].items()}
        cells.append(Cell(**cell | {"instances": tuple(cell["instances"]), "trained": trained, "trust": trust}))
    return Plan(schema.check(content["params"]), cells)


def make_cells(params: Params) -> list[Cell]:
    """The cells of a sweep, in order, for the prepared data and the trained models.

    Raises InputError if an instance or a target class is not in the data, or if a model is missing.
    """
    cells: list[Cell] = []
    for variant in params.variants or (params,):
        upstream, trained = {}, paths.LATEST
        if isinstance(variant, Variant):
            upstream, trained = variant.swept, variants.trained(variant, params)
        for folder in trained.folders:
            if not folder.is_dir():
                raise InputError(f"{folder}: is missing, but the sweep needs it; run `dvc repro variants`")
        instances, constraints = checked(params, trained)
        has_gradient = stored.about(trained.model)["has_gradient"]
        for swept, section in params.points():
            search = searches.canonical(section)
            if not has_gradient and isinstance(searches.method(section), StepMethod):
                raise InputError(f"search={searches.name(section)}: {NO_GRADIENT}")
            cell_id = identity.sha256(identity.inputs(search, instances, constraints, trained))
            # a hyperparameter may have the name of an axis upstream, such as `seed`
            named = {f"search.{axis}" if axis in upstream else axis: value for axis, value in swept.items()}
            cells.append(
                Cell(cell_id, upstream, upstream | named, search, instances, trained, variant.trust, constraints)
            )
    return cells


def current_inputs(cell: Cell) -> dict[str, Any]:
    """The inputs of a cell from the current artefacts. Raises RuntimeError if they changed since the planning."""
    found = identity.inputs(cell.search, cell.instances, cell.constraints, cell.trained)
    if identity.sha256(found) != cell.id:
        raise RuntimeError(
            f"the data, the models or the code of cell {cell.id} changed during the run; run the same command again"
        )
    return found


def checked(params: Params, trained: Trained) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The selected instances, as `check` returns them, and the constraints of a sweep, for prepared data.

    Raises InputError as `check` does, and if an instance breaks a constraint.
    """
    card, labels = prepared_data(trained)
    instances, constraints = check(params, card, labels), rules.arguments(params.constraints, card)
    if constraints:
        x_test = data.read_npz(trained.data, ("x_test",))["x_test"]
        rules.check(constraints, card, x_test[list(instances)], instances)
    return instances, constraints


def prepared_data(trained: Trained) -> tuple[dict[str, Any], np.ndarray]:
    """The description of the prepared data, and the labels of their test split."""
    return json.loads(trained.data_card.read_text()), data.read_npz(trained.data, ("y_test",))["y_test"]


def check(params: Params, card: Mapping[str, Any], labels: np.ndarray) -> tuple[int, ...]:
    """Check the target classes of a sweep, and return the selected instances as indices into the test split.

    card: the description of the data; labels: those of the test split. Raises InputError if an instance or a target
    class is not in the data.
    """
    classes, names = card["classes"], card.get("class_names")
    for _, search in params.points():
        target = searches.method(search).target_class
        if isinstance(target, int) and target >= classes:
            known = f"0 to {classes - 1}" + (f" ({', '.join(names)})" if names else "")
            raise InputError(f"search.target_class: {target} is not a class of the data; choose one of {known}")
    return _select(params.instances, labels)


def _select(chosen: Instances, labels: np.ndarray) -> tuple[int, ...]:
    if chosen.index is not None or chosen.range is not None:
        key, greatest = ("index", max(chosen.index)) if chosen.index else ("range", (chosen.range or (0, 0))[1] - 1)
        if greatest >= len(labels):
            last = len(labels) - 1
            raise InputError(f"instances.{key}: {greatest} is outside the test split; use indices from 0 to {last}")
        return tuple(chosen.index or range(*chosen.range or ()))
    classes = sorted(set(labels.tolist())) if chosen.classes == "all" else chosen.classes
    if unknown := sorted(set(classes) - set(labels.tolist())):
        raise InputError(
            f"instances.classes: the test split has no instance of class {unknown[0]}; give others, or `all`"
        )
    return tuple(int(index) for label in classes for index in np.flatnonzero(labels == label)[: chosen.per_class])


def sweep_id(cells: Sequence[Cell]) -> str:
    """The ID of a sweep: a hash of the IDs of its cells, in order."""
    return hashlib.sha256("\n".join(cell.id for cell in cells).encode()).hexdigest()[:32]
