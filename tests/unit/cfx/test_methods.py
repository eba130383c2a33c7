import subprocess
import sys

import numpy as np
import pytest

import cfx
from cfx import ArrayMethod, InputError, PrimalDual, StepMethod, Wachter, methods


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
        ("max_iter", 100_001),
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


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_lam_steps", 0), ("max_lam_steps", 1_001), ("early_stop", 0), ("early_stop", 100_001), ("early_stop", True)],
)
def test_a_value_out_of_range_of_wachter_is_named(field, value):
    with pytest.raises(InputError, match=field):
        Wachter(**{field: value})


def test_every_module_of_methods_is_found_by_its_name():
    found = {name: methods.get(name) for name in methods.names()}
    near, plausible = ("growing_spheres", "primal_dual", "wachter"), ("latent", "plausible", "prototype")
    assert list(found) == sorted([*near, *plausible, "nearest_neighbour", "segment"])
    assert found["wachter"] is Wachter and found["primal_dual"] is PrimalDual
    for name, method in found.items():
        assert issubclass(method, StepMethod | ArrayMethod)
        assert method.name == name and getattr(cfx, method.__name__) is method
        assert method() == method()


def test_an_unknown_method_is_told_the_known_ones():
    with pytest.raises(InputError, match=r"no method 'watcher'.*nearest_neighbour, plausible, primal_dual"):
        methods.get("watcher")
    with pytest.raises(AttributeError, match="Watcher"):
        cfx.Watcher  # noqa: B018


def test_a_method_without_its_functions_cannot_be_made():
    class Half(ArrayMethod):
        pass

    for incomplete in (Half, ArrayMethod, StepMethod):
        with pytest.raises(TypeError, match="abstract"):
            incomplete()


def test_naming_a_method_imports_neither_tensorflow_nor_scipy():
    checks = "; ".join(f"methods.get({name!r})()" for name in methods.names())
    program = f"import sys, cfx; from cfx import methods; {checks}; cfx.Result, cfx.InputError; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "scipy"} & set(loaded)
