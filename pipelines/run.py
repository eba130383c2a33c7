"""The driver: one command from the configuration to the counterfactuals.   python -m pipelines.run [+sweep=targets] ...

Hydra composes the configuration and expands the sweep into cells. DVC updates the data and the model. The cells that
are not in the store run as jobs of a Hydra launcher. DVC collects them and builds the report, and the driver
synchronises MLflow with the files on disk. If the command is run again, finished cells are not recomputed.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
import hydra
import pandas as pd

from cfx.errors import InputError
from pipelines.cells import paths, plan, store
from pipelines.cells.plan import Cell, Plan
from pipelines.config import CONF, compose, schema
from pipelines.config.compose import Request
from pipelines.config.schema import Params
from pipelines.launching import fan_out
from pipelines.progress import show_progress
from pipelines.stages import explain
from pipelines.terminal import console, user_errors

RUN_LOCK = Path(".run.lock")


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    arguments = sys.argv[1:]
    with user_errors():
        is_sweep = compose.options(arguments) is not None
    if not is_sweep:
        fan_out.use_presets()
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_refuse)()
        return 0
    with driver():
        return sweep(request(arguments))


def _refuse(config: object) -> None:
    """In place of a job, where Hydra took a flag to run one: what a sweep is made from stands in conf/."""
    print("error: unsupported flag; use --help, --cfg, --info, --multirun or --config-dir", file=sys.stderr)
    raise SystemExit(2)


def request(arguments: Sequence[str]) -> Request:
    """What a command line asks for. Raises InputError for what is wrong, or cannot be launched from here."""
    composed = compose.compose(arguments)
    fan_out.check(composed.launcher, composed.hydra)
    return composed


@contextmanager
def driver() -> Iterator[None]:
    """What every driver does around its sweeps: hold the folder, tell mistakes in a line, and end politely if asked.

    A second run at the same time would change params.yaml and the artefacts under the first.
    """
    fan_out.use_presets()
    # an end that is asked for politely is an interrupt, also where a shell has a background job ignore it
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with user_errors():
        try:
            with filelock.FileLock(RUN_LOCK, timeout=0):
                with paths.stage_lock():
                    pass  # no stage that a killed driver has left is at work
                yield
        except filelock.Timeout:
            raise InputError("another run is active in this folder; wait until it ends, or use another clone") from None
        except KeyboardInterrupt:
            print("stopped: finished cells are kept; run the same command again to compute the others", file=sys.stderr)
            raise


def sweep(requested: Request) -> int:
    """Compute what is missing of the sweep and show all of it; returns the exit code."""
    # imported when the input is known to be good: they cost seconds
    from pipelines import dvc
    from pipelines.tracking import client

    mlflow = client.connect(**requested.tracking)
    with dvc.restore_on_error():
        prepare_models(requested.params)
        planned = plan.make_cells(requested.params)
    run = client.parent_run(mlflow, planned, requested.params, requested.name, requested.command)
    parent, status = run.info.run_id, "FAILED"
    try:
        compute(planned, requested, lambda cell: client.log_cell(mlflow, parent, cell))
        is_complete = collect(planned)
        client.sync_cells(mlflow, parent, planned)
        make_report(client.run_links(mlflow, parent, planned), is_complete)
        if run.info.status != "FINISHED":
            client.log_results(mlflow, parent)
        status = "FINISHED" if is_complete else "FAILED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.end_run(mlflow, parent, status)
    print_summary(planned, requested.tracking["uri"], client.comparison_link(mlflow, parent))
    return 0 if is_complete else 1


def compute(planned: list[Cell], requested: Request, log: Callable[[Cell], None]) -> None:
    """Fan out the cells that are neither in the store nor among the artefacts, and follow them.

    log: called for each cell when it has ended. Raises InputError where what the cells were planned with was changed.
    """
    explain.import_artifacts(planned)
    missing = [cell for cell in planned if not store.has(cell.id)]
    console.print(f"{len(planned)} cell{'s' * (len(planned) != 1)}, {len(missing)} to compute")
    if not missing:
        return
    file = Path(requested.hydra.hydra.sweep.dir) / "plan.json"
    plan.write(file, Plan(requested.params, missing))
    with show_progress(missing, log):
        fan_out.fan_out(missing, file, requested.launcher, requested.hydra)
    if plan.sweep_id(plan.make_cells(schema.read())) != plan.sweep_id(planned):
        raise InputError("params.yaml, the data or the classifier changed during the run; run the same command again")


def collect(planned: list[Cell]) -> bool:
    """Gather the finished cells into the artefacts; returns whether all are there."""
    from pipelines import dvc

    is_complete = all(store.has(cell.id) for cell in planned)
    if is_complete:
        dvc.reproduce("explain")
    else:
        explain.collect(planned)
    return is_complete


def make_report(links: Mapping[str, str], is_complete: bool) -> None:
    """Bring the report up to date, with links to the MLflow runs; of a sweep with failed cells DVC knows none."""
    from pipelines import dvc
    from pipelines.stages import report

    report.write_run_links(links)
    if is_complete:
        dvc.reproduce("report")
        if not report.has_run_links():
            dvc.reproduce("report", force=True)
    else:
        report.main()


def prepare_models(chosen: Params) -> None:
    """Bring the data, classifiers, judges and guides up to date, of all variants if the sweep has some."""
    from pipelines import dvc

    schema.write(chosen)
    dvc.reproduce("prepare")
    plan.check(chosen, *plan.prepared_data(paths.LATEST))
    dvc.reproduce("train", "judges", "guides", "variants")


def print_summary(planned: list[Cell], uri: str, comparison: str) -> None:
    """Print what was found, what failed, and where to look at it."""
    from pipelines.reporting import tables, terminal

    table = tables.of_counterfactuals(planned, pd.read_parquet(paths.TABLE))
    if len(table):
        console.print(terminal.summary(planned, table), soft_wrap=False)
    for cell in planned:
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
