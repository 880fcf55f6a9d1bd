"""What the ledger is told, and what it asks for. Plain values, as in `events`.

`now` is the monotonic clock of the events of the pool; `clock` is the time of day of this host in seconds since the
epoch, which only searches in the histories of batch systems need.
"""

import enum
from collections.abc import Mapping

import msgspec

from dfm.api.batch import CancelState, EndCause, JobKey, JobStatus, Listed, QueryFailed, SubmitAnswer
from dfm.core.pool.events import PoolEvent, Record
from dfm.core.wire.messages import Shape


class Phase(enum.StrEnum):
    """Where a job stands for the ledger."""

    INTENT = "intent"
    """In the journal; the submission is on its way."""
    AMBIGUOUS = "ambiguous"
    """The answer of the submission was lost: it is looked up by its name."""
    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"
    """The scheduler does not list it, or does not know itself. Assumed to be alive."""
    ABANDONED = "abandoned"
    """Looked for and never found; taken in again if it shows up."""
    ENDED = "ended"


class LaunchWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The pool wants `count` more workers of a shape. One new name and slot each.

    Attributes:
        array_size: how many of them may be submitted together, as the elements of an array.
    """

    shape: Shape
    slots: int
    clock: float
    count: int = 1
    array_size: int = 1


class SubmitAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a SubmitJob.

    Attributes:
        is_repeated: it was told of another element of the same array: a refusal counts once.
    """

    name: str
    answer: SubmitAnswer
    is_repeated: bool = False


class LookUpAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a LookUpJob: a list in which the job is or is not, or no answer. `is_repeated` as above."""

    name: str
    answer: Listed | QueryFailed
    is_repeated: bool = False


class QueryAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a QueryJobs: all its commands' answers as one; one that failed makes it a QueryFailed.

    Attributes:
        seconds: how long it took.
    """

    answer: Listed | QueryFailed
    seconds: float = 0.0


class HistoryAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an AskHistory; None is not known."""

    name: str
    status: JobStatus | None


class CancelAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a CancelJobs.

    Attributes:
        states: by the id of the job; a job that is not in it is asked for again later. Empty where there was no answer.
    """

    jobs: tuple[JobKey, ...]
    states: Mapping[str, CancelState]
    text: str = ""


class WorkerConnected(msgspec.Struct, frozen=True, kw_only=True):
    """A worker has said hello for its slot. `job_id` is what it says of itself; believed only among known twins."""

    slot: str
    host: str
    job_id: str = ""


class WorkerParted(msgspec.Struct, frozen=True, kw_only=True):
    """The worker of a slot is not connected any more.

    Attributes:
        is_in_order: it said that it leaves: idle, drained, told to.
        is_final: the reactor has given it up; else it may come back in its lease, and the scheduler is asked soon.
    """

    slot: str
    is_in_order: bool = False
    is_final: bool = True


class WorkersSilent(msgspec.Struct, frozen=True):
    """Workers that are connected say nothing: the scheduler may have suspended them, so it is asked soon."""


class WorkerUnfit(msgspec.Struct, frozen=True, kw_only=True):
    """A worker came, and said that its host cannot be used."""

    slot: str
    host: str
    text: str


class WorkerWorked(msgspec.Struct, frozen=True):
    """A worker has begun a task: it came up well, and when it dies young, that is for the task to answer for.

    To be told at the first AttemptStarted at least; without it, tasks that kill their workers pause the pool.
    """

    slot: str


class CancelWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of these slots shall end."""

    slots: tuple[str, ...]
    why: str


class CancelAllWanted(msgspec.Struct, frozen=True):
    """The pool closes: every job of the ledger shall end, and none shall begin.

    Attributes:
        is_urgent: also those whose workers are still there; else they are cancelled when their worker has left.
    """

    why: str
    is_urgent: bool = False


class HostExcluded(msgspec.Struct, frozen=True, kw_only=True):
    """The reactor suspects a host: no job shall go there for a while."""

    host: str
    text: str


class ResumeWanted(msgspec.Struct, frozen=True):
    """A person says that what was wrong is mended: pauses and exclusions are forgotten."""


class Clock(msgspec.Struct, frozen=True):
    """Time has passed."""


LedgerEvent = (
    LaunchWanted
    | SubmitAnswered
    | LookUpAnswered
    | QueryAnswered
    | HistoryAnswered
    | CancelAnswered
    | WorkerConnected
    | WorkerParted
    | WorkersSilent
    | WorkerUnfit
    | WorkerWorked
    | CancelWanted
    | CancelAllWanted
    | HostExcluded
    | ResumeWanted
    | Clock
)


class SubmitJob(msgspec.Struct, frozen=True, kw_only=True):
    """Submit a job; its `job-intent` record comes before it in the list. Answered by one SubmitAnswered.

    Elements of one array follow each other in one list, with `name[1]`, `name[2]` and so on for names.

    Attributes:
        is_short: it is to ask for no more time than one task needs.
    """

    name: str
    slot: str
    shape: Shape
    slots: int
    excluded_hosts: tuple[str, ...] = ()
    is_short: bool = False


class LookUpJob(msgspec.Struct, frozen=True):
    """Ask for a job by its name. Answered by one LookUpAnswered."""

    name: str


class QueryJobs(msgspec.Struct, frozen=True):
    """Ask for the states of all jobs at once. Answered by one QueryAnswered; there is never a second on its way."""

    jobs: tuple[JobKey, ...]


class AskHistory(msgspec.Struct, frozen=True):
    """Ask how a job ended that is not listed any more. Answered by one HistoryAnswered."""

    job: JobKey


class CancelJobs(msgspec.Struct, frozen=True):
    """End these jobs. Answered by one CancelAnswered."""

    jobs: tuple[JobKey, ...]


class Announce(msgspec.Struct, frozen=True):
    """Hand this to the reactor: WorkerLost, WorkerSuspended, WorkerResumed, ShapeRefused."""

    event: PoolEvent


class PausePool(msgspec.Struct, frozen=True):
    """No job is submitted for now; the person is told why, loudly."""

    text: str


class Tell(msgspec.Struct, frozen=True):
    """One line for a person."""

    text: str


LedgerAction = Record | SubmitJob | LookUpJob | QueryJobs | AskHistory | CancelJobs | Announce | PausePool | Tell


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One job, for lists and for the scaling.

    Attributes:
        since: of the phase.
        deadline: when it is looked at again at the latest.
    """

    name: str
    slot: str
    id: str | None
    shape: Shape
    slots: int
    phase: Phase
    reason: str
    since: float
    deadline: float
    host: str
    is_connected: bool
    is_stopping: bool
    started_at: float
    cause: EndCause | None = None
