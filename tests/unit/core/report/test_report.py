"""What a person sees of a run, line by line."""

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

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
from dfm.api.task import Marker, MarkerLocation, Severity
from dfm.core.report.blocks import painter
from dfm.core.report.console import LogSink
from dfm.core.report.dry import DrySink
from dfm.core.report.github import GithubSink
from dfm.core.report.jsonout import JsonSink
from dfm.core.report.make import make_sinks
from dfm.core.report.progress import ProgressSink
from dfm.core.report.text import cut, fit, format_seconds, plain, tail_lines, use_colour, width_of
from dfm.core.report.writer import Writer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def started(nodes: int = 2) -> RunStarted:
    return RunStarted(run_id="r", tasks=["p.a"], nodes=nodes, runner="local", rundir="/w/rundir", at=NOON)


def begins(task: str, reason: str = "it has never run") -> TaskStarted:
    return TaskStarted(task=task, rundir="/w/rundir", reason=reason, at=NOON)


def ends(task: str, verdict: Verdict, **more: object) -> TaskFinished:
    return TaskFinished(task=task, verdict=verdict, **more)  # type: ignore[arg-type]


def finished(exit_code: int, **counts: int) -> RunFinished:
    named = {Verdict(name.replace("_", "-")): count for name, count in counts.items()}
    return RunFinished(run_id="r", exit_code=exit_code, seconds=12.34, counts=named, at=NOON)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def logged(events: Iterable[Event], verbosity: int = 0, *, is_explaining: bool = False) -> list[str]:
    stream = io.StringIO()
    sink = LogSink(
        Writer(stream), verbosity=verbosity, paint=painter(is_coloured=False), base="/w", is_explaining=is_explaining
    )
    for event in events:
        sink.emit(event)
    return stream.getvalue().splitlines()


def test_ends_are_lines_with_their_place_in_the_run() -> None:
    assert logged(
        [
            started(),
            begins("p.a"),
            ends("p.a", Verdict.SUCCEEDED, seconds=1.5, exit_status=0),
            ends("p.b", Verdict.UP_TO_DATE),
            finished(0, succeeded=1, up_to_date=1),
        ]
    ) == [
        "[1/2] ok   p.a  1.50 s",
        "1 ok, 1 up to date in 12.3 s",
    ]


def test_what_runs_nothing_itself_has_a_line_only_where_more_is_asked_for() -> None:
    collected = ends("p.c", Verdict.SUCCEEDED)
    assert logged([started(), collected]) == []
    assert logged([started(), collected], verbosity=1) == ["[1/2] ok   p.c"]


def test_verbose_tells_starts_with_reasons_and_what_is_up_to_date() -> None:
    assert logged(
        [started(), begins("p.a", "param x: 1 -> 2"), ends("p.a", Verdict.SUCCEEDED), ends("p.b", Verdict.UP_TO_DATE)],
        verbosity=1,
    ) == [
        ">> p.a  (param x: 1 -> 2)",
        "[1/2] ok   p.a",
        "[2/2] up to date p.b",
    ]


