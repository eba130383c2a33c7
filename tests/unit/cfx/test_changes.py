"""What a counterfactual changes in a table, as a person reads it."""

import numpy as np
import pytest

from cfx import changes
from cfx.data import Feature

FEATURES = (
    Feature("age", "integer", 20, 70, "age"),
    Feature("mean radius", "numeric", 7, 27, "mean radius"),
    Feature("job=clerk", "category", 0, 1, "job"),
    Feature("job=nurse", "category", 0, 1, "job"),
    Feature("job=teacher", "category", 0, 1, "job"),
    Feature("balance", "numeric", -2000, 90000, "balance"),
)
CLERK = [0.5, -0.5, -0.5]


def scaled(age: float, radius: float, job: list[float], balance: float) -> np.ndarray:
    return np.array([(age - 20) / 50 - 0.5, (radius - 7) / 20 - 0.5, *job, (balance + 2000) / 92000 - 0.5], np.float32)


def told(before: np.ndarray, after: np.ndarray) -> str:
    return changes.text(changes.changes(FEATURES, before, after))


def test_changed_columns_are_named_in_their_own_units_the_largest_change_first():
    instance, x = scaled(44, 17.9, CLERK, 1500), scaled(45, 12.4, [-0.5, -0.5, 0.5], 1500)
    assert told(instance, x) == "job clerk → teacher, mean radius 17.90 → 12.40, age 44 → 45"
    assert told(instance, instance) == ""
    sizes = [change.size for change in changes.changes(FEATURES, instance, x)]
    assert sizes == pytest.approx([1, -5.5 / 20, 1 / 50], abs=1e-5)


def test_a_change_that_would_be_displayed_as_none_is_left_out():
    assert told(scaled(44, 17.9, CLERK, 0), scaled(44.01, 17.91, CLERK, 40)) == ""


def test_numbers_have_the_decimals_that_their_range_needs():
    assert told(scaled(44, 17.9, CLERK, -2000), scaled(44, 17.9, CLERK, 67890.4)) == "balance -2000 → 67890"
    small = Feature("share", "numeric", 0, 0.05, "share")
    (change,) = changes.changes((small,), np.array([-0.5]), np.array([0.02]))
    assert str(change) == "share 0.0000 → 0.0260"


def test_what_is_neither_an_integer_nor_a_category_is_not_displayed_as_one():
    instance = scaled(44, 17.9, CLERK, 0)
    assert told(instance, scaled(46.4, 17.9, CLERK, 0)) == "age 44 → 46.4"
    assert told(instance, scaled(44, 17.9, [0.2, 0.1, -0.5], 0)) == "job=nurse 0.000 → 0.600, job=clerk 1.000 → 0.700"
