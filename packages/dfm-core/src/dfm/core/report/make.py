"""Which sinks a run reports to."""

import os
from collections.abc import Mapping, Sequence
from typing import TextIO

from dfm.api.events import Event, EventSink
from dfm.core.report.blocks import painter
from dfm.core.report.console import LogSink
from dfm.core.report.dry import DrySink
from dfm.core.report.github import GithubSink
from dfm.core.report.jsonout import JsonSink
from dfm.core.report.progress import ProgressSink
from dfm.core.report.text import use_colour
from dfm.core.report.writer import Writer


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        """Hand the event to each sink."""
        for sink in self._sinks:
            sink.emit(event)

    def tick(self) -> None:
        """Tell each sink that time has passed."""
        for sink in self._sinks:
            sink.tick()


def make_sinks(
    *,
    ui: str | None,
    verbosity: int,
    is_explaining: bool,
    is_dry: bool,
    is_json: bool,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
) -> Sinks:
    """Return the sinks for what was asked: for people on stdout, or on stderr where stdout is for JSON."""
    stream = stderr if is_json else stdout
    writer = Writer(stream)
    paint = painter(is_coloured=use_colour(stream, environ))
    base = os.getcwd()
    sinks: list[EventSink] = [JsonSink(Writer(stdout))] if is_json else []

    def log(target: Writer) -> LogSink:
        return LogSink(target, verbosity=verbosity, paint=paint, base=base, is_explaining=is_explaining)

    if is_dry:
        sinks.append(DrySink(writer, paint=paint, base=base, is_verbose=verbosity > 0 or is_explaining))
    elif _wants_progress(ui, writer, environ):
        sinks.append(ProgressSink(writer, log=log, is_verbose=verbosity > 0 or is_explaining))
    else:
        if ui == "progress":
            writer.line("dfm: this is no terminal, so there is no status line")
        sinks.append(log(writer))
    if environ.get("CI") == "true" and environ.get("GITHUB_ACTIONS") == "true" and not is_json:
        sinks.append(GithubSink(writer))
    return Sinks(sinks)


def _wants_progress(ui: str | None, writer: Writer, environ: Mapping[str, str]) -> bool:
    if ui is not None:
        return ui == "progress" and writer.is_terminal
    return writer.is_terminal and environ.get("TERM", "dumb") != "dumb" and not environ.get("CI")
