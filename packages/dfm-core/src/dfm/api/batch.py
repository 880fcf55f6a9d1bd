"""What a batch system is to DFM: a dialect of four questions. Pure: argv out, text in.

The core owns the pool: it decides how many worker jobs there are, runs the dialect's commands with time-outs, limits
and retries, and keeps the ledger of jobs. A dialect says how the commands are written and what their answers mean.

Absence never means success: a job that a query does not list is `missing`, which the core counts as *unknown*. An
answer that is no answer (a time-out, "LSF is down") is a QueryFailed and changes nothing. Exit statuses carry little; a
dialect reads both streams whatever the status.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

ARRAY_INDEX = "%I"
"""Stands in the words of a worker of an array for its index, from 1, which the worker puts in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """One worker job that the pool wants.

    Attributes:
        name: unique for ever, `dfm-<instance>-<pool>-<n>-<attempt>`; letters, digits, `.`, `-` and `_` only.
        slot: identity of the worker inside the pool, such as `s-0042`.
        argv: the worker's command; nothing secret is in it. No shell reads it, or each word is quoted.
        directory: absolute directory the job shall start in.
        log: absolute path of the log that the worker itself writes, in a directory that exists.
        cores: for the whole job.
        memory_bytes: for the whole job; None leaves it to the queue.
        wall_seconds: limit of the job; None leaves it to the queue.
        warning_seconds: how long before its limit the worker wants to be told.
        queue: of the resource class or tag; None means the dialect's own option.
        resource_select: predicates, each to hold.
        excluded_hosts: hosts that shall not be used for now.
    """

    name: str
    slot: str
    argv: tuple[str, ...]
    directory: str
    log: str
    cores: int = 1
    memory_bytes: int | None = None
    wall_seconds: float | None = None
    warning_seconds: float = 60.0
    queue: str | None = None
    resource_select: tuple[str, ...] = ()
    excluded_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKey:
    """A job as the ledger knows it.

    Attributes:
        id: the scheduler's id, `123` or `123[4]`; None while the answer of the submission is not known.
        cluster: where ids are unique only inside a cluster.
        submitted_at: seconds since the epoch, by the clock of this host, for searches in histories.
    """

    name: str
    id: str | None = None
    cluster: str | None = None
    submitted_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run for an answer.

    Attributes:
        stdin: text given to it; None is /dev/null.
        set_env: variables to set.
        unset_env: names to remove, a trailing `*` removing all that begin so; applied before `set_env`.
        keep_env: names that `unset_env` does not remove.
        files: absolute paths and texts of files to be written, executable by their owner, before it runs;
            their directories exist.
        asked: the jobs it asks about or acts on.
        timeout_seconds: after it the process group is killed and the answer counts as none.
    """

    argv: tuple[str, ...]
    stdin: str | None = None
    set_env: Mapping[str, str] = field(default_factory=dict)
    unset_env: tuple[str, ...] = ()
    keep_env: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[JobKey, ...] = ()
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutput:
    """What came of a command.

    Attributes:
        status: exit status, 128 + n for signal n, 127 where the program was not found.
        stdout: at most 1 MiB, undecodable bytes replaced.
        is_timed_out: it was killed after its time-out, so that whatever it was to do may have happened or not.
    """

    status: int
    stdout: str
    stderr: str
    is_timed_out: bool = False


class FailureKind(enum.StrEnum):
    """Whether trying again can help."""

    PERMANENT = "permanent"
    """This request will never be accepted: shown in the scheduler's own words, not retried."""
    TRANSIENT = "transient"
    """The scheduler is busy or away: retried with growing delays."""
    AMBIGUOUS = "ambiguous"
    """The job may exist: looked up by its name before anything is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The scheduler has the job."""

    id: str
    cluster: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitFailed:
    """The scheduler does not have the job, as far as is known; `text` is its own words, for a person."""

    kind: FailureKind
    text: str


SubmitAnswer = Submitted | SubmitFailed


