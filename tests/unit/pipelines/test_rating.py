"""The blind rating: the page gives nothing away, and answers are compared with the classes of their pictures."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from cfx.data import Dataset
from cfx.errors import InputError
from pipelines import rating as command
from pipelines.cells import paths, plan
from pipelines.config import schema
from pipelines.reporting import rating, tables, trade_off
from pipelines.stages import report
from tests.unit.pipelines.test_report import PARAMS, collect, counterfactuals, write_artifacts, write_params, x_of

METHODS = [{"method": name, "target_class": 1} for name in ("wachter", "nearest_neighbour")]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The key of the report of two methods, each of which found a counterfactual of both instances."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "_CHARTED", ())
    write_artifacts()
    write_params(PARAMS | {"search": {}, "sweep": {"search": METHODS}})
    collect([(cell, counterfactuals(cell, x_of())) for cell in plan.make_cells(schema.read())])
    report.main()
    return pd.read_csv(paths.REPORT / "tables" / rating.KEY)


def saved(key: pd.DataFrame, answers: list, name: str = "answers.csv") -> Path:
    digest = rating.digest(paths.REPORT / "tables" / rating.KEY)
    pd.DataFrame({"report": digest, "picture": key["picture"], "answer": answers}).to_csv(name, index=False)
    return Path(name)


def test_the_page_shows_every_picture_of_the_key_without_a_label(key: pd.DataFrame) -> None:
    assert key["source"].value_counts().to_dict() == {rating.REAL: 2, "wachter": 2, "nearest_neighbour": 2}
    assert key["picture"].tolist() == [1, 2, 3, 4, 5, 6]
    html = (paths.REPORT / "rating.html").read_text()
    content = json.loads(re.search('id="content">(.*?)</script>', html)[1])
    assert len(content["pictures"]) == len(set(content["pictures"])) + 2 == 6  # the methods give the same pictures here
    told = re.sub('data:image/png;base64,[^"]*', "", html)
    for word in ("wachter", "nearest_neighbour", *key["cell"].dropna()):
        assert word not in told
    assert re.findall('data-answer="(.*?)"', html) == ["0", "1", "2", str(rating.NO_CLASS)]


def test_answers_are_compared_with_the_classes(key: pd.DataFrame, monkeypatch, capsys) -> None:
    is_wachter = key["source"] == "wachter"
    right = saved(key, key["class"].where(~is_wachter, rating.NO_CLASS).tolist(), "one.csv")
    half = saved(key[is_wachter], [1, 0], "two.csv")
    monkeypatch.setattr(sys, "argv", ["rating", str(right), str(half)])
    assert command.main() == 0
    found = pd.read_csv(paths.RATING).set_index("source")
    assert found["answers"].to_dict() == {rating.REAL: 2, "nearest_neighbour": 2, "wachter": 4}
    assert found["share"].to_dict() == {rating.REAL: 1, "nearest_neighbour": 1, "wachter": 0.25}
    assert found["none"].to_dict() == {rating.REAL: 0, "nearest_neighbour": 0, "wachter": 0.5}
    # Wilson's interval of 1 of 4, computed by hand
    assert found.loc["wachter", ["low", "high"]].tolist() == pytest.approx([0.0456, 0.6994], abs=1e-4)
    assert "25.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report": "0" * 16}, "answers another report"),
        ({"picture": 7}, "has no picture 7"),
        ({"picture": 1}, "has two answers to picture 1"),
        ({"picture": "one"}, "has no picture one"),
    ],
)
def test_answers_that_do_not_belong_to_the_report_are_refused(key: pd.DataFrame, changes: dict, message: str) -> None:
    path = saved(key, key["class"].tolist())
    pd.read_csv(path).assign(**changes).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        rating.agreement([path], paths.REPORT)


@pytest.mark.parametrize(
    "content",
    ["", "a,b\n1,2\n", "report,picture,answer\n", "report,picture,answer\nx,1,2\nx,1,2,3,4\n", "\0\xff", None],
)
def test_files_that_are_no_answers_are_refused_in_one_line(key: pd.DataFrame, content: str | None) -> None:
    path = Path("other.csv")
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"^other.csv: ") as refused:
        rating.agreement([path], paths.REPORT)
    assert "\n" not in str(refused.value)


def test_a_file_of_answers_counts_once(key: pd.DataFrame) -> None:
    path = saved(key, key["class"].tolist())
    with pytest.raises(InputError, match="given twice"):
        rating.agreement([path, path], paths.REPORT)


def test_a_table_is_not_rated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = write_artifacts()
    data = Dataset.load(paths.LATEST.data)
    flat = (data.x_train.reshape(12, 36), data.y_train, data.x_test.reshape(12, 36), data.y_test)
    Dataset(*flat).save(paths.LATEST.data)
    table = tables.of_counterfactuals(cells, pd.read_parquet(paths.TABLE))
    assert rating.write(cells, table, paths.REPORT) is None
    assert all(one.sheet is None for one in trade_off.of_data(cells, table))


def test_without_a_report_there_is_nothing_to_rate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; run a sweep on images first"):
        rating.agreement([tmp_path / "answers.csv"], tmp_path)
