"""The driver: one command from the configuration to the counterfactuals.   python -m pipelines.run [+sweep=targets] ...

Hydra composes the configuration and names the cells of the sweep; DVC brings the data and the model up to date; the
cells that are not in the store are fanned out as the jobs of a Hydra launcher; DVC collects them and makes the report;
MLflow is brought in line with what is on disk. The same command again does no work, and a killed one goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import filelock
import hydra
import pandas as pd
import rich.box
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from rich.table import Table

from cfx.errors import InputError
from pipelines import artifacts, cells, explain, params, store
from pipelines.cells import Cell
from pipelines.terminal import console, user_errors

CONF = Path(__file__).parent.parent / "conf"
RUN_LOCK = Path(".run.lock")
# How many rows of a table still read well in a terminal.
ROWS = 50


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = get_args_parser().parse_intermixed_args()
    if options.help or options.hydra_help or options.cfg or options.info or options.shell_completion:
        job()
        return 0
    # an end that is asked for politely is an interrupt: what is finished is kept and shown
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with user_errors():
            config, axes, overrides = compose(options)
            with _alone():
                return sweep(config, axes, overrides)
    except KeyboardInterrupt:
        print("stopped: finished cells are kept, and the same command goes on with the others", file=sys.stderr)
        return 130


def compose(options: argparse.Namespace) -> tuple[DictConfig, dict[str, list[Any]], list[str]]:
    """The configuration, the sweep's axes, and the overrides that are the same in every cell.

    Raises InputError for what Hydra cannot compose, and for an axis outside `search`.
    """
    if options.config_path or options.config_name or options.package or options.experimental_rerun:
        raise InputError("--config-path, --config-name, --package and --experimental-rerun have no meaning here")
    same = [f"hydra.searchpath=[file://{Path(options.config_dir).resolve()}]"] if options.config_dir else []
    with _hydra_errors(), initialize_config_dir(str(CONF), version_base="1.3"):
        given = OverridesParser.create().parse_overrides(options.overrides)
        if own := [override.input_line for override in given if override.key_or_group.split(".")[0] == "job"]:
            raise InputError(f"{own[0]}: `job` is filled in by the driver; choose cells by the sweep")
        same += [str(override.input_line) for override in given if not override.is_sweep_override()]
        config = hydra.compose("config", same, return_hydra_config=True)
        # the resolver of `${hydra:...}` looks here
        HydraConfig.instance().set_config(config)
        axes = {}
        for override in _swept(config, given):
            key = override.key_or_group
            if key == "search":
                axes["search"] = [_search(same, str(choice)) for choice in override.sweep_string_iterator()]
            elif key.startswith("search."):
                axes[key.removeprefix("search.")] = _values(override)
            else:
                raise InputError(f"{key}: cannot be swept; the axes of a sweep are `search` and `search.*`")
        return config, axes, same


def sweep(config: DictConfig, axes: dict[str, list[Any]], overrides: list[str]) -> int:
    """Compute what is missing of the sweep and show all of it; returns the exit code."""
    chosen = params.from_config(_scientific(config), axes)
    tracked = config.get("tracking")
    if not isinstance(tracked, DictConfig) or not all(isinstance(value, str) and value for value in tracked.values()):
        raise InputError("tracking: needs uri, artifacts and experiment, all text; see conf/tracking/")
    # imported when the input is known to be good: they cost seconds
    from pipelines import report, repro, tracking

    mlflow = tracking.connect(**config.tracking)
    with repro.all_or_nothing():
        params.write(chosen)
        repro.bring_up_to_date("prepare")
        cells.check(chosen)
        repro.bring_up_to_date("train", "judges")
        planned = cells.of_sweep(chosen)
    run = tracking.parent_run(mlflow, planned, chosen, _name(config), command())
    parent = run.info.run_id
    missing = [cell for cell in planned if not store.has(cell.id)]
    console.print(f"{len(planned)} cells, {len(missing)} to compute")
    status = "KILLED"
    try:
        if missing:
            fan_out(missing, parent, overrides)
        status = "FAILED"
        if all(store.has(cell.id) for cell in planned):
            repro.bring_up_to_date("report")
            status = "FINISHED"
        else:
            explain.collect(planned)
            report.main()
        if run.info.status != "FINISHED":
            tracking.log_outcome(mlflow, parent)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            tracking.bring_in_line(mlflow, parent, planned)
        finally:
            tracking.close(mlflow, parent, status)
    show(planned, config.tracking.uri)
    return 0 if status == "FINISHED" else 1


def fan_out(missing: list[Cell], parent: str, overrides: list[str]) -> None:
    """Let Hydra's launcher run a job for each missing cell, and wait for them all."""
    jobs = ",".join(f"['{cell.id}']" for cell in missing)
    own = ["hydra.sweeper.params=null", f"job.cells={jobs}", f"job.parent_run='{parent}'"]
    # Hydra would print an exception of a job and exit; what it means is decided here
    os.environ["HYDRA_FULL_ERROR"] = "1"
    arguments = sys.argv
    sys.argv = [arguments[0], "--multirun", *overrides, *own]
    try:
        job()
    finally:
        sys.argv = arguments


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def job(config: DictConfig) -> None:
    """One job of the fan-out: compute its cells, and show each in MLflow as soon as it is done."""
    from pipelines import tracking

    mlflow = tracking.connect(**config.tracking)
    for cell in cells.of_sweep(params.read()):
        if cell.id in config.job.cells:
            explain.compute([cell])
            tracking.log_cell(mlflow, config.job.parent_run, cell)


