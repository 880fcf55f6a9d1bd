"""What daemon, workers and clients say to each other.

MessagePack maps with the message's name as `t`; several messages may travel in one frame, as a list. Unknown messages
and unknown fields are ignored, so that a newer peer may say more; a missing field is a protocol error and closes the
link. Requests, results, questions and answers travel as bytes that the daemon never decodes:
only the client and the worker know them.

`attempt` numbers are unique in the life of a project: the daemon's epoch in the upper bits, a counter in the lower, so
that a number of an earlier daemon is never taken for one of this. `ticket` is the client's own number for a task; the
same ticket submitted twice is one task.
"""

import msgspec

PROTOCOL_VERSION = 1
EPOCH_SHIFT = 40
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""The largest message, in as many frames as it takes; what is larger than this belongs into a file."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", omit_defaults=True):
    """Anything that is said."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """A worker announces itself, after the handshake has proved which slot it has.

    Attributes:
        incarnation: random, chosen when the process started: two lives of one slot differ in it.
        slots: how many tasks it runs at once.
        lives_seconds: how long until its batch job reaches its limit, None where it has none.
        job_id: what the batch system calls its job, empty outside one.
        running: attempts that it still runs, from an earlier connection.
        finished: attempts whose results it still holds; they follow as `Result`.
        unfit: why it must not be given work: a directory that is not there, a full disk.
    """

    slot: str
    incarnation: str
    host: str
    pid: int
    version: str
    slots: int
    cores: int
    lives_seconds: float | None = None
    job_id: str = ""
    restarts: int = 0
    running: list[int] = []
    finished: list[int] = []
    unfit: str = ""


class Beat(Message, frozen=True, kw_only=True, tag="beat"):
    """Still here. Sent both ways."""

    lag_seconds: float = 0.0
    load: float = 0.0
    rss_bytes: int = 0
    free_bytes: int = -1


class Started(Message, frozen=True, kw_only=True, tag="started"):
    """The body of an attempt has been started."""

    attempt: int


class Result(Message, frozen=True, kw_only=True, tag="result"):
    """An attempt has ended; kept by the worker until it is acknowledged.

    Attributes:
        outcome: of `dfm.api.runner.Outcome`.
        body: an encoded `TaskResult`.
        is_out_of_memory: the kernel or a limit killed it for memory.
        is_infrastructure: the host failed it, not the task: its disk is full, its shell is missing, its directory gone.
    """

    attempt: int
    outcome: str
    body: bytes
    is_out_of_memory: bool = False
    is_infrastructure: bool = False


class Asked(Message, frozen=True, kw_only=True, tag="asked"):
    """The body of an attempt asks the run something; said again after each `Welcome` and `Opened` until answered.

    Attributes:
        number: of the question, unique in its attempt.
        question: an encoded `dfm.api.runner.Question`.
        ticket: of the attempt's task, which the daemon fills in for the client.
    """

    attempt: int
    number: int
    question: bytes
    ticket: int = 0


class Answered(Message, frozen=True, kw_only=True, tag="answered"):
    """What the run answers to the question of that number; not wanted any more if the attempt is not.

    Attributes:
        answer: an encoded `dfm.api.runner.Answer`.
        ticket: of the attempt's task, for the daemon.
    """

    attempt: int
    number: int
    answer: bytes
    ticket: int = 0


class Vacating(Message, frozen=True, kw_only=True, tag="vacating"):
    """The worker has been told to go, by a signal or because its time is up; it takes no more work.

    Attributes:
        reason: `preempted`, `walltime`, `signal`, for a person and for the account of losses.
        dropped: attempts that it has killed for it.
    """

    reason: str
    left_seconds: float = 0.0
    dropped: list[int] = []


class Leaving(Message, frozen=True, kw_only=True, tag="leaving"):
    """The worker ends in order: idle, drained, told to."""

    reason: str


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """The daemon takes the worker in. All times in seconds, already scaled."""

    epoch: int
    heartbeat_seconds: float
    silence_seconds: float
    idle_seconds: float
    lost_seconds: float
    kill_grace_seconds: float
    margin_seconds: float
    """It takes nothing that may reach into this time before its job's limit: the daemon reckons with the same."""
    is_passing: bool = False
    """The pool lives as long as one run, and never comes back once it is gone."""
    keep: list[int] = []
    """Those of its running attempts that are still wanted; it kills the others."""


class Environment(Message, frozen=True, kw_only=True, tag="env"):
    """An environment, sent once; requests name it by its digest."""

    digest: str
    variables: dict[str, str]


class Run(Message, frozen=True, kw_only=True, tag="run"):
    """Run one attempt.

    Attributes:
        number: which attempt at the task this is, from 1.
        task: its name, for logs and lists.
        spec: an encoded `TaskRequest` whose `env` holds only what differs from the environment of that digest.
        wall_seconds: kill it after this time; None never does.
    """

    attempt: int
    number: int
    task: str
    spec: bytes
    environment: str = ""
    wall_seconds: float | None = None


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """The result of the attempt is safe, or not wanted: the worker may forget it."""

    attempt: int


