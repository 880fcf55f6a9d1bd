"""Lines, one per thing that a person wants to know: for logs, for CI, and for terminals that want nothing fancy."""

import time
from collections.abc import Callable

from dfm.api.events import (
    Event,
    Progress,
    RunFinished,
    RunnerNotice,
    RunnerWaits,
    RunStarted,
    TaskFinished,
    TaskMoved,
    TaskOutputText,
    TaskStarted,
    Verdict,
)
from dfm.core.report.blocks import Paint, failure_lines, marker_line, summary_lines, word
from dfm.core.report.tally import FAILURES, Tally
from dfm.core.report.text import format_seconds, plain
from dfm.core.report.writer import Writer

STATUS_SECONDS = 10.0
"""A line at most this often tells that the run is alive; CI systems take silence for death."""
_SETBACKS = (Progress.QUEUED, Progress.SUSPENDED, Progress.UNREACHABLE)
_QUIET, _NORMAL, _VERBOSE = -1, 0, 1


class LogSink:
    """Writes lines.

    Args:
        verbosity: -1 failures only, 0 normal, 1 starts and what is up to date too.
        is_explaining: whether to tell why each task runs.
        base: directory that paths are shown from.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        verbosity: int,
        paint: Paint,
        base: str,
        is_explaining: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._verbosity = verbosity
        self._paint = paint
        self._base = base
        self._is_explaining = is_explaining
        self._clock = clock
        self._tally = Tally()
        self._last = clock()

    def emit(self, event: Event) -> None:
        """Take in one event."""
        self._tally.take(event)
        match event:
            case TaskFinished():
                self._finished(event)
            case TaskStarted():
                self._started(event)
            case TaskMoved():
                self._moved(event)
            case TaskOutputText():
                self._text(event)
            case RunnerNotice(text=text):
                self._line(f"dfm: {plain(text)}")
            case RunFinished():
                self._summary(event)
            case RunStarted() | RunnerWaits():
                pass
        self._status()

    def tick(self) -> None:
        """Tell that the run is alive, where nothing was told for a while."""
        self._status()

    def count(self, event: Event) -> None:
        """Take in one event without a line of its own."""
        self._tally.take(event)

    def _started(self, event: TaskStarted) -> None:
        if self._verbosity >= _VERBOSE or self._is_explaining:
            self._line(f">> {event.task}  ({plain(event.reason)})")

    def _moved(self, event: TaskMoved) -> None:
        """Tell that a task runs, and louder that one does so no more."""
        if event.progress is Progress.RUNNING:
            where = f" on {event.host}" if event.host else ""
            if self._verbosity >= _VERBOSE:
                self._line(f"-> {event.task}  (runs{where})")
        elif event.reason and event.progress in _SETBACKS and self._verbosity > _QUIET:
            self._line(f"-- {event.task}  ({plain(event.reason)})")

    def _text(self, event: TaskOutputText) -> None:
        if self._verbosity > _QUIET:
            for line in event.text.split("\n"):
                self._line(plain(line))

    def _finished(self, event: TaskFinished) -> None:
        if event.verdict in FAILURES:
            first, *rest = failure_lines(event, self._base, self._paint)
            self._line(f"{self._tally.position} {first}")
            for line in rest:
                self._line(line)
            return
        has_run = event.verdict is Verdict.SUCCEEDED and event.exit_status is not None
        is_routine = not has_run and event.verdict is not Verdict.CANCELLED
        is_told = self._is_explaining or self._verbosity >= (_VERBOSE if is_routine else _NORMAL)
        if not event.is_visible or not is_told:
            return
        took = f"  {format_seconds(event.seconds)}" if event.seconds else ""
        cause = f"  ({plain(event.cause)})" if event.cause else ""
        self._line(f"{self._tally.position} {word(event.verdict):<4} {event.task}{took}{cause}")
        for marker in event.markers:
            self._line(f"  {marker_line(marker, event.rundir, self._base)}")

    def _summary(self, event: RunFinished) -> None:
        if self._verbosity > _QUIET or event.exit_code:
            for line in summary_lines(event, self._tally, self._paint):
                self._line(line)

    def _status(self) -> None:
        if self._verbosity > _QUIET and self._tally.running and self._clock() - self._last >= STATUS_SECONDS:
            failed = f", {len(self._tally.failures)} failed" if self._tally.failures else ""
            waits = f": {plain(self._tally.why_waiting)}" if self._tally.why_waiting else ""
            self._line(f"{self._tally.position} {self._tally.standing}{failed}{waits}")

    def _line(self, text: str) -> None:
        self._last = self._clock()
        self._writer.line(text)
