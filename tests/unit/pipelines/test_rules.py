"""The section `constraints` becomes arguments of `cfx.Constraints`, by the names and in the units of a table."""

import numpy as np
import pytest

from cfx import InputError
from pipelines.config import rules
from pipelines.config.sections import Constraints
from tests.unit.pipelines.made import NO_RULES


def feature(name, kind="numeric", low=0.0, high=1.0, column=None):
    return {"name": name, "kind": kind, "low": low, "high": high, "column": column or name}


CARD = {
    "input_shape": [5],
    "features": [
        feature("income", low=0, high=100),
        feature("age", "integer", 20, 70),
        *(feature(f"job={job}", "category", column="job") for job in ("clerk", "nurse", "teacher")),
    ],
}
IMAGES = {"input_shape": [2, 2, 1], "features": None}


def section(**changes):
    return Constraints.model_validate(NO_RULES | changes)


def test_names_become_indices_and_values_those_of_the_scaled_inputs():
    found = rules.arguments(
        section(increase=["age"], ranges={"income": [20, 80]}, most_change={"age": 5, 0: 10}, immutable=["job"]), CARD
    )
    assert found["increase"] == [1] and found["immutable"] == [2, 3, 4]
    assert found["ranges"]["0"] == pytest.approx([-0.3, 0.3])
    assert found["most_change"] == pytest.approx({"1": 0.1, "0": 0.1})


def test_integers_and_categories_of_a_table_need_no_rule():
    assert rules.arguments(section(), CARD) == {"steps": {"1": 0.02}, "groups": [[2, 3, 4]]}


def test_images_have_rules_by_index_in_the_units_of_the_inputs_and_none_by_default():
    assert rules.arguments(section(), IMAGES) == {}
    assert rules.arguments(section(ranges={3: [-0.5, 0]}), IMAGES) == {"ranges": {"3": [-0.5, 0.0]}}


def test_a_mask_is_read_and_belongs_to_the_identity_by_its_digest(tmp_path):
    path = tmp_path / "mask.npy"
    np.save(path, np.array([[True, False], [False, False]])[..., None])
    found = rules.arguments(rules.with_digest(section(mask=path)), IMAGES)
    assert rules.constraints(found).mask.sum() == 1
    with pytest.raises(InputError, match=r"but constraints\.mask_sha256 is 00"):
        rules.with_digest(section(mask=path, mask_sha256="00"))
    np.save(path, np.ones((2, 2, 1), bool))
    with pytest.raises(InputError, match="changed during the run"):
        rules.constraints(found)
    path.write_bytes(b"no array")
    with pytest.raises(InputError, match=r"make the file with numpy\.save"):
        rules.constraints(rules.arguments(rules.with_digest(section(mask=path)), IMAGES))


def test_an_instance_that_breaks_a_rule_is_named_with_the_feature():
    x = np.array([[0, -0.5, 0.5, -0.5, -0.5], [0.4, -0.5, -0.5, 0.5, -0.5]], np.float32)
    found = rules.arguments(section(ranges={"income": [0, 60]}), CARD)
    with pytest.raises(InputError, match=r"^constraints: feature income of instance 9 is outside its range"):
        rules.check(found, CARD, x, [4, 9])


@pytest.mark.parametrize("name", ["wage", "job=pilot", 7])
def test_a_feature_that_the_data_do_not_have_is_named(name):
    with pytest.raises(InputError, match=f"constraints.increase: {name!r} is not a feature of the data"):
        rules.arguments(section(increase=[name]), CARD)