class CancelAttempt(Message, frozen=True, kw_only=True, tag="cancel"):
    """Stop the attempt; its result is not wanted. `is_urgent` kills at once."""

    attempt: int
    is_urgent: bool = False


class Drain(Message, frozen=True, kw_only=True, tag="drain"):
    """Finish what runs, then leave."""


class Exit(Message, frozen=True, kw_only=True, tag="exit"):
    """Kill what runs and leave: another life of the slot has taken over, or the slot is not known."""

    why: str


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a task asks of a worker; tasks of one shape share a pool."""

    cores: int = 1
    memory_bytes: int | None = None
    wall_seconds: float | None = None
    queue: str | None = None
    resource_class: str | None = None
    resource_select: tuple[str, ...] = ()


class Open(Message, frozen=True, kw_only=True, tag="open"):
    """A client opens its run.

    Attributes:
        rundir: absolute directory that all its run directories lie in; of two runs in one, the later waits.
        is_resuming: it was connected before; the tickets that it submits again are the same tasks.
    """

    run_id: str
    user: str
    version: str
    directory: str
    rundir: str = ""
    is_resuming: bool = False
    weight: float = 1.0


class Submit(Message, frozen=True, kw_only=True, tag="submit"):
    """A task to run; accepted once.

    Attributes:
        larger: shapes with more and more memory: in each it runs again after it ran out of memory in the one before.
    """

    ticket: int
    task: str
    shape: Shape
    larger: tuple[Shape, ...] = ()
    spec: bytes
    environment: str = ""
    wall_seconds: float | None = None


class CancelTask(Message, frozen=True, kw_only=True, tag="cancel-task"):
    """The client does not want the task any more."""

    ticket: int
    is_urgent: bool = False


class Received(Message, frozen=True, kw_only=True, tag="received"):
    """The client has the result of the ticket."""

    ticket: int


class Close(Message, frozen=True, kw_only=True, tag="close"):
    """The client's run is over; what it still has submitted is cancelled."""


class Opened(Message, frozen=True, kw_only=True, tag="opened"):
    """The run is open.

    Attributes:
        in_flight: how many tasks the client may have submitted and unfinished at once to keep the workers busy.
    """

    epoch: int
    version: str
    in_flight: int


class Accepted(Message, frozen=True, kw_only=True, tag="accepted"):
    """The submission is in the journal."""

    ticket: int


class TaskState(Message, frozen=True, kw_only=True, tag="state"):
    """Where a task stands: `queued`, `assigned`, `running`, `suspended`, with the reason, for `dfm why` and reports."""

    ticket: int
    state: str
    reason: str = ""
    host: str = ""
    attempt: int = 0


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """A task has ended for good; repeated until it is received.

    Attributes:
        outcome: of `dfm.api.runner.Outcome`.
        cause: for a lost or refused task, why; with the hosts and logs of its attempts.
        body: an encoded `TaskResult`; empty for a lost or refused task.
        attempts: how many there were.
        resource_class: of the shape in which the last attempt ran.
    """

    ticket: int
    outcome: str
    cause: str = ""
    body: bytes = b""
    attempts: int = 1
    is_out_of_memory: bool = False
    resource_class: str | None = None


class Notice(Message, frozen=True, kw_only=True, tag="notice"):
    """One line for the person at the terminal."""

    text: str


class PoolWaits(Message, frozen=True, kw_only=True, tag="pool-waits"):
    """What the pool waits for while tasks are queued, for people; empty for nothing. Told when it changes."""

    text: str


class InFlight(Message, frozen=True, kw_only=True, tag="in-flight"):
    """The number of workers has changed: how many tasks the client may now have unfinished at once."""

    count: int


class Ask(Message, frozen=True, kw_only=True, tag="ask"):
    """A question or an order at the daemon: `status`, `why`, `stop`, `drain`, `reap`, `resume`, `vacate`, `watch`.

    Attributes:
        task: of `why`.
        rundir: of `vacate`: the run directory in which nothing of a run that is gone shall go on.
    """

    verb: str
    number: int = 0
    task: str = ""
    rundir: str = ""
    is_urgent: bool = False


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """The answer to the question of that number; for `watch` one comes at every change."""

    number: int
    content: dict[str, object] = {}
    error: str = ""
    is_last: bool = True


FromWorker = Hello | Beat | Started | Asked | Result | Vacating | Leaving
ToWorker = Welcome | Beat | Environment | Run | Answered | Ack | CancelAttempt | Drain | Exit
FromClient = Open | Environment | Submit | Answered | CancelTask | Received | Close | Ask | Beat
ToClient = Opened | Accepted | TaskState | Asked | Done | Notice | PoolWaits | InFlight | Answer | Beat
