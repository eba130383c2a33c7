"""Report the progress of a sweep from the cell store, independent of the launcher that computes the cells."""

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

# Seconds between two reads of the store, and between two status lines if the output is not a terminal.
_POLL_INTERVAL = 0.3
_LOG_INTERVAL = 60


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
    rows = {cell.id: len(cell.instances) for cell in missing}
    total = sum(rows.values())
    task, timer = bar.add_task("", total=total), clock.Clock(total)
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
        line = clock.line(cells, (done, total), now - started, remaining, failed)
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
