"""What the reactor is told, and what it asks for. Plain values: the same in a test, in a simulation and in a daemon.

Times are seconds on a monotonic clock that only counts while the machine is awake; the reactor never reads one, each
event is handed over together with `now`.
"""

import enum

import msgspec

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


class Loss(msgspec.Struct, frozen=True):
    """Why a worker or an attempt is gone, in a word and in words."""

    kind: LossKind
    text: str


class ClientOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A client has opened its run, or has come back to it; `rundir` is where its tasks run, empty where nobody says."""

    client: str
    weight: float = 1.0
    rundir: str = ""


class ClientGone(msgspec.Struct, frozen=True):
    """The link of a client broke; it may come back."""

    client: str


class ClientClosed(msgspec.Struct, frozen=True):
    """A client said that its run is over."""

    client: str


class TaskSubmitted(msgspec.Struct, frozen=True, kw_only=True):
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


class TaskCancelled(msgspec.Struct, frozen=True, kw_only=True):
    """A client does not want a task any more."""

    client: str
    ticket: int
    is_urgent: bool = False


class ResultReceived(msgspec.Struct, frozen=True):
    """A client has the result of a ticket; it may be forgotten."""

    client: str
    ticket: int


class WorkerArrived(msgspec.Struct, frozen=True, kw_only=True):
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


class WorkerHeard(msgspec.Struct, frozen=True, kw_only=True):
    """Something came from the worker, whatever it was."""

    slot: str
    incarnation: str


class AttemptStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an attempt has been started."""

    slot: str
    incarnation: str
    attempt: int


class AttemptAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an attempt asks the run something, and does nothing until it is answered: its slot is free meanwhile.

    Repeated after a reconnection; the same number is the same question.
    """

    slot: str
    incarnation: str
    attempt: int
    number: int
    question: bytes


class QuestionAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """A client has answered a question of an attempt at its task."""

    client: str
    ticket: int
    attempt: int
    number: int
    answer: bytes


class AttemptEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A worker has a result."""

    slot: str
    incarnation: str
    attempt: int
    outcome: str
    body: bytes
    is_out_of_memory: bool = False
    is_infrastructure: bool = False


class WorkerVacating(msgspec.Struct, frozen=True, kw_only=True):
    """A worker was told to go and takes nothing more; `dropped` it has killed already."""

    slot: str
    incarnation: str
    loss: Loss
    dropped: tuple[int, ...] = ()


class WorkerDisconnected(msgspec.Struct, frozen=True, kw_only=True):
    """The link broke. The worker may come back within its lease, with what it runs."""

    slot: str
    incarnation: str


class WorkerLost(msgspec.Struct, frozen=True, kw_only=True):
    """A worker is gone for good: it left, its job ended, a person killed it. Its attempts are lost for that reason.

    Attributes:
        incarnation: empty means whichever life of the slot there is.
    """

    slot: str
    incarnation: str = ""
    loss: Loss


class WorkerSuspended(msgspec.Struct, frozen=True):
    """The batch system has stopped the worker's job: its silence means nothing until it is resumed."""

    slot: str


class WorkerResumed(msgspec.Struct, frozen=True):
    """The batch system lets the worker's job run again."""

    slot: str


class DrainWorker(msgspec.Struct, frozen=True):
    """The pool wants to do without the worker once it is free."""

    slot: str


class ShapeRefused(msgspec.Struct, frozen=True):
    """No worker of this shape can ever be had, in the batch system's own words: its waiting tasks end as refused."""

    shape: Shape
    text: str


class Tick(msgspec.Struct, frozen=True):
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


class Welcomed(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the worker that it is in, and which of its running attempts are still wanted."""

    slot: str
    keep: tuple[int, ...] = ()


class Assign(msgspec.Struct, frozen=True, kw_only=True):
    """Send an attempt to a worker. Its `dispatch` record comes before it in the list of actions."""

    slot: str
    attempt: int
    number: int
    task: str
    spec: bytes
    environment: str
    wall_seconds: float | None


class PassQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Send a client the question of an attempt at its task; repeated when the client comes back."""

    client: str
    ticket: int
    attempt: int
    number: int
    question: bytes


class PassAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Send a worker the answer to a question of one of its attempts."""

    slot: str
    attempt: int
    number: int
    answer: bytes


class Acknowledge(msgspec.Struct, frozen=True):
    """Tell the worker that it may forget a result: it is committed, or nobody wants it."""

    slot: str
    attempt: int


class Stop(msgspec.Struct, frozen=True):
    """Tell the worker to stop an attempt whose result nobody wants."""

    slot: str
    attempt: int
    is_urgent: bool = False


class Retire(msgspec.Struct, frozen=True):
    """Tell the worker to kill what it runs and leave, and close its link."""

    slot: str
    incarnation: str
    why: str


class AskToDrain(msgspec.Struct, frozen=True):
    """Tell the worker to finish what runs and leave."""

    slot: str


class Deliver(msgspec.Struct, frozen=True, kw_only=True):
    """Send a client the end of a task; repeated when the client comes back, until it was received."""

    client: str
    ticket: int
    outcome: str
    cause: str = ""
    body: bytes = b""
    attempts: int = 1
    is_out_of_memory: bool = False
    resource_class: str | None = None


class Confirm(msgspec.Struct, frozen=True, kw_only=True):
    """Tell a client that its submission is taken in; its `submit` record comes before it in the list of actions."""

    client: str
    ticket: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Tell a client where a task stands now."""

    client: str
    ticket: int
    state: str
    reason: str = ""
    host: str = ""
    attempt: int = 0


class Record(msgspec.Struct, frozen=True):
    """Append to the journal, before anything that follows in the list is done."""

    entry: "JournalEntry"


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the journal: what kind, and its fields, all of them plain."""

    kind: str
    fields: dict[str, object]


class HostSuspected(msgspec.Struct, frozen=True, kw_only=True):
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
