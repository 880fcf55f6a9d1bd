"""What the reactor is told, and what it asks for. Plain values: the same in a test, in a simulation and in a daemon.

Times are seconds on a monotonic clock that only counts while the machine is awake; the reactor never reads one, each
event is handed over together with `now`.
"""

import enum
from dataclasses import dataclass

from dfm.core.wire.messages import Shape


class LossKind(enum.StrEnum):
    """Why an attempt was lost; only UNEXPLAINED counts against its task, and MEMORY where the task cannot grow."""

    UNEXPLAINED = "unexplained"
    """The worker died or fell silent, and nobody knows why."""
    WALLTIME = "walltime"
    MEMORY = "memory"
    """The batch system ended the worker's job for memory."""
    PREEMPTED = "preempted"
    KILLED = "killed"
    """By us, or by a person."""
    LEFT = "left"
    """The worker left in order while a task was on its way to it."""
    DAEMON = "daemon"
    """The daemon was restarted and the attempt never came back."""
    HOST = "host"
    """The host failed it: disk full, directory missing. Counts against the host."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a worker or an attempt is gone, in a word and in words."""

    kind: LossKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOpened:
    """A client has opened its run, or has come back to it; `rundir` is where its tasks run, empty where nobody says."""

    client: str
    weight: float = 1.0
    rundir: str = ""


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The link of a client broke; it may come back."""

    client: str


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """A client said that its run is over."""

    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSubmitted:
    """A client wants a task run. Repeated after a reconnection; the same ticket is the same task.

    Attributes:
        larger: in each of these it runs again after it ran out of memory in the one before.
    """

    client: str
    ticket: int
    task: str
    shape: Shape
    larger: tuple[Shape, ...] = ()
    spec: bytes
    environment: str = ""
    wall_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCancelled:
    """A client does not want a task any more."""

    client: str
    ticket: int
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class ResultReceived:
    """A client has the result of a ticket; it may be forgotten."""

    client: str
    ticket: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerArrived:
    """A worker has proved its slot and said hello. A second life of a slot ends the first.

    Attributes:
        shape: of the pool its job was submitted for.
        lives_seconds: from `now` on; None has no end.
        running: attempts it still runs; those that are not current any more are to be stopped.
        finished: attempts whose results it still holds; they follow.
    """

    slot: str
    incarnation: str
    host: str
    slots: int
    shape: Shape
    lives_seconds: float | None = None
    running: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHeard:
    """Something came from the worker, whatever it was."""

    slot: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """The body of an attempt has been started."""

    slot: str
    incarnation: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptAsked:
    """The body of an attempt asks the run something, and does nothing until it is answered: its slot is free meanwhile.

    Repeated after a reconnection; the same number is the same question.
    """

    slot: str
    incarnation: str
    attempt: int
    number: int
    question: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnswered:
    """A client has answered a question of an attempt at its task."""

    client: str
    ticket: int
    attempt: int
    number: int
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """A worker has a result."""

    slot: str
    incarnation: str
    attempt: int
    outcome: str
    body: bytes
    is_out_of_memory: bool = False
    is_infrastructure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerVacating:
    """A worker was told to go and takes nothing more; `dropped` it has killed already."""

    slot: str
    incarnation: str
    loss: Loss
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDisconnected:
    """The link broke. The worker may come back within its lease, with what it runs."""

    slot: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker is gone for good: it left, its job ended, a person killed it. Its attempts are lost for that reason.

    Attributes:
        incarnation: empty means whichever life of the slot there is.
    """

    slot: str
    incarnation: str = ""
    loss: Loss


@dataclass(frozen=True, slots=True)
class WorkerSuspended:
    """The batch system has stopped the worker's job: its silence means nothing until it is resumed."""

    slot: str


@dataclass(frozen=True, slots=True)
class WorkerResumed:
    """The batch system lets the worker's job run again."""

    slot: str


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """The pool wants to do without the worker once it is free."""

    slot: str


@dataclass(frozen=True, slots=True)
class ShapeRefused:
    """No worker of this shape can ever be had, in the batch system's own words: its waiting tasks end as refused."""

    shape: Shape
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; leases, graces and deadlines are looked at."""


PoolEvent = (
    ClientOpened
    | ClientGone
    | ClientClosed
    | TaskSubmitted
    | TaskCancelled
    | ResultReceived
    | WorkerArrived
    | WorkerHeard
    | AttemptStarted
    | AttemptAsked
    | QuestionAnswered
    | AttemptEnded
    | WorkerVacating
    | WorkerDisconnected
    | WorkerLost
    | WorkerSuspended
    | WorkerResumed
    | DrainWorker
    | ShapeRefused
    | Tick
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcomed:
    """Tell the worker that it is in, and which of its running attempts are still wanted."""

    slot: str
    keep: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Send an attempt to a worker. Its `dispatch` record comes before it in the list of actions."""

    slot: str
    attempt: int
    number: int
    task: str
    spec: bytes
    environment: str
    wall_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassQuestion:
    """Send a client the question of an attempt at its task; repeated when the client comes back."""

    client: str
    ticket: int
    attempt: int
    number: int
    question: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PassAnswer:
    """Send a worker the answer to a question of one of its attempts."""

    slot: str
    attempt: int
    number: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the worker that it may forget a result: it is committed, or nobody wants it."""

    slot: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell the worker to stop an attempt whose result nobody wants."""

    slot: str
    attempt: int
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class Retire:
    """Tell the worker to kill what it runs and leave, and close its link."""

    slot: str
    incarnation: str
    why: str


@dataclass(frozen=True, slots=True)
class AskToDrain:
    """Tell the worker to finish what runs and leave."""

    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Send a client the end of a task; repeated when the client comes back, until it was received."""

    client: str
    ticket: int
    outcome: str
    cause: str = ""
    body: bytes = b""
    attempts: int = 1
    is_out_of_memory: bool = False
    resource_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Tell a client that its submission is taken in; its `submit` record comes before it in the list of actions."""

    client: str
    ticket: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Tell a client where a task stands now."""

    client: str
    ticket: int
    state: str
    reason: str = ""
    host: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """Append to the journal, before anything that follows in the list is done."""

    entry: "JournalEntry"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One line of the journal: what kind, and its fields, all of them plain."""

    kind: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSuspected:
    """A host has failed several tasks or workers: no job shall go there for a while."""

    host: str
    text: str


PoolAction = (
    Welcomed
    | Assign
    | PassQuestion
    | PassAnswer
    | Acknowledge
    | Stop
    | Retire
    | AskToDrain
    | Deliver
    | Confirm
    | Report
    | Record
    | HostSuspected
)
