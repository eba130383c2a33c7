"""Which experiments run, and what the exit code says of them."""

import numpy as np
import pytest

from pipelines import paper, run
from pipelines.reporting import expectation
from pipelines.terminal import user_errors
from tests.unit.pipelines.test_expectation import MADE, expected


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The names of the experiments that were run; none of them is."""
    names = []
    monkeypatch.setattr(paper, "FOLDER", tmp_path / "paper")
    monkeypatch.setattr(run, "driver", user_errors)
    monkeypatch.setattr(run, "sweep", lambda asked: names.append(asked.name) or 0)
    monkeypatch.setattr(paper, "write_experiment", lambda name, command, tolerances: MADE)
    monkeypatch.setattr(expectation, "read", lambda path: expected() | {"experiments": {"cf_mnist": MADE}})
    return names


def told(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["pipelines.paper", *arguments])
    return paper.main()


def test_what_a_later_experiment_is_refused_for_is_told_before_the_first_runs(ran, tmp_path, monkeypatch, capsys):
    x, y = np.zeros((4, 28, 28), np.uint8), [0, 1, 0, 1]
    np.savez(tmp_path / "two.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(SystemExit) as end:
        told(monkeypatch, "cf_mnist", "targets_100", "data=npz", f"data.path={tmp_path}/two.npz")
    assert end.value.code == 2 and ran == []
    assert capsys.readouterr().err == "error: search.target_class: 2 is not a class of the data; choose one of 0 to 1\n"


def test_of_mnist_all_that_is_asked_for_is_known_before_it_is_read(ran, monkeypatch, capsys):
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    with pytest.raises(SystemExit):
        told(monkeypatch, "cf_mnist", "atlas", "data=mnist_5k")
    assert "9999 is outside the test split; use indices from 0 to 999" in capsys.readouterr().err and ran == []
    assert told(monkeypatch, "cf_mnist") == 0 and ran == ["cf_mnist"]


def test_an_experiment_that_nothing_is_expected_of_is_no_success(ran, monkeypatch, capsys):
    assert told(monkeypatch, "cf_mnist", "data=mnist_5k") == 0
    assert told(monkeypatch, "seeds", "data=mnist_5k") == 1
    assert "seeds: no expected results yet" in capsys.readouterr().out
    assert told(monkeypatch, "cf_mnist", "seeds", "data=mnist_5k") == 1
