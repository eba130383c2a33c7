"""Run a sweep: one command from the configuration to the report.   python -m pipelines.run [+sweep=targets] ...

Hydra composes the configuration and expands the sweep into cells. DVC updates the data and the models. The cells that
are not in the store run as jobs of a Hydra launcher. DVC collects them and builds the report, and the driver
synchronises MLflow with the files on disk. If the command is run again, finished cells are not recomputed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
import hydra
import pandas as pd

from cfx.errors import InputError
from pipelines.cells import paths, plan, store
from pipelines.cells.plan import Cell, Plan
from pipelines.config import CONF, compose, own_conf, schema
from pipelines.config.compose import Request
from pipelines.launching import fan_out
from pipelines.progress import show_progress
from pipelines.stages import explain
from pipelines.terminal import console, user_errors

RUN_LOCK = Path(".run.lock")


def main() -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:]
    with user_errors():
        is_sweep = compose.options(arguments) is not None
    if not is_sweep:
        # Hydra handles --help, --cfg and --info
        fan_out.use_presets()
        if own_conf() and not {"--config-dir", "-cd"} & {argument.partition("=")[0] for argument in arguments}:
            sys.argv += ["--config-dir", "conf"]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_reject_flag)()
        return 0
    with driver():
        return sweep(request(arguments))


def _reject_flag(config: object) -> None:
    print("error: unsupported flag; use --help, --cfg, --info, --multirun or --config-dir", file=sys.stderr)
    raise SystemExit(2)


def request(arguments: Sequence[str]) -> Request:
    """Compose a command line. Raises InputError if it is invalid or its launcher is not available."""
    composed = compose.compose(arguments)
    fan_out.check(composed.launcher, composed.hydra)
    return composed


@contextmanager
def driver() -> Iterator[None]:
    """The context of every driver: it locks the folder, reports errors in one line, and handles SIGINT and SIGTERM."""
    fan_out.use_presets()
    # a shell starts background jobs with SIGINT ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = _interrupt_again
    with user_errors():
        if not Path("dvc.yaml").exists():
            raise InputError(
                "dvc.yaml: no such file; run the command in a clone of the project or in a folder made by `cfx init`"
            )
        try:
            with filelock.FileLock(RUN_LOCK, timeout=0):
                with paths.stage_lock():
                    pass  # raises if a stage of a killed driver is still running
                yield
        except filelock.Timeout:
            raise InputError(
                "another run is active in this folder; wait until it ends, or use another folder"
            ) from None
        except KeyboardInterrupt:
            print("stopped: finished cells are kept; run the same command again to compute the others", file=sys.stderr)
            raise


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeat an interrupt that came inside a destructor, where Python ignores exceptions."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # later, because this still runs inside the destructor
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def sweep(requested: Request) -> int:
    """Compute the missing cells of a sweep, and report and log all of it; returns the exit code."""
    # imported after validation, because they take seconds
    from pipelines import dvc
    from pipelines.reporting import run_links
    from pipelines.stages import report
    from pipelines.tracking import client

    mlflow = client.connect(**requested.tracking)
    with dvc.restore_on_error():
        schema.write(requested.params)
        dvc.write_pipeline()
        dvc.reproduce("prepare")
        plan.checked(requested.params, paths.LATEST)
        dvc.reproduce("train", "judges", "guides", "variants")
        cells = plan.make_cells(requested.params)
    run = client.parent_run(mlflow, cells, requested.params, requested.name, requested.command)
    parent, status = run.info.run_id, "FAILED"
    try:
        compute(cells, requested, lambda cell: client.log_cell(mlflow, parent, cell))
        is_complete = all(store.has(cell.id) for cell in cells)
        # DVC tracks complete sweeps only
        if is_complete:
            dvc.reproduce("explain")
        else:
            explain.collect(cells)
        client.sync_cells(mlflow, parent, cells)
        run_links.write(client.run_links(mlflow, parent, cells))
        if not is_complete:
            report.main()
        else:
            dvc.reproduce("report")
            if not run_links.are_current():
                dvc.reproduce("report", force=True)
        if run.info.status != "FINISHED":
            client.log_results(mlflow, parent)
        status = "FINISHED" if is_complete else "FAILED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.end_run(mlflow, parent, status)
    print_summary(cells, requested.tracking["uri"], client.comparison_link(mlflow, parent))
    return 0 if is_complete else 1


def compute(cells: list[Cell], requested: Request, log: Callable[[Cell], None]) -> None:
    """Run the missing cells as jobs of the launcher, and show their progress.

    log: called for each cell that finishes or fails. Raises InputError if an input of the sweep changes meanwhile.
    """
    explain.import_artifacts(cells)
    missing = [cell for cell in cells if not store.has(cell.id)]
    console.print(f"{len(cells)} cell{'s' * (len(cells) != 1)}, {len(missing)} to compute")
    if not missing:
        return
    file = Path(requested.hydra.hydra.sweep.dir) / "plan.json"
    plan.write(file, Plan(requested.params, missing))
    with show_progress(missing, log):
        fan_out.fan_out(missing, file, requested.launcher, requested.hydra)
    if plan.sweep_id(plan.make_cells(schema.read())) != plan.sweep_id(cells):
        raise InputError("params.yaml, the data or the classifier changed during the run; run the same command again")


def print_summary(cells: list[Cell], uri: str, comparison: str) -> None:
    """Print the results, the failed cells, and where to find the report and the MLflow runs."""
    from pipelines.reporting import tables, terminal

    table = tables.of_counterfactuals(cells, pd.read_parquet(paths.TABLE))
    if len(table):
        console.print(terminal.summary(cells, table), soft_wrap=False)
    for cell in cells:
        if not store.has(cell.id):
            reason = (store.failure(cell.id) or {"error": "it did not finish"})["error"]
            print(f"missing: {cell.title}: {reason}", file=sys.stderr)
    console.print(f"report:  {paths.REPORT / 'index.html'}")
    if not uri.startswith("http"):
        mlflow = Path(sys.executable).with_name("mlflow")
        shown = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
        console.print(f"runs:    {shown} ui --backend-store-uri {uri}", markup=False)
    console.print(f"compare: {comparison}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
