"""How far a sweep is, in one line, and when it will be through: an estimate that moves slowly and has a name.

Work comes in bursts, for the rows of a batch end together, so the rate of the last seconds says little. The estimate is
of the end, by the mean rate since the first row was seen to be done, and what is new in it comes in little by little:
so the time left goes down by about a second a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Nothing is estimated before so many seconds of work and this share of all of it.
_ENOUGH_S, _ENOUGH = 5.0, 0.02
# Seconds in which half of a new estimate has come in.
_HALF_S = 15.0


@dataclass
class Clock:
    """The time that a piece of work takes."""

    total: float
    """How much there is to do, in any unit, above 0."""
    _begun: float | None = None  # when nothing was done yet, for the last time
    _looked: float = 0.0
    _end: float | None = None

    def left(self, elapsed: float, done: float) -> float | None:
        """The seconds left, or None as long as too little is known.

        elapsed: seconds since the start, not less than at the last call; done: how much of the total is done then.
        """
        if self._begun is None and done > 0:
            # the start of a job, which may take long, says nothing of how fast its rows are
            self._begun = self._looked
        since, self._looked = elapsed - self._looked, elapsed
        if self._begun is None:
            return None
        worked = elapsed - self._begun
        if done >= self.total:
            self._end = elapsed
        elif worked >= _ENOUGH_S and done >= _ENOUGH * self.total:
            end = elapsed + (self.total - done) * worked / done
            before = end if self._end is None else self._end
            self._end = end + (before - end) * 0.5 ** (since / _HALF_S)
        return None if self._end is None else max(self._end - elapsed, 0.0)


def line(cells: tuple[int, int], rows: tuple[int, int], elapsed: float, left: float | None, failed: int = 0) -> str:
    """Such as "12/33 cells, 1 failed · 340/1000 rows · elapsed 1:20 · about 2:10 left".

    cells: how many have ended, with those that failed, and how many there are; rows: the same of counterfactuals;
    elapsed, left: seconds, as of `Clock.left`.
    """
    parts = [
        f"{cells[0]}/{cells[1]} cells" + (f", {failed} failed" if failed else ""),
        f"{rows[0]}/{rows[1]} rows",
        f"elapsed {time(elapsed)}",
    ]
    if left is not None:
        parts.append(f"about {time(_rounded(left))} left")
    return " · ".join(parts)


def time(seconds: float) -> str:
    """Seconds as 1:20 or 2:01:20."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _rounded(left: float) -> float:
    """As exact as an estimate is: to 5 seconds up to a minute, to 10 up to ten minutes, then to a minute."""
    step = 5 if left < 60 else 10 if left < 600 else 60
    return math.ceil(left / step) * step
