"""The best known of a row is the nearest counterfactual of any sweep in the folder, for the same problem alone."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.cells import best_known, store
from tests.unit.pipelines.test_store import MEASURES, result

PROBLEM = {"data": "d", "model": "m", "target_class": "other", "target_proba": 1.0, "tol": 0.01, "method": "wachter"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def keep(name, l1, found=True, **identity):
    kept = replace(result(l1), found=np.array([found]))
    store.save(name, kept, MEASURES, {"identity": PROBLEM | identity})
    return store.table(name, {})


def test_it_is_the_least_of_all_methods_for_the_same_problem():
    asked = keep("asked", 9.0)
    assert best_known.add(asked)["best_known"].tolist() == [9]
    keep("nearer", 7.0, method="primal_dual")
    keep("lost", 0.5, found=False)
    for part in ("data", "model", "target_class", "target_proba", "tol", "constraints"):
        keep(f"other-{part}", 1.0, **{part: "another"})
    assert best_known.add(asked)["best_known"].tolist() == [7]


def test_there_is_none_for_what_nobody_found_or_was_not_changed():
    assert np.isnan(best_known.add(keep("lost", 3.0, found=False))["best_known"]).all()
    keep("found", 2.0)
    unchanged = keep("unchanged", 0.0).assign(unchanged=True)
    assert np.isnan(best_known.add(unchanged)["best_known"]).all()
    assert best_known.add(keep("again", 4.0))["best_known"].tolist() == [2]
