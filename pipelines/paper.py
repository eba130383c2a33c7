"""Run the experiments of the paper, write their tables and figures, and compare the results with the expected ones.

    python -m pipelines.paper                       all experiments but the atlas, which doubles the runtime
    python -m pipelines.paper atlas                 only the atlas
    python -m pipelines.paper seeds data=mnist_5k   one experiment with other parameters
    python -m pipelines.paper --accept              update paper/expected.json with the results

Each experiment is the sweep of `python -m pipelines.run +experiment=...`; cells that exist are not computed again.
artifacts/paper/<experiment>/ contains the tables (CSV, LaTeX) and figures (PDF) of the report, and the results with
their intervals, as findings.csv and findings.tex. artifacts/paper/manifest.json maps each number and figure to its
cells, and each cell to its MLflow run, commit, data, model and lock file. comparison.csv lists all differences from
paper/expected.json. Exit code 0: all experiments gave the expected results. Exit code 1: an experiment differs, or it
has no expected results.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfx.errors import InputError
from cfx.files import replacing
from pipelines import run
from pipelines.cells import paths, plan, store
from pipelines.cells.plan import Cell
from pipelines.config import CONF, schema
from pipelines.config.schema import Params
from pipelines.reporting import expectation, findings, gallery, tables
from pipelines.stages import prepare, report
from pipelines.terminal import console

FOLDER = paths.ROOT / "paper"
EXPERIMENTS = ("cf_mnist", "targets_100", "sensitivity", "seeds")
# What the table of a paper has room for; all is in findings.csv.
_COLUMNS = ("validity", "l1", "quality/l0", "quality/im1", "quality/oracle")
# The sizes of the test splits that are not a file of the user's.
_TESTED = {"mnist_5k": 1_000, "mnist": 10_000}


def main() -> int:
    """Run the experiments and compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "asked",
        nargs="*",
        metavar="experiment|key=value",
        help="experiments to run, and overrides that apply to all of them",
    )
    parser.add_argument(
        "--expected",
        type=Path,
        default=Path("paper/expected.json"),
        help="file with the expected results (default: %(default)s)",
    )
    parser.add_argument(
        "--accept", action="store_true", help="update the expected results with the results of this run"
    )
    options = parser.parse_intermixed_args()
    overrides = [word for word in options.asked if "=" in word]
    with run.driver():
        chosen = _known([word for word in options.asked if "=" not in word]) or EXPERIMENTS
        expected = expectation.read(options.expected)
        if options.accept:
            expectation.check_origin(expected, chosen)
        asked = {name: run.request([f"+experiment={name}", *overrides]) for name in chosen}
        check(sweep.params for sweep in asked.values())
        made = {}
        for name, sweep in asked.items():
            console.print(f"[bold]{name}[/bold]")
            if run.sweep(sweep) != 0:
                raise SystemExit(1)
            made[name] = gather(name, sweep.command, expected["tolerances"])
        write_manifest()
        if options.accept:
            expectation.accept(options.expected, expected, made)
            console.print(f"updated the expected results of {', '.join(made)} in {options.expected}", markup=False)
            return 0
        compared = expectation.compare(made, expected)
        with replacing(FOLDER / "comparison.csv") as temporary:
            compared.to_csv(temporary, index=False)
        is_equal = expectation.tell(compared, made, expected)
        return 0 if is_equal and made.keys() <= expected["experiments"].keys() else 1


def check(sweeps: Iterable[Params]) -> None:
    """Check all sweeps against their data, so that what is wrong with the last one is told before the first one runs.

    Raises InputError as `prepare.load` and `plan.check` do.
    """
    known: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
    for chosen in sweeps:
        for one in map(chosen.of, chosen.variants) if chosen.variants else [chosen]:
            key = repr((one.data, one.paths.data))
            if key not in known:
                known[key] = _data(one)
            plan.check(one, *known[key])


