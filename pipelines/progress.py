"""Follow a sweep while it is computed, by whatever and wherever: what is done, running and failed stands on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.cells import store
from pipelines.cells.plan import Cell
from pipelines.terminal import console

# Seconds between two looks at the store, and between two lines on how far it is where the output is no terminal.
_LOOK_EVERY = 0.3
_TELL_EVERY = 60


@contextmanager
def following(missing: Sequence[Cell]) -> Iterator[None]:
    """Tell, for as long as the context lasts, what becomes of the cells: a line for each that ends.

    In a terminal a live line under them says how many wait, run, are done and failed, and the time; a log gets the same
    as a plain line now and then.
    """
    # imported when there is something to tell: a command that is refused need not wait a tenth of a second for it
    from pipelines.reporting import tables

    store.forget(cell.id for cell in missing)
    titles = {cell.id: tables.title(cell) for cell in missing}
    ended = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        thread = threading.Thread(target=_follow, args=(titles, bar, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _follow(titles: Mapping[str, str], bar: Progress, ended: threading.Event) -> None:
    """titles: what a reader calls each cell, by its id."""
    task = bar.add_task("", total=len(titles))
    waiting, failed, started = list(titles), 0, time.monotonic()
    last_told = started
    while waiting:
        # what comes to its end after this look is seen by the next one: so the last look comes after the end
        is_last = ended.wait(_LOOK_EVERY)
        shares = store.shares()
        for cell in list(waiting):
            failure = store.failure(cell)
            if not store.has(cell) and failure is None:
                continue
            waiting.remove(cell)
            failed += failure is not None
            if failure is None:
                record = store.record(cell)
                said = f"{record['summary']}, {record['seconds']:.1f} s"
            else:
                said = f"failed: {failure['error']}"
            console.print(f"{titles[cell]}: {said}", markup=False)
        running = sum(cell in shares for cell in waiting)
        done = len(titles) - len(waiting) - failed
        described = f"{done} done, {failed} failed, {running} running, {len(waiting) - running} waiting"
        completed = done + failed + sum(shares.get(cell, 0) for cell in waiting)
        bar.update(task, description=described, completed=completed)
        if not console.is_terminal and waiting and time.monotonic() - last_told > _TELL_EVERY:
            last_told = time.monotonic()
            elapsed = last_told - started
            left = f", about {_clock(elapsed * (len(titles) / completed - 1))} left" if completed else ""
            console.print(f"{described}, {_clock(elapsed)} elapsed{left}")
        if is_last:
            return


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
