"""Convert the `constraints` section to arguments of `cfx.Constraints`, for a data set.

Names of features become indices, values in the units of a table those of the scaled inputs, and its integers and
categories become steps and groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cfx.constraints import Constraints
from cfx.data import FEATURE_RANGE
from cfx.errors import InputError
from pipelines.config import schema, sections

_LISTS = ("immutable", "increase", "decrease")


def with_digest(section: sections.Constraints) -> sections.Constraints:
    """The section with the digest of the mask. Raises InputError if the file cannot be read or has another digest."""
    if section.mask is None:
        return section
    options = "constraints.mask", "constraints.mask_sha256"
    found = schema.file_sha256(section.mask, section.mask_sha256, *options)
    return section.model_copy(update={"mask_sha256": found})


def arguments(section: sections.Constraints, card: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `cfx.Constraints` as JSON types, with `mask` as the path and the digest; empty without rules.

    card: the description of the data. Raises InputError for a feature that the data do not have.
    """
    table = _Table(card)
    found: dict[str, Any] = {name: table.all(name, getattr(section, name)) for name in _LISTS}
    found["ranges"] = {
        table.one("ranges", feature): [table.value(feature, bound) for bound in bounds]
        for feature, bounds in (section.ranges or {}).items()
    }
    for name in ("most_change", "steps"):
        values = getattr(section, name) or {}
        found[name] = {table.one(name, feature): table.change(feature, value) for feature, value in values.items()}
    found["steps"] = table.steps() | found["steps"]
    found["groups"] = table.groups() + [table.all("groups", group) for group in section.groups]
    if section.mask is not None:
        found |= {"mask": str(section.mask), "mask_sha256": section.mask_sha256}
    if section.scale != "unit":
        found["scale"] = section.scale
    # as JSON has it, whose keys are text
    return {
        name: {str(key): value for key, value in values.items()} if isinstance(values, dict) else values
        for name, values in found.items()
        if values
    }


def constraints(arguments: Mapping[str, Any]) -> Constraints | None:
    """The constraints of arguments that `arguments` returned; None if there are none. Reads the mask."""
    if not arguments:
        return None
    values = {name: value for name, value in arguments.items() if name not in ("mask", "mask_sha256")}
    for name in ("ranges", "most_change", "steps"):
        values[name] = {int(key): value for key, value in values.get(name, {}).items()}
    try:
        return Constraints(**values, mask=_mask(arguments) if "mask" in arguments else None)
    except InputError as error:
        raise InputError(f"constraints.{error}") from error


def check(arguments: Mapping[str, Any], card: Mapping[str, Any], x: np.ndarray, instances: Sequence[int]) -> None:
    """Raise InputError if the instances x (n, *shape), with these indices in the test split, break a rule."""
    rules, table = constraints(arguments), _Table(card)
    if rules is None:
        return
    try:
        rules.region(x, FEATURE_RANGE)
    except InputError as error:
        text = re.sub(r"row (\d+) of x", lambda match: f"instance {instances[int(match[1])]}", str(error))
        text = re.sub(r"feature (\d+)", lambda match: f"feature {table.name(int(match[1]))}", text)
        raise InputError(f"constraints: {text}") from error


class _Table:
    """The features of a data set: names and units, if it is a table that has them."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self._features = card.get("features") or []
        self._card = card
        self._names = [feature["name"] for feature in self._features]

    def _count(self) -> int:
        return int(np.prod(self._card["input_shape"]))

    def name(self, index: int) -> str:
        """The name of a feature, or its index."""
        return self._names[index] if self._names else str(index)

    def all(self, option: str, given: Sequence[str | int]) -> list[int]:
        """The indices of features; the name of a category's column stands for all of its features."""
        columns = [feature["column"] for feature in self._features]
        found: list[int] = []
        for feature in given:
            of_column = [i for i, column in enumerate(columns) if column == feature]
            found += of_column or [self.one(option, feature)]
        return found

    def one(self, option: str, feature: str | int) -> int:
        """The index of a feature. Raises InputError if the data do not have it."""
        if isinstance(feature, int) and 0 <= feature < self._count():
            return feature
        if feature in self._names:
            return self._names.index(feature)
        known = f"its features are {', '.join(self._names)}" if self._names else f"give 0 to {self._count() - 1}"
        raise InputError(f"constraints.{option}: {feature!r} is not a feature of the data; {known}")

    def value(self, feature: str | int, value: float) -> float:
        """A value of a feature in the units of the scaled inputs."""
        if not self._names:
            return value
        return self.change(feature, value - self._of(feature)["low"]) + FEATURE_RANGE[0]

    def change(self, feature: str | int, value: float) -> float:
        """A change of a feature in the units of the scaled inputs."""
        if not self._names:
            return value
        of = self._of(feature)
        return value / (of["high"] - of["low"])

    def steps(self) -> dict[int, float]:
        """The steps of the integers."""
        integers = [i for i, feature in enumerate(self._features) if feature["kind"] == "integer"]
        return {i: 1 / (self._features[i]["high"] - self._features[i]["low"]) for i in integers}

    def groups(self) -> list[list[int]]:
        """The features of each category."""
        columns: dict[str, list[int]] = {}
        for i, feature in enumerate(self._features):
            if feature["kind"] == "category":
                columns.setdefault(feature["column"], []).append(i)
        return list(columns.values())

    def _of(self, feature: str | int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._features[self.one("ranges", feature)]
        return found


def _mask(arguments: Mapping[str, Any]) -> np.ndarray:
    path = Path(arguments["mask"])
    if schema.file_sha256(path, None, "mask", "mask_sha256") != arguments["mask_sha256"]:
        raise InputError(f"mask: {path} changed during the run; run the same command again")
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InputError(
            f"mask: {path} cannot be read as an .npy without pickle; make the file with numpy.save"
        ) from error