def show(planned: list[Cell], uri: str) -> None:
    """Print what was found, what failed, and where to look at it."""
    frame = pd.read_parquet(artifacts.TABLE)
    if len(frame):
        show_table(frame)
    for cell in planned:
        if not store.has(cell.id):
            reason = (store.failure(cell.id) or {"error": "it did not run to its end"})["error"]
            print(f"missing: {cell.name}: {reason}", file=sys.stderr)
    console.print(f"report: {artifacts.REPORT / 'index.html'}")
    mlflow = Path(sys.executable).with_name("mlflow")
    shown = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
    console.print(f"runs:   {shown} ui --backend-store-uri {uri}", markup=False)


def show_table(frame: pd.DataFrame) -> None:
    """Print a row for each counterfactual, with the columns that vary, as far as it reads well."""
    columns: list[str] = ["instance", "target", "found", "class", "p", "L1", "L0", "runtime"]
    varied = [key for key in ("method", "lam_init", "learning_rate") if frame[key].nunique() > 1]
    table = Table(*varied, *columns, box=rich.box.SIMPLE, padding=(0, 1, 0, 0))
    for row in frame.head(ROWS).to_dict("records"):
        found = ["yes", str(row["cf_class"]), f"{row['probability']:.3f}", f"{row['l1']:.2f}", str(row["l0"])]
        outcome = found if row["found"] else ["no", *"----"]
        swept = [str(row[key]) for key in varied]
        table.add_row(*swept, str(row["instance"]), row["target_class"], *outcome, f"{row['runtime_s']:.2f} s")
    console.print(table)
    if len(frame) > ROWS:
        console.print(f"... and {len(frame) - ROWS} rows more in {artifacts.TABLE}")


def command() -> str:
    """The command line, as it can be pasted."""
    return shlex.join(["python", "-m", "pipelines.run", *sys.argv[1:]])


def _scientific(config: DictConfig) -> dict[str, Any]:
    masked = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    with _hydra_errors():
        return cast(dict[str, Any], OmegaConf.to_container(masked, resolve=True, throw_on_missing=True))


def _swept(config: DictConfig, given: list[Override]) -> list[Override]:
    """The axes: those of the configuration's sweep, narrowed or joined by those of the command line."""
    parser = OverridesParser.create()
    configured = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    axes = {axis.key_or_group: axis for axis in parser.parse_overrides(configured)}
    axes |= {axis.key_or_group: axis for axis in given if axis.key_or_group in axes or axis.is_sweep_override()}
    return list(axes.values())


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    values = override.sweep_string_iterator()
    return [OverridesParser.create().parse_override(f"axis={value}").value() for value in values]


def _search(overrides: list[str], choice: str) -> dict[str, Any]:
    """The `search` section with another method."""
    config = hydra.compose("config", [*overrides, f"search={choice}"])
    return cast(dict[str, Any], OmegaConf.to_container(config.search, resolve=True))


def _name(config: DictConfig) -> str:
    choices = config.hydra.runtime.choices
    return choices.get("experiment") or choices.get("sweep") or "counterfactuals"


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the folder: a second run at the same time would change params.yaml and the artefacts under the first."""
    try:
        with filelock.FileLock(RUN_LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise InputError("another run is at work in this folder; wait for it, or work in a clone") from None


@contextmanager
def _hydra_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf say about an override or a config file into an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        message = str(error)
        if unknown := re.match(r"Could not override '([^']+)'", message):
            message = f"{unknown[1]}: no such option; `python -m pipelines.run --help` lists them"
        elif isinstance(error, MissingMandatoryValue):
            message = f"{error.full_key}: is missing; give {error.full_key}=..."
        raise InputError(" ".join(message.split())) from error


if __name__ == "__main__":
    sys.exit(main())
