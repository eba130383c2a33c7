"""Reproduce a cell from its record.   python -m pipelines.reproduce <cell, row or MLflow run> [--check]

Name the cell by its ID (column `cell` of counterfactuals.parquet), by the number of one of its rows there (0, 1, ...),
or by the ID of its MLflow run. Without --check, the commands are printed. With --check, they are run in a temporary
clone, in this environment, and the counterfactuals are compared: exit code 0 if all are identical bit for bit,
otherwise exit code 1 and a list of the differences.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cfx
from cfx.errors import InputError
from cfx.result import Result
from pipelines.cells import paths, provenance, store
from pipelines.config import CONF, invocation, searches
from pipelines.config.command import command_line, is_peer
from pipelines.config.schema import FILES
from pipelines.terminal import user_errors


def main() -> int:
    """Print the commands, or run them and compare the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog=invocation("reproduce"), description=__doc__.partition("   ")[0])
    parser.add_argument("name", help="ID of a cell, row number in counterfactuals.parquet, or ID of an MLflow run")
    parser.add_argument("--check", action="store_true", help="run the commands in a temporary clone and compare")
    parser.add_argument(
        "--uri", default="sqlite:///mlflow.db", help="URI of the MLflow store, to look up a run (default: %(default)s)"
    )
    options = parser.parse_args()
    with user_errors():
        record_file, result_file = find(options.name, options.uri)
        record = json.loads(record_file.read_text())
        params = cell_params(record)
        with _clone(record) as clone:
            if options.check:
                return compare(params, record, Result.load(result_file), clone)
            # a diff may contain files in any encoding
            sys.stdout.buffer.write("\n".join([*commands(params, record, clone), ""]).encode(errors="surrogateescape"))
            return 0


def find(name: str, uri: str) -> tuple[Path, Path]:
    """The files with the record and the result of a cell, given its ID, a row of the table, or an MLflow run ID.

    Raises InputError if there is no such cell.
    """
    if not re.fullmatch(r"\w{1,64}", name, re.ASCII):
        raise InputError(
            f"{name!r}: is not a cell, row or run; see the column `cell` of {paths.TABLE}, or give a row number"
        )
    if (files := _files(name)) is not None:
        return files
    if name.isdecimal() and paths.TABLE.exists():
        rows = pd.read_parquet(paths.TABLE, columns=["cell"])["cell"]
        if int(name) < len(rows):
            return find(rows[int(name)], uri)
    # imported here, because it takes seconds and a cell or a row does not need it
    from pipelines.tracking import client

    cell = client.find_cell(uri, name)
    if cell is None:
        raise InputError(f"{name}: is not a cell or a row in this folder, and not the run of a cell in {uri}")
    if (files := _files(cell)) is None:
        raise InputError(f"{name}: its cell is not in this folder; run its sweep again, or run `dvc pull`")
    return files


def _files(cell: str) -> tuple[Path, Path] | None:
    """The files of a cell among the artefacts, otherwise in the store."""
    collected = paths.RESULTS / f"{cell}.json", paths.RESULTS / f"{cell}.npz"
    stored = store.record_path(cell), store.result_path(cell)
    return next((files for files in (collected, stored) if files[0].is_file()), None)


