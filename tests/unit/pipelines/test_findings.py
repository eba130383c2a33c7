"""The numbers of an experiment: of what, with which interval, and what a repetition over seeds changes."""

import numpy as np
import pandas as pd
import pytest

from pipelines.cells.measures import MEASURES
from pipelines.reporting import findings


def rows(**columns):
    """A table of counterfactuals, all found, of one cell unless the columns say otherwise."""
    n = max(len(values) for values in columns.values())
    numbers = {measure.column: np.ones(n) for measure in MEASURES}
    usual = {
        "cell": ["a"] * n,
        "found": [True] * n,
        "unchanged": [False] * n,
        "method": ["wachter"] * n,
        "target_class": ["other"] * n,
    }
    return pd.DataFrame(numbers | usual | {"instance": range(n), "cf_class": [3] * n} | columns)


def named(found):
    return {finding.name: finding for finding in found}


def test_a_median_has_an_interval_over_the_instances_that_holds_what_it_should():
    l1 = np.random.default_rng(1).exponential(10, 200)
    finding = named(findings.of_experiment(rows(l1=l1), ["target_class"]))["all: l1"]
    assert finding.value == np.median(l1) and finding.n == 200 and finding.cells == ("a",)
    low, high = np.sort(l1)[[85, 114]]  # the 95 % interval of a median by its order statistics
    assert finding.low == pytest.approx(low, rel=0.1) and finding.high == pytest.approx(high, rel=0.1)


def test_every_point_and_every_value_of_an_axis_has_its_numbers():
    table = rows(
        l1=[1.0, 2.0, 3.0, 40.0],
        target_class=["1", "2", "1", "2"],
        lam_init=[0.1, 0.1, 1.0, 1.0],
        cell=list("abcd"),
        found=[True, True, True, False],
    )
    found = named(findings.of_experiment(table, ["target_class", "lam_init"]))
    assert found["target_class=1, lam_init=1.0: l1"].value == 3
    assert found["target_class=1: l1"].value == 2 and found["target_class=1: l1"].cells == ("a", "c")
    assert found["all: validity"].value == 0.75 and found["all: l1"].value == 2
    nothing = found["target_class=2, lam_init=1.0: l1"]
    assert np.isnan(nothing.value) and nothing.n == 0


def test_a_second_method_is_compared_with_the_first_on_the_same_instances():
    table = rows(
        l1=[10.0, 20.0, 0.0, 30.0, 5.0, 30.0, 0.0, 9.0],
        method=["wachter"] * 4 + ["primal_dual"] * 4,
        instance=[0, 1, 2, 3] * 2,
        # the third is an instance that was not changed, the fourth was found by one of them alone
        unchanged=[False, False, True, False] * 2,
        found=[True, True, True, False, True, True, True, True],
        cell=list("aaaabbbb"),
    )
    found = named(findings.of_experiment(table, ["target_class", "method"]))
    assert found["all: l1_ratio"].value == 1.0 and found["all: l1_ratio"].n == 2
    assert "method=wachter: l1_ratio" not in found


def test_of_several_methods_each_is_compared_with_the_first_at_what_they_have_in_common():
    table = rows(
        l1=[10.0, 20.0, 5.0, 40.0],
        method=["wachter", "wachter", "segment", "nearest"],
        lam_init=[0.1, 1.0, np.nan, np.nan],
        instance=[0] * 4,
        cell=list("abcd"),
    )
    every = findings.of_experiment(table, ["target_class", "method", "lam_init"])
    found = named(every)
    assert len(every) == len(found)
    assert found["method=segment: l1_ratio"].value == np.median([5 / 10, 5 / 20])
    assert found["method=nearest: l1_ratio"].value == np.median([40 / 10, 40 / 20])
    assert found["method=nearest: l1_ratio"].cells == ("a", "b", "d")
    assert found["method=segment: l1"].value == 5 and found["method=wachter, lam_init=1.0: l1"].value == 20
    assert not any("nan" in name for name in found)
    # a row of a paper's table for each point, also of a method without this hyperparameter
    assert list(found["method=segment: l1"].setting) == ["method", "lam_init"]


def test_what_was_not_changed_is_in_no_number_and_each_says_how_many_that_are():
    table = rows(
        l1=[4.0, 0.0, 0.0],
        target_class=["1", "1", "2"],
        unchanged=[False, True, True],
        agreement=[0.0, 1.0, 1.0],
        cell=list("aab"),
    )
    found = named(findings.of_experiment(table, ["target_class"]))
    whole = found["all: l1"]
    assert (whole.value, whole.n, whole.searched, whole.unchanged) == (4, 1, 1, 2)
    assert found["all: quality/agreement"].value == 0
    nothing = found["target_class=2: validity"]
    assert np.isnan(nothing.value) and (nothing.searched, nothing.unchanged) == (0, 1)


def test_over_seeds_the_numbers_and_their_intervals_are_of_the_seeds():
    table = rows(
        l1=[1.0, 3.0, 2.0, 6.0, 3.0, 12.0],
        cf_class=[3, 5, 3, 5, 4, 5],
        instance=[0, 1, 0, 1, 0, 1],
        seed=[0, 0, 1, 1, 2, 2],
        cell=list("aabbcc"),
    )
    found = named(findings.of_experiment(table, ["target_class", "seed"]))
    l1 = found["all: l1"]
    # the medians of the seeds are 2, 4 and 7.5
    assert (l1.value, l1.n) == (4, 3) and 2 <= l1.low < 4 < l1.high <= 7.5
    # one of three pairs agrees on the first instance, all on the second
    assert found["all: same_class"].value == pytest.approx((1 / 3 + 1) / 2)
    assert found["all: l1_range"].value == pytest.approx((3 + 4) / 2)


def test_the_same_table_gives_the_same_intervals():
    table = rows(l1=np.random.default_rng(2).uniform(size=30))
    one, two = (findings.frame(findings.of_experiment(table, ["target_class"])) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
