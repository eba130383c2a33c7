"""The statistics of methods on the same rows, against published values and against SciPy."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cfx import comparison

# Demsar 2006, Table 6: the AUC of four classifiers on 14 data sets. The ranks of the paper take 0.975 and 0.975 of
# `voting` for different numbers.
DEMSAR = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)


def test_ranks_friedman_and_nemenyi_are_those_of_the_published_example():
    found = comparison.ranking(-DEMSAR)
    published = {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert found.ranks.to_dict() == pytest.approx(published, abs=5e-4)
    assert list(found.ranks.index) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found.difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    # the paper has no correction for ties: three of two and one of four of 14 rows, which R's friedman.test has
    uncorrected = found.statistic * (1 - (3 * (2**3 - 2) + 4**3 - 4) / (14 * 4 * (4**2 - 1)))
    assert uncorrected == pytest.approx(9.28, abs=5e-3)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=5e-3)
    assert (found.statistic, found.p) == pytest.approx(stats.friedmanchisquare(*-DEMSAR.to_numpy().T))


def test_wilcoxon_is_that_of_the_published_example():
    # Demsar 2006, Table 2: C4.5 and C4.5+m have T = 12 over 14 data sets, so z = -2.54; two differences are 0
    found = comparison.pairs(np.exp(DEMSAR), "C4.5").loc["C4.5+m"]
    # the logarithms round, so that equal differences get different ranks
    assert found["p_value"] == pytest.approx(2 * stats.norm.cdf(-2.54), rel=0.1)


def test_a_row_that_was_not_found_ranks_last_and_is_in_no_pair():
    costs = pd.DataFrame({"near": [1.0, 1.0, 1.0], "far": [2.0, 2.0, np.nan], "half": [0.5, np.nan, np.nan]})
    found = comparison.ranking(costs)
    assert found.ranks.to_dict() == pytest.approx({"near": 4 / 3, "half": (1 + 3 + 2.5) / 3, "far": (3 + 2 + 2.5) / 3})
    paired = comparison.pairs(costs, "near")
    assert paired[["pairs", "wins", "median_ratio"]].to_numpy().tolist() == [[2, 0, 2], [1, 1, 0.5]]
    assert paired.loc["far", ["ratio_low", "ratio_high"]].tolist() == [2, 2]


def test_each_pair_has_the_median_ratio_with_its_interval_and_the_p_value_of_scipy():
    random = np.random.default_rng(0)
    near = random.uniform(10, 20, 200)
    costs = pd.DataFrame({"near": near, "far": near * random.lognormal(0.1, 0.2, 200), "same": near})
    paired = comparison.pairs(costs, "near")
    far = paired.loc["far"]
    ratios = np.sort(costs["far"] / near)
    assert far["median_ratio"] == np.median(ratios)
    # the interval of a median by its order statistics
    assert far[["ratio_low", "ratio_high"]].tolist() == pytest.approx(ratios[[85, 114]].tolist(), rel=0.02)
    assert far["p_value"] == pytest.approx(stats.wilcoxon(np.log(costs["far"]) - np.log(near)).pvalue, rel=1e-6)
    assert paired.loc["same", ["wins", "median_ratio", "p_value", "p_holm"]].tolist() == [0, 1, 1, 1]


def test_holms_correction_is_that_of_its_definition():
    # Holm 1979 by p.adjust of R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    p = comparison._holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(p, [0.03, 0.06, np.nan, 0.06, 0.02])


def test_two_methods_or_only_ties_have_ranks_but_no_test():
    for rows in ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0, 1.0], [np.nan, np.nan, np.nan]]):
        costs = pd.DataFrame(rows)
        found = comparison.ranking(costs)
        assert np.isnan([found.statistic, found.p, found.difference]).all() and found.ranks.nunique() == 1
    nothing = comparison.pairs(pd.DataFrame({"a": [1.0, np.nan], "b": [np.nan, 1.0]}), "a").loc["b"]
    assert nothing["pairs"] == 0 and np.isnan(nothing[["median_ratio", "p_value", "p_holm"]].astype(float)).all()


def test_a_bar_joins_exactly_the_methods_that_do_not_differ():
    ranks = pd.Series([1.0, 1.5, 2.2, 3.4, 3.9], index=list("abcde"))
    found = comparison.Ranking(ranks, 10, 20.0, 0.001, 1.25)
    groups = comparison.cliques(found)
    assert groups == [(0, 2), (2, 3), (3, 4)]
    joined = {pair for first, last in groups for pair in itertools.combinations(range(first, last + 1), 2)}
    near = {(i, j) for i, j in itertools.combinations(range(5), 2) if ranks.iloc[j] - ranks.iloc[i] <= 1.25}
    assert joined == near
    figure = comparison.rank_figure(found, list("vwxyz"), list("abcde"), "black")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"v  1.00", "3.90  z", "critical difference 1.25"} <= set(texts)
    bars = [line.get_xdata().tolist() for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert bars == [[1.0, 2.2], [2.2, 3.4], [3.4, 3.9]]


def test_the_settings_of_a_method_are_a_line_of_cost_and_distance():
    points = pd.DataFrame(
        {
            "method": ["fmn", "near", "fmn", "alibi"],
            "passes": [1000, 80, 100, np.nan],
            "runtime_s": [0.5, 0.01, 0.05, 3.0],
            "l1_ratio": [1.0, 1.1, 1.2, 2.0],
        }
    )
    figure = comparison.cost_figure(points, list("abcd"), "black")
    passes, seconds = figure.axes
    lines = [(line.get_xdata().tolist(), line.get_ydata().round(6).tolist()) for line in passes.lines]
    assert ([100, 1000], [20, 0]) in lines and ([80], [10]) in lines
    assert [text.get_text() for text in passes.texts] == ["2", "3", "1"]
    assert [text.get_text() for text in seconds.texts] == ["2", "3", "1", "4"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["1  a", "2  b", "3  c", "4  d"]
    figure.savefig(io.BytesIO())
