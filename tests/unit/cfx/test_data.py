import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfx import data
from cfx.data import Dataset
from cfx.errors import InputError


def arrays(**changes):
    rng = np.random.default_rng(0)
    made = {
        "x_train": rng.integers(0, 256, (12, 6, 5), np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": rng.integers(0, 256, (6, 6, 5), np.uint8),
        "y_test": np.arange(6) % 3,
    }
    return made | changes


def written(path: Path, **changes) -> Path:
    np.savez(path, **arrays(**changes))
    return path


def test_own_images_are_scaled_by_the_bounds_and_not_by_what_they_hold(tmp_path):
    x = np.full((12, 6, 5), 51, np.uint8)
    dataset = data.npz(written(tmp_path / "a.npz", x_train=x), (0, 255))
    assert dataset.x_train.shape == (12, 6, 5, 1)
    np.testing.assert_allclose(dataset.x_train, 51 / 255 - 0.5, rtol=1e-6)
    assert dataset.classes == 3 and dataset.input_shape == (6, 5, 1)


@given(st.integers(-1000, 1000), st.integers(1, 1000))
@settings(max_examples=50, deadline=None)
def test_scaled_inputs_lie_in_the_range_and_keep_their_order(low, width):
    x = np.linspace(low, low + width, 12 * 30).reshape(12, 30)
    dataset = data.scaled(arrays(x_train=x, x_test=x[:6]), (low, low + width))
    assert dataset.x_train.min() == -0.5 and dataset.x_train.max() == 0.5
    assert (np.diff(dataset.x_train.ravel()) >= 0).all()


def test_bounds_far_from_zero_lose_nothing(tmp_path):
    x = 1e9 + np.linspace(0, 1, 360).reshape(12, 30)
    dataset = data.scaled(arrays(x_train=x, x_test=x[:6]), (1e9, 1e9 + 1))
    np.testing.assert_allclose(dataset.x_train.ravel(), np.linspace(-0.5, 0.5, 360), atol=1e-6)


def test_a_table_needs_no_channel_axis(tmp_path):
    x = np.zeros((12, 4))
    assert data.npz(written(tmp_path / "a.npz", x_train=x, x_test=x[:6]), (0, 1)).input_shape == (4,)


def test_classes_may_have_names_which_are_no_part_of_the_arrays(tmp_path):
    names = np.array(["T-shirt", "Stiefel", "靴"])
    named = data.npz(written(tmp_path / "named.npz", class_names=names), (0, 255))
    assert named.class_names == ("T-shirt", "Stiefel", "靴")
    assert named.sha256() == data.npz(written(tmp_path / "plain.npz"), (0, 255)).sha256()
    assert data.class_names(tmp_path / "plain.npz") == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a", "b"], "2 names for 3 classes"),
        (["a", "b", "a"], "'a' twice"),
        (["a", "", "b"], "holds ''"),
        (["a", "b\n", "c"], r"holds 'b\n'"),
        (["a", "b", " c"], "holds ' c'"),
        (["a", "b", "c" * 41], "1 to 40 printable"),
        (["a", "other", "b"], "'other', which as a target"),
        (["2", "1", "0"], "'2', which as a target means another class"),
        ([b"a", b"b", b"c"], "need text"),
        ([0, 1, 2], "need text"),
        ([["a"], ["b"], ["c"]], "need text"),
        ([None, "a", "b"], "without pickle"),
    ],
)
def test_names_that_cannot_be_shown_or_told_apart_are_refused_in_one_line(tmp_path, names, told):
    path = written(tmp_path / "a.npz", class_names=np.array(names))
    with pytest.raises(InputError) as raised:
        data.npz(path, (0, 255))
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_inputs_that_fill_hardly_anything_of_their_bounds_have_the_bounds_of_others(tmp_path):
    x = np.random.default_rng(0).random((12, 6, 5))
    path = written(tmp_path / "a.npz", x_train=x, x_test=x[:6])
    with pytest.raises(InputError, match=r"less than a hundredth of bounds=.*give .*bounds=\[0"):
        data.npz(path, (0, 255))
    assert data.npz(path, (0, 1)).x_train.max() > 0.4


def test_what_is_saved_is_loaded(tmp_path):
    dataset = data.scaled(arrays(), (0, 255))
    dataset.save(tmp_path / "data.npz")
    assert Dataset.load(tmp_path / "data.npz").sha256() == dataset.sha256()
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"x_train": np.zeros((12, 6, 5), "complex64")}, "x_train has dtype complex64"),
        ({"x_train": np.full((12, 6, 5), np.nan)}, "x_train holds NaN"),
        ({"x_train": np.full((12, 6, 5), 300)}, "outside bounds="),
        ({"x_train": np.zeros((12,))}, "x_train has shape (12,)"),
        ({"x_train": np.zeros((0, 6, 5))}, "x_train has shape (0, 6, 5)"),
        ({"x_test": np.zeros((6, 5, 5))}, "different shapes"),
        ({"y_train": np.zeros(11, int)}, "need 12 integers"),
        ({"y_train": np.zeros(12)}, "need 12 integers"),
        ({"y_train": np.arange(12) % 3 - 1}, "negative label"),
        ({"y_train": np.arange(12) % 2 * 2}, "class 1 has no example"),
        ({"y_train": np.zeros(12, int)}, "only one class"),
        ({"y_test": np.full(6, 7)}, "y_test holds class 7"),
        ({"y_train": np.full(12, 2**64 - 1, np.uint64)}, "y_train holds the label 18446744073709551615"),
        ({"y_train": np.arange(12) + 10**9}, "class 0 has no example"),
        ({"y_test": np.array([None] * 6)}, "without pickle"),
    ],
)
def test_data_that_does_not_fit_is_named_in_one_line(tmp_path, changes, told):
    path = written(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError) as raised:
        data.npz(path, (0, 255))
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_are_no_data_set(tmp_path):
    whole = written(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npz.npy", np.zeros(3))
    np.savez(tmp_path / "less.npz", x_train=np.zeros(3))
    damaged = bytearray(whole)
    damaged[200] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    for name in ("cut.npz", "text.npz", "empty.npz", "single.npz.npy", "less.npz", "damaged.npz", "absent.npz"):
        with pytest.raises(InputError, match=name):
            data.npz(tmp_path / name, (0, 255))
    with pytest.raises(InputError):
        data.npz(tmp_path, (0, 255))


def test_nothing_is_unpickled(tmp_path):
    class Boom:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    content = io.BytesIO()
    np.save(content, np.array([Boom()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in data.ARRAYS:
            archive.writestr(f"{name}.npy", content.getvalue())
    with pytest.raises(InputError, match="pickle"):
        data.npz(tmp_path / "a.npz", (0, 255))
    assert not (tmp_path / "ran").exists()
