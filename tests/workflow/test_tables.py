"""The example of docs/how-to/tables.md: every place where a counterfactual is read has its changes in own units."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import ROOT, Repository, fresh, shared

PAGE = (ROOT / "docs/how-to/tables.md").read_text()
TABLE = ("data=csv", "data.path=loans.csv", "data.schema=loans.yaml")
SMALL = ("search=primal_dual", "training.epochs=20", "judges.steps=20")
RULES = ("search.count=2", "constraints.immutable=[job]", "constraints.increase=[age]", "constraints.scale=mad")


def pasted(language: str) -> str:
    """The first block of the page in a language."""
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> Repository:
    """A clone after the example, for three loans of each class."""

    def make(path) -> None:
        path.mkdir()
        repository = fresh(path)
        (path / "make_loans.py").write_text(pasted("python"))
        (path / "loans.yaml").write_text(pasted("yaml"))
        assert repository.run("make_loans").returncode == 0
        done = repository.run("pipelines.run", *TABLE, *SMALL, *RULES, "instances.per_class=3")
        assert done.returncode == 0, done.stdout + done.stderr

    return shared(tmp_path_factory, "explained", make)


def test_the_changes_are_those_of_the_arrays_in_the_units_of_the_table(explained):
    table = explained.table()
    card = json.loads((explained.path / "artifacts/data.json").read_text())
    features = {feature["name"]: (i, feature) for i, feature in enumerate(card["features"])}
    i, income = features["income"]
    loans = pd.read_csv(explained.path / "loans.csv")
    assert loans["income"].min() == income["low"] and loans["income"].max() == income["high"]
    (file,) = (explained.path / "artifacts/counterfactuals").glob("*.npz")
    with np.load(file) as result, np.load(explained.path / "artifacts/data.npz") as arrays:
        x, instances = result["x"], arrays["x_test"][table["instance"]]
    for row, changes in enumerate(table["changes"]):
        told = re.search(r"income ([\d.]+) → ([\d.]+)", changes)
        values = [income["low"] + (one[row, i] + 0.5) * (income["high"] - income["low"]) for one in (instances, x)]
        if told:
            np.testing.assert_allclose([float(value) for value in told.groups()], values, atol=0.051)
            assert told[1] in set(loans["income"].map("{:.1f}".format))
        else:
            assert abs(values[0] - values[1]) < 0.2
    assert table["changes"].str.contains("income").any()


def test_each_of_two_counterfactuals_keeps_to_the_rules_and_the_schema(explained):
    table = explained.table()
    assert table["place"].tolist() == [1, 2] * 6 and table["found"].any()
    assert (table["diversity"].dropna() > 0).all() and (table["weighted_l1"] >= table["l1"]).all()
    (file,) = (explained.path / "artifacts/counterfactuals").glob("*.npz")
    card = json.loads((explained.path / "artifacts/data.json").read_text())
    columns = np.array([feature["column"] for feature in card["features"]])
    with np.load(file) as result, np.load(explained.path / "artifacts/data.npz") as arrays:
        x, instances = result["x"], arrays["x_test"][table["instance"]]
    assert (x[:, columns == "job"] == instances[:, columns == "job"]).all()
    assert (x[:, columns == "age"] >= instances[:, columns == "age"]).all()
    for column in ("job", "home"):
        assert ((x[:, columns == column] == 0.5).sum(axis=1) == 1).all()
    years = (x[:, columns == "age"].astype(float) + 0.5) * (100 - 18)
    np.testing.assert_allclose(years, np.rint(years), atol=1e-3)


def test_report_and_mlflow_have_the_changes_in_place_of_pictures(explained):
    report = explained.path / "artifacts/report"
    page = (report / "index.html").read_text()
    for changes in explained.table()["changes"]:
        assert all(f"<li>{change}</li>" in page for change in changes.split(", ") if change)
    count = int(explained.table()["found"].sum())
    assert f"Changed columns of {count} counterfactuals: " in page and '<h2 id="pictures">Changes</h2>' in page
    assert (report / "figures/changes_1.pdf").exists() and list((report / "pictures").iterdir()) == []
    assert "changes" in pd.read_csv(report / "tables/counterfactuals.csv")
    for run in explained.runs("cell"):
        names = {path.name for path in explained.path.glob(f"mlartifacts/**/{run.info.run_id}/artifacts/images/*")}
        assert names and all(name.startswith("changes") for name in names)
