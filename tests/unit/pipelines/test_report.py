"""The report: every cell and every failure is on one page, complete in itself, the same for the same input."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cfx.data import Dataset
from cfx.errors import InputError
from cfx.result import LambdaPath, Result
from pipelines.cells import paths, plan, provenance, source, store
from pipelines.config import schema
from pipelines.reporting import gallery, tables, trade_off
from pipelines.stages import report
from tests.unit.pipelines.made import NO_RULES

PARAMS: dict[str, Any] = {
    "seed": 0,
    "paths": {"data": "/home/someone/mine.npz", "model": None},
    "data": {"name": "mnist_5k", "seed": 0},
    "model": {
        "name": "cnn",
        "filters": [4],
        "kernel_size": 2,
        "dropout": 0.0,
        "hidden": 8,
        "hidden_dropout": 0.0,
    },
    "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.001, "replicas": 0},
    "judges": {"seed": 1, "steps": 10},
    "search": {"method": "wachter"},
    "instances": {"index": [5, 2], "range": None, "per_class": None, "classes": "all"},
    "constraints": NO_RULES,
    "sweep": {"target_class": [1, "other"], "learning_rate": [0.1, 0.01]},
}


HISTORY_HEAD = "epoch,loss,accuracy,test_loss,test_accuracy\n"


class Page(HTMLParser):
    """What a browser would see: the rows of both tables, the links and their targets, and what is fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.images = html, []
        self.tables: dict[str, list[list[str]]] = {}
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "id" in given:
            assert given["id"] not in self.ids, f"two elements are called {given['id']}"
            self.ids.add(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        elif "href" in given:
            self.fetched.append(given["href"])
        self.fetched += [given[key] for key in ("src", "srcset") if key in given]
        if tag == "img":
            self.images.append(given)
        if tag == "table":
            self._rows = self.tables[given["aria-labelledby"]] = []
        if tag == "tr":
            self._rows.append([])
            self._in_cell = False
        if tag in ("td", "th"):
            self._rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "table"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self._rows[-1][-1] = (self._rows[-1][-1] + data).strip("\n")

    @property
    def rows(self) -> list[list[str]]:
        """Of the table of the cells, its head first."""
        return self.tables["cells"]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[plan.Cell]:
    """The artefacts of a sweep of four cells over two instances, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    # one chart of a measure is drawn as three are, in less time
    monkeypatch.setattr(report, "_CHARTED", ("l1",))
    return write_artifacts()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that sweep, made once for the tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("usual"))
        write_artifacts()
        report.main()
        return paths.REPORT.resolve()


def write_artifacts() -> list[plan.Cell]:
    """Four cells, all found, for a classifier not trained here."""
    # it holds for a process, and each test is in a folder of its own
    provenance.commit.cache_clear()
    paths.ROOT.mkdir()
    write_params(PARAMS)
    random = np.random.default_rng(0)
    x = random.uniform(-0.5, 0.5, (12, 6, 6, 1)).astype(np.float32)
    y = np.arange(12) % 3
    dataset = Dataset(x, y, x, y)
    dataset.save(paths.LATEST.data)
    card = {"classes": 3, "input_shape": [6, 6, 1], "train": 12, "test": 12, "sha256": "da7a", "arrays": {}}
    paths.LATEST.data_card.write_text(json.dumps(card))
    paths.LATEST.judges_metrics.parent.mkdir()
    paths.LATEST.guides_folder.mkdir()
    for model in (paths.LATEST.model, paths.LATEST.autoencoders, paths.LATEST.committee):
        with zipfile.ZipFile(model, "w") as archive:
            archive.writestr("config.json", "{}")
    real = {"real_agreement": 0.964, "real_im1": 0.31, "real_outlier_factor": 1.04}
    paths.LATEST.judges_metrics.write_text(json.dumps({"committee_test_accuracy": 0.971, **real}))
    paths.LATEST.metrics.write_text(json.dumps({"test_accuracy": 0.9375, "test_loss": 0.25}))
    pd.DataFrame({"actual": y, "predicted": [0, 1, 2] * 3 + [0, 1, 1]}).to_csv(paths.LATEST.confusion, index=False)
    paths.LATEST.history.write_text(HISTORY_HEAD)
    of_sweep = plan.make_cells(schema.read())
    collect([(cell, counterfactuals(cell, x)) for cell in of_sweep])
    return of_sweep


def write_params(values: dict[str, object]) -> None:
    schema.PATH.write_text(yaml.safe_dump(values, sort_keys=False))


def counterfactuals(cell: plan.Cell, x_test: np.ndarray, found: bool = True, unchanged: bool = False) -> Result:
    instance = np.array(cell.rows)
    n = len(instance)
    x = x_test[instance].copy()
    if found and not unchanged:
        x[:, 0, 0] = 0.5
    change = np.abs(x - x_test[instance]).reshape(n, -1)
    one = np.ones(n)
    return Result(
        method=cell.search["method"],
        x=x,
        found=np.full(n, found),
        unchanged=np.full(n, unchanged),
        plausible=np.full(n, np.nan),
        anchor=np.full(n, -1),
        probability=0.99 * one,
        cf_class=np.full(n, 1 if found else 2),
        original_class=np.full(n, 2),
        target_class=np.full(n, str(cell.target_class)),
        instance=instance,
        place=np.arange(n) % cell.method.count + 1,
        l1=change.sum(axis=1),
        l2=np.sqrt((change**2).sum(axis=1)),
        l0=(change > 1e-3).sum(axis=1),
        weighted_l1=change.sum(axis=1),
        lam=0.1 * one if found else np.full(n, np.nan),
        lam_init=0.1 * one,
        learning_rate=cell.search.get("learning_rate", np.nan) * one,
        iterations=np.full(n, 1234),
        runtime_s=0.25 * one,
        path=LambdaPath(
            row=np.zeros(2, int),
            step=np.arange(2),
            x=np.repeat(x[:1], 2, axis=0),
            lam=np.array([0.1, 0.01]),
            probability=np.array([0.99, 0.995]),
            cf_class=np.array([1, 1]),
            l1=np.array([3.0, 4.5]),
        ),
    )


def collect(results: list[tuple[plan.Cell, Result]]) -> None:
    paths.RESULTS.mkdir(exist_ok=True)
    tables = []
    for cell, result in results:
        result.save(paths.RESULTS / f"{cell.id}.npz")
        judged = np.where(result.found, 1.0, np.nan)
        measured = {
            "im1": 0.75 * judged,
            "agreement": 0.8 * judged,
            "outlier_factor": 1.25 * judged,
            "components": 3 * judged,
        }
        known = np.where(result.found & ~result.unchanged, result.l1 / 2, np.nan)
        tables.append(result.frame().assign(cell=cell.id, best_known=known, **measured))
    (pd.concat(tables) if tables else pd.DataFrame()).to_parquet(paths.TABLE, index=False)


def made() -> Page:
    report.main()
    return page_of(paths.REPORT)


def page_of(folder: Path) -> Page:
    return Page((folder / "index.html").read_text())


def x_of(report: Path = paths.REPORT) -> np.ndarray:
    return Dataset.load(report.with_name("data.npz")).x_test


def test_the_table_has_a_row_a_cell_in_the_order_of_the_sweep(usual: Path) -> None:
    head, *rows = page_of(usual).rows
    assert head[:3] == ["target_class", "learning_rate", "found"]
    assert [row[:3] for row in rows] == [
        ["1", "0.1", "2 / 2"],
        ["1", "0.01", "2 / 2"],
        ["other", "0.1", "2 / 2"],
        ["other", "0.01", "2 / 2"],
    ]


def test_a_cell_of_one_instance_shows_its_values(sweep: list[plan.Cell]) -> None:
    write_params(PARAMS | {"instances": PARAMS["instances"] | {"index": [5]}, "sweep": {}})
    [cell] = plan.make_cells(schema.read())
    result = counterfactuals(cell, x_of())
    collect([(cell, result)])
    [_, row] = made().rows
    l1 = f"{result.l1[0]:.1f}"
    assert row == ["other", "found", "1", "0.990", l1, "1", "0.80", "0.75", "1.25", "3", "0.1", "0.25"]


def test_the_page_says_what_was_run_and_what_the_classifier_is_worth(usual: Path) -> None:
    html = page_of(usual).html
    said = ("mnist_5k", "wachter", "da7a", "93.75%", "97.1%", "learning_rate: 0.1, 0.01", "batch_size: 64")
    for words in (*said, f"numpy {np.__version__}", "not in a git repository"):
        assert words in html
    assert "/home/someone" not in html


def test_the_page_has_the_command_and_the_commit_that_make_it_again(sweep: list[plan.Cell]) -> None:
    for arguments in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "one"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True)
    provenance.commit.cache_clear()
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    html = made().html
    assert f"git checkout {head}" in html and "with uncommitted changes" in html
    assert "cfx run -m " in html
    assert "search.target_class=1,other search.learning_rate=0.1,0.01</pre>" in html


def test_the_page_is_complete_in_itself(usual: Path) -> None:
    page = page_of(usual)
    assert page.fetched
    assert all(address.startswith("data:") for address in page.fetched)
    assert "http" not in page.html.replace("http-equiv", "")
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= page.ids
    beside = [link for link in page.links if not link.startswith("#")]
    assert beside and all((usual / link).is_file() for link in beside)


def test_every_image_is_described_and_shows_what_was_found(usual: Path) -> None:
    page = page_of(usual)
    assert all(image["alt"] for image in page.images)
    alts = [image["alt"] for image in page.images]
    source = page.images[alts.index("instance 5")]["src"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
    enlarged = np.kron(x_of(usual)[5, :, :, 0], np.ones((37, 37)))
    assert np.array_equal(pixels, np.round(255 * (enlarged + 0.5)).astype(np.uint8))
    # 4 cells x 2 instances x 3 panels, 4 x 2 steps of the first instances, the confusion matrix, the examples, the
    # trade-off with its contact sheet, and for both axes L1, probability, runtime and the share found
    assert len(alts) == 24 + 8 + 4 + 8


def test_each_setting_is_a_point_between_near_and_plausible(sweep: list[plan.Cell]) -> None:
    of_methods(unchanged=False)
    table = pd.read_parquet(paths.TABLE)
    is_far = table["method"] == "nearest_neighbour"
    table.loc[is_far, "l1"] += 9
    table.to_parquet(paths.TABLE, index=False)
    page = made()
    head, first, second = page.tables["tables/leaderboard.csv"]
    assert len(head) == len(first) == len(second)
    assert [row[:3] for row in (head, first, second)] == [
        ["method", "mean rank", "found"],
        ["wachter, learning_rate=0.1", "1.00", "100% 1"],
        ["nearest_neighbour", "2.00", "100% 1"],
    ]
    assert first[head.index("L1 / best known")] == "2.000 1" and first[-4:] == ["-"] * 4 and second[-2] == "2"
    charts = [image["alt"] for image in page.images if image["alt"].startswith("L1 against agreement")]
    assert charts == ["L1 against agreement and IM1 of 2 settings; dominated in L1 and agreement: nearest_neighbour."]
    points = pd.read_csv(paths.REPORT / "tables/front.csv").set_index("method")
    assert points["agreement"].tolist() == [0.8, 0.8] and points["n"].tolist() == [2, 2]
    assert points["l1"]["nearest_neighbour"] == pytest.approx(points["l1"]["wachter"] + 9)


def test_the_contact_sheet_has_the_same_counterfactuals_by_every_setting(sweep: list[plan.Cell]) -> None:
    cells = of_methods(unchanged=False)
    table = tables.of_counterfactuals(cells, pd.read_parquet(paths.TABLE))
    is_missed = (table["method"] == "nearest_neighbour") & (table["instance"] == 5)
    [one] = trade_off.of_data(cells, table.assign(found=table["found"] & ~is_missed))
    tiles, rows, columns = one.sheet
    assert rows == ["original", "wachter, learning_rate=0.1", "nearest_neighbour"]
    assert columns == ["0 \N{RIGHTWARDS ARROW} 1", "2 \N{RIGHTWARDS ARROW} 1"]
    x = x_of()
    for column, instance in enumerate((2, 5)):
        original, near = (np.asarray(line[column].convert("L")) for line in tiles[:2])
        assert np.array_equal(original, np.round(255 * (x[instance, :, :, 0] + 0.5)))
        assert near[0, 0] == 255 and np.array_equal(near.ravel()[1:], original.ravel()[1:])
    assert tiles[2][0] == tiles[1][0] and tiles[2][1] is None


def test_the_contact_sheet_does_without_a_classifier_whose_cells_all_failed(sweep: list[plan.Cell]) -> None:
    cells = of_methods(unchanged=False)
    first = replace(cells[0], trained=replace(cells[0].trained, model_folder=Path("failed")))
    table = tables.of_counterfactuals(cells, pd.read_parquet(paths.TABLE))
    [alone], [after] = (list(trade_off.of_data(given, table)) for given in (cells, [replace(first, id="none"), *cells]))
    assert after.sheet == alone.sheet and len(after.sheet.columns) == 2


def test_a_swept_hyperparameter_may_have_the_name_of_a_part_of_the_page(sweep: list[plan.Cell]) -> None:
    cell = replace(sweep[0], swept={"changes": 3, "evolution": 2})
    [[shown]] = gallery.render([(0, cell)], pd.read_parquet(paths.TABLE), Path("pictures"))
    assert shown["changes"] == [] and len(shown["evolution"]) == 2 and shown["cell"] is cell


def test_the_measure_of_replicas_is_a_column_where_there_are_any(sweep: list[plan.Cell]) -> None:
    paths.LATEST.metrics.write_text(
        json.dumps({"test_accuracy": 0.9375, "test_loss": 0.25, "replicas_test_accuracy": 0.876})
    )
    pd.read_parquet(paths.TABLE).assign(seed_stability=0.6).to_parquet(paths.TABLE, index=False)
    page = made()
    assert "for real test instances it is 87.6%" in page.html
    head, *rows = page.rows
    assert all(len(row) == len(head) and row[head.index("seed stability")] == "0.60" for row in rows)


def test_one_setting_alone_has_no_trade_off(sweep: list[plan.Cell]) -> None:
    write_params(PARAMS | {"sweep": {"target_class": [1, 2]}})
    collect([(cell, counterfactuals(cell, x_of())) for cell in plan.make_cells(schema.read())])
    assert not [image for image in made().images if image["alt"].startswith("L1 against agreement")]


def test_the_pictures_lie_beside_the_page_as_files(usual: Path) -> None:
    names = {path.name for path in (usual / "pictures").iterdir()}
    assert "instance=2_target_class=other_learning_rate=0.01.png" in names
    assert "instance=5_target_class=1_learning_rate=0.1_evolution.png" in names
    # one a counterfactual, one evolution a cell
    assert len(names) == 8 + 4


def test_the_charts_lie_beside_the_page_as_vector_files_with_their_fonts(usual: Path) -> None:
    drawn = {path.name: path.read_bytes() for path in (usual / "figures").glob("*.pdf")}
    of_axes = {
        f"{measure}_by_{axis}.pdf"
        for measure in ("l1", "probability", "runtime_s", "found")
        for axis in ("target_class", "learning_rate")
    }
    assert set(drawn) == {"confusion.pdf", "examples.pdf", "front.pdf", "contact_sheet.pdf"} | of_axes
    assert all(b"/FontFile2" in content for content in drawn.values())


def test_dvc_shows_the_charts_without_a_network(usual: Path, tmp_path: Path) -> None:
    plots = yaml.safe_load((source.ROOT / "dvc.yaml").read_text())["plots"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}))
    shutil.copytree(usual, tmp_path / paths.REPORT)
    dvc = [sys.executable, "-m", "dvc"]
    for arguments in (["init", "--no-scm", "-q"], ["plots", "show", "-q", "--out", "shown"]):
        subprocess.run([*dvc, *arguments], cwd=tmp_path, check=True)
    html = (tmp_path / "shown" / "index.html").read_text()
    shown = {(tmp_path / "shown" / address).stat().st_size for address in re.findall(r'<img src="([^"]+)"', html)}
    assert shown == {path.stat().st_size for path in (usual / "plots").iterdir()} and len(shown) == 12
    assert "<script" not in html and "http" not in html


def test_charts_are_drawn_for_a_light_and_for_a_dark_ground(usual: Path) -> None:
    light, dark = (
        {
            base64.b64decode(text).decode()
            for text in re.findall(pattern + r"image/svg\+xml;base64,([\w+/=]+)", page_of(usual).html)
        }
        for pattern in ('src="data:', 'srcset="data:')
    )
    assert len(light) == len(dark) == 12
    assert all("#1c1e21" in svg for svg in light) and not any("#1c1e21" in svg for svg in dark)
    assert all("#e4e6eb" in svg for svg in dark)


def test_the_same_artefacts_give_the_same_bytes(sweep: list[plan.Cell]) -> None:
    def files() -> dict[Path, bytes]:
        report.main()
        return {path: path.read_bytes() for path in paths.REPORT.rglob("*") if path.is_file()}

    assert files() == files()


def test_a_counterfactual_that_was_not_found_is_shown_as_that(sweep: list[plan.Cell]) -> None:
    results = [(cell, counterfactuals(cell, x_of(), found=i != 1)) for i, cell in enumerate(sweep)]
    collect(results)
    page = made()
    assert page.rows[2] == ["1", "0.01", "0 / 2 (2 not)", *["-"] * 9, "0.50"]
    lost = [row for row in page.tables["counterfactuals"] if row[:3] == ["5", "1", "0.01"]]
    assert lost == [["5", "1", "0.01", "2", "not found", *["-"] * 7, "1234", "0.250"]]
    assert page.html.count("no counterfactual: the instance itself") == 2
    assert "6 / 8" in page.html


def of_methods(unchanged: bool, count: int = 1) -> list[plan.Cell]:
    """Two methods, of which one has no learning rate, to the classes 1 and 2; of the cells of class 2 none is changed.

    unchanged: whether those of class 1 are not, either. count: the counterfactuals of an instance.
    """
    searches = [{"method": name, "count": count} for name in ("wachter", "nearest_neighbour")]
    sweep = {"search": searches, "learning_rate": [0.1], "target_class": [1, 2]}
    write_params(PARAMS | {"search": {}, "sweep": sweep})
    cells = plan.make_cells(schema.read())
    results = []
    for cell in cells:
        result = counterfactuals(cell, x_of(), unchanged=unchanged or cell.target_class == 2)
        results.append((cell, replace(result, original_class=np.repeat([2, 0], count))))
    collect(results)
    return cells


def test_what_was_not_changed_is_shown_as_that_and_is_in_no_number(sweep: list[plan.Cell]) -> None:
    of_methods(unchanged=False)
    page = made()
    assert "4 / 4" in page.html and "4 rows were left out: their instance already is in the target class" in page.html
    assert [row[:4] for row in page.rows[1:]] == [
        ["1", "wachter", "0.1", "2 / 2"],
        ["2", "wachter", "0.1", "0 / 0 + 2 unchanged"],
        ["1", "nearest_neighbour", "-", "2 / 2"],
        ["2", "nearest_neighbour", "-", "0 / 0 + 2 unchanged"],
    ]
    assert page.rows[2][4:-1] == ["-"] * 9
    marked = [row for row in page.tables["counterfactuals"] if "unchanged" in row]
    assert len(marked) == 4 and all(row[1] == "2" and row[7:-2] == ["-"] * 6 for row in marked)
    # there is nothing to see of them
    assert sum(image["alt"].startswith("counterfactual, ") for image in page.images) == 4
    assert "no counterfactual: the instance itself" not in page.html


def test_each_method_has_its_own_grid_from_class_to_class(sweep: list[plan.Cell]) -> None:
    of_methods(unchanged=False)
    html = made().html
    assert html.index("<h3>wachter</h3>") < html.index("<h3>nearest_neighbour</h3>")
    drawn = {path.stem for path in (paths.REPORT / "figures").glob("*.pdf")}
    assert {"examples_wachter", "examples_nearest_neighbour"} <= drawn and "l1_by_learning_rate" not in drawn
    assert "l1_by_method" in drawn


def test_methods_are_compared_by_the_nearest_of_several_counterfactuals(sweep: list[plan.Cell]) -> None:
    of_methods(unchanged=False, count=2)
    page = made()
    assert len(page.tables["counterfactuals"]) == 1 + 2 * 2 * 2 * 2
    board = pd.read_csv(paths.REPORT / "tables/leaderboard.csv")
    assert board["searched"].tolist() == [2, 2] and board["found"].tolist() == [2, 2]


def test_methods_that_found_nothing_have_a_leaderboard(sweep: list[plan.Cell]) -> None:
    cells = of_methods(unchanged=False)
    collect([(cell, counterfactuals(cell, x_of(), found=False)) for cell in cells])
    made()
    board = pd.read_csv(paths.REPORT / "tables/leaderboard.csv")
    assert board["found"].tolist() == [0, 0] and "l1_ratio" not in board


def test_a_sweep_in_which_nothing_was_changed_has_a_report(sweep: list[plan.Cell]) -> None:
    of_methods(unchanged=True)
    page = made()
    assert "0 / 0" in page.html and "8 rows were left out" in page.html
    assert "nan" not in re.sub(r'"data:[^"]*"', "", page.html)


def test_a_cell_without_a_result_is_shown_as_failed_with_its_reason(sweep: list[plan.Cell]) -> None:
    store.save_failure(sweep[2].id, {"error": "MemoryError: <script>alert(1)</script>"})
    collect([(cell, counterfactuals(cell, x_of())) for cell in sweep[:2]])
    page = made()
    assert page.rows[3] == ["other", "0.1", "failed: MemoryError: <script>alert(1)</script>"]
    assert [row[1] for row in page.tables["counterfactuals"][1:]] == ["1"] * 4
    assert page.rows[4] == ["other", "0.01", "failed: it has not been computed"]
    assert "2 cells without a result" in page.html
    assert "<script>alert" not in page.html


def test_a_sweep_that_failed_as_a_whole_still_has_a_report(sweep: list[plan.Cell]) -> None:
    collect([])
    page = made()
    assert [row[2] for row in page.rows[1:]] == ["failed: it has not been computed"] * 4
    assert "0 / 8" in page.html
    assert "counterfactuals" not in page.tables
    shares = [image["alt"] for image in page.images if image["alt"].startswith("Share found")]
    assert len(shares) == 2


def test_results_of_another_sweep_do_not_count(sweep: list[plan.Cell]) -> None:
    write_params(PARAMS | {"sweep": {"target_class": [0]}})
    page = made()
    assert page.rows[1:] == [["0", "failed: it has not been computed"]]
    assert "0 / 2" in page.html


def test_every_counterfactual_has_a_row_that_leads_to_its_picture(usual: Path) -> None:
    page = page_of(usual)
    head, *rows = page.tables["counterfactuals"]
    assert head[:5] == ["instance", "target_class", "learning_rate", "original", "class"]
    assert [row[:3] for row in rows[:3]] == [["5", "1", "0.1"], ["2", "1", "0.1"], ["5", "1", "0.01"]]
    assert len(rows) == 8 and all(len(row) == len(head) for row in rows)
    link = "#instance=2_target_class=other_learning_rate=0.01"
    assert f'<a href="{link}">2</a>' in page.html and link.removeprefix("#") in page.ids


def test_rows_lead_to_their_runs_where_the_addresses_are_known(sweep: list[plan.Cell]) -> None:
    assert "MLflow" not in made().rows[0]
    address = "http://127.0.0.1:5000/#/experiments/1/runs/"
    known = {sweep[0].id: f"{address}a&b", sweep[1].id: "javascript:alert(1)", "sweep": f"{address}s"}
    paths.RUNS.write_text(json.dumps(known))
    page = made()
    assert page.rows[0][-1] == "MLflow" and [row[-1] for row in page.rows[1:]] == ["run", "", "", ""]
    assert [row[-1] for row in page.tables["counterfactuals"][1:]] == ["run"] * 2 + [""] * 6
    # the cell, its two rows and their two pictures
    assert page.links.count(f"{address}a&b") == 5 and page.links.count(f"{address}s") == 1
    assert "javascript" not in page.html


def test_a_long_table_is_cut_and_says_where_the_rest_is(
    sweep: list[plan.Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "ROWS", 3)
    page = made()
    assert len(page.tables["counterfactuals"]) == 1 + 3
    assert "3 of 8" in page.html
    assert len(pd.read_csv(paths.REPORT / "tables" / "counterfactuals.csv")) == 8


def test_a_long_sweep_shows_pictures_of_some_and_says_so(
    sweep: list[plan.Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "SHOWN", 5)
    page = made()
    assert "4 of the 8" in page.html
    # of one class, so the first instance in all four cells
    shown = [image["alt"] for image in page.images if image["alt"] in ("instance 5", "instance 2")]
    assert shown == ["instance 5"] * 4
    assert len(page.rows) == 5


def test_the_training_is_shown_where_there_was_one(sweep: list[plan.Cell]) -> None:
    assert "accuracy after each" not in made().html
    paths.LATEST.history.write_text(HISTORY_HEAD + "1,2.0,0.5,2.0,0.6\n2,1.0,0.8,1.0,0.9\n")
    shown = [image["alt"] for image in made().images if "accuracy after each of 2 epochs" in image["alt"]]
    assert len(shown) == 1
    assert "0.900 on the test split" in shown[0]
    assert (paths.REPORT / "figures" / "history.pdf").exists()


def test_a_damaged_result_is_named_and_leaves_the_last_report(sweep: list[plan.Cell]) -> None:
    before = made().html
    (paths.RESULTS / f"{sweep[0].id}.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=sweep[0].id):
        report.main()
    assert (paths.REPORT / "index.html").read_text() == before
    assert [path.name for path in paths.ROOT.iterdir() if path.name.startswith(".")] == []
