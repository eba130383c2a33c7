import numpy as np
import pandas as pd
import pytest

from cfx import front


def table(**groups):
    parts = [pd.DataFrame({"method": name, "found": True, **columns}) for name, columns in groups.items()]
    return pd.concat(parts, ignore_index=True)


NEAR = {"l1": [10.0, 12.0], "agreement": [0.0, 0.2], "im1": [1.5, 1.7]}
PLAUSIBLE = {"l1": [30.0, 34.0], "agreement": [1.0, 1.0], "im1": [0.6, np.nan]}
FAR = {"l1": [40.0, 40.0], "agreement": [1.0, 1.0], "im1": [0.3, 0.3]}


def test_each_group_is_a_point_with_its_statistics_and_intervals():
    many = {"l1": np.arange(100.0), "agreement": np.tile([0.8, 1.0], 50), "im1": np.arange(100.0) ** 2}
    found = front.points(table(near=NEAR, plausible=PLAUSIBLE, many=many), ["method"]).set_index("method")
    assert found.loc["near", ["n", "l1", "agreement", "im1"]].tolist() == pytest.approx([2, 11, 0.1, 1.6])
    assert found.loc["plausible", ["im1", "im1_low", "im1_high"]].tolist() == [0.6, 0.6, 0.6]
    assert found.loc["many", ["l1", "im1"]].tolist() == [49.5, np.median(many["im1"])]
    # the standard error is 2.9
    assert found.loc["many", ["l1_low", "l1_high"]].tolist() == pytest.approx([49.5 - 5.7, 49.5 + 5.7], abs=1)


def test_what_is_farther_and_no_more_plausible_is_dominated():
    found = front.points(table(near=NEAR, plausible=PLAUSIBLE, far=FAR, twin=FAR), ["method"])
    assert found["is_dominated"].tolist() == [False, False, True, True]
    assert not front.points(table(far=FAR, twin=FAR), ["method"])["is_dominated"].any()


def test_the_figure_has_every_point_with_its_label_and_joins_the_front_of_each_measure():
    found = front.points(table(near=NEAR, plausible=PLAUSIBLE, far=FAR), ["method"])
    figure = front.front_figure(found, ["a", "b", "c"], "black", {"agreement": 0.99, "im1": 0.2})
    agreement, im1 = figure.axes
    assert [text.get_text() for text in agreement.texts] == ["1", "2", "3"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["1  a", "2  b", "3  c"]
    assert agreement.lines[0].get_xdata().tolist() == [11, 32]
    # more IM1 is worse: what is far is on this front
    assert im1.lines[0].get_xdata().tolist() == [11, 32, 40]
    assert [axes.get_ylabel() for axes in figure.axes] == ["mean agreement of the judges", "median IM1"]


def test_what_was_not_found_is_in_the_share_alone():
    half = {"l1": [10.0, 0.0], "agreement": [1.0, np.nan], "im1": [0.5, np.nan], "found": [True, False]}
    nothing = {"l1": [0.0], "agreement": [np.nan], "im1": [np.nan], "found": [False]}
    (point,) = front.points(table(half=half, nothing=nothing), ["method"]).to_dict("records")
    assert (point["method"], point["n"], point["share_found"], point["l1"]) == ("half", 1, 0.5, 10)


def test_a_point_without_im1_is_not_on_its_front():
    same = {"l1": [1.0], "agreement": [1.0], "im1": [np.nan]}
    found = front.points(table(same=same, far=FAR), ["method"])
    figure = front.front_figure(found, ["a", "b"], "black", {})
    assert figure.axes[1].lines[0].get_xdata().tolist() == [40]
