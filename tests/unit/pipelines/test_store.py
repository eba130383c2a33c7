import numpy as np
import pandas as pd
import pytest

from cfx.result import LambdaPath, Result
from pipelines.cells import store

MEASURES = pd.DataFrame({"im1": [0.5], "im2": [0.01], "agreement": [0.8]})


def result(l1: float) -> Result:
    one = np.array([l1])
    numbers = {
        key: one
        for key in ("probability", "l1", "l2", "l0", "weighted_l1", "lam", "lam_init", "learning_rate", "runtime_s")
    }
    classes = {key: np.array([1]) for key in ("cf_class", "original_class", "instance", "place", "iterations")}
    path = LambdaPath(**{key: np.zeros(0) for key in ("row", "step", "x", "lam", "probability", "cf_class", "l1")})
    x, text = np.zeros((1, 2), np.float32), np.array(["other"])
    return Result(
        method="wachter",
        x=x,
        found=np.array([True]),
        unchanged=np.array([False]),
        plausible=np.array([np.nan]),
        anchor=np.array([-1]),
        target_class=text,
        path=path,
        **numbers,
        **classes,
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_kept_cell_is_there_whole(folder):
    store.save("a", result(1.0), MEASURES, {"host": "here"})
    assert store.has("a") and not store.has("b")
    assert Result.load(store.result_path("a")).l1 == [1.0] and store.record("a") == {"host": "here"}
    row = store.table("a", {}).iloc[0]
    assert row.index[0] == "cell" and row[["cell", "l1", "im1", "agreement"]].tolist() == ["a", 1.0, 0.5, 0.8]
    assert [path.name for path in (folder / "cells").iterdir()] == ["a"]


def test_of_two_that_compute_the_same_cell_the_first_is_kept():
    store.save("a", result(1.0), MEASURES, {"host": "first"})
    store.save("a", result(2.0), MEASURES, {"host": "second"})
    assert store.record("a") == {"host": "first"}


def test_what_was_half_written_when_a_process_died_is_no_cell(folder):
    half = folder / "cells" / ".a.x1" / "a"
    half.mkdir(parents=True)
    (half / "record.json").write_text("{")
    assert not store.has("a")
    store.save("a", result(1.0), MEASURES, {})
    assert store.has("a")


def test_a_failure_is_remembered_until_there_is_a_result():
    assert store.failure("a") is None
    store.save_failure("a", {"error": "boom"})
    assert store.failure("a") == {"error": "boom"} and not store.has("a")
    store.save("a", result(1.0), MEASURES, {})
    assert store.failure("a") is None


def test_an_axis_whose_values_are_lists_is_a_column_of_text():
    store.save("a", result(1.0), MEASURES, {})
    rows = store.table("a", {"seed": 1, "model.bounds": [0, 1]})
    assert rows.columns.tolist()[:3] == ["cell", "seed", "model.bounds"]
    assert rows["model.bounds"].tolist() == ["[0, 1]"] and rows["seed"].tolist() == [1]
