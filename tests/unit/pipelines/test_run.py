"""What the driver prints of a sweep."""

import pandas as pd
import pytest

from pipelines import run
from pipelines.terminal import console


def printed(capsys, swept: dict[str, list]) -> list[str]:
    """The lines of a table with a row for each value of what was swept, in a terminal of 80 columns."""
    rows = len(next(iter(swept.values())))
    frame = pd.DataFrame(
        {"target_class": "other", "instance": 9999, "original_class": 7, "cf_class": 3}
        | {"found": True, "probability": 0.99, "l1": 123.4, "l0": 784, "runtime_s": 12.3}
        | swept,
        index=range(rows),
    )
    run.show_table(frame, ["target_class", *swept])
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(console, "_width", 80)


def test_every_axis_that_varies_is_a_column_by_its_last_name(capsys):
    swept = {"training.epochs": [3, 20], "seed": [0, 1], "max_iter": [80, 400], "tol": [0.01, 0.01]}
    lines = printed(capsys, swept)
    head, *rows = [line.split() for line in lines if line.strip(" ─")]
    assert head == ["epochs", "seed", "max_iter", "instance", "target", "found", "class", "p", "L1", "L0", "runtime"]
    assert [row[:3] for row in rows] == [["3", "0", "80"], ["20", "1", "400"]]
    assert max(map(len, lines)) <= 80


def test_axes_of_one_last_name_keep_the_whole_of_it(capsys):
    lines = printed(capsys, {"seed": [0, 1], "data.seed": [0, 1], "method": ["wachter", "primal_dual"]})
    assert lines[1].split()[:3] == ["seed", "data.seed", "method"]


def test_what_has_no_room_goes_on_in_the_next_line_and_numbers_stay_whole(capsys):
    paths = ["/home/somebody/some/where/far/away/a.npz", "/home/somebody/some/where/far/away/b.npz"]
    lines = printed(capsys, {"data.path": paths, "method": ["wachter", "primal_dual"], "lam_init": [0.001, 0.01]})
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert text.count("123.40") == 2 and text.count("12.30 s") == 2
    body = [line for line in lines[lines.index(next(line for line in lines if "─" in line)) + 1 :] if line.strip()]
    assert "".join(line.split()[0] for line in body) == "".join(paths)


def test_a_row_says_from_which_class_to_which(capsys):
    lines = printed(capsys, {"found": [True, False]})
    rows = [line.split() for line in lines if line.strip(" ─")][1:]
    assert [row[3:-2] for row in rows] == [
        ["yes", "7", "→", "3", "0.990", "123.40", "784"],
        ["no", "7", "-", "-", "-"],
    ]
