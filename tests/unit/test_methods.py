import subprocess
import sys

import numpy as np
import pytest

from cfx import InputError, PrimalDual, Wachter


@pytest.mark.parametrize("method", [Wachter, PrimalDual])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_class", "seven"),
        ("target_class", -1),
        ("target_class", True),
        ("target_class", 1.0),
        ("target_class", ["other", None]),
        ("target_proba", 0),
        ("target_proba", 1.01),
        ("tol", 0),
        ("tol", 1),
        ("tol", "small"),
        ("lam_init", 0),
        ("lam_init", float("nan")),
        ("lam_init", [0.1, -1]),
        ("learning_rate", -0.1),
        ("learning_rate", float("inf")),
        ("learning_rate", None),
        ("max_iter", 0),
        ("max_iter", 10.5),
        ("max_iter", 2**31),
        ("feature_range", (1, 0)),
        ("feature_range", (0, 0)),
        ("feature_range", (0, 1, 2)),
        ("feature_range", "wide"),
        ("feature_range", ([0, 1], [1, 1])),
        ("precision", "float16"),
    ],
)
def test_a_value_out_of_range_is_named(method, field, value):
    with pytest.raises(InputError, match=field) as caught:
        method(**{field: value})
    assert "\n" not in str(caught.value)


def test_numbers_as_text_are_classes_and_sequences_are_per_row():
    method = Wachter(target_class=["3", "other", np.int64(4)], lam_init=[0.1, 1, 2], learning_rate=np.array([1, 2, 3]))
    assert method.target_class == (3, "other", 4)
    assert method.lam_init == (0.1, 1.0, 2.0)
    assert method.learning_rate == (1.0, 2.0, 3.0)
    assert method == Wachter(target_class=(3, "other", 4), lam_init=(0.1, 1, 2), learning_rate=(1, 2, 3))


def test_naming_a_method_does_not_import_tensorflow():
    program = "import sys, cfx; cfx.Wachter(), cfx.PrimalDual(), cfx.Result, cfx.InputError; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras"} & set(loaded)
