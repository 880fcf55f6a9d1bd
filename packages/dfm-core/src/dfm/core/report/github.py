"""Error markers as annotations of GitHub Actions, which show them beside the lines of a change."""

from dfm.api.events import Event, TaskFinished
from dfm.api.task import Severity
from dfm.core.report.text import plain
from dfm.core.report.writer import Writer


class GithubSink:
    """Writes `::error file=...,line=...::message` for the error markers of failed tasks."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def tick(self) -> None:
        """Time changes nothing here."""

    def emit(self, event: Event) -> None:
        """Take in one event."""
        if not isinstance(event, TaskFinished):
            return
        for marker in event.markers:
            if marker.severity is Severity.ERROR:
                place = "" if marker.loc is None else f" file={marker.loc.path},line={max(1, marker.loc.line)}"
                self._writer.line(f"::error{place}::{event.task}: {plain(marker.msg).replace('%', '%25')}")
