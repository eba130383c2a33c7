"""Pictures: what they show is exact, comparable between pictures, and never cut off, whatever the input's shape."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cfx import figures

INPUT_SHAPES = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4])),
)
WHITE = (247, 247, 247)  # of the middle of the diverging colours


@pytest.fixture
def instance() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (28, 28, 1)).astype(np.float32)


def raised_and_lowered(instance: np.ndarray) -> np.ndarray:
    changed = np.zeros_like(instance)
    changed[0, 1], changed[2, 3] = 0.5, -0.5
    return changed


def test_a_caption_names_the_classes_and_says_how_good_the_counterfactual_is() -> None:
    assert figures.caption(7, 9, 0.98999, 10.66) == "7 → 9, p=0.990, L1=10.7"
    assert figures.caption("sandal", "boot", 1.0, 0.0) == "sandal → boot, p=1.000, L1=0.0"


def test_a_caption_of_a_row_that_was_not_found_says_so_and_gives_no_figures() -> None:
    assert figures.caption(7, 7, 0.98, 0.0, found=False) == "7 → no counterfactual found"


def test_an_input_runs_from_black_to_white_over_the_feature_range() -> None:
    image = figures.input_image(np.array([[[-0.5], [0.5]]], np.float32))
    assert np.asarray(image).tolist() == [[0, 255]]
    image = figures.input_image(np.array([[[10.0], [20.0], [99.0]]]), (np.array(0), np.array(20)))
    assert np.asarray(image).tolist() == [[128, 255, 255]]


def test_an_input_of_three_channels_is_shown_in_its_colours() -> None:
    image = figures.input_image(np.array([[[1.0, 0.0, 0.2]]]), (0, 1))
    assert image.getpixel((0, 0)) == (255, 0, 51)


def test_a_table_is_a_bar_a_feature_as_high_as_its_value() -> None:
    image = np.asarray(figures.input_image(np.array([0.0, 0.5, 1.0]), (0, 1)))
    dark = (image.sum(axis=2) < 3 * 128).sum(axis=0).reshape(3, -1).max(axis=1) / len(image)
    assert dark.tolist() == [0.0, 0.5, 1.0]


def test_a_difference_is_red_where_raised_blue_where_lowered_and_white_where_nothing_changed() -> None:
    before = np.zeros((4, 4, 1), np.float32)
    image = figures.difference_image(before, raised_and_lowered(before))
    raised, lowered = image.getpixel((1, 0)), image.getpixel((3, 2))
    assert raised[0] > raised[2] + 50
    assert lowered[2] > lowered[0] + 50
    assert image.getpixel((0, 0)) == WHITE


def test_the_same_change_has_the_same_colour_whatever_else_changed() -> None:
    before = np.zeros((4, 4, 1), np.float32)
    small = before.copy()
    small[0, 0] = 0.1
    with_a_large_one = small.copy()
    with_a_large_one[3, 3] = 0.5
    alone, together = (figures.difference_image(before, x).getpixel((0, 0)) for x in (small, with_a_large_one))
    assert alone == together


def test_changes_of_channels_that_cancel_each_other_are_seen() -> None:
    before = np.zeros((1, 2, 3))
    after = before.copy()
    after[0, 0] = (0.4, -0.4, 0.0)
    image = figures.difference_image(before, after)
    assert image.getpixel((0, 0)) != WHITE
    assert image.getpixel((1, 0)) == WHITE


def test_a_picture_holds_the_three_panels_with_every_pixel_a_whole_square(instance: np.ndarray) -> None:
    changed = raised_and_lowered(instance)
    picture = np.asarray(figures.counterfactual_picture(instance, changed, "7 → 9").convert("RGB")).astype(int)
    for image in (figures.input_image(instance), figures.input_image(changed)):
        panel = np.kron(np.asarray(image), np.ones((6, 6), int))
        windows = np.lib.stride_tricks.sliding_window_view(picture[:, :, 0], panel.shape)
        corners = np.argwhere(windows[:, :, 0, 0] == panel[0, 0])
        assert any(np.array_equal(windows[top, left], panel) for top, left in corners)


def test_a_long_caption_widens_the_picture(instance: np.ndarray) -> None:
    short, long = (figures.counterfactual_picture(instance, instance, text) for text in ("7 → 9", "a long name " * 20))
    assert long.width > short.width
    right_margin = np.asarray(long)[:, -3:]
    assert (right_margin == 255).all()


@given(data=st.data(), shape=INPUT_SHAPES)
def test_inputs_of_any_shape_and_feature_range_are_drawn(data: st.DataObject, shape: tuple[int, ...]) -> None:
    x = data.draw(npst.arrays(np.float32, shape, elements=st.floats(-1, 2, width=32)))
    limits = data.draw(st.sampled_from([(-1.0, 2.0), (np.full(shape[-1], -1.0), np.full(shape[-1], 2.0))]))
    picture = figures.counterfactual_picture(x, x[::-1], "1 → 2", limits)
    assert 150 < picture.width < 1000
    assert figures.evolution_strip(x, x[None], [0.1], [1.0], [2], limits).height > 84


def test_an_evolution_has_a_tile_a_step_and_begins_a_new_line_when_one_is_full(instance: np.ndarray) -> None:
    def strip(steps: int) -> tuple[int, int]:
        of_steps = np.repeat(instance[None], steps, axis=0)
        values = np.ones(steps)
        return figures.evolution_strip(instance, of_steps, values, values, ["9"] * steps).size

    assert strip(0)[0] < strip(1)[0] < strip(2)[0]
    assert strip(2)[1] < strip(20)[1]
    assert strip(20)[0] < 1000


def test_an_evolution_refuses_steps_without_their_values(instance: np.ndarray) -> None:
    with pytest.raises(ValueError, match="zip"):
        figures.evolution_strip(instance, instance[None], [0.1, 0.01], [1.0], [9])


def test_pictures_and_charts_can_be_drawn_without_tensorflow_and_without_a_screen() -> None:
    heavy = "{'tensorflow', 'keras', 'matplotlib.pyplot'}"
    check = f"import sys, cfx.charts, cfx.figures; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
