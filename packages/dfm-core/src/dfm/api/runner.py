"""The contract of a runner: one verb, `run(request) -> result`, and a lifetime.

A request is self-contained and serialisable: whoever executes it needs no flow file. Cancelling the coroutine cancels
the task; when `run` has returned or raised, nothing of the task is left running. *Failed is the user's, lost is ours*:
a body that ends badly is a FAILED result; a runner that cannot tell how a body ended returns LOST and never guesses.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from dfm.api.errors import RunnerError
from dfm.api.items import Item
from dfm.api.task import Marker

if TYPE_CHECKING:
    from dfm.api.batch import BatchDialect, Finding

API_VERSION = 1
"""Raised when this contract changes in a way that breaks a runner written for the version before."""


@dataclass(frozen=True, slots=True)
class ShellBody:
    """A script for a shell: `/bin/<shell>`, found on PATH where it is not in /bin."""

    text: str
    shell: str = "bash"


class PythonSource(enum.StrEnum):
    """How the text of a PythonBody names its code."""

    INLINE = "inline"
    FILE = "file"
    MODULE = "module"


class PythonCall(enum.StrEnum):
    """What the function of a PythonBody is, and so what it is called with and what comes of it.

    TASK: `(ctxt, input)`, its result is the task's. GENERATE: `(ctxt, input)`, adds tasks to its context; the result's
    outputs are items of type `std.TaskRunSpec`. UPTODATE: `(ctxt)`, answers whether the task's last result still
    stands; the result's memento is that answer, True or False.
    """

    TASK = "task"
    GENERATE = "generate"
    UPTODATE = "uptodate"


@dataclass(frozen=True, slots=True)
class PythonBody:
    """A Python task, run in a process of its own.

    Attributes:
        source: how to read `text`.
        text: INLINE, the source itself; FILE, the absolute path of the file; MODULE, the module's dotted name.
        function: the function to call; empty for INLINE.
        location: where the text stands in the flow file, `file:line`, for tracebacks.
        call: what the function is.
    """

    source: PythonSource
    text: str
    function: str = ""
    location: str = ""
    call: PythonCall = PythonCall.TASK


@dataclass(frozen=True, slots=True)
class BuiltinBody:
    """A task of the standard library, run inside DFM's own process: it starts nothing and costs no slot."""

    name: str


Body = ShellBody | PythonBody | BuiltinBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a task asks of the machine it runs on.

    Attributes:
        cores: at least 1 in a request; 0 in a task's own tag means that the tag leaves it to class and defaults.
        resource_class: name of the class that the others come from, None where the task names none.
        resource_select: predicates on hosts, each to hold.
        may_grow: whether the flow allows the task to run again with more memory after it ran out of it.
        larger: what it then has; None where it may not grow, or its class names no larger one.
    """

    cores: int = 1
    memory_bytes: int | None = None
    wall_seconds: float | None = None
    queue: str | None = None
    resource_class: str | None = None
    resource_select: tuple[str, ...] = ()
    may_grow: bool = False
    larger: "Resources | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """One attempt at one task.

    Attributes:
        run_id: the `dfm run` this belongs to.
        task: the node's name, unique in the run.
        attempt: counts from 1; a lost attempt is followed by the next.
        rundir: absolute directory to run in; exists.
        srcdir: absolute directory of the flow file that declares the task.
        root_pkgdir: absolute directory of the root package.
        root_rundir: absolute directory all run directories lie in.
        artefact: what the names of DFM's files in the rundir begin with, `<artefact>.log` and so on; empty where they
            have names of their own, `run.log`.
        params: evaluated, JSON-like.
        inputs: the items the task consumes.
        memento: of the last finished run, or None.
        env: the complete environment of the body, before the `DFM_*` variables and the jobserver's.
        changed: whether something the task takes in differs from its last run.
    """

    run_id: str
    task: str
    attempt: int
    rundir: str
    srcdir: str
    root_pkgdir: str
    root_rundir: str
    artefact: str
    body: Body
    params: Mapping[str, Any]
    inputs: Sequence[Item]
    memento: Any
    env: Mapping[str, str]
    changed: bool = True
    resources: Resources = field(default_factory=Resources)


def log_name(artefact: str) -> str:
    """Return the name of the log in a run directory."""
    return f"{artefact}.log" if artefact else "run.log"


def hidden_prefix(artefact: str) -> str:
    """Return what the names of DFM's hidden files in a run directory begin with."""
    return f".{artefact or 'dfm'}."


