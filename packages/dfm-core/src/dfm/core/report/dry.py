"""What a dry run tells: each task that would run, and why."""

from dfm.api.events import Event, RunFinished, RunnerNotice, TaskFinished, TaskStarted, Verdict
from dfm.core.report.blocks import Paint, failure_lines
from dfm.core.report.tally import FAILURES
from dfm.core.report.text import plain
from dfm.core.report.writer import Writer


class DrySink:
    """Writes a line for each task that would run."""

    def __init__(self, writer: Writer, *, paint: Paint, base: str, is_verbose: bool) -> None:
        self._writer = writer
        self._paint = paint
        self._base = base
        self._is_verbose = is_verbose

    def tick(self) -> None:
        """Time changes nothing here."""

    def emit(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case TaskStarted():
                self._writer.line(f"would run  {event.task}  ({plain(event.reason)})")
            case TaskFinished() if event.verdict in FAILURES:
                for line in failure_lines(event, self._base, self._paint):
                    self._writer.line(line)
            case TaskFinished(verdict=Verdict.UP_TO_DATE) if event.is_visible and self._is_verbose:
                self._writer.line(f"up to date {event.task}")
            case RunnerNotice(text=text):
                self._writer.line(text)
            case RunFinished():
                would = event.counts.get(Verdict.WOULD_RUN, 0)
                rest = sum(event.counts.values()) - would
                self._writer.line(f"{would} would run, {rest} would not; nothing was run or written")
            case _:
                pass
