"""Stage `report`: the report of a sweep.   python -m pipelines.stages.report

Writes artifacts/report/: index.html, a self-contained page; rating.html, a page for a blind rating of the pictures
(pipelines.rating evaluates the answers); and the files for a paper: pictures/ (PNG with captions),
figures/ (PDF), plots/ (the figures as PNG, for `dvc plots show`) and tables/ (CSV and LaTeX). The output is
deterministic: the same artefacts and code give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from cfx import change_chart, charts, front, models
from cfx.files import replacing
from pipelines.cells import measures, paths, plan, provenance
from pipelines.cells.paths import Trained, class_name
from pipelines.cells.plan import Cell
from pipelines.config import invocation, schema, searches
from pipelines.config.command import command_line
from pipelines.config.schema import Params, Upstream
from pipelines.reporting import classes, gallery, leaderboard, rating, run_links, tables, trade_off
from pipelines.reporting.classes import Classes
from pipelines.terminal import user_errors

# The maximum number of rows in the page, so that it loads quickly.
ROWS = 2000
# The text colours for light and dark backgrounds, as in page.css.
_LIGHT, _DARK = "#1c1e21", "#e4e6eb"
# TrueType fonts, which journals require, and deterministic identifiers.
_VECTOR: Any = {"pdf.fonttype": 42, "svg.hashsalt": "report"}
# The measures in the charts of each axis.
_CHARTED = ("l1", "probability", "runtime_s")


def main() -> None:
    """Run the stage."""
    params = schema.read()
    sweep = plan.make_cells(params)
    trained = {cell.trained: cell.upstream for cell in sweep}
    table = tables.of_counterfactuals(sweep, pd.read_parquet(paths.TABLE))
    of_cells = tables.of_cells(sweep, table)
    of_methods = classes.by_method(table)
    shown = gallery.select(sweep, table)
    # methods are compared by the nearest counterfactual of each instance
    nearest = table[table["place"] == 1] if len(table) else table
    with replacing(paths.REPORT) as folder:
        figures = folder / "figures"
        for kind in (figures, folder / "plots"):
            kind.mkdir(parents=True)
        tables.write(folder / "tables", sweep, of_cells, table, of_methods)
        searched = tables.named(sweep, tables.of_searched(sweep, of_cells, nearest))
        if rated := rating.write(sweep, nearest, folder):
            (folder / rating.PAGE).write_text(render("rating.html.j2", **rated), encoding="utf-8")
        content = {
            "run": run_details(params, sweep),
            "runs": run_links.read(),
            "is_rated": rated is not None,
            "classifiers": [classifier(one, upstream) for one, upstream in trained.items()],
            "training": training(next(iter(trained)), figures),
            "headline": headline(of_cells, table),
            "axes": tables.axes(sweep),
            "summary": tables.named(sweep, of_cells).to_dict("records"),
            "names": {cell.id: cell.name for cell in sweep},
            "leaderboards": list(leaderboards(sweep, nearest, figures)),
            "trade_offs": list(trade_offs(sweep, nearest, figures)),
            "comparisons": list(comparisons(searched, tables.axes(sweep), figures)),
            "by_class": list(by_class(sweep, table, of_methods, figures)),
            "changed": list(changed_columns(sweep, table, figures)),
            "rows": len(table),
            "table": tables.named(sweep, table.head(ROWS)).to_dict("records"),
            "first": {cell.id: gallery.anchor(cell, i) for i, cell in reversed(shown)},
            "anchors": {
                (cell.id, cell.rows[i], i % cell.method.count + 1): gallery.anchor(cell, i) for i, cell in shown
            },
            "gallery": gallery.render(shown, table, folder / "pictures"),
        }
        files = sorted(path for kind in ("figures", "plots", "tables") for path in (folder / kind).iterdir())
        content["files"] = [str(path.relative_to(folder)) for path in files]
        (folder / "index.html").write_text(render("page.html.j2", **content), encoding="utf-8")
        if paths.RUNS.exists():
            shutil.copyfile(paths.RUNS, folder / paths.RUNS.name)


def run_details(params: Params, sweep: list[Cell]) -> dict[str, Any]:
    """The data, model, methods, axes, code and versions of the run, and the command and parameters to reproduce it."""
    parameters = params.model_dump(mode="json", exclude={"paths": True, "variants": {"__all__": {"paths"}}})
    variants: Sequence[Upstream] = params.variants or [params]
    axes = {
        axis: [cell.shown(axis, cell.swept[axis]) for cell in sweep if cell.swept[axis] is not None]
        for axis in sweep[0].swept
    }
    return {
        "data": ", ".join(dict.fromkeys(variant.data.name for variant in variants)),
        "model": ", ".join(dict.fromkeys(variant.model.name for variant in variants)),
        "methods": list(dict.fromkeys(searches.name(cell.search) for cell in sweep)),
        "axes": {axis: list(dict.fromkeys(values)) for axis, values in axes.items()},
        "instances": sweep[0].instances,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "command": command_line(params.model_dump(mode="json")),
        "parameters": yaml.safe_dump(parameters, sort_keys=False, default_flow_style=None, width=88),
    }


def classifier(trained: Trained, upstream: dict[str, Any]) -> dict[str, Any]:
    """The description and the metrics of a classifier, its data and its judges."""
    return {
        "name": ", ".join(f"{axis}={value}" for axis, value in upstream.items()),
        "card": json.loads(trained.data_card.read_text()),
        "sha256": models.sha256(trained.model),
        "metrics": json.loads(trained.metrics.read_text()),
        "judges": json.loads(trained.judges_metrics.read_text()),
    }


def training(trained: Trained, folder: Path) -> list[dict[str, str]]:
    """The confusion matrix and, if the workflow trained the classifier, the training history."""
    confusion, history = pd.read_csv(trained.confusion), pd.read_csv(trained.history)
    actual, predicted = confusion["actual"], confusion["predicted"]
    mistakes = confusion[actual != predicted].value_counts()
    alt = f"Confusion matrix: {(actual == predicted).sum()} of {len(confusion)} test instances are classified correctly"
    if len(mistakes):
        label, prediction = (class_name(label, trained) for label in mistakes.index[0])
        alt += f"; the most common error is {label} classified as {prediction}, {mistakes.iloc[0]} times"
    names = [class_name(label, trained) for label in range(json.loads(trained.data_card.read_text())["classes"])]
    figure = charts.confusion_figure(actual, predicted, _LIGHT, names)
    figures = [_figure(figure, alt, folder / "confusion.pdf")]
    if len(history):
        last = history.iloc[-1]
        alt = (
            f"Loss and accuracy after each of {len(history)} epochs; after the last, the accuracy is "
            f"{last['accuracy']:.3f} on the training split and {last['test_accuracy']:.3f} on the test split"
        )
        figures.append(_figure(charts.history_figure(history, _LIGHT), alt, folder / "history.pdf"))
    return figures


def headline(of_cells: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """The main results of the whole sweep."""
    found = measures.rows(table, "found")
    return {
        "searched": int(of_cells["searched"].sum()),
        "found": len(found),
        "left_out": measures.left_out(int(of_cells["unchanged"].sum())),
        "runtime_s": of_cells["runtime_s"].sum(),
        # per method: a median over several methods would depend on how many each found
        "l1": found.groupby("method", sort=False)["l1"].median().to_dict() if len(found) else {},
        "probability": found["probability"].median() if len(found) else np.nan,
    }


def leaderboards(sweep: list[Cell], table: pd.DataFrame, folder: Path) -> Iterator[dict[str, Any]]:
    """For each data set and classifier with several methods, the ranked methods and settings with their charts."""
    found = list(leaderboard.of_sweep(sweep, table))
    for number, board in enumerate(found, start=1):
        suffix = f"_{number}" if len(found) > 1 else ""
        drawn = leaderboard.figures(board, _LIGHT)
        figures = [_figure(figure, alt, folder / f"{kind}{suffix}.pdf") | {"kind": kind} for kind, alt, figure in drawn]
        columns = {measure: of for measure, of in leaderboard.MEASURES.items() if measure in board.table}
        file = leaderboard.write(board, folder.parent / "tables", suffix)
        rows = board.table.to_dict("records")
        yield board._asdict() | {"columns": columns, "rows": rows, "figures": figures, "file": file}


def trade_offs(sweep: list[Cell], table: pd.DataFrame, folder: Path) -> Iterator[dict[str, Any]]:
    """For each data set with several methods or swept settings, the charts of `TradeOff` and its contact sheet."""
    found = list(trade_off.of_data(sweep, table))
    for number, one in enumerate(found, start=1):
        suffix = f"_{number}" if len(found) > 1 else ""
        one.points.to_csv(folder.parent / "tables" / f"front{suffix}.csv", index=False)
        dominated = ", ".join(itertools.compress(one.labels, one.points["is_dominated"])) or "none"
        alt = f"L1 against agreement and IM1 of {len(one.points)} settings{f', {one.name}' if one.name else ''}"
        figure = front.front_figure(one.points, one.labels, _LIGHT, one.real)
        alt = f"{alt}; dominated in L1 and agreement: {dominated}"
        figures = [_figure(figure, alt, folder / f"front{suffix}.pdf") | {"kind": "front"}]
        if one.sheet:
            alt = f"The same {len(one.sheet.columns)} counterfactuals by {len(one.sheet.rows) - 1} settings"
            sheet = charts.mosaic_figure(*one.sheet, "", _LIGHT)
            figures.append(_figure(sheet, alt, folder / f"contact_sheet{suffix}.pdf") | {"kind": "contact_sheet"})
        yield {"name": one.name, "figures": figures, "table": f"tables/front{suffix}.csv"}


def comparisons(searched: pd.DataFrame, axes: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    """For each axis with several values, the charts of the measures and of the share found, by method."""
    for axis in axes:
        # without the methods that do not have the hyperparameter
        rows = searched.dropna(subset=axis)
        if rows[axis].nunique() < 2:
            continue
        file, figures = tables.file_name(axis), []
        for measure in _CHARTED:
            if measure in rows and rows[measure].notna().any():
                label = measures.title(measure)
                medians = rows.groupby(axis)[measure].median()
                alt = f"{label} against {axis}: the median is {medians.min():.3g} at {axis}={medians.idxmin()} and "
                alt += f"{medians.max():.3g} at {axis}={medians.idxmax()}"
                figure = charts.spread_figure(rows, axis, measure, label, _LIGHT)
                figures.append(_figure(figure, alt, folder / f"{measure}_by_{file}.pdf"))
        shares = rows.groupby(axis)["found"].mean()
        alt = f"Share found against {axis}: the minimum is {shares.min():.1%} at {axis}={shares.idxmin()}"
        figure = charts.validity_figure(rows, axis, _LIGHT)
        figures.append(_figure(figure, alt, folder / f"found_by_{file}.pdf"))
        yield {"axis": axis, "figures": figures}


def by_class(
    sweep: list[Cell], table: pd.DataFrame, of_methods: Mapping[str, Classes], folder: Path
) -> Iterator[dict[str, Any]]:
    """For each method, examples and the median L1 by original class and target class."""
    medians = [value for one in of_methods.values() for value in one.median.to_numpy(float).ravel()]
    scale = max((value for value in medians if value > 0), default=None)
    methods = table["method"].unique().tolist()
    for method in methods:
        cells = [cell for cell in sweep if searches.name(cell.search) == method]
        by, suffix = ("", "") if len(methods) == 1 else (f" by {method}", f"_{tables.file_name(method)}")
        figures = []
        if examples := gallery.mosaic(cells, table[table["method"] == method]):
            names = ", ".join(dict.fromkeys(examples[1]))
            alt = f"An instance of each original class, {names}, and its counterfactuals{by}"
            figure = charts.mosaic_figure(*examples, "original class", _LIGHT)
            figures.append(_figure(figure, alt, folder / f"examples{suffix}.pdf") | {"kind": "examples"})
        if method in of_methods:
            of_method = of_methods[method].named(sweep)
            median = of_method.median
            alt = f"Median L1{by} from each original class to each {median.columns.name}"
            values = median.to_numpy(float)
            if not np.isnan(values).all():
                row, column = divmod(int(np.nanargmax(values)), median.shape[1])
                alt += f"; the maximum is from {median.index[row]} to {median.columns[column]}"
            figure = charts.class_figure(*of_method, "median L1", _LIGHT, scale)
            figures.append(_figure(figure, alt, folder / f"l1_by_class{suffix}.pdf") | {"kind": "l1_by_class"})
        if figures:
            yield {"method": method, "figures": figures}


def changed_columns(sweep: list[Cell], table: pd.DataFrame, folder: Path) -> Iterator[dict[str, Any]]:
    """For each shown cell with a table, the chart of the columns that its counterfactuals change."""
    for number, (cell, found) in enumerate(gallery.changed(sweep, table), start=1):
        shares = [f"{name} in {len(of_name) / len(found):.0%}" for name, of_name in change_chart.often(found)]
        figure = change_chart.changes_figure(found, paths.features(cell.trained), _LIGHT)
        alt = f"Changed columns of {len(found)} counterfactuals: {', '.join(shares)}"
        yield {
            "name": cell.title,
            "figure": _figure(figure, alt, folder / f"changes_{number}.pdf") | {"kind": "changes_chart"},
        }


def render(template: str, **content: Any) -> str:
    """Render an HTML page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = tables.number
    environment.filters["plain"] = tables.plain
    return environment.get_template(template).render(
        ink=_LIGHT, dark_ink=_DARK, rating_command=invocation("rating"), **content
    )


def _figure(figure: Figure, alt: str, path: Path) -> dict[str, str]:
    """Save a figure as PDF and PNG; returns it as data URIs for light and dark backgrounds."""
    svg = io.StringIO()
    with matplotlib.rc_context(_VECTOR):
        figure.savefig(path, transparent=True, dpi=200, metadata={"CreationDate": None})
        figure.savefig(path.parents[1] / "plots" / f"{path.stem}.png", dpi=200, metadata={"Software": None})
        figure.savefig(svg, format="svg", transparent=True, dpi=200, metadata={"Date": None})
    light, dark = (
        gallery.data_uri("image/svg+xml", svg.getvalue().replace(_LIGHT, ink).encode()) for ink in (_LIGHT, _DARK)
    )
    return {"alt": alt, "kind": path.stem, "light": light, "dark": dark}


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
