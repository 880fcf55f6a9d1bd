"""The batch jobs of the pool: what each is called, and what is known of it.

A name is unique for ever, and so is the slot that it belongs to. Nothing is decided here.
"""

import msgspec

from dfm.api.batch import JobKey
from dfm.core.pool.jobs import Phase
from dfm.core.wire.messages import Shape

NEVER = float("inf")
LONG_AGO = float("-inf")
LISTED_PHASES = frozenset({Phase.PENDING, Phase.HELD, Phase.RUNNING, Phase.SUSPENDED, Phase.UNKNOWN})
"""Those of a job that has an id and has not ended."""


class Job(msgspec.Struct, eq=False):
    """One job, from before its submission until its end.

    Attributes:
        clock: the time of day of its launch.
        since: of the phase.
        excluded: the hosts that it was told to avoid.
        is_short: it asks for no more time than one task needs.
        seen_at: when an answer last listed it.
        suspended_at: when it was last listed as suspended, while the reactor takes its worker for such.
        missing: so many good answers in a row did not list it.
        hopeless: so many answers in a row said that it will never start.
        misses: how many look-ups did not find it.
        given_up_at: when the reactor gave its worker up; None where that is there, or never was.
        has_left: its worker took its leave.
        is_judged: whether its worker did well or died young is counted, for good.
        is_unwanted: it is to end.
        is_cancelling: the answer to its cancellation is open.
        cancels: how often it was cancelled.
        twins: ids of other jobs that the scheduler made of the same submission.
    """

    name: str
    slot: str
    shape: Shape
    slots: int
    clock: float
    phase: Phase
    since: float
    launched_at: float
    excluded: tuple[str, ...] = ()
    is_short: bool = False
    id: str | None = None
    cluster: str | None = None
    reason: str = ""
    host: str = ""
    seen_at: float = LONG_AGO
    running_since: float | None = None
    suspended_at: float | None = None
    missing: int = 0
    hopeless: int = 0
    misses: int = 0
    look_up_at: float = NEVER
    is_connected: bool = False
    connected_at: float | None = None
    parted_at: float = LONG_AGO
    given_up_at: float | None = None
    has_left: bool = False
    is_judged: bool = False
    is_unwanted: bool = False
    is_cancelling: bool = False
    cancel_at: float = NEVER
    cancels: int = 0
    twins: set[str] = set()

    @property
    def key(self) -> JobKey:
        """Return what the batch system is asked for."""
        return JobKey(name=self.name, id=self.id, cluster=self.cluster, submitted_at=self.clock)

    def move(self, phase: Phase, reason: str, now: float) -> None:
        """Be in a phase from now on; one that is to end keeps that as its reason."""
        if self.phase is not phase:
            self.phase = phase
            self.since = now
        if not self.is_unwanted:
            self.reason = reason


class JobTable:
    """The jobs that have not ended, in the order of their launch."""

    def __init__(self) -> None:
        self.by_name: dict[str, Job] = {}
        self.by_slot: dict[str, Job] = {}

    def enter(self, job: Job) -> None:
        """Take in a job that is new."""
        self.by_name[job.name] = self.by_slot[job.slot] = job

    def remove(self, job: Job) -> None:
        """Forget a job."""
        del self.by_name[job.name]
        del self.by_slot[job.slot]

    def outstanding(self) -> list[Job]:
        """Return those that have an id, so that there is something to ask for."""
        return [job for job in self.by_name.values() if job.id is not None]

    def is_steady(self) -> bool:
        """Return whether the workers of all jobs are connected, and wanted."""
        return all(job.is_connected and not job.is_unwanted for job in self.by_name.values())


def job_name(instance: str, slot: str) -> str:
    """Return the name of the job of a slot: `s-2-7` has a job of its own, `s-2-7.3` is an element of an array."""
    number, _, index = slot.removeprefix("s-").partition(".")
    return f"dfm-{instance}-{number}-1{f'[{index}]' if index else ''}"


def prefix_of(name: str) -> str:
    """Return what the names of all jobs of an instance begin with."""
    return f"{name.rsplit('-', 3)[0]}-"


def array_of(name: str) -> str:
    """Return the name of the array that an element belongs to; that of any other job is its own."""
    return name.partition("[")[0]