class JobState(enum.StrEnum):
    """Where a job stands, in classes that all batch systems share."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    """Stopped by the system or a person; alive, and not lost however long it is silent."""
    ENDED = "ended"
    UNKNOWN = "unknown"
    """The scheduler itself does not know; the job is assumed to be alive."""


class EndCause(enum.StrEnum):
    """Why a job ended."""

    DONE = "done"
    FAILED = "failed"
    WALLTIME = "walltime"
    MEMORY = "memory"
    PREEMPTED = "preempted"
    KILLED_BY_OWNER = "killed-by-owner"
    KILLED_BY_ADMIN = "killed-by-admin"
    LAUNCH = "launch"
    """It never got to run its program: no directory, no command, a broken host."""
    NODE = "node"
    """Its host went away."""
    LOST = "lost"
    """The scheduler has given it up; its process may be alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What the scheduler says of one job.

    Attributes:
        id: as in JobKey.
        name: empty where the answer does not tell.
        cause: where the state is ENDED.
        exit_status: of the job, where the scheduler tells one.
        host: where it runs or ran, empty where unknown.
        reason: the scheduler's words: why it is pending, why it ended.
        is_hopeless: it is pending for a reason that will not go away.
        has_no_host: it is pending because no host fits what it asks for, as things stand.
        is_requeued: it will run again under the same id.
        warning: something a person should know, such as a state we do not know.
    """

    id: str
    name: str = ""
    state: JobState
    cause: EndCause | None = None
    exit_status: int | None = None
    host: str = ""
    reason: str = ""
    cluster: str | None = None
    is_hopeless: bool = False
    has_no_host: bool = False
    is_requeued: bool = False
    warning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A good answer: the jobs it lists; those asked about that it does not list are missing, no more and no less."""

    jobs: tuple[JobStatus, ...]
    missing: tuple[JobKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryFailed:
    """No answer. Nothing may be concluded of any job."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatRefused:
    """The tool does not know this form of the question; `next` is the dialect that asks in a simpler one."""

    text: str
    next: "BatchDialect"


QueryAnswer = Listed | QueryFailed | FormatRefused


class CancelState(enum.StrEnum):
    """What a cancel did to one job."""

    STOPPING = "stopping"
    GONE = "gone"
    """It had ended, or is not known any more."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """What a cancel did, by the id of each job; a job that the answer does not tell of is left out."""

    states: Mapping[str, CancelState]
    text: str = ""


class Standing(enum.StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found, and what to do about it; `hint` is empty where there is nothing to do."""

    standing: Standing
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question of `dfm doctor`: a command, and what its answer means."""

    name: str
    command: Command
    judge: Callable[[CommandOutput], Sequence[Finding]]


class BatchDialect(Protocol):
    """How one batch system is spoken to. Every method is pure; a dialect is immutable."""

    @property
    def name(self) -> str:
        """The runner's name."""

    def validate(self, job: WorkerJob) -> None:
        """Refuse what the batch system would misread.

        Raises:
            RunnerError: a value cannot be given to the scheduler; nothing was submitted.
        """

    def submit(self, job: WorkerJob) -> Command:
        """Return the command that submits the job."""

    def parse_submit(self, job: WorkerJob, output: CommandOutput) -> SubmitAnswer:
        """Return what the answer means."""

    def query(self, prefix: str, jobs: Sequence[JobKey]) -> Sequence[Command]:
        """Return the commands, one where that is possible, that tell the states of all jobs.

        Args:
            prefix: the names of all jobs of this instance begin with it: `dfm-<instance>-`.
            jobs: at least one; some may have no id yet.
        """

    def parse_query(self, command: Command, output: CommandOutput) -> QueryAnswer:
        """Return what the answer means."""

    def find(self, name: str) -> Command:
        """Return the command that tells whether a job of this name exists, for a submission whose answer was lost."""

    def history(self, job: JobKey) -> Command | None:
        """Return the command that tells how a job ended that the query no longer lists; None where there is none."""

    def parse_history(self, job: JobKey, output: CommandOutput) -> JobStatus | None:
        """Return how the job ended; None where that is not known."""

    def cancel(self, jobs: Sequence[JobKey]) -> Sequence[Command]:
        """Return the commands that end the jobs; each names its ids, and there is none for no jobs."""

    def parse_cancel(self, command: Command, output: CommandOutput) -> CancelAnswer:
        """Return what became of each job."""

    def probes(self) -> Sequence[Probe]:
        """Return the checks of `dfm doctor`."""

    def shown(self, job: WorkerJob) -> str:
        """Return the submission as a person would type it, script included, for `--dry-run`."""


@runtime_checkable
class ArrayDialect(BatchDialect, Protocol):
    """A batch system that takes many alike worker jobs in one submission, as the elements of an array.

    An array has a name, and its elements are `name[1]` to `name[count]`: so they are called in JobKey and in JobStatus.
    `find` is asked for the name of the array, and tells of all its elements.
    """

    @property
    def array_size(self) -> int:
        """Return how many workers one submission may ask for; 1 where each is a job of its own."""

    def submit_array(self, job: WorkerJob, count: int) -> Command:
        """Return the command that submits `count` of these jobs.

        Args:
            job: with the name of the array, and ARRAY_INDEX where its words and its log differ between elements.
            count: at least 2, at most `array_size`.
        """

    def parse_submit_array(self, job: WorkerJob, count: int, output: CommandOutput) -> Sequence[SubmitAnswer]:
        """Return what the answer means for each element, in the order of their indexes."""

    def shown_array(self, job: WorkerJob, count: int) -> str:
        """Return the submission of `count` of these jobs as a person would type it, for `--dry-run`."""


@runtime_checkable
class TokenDialect(BatchDialect, Protocol):
    """A batch system whose worker jobs may hold tokens of what is shared, such as licences, as long as they live."""

    @property
    def held_tokens(self) -> Mapping[str, float]:
        """Return how many of what each worker job holds from its start to its end; empty where it holds none."""
