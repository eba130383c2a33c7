from dataclasses import fields

import numpy as np
import pytest

from cfx import InputError, Result
from cfx.result import LambdaPath, distances


@pytest.fixture
def result():
    path = LambdaPath(
        row=np.array([0, 0]),
        step=np.array([0, 1]),
        x=np.zeros((2, 3), np.float32),
        lam=np.array([0.1, 0.01], np.float32),
        probability=np.array([0.99, 1], np.float32),
        cf_class=np.array([1, 1]),
        l1=np.array([2.0, 1.0]),
    )
    return Result(
        method="wachter",
        x=np.array([[0.5, -0.5, 0], [0, 0, 0]], np.float32),
        found=np.array([True, False]),
        unchanged=np.array([False, False]),
        plausible=np.array([1, np.nan]),
        anchor=np.array([4, -1]),
        probability=np.array([0.99, 0.7], np.float32),
        cf_class=np.array([1, 0]),
        original_class=np.array([0, 0]),
        target_class=np.array(["other", "12"]),
        instance=np.array([7, 3]),
        place=np.array([1, 1]),
        l1=np.array([1.0, 0]),
        l2=np.array([0.7, 0]),
        l0=np.array([2, 0]),
        weighted_l1=np.array([1.0, 0]),
        lam=np.array([0.1, np.nan], np.float32),
        lam_init=np.array([0.1, 0.1]),
        learning_rate=np.array([0.1, 0.1]),
        iterations=np.array([10, 20], np.int32),
        runtime_s=np.array([0.5, 0.25]),
        path=path,
    )


def test_a_saved_result_is_the_same_when_loaded(result, tmp_path):
    result.save(tmp_path / "cell.npz")
    loaded = Result.load(tmp_path / "cell.npz")
    assert loaded.method == "wachter"
    for one, other in ((result, loaded), (result.path, loaded.path)):
        for field in fields(one):
            if field.name not in ("method", "path"):
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
                assert getattr(one, field.name).dtype == getattr(other, field.name).dtype
    assert [file.name for file in tmp_path.iterdir()] == ["cell.npz"]


def test_a_file_that_is_not_a_result_is_named(result, tmp_path):
    whole = tmp_path / "cell.npz"
    result.save(whole)
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(whole.read_bytes()[:-100])
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, x=np.array([{}]))
    for path in (truncated, other, pickled, tmp_path / "absent.npz"):
        with pytest.raises(InputError, match=path.name):
            Result.load(path)


def test_the_table_has_the_documented_columns(result):
    table = result.frame()
    assert list(table.columns) == [
        "method",
        "lam_init",
        "learning_rate",
        "target_class",
        "instance",
        "place",
        "original_class",
        "cf_class",
        "probability",
        "found",
        "unchanged",
        "plausible",
        "anchor",
        "l1",
        "l2",
        "l0",
        "weighted_l1",
        "lam",
        "runtime_s",
        "iterations",
    ]
    assert table.target_class.tolist() == ["other", "12"]
    assert table.instance.tolist() == [7, 3]
    assert table.method.tolist() == ["wachter", "wachter"]


def test_distances_count_what_has_changed():
    instances = np.zeros((2, 2, 2), np.float32)
    x = np.array([[[3, -4], [0, 0.0005]], [[0, 0], [0, 0]]], np.float32)
    l1, l2, l0 = distances(x, instances)
    np.testing.assert_allclose(l1, [7.0005, 0])
    np.testing.assert_allclose(l2, [5, 0], atol=1e-6)
    assert l0.tolist() == [2, 0]


def test_rows_that_are_taken_keep_their_values_and_their_paths(result):
    swapped = result.take([1, 0])
    assert swapped.instance.tolist() == [3, 7] and swapped.found.tolist() == [False, True]
    assert swapped.path.row.tolist() == [1, 1] and swapped.path.lam.tolist() == result.path.lam.tolist()
    alone = result.take(np.array([1]))
    assert alone.target_class.tolist() == ["12"] and len(alone.path.row) == 0 and alone.path.x.shape == (0, 3)