def gather(name: str, command: str, tolerances: dict[str, Any]) -> dict[str, Any]:
    """Write the folder of the experiment that the artefacts hold; returns what is to be expected of a repetition."""
    chosen = schema.read()
    sweep = plan.make_cells(chosen)
    table = tables.of_counterfactuals(sweep, pd.read_parquet(paths.TABLE))
    axes = tables.axes(sweep)
    found = findings.of_experiment(table, axes)
    with replacing(FOLDER / name) as folder:
        shutil.copytree(paths.REPORT, folder, ignore=shutil.ignore_patterns("index.html", "runs.json"))
        findings.frame(found).to_csv(folder / "findings.csv", index=False)
        (folder / "findings.tex").write_text(_latex(sweep, found), encoding="utf-8")
        pictures, all_cells = gallery.files(gallery.select(sweep, table)), [cell.id for cell in sweep]
        files = {
            str(path.relative_to(folder)): [pictures[path.name].id] if path.name in pictures else all_cells
            for path in sorted(folder.rglob("*.*"))
        }
        content = _traced(name, command, sweep, found) | {"files": files}
        (folder / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
    return expectation.of_experiment(chosen, sweep, found, tolerances)


def write_manifest() -> None:
    """Join what each experiment's own manifest says."""
    made = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/manifest.json"))}
    with replacing(FOLDER / "manifest.json") as temporary:
        temporary.write_text(json.dumps(made, indent=1) + "\n")


def _data(one: Params) -> tuple[dict[str, Any], np.ndarray]:
    """What the data are, and the labels of the test split."""
    if one.paths.data is not None:
        dataset = prepare.load(one)
        return prepare.card(dataset), dataset.y_test
    # MNIST, which is known: each class is there, and to check a sweep it does not matter where
    return {"classes": 10}, np.arange(_TESTED[one.data.name]) % 10


def _known(names: list[str]) -> list[str]:
    there = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
    if unknown := [name for name in names if name not in there]:
        raise InputError(f"{unknown[0]}: is not an experiment; conf/experiment/ has {', '.join(there)}")
    return list(dict.fromkeys(names))


def _traced(name: str, command: str, sweep: list[Cell], found: list[findings.Finding]) -> dict[str, Any]:
    """Of every number and figure the cells, and of every cell what it came from."""
    runs = report.run_links()
    records = {cell.id: store.record(cell.id) for cell in sweep}
    return {
        "experiment": name,
        "command": command,
        "run": runs.get("sweep"),
        "cells": {
            cell.id: {
                "swept": cell.swept,
                "run": runs.get(cell.id),
                **{key: records[cell.id][key] for key in ("commit", "lock")},
                "changed": records[cell.id]["diff"] is not None,
                **{key: records[cell.id]["identity"][key] for key in ("data", "model", "judges", "code")},
            }
            for cell in sweep
        },
        "numbers": [
            {"name": finding.name, "n": finding.n, "cells": finding.cells}
            | {key: expectation.number(getattr(finding, key)) for key in ("value", "low", "high")}
            for finding in found
        ],
    }


def _latex(sweep: list[Cell], found: list[findings.Finding]) -> str:
    """The points of the sweep, a row each, with the measures that a paper has room for and their intervals."""
    most = max(len(finding.setting) for finding in found)
    points: dict[str, dict[str, Any]] = {}
    for finding in found:
        if len(finding.setting) == most:
            point = points.setdefault(finding.name.partition(": ")[0], dict(finding.setting))
            point[finding.measure] = _with_interval(finding)
    table = pd.DataFrame(points.values())
    shown = [column for column in table if column in found[0].setting or column in _COLUMNS]
    table = table[sorted(shown, key=lambda column: _COLUMNS.index(column) if column in _COLUMNS else -1)]
    caption = (
        f"Medians and shares of {len(sweep)} cells of {len(sweep[0].instances)} instances, with 95\\,\\% intervals "
        "by the percentile bootstrap."
    )
    return tables.latex(table.rename(columns=lambda name: name.rpartition("/")[2]), caption, "tab:findings")


def _with_interval(finding: findings.Finding) -> str:
    interval = f" [{finding.low:.3g}, {finding.high:.3g}]" if finding.low < finding.high else ""
    return "--" if math.isnan(finding.value) else f"{finding.value:.3g}{interval}"


if __name__ == "__main__":
    sys.exit(main())
