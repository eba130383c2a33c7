"""Compare the results of an experiment with the expected results in paper/expected.json.

On the machine and with the versions of the expected results, the counterfactuals must be identical bit for bit.
Elsewhere, rounding differs and training amplifies the differences; there, the results must be within the tolerances in
the file. The comparison reports the inputs that differ, too: parameters, data, code, versions, machine.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from cfx import data
from cfx.errors import InputError
from cfx.files import replacing
from cfx.result import Result
from pipelines.cells import measures, plan, provenance, store
from pipelines.cells.plan import Cell
from pipelines.config.schema import Params
from pipelines.config.sections import Section
from pipelines.reporting.findings import Finding
from pipelines.terminal import console
from pipelines.tracking import content

Json = dict[str, Any]

# The maximum number of differences printed; comparison.csv has all.
_PRINTED = 20
# The tolerances apply to numbers over at least this many counterfactuals; over fewer, they grow by the square root.
_MANY = 100


class _Experiment(Section):
    made_with: dict[str, dict[str, Any]]
    parameters: dict[str, str]
    made_from: dict[str, str]
    counterfactuals: dict[str, str]
    findings: dict[str, float | None]
    sizes: dict[str, PositiveInt]
    unchanged: NonNegativeInt = 0


class _Expected(Section):
    tolerances: dict[str, dict[Literal["relative", "absolute"], float]]
    experiments: dict[str, _Experiment]


def read(path: Path) -> Json:
    """The expected results. Raises InputError if the file is missing or invalid."""
    try:
        return _Expected.model_validate_json(path.read_bytes()).model_dump()
    except OSError as error:
        raise InputError(f"--expected: {path}: {error.strerror}; restore it from the repository") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"--expected: {path}: {where}: {first['msg']}; restore it from the repository") from error


def of_experiment(chosen: Params, sweep: list[Cell], found: list[Finding], tolerances: Json) -> Json:
    """The record of an experiment for `accept` and `compare`, with the numbers that have a tolerance."""
    compared = [finding for finding in found if finding.measure in tolerances]
    return {
        "made_with": made_with(),
        # without the paths of the user's files
        "parameters": {key: str(value) for key, value in content.parameters(chosen).items() if "path" not in key},
        "made_from": {key: value for cell in sweep for key, value in _made_from(cell)},
        "counterfactuals": {cell.name: data.sha256(Result.load(store.result_path(cell.id)).x) for cell in sweep},
        "findings": {finding.name: number(finding.value) for finding in compared},
        # the number of searches behind each number
        "sizes": {finding.name: max(finding.searched, 1) for finding in compared},
        # the number of rows excluded from all of them
        "unchanged": max((finding.unchanged for finding in found), default=0),
    }


def made_with() -> Json:
    """The machine, the versions and the code that affects the numbers."""
    python = platform.python_version()
    return {"machine": provenance.machine(), "versions": {"python": python, **provenance.locked_versions()}} | {
        "code": provenance.code("prepare", "train", "judges", "guides", "explain")
    }


def accept(path: Path, expected: Json, made: Mapping[str, Json]) -> None:
    """Replace the expected results of these experiments."""
    experiments = dict(sorted((expected["experiments"] | dict(made)).items()))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(expected | {"experiments": experiments}, indent=1) + "\n")


def compare(made: Mapping[str, Json], expected: Json) -> pd.DataFrame:
    """One row per difference: experiment, what, expected, made, and whether it counts."""
    rows = []
    for name, then, now in _known(made, expected):
        rows += [(name, *row) for row in _differences(then, now, expected)]
    return pd.DataFrame(rows, columns=["experiment", "what", "expected", "made", "counts"]).astype({"counts": bool})


def report(compared: pd.DataFrame, made: Mapping[str, Json], expected: Json) -> bool:
    """Print whether the results are as expected, and the differences with possible causes; returns whether they are."""
    counting = compared[compared["counts"]]
    for name, experiment in made.items():
        if name not in expected["experiments"]:
            console.print(f"{name}: no expected results yet; record them with --accept")
            continue
        wrong = counting[counting["experiment"] == name]
        many = f"{len(experiment['counterfactuals'])} cells, {len(experiment['findings'])} numbers"
        is_here = _is_same_place(expected["experiments"][name], experiment)
        said = "identical bit for bit" if is_here else "within the tolerances (other machine or versions)"
        console.print(f"{name}: {many}: {f'{len(wrong)} differ' if len(wrong) else said}", markup=False)
        if left_out := measures.left_out(experiment["unchanged"]):
            console.print(f"  {left_out}", markup=False)
        for row in wrong.head(_PRINTED).itertuples():
            then, now = provenance.shorten(row.expected), provenance.shorten(row.made)
            console.print(f"  {row.what}: expected {then}, got {now}", markup=False)
        if len(wrong) > _PRINTED:
            console.print(f"  ... and {len(wrong) - _PRINTED} more in comparison.csv")
    for line in causes(made, expected):
        console.print(f"differs: {line}", markup=False)
    return counting.empty


def causes(made: Mapping[str, Json], expected: Json) -> Iterator[str]:
    """The differences between the inputs of the expected results and of this run, one line each."""
    of_all = (
        f"{part}: {line}"
        for _, then, now in _known(made, expected)
        for part in then["made_with"]
        for line in provenance.changes(then["made_with"][part], now["made_with"][part])
    )
    # experiments usually differ in the same
    yield from dict.fromkeys(of_all)
    for name, then, now in _known(made, expected):
        for part in ("parameters", "made_from"):
            yield from (f"{name}: {line}" for line in provenance.changes(then[part], now[part]))


def number(value: float) -> float | None:
    """The value for JSON, with None for NaN."""
    return None if math.isnan(value) else value


def _known(made: Mapping[str, Json], expected: Json) -> Iterator[tuple[str, Json, Json]]:
    """The name, the expected and the new results of each experiment that has both."""
    for name, now in made.items():
        if name in expected["experiments"]:
            yield name, expected["experiments"][name], now


def _differences(then: Json, now: Json, expected: Json) -> Iterator[tuple[str, Any, Any, bool]]:
    is_here = _is_same_place(then, now)
    for cell in then["counterfactuals"] | now["counterfactuals"]:
        before, after = (one["counterfactuals"].get(cell) for one in (then, now))
        if before != after:
            # on another machine every bit may differ, but not the set of cells
            yield f"counterfactuals of {cell}", before, after, is_here or before is None or after is None
    for name in then["findings"] | now["findings"]:
        before, after = (one["findings"].get(name) for one in (then, now))
        tolerance = expected["tolerances"].get(name.rpartition(": ")[2])
        if tolerance is not None and before != after:
            size = then["sizes"].get(name, _MANY)
            yield name, before, after, is_here or not _is_near(before, after, tolerance, size)


def _is_near(before: float | None, after: float | None, tolerance: Mapping[str, float], size: int) -> bool:
    if before is None or after is None:
        return False
    room = max(tolerance.get("relative", 0) * abs(before), tolerance.get("absolute", 0))
    return abs(after - before) <= room * max(1, math.sqrt(_MANY / size))


def _is_same_place(then: Json, now: Json) -> bool:
    """Whether two results are from the same machine and the same versions."""
    return all(then["made_with"].get(part) == now["made_with"].get(part) for part in ("machine", "versions"))


def _made_from(cell: Cell) -> Iterator[tuple[str, str]]:
    """The digests of the data and the models of a cell, named with the swept values of its variant."""
    identity, which = plan.current_inputs(cell), "".join(f", {key}={value}" for key, value in cell.upstream.items())
    # enough digits to distinguish them
    yield f"data{which}", identity["data"][:60]
    yield f"model{which}", identity["model"][:60]
    for part in ("judges", "guides"):
        if part in identity:
            yield f"{part}{which}", " ".join(digest[:16] for digest in identity[part])
