"""What a run tells while it goes: one frozen event per thing that happened.

The scheduler emits them into an EventSink; reports consume them; neither knows the other. Seconds are durations on a
monotonic clock; `at` is wall-clock time in UTC, for people.
"""

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from dfm.api.task import Marker


class Verdict(enum.StrEnum):
    """How one node of the graph ended."""

    SUCCEEDED = "succeeded"
    UP_TO_DATE = "up-to-date"
    WOULD_RUN = "would-run"
    DISABLED = "disabled"
    FAILED = "failed"
    LOST = "lost"
    REFUSED = "refused"
    BLOCKED = "blocked"
    NOT_RUN = "not-run"
    CANCELLED = "cancelled"

    @property
    def is_good(self) -> bool:
        """Whether what needs the node may go on."""
        return self in _GOOD


_GOOD = frozenset({Verdict.SUCCEEDED, Verdict.UP_TO_DATE, Verdict.WOULD_RUN, Verdict.DISABLED})


class RunStarted(Struct, frozen=True, kw_only=True):
    """The graph is built and the runner is open."""

    run_id: str
    tasks: Sequence[str]
    nodes: int
    runner: str
    rundir: str
    at: datetime


class TaskStarted(Struct, frozen=True, kw_only=True):
    """A task body is about to run; `reason` says why it is not up to date."""

    task: str
    rundir: str
    reason: str
    at: datetime


class Progress(enum.StrEnum):
    """Where a task stands with a runner that cannot run it at once. One of which nothing is said runs."""

    QUEUED = "queued"
    """Its runner has no place for it yet; or no more, because the attempt before was lost."""
    ASSIGNED = "assigned"
    """On its way to the place where it will run."""
    RUNNING = "running"
    SUSPENDED = "suspended"
    """The batch system has stopped it, and may let it go on."""
    UNREACHABLE = "unreachable"
    """The link to where it runs is broken; it may come back."""
    CANCELLING = "cancelling"


class TaskMoved(Struct, frozen=True, kw_only=True):
    """A task that has started stands elsewhere with its runner.

    Attributes:
        reason: why, for a person; empty where the state says all.
        host: where it runs or ran, empty where it does not.
    """

    task: str
    progress: Progress
    reason: str = ""
    host: str = ""


class RunnerWaits(Struct, frozen=True, kw_only=True):
    """What the runner itself waits for before it can run what is queued, such as worker jobs; empty for nothing.

    Told again whenever it changes; unlike a notice, it is no news that must be seen.
    """

    text: str


class TaskOutputText(Struct, frozen=True, kw_only=True):
    """Text a task prints for the person at the terminal (`std.Message`)."""

    task: str
    text: str


class TaskFinished(Struct, frozen=True, kw_only=True):
    """A node ended.

    Attributes:
        is_visible: False for the inner nodes of a compound task, which a person did not write.
        cause: one line that says why, for every verdict that is not success.
        exit_status: of the body, 128 + n for signal n; None where no body ran.
        seconds: wall-clock duration of the body, 0.0 where none ran.
        log: absolute path of the log, None where there is none.
        rerun: the command that runs just this task again, None where it succeeded.
    """

    task: str
    verdict: Verdict
    is_visible: bool = True
    cause: str | None = None
    exit_status: int | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    markers: Sequence[Marker] = ()
    rundir: str = ""
    log: str | None = None
    rerun: str | None = None


class RunnerNotice(Struct, frozen=True, kw_only=True):
    """Something the runner wants a person to know, such as "16 workers pending"."""

    text: str


class RunFinished(Struct, frozen=True, kw_only=True):
    """The run is over; `counts` maps each verdict that occurred to its number of visible nodes."""

    run_id: str
    exit_code: int
    seconds: float
    counts: dict[Verdict, int]
    at: datetime


Event = RunStarted | TaskStarted | TaskMoved | TaskOutputText | TaskFinished | RunnerNotice | RunnerWaits | RunFinished


class EventSink(Protocol):
    """Takes in what happens. It must not block and must not raise: a report never stops a run."""

    def emit(self, event: Event) -> None:
        """Take in one event; events arrive in the order in which things happened."""

    def tick(self) -> None:
        """Be told that time has passed, a few times a second, whether or not anything happened."""