class Outcome(enum.StrEnum):
    """How an attempt ended. FAILED is the user's to mend, LOST is the runner's."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    REFUSED = "refused"
    """What the runner stands on will never take such a task, and says why: a setting or a request is to be mended."""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command a task ran, and its exit status (128 + n for signal n)."""

    cmd: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """How an attempt ended.

    Attributes:
        cause: one line for a person; None exactly when the outcome is SUCCEEDED.
        status: exit status of the body, 128 + n when signal n ended it.
        outputs: the task's own items, without `src` and `seq`, which the caller sets.
        text: what the task prints for the person at the terminal.
        seconds: wall-clock duration of the body.
        cpu_seconds: user and system time of the body and of all it waited for.
        max_rss_bytes: peak resident memory of its largest process.
        resource_class: the class whose resources the attempt had; None where the runner knows only the request's.
    """

    outcome: Outcome
    cause: str | None = None
    status: int = 0
    changed: bool = True
    outputs: Sequence[Item] = ()
    memento: Any = None
    markers: Sequence[Marker] = ()
    commands: Sequence[CommandRecord] = ()
    text: str = ""
    host: str = ""
    started_at: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    resource_class: str | None = None


class Runner(Protocol):
    """Runs task requests. Enter it before the first request, leave it after the last."""

    async def __aenter__(self) -> Self:
        """Open what the runner needs."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it; nothing that the runner started is left."""

    @property
    def max_in_flight(self) -> int:
        """How many requests it makes sense to hand over at once: those that run and a few that wait."""

    async def run(self, request: TaskRequest) -> TaskResult:
        """Run one task to its end. Waiting for a free slot has no time-out."""


Question = Mapping[str, Any]
"""What the body of a running task asks of the run, JSON-like; whoever carries it does not look into it.

Today there is one: `{"ask": "run_tasks", "tasks": [{"type", "name", "params", "needs"}...], "max_failures": int or
null}`.
Its answer is `{"results": [{"name", "verdict", "status", "output"}...]}`, or `{"error": text}`.
"""
Answer = Mapping[str, Any]
Ask = Callable[[str, Question], Awaitable[Answer]]
"""Takes the name of the running task and its question to the run, and waits for the answer, for as long as it takes.

A body on this host asks through a socket, as lines of JSON: `{"id": n, "question": ...}` is answered by `{"id": n,
"answer": ...}`. A runner for other hosts carries both between its worker and `RunnerContext.ask`. A task that waits for
an answer does nothing else: its slot, token or lease should serve others meanwhile, or one worker alone cannot answer.
"""


async def nobody_asks(task: str, question: Question) -> Answer:
    """Answer that nobody is there to answer."""
    return {"error": f"{task} cannot ask for {question.get('ask', 'anything')}: nobody answers here"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCommand:
    """A command that runs one request, on any host that shares the file system and has the same Python and DFM.

    It makes the task's log and all else as the local runner does, and keeps its own stdout free. SIGTERM stops the task
    and all that it started, and then the command; a second one does so at once. Killing the command outright leaves the
    task running.

    Attributes:
        argv: no shell sees it; put before it what shall run it.
        result: returns how the task ended, given the exit status of the command; LOST where it left no result. To be
            called once, after the command has ended.
        discard: to be called where `result` is not: removes what was written for the command.
    """

    argv: tuple[str, ...]
    result: Callable[[int], TaskResult]
    discard: Callable[[], None]


def _no_task_command(request: TaskRequest) -> TaskCommand:
    raise RunnerError(f"this context lends no command for {request.task}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerContext:
    """What the core lends to a runner.

    Attributes:
        jobs: the `-j` of the command line, None where it was not given.
        notice: shows one line to the person at the terminal.
        pool: lends the pool of warm workers to a batch system: the runner that comes back submits worker jobs in the
            given dialect and runs tasks on them. It does no I/O before it is entered.
        task_command: lends the engine for one task: writes the request down and returns the command that runs it.
        ask: takes a question of a running body to the run.
    """

    root_rundir: str
    run_id: str
    jobs: int | None
    notice: Callable[[str], None]
    pool: "Callable[[BatchDialect], Runner]"
    task_command: Callable[[TaskRequest], TaskCommand] = _no_task_command
    ask: Ask = nobody_asks


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerPlugin:
    """A runner as a distribution announces it.

    Attributes:
        name: what `--runner` takes; equals the name of the entry point.
        summary: one line for `dfm runners`.
        options: a frozen dataclass of the options that `--runner-opt` and `runner.<name>` in configuration files may
            set; each field has a default and is best declared with `dfm.api.options.option`.
        open: makes the runner, without I/O; raises RunnerError where it cannot be used.
        api_version: of this contract, as the plugin was written for.
        checks: what `dfm doctor` asks the runner about its surroundings, given its options. A batch runner needs none:
            its dialect's probes are run.
        resources: the names of those fields of Resources that the runner heeds; `dfm doctor` tells of a resource class
            that asks for others.
        help: more lines for `dfm runners`.
    """

    name: str
    summary: str
    options: type[Any]
    open: Callable[[RunnerContext, Any], Runner]
    api_version: int = API_VERSION
    checks: "Callable[[Any], Sequence[Finding]] | None" = None
    resources: frozenset[str] = frozenset()
    help: str = ""
