"""What makes a cell again, and whether it does.   python -m pipelines.reproduce <cell, row or MLflow run> [--check]

A cell is named as in the column `cell` of counterfactuals.parquet, by the place of one of its rows there (0, 1, ...),
or by its run in MLflow; what it came from stands in its record. Without --check the commands are printed; with it they
are run in a temporary clone, in this environment, and the counterfactuals are compared: exit code 0 where all are equal
bit for bit, 1 where not, with what differs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfx.errors import InputError
from cfx.result import Result
from pipelines import artifacts, provenance, recipe, store
from pipelines.params import FILES, Params, check
from pipelines.terminal import user_errors


def main() -> int:
    """Print the commands, or run them and compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.reproduce", description=__doc__.partition("   ")[0])
    parser.add_argument("name", help="a cell or a row of counterfactuals.parquet, or an MLflow run")
    parser.add_argument("--check", action="store_true", help="run the commands in a temporary clone and compare")
    parser.add_argument("--uri", default="sqlite:///mlflow.db", help="of the MLflow store, for a run (%(default)s)")
    options = parser.parse_args()
    with user_errors():
        described, found = find(options.name, options.uri)
        record = json.loads(described.read_text())
        asked = only(check(record["params"]), record["swept"])
        if not options.check:
            print("\n".join(commands(asked, record)))
            return 0
        return compare(asked, record, Result.load(found))


def find(name: str, uri: str) -> tuple[Path, Path]:
    """The record and the counterfactuals of a cell, by its name, a row of the table, or an MLflow run.

    Raises InputError where there is none.
    """
    if (files := _files(name)) is not None:
        return files
    if name.isdecimal() and artifacts.TABLE.exists():
        rows = pd.read_parquet(artifacts.TABLE, columns=["cell"])["cell"]
        if int(name) < len(rows):
            return find(rows[int(name)], uri)
    # a cell or a row needs no MLflow, which takes seconds to import
    from pipelines import tracking

    cell = tracking.cell_of(uri, name)
    if cell is None:
        raise InputError(f"{name}: is no cell and no row here, nor the run of a cell in {uri}")
    if (files := _files(cell)) is None:
        raise InputError(f"{name}: its cell is not here; run its sweep again, or `dvc pull` it")
    return files


def _files(cell: str) -> tuple[Path, Path] | None:
    """Of a cell among the artefacts, or else in the store."""
    collected = artifacts.RESULTS / f"{cell}.json", artifacts.RESULTS / f"{cell}.npz"
    stored = store.record_path(cell), store.result_path(cell)
    return next((files for files in (collected, stored) if files[0].is_file()), None)


def only(params: Params, swept: Mapping[str, Any]) -> Params:
    """The parameters of the sweep narrowed to one of its cells."""
    for variant in params.variants:
        if all(swept[key] == value for key, value in variant.swept.items()):
            params = params.of(variant)
    upstream = {key for variant in params.variants for key in variant.swept}
    search = params.search
    for other in params.sweep.get("search", []):
        if other["method"] == swept["method"]:
            search = other
    axes = {key: value for key, value in swept.items() if key not in upstream | {"method"}}
    return params.model_copy(update={"search": search | axes, "sweep": {}, "variants": []})


def commands(asked: Params, record: Mapping[str, Any]) -> list[str]:
    """What is to be typed, from nothing to the counterfactuals, with the digests of what cannot be typed."""
    origin = provenance.remote() or "<the repository>"
    lines = [f"git clone {shlex.quote(origin)} again && cd again", f"git checkout {record['commit']}"]
    if record["diff"]:
        lines.append("git apply <<'END'\n" + record["diff"] + "\nEND")
    lines.append(f"make environment   # requirements.lock: SHA-256 {record['lock']}")
    told = recipe.command(asked)
    if told is None:
        raise InputError(f"{record['cell']}: no command line says its parameters; they stand in its record")
    lines.append(f"# data: {asked.data.name}, SHA-256 of its arrays {record['identity']['data']}")
    lines.append(told)
    return lines


def compare(asked: Params, record: Mapping[str, Any], expected: Result) -> int:
    """Make the cell again in a temporary clone, and say whether it came out the same; returns the exit code."""
    if record["commit"] is None:
        raise InputError(f"{record['cell']}: was not made in a git clone, so there is no commit to go back to")
    command = shlex.split(commands(asked, record)[-1])[1:]
    for name, path in asked.paths:
        if path is not None:
            command.append(f"{FILES[name][0]}={path.resolve()}")
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "again"
        _call("git", "clone", "--quiet", str(Path.cwd()), str(clone))
        _call("git", "-C", str(clone), "checkout", "--quiet", record["commit"])
        if record["diff"]:
            _call("git", "-C", str(clone), "apply", "-", given=record["diff"] + "\n")
        print(shlex.join(["python", *command]), flush=True)
        if subprocess.run([sys.executable, *command], cwd=clone).returncode:
            raise InputError(f"{record['cell']}: the command failed in a clone of {record['commit']}; see above")
        (again,) = [json.loads(path.read_text()) for path in (clone / artifacts.RESULTS).glob("*.json")]
        found = Result.load(clone / artifacts.RESULTS / f"{again['cell']}.npz")
    is_equal = found.x.tobytes() == expected.x.tobytes()
    furthest = "" if found.x.shape != expected.x.shape else f", by {np.abs(found.x - expected.x).max():.2g} at most"
    print("the counterfactuals are equal, bit for bit" if is_equal else f"the counterfactuals differ{furthest}")
    # of a sweep's parameters those of this cell alone are the ones that were asked for again
    for line in provenance.differences({**record, "params": asked.model_dump(mode="json")}, again):
        print(f"  {line}")
    return 0 if is_equal else 1


def _call(*command: str, given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{shlex.join(command)}: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    sys.exit(main())
