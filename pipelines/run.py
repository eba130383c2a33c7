"""The driver: one command from the configuration to the counterfactuals.   python -m pipelines.run [+sweep=targets] ...

Hydra composes the configuration and names the cells of the sweep; DVC brings the data and the model up to date; the
cells that are not in the store are fanned out as the jobs of a Hydra launcher; DVC collects them and makes the report;
MLflow is brought in line with what is on disk. The same command again does no work, and a killed one goes on.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import hydra
import pandas as pd
import rich.box
from rich.table import Table
from rich.text import Text

from cfx.errors import InputError
from pipelines.cells import paths, plan, store
from pipelines.cells.plan import Cell
from pipelines.config import CONF, compose, schema
from pipelines.config.compose import Request
from pipelines.config.schema import Params
from pipelines.launching import job
from pipelines.launching.fan_out import fan_out, prefer_presets
from pipelines.progress import following
from pipelines.stages import explain
from pipelines.terminal import console, user_errors

RUN_LOCK = Path(".run.lock")
# How many rows of a table still read well in a terminal.
ROWS = 50


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    arguments = sys.argv[1:]
    options = compose.options(arguments)
    if options.help or options.hydra_help or options.cfg or options.info or options.shell_completion:
        prefer_presets()
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job.run)()
        return 0
    with driving():
        return sweep(compose.compose(arguments))


@contextmanager
def driving() -> Iterator[None]:
    """What every driver does around its sweeps: hold the folder, tell mistakes in a line, and end politely if asked.

    A second run at the same time would change schema.yaml and the artefacts under the first.
    """
    prefer_presets()
    # an end that is asked for politely is an interrupt, also where a shell has a background job ignore it
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with user_errors():
        try:
            with filelock.FileLock(RUN_LOCK, timeout=0):
                with paths.held():
                    pass  # no stage that a killed driver has left is at work
                yield
        except filelock.Timeout:
            raise InputError("another run is at work in this folder; wait for it, or work in a clone") from None
        except KeyboardInterrupt:
            print("stopped: finished cells are kept, and the same command goes on with the others", file=sys.stderr)
            raise


def sweep(asked: Request) -> int:
    """Compute what is missing of the sweep and show all of it; returns the exit code."""
    # imported when the input is known to be good: they cost seconds
    from pipelines import dvc
    from pipelines.stages import report
    from pipelines.tracking import client

    mlflow = client.connect(**asked.tracking)
    with dvc.all_or_nothing():
        train(asked.params)
        planned = plan.of_sweep(asked.params)
    run = client.parent_run(mlflow, planned, asked.params, asked.name, asked.command)
    parent = run.info.run_id
    explain.adopt(planned)
    missing = [cell for cell in planned if not store.has(cell.id)]
    console.print(f"{len(planned)} cell{'s' * (len(planned) != 1)}, {len(missing)} to compute")
    status = "FAILED"
    try:
        if missing:
            with following(missing):
                fan_out(missing, parent, asked.launch, asked.launcher, asked.overrides)
        if plan.sweep_sha256(plan.of_sweep(schema.read())) != plan.sweep_sha256(planned):
            raise InputError("params.yaml, the data or the classifier was changed meanwhile; run the same again")
        is_complete = all(store.has(cell.id) for cell in planned)
        if is_complete:
            dvc.bring_up_to_date("explain")
        else:
            explain.collect(planned)
        client.bring_in_line(mlflow, parent, planned)
        report.link(client.links(mlflow, parent, planned))
        if is_complete:
            dvc.bring_up_to_date("report")
            if not report.is_linked():
                dvc.bring_up_to_date("report", force=True)
            status = "FINISHED"
        else:
            report.main()
        if run.info.status != "FINISHED":
            client.log_outcome(mlflow, parent)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            client.bring_in_line(mlflow, parent, planned)
        finally:
            client.close(mlflow, parent, status)
    show(planned, asked.tracking["uri"], client.comparison(mlflow, parent))
    return 0 if status == "FINISHED" else 1


def train(chosen: Params) -> None:
    """Bring the data, the classifier and the judges up to date, of all variants if the sweep has some."""
    from pipelines import dvc

    def bring(asked: Params) -> None:
        schema.write(asked)
        dvc.bring_up_to_date("prepare")
        plan.check(asked, *plan.prepared(paths.LATEST))
        dvc.bring_up_to_date("train", "judges")

    # the first variant comes last: it is the one that stays in schema.yaml and in the artefacts
    for variant in reversed(chosen.variants):
        bring(chosen.of(variant))
        paths.LATEST.keep(variant.trained)
    if not chosen.variants:
        bring(chosen)


def show(planned: list[Cell], uri: str, comparison: str) -> None:
    """Print what was found, what failed, and where to look at it."""
    from pipelines.reporting import tables

    table = tables.of_counterfactuals(planned, pd.read_parquet(paths.TABLE))
    if len(table):
        show_table(tables.named(planned, table), tables.axes(planned))
    for cell in planned:
        if not store.has(cell.id):
            reason = (store.failure(cell.id) or {"error": "it did not run to its end"})["error"]
            print(f"missing: {tables.title(cell)}: {reason}", file=sys.stderr)
    console.print(f"report:  {paths.REPORT / 'index.html'}")
    if not uri.startswith("http"):
        mlflow = Path(sys.executable).with_name("mlflow")
        shown = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
        console.print(f"runs:    {shown} ui --backend-store-uri {uri}", markup=False)
    console.print(f"compare: {comparison}", markup=False)


def show_table(frame: pd.DataFrame, axes: list[str]) -> None:
    """Print a row for each counterfactual, with the axes that vary, as far as it reads well."""
    varied = [axis for axis in axes if axis != "target_class" and frame[axis].nunique() > 1]
    short = [axis.rpartition(".")[2] for axis in varied]
    heads = [name if short.count(name) == 1 else axis for axis, name in zip(varied, short, strict=True)]
    table = Table(box=rich.box.SIMPLE, padding=0)
    for head in heads:
        table.add_column(head, overflow="fold")
    for column in ("instance", "target", "found", "class", "p", "L1", "L0", "runtime"):
        # where there is no room, names go on in the next line, and numbers stay whole
        table.add_column(column, no_wrap=column not in ("target", "class"), overflow="fold")
    for row in frame.head(ROWS).to_dict("records"):
        classes, original = f"{row['original_class']} → {row['cf_class']}", str(row["original_class"])
        found = ["yes", classes, f"{row['probability']:.3f}", f"{row['l1']:.2f}", str(row["l0"])]
        outcome = found if row["found"] else ["no", original, *"---"]
        swept = [str(row[axis]) for axis in varied]
        values = [*swept, str(row["instance"]), str(row["target_class"]), *outcome, f"{row['runtime_s']:.2f} s"]
        # as text, for what stands in brackets in a name would be taken for a style
        table.add_row(*map(Text, values))
    console.print(table, soft_wrap=False)
    if len(frame) > ROWS:
        console.print(f"... and {len(frame) - ROWS} rows more in {paths.TABLE}")


if __name__ == "__main__":
    sys.exit(main())