def test_a_failure_is_told_with_cause_log_tail_path_and_rerun(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n\x1b[31mtwo\x1b[0m\n", encoding="utf-8")
    assert logged(
        [
            started(),
            ends("p.a", Verdict.FAILED, cause="exit status 2", seconds=41.2, log=str(log), rerun="dfm run p.a"),
            ends("p.b", Verdict.BLOCKED, cause="needs p.a"),
            finished(1, failed=1, blocked=1),
        ]
    ) == [
        "[1/2] FAIL p.a (exit status 2, 41.2 s)",
        "  | one",
        "  | two",
        f"  log: {log}",
        "  rerun: dfm run p.a",
        "1 failed, 1 blocked in 12.3 s",
    ]


def test_error_markers_with_their_places_stand_for_the_log() -> None:
    marker = Marker(Severity.ERROR, "bad \x07width", MarkerLocation("rtl/a.v", 7, 3))
    lines = logged(
        [started(), ends("p.a", Verdict.FAILED, cause="exit status 1", rundir="/w/rundir/p.a", markers=[marker])]
    )
    assert lines[1] == "  rundir/p.a/rtl/a.v:7:3: error: bad width"


def moved(task: str, progress: Progress, reason: str = "", host: str = "") -> TaskMoved:
    return TaskMoved(task=task, progress=progress, reason=reason, host=host)


def test_a_task_that_waits_for_a_worker_is_not_told_as_running() -> None:
    stream, clock = io.StringIO(), Clock()
    sink = LogSink(Writer(stream), verbosity=0, paint=painter(is_coloured=False), base="/w", clock=clock)
    beginning: list[Event] = [started(3), begins("p.a"), begins("p.b"), begins("p.c")]
    for event in [*beginning, RunnerWaits(text="a worker job is pending")]:
        sink.emit(event)
    for task in ("p.a", "p.b", "p.c"):
        sink.emit(moved(task, Progress.QUEUED))
    clock.now = 11.0
    sink.tick()
    sink.emit(moved("p.a", Progress.RUNNING, host="h"))
    sink.emit(moved("p.b", Progress.SUSPENDED))
    clock.now = 22.0
    sink.tick()
    sink.emit(moved("p.c", Progress.RUNNING, host="h"))
    clock.now = 33.0
    sink.tick()
    assert stream.getvalue().splitlines() == [
        "[0/3] 0 running, 3 waiting: a worker job is pending",
        "[0/3] 1 running, 1 waiting, 1 suspended: a worker job is pending",
        "[0/3] 2 running, 1 suspended",
    ]


def test_setbacks_are_told_and_places_where_that_is_wanted() -> None:
    events: list[Event] = [
        begins("p.a"),
        moved("p.a", Progress.QUEUED),
        moved("p.a", Progress.RUNNING, "runs on worker s-1 on h1", "h1"),
        moved("p.a", Progress.QUEUED, "attempt 1 was lost: its link broke", "h1"),
    ]
    setback = "-- p.a  (attempt 1 was lost: its link broke)"
    assert logged(events, verbosity=-1) == []
    assert logged(events) == [setback]
    assert logged(events, verbosity=1) == [">> p.a  (it has never run)", "-> p.a  (runs on h1)", setback]


def test_messages_and_notices_are_told_whole() -> None:
    assert logged([TaskOutputText(task="p.m", text="p.m: a\nb"), RunnerNotice(text="16 workers pending")]) == [
        "p.m: a",
        "b",
        "dfm: 16 workers pending",
    ]


def test_quiet_tells_failures_only() -> None:
    events: list[Event] = [
        started(),
        TaskOutputText(task="p.m", text="hi"),
        ends("p.a", Verdict.SUCCEEDED),
        finished(0, succeeded=1),
    ]
    assert logged(events, verbosity=-1) == []


def test_nothing_to_do_says_so() -> None:
    assert logged([started(), finished(0, up_to_date=340)]) == ["nothing to do: all 340 tasks are up to date"]
    assert logged([started(), finished(0, up_to_date=1)]) == ["nothing to do: the task is up to date"]


def test_many_failures_are_grouped_by_cause() -> None:
    events: list[Event] = [started(12)]
    events += [ends(f"p.t{n}", Verdict.FAILED, cause="exit status 1" if n else "exit status 9") for n in range(12)]
    assert logged([*events, finished(1, failed=12)])[-3:] == [
        "FAIL 11 x exit status 1: p.t1, p.t2, p.t3, p.t4, ...",
        "FAIL 1 x exit status 9: p.t0",
        "12 failed in 12.3 s",
    ]


def test_a_long_silence_is_broken_by_a_status_line() -> None:
    clock, stream = Clock(), io.StringIO()
    sink = LogSink(Writer(stream), verbosity=0, paint=painter(is_coloured=False), base="/", clock=clock)
    for event in (started(), begins("p.a")):
        sink.emit(event)
    clock.now = 9.0
    sink.tick()
    assert stream.getvalue() == ""
    clock.now = 10.5
    sink.tick()
    assert stream.getvalue() == "[0/2] 1 running\n"


def test_the_status_line_is_overwritten_and_gone_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()

    def log(writer: Writer) -> LogSink:
        return LogSink(writer, verbosity=0, paint=painter(is_coloured=False), base="/")

    sink = ProgressSink(Writer(stream), log=log, is_verbose=False, columns=lambda: 30, clock=clock)
    sink.emit(started())
    clock.now = 61.0
    sink.emit(begins("p.a_task_with_a_long_name"))
    clock.now = 62.0
    sink.emit(TaskOutputText(task="p.m", text="hello"))
    clock.now = 63.0
    sink.emit(finished(0, succeeded=1))
    assert stream.getvalue() == (
        "\r\x1b[K[0/2 0 running 0:00] "
        "\r\x1b[K[0/2 1 running 1:01] p.a_tas…"
        "\r\x1b[Khello\n\r\x1b[K[0/2 1 running 1:02] p.a_tas…"
        "\r\x1b[K1 ok in 12.3 s\n"
    )


class Closed(io.StringIO):
    def write(self, text: str) -> int:  # noqa: ARG002
        raise BrokenPipeError


def test_a_reader_that_leaves_does_not_stop_anything() -> None:
    writer = Writer(Closed())
    writer.line("one")
    writer.line("two")


def test_characters_that_the_stream_cannot_say_are_replaced() -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding="ascii")
    Writer(stream).line("µm…")
    assert content.getvalue() == b"?m?\n"


def test_json_is_one_object_with_everything() -> None:
    stream = io.StringIO()
    sink = JsonSink(Writer(stream))
    for event in (
        started(),
        begins("p.a"),
        ends("p.a", Verdict.FAILED, cause="exit status 1", exit_status=1, seconds=0.5),
        ends("p.c.in", Verdict.UP_TO_DATE, is_visible=False),
        finished(1, failed=1),
    ):
        sink.emit(event)
    content = json.loads(stream.getvalue())
    assert (content["schema"], content["exit_code"], content["counts"]) == ("dfm-run/1", 1, {"failed": 1})
    assert content["started_at"] == "2026-01-01T12:00:00.000Z"
    assert [(task["task"], task["verdict"], task["reason"], task["seconds"]) for task in content["tasks"]] == [
        ("p.a", "failed", "it has never run", 0.5)
    ]


def test_a_dry_run_is_told_as_what_would_be() -> None:
    stream = io.StringIO()
    sink = DrySink(Writer(stream), paint=painter(is_coloured=False), base="/", is_verbose=False)
    for event in (
        started(),
        begins("p.a", "param x is new"),
        ends("p.a", Verdict.WOULD_RUN),
        finished(0, would_run=1, up_to_date=1),
    ):
        sink.emit(event)
    assert (
        stream.getvalue() == "would run  p.a  (param x is new)\n1 would run, 1 would not; nothing was run or written\n"
    )


def test_error_markers_become_annotations() -> None:
    stream = io.StringIO()
    GithubSink(Writer(stream)).emit(
        ends("p.a", Verdict.FAILED, markers=[Marker(Severity.ERROR, "100% bad", MarkerLocation("a.v", 7))])
    )
    assert stream.getvalue() == "::error file=a.v,line=7::p.a: 100%25 bad\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("ui", "stream", "environ", "has_status"),
    [
        (None, Terminal(), {"TERM": "xterm"}, True),
        (None, Terminal(), {"TERM": "dumb"}, False),
        (None, Terminal(), {"TERM": "xterm", "CI": "true"}, False),
        (None, io.StringIO(), {"TERM": "xterm"}, False),
        ("log", Terminal(), {"TERM": "xterm"}, False),
        ("progress", Terminal(), {}, True),
        ("progress", io.StringIO(), {}, False),
    ],
)
def test_a_status_line_is_for_terminals(
    ui: str | None, stream: io.StringIO, environ: dict[str, str], has_status: bool
) -> None:
    sinks = make_sinks(
        ui=ui,
        verbosity=0,
        is_explaining=False,
        is_dry=False,
        is_json=False,
        stdout=stream,
        stderr=stream,
        environ=environ,
    )
    sinks.emit(started())
    assert ("\r" in stream.getvalue()) == has_status


def test_the_end_of_a_log_is_safe_to_print(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)) + b"\xff\x1b]0;title\x07\x1b[2Jlast\n")
    assert tail_lines(str(path), 2) == ["line 99999", "�last"]
    path.write_bytes(b"y" * 1_000_000)
    assert len(tail_lines(str(path))[0]) < 600
    assert tail_lines(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.004, "0.00 s"), (1.5, "1.50 s"), (12.34, "12.3 s"), (125, "2:05"), (3723, "1:02:03")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_text_is_cut_to_what_fits() -> None:
    assert (fit("hello", 5), fit("hello", 4), fit("日本語", 5), width_of("日本"), fit("x", 0)) == (
        "hello",
        "hel…",
        "日本…",
        4,
        "",
    )
    assert cut("x" * 12, 10) == "xxxxxxxxxx... (12 characters)"
    assert plain("a\tb\x00\x9b2J") == "a       b2J"


def test_colour_obeys_the_usual_variables() -> None:
    assert [use_colour(Terminal(), environ) for environ in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"})] == [
        True,
        False,
        False,
    ]
    assert use_colour(io.StringIO(), {"FORCE_COLOR": "1"})
