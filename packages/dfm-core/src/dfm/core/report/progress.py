"""One status line at the foot of a terminal, overwritten in place; what must stay is printed above it."""

import os
import time
from collections.abc import Callable

from dfm.api.events import Event, Progress, RunFinished, RunStarted, TaskFinished
from dfm.core.report.console import LogSink
from dfm.core.report.tally import FAILURES, Tally
from dfm.core.report.text import fit
from dfm.core.report.writer import Writer

UPDATES_PER_SECOND = 15
_ERASE = "\r\x1b[K"


class _AboveStatus(Writer):
    """Takes the status line away before anything else is written."""

    def __init__(self, writer: Writer, erase: Callable[[], None]) -> None:
        self._inner = writer
        self._erase = erase

    @property
    def is_terminal(self) -> bool:
        return self._inner.is_terminal

    def write(self, text: str) -> None:
        self._erase()
        self._inner.write(text)


class ProgressSink:
    """A status line, and the lines of a LogSink above it, without those of tasks that went well.

    Args:
        log: makes the LogSink for a writer.
        columns: tells the width of the terminal.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        log: Callable[[Writer], LogSink],
        is_verbose: bool,
        columns: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._log = log(_AboveStatus(writer, self._erase))
        self._is_verbose = is_verbose
        self._columns = columns or _terminal_columns
        self._clock = clock
        self._tally = Tally()
        self._started = clock()
        self._drawn_at = float("-inf")
        self._is_drawn = False

    def emit(self, event: Event) -> None:
        """Take in one event."""
        self._tally.take(event)
        match event:
            case RunStarted():
                self._started = self._clock()
            case RunFinished():
                self._erase()
                self._log.emit(event)
                return
            case _:
                pass
        is_quiet = isinstance(event, TaskFinished) and event.verdict not in FAILURES and not event.markers
        if is_quiet and not self._is_verbose:
            self._log.count(event)
        else:
            self._log.emit(event)
        self._draw()

    def tick(self) -> None:
        """Bring the status line up to date."""
        if self._tally.total:
            self._draw()

    def _draw(self) -> None:
        now = self._clock()
        if self._is_drawn and now - self._drawn_at < 1 / UPDATES_PER_SECOND:
            return
        self._drawn_at = now
        self._is_drawn = True
        self._writer.write(_ERASE + fit(self._status(), self._columns() - 1))

    def _status(self) -> str:
        seconds = int(self._clock() - self._started)
        tally = self._tally
        failed = f", {len(tally.failures)} failed" if tally.failures else ""
        running = [task for task, progress in tally.running.items() if progress is Progress.RUNNING]
        newest = running[-1] if running else tally.why_waiting or next(reversed(tally.running), "")
        clock = f"{seconds // 60}:{seconds % 60:02}"
        return f"[{tally.done}/{tally.total} {tally.standing}{failed} {clock}] {newest}"

    def _erase(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
            self._writer.write(_ERASE)


def _terminal_columns() -> int:
    try:
        return os.get_terminal_size().columns or 80  # one that nobody has given a size has none
    except OSError:
        return 80
