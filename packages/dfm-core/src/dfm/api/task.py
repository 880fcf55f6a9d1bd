"""What a Python task sees: its input, its result, and the context it acts through.

A Python task is a function, plain or async, called as `task(ctxt, input)`; it returns a TaskOutput, or None for
success without items. An exception it raises becomes a failed result with an error marker and the traceback in the log.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dfm.api.items import DataItem


class Severity(enum.StrEnum):
    """How much a marker matters."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class MarkerLocation:
    """The place a marker points to; `line` and `pos` count from 1, 0 where unknown."""

    path: str
    line: int = 0
    pos: int = 0

    def __str__(self) -> str:
        numbers = [str(n) for n in (self.line, self.pos) if n > 0]
        return ":".join([self.path, *numbers])


@dataclass(frozen=True, slots=True)
class Marker:
    """A message of a task about its input: an error, a warning, a remark, where possible with its place."""

    severity: Severity
    msg: str
    loc: MarkerLocation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInput:
    """Everything a Python task is given.

    Attributes:
        name: the node's name, unique in the run.
        srcdir: absolute directory of the flow file that declares the task.
        rundir: absolute directory the task works in; it is the current directory.
        params: the task's parameters, evaluated.
        inputs: the items the task consumes, in `needs` order.
        memento: what the last finished run of this task returned as its memento, else None.
        changed: whether anything the task takes in differs from its last run.
    """

    name: str
    srcdir: str
    rundir: str
    params: "Params"
    inputs: Sequence[DataItem]
    memento: Any = None
    changed: bool = True


class Params(Mapping[str, Any]):
    """Parameters by attribute or by key: `params.msg`, `params["msg"]`; not writable."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (JSON)
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(sorted(self._values)) or "none"
            raise AttributeError(f"the task has no parameter {name!r} (it has: {known})") from None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  (JSON)
        return self._values[name]

    def __iter__(self) -> Any:  # noqa: ANN401  (Iterator[str]; Mapping's own signature)
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values!r})"


@dataclass(slots=True, kw_only=True)
class TaskOutput:
    """What a Python task returns.

    Attributes:
        status: 0 for success; anything else fails the task.
        output: the items it makes, in order.
        memento: JSON-like value handed back on the next run.
        markers: messages, beside those given through the context.
        changed: False tells that the outputs are those of the last run.
    """

    status: int = 0
    output: list[DataItem] = field(default_factory=list)
    memento: Any = None
    markers: list[Marker] = field(default_factory=list)
    changed: bool = True


@dataclass(frozen=True, slots=True)
class TaskHandle:
    """A task that code has described, made by `ctxt.mkTaskNode`; it runs once it is added, or given to `run_subgraph`.

    Attributes:
        type: the task of the flow that it is made of.
        name: unique among those that are made together.
        params: values of its parameters.
        needs: names of tasks that must end before.
    """

    type: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


class SubgraphError(Exception):
    """Tasks that a Python task asked for did not end well, or could not be made.

    Args:
        message: what went wrong, for a person.
        results: how each task ended, in the order in which they were asked for; empty where none could be made.
    """

    def __init__(self, message: str, results: "Sequence[SubtaskResult]" = ()) -> None:
        super().__init__(message)
        self.results = results


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtaskResult:
    """How a task ended that a Python task asked for.

    Attributes:
        verdict: as in reports: "succeeded", "up-to-date", "failed", "blocked" and so on.
        status: 0 where it ended well.
        output: the items it hands on.
    """

    name: str
    verdict: str
    status: int
    output: Sequence[DataItem]


class UpToDateContext(Protocol):
    """What a function of `uptodate` looks at, called as `function(ctxt)`, plain or async.

    It is called when nothing else speaks against the task's last result; its answer decides.
    """

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def rundir(self) -> str:
        """Absolute directory the task works in, with what its last run left there."""

    @property
    def srcdir(self) -> str:
        """Absolute directory of the flow file that declares the task."""

    @property
    def params(self) -> Params:
        """The task's parameters, evaluated."""

    @property
    def inputs(self) -> Sequence[DataItem]:
        """The items the task consumes."""

    @property
    def memento(self) -> Any:  # noqa: ANN401  (JSON)
        """What the last finished run returned as its memento."""


