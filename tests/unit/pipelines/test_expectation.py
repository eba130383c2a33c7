"""What differs from what is expected: what counts where, and what is named as the cause."""

import copy
import json

import pytest

from cfx.errors import InputError
from pipelines.reporting import expectation

MADE = {
    "made_with": expectation.made_with(),
    "parameters": {"seed": "0"},
    "made_from": {"data": "d", "model": "m", "judges": "j"},
    "counterfactuals": {"target_class=1": "abc"},
    "findings": {"all: l1": 10.0, "all: runtime_s": 1.0},
    "sizes": {"all: l1": 100, "all: runtime_s": 100},
    "unchanged": 0,
}
TOLERANCES = {"l1": {"relative": 0.2}}


def expected(**changes):
    return {
        "tolerances": TOLERANCES,
        "experiments": {"one": copy.deepcopy(MADE) | {"made_with": MADE["made_with"] | changes}},
    }


def counting(made, of=None):
    compared = expectation.compare({"one": made}, of or expected())
    return compared[compared["counts"]]["what"].tolist()


def changed(part, **values):
    return MADE | {part: MADE[part] | values}


def test_the_same_is_as_expected_and_time_does_not_count(capsys):
    made = changed("findings", **{"all: runtime_s": 3.0})
    assert counting(made) == []
    assert expectation.report(expectation.compare({"one": made}, expected()), {"one": made}, expected())
    assert "identical bit for bit" in capsys.readouterr().out


def test_here_every_bit_counts_and_elsewhere_the_tolerance():
    made = changed("counterfactuals", **{"target_class=1": "abd"}) | {"findings": {"all: l1": 11.0}}
    assert counting(made) == ["counterfactuals of target_class=1", "all: l1"]
    elsewhere = expected(machine={"processor": "another"})
    assert counting(made, elsewhere) == []
    assert counting(changed("findings", **{"all: l1": 13.0}), elsewhere) == ["all: l1"]
    assert counting(changed("findings", **{"all: l1": None}), elsewhere) == ["all: l1"]


@pytest.mark.parametrize(("size", "room"), [(1, 20.0), (25, 4.0), (100, 2.0), (10_000, 2.0)])
def test_elsewhere_a_number_over_few_counterfactuals_has_more_room(size, room):
    elsewhere = expected(versions={})
    elsewhere["experiments"]["one"]["sizes"]["all: l1"] = size
    for sign in (-1, 1):
        assert counting(changed("findings", **{"all: l1": 10 + sign * room * 0.99}), elsewhere) == []
        assert counting(changed("findings", **{"all: l1": 10 + sign * room * 1.01}), elsewhere) == ["all: l1"]


def test_what_it_came_from_is_told_where_it_differs_whether_or_not_a_number_does(capsys):
    made = changed("parameters", seed="1")
    expectation.report(expectation.compare({"one": made}, expected()), {"one": made}, expected())
    assert "identical bit for bit" in (said := capsys.readouterr().out)
    assert "\ndiffers: one: seed: 0 became 1\n" in said


def test_rows_that_are_in_no_number_are_told(capsys):
    made = MADE | {"unchanged": 93}
    expectation.report(expectation.compare({"one": made}, expected()), {"one": made}, expected())
    assert "93 rows were left out: their instance already is in the target class\n" in capsys.readouterr().out


def test_a_cell_that_is_gone_or_new_counts_everywhere():
    elsewhere = expected(versions={})
    assert counting(MADE | {"counterfactuals": {}}, elsewhere) == ["counterfactuals of target_class=1"]
    assert counting(changed("counterfactuals", new="x"), elsewhere) == ["counterfactuals of new"]


@pytest.mark.parametrize(
    ("part", "key", "line"),
    [
        ("machine", "cores", "machine: cores: 1000 became"),
        ("versions", "numpy", "versions: numpy: 1000 became"),
        ("code", "cfx/wachter.py", "code: cfx/wachter.py: 1000 became"),
    ],
)
def test_what_experiments_were_made_with_is_named_once_where_it_differs(part, key, line):
    of = expected(**{part: MADE["made_with"][part] | {key: 1000}})
    of["experiments"]["two"] = of["experiments"]["one"]
    (named,) = expectation.causes({"one": MADE, "two": MADE}, of)
    assert named.startswith(line)


def test_a_parameter_and_the_data_are_named_where_they_differ():
    made = changed("parameters", seed="1") | {"made_from": MADE["made_from"] | {"data": "e"}}
    named = list(expectation.causes({"one": made}, expected()))
    assert named == ["one: seed: 0 became 1", "one: data: d became e"]


def test_accepting_keeps_the_tolerances_and_the_other_experiments(tmp_path):
    path = tmp_path / "expected.json"
    expectation.accept(path, expected(machine={"processor": "another"}), {"two": MADE})
    kept = expectation.read(path)
    assert kept["tolerances"] == TOLERANCES and list(kept["experiments"]) == ["one", "two"]
    # each says what it was made with, so only the new one is compared bit for bit
    one, two = (changed("counterfactuals", **{"target_class=1": "abd"}) for _ in range(2))
    compared = expectation.compare({"one": one, "two": two}, kept)
    assert compared[compared["counts"]]["experiment"].tolist() == ["two"]


INCOMPLETE = '{"tolerances": {}, "experiments": {"one": {}}}'


@pytest.mark.parametrize("content", ["[]", "{}", "not JSON", INCOMPLETE, INCOMPLETE.replace("{}}", "null}")])
def test_a_file_that_expects_nothing_is_refused(tmp_path, content):
    (tmp_path / "expected.json").write_text(content)
    with pytest.raises(InputError, match="restore it from the repository"):
        expectation.read(tmp_path / "expected.json")


def test_a_digest_is_told_as_far_as_it_tells_one_from_another(capsys):
    made = changed("counterfactuals", **{"target_class=1": "0123456789abcdef" + "0" * 48})
    expectation.report(expectation.compare({"one": made}, expected()), {"one": made}, expected())
    told = "  counterfactuals of target_class=1: expected abc, got 0123456789abcdef\n"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("tolerances", {"l1": {"relative": "a"}}),
        ("tolerances", {"l1": {"share": 0.1}}),
        ("experiments", {"one": MADE | {"findings": {"all: l1": "ten"}}}),
        ("experiments", {"one": MADE | {"sizes": {"all: l1": 0.5}}}),
        ("experiments", {"one": MADE | {"sizes": {"all: l1": 0}}}),
    ],
)
def test_a_value_that_cannot_be_compared_is_refused_before_anything_runs(tmp_path, part, value):
    (tmp_path / "expected.json").write_text(json.dumps(expected() | {part: value}))
    with pytest.raises(InputError, match=rf"expected\.json: {part}\..* restore it from the repository"):
        expectation.read(tmp_path / "expected.json")
