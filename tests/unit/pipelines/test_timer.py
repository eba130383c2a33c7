"""The line that says how far a sweep is: what it names, when it dares an estimate, and that this does not jump."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.progress import Timer, duration, status_line


def test_a_line_names_all_that_it_shows():
    assert (
        status_line((12, 33), (340, 1000), 80, 128.3) == "12/33 cells · 340/1000 rows · elapsed 1:20 · about 2:10 left"
    )
    assert status_line((3, 33), (7, 1000), 3, None, failed=2) == "3/33 cells, 2 failed · 7/1000 rows · elapsed 0:03"


@pytest.mark.parametrize(("seconds", "shown"), [(0.2, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7280, "2:01:20")])
def test_a_time_is_minutes_and_seconds_and_hours_where_there_are_some(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(("left", "shown"), [(3, "0:05"), (58, "1:00"), (61, "1:10"), (3590, "1:00:00"), (0, "0:00")])
def test_what_is_left_is_as_exact_as_an_estimate(left, shown):
    assert status_line((1, 2), (1, 2), 9, left).endswith(f"about {shown} left")


def test_nothing_is_estimated_before_enough_is_known():
    timer = Timer(1000)
    assert timer.remaining(60, 0) is None
    assert timer.remaining(61, 500) is None, "the rate of a second"
    assert timer.remaining(70, 500) is not None
    slow = Timer(1000)
    assert slow.remaining(0, 0) is None and slow.remaining(300, 19) is None


def test_work_at_one_rate_is_estimated_right_and_without_its_start():
    timer = Timer(100)
    # the first 30 seconds go into a start
    looks = [(float(at), max(0.0, at - 30)) for at in range(131)]
    estimates = {at: timer.remaining(at, done) for at, done in looks}
    for at in range(40, 131):
        assert estimates[at] == pytest.approx(130 - at, abs=1)


def test_between_bursts_the_time_left_goes_down_and_at_one_it_moves_a_little():
    timer = Timer(100)
    # ten rows at once, every ten seconds, looked at three times a second
    looks = [(i / 3, i // 30 * 10.0) for i in range(270)]
    lefts = [left for at, done in looks if (left := timer.remaining(at, done)) is not None]
    jumps = [abs(after - before) for before, after in itertools.pairwise(lefts)]
    assert max(jumps) < 3 and max(lefts) < 200


def test_what_is_done_has_nothing_left():
    timer = Timer(10)
    timer.remaining(0, 0)
    timer.remaining(20, 5)
    assert timer.remaining(21, 10) == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=50))
def test_no_history_gives_a_time_that_is_none(steps):
    timer, elapsed, done = Timer(100), 0.0, 0.0
    for took, more in steps:
        elapsed, done = elapsed + took, min(done + more, 100)
        left = timer.remaining(elapsed, done)
        assert left is None or 0 <= left < float("inf")
