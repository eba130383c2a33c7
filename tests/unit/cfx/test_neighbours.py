import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfx.neighbours import nearest


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([(3,), (2, 2, 1)]))
def test_it_is_what_a_comparison_with_all_gives(seed, count, shape):
    random = np.random.default_rng(seed)
    # values on a grid make many ties, of which the first counts
    x, x_train = (random.integers(-2, 3, (n, *shape)).astype(np.float32) / 4 for n in (7, 30))
    indices, distances = nearest(x, x_train, -0.5, 0.5, count)
    every = np.abs(x.reshape(7, 1, -1).astype(float) - x_train.reshape(1, 30, -1)).sum(axis=2)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1, kind="stable")[:, :count])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :count])


def test_features_may_have_ranges_of_their_own():
    random = np.random.default_rng(0)
    low, high = np.array([0, -100, 5], np.float32), np.array([1, 100, 6], np.float32)
    x, x_train = (random.uniform(low, high, (n, 3)).astype(np.float32) for n in (20, 300))
    indices, _ = nearest(x, x_train, low, high)
    every = np.abs(x[:, None].astype(float) - x_train).sum(axis=2)
    np.testing.assert_array_equal(indices[:, 0], every.argmin(axis=1))


@pytest.mark.parametrize("count", [3, 10])
def test_no_more_are_found_than_there_are(count):
    x_train = np.array([[0.1], [0.3], [-0.2]], np.float32)
    indices, _ = nearest(np.zeros((1, 1), np.float32), x_train, -0.5, 0.5, count)
    assert indices.tolist() == [[0, 2, 1]]
