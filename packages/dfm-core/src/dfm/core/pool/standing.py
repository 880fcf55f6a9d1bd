"""What the reactor lets others see: for `dfm why`, the monitor, the scaling and the watchdog."""

import enum

import msgspec

from dfm.core.wire.messages import Shape


class Stage(enum.StrEnum):
    """Where a task stands. There is no other place for one."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    """On its way to a worker that has not yet said that it started."""
    RUNNING = "running"
    SUSPENDED = "suspended"
    """Its worker's job is stopped by the batch system."""
    UNREACHABLE = "unreachable"
    """Its worker's link is broken, or was never made since the daemon was restarted; it may come back in its lease."""
    CANCELLING = "cancelling"
    """Nobody wants it any more; its worker has been told and has not yet said that it stopped."""
    ENDED = "ended"
    """It has its result, which its client has not yet received."""


class TaskStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task stands, why, since when, and when that is looked at again at the latest."""

    state: Stage
    reason: str
    since: float
    deadline: float


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """One task, for lists.

    Attributes:
        number: how many attempts there were.
        slot: of the worker that has it, empty where none has.
    """

    client: str
    ticket: int
    task: str
    shape: Shape
    state: Stage
    since: float
    number: int
    attempt: int
    slot: str
    host: str


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, for lists.

    Attributes:
        ends_at: on the clock of `now`; infinite where its job has no limit.
        is_waiting: it has tasks, and all of them wait for answers of the run.
        idle_since: None while it has work.
        tasks: names of what it runs.
    """

    slot: str
    incarnation: str
    host: str
    shape: Shape
    slots: int
    busy: int
    is_connected: bool
    is_draining: bool
    is_suspended: bool
    is_waiting: bool
    heard_at: float
    ends_at: float
    idle_since: float | None
    tasks: tuple[str, ...]


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What the tasks of one shape ask for.

    Attributes:
        waiting: tasks in the queue. None of them fits a worker that is free: else it would have been given one.
        running: tasks that workers have.
        workers: those that will take one of the tasks that wait, and do not now only because all their slots are taken
            or they rest. Workers that drain, are suspended, or have a free slot but too little time are not counted.
        waiting_since: since when the eldest waits; None where none waits.
    """

    waiting: int = 0
    running: int = 0
    workers: int = 0
    waiting_since: float | None = None


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened since the daemon started."""

    submitted: int = 0
    assigned: int = 0
    committed: int = 0
    lost_attempts: int = 0
    lost_tasks: int = 0
    outgrown: int = 0
    """Attempts that ran out of memory and were followed by one in a larger class."""
    late_results: int = 0
