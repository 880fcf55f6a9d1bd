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

    def make_item(self, type: str, **fields: Any) -> DataItem:  # noqa: A002, ANN401  (the format's own word; JSON)
        """Return a new item of `type`."""

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
