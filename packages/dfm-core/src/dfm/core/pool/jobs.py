"""What the ledger is told, and what it asks for. Plain values, as in `events`.

`now` is the monotonic clock of the events of the pool; `clock` is the time of day of this host in seconds since the
epoch, which only searches in the histories of batch systems need.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchWanted:
    """The pool wants `count` more workers of a shape. One new name and slot each.

    Attributes:
        array_size: how many of them may be submitted together, as the elements of an array.
    """

    shape: Shape
    slots: int
    clock: float
    count: int = 1
    array_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAnswered:
    """The answer to a SubmitJob.

    Attributes:
        is_repeated: it was told of another element of the same array: a refusal counts once.
    """

    name: str
    answer: SubmitAnswer
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUpAnswered:
    """The answer to a LookUpJob: a list in which the job is or is not, or no answer. `is_repeated` as above."""

    name: str
    answer: Listed | QueryFailed
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswered:
    """The answer to a QueryJobs: all its commands' answers as one; one that failed makes it a QueryFailed.

    Attributes:
        seconds: how long it took.
    """

    answer: Listed | QueryFailed
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAnswered:
    """The answer to an AskHistory; None is not known."""

    name: str
    status: JobStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswered:
    """The answer to a CancelJobs.

    Attributes:
        states: by the id of the job; a job that is not in it is asked for again later. Empty where there was no answer.
    """

    jobs: tuple[JobKey, ...]
    states: Mapping[str, CancelState]
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConnected:
    """A worker has said hello for its slot. `job_id` is what it says of itself; believed only among known twins."""

    slot: str
    host: str
    job_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParted:
    """The worker of a slot is not connected any more.

    Attributes:
        is_in_order: it said that it leaves: idle, drained, told to.
        is_final: the reactor has given it up; else it may come back in its lease, and the scheduler is asked soon.
    """

    slot: str
    is_in_order: bool = False
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class WorkersSilent:
    """Workers that are connected say nothing: the scheduler may have suspended them, so it is asked soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerUnfit:
    """A worker came, and said that its host cannot be used."""

    slot: str
    host: str
    text: str


@dataclass(frozen=True, slots=True)
class WorkerWorked:
    """A worker has begun a task: it came up well, and when it dies young, that is for the task to answer for.

    To be told at the first AttemptStarted at least; without it, tasks that kill their workers pause the pool.
    """

    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelWanted:
    """The jobs of these slots shall end."""

    slots: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class CancelAllWanted:
    """The pool closes: every job of the ledger shall end, and none shall begin.

    Attributes:
        is_urgent: also those whose workers are still there; else they are cancelled when their worker has left.
    """

    why: str
    is_urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostExcluded:
    """The reactor suspects a host: no job shall go there for a while."""

    host: str
    text: str


@dataclass(frozen=True, slots=True)
class ResumeWanted:
    """A person says that what was wrong is mended: pauses and exclusions are forgotten."""


@dataclass(frozen=True, slots=True)
class Clock:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitJob:
    """Submit a job; its `job-intent` record comes before it in the list. Answered by one SubmitAnswered.

    Elements of one array follow each other in one list, with `name[1]`, `name[2]` and so on for names.
    """

    name: str
    slot: str
    shape: Shape
    slots: int
    excluded_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LookUpJob:
    """Ask for a job by its name. Answered by one LookUpAnswered."""

    name: str


@dataclass(frozen=True, slots=True)
class QueryJobs:
    """Ask for the states of all jobs at once. Answered by one QueryAnswered; there is never a second on its way."""

    jobs: tuple[JobKey, ...]


@dataclass(frozen=True, slots=True)
class AskHistory:
    """Ask how a job ended that is not listed any more. Answered by one HistoryAnswered."""

    job: JobKey


@dataclass(frozen=True, slots=True)
class CancelJobs:
    """End these jobs. Answered by one CancelAnswered."""

    jobs: tuple[JobKey, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Hand this to the reactor: WorkerLost, WorkerSuspended, WorkerResumed, ShapeRefused."""

    event: PoolEvent


@dataclass(frozen=True, slots=True)
class PausePool:
    """No job is submitted for now; the person is told why, loudly."""

    text: str


@dataclass(frozen=True, slots=True)
class Tell:
    """One line for a person."""

    text: str


LedgerAction = Record | SubmitJob | LookUpJob | QueryJobs | AskHistory | CancelJobs | Announce | PausePool | Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
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
