"""Charts: every value stands where its axis says, and medians, shares and intervals are those of the table."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest

from cfx import charts
from cfx.palette import look

INK = "#123456"


def test_a_confusion_matrix_counts_the_examples_by_actual_and_predicted_class() -> None:
    axes = charts.confusion_figure([0, 0, 0, 1, 2], [0, 0, 1, 1, 0], INK).axes[0]
    counts = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "2", (0, 1): "1", (1, 1): "1", (2, 0): "1"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")


def test_a_confusion_matrix_has_the_names_of_classes_as_they_are_written() -> None:
    names = ["T-shirt/top", "from $5 to $9", "not seen"]
    figure = charts.confusion_figure([0, 1], [0, 0], INK, names)
    (axes,) = figure.axes
    figure.savefig(io.BytesIO())
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == names
        assert not any(label.get_parse_math() for label in labels)
    extents = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(extents))


def test_a_confusion_matrix_of_many_classes_has_colours_and_no_numbers_that_nobody_can_read() -> None:
    axes = charts.confusion_figure(np.arange(100), np.arange(100), INK).axes[0]
    assert not axes.texts
    assert axes.images[0].get_array().shape == (100, 100)


def test_a_history_shows_both_splits_over_the_epochs() -> None:
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "loss": [0.5, 0.2],
            "accuracy": [0.8, 0.9],
            "test_loss": [0.4, 0.3],
            "test_accuracy": [0.85, 0.88],
        }
    )
    loss, accuracy = charts.history_figure(history, INK).axes
    drawn = {
        (axes.get_ylabel(), line.get_label()): line.get_ydata().tolist()
        for axes in (loss, accuracy)
        for line in axes.lines
    }
    assert drawn == {
        ("loss", "training"): [0.5, 0.2],
        ("loss", "test"): [0.4, 0.3],
        ("accuracy", "training"): [0.8, 0.9],
        ("accuracy", "test"): [0.85, 0.88],
    }


def table(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"method": "wachter"} | columns)


def labels(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


def medians(figure: Figure) -> list[list[tuple[float, float]]]:
    """The marks of each group, from left to right."""
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in figure.axes[0].lines]


def bars(figure: Figure) -> list[tuple[float, float]]:
    """The lower and upper ends of the intervals, from left to right."""
    [collection] = [c for c in figure.axes[0].collections if hasattr(c, "get_segments")]
    return [tuple(segment[:, 1]) for segment in collection.get_segments()]


def test_names_are_ordered_by_number_and_then_as_they_came() -> None:
    assert charts.in_order(["other", "10", "2", "same", "2"]) == ["2", "10", "other", "same"]
    assert charts.in_order([3, 1]) == [1, 3]


def test_classes_stand_at_equal_distances_in_order() -> None:
    figure = charts.spread_figure(table(c=["other", "10", "2"], l1=[3.0, 2.0, 1.0]), "c", "l1", "L1", INK)
    assert labels(figure) == ["2", "10", "other"]
    assert medians(figure) == [[(0, 1), (1, 2), (2, 3)]]
    assert figure.axes[0].lines[0].get_linestyle() == "None"


def test_numbers_stand_at_their_logarithms_with_their_medians_joined() -> None:
    figure = charts.spread_figure(table(lam=[1.0, 0.001, 0.1], l1=[3.0, 1.0, 2.0]), "lam", "l1", "L1", INK)
    assert labels(figure) == ["0.001", "0.1", "1"]
    assert np.allclose(medians(figure), [[(-3, 1), (-1, 2), (0, 3)]])
    assert figure.axes[0].lines[0].get_linestyle() == "-"


def test_a_place_has_its_median_its_quartiles_and_all_of_its_points() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 50.0]
    figure = charts.spread_figure(table(c=["0"] * 5, l1=values), "c", "l1", "L1", INK)
    assert medians(figure) == [[(0, 3)]]
    assert bars(figure) == [(2, 4)]
    points = next(c for c in figure.axes[0].collections if not hasattr(c, "get_segments")).get_offsets()
    assert sorted(points[:, 1]) == values
    assert len(set(points[:, 0])) == 5 and np.abs(points[:, 0]).max() < 0.5


def test_what_has_no_value_keeps_its_place_on_the_axis() -> None:
    figure = charts.spread_figure(table(c=["0", "1", "2"], l1=[1.0, np.nan, 2.0]), "c", "l1", "L1", INK)
    assert labels(figure) == ["0", "1", "2"]
    assert [at for at, _ in medians(figure)[0]] == [0, 2]


def looks(figure: Figure) -> dict[str, tuple[str, str]]:
    """The colour and the mark of each group."""
    return {line.get_label(): (line.get_color(), line.get_marker()) for line in figure.axes[0].lines}


def test_a_method_looks_the_same_whatever_stands_beside_it() -> None:
    alone = table(c=["0", "1"], method=["wachter"] * 2, l1=[1.0, 2.0], found=[True, False])
    beside = pd.concat([alone, *(alone.assign(method=name) for name in ("a_first", "primal_dual", "zebra"))])
    drawn = looks(charts.spread_figure(beside, "c", "l1", "L1", INK))
    assert looks(charts.spread_figure(alone, "c", "l1", "L1", INK)) == {"wachter": drawn["wachter"]}
    assert looks(charts.validity_figure(beside, "c", INK)) == drawn
    assert looks(charts.spread_figure(beside, "method", "l1", "L1", INK)) == drawn
    # those that earlier reports had
    assert (drawn["wachter"][0], drawn["primal_dual"][0]) == ("#d55e00", "#1f83c6")


def test_names_that_share_a_colour_have_other_marks() -> None:
    looked = [look(f"method {i}") for i in range(1000)]
    assert len(set(looked)) == 60 and len({colour for colour, _ in looked}) == 10


def test_one_method_needs_no_legend_nor_does_an_axis_that_names_them() -> None:
    rows = table(c=["0", "1"], method=["a", "b"], l1=[1.0, 2.0])
    assert charts.spread_figure(rows, "c", "l1", "L1", INK).legends
    assert not charts.spread_figure(rows, "method", "l1", "L1", INK).legends
    assert not charts.spread_figure(table(c=["0"], l1=[1.0]), "c", "l1", "L1", INK).legends


def test_groups_stand_beside_each_other() -> None:
    rows = table(c=["0", "0", "1", "1"], method=["b", "a", "b", "a"], l1=[4.0, 1.0, 5.0, 2.0])
    figure = charts.spread_figure(rows, "c", "l1", "L1", INK)
    (a, b), lines = medians(figure), figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["a", "b"]
    assert [value for _, value in a] == [1, 2] and [value for _, value in b] == [4, 5]
    assert -0.5 < a[0][0] < 0 < b[0][0] < 0.5 < a[1][0] < 1 < b[1][0] < 1.5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_a_measure_that_spans_decades_has_a_logarithmic_axis_and_another_begins_at_zero() -> None:
    far, near = (table(c=["0", "1"], l1=values) for values in ([0.01, 10.0], [2.0, 10.0]))
    assert charts.spread_figure(far, "c", "l1", "L1", INK).axes[0].get_yscale() == "log"
    axes = charts.spread_figure(near, "c", "l1", "L1", INK).axes[0]
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0


def test_the_share_found_counts_what_was_not_found() -> None:
    rows = table(c=["0", "0", "1", "1"], found=[True, False, False, False])
    figure = charts.validity_figure(rows, "c", INK)
    assert medians(figure) == [[(0, 0.5), (1, 0)]]
    assert np.allclose(bars(figure), np.transpose(charts.wilson_interval([1, 0], [2, 2])))


@pytest.mark.parametrize(("found", "asked"), [(0, 1), (1, 1), (7, 10), (100, 100), (0, 1000)])
def test_the_interval_of_a_share_is_that_of_scipy(found: int, asked: int) -> None:
    expected = binomtest(found, asked).proportion_ci(method="wilson")
    [low], [high] = charts.wilson_interval([found], [asked])
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_a_matrix_of_classes_says_the_median_and_how_many_were_found() -> None:
    classes, targets = pd.Index([3, 7], name="original_class"), pd.Index(["0", "other"], name="target_class")
    median = pd.DataFrame([[1.5, 20.0], [np.nan, 3.0]], classes, targets)
    found, asked = (pd.DataFrame(counts, classes, targets) for counts in ([[2, 2], [0, 1]], [[2, 2], [2, 0]]))
    axes = charts.class_figure(median, found, asked, "L1", INK).axes[0]
    said = [text.get_text() for text in axes.texts]
    assert said == ["1.5", "2/2", "20.0", "2/2", "0/2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("target class", "original class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["3", "7"]


def test_matrices_that_are_compared_have_one_scale_of_colours() -> None:
    one, two = (pd.DataFrame([[value, 1.0]] * 2) for value in (2.0, 8.0))
    counts = pd.DataFrame([[1, 1]] * 2)
    scales = [
        charts.class_figure(median, counts, counts, "L1", INK, full=8.0).axes[0].images[0].get_clim()
        for median in (one, two)
    ]
    assert scales == [(0, 8), (0, 8)]


def test_a_matrix_in_which_nothing_was_found_has_the_counts_alone() -> None:
    nothing, none, asked = (pd.DataFrame([[value] * 2] * 2) for value in (np.nan, 0, 3))
    axes = charts.class_figure(nothing, none, asked, "L1", INK).axes[0]
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == ["0/3"] * 4


def test_a_mosaic_shows_each_picture_at_its_place_and_a_cross_where_there_is_none() -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#0000ff"))
    figure = charts.mosaic_figure([[red, None], [blue, red]], ["7", "3"], ["original", "0"], "class", INK)
    axes = figure.axes[0]
    pixels = np.asarray(axes.images[0].get_array())
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    middles = [[pixels[row * height + height // 2, column * width + width // 2] for column in (0, 1)] for row in (0, 1)]
    assert np.array_equal(middles, [[(255, 0, 0, 255), (0, 0, 0, 0)], [(0, 0, 255, 255), (255, 0, 0, 255)]])
    [cross] = axes.texts
    assert cross.get_position() == (1, 0)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "3"]


def test_a_chart_of_many_counterfactuals_is_a_small_file() -> None:
    random = np.random.default_rng(0)
    rows = table(c=random.integers(0, 10, 20_000).astype(str), l1=random.lognormal(size=20_000))
    file = io.BytesIO()
    charts.spread_figure(rows, "c", "l1", "L1", INK).savefig(file, format="svg", dpi=200)
    assert len(file.getvalue()) < 500_000


def test_text_and_lines_are_drawn_in_the_given_ink() -> None:
    file = io.StringIO()
    charts.spread_figure(table(c=["0", "1"], l1=[1.0, 2.0]), "c", "l1", "L1", INK).savefig(file, format="svg")
    assert INK in file.getvalue() and "#000000" not in file.getvalue()
