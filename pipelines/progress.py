"""Follow a sweep while it is computed, by whatever and wherever: what is done, running and failed stands on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn

from pipelines import clock
from pipelines.cells import store
from pipelines.cells.plan import Cell
from pipelines.terminal import console

# Seconds between two looks at the store, and between two lines on how far it is where the output is no terminal.
_LOOK_EVERY = 0.3
_TELL_EVERY = 60


@contextmanager
def following(missing: Sequence[Cell], log: Callable[[Cell], None] = lambda cell: None) -> Iterator[None]:
    """Tell, for as long as the context lasts, what becomes of the cells: a line for each that ends.

    log: called for each cell when it has ended. What it raises is told in a line, and the sweep goes on.

    In a terminal a live line under them says how much is done, and about how long the rest takes. A log gets the same
    now and then, as a plain line.
    """
    store.forget(cell.id for cell in missing)
    is_over = threading.Event()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        thread = threading.Thread(target=_follow, args=(missing, log, bar, is_over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def _follow(missing: Sequence[Cell], log: Callable[[Cell], None], bar: Progress, is_over: threading.Event) -> None:
    rows = {cell.id: len(cell.instances) for cell in missing}
    total = sum(rows.values())
    task, timed = bar.add_task("", total=total), clock.Clock(total)
    waiting, failed, started = list(missing), 0, time.monotonic()
    last_told = started
    while waiting:
        # what comes to its end after this look is seen by the next one: so the last look comes after the end
        is_last = is_over.wait(_LOOK_EVERY)
        for cell in [cell for cell in waiting if store.has(cell.id) or store.failure(cell.id)]:
            waiting.remove(cell)
            failed += not store.has(cell.id)
            console.print(f"{cell.title}: {_outcome(cell)}", markup=False)
            _log(log, cell)
        shares, now = store.shares(), time.monotonic()
        done = total - sum(round((1 - shares.get(cell.id, 0)) * rows[cell.id]) for cell in waiting)
        cells = len(missing) - len(waiting), len(missing)
        line = clock.line(cells, (done, total), now - started, timed.left(now - started, done), failed)
        bar.update(task, description=line, completed=done)
        if not console.is_terminal and waiting and now - last_told > _TELL_EVERY:
            last_told = now
            console.print(line)
        if is_last:
            return


def _outcome(cell: Cell) -> str:
    failure = store.failure(cell.id)
    if failure is not None:
        return f"failed: {failure['error']}"
    record = store.record(cell.id)
    return f"{record['summary']}, {record['seconds']:.1f} s"


def _log(log: Callable[[Cell], None], cell: Cell) -> None:
    try:
        log(cell)
    except Exception as error:  # the end of the sweep tries again, and fails where it still cannot be done
        console.print(f"{cell.title}: could not be logged yet ({' '.join(str(error).split())})", markup=False)
