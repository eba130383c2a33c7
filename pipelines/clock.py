"""The status line of a sweep and its estimate of the remaining time.

The rows of a batch finish together, so the rate of the last seconds varies. The estimate uses the mean rate since the
first progress and is smoothed, so that the remaining time decreases by about one second per second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# There is no estimate before this much work time and this share of the total.
_MIN_SECONDS, _MIN_SHARE = 5.0, 0.02
# The half-life of the smoothing, in seconds.
_HALF_LIFE = 15.0


@dataclass
class Clock:
    """Estimates the remaining time of `total` units of work."""

    total: float
    _start: float | None = None  # the last time at which nothing was done: a job may take long to start
    _last: float = 0.0
    _end: float | None = None

    def remaining(self, elapsed: float, done: float) -> float | None:
        """The remaining seconds, or None if it is too early for an estimate.

        elapsed: seconds since the start; it never decreases. done: the units of work done by then.
        """
        if self._start is None and done > 0:
            self._start = self._last
        interval, self._last = elapsed - self._last, elapsed
        if self._start is None:
            return None
        worked = elapsed - self._start
        if done >= self.total:
            self._end = elapsed
        elif worked >= _MIN_SECONDS and done >= _MIN_SHARE * self.total:
            end = elapsed + (self.total - done) * worked / done
            previous = end if self._end is None else self._end
            self._end = end + (previous - end) * 0.5 ** (interval / _HALF_LIFE)
        return None if self._end is None else max(self._end - elapsed, 0.0)


def line(
    cells: tuple[int, int], rows: tuple[int, int], elapsed: float, remaining: float | None, failed: int = 0
) -> str:
    """The status line, such as "12/33 cells, 1 failed · 340/1000 rows · elapsed 1:20 · about 2:10 left".

    cells, rows: (done, total), including failed ones; elapsed, remaining: seconds.
    """
    parts = [f"{cells[0]}/{cells[1]} cells" + (f", {failed} failed" if failed else "")]
    parts += [f"{rows[0]}/{rows[1]} rows", f"elapsed {time(elapsed)}"]
    if remaining is not None:
        step = 5 if remaining < 60 else 10 if remaining < 600 else 60
        parts.append(f"about {time(math.ceil(remaining / step) * step)} left")
    return " · ".join(parts)


def time(seconds: float) -> str:
    """Seconds as 1:20 or 2:01:20."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"
