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
from pipelines.config import CONF, PROJECT, invocation, own_conf, schema
from pipelines.config.schema import Params
from pipelines.config.sections import Downloaded
from pipelines.reporting import expectation, findings, gallery, rating, run_links, tables
from pipelines.stages import prepare
from pipelines.terminal import console

FOLDER = paths.ROOT / "paper"
EXPECTED = Path("paper/expected.json")
EXPERIMENTS = ("cf_mnist", "targets_100", "plausibility", "sensitivity", "seeds")
# The measures in findings.tex; findings.csv has all of them.
_COLUMNS = (
    "validity",
    "l1",
    "quality/l0",
    "quality/im1",
    "quality/agreement",
    "quality/components",
    "quality/seed_stability",
)


def main() -> int:
    """Run the experiments and compare the results; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=invocation("paper"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="experiment|key=value",
        help="experiments to run, and overrides that apply to all of them",
    )
    parser.add_argument(
        "--expected",
        type=Path,
        default=EXPECTED,
        help="file with the expected results (default: %(default)s)",
    )
    parser.add_argument(
        "--accept", action="store_true", help="update the expected results with the results of this run"
    )
    options = parser.parse_intermixed_args()
    overrides = [argument for argument in options.arguments if "=" in argument]
    names = list(dict.fromkeys(argument for argument in options.arguments if "=" not in argument)) or EXPERIMENTS
    with run.driver():
        folders = filter(None, (CONF, own_conf()))
        available = sorted(path.stem for folder in folders for path in folder.glob("experiment/*.yaml"))
        if unknown := [name for name in names if name not in available]:
            raise InputError(f"{unknown[0]}: is not an experiment; conf/experiment/ has {', '.join(available)}")
        # an installed package has the project's expected results
        is_missing = options.expected == EXPECTED and not EXPECTED.exists()
        expected = expectation.read(PROJECT / EXPECTED if is_missing else options.expected)
        requests = {name: run.request([f"+experiment={name}", *overrides]) for name in names}
        check(request.params for request in requests.values())
        results = {}
        for name, request in requests.items():
            console.print(f"[bold]{name}[/bold]")
            if run.sweep(request) != 0:
                raise SystemExit(1)
            results[name] = write_experiment(name, request.command, expected["tolerances"])
        manifests = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/manifest.json"))}
        with replacing(FOLDER / "manifest.json") as temporary:
            temporary.write_text(json.dumps(manifests, indent=1) + "\n")
        if options.accept:
            expectation.accept(options.expected, expected, results)
            console.print(f"updated the expected results of {', '.join(results)} in {options.expected}", markup=False)
            return 0
        comparison = expectation.compare(results, expected)
        with replacing(FOLDER / "comparison.csv") as temporary:
            comparison.to_csv(temporary, index=False)
        is_equal = expectation.report(comparison, results, expected)
        return 0 if is_equal and results.keys() <= expected["experiments"].keys() else 1


def check(sweeps: Iterable[Params]) -> None:
    """Check all sweeps against their data before the first one runs.

    Raises InputError as `prepare.load` and `plan.check` do.
    """
    cards: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
    for params in sweeps:
        for variant in map(params.with_variant, params.variants) if params.variants else [params]:
            key = repr((variant.data, variant.paths.data))
            if key not in cards:
                cards[key] = _card_and_labels(variant)
            plan.check(variant, *cards[key])


def write_experiment(name: str, command: str, tolerances: dict[str, Any]) -> dict[str, Any]:
    """Write the folder of an experiment from the artefacts; returns its results in the form of expected.json."""
    params = schema.read()
    sweep = plan.make_cells(params)
    table = tables.of_counterfactuals(sweep, pd.read_parquet(paths.TABLE))
    found = findings.of_experiment(table, tables.axes(sweep))
    with replacing(FOLDER / name) as folder:
        shutil.copytree(
            paths.REPORT, folder, ignore=shutil.ignore_patterns("index.html", "runs.json", rating.PAGE, rating.KEY)
        )
        findings.frame(found).to_csv(folder / "findings.csv", index=False)
        (folder / "findings.tex").write_text(_latex(sweep, found), encoding="utf-8")
        pictures, all_cells = gallery.files(gallery.select(sweep, table)), [cell.id for cell in sweep]
        files = {
            str(path.relative_to(folder)): [pictures[path.name].id] if path.name in pictures else all_cells
            for path in sorted(folder.rglob("*.*"))
        }
        content = _manifest(name, command, sweep, found) | {"files": files}
        (folder / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
    return expectation.of_experiment(params, sweep, found, tolerances)


def _card_and_labels(params: Params) -> tuple[dict[str, Any], np.ndarray]:
    """The description of a data set and the labels of its test split."""
    if isinstance(params.data, Downloaded) and params.paths.data is None:
        # not downloaded here: the check needs only the classes and the size of the test split
        return {"classes": 10}, np.arange(10_000) % 10
    dataset = prepare.load(params)
    return prepare.card(dataset), dataset.y_test


def _manifest(name: str, command: str, sweep: list[Cell], found: list[findings.Finding]) -> dict[str, Any]:
    """The cells of every number, and the origin of every cell."""
    runs = run_links.read()
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
    """A LaTeX table with one row per point of the sweep, and `_COLUMNS` with their intervals."""
    axes = max(len(finding.setting) for finding in found)
    points: dict[str, dict[str, Any]] = {}
    for finding in found:
        if len(finding.setting) == axes:
            point = points.setdefault(finding.name.partition(": ")[0], dict(finding.setting))
            interval = f" [{finding.low:.3g}, {finding.high:.3g}]" if finding.low < finding.high else ""
            point[finding.measure] = "--" if math.isnan(finding.value) else f"{finding.value:.3g}{interval}"
    table = pd.DataFrame(points.values())
    shown = [column for column in table if column in found[0].setting or column in _COLUMNS]
    table = table[sorted(shown, key=lambda column: _COLUMNS.index(column) if column in _COLUMNS else -1)]
    caption = (
        f"Medians and shares of {len(sweep)} cells of {len(sweep[0].instances)} instances, with 95\\,\\% intervals "
        "by the percentile bootstrap."
    )
    return tables.latex(table.rename(columns=lambda name: name.rpartition("/")[2]), caption, "tab:findings")


if __name__ == "__main__":
    sys.exit(main())
