import numpy as np

from cfx.neighbourhood import Neighbourhoods


def normal(count, seed, shift=0.0):
    return (shift + np.random.default_rng(seed).normal(0, 0.05, (count, 4))).astype(np.float32)


def test_an_instance_of_the_class_is_typical_of_it_and_one_of_another_class_is_not():
    known = Neighbourhoods(np.concatenate([normal(200, 0), normal(200, 1, 0.3)]), np.repeat([0, 1], 200))
    real, other = normal(100, 2), normal(100, 3, 0.3)
    assert 0.8 < np.median(known.distance(real, 0)) < 1.3 and known.distance(other, 0).min() > 2
    assert 0.8 < np.median(known.outlier_factor(real, 0)) < 1.2 and known.outlier_factor(other, 0).min() > 1.5
    assert np.median(known.distance(other, 1)) < 1.3


def test_a_training_instance_is_at_no_distance():
    x = normal(30, 0)
    assert Neighbourhoods(x, np.zeros(30, int)).distance(x[:3], 0).max() < 1e-3


def test_images_are_taken_as_features():
    x, y = normal(60, 0), np.zeros(60, int)
    images, table = Neighbourhoods(x.reshape(-1, 2, 2, 1), y), Neighbourhoods(x, y)
    np.testing.assert_array_equal(
        images.distance(normal(5, 1).reshape(-1, 2, 2, 1), 0), table.distance(normal(5, 1), 0)
    )


def test_a_class_without_two_instances_has_no_neighbourhood():
    known = Neighbourhoods(normal(3, 0), np.array([0, 0, 1]))
    x = normal(2, 1)
    assert np.isnan(known.distance(x, 1)).all() and np.isnan(known.outlier_factor(x, 2)).all()
    assert np.isfinite(known.outlier_factor(x, 0)).all()


def test_repeated_instances_change_nothing():
    x, inputs = normal(60, 0), normal(5, 1)
    once, often = (Neighbourhoods(np.repeat(x, n, axis=0), np.zeros(60 * n, int)) for n in (1, 30))
    np.testing.assert_array_equal(often.distance(inputs, 0), once.distance(inputs, 0))
    np.testing.assert_array_equal(often.outlier_factor(inputs, 0), once.outlier_factor(inputs, 0))
    equal = Neighbourhoods(np.zeros((40, 4), np.float32), np.zeros(40, int))
    assert np.isnan(equal.distance(inputs, 0)).all()


def test_an_input_outside_the_range_of_the_data_has_its_distance_too():
    x = np.array([[-0.5, 0.5], [0.1, -0.4]], np.float32)
    known = Neighbourhoods(x, np.zeros(2, int))
    # 1.5 to the first and 1.8 to the second, which are 1.5 apart
    np.testing.assert_allclose(known.distance(np.array([[1, 0.5]], np.float32), 0), 1)
