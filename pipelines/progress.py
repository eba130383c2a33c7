"""Report the progress of a sweep from the cell store, independent of the launcher that computes the cells."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TextColumn

from pipelines.cells import store
from pipelines.cells.plan import Cell
from pipelines.terminal import console

# Seconds between two reads of the store, and between two status lines if the output is not a terminal.
_POLL_INTERVAL = 0.3
_LOG_INTERVAL = 60
# There is no estimate before this much work time and this share of the total.
_MIN_SECONDS, _MIN_SHARE = 5.0, 0.02
# The half-life of the smoothing of the estimate, in seconds.
_HALF_LIFE = 15.0


@contextmanager
def show_progress(missing: Sequence[Cell], log: Callable[[Cell], None] = lambda cell: None) -> Iterator[None]:
    """Print a line for each cell that finishes or fails inside the context, and a status line with an estimate.

    log: called for each such cell. If it raises an exception, the exception is printed and the sweep continues.
    """
    store.clear(cell.id for cell in missing)
    finished = threading.Event()
    columns = TextColumn("{task.description}"), BarColumn(20)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        thread = threading.Thread(target=_poll, args=(missing, log, bar, finished), daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def _poll(missing: Sequence[Cell], log: Callable[[Cell], None], bar: Progress, finished: threading.Event) -> None:
    rows = {cell.id: len(cell.rows) for cell in missing}
    total = sum(rows.values())
    task, timer = bar.add_task("", total=total), Timer(total)
    waiting, failed, started = list(missing), 0, time.monotonic()
    last_logged = started
    while waiting:
        # the store is read once more after the context has ended
        is_last = finished.wait(_POLL_INTERVAL)
        for cell in [cell for cell in waiting if store.has(cell.id) or store.failure(cell.id)]:
            waiting.remove(cell)
            failed += not store.has(cell.id)
            console.print(f"{cell.title}: {_outcome(cell)}", markup=False)
            try:
                log(cell)
            except Exception as error:  # logged again at the end of the sweep
                reason = " ".join(str(error).split())
                console.print(f"{cell.title}: could not be logged yet ({reason})", markup=False)
        shares, now = store.cell_progress(), time.monotonic()
        done = total - sum(round((1 - shares.get(cell.id, 0)) * rows[cell.id]) for cell in waiting)
        cells, remaining = (len(missing) - len(waiting), len(missing)), timer.remaining(now - started, done)
        line = status_line(cells, (done, total), now - started, remaining, failed)
        bar.update(task, description=line, completed=done)
        if not console.is_terminal and waiting and now - last_logged > _LOG_INTERVAL:
            last_logged = now
            console.print(line)
        if is_last:
            return


def _outcome(cell: Cell) -> str:
    failure = store.failure(cell.id)
    if failure is not None:
        return f"failed: {failure['error']}"
    record = store.record(cell.id)
    return f"{record['summary']}, {record['seconds']:.1f} s"


@dataclass
class Timer:
    """Estimates the remaining time of `total` units of work.

    The rows of a batch finish together, so the rate of the last seconds varies. The estimate uses the mean rate since
    the first progress and is smoothed, so that the remaining time decreases by about one second per second.
    """

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


def status_line(
    cells: tuple[int, int], rows: tuple[int, int], elapsed: float, remaining: float | None, failed: int = 0
) -> str:
    """The status line, such as "12/33 cells, 1 failed · 340/1000 rows · elapsed 1:20 · about 2:10 left".

    cells, rows: (done, total), including failed ones; elapsed, remaining: seconds.
    """
    parts = [f"{cells[0]}/{cells[1]} cells" + (f", {failed} failed" if failed else "")]
    parts += [f"{rows[0]}/{rows[1]} rows", f"elapsed {duration(elapsed)}"]
    if remaining is not None:
        step = 5 if remaining < 60 else 10 if remaining < 600 else 60
        parts.append(f"about {duration(math.ceil(remaining / step) * step)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as 1:20 or 2:01:20."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