class TaskContext(Protocol):
    """What a Python task acts through."""

    @property
    def env(self) -> dict[str, str]:
        """The environment of the task: a copy of its own, given to every command it starts."""

    @property
    def rundir(self) -> str:
        """Absolute directory the task works in."""

    @property
    def srcdir(self) -> str:
        """Absolute directory of the flow file that declares the task."""

    @property
    def root_pkgdir(self) -> str:
        """Absolute directory of the root package."""

    @property
    def root_rundir(self) -> str:
        """Absolute directory all run directories lie in."""

    def error(self, msg: str, loc: MarkerLocation | None = None) -> None:
        """Add an error marker. It does not fail the task: the returned status does."""

    def warning(self, msg: str, loc: MarkerLocation | None = None) -> None:
        """Add a warning marker."""

    def info(self, msg: str, loc: MarkerLocation | None = None) -> None:
        """Add a remark."""

    def add_marker(self, marker: Marker) -> None:
        """Add a marker made elsewhere."""

    def marker(self, msg: str, severity: Severity = Severity.INFO, loc: MarkerLocation | None = None) -> None:
        """Add a marker."""

    def make_item(self, type: str, **fields: Any) -> DataItem:  # noqa: A002, ANN401  (the format's own word; JSON)
        """Return a new item of `type`."""

    def mkDataItem(self, type: str, **fields: Any) -> DataItem:  # noqa: A002, ANN401, N802  (the format's own words; JSON)
        """Do as `make_item` does."""

    def create(self, path: str, content: str) -> str:
        """Write a text file, relative to the run directory, and return its absolute path."""

    async def exec(
        self,
        cmd: Sequence[str],
        *,
        logfile: str | None = None,
        logfilter: Callable[[str], bool] | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command and return its exit status, 128 + n when signal n ended it, 127 when it was not found.

        Args:
            cmd: the argument vector; no shell sees it.
            logfile: file in the run directory for its output; None lets it flow into the task's log.
            logfilter: called with each line of output; lines for which it answers True are also printed to the log.
            cwd: working directory; None means the run directory.
            env: complete environment; None means `ctxt.env`.
        """

    def run(
        self,
        cmd: Sequence[str],
        *,
        logfile: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Do as `exec` does, for a task that is not async."""

    async def exec_parallel(
        self,
        cmds: Sequence[Sequence[str]],
        *,
        jobs: int | None = None,
        logfiles: Sequence[str | None] | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> list[int]:
        """Run several commands at once and return their exit statuses, in their order.

        Args:
            cmds: as for `exec`.
            jobs: how many at once; None means one for each CPU.
            logfiles: one for each command; None lets all output flow into the task's log.
            cwd: working directory; None means the run directory.
            env: complete environment; None means `ctxt.env`.
        """

    def mkName(self, name: str) -> str:  # noqa: N802  (the format's own word)
        """Return a name for a task inside this one: this task's name, a dot, and `name`."""

    def mkTaskNode(  # noqa: N802  (the format's own word)
        self,
        type: str,  # noqa: A002  (the format's own word)
        name: str | None = None,
        *,
        srcdir: str | None = None,
        needs: "TaskHandle | str | Sequence[TaskHandle | str] | None" = None,
        **params: Any,  # noqa: ANN401  (JSON)
    ) -> TaskHandle:
        """Describe a task made of the task `type` of the flow; nothing runs yet.

        Args:
            type: as it is named in the package of this task, else its full name.
            name: None makes one up.
            srcdir: accepted for older code; relative paths start where `type` is declared.
            needs: tasks that must end before: others of this call, or tasks of the run by name.
            params: values of its parameters.
        """

    def addTask(self, task: TaskHandle) -> TaskHandle:  # noqa: N802  (the format's own word)
        """Add a task to what a generator makes, and return it."""

    def getInputs(self) -> list[TaskHandle]:  # noqa: N802  (the format's own word)
        """Return what a generator's task receives, to be named in `needs`; tasks without needs receive it anyway."""

    async def run_subgraph(
        self,
        tasks: "TaskHandle | Sequence[TaskHandle]",
        name: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  (part of what the format promises)
        max_failures: int | None = None,
    ) -> "SubtaskResult | list[SubtaskResult]":
        """Run tasks now, as part of this run, and wait for them; one task gives one result, a list a list.

        Args:
            tasks: made by `mkTaskNode`.
            name: accepted for older code.
            timeout: seconds to wait; the tasks themselves go on after it.
            max_failures: how many may fail before no more of them start; None counts failures in the run, which may
                end it, 0 and less starts all of them. With 1 and more their failures are this task's to deal with.

        Raises:
            SubgraphError: a task did not end well, and `max_failures` is not 1 or more; or one cannot be made.
            TimeoutError: the time is over.
        """
