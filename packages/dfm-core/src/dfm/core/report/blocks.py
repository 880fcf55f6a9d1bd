"""The lines that tell an end: of one task, of a failure, of the run. The same for every report on a terminal."""

import os
from collections import Counter
from collections.abc import Callable, Iterator

from dfm.api.events import RunFinished, TaskFinished, Verdict
from dfm.api.task import Marker, Severity
from dfm.core.report.tally import Tally
from dfm.core.report.text import cut, format_seconds, plain, shown_path, tail_lines

Paint = Callable[[str, str], str]
_WORDS = {
    Verdict.SUCCEEDED: "ok",
    Verdict.UP_TO_DATE: "up to date",
    Verdict.WOULD_RUN: "would run",
    Verdict.DISABLED: "disabled",
    Verdict.FAILED: "failed",
    Verdict.LOST: "lost",
    Verdict.REFUSED: "refused",
    Verdict.BLOCKED: "blocked",
    Verdict.NOT_RUN: "not run",
    Verdict.CANCELLED: "cancelled",
}
_SUMMARY_ORDER = (
    Verdict.FAILED,
    Verdict.LOST,
    Verdict.REFUSED,
    Verdict.BLOCKED,
    Verdict.CANCELLED,
    Verdict.NOT_RUN,
    Verdict.SUCCEEDED,
    Verdict.WOULD_RUN,
    Verdict.UP_TO_DATE,
    Verdict.DISABLED,
)
_MOST_MARKERS = 20
_GROUP_ABOVE = 10


def word(verdict: Verdict) -> str:
    """Return how a verdict is told."""
    return _WORDS[verdict]


def failure_lines(event: TaskFinished, base: str, paint: Paint) -> Iterator[str]:
    """Yield the block of a failure: cause, markers or the end of the log, the log's path, how to run it again."""
    took = f", {format_seconds(event.seconds)}" if event.seconds else ""
    head = "FAIL" if event.verdict is Verdict.FAILED else word(event.verdict).upper()
    first, *rest = (event.cause or "no cause is known").split("\n")
    yield f"{paint(head, 'red')} {event.task} ({plain(first)}{took})"
    yield from (f"  {plain(line)}" for line in rest)
    told = [marker for marker in event.markers if marker.severity is Severity.ERROR and marker.msg != event.cause]
    for marker in told[:_MOST_MARKERS]:
        yield f"  {marker_line(marker, event.rundir, base)}"
    if len(told) > _MOST_MARKERS:
        yield f"  and {len(told) - _MOST_MARKERS} more"
    if not told and event.log is not None:
        yield from (f"  | {line}" for line in tail_lines(event.log))
    if event.log is not None:
        yield f"  log: {shown_path(event.log, base)}"
    if event.rerun is not None:
        yield f"  rerun: {event.rerun}"


def marker_line(marker: Marker, rundir: str, base: str) -> str:
    """Return a marker with its place first, as compilers do."""
    text = cut(plain(marker.msg))
    if marker.loc is None:
        return f"{marker.severity}: {text}"
    path = os.path.join(rundir, marker.loc.path)
    numbers = str(marker.loc)[len(marker.loc.path) :]
    return f"{shown_path(path, base)}{numbers}: {marker.severity}: {text}"


def summary_lines(event: RunFinished, tally: Tally, paint: Paint) -> Iterator[str]:
    """Yield the end of the run: what failed once more in brief, then one line of counts."""
    if len(tally.failures) > _GROUP_ABOVE:
        causes = Counter(plain((failure.cause or "").partition("\n")[0]) for failure in tally.failures)
        for cause, count in causes.most_common():
            names = [
                failure.task for failure in tally.failures if plain((failure.cause or "").partition("\n")[0]) == cause
            ]
            yield f"{paint('FAIL', 'red')} {count} x {cause}: {', '.join(names[:4])}{', ...' if count > 4 else ''}"
    elif len(tally.failures) > 1:
        for failure in tally.failures:
            yield f"{paint('FAIL', 'red')} {failure.task} ({plain((failure.cause or '').partition(chr(10))[0])})"
    up_to_date = event.counts.get(Verdict.UP_TO_DATE, 0) + event.counts.get(Verdict.DISABLED, 0)
    if event.exit_code == 0 and up_to_date == sum(event.counts.values()):
        tasks = "the task is" if up_to_date == 1 else f"all {up_to_date} tasks are"
        yield f"nothing to do: {tasks} up to date"
        return
    parts = [f"{event.counts[verdict]} {word(verdict)}" for verdict in _SUMMARY_ORDER if event.counts.get(verdict)]
    colour = "red" if event.exit_code else "green"
    yield f"{paint(', '.join(parts) or 'nothing was run', colour)} in {format_seconds(event.seconds)}"


def painter(*, is_coloured: bool) -> Paint:
    """Return what puts colour on a word, or leaves it."""
    codes = {"red": "31", "green": "32", "yellow": "33", "dim": "2"}
    return lambda text, colour: f"\x1b[{codes[colour]}m{text}\x1b[0m" if is_coloured else text