def cell_params(record: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a single cell, from its record, which has those of the whole sweep.

    They are not validated, because the options of an older commit may differ. Raises InputError for a record in an
    older format.
    """
    if "search" not in record:
        raise InputError(
            f"{record['cell']}: its record has an older format; check out {record['commit']} and reproduce it there"
        )
    parameters, upstream = record["params"], {}
    for variant in parameters["variants"]:
        if all(record["swept"][key] == value for key, value in variant["swept"].items()):
            upstream = {section: value for section, value in variant.items() if section != "swept"}
    return {**parameters, **upstream, "search": record["search"], "sweep": {}, "variants": []}


@contextmanager
def _clone(record: Mapping[str, Any]) -> Iterator[Path | None]:
    """A temporary clone with the code that computed the cell; None if its commit is unknown or not in this clone."""
    if record["commit"] is None or not provenance.has_commit(record["commit"]):
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "again"
        _call("git", "clone", "--quiet", "--shared", "--no-checkout", str(Path.cwd()), str(clone))
        _call("git", "-C", str(clone), "checkout", "--quiet", record["commit"])
        if record["diff"]:
            _call("git", "-C", str(clone), "apply", "-", stdin=_patch(record))
        if (own := record.get("own")) and not is_peer(record["search"], clone / "conf"):
            (clone / own["module"]).write_text(own["source"], encoding="utf-8")
        yield clone


def commands(params: Mapping[str, Any], record: Mapping[str, Any], clone: Path | None) -> list[str]:
    """The shell commands that reproduce a cell, with comments on what they cannot restore.

    params: the result of `cell_params`. clone: the result of `_clone`.
    """
    lines = []
    package = record["versions"].get(provenance.DISTRIBUTION)
    if package:
        lines.append(f"uv pip install '{provenance.DISTRIBUTION}[workflow]=={package}'")
    if record["commit"] is None:
        code = record["identity"]["code"]
        lines.append(f"# not computed in a git clone: there is no commit to check out; SHA-256 of the code: {code}")
        if package:
            lines.append("cfx init again && cd again")
    else:
        origin = provenance.remote() or "<the repository>"
        lines.append(f"git clone {shlex.quote(origin)} again && cd again")
        missing = "   # not in this clone, so the last command sets all parameters" if clone is None else ""
        lines.append(f"git checkout {record['commit']}{missing}")
    if record["diff"]:
        lines.append(f"git apply <<'END'\n{_patch(record)}END")
    for path, sha256 in record.get("untracked", {}).items():
        lines.append(f"# untracked file that the record does not contain: {path}, SHA-256 {sha256}")
    own, has_peer = record.get("own"), clone is not None and is_peer(params["search"], clone / "conf")
    if own and not has_peer:
        lines.append(f"cat > {shlex.quote(own['module'])} <<'END_OF_METHOD'\n{own['source'].rstrip()}\nEND_OF_METHOD")
        lines += [f"# in the environment of the method: {name} {number}" for name, number in own["packages"].items()]
    versions = ", ".join(f"{package} {number}" for package, number in record["versions"].items())
    locked = f"requirements.lock: SHA-256 {record['lock']}" if record["lock"] else versions
    lines.append(f"# {locked}" if package else f"make environment   # {locked}")
    if has_peer:
        lines.append("make peers   # the environment of the method")
    lines.append(f"# data: {params['data']['name']}, SHA-256 of its arrays {record['identity']['data']}")
    lines.append(_command(params, record, clone))
    return lines


def compare(params: Mapping[str, Any], record: Mapping[str, Any], expected: Result, clone: Path | None) -> int:
    """Recompute the cell in the clone and compare the counterfactuals; returns the exit code."""
    if record["commit"] is None:
        raise InputError(f"{record['cell']}: was not computed in a git clone, so there is no commit to check out")
    if clone is None:
        raise InputError(f"{record['cell']}: its commit {record['commit']} is not in this clone; run git fetch")
    arguments = shlex.split(_command(params, record, clone).removeprefix(invocation("run")))
    command = ["-m", "pipelines.run", *arguments]
    for name, path in params["paths"].items():
        if path is not None:
            command.append(f"{FILES[name][0]}={Path(path).resolve()}")
    if python := params["search"].get("python"):
        searches.check_python(python)
        command.append(f"search.python={Path(python).absolute()}")
    print(shlex.join(["python", *command]), flush=True)
    # the output is not shown, because it names files in the temporary clone
    done = subprocess.run([sys.executable, *command], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stdout.buffer.write(done.stdout)
        raise InputError(f"{record['cell']}: the command failed in a clone of {record['commit']}; see above")
    (again,) = [json.loads(path.read_text()) for path in (clone / paths.RESULTS).glob("*.json")]
    found = Result.load(clone / paths.RESULTS / f"{again['cell']}.npz")
    is_equal = found.x.tobytes() == expected.x.tobytes()
    distance = "" if found.x.shape != expected.x.shape else f" by at most {np.abs(found.x - expected.x).max():.2g}"
    print("the counterfactuals are identical bit for bit" if is_equal else f"the counterfactuals differ{distance}")
    for line in provenance.differences({**record, "params": params}, again):
        print(f"  {line}")
    return 0 if is_equal else 1


def _command(params: Mapping[str, Any], record: Mapping[str, Any], clone: Path | None) -> str:
    """The command line, relative to the default values in the clone."""
    # the default values of the code that runs the command: this installed package, or the clone
    is_installed = record["versions"].get(provenance.DISTRIBUTION) == cfx.__version__
    conf = CONF if is_installed else None if clone is None else clone / "conf"
    command = command_line(params, conf)
    if command is None:
        raise InputError(f"{record['cell']}: no command line can express its parameters; see its record")
    return command


def _patch(record: Mapping[str, Any]) -> str:
    # a binary patch ends with an empty line
    return record["diff"] + "\n\n"


def _call(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin.encode(errors="surrogateescape"), capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1]
        raise InputError(f"{shlex.join(command)}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
