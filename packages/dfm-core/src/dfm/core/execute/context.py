"""What a Python task acts through, in the process that runs it."""

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dfm.api.items import DataItem, item_from_mapping
from dfm.api.runner import CommandRecord, TaskRequest
from dfm.api.task import Marker, MarkerLocation, Severity, SubgraphError, SubtaskResult, TaskHandle
from dfm.core.execute.questions import Questioner

NOT_FOUND, NOT_EXECUTABLE = 127, 126
INPUTS = ".in"
"""Stands for what a generator's task receives."""


class ChildContext:
    """A TaskContext that keeps what the task does for its record."""

    def __init__(self, request: TaskRequest, questioner: Questioner | None = None) -> None:
        self._request = request
        self._questioner = questioner
        self._made = 0
        self.tasks: dict[str, TaskHandle] = {}
        self.env: dict[str, str] = dict(os.environ)
        self.markers: list[Marker] = []
        self.commands: list[CommandRecord] = []

    @property
    def rundir(self) -> str:
        """Absolute directory the task works in."""
        return self._request.rundir

    @property
    def srcdir(self) -> str:
        """Absolute directory of the flow file that declares the task."""
        return self._request.srcdir

    @property
    def root_pkgdir(self) -> str:
        """Absolute directory of the root package."""
        return self._request.root_pkgdir

    @property
    def root_rundir(self) -> str:
        """Absolute directory all run directories lie in."""
        return self._request.root_rundir

    def error(self, msg: str, loc: MarkerLocation | None = None) -> None:
        """Add an error marker."""
        self.add_marker(Marker(Severity.ERROR, msg, loc))

    def warning(self, msg: str, loc: MarkerLocation | None = None) -> None:
        """Add a warning marker."""
        self.add_marker(Marker(Severity.WARNING, msg, loc))

    def info(self, msg: str, loc: MarkerLocation | None = None) -> None:
        """Add a remark."""
        self.add_marker(Marker(Severity.INFO, msg, loc))

    def add_marker(self, marker: Marker) -> None:
        """Add a marker made elsewhere."""
        self.markers.append(marker_like(marker))

    def marker(self, msg: str, severity: Severity = Severity.INFO, loc: MarkerLocation | None = None) -> None:
        """Add a marker."""
        self.add_marker(Marker(Severity(severity), msg, loc))

    def make_item(self, type: str, **fields: Any) -> DataItem:  # noqa: A002, ANN401  (the format's own word; JSON)
        """Return a new item of `type`."""
        return item_from_mapping({"type": type, **fields})

    mkDataItem = make_item  # noqa: N815  (the format's own word)

    def create(self, path: str, content: str) -> str:
        """Write a text file, relative to the run directory, and return its absolute path."""
        target = os.path.join(self.rundir, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as file:
            file.write(content)
        return target

    async def exec(
        self,
        cmd: Sequence[str],
        *,
        logfile: str | None = None,
        logfilter: Callable[[str], bool] | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command and return its exit status; see `dfm.api.task.TaskContext.exec`."""
        process = self._start(cmd, logfile if logfilter is None else None, cwd, env, is_piped=logfilter is not None)
        if isinstance(process, int):
            return process
        loop = asyncio.get_running_loop()
        if logfilter is None:
            status = await loop.run_in_executor(None, process.wait)
        else:
            status = await loop.run_in_executor(None, self._filter, process, logfile, logfilter)
        return self._ended(cmd, status)

    def run(
        self,
        cmd: Sequence[str],
        *,
        logfile: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command and return its exit status, for a task that is not async."""
        process = self._start(cmd, logfile, cwd, env, is_piped=False)
        return process if isinstance(process, int) else self._ended(cmd, process.wait())

    async def exec_parallel(
        self,
        cmds: Sequence[Sequence[str]],
        *,
        jobs: int | None = None,
        logfiles: Sequence[str | None] | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> list[int]:
        """Run several commands at once; see `dfm.api.task.TaskContext.exec_parallel`."""
        if logfiles is not None and len(logfiles) != len(cmds):
            raise ValueError(f"there are {len(cmds)} commands and {len(logfiles)} log files")
        slots = asyncio.Semaphore(jobs or len(os.sched_getaffinity(0)))

        async def one(cmd: Sequence[str], logfile: str | None) -> int:
            async with slots:
                return await self.exec(cmd, logfile=logfile, cwd=cwd, env=env)

        return list(await asyncio.gather(*map(one, cmds, logfiles or [None] * len(cmds))))

    def mkName(self, name: str) -> str:  # noqa: N802  (the format's own word)
        """Return a name for a task inside this one."""
        return f"{self._request.task}.{name}"

    def mkTaskNode(  # noqa: N802  (the format's own word)
        self,
        type: str,  # noqa: A002  (the format's own word)
        name: str | None = None,
        *,
        srcdir: str | None = None,  # noqa: ARG002  (accepted for older code)
        needs: TaskHandle | str | Sequence[TaskHandle | str] | None = None,
        **params: Any,  # noqa: ANN401  (JSON)
    ) -> TaskHandle:
        """Describe a task; see `dfm.api.task.TaskContext.mkTaskNode`."""
        self._made += 1
        wanted = [] if needs is None else [needs] if isinstance(needs, TaskHandle | str) else list(needs)
        names = [need.name if isinstance(need, TaskHandle) else str(need) for need in wanted]
        kept = tuple(need for need in names if need != INPUTS)
        return TaskHandle(type, name or f"{type.rpartition('.')[2]}_{self._made}", dict(params), kept)

    def addTask(self, task: TaskHandle) -> TaskHandle:  # noqa: N802  (the format's own word)
        """Add a task to what a generator makes."""
        if self.tasks.setdefault(task.name, task) is not task:
            raise ValueError(f"two tasks are named {task.name!r}")
        return task

    def getInputs(self) -> list[TaskHandle]:  # noqa: N802  (the format's own word)
        """Return what a generator's task receives, to be named in `needs`."""
        return [TaskHandle("", INPUTS)]

    async def run_subgraph(
        self,
        tasks: TaskHandle | Sequence[TaskHandle],
        name: str | None = None,  # noqa: ARG002  (accepted for older code)
        *,
        timeout: float | None = None,  # noqa: ASYNC109  (part of what the format promises)
        max_failures: int | None = None,
    ) -> SubtaskResult | list[SubtaskResult]:
        """Run tasks now and wait for them; see `dfm.api.task.TaskContext.run_subgraph`."""
        wanted = [tasks] if isinstance(tasks, TaskHandle) else list(tasks)
        if self._questioner is None:
            raise SubgraphError("tasks can only be asked for while a task runs")
        question = {"ask": "run_tasks", "tasks": [_asked(task) for task in wanted], "max_failures": max_failures}
        async with asyncio.timeout(timeout):
            answer = await self._questioner.ask(plain(question))
        if "error" in answer:
            raise SubgraphError(str(answer["error"]))
        results = [_subtask_result(result) for result in answer["results"]]
        failed = [result for result in results if result.status != 0]
        if failed and (max_failures is None or max_failures < 1):
            told = ", ".join(f"{result.name} ({result.verdict})" for result in failed[:5])
            raise SubgraphError(f"{len(failed)} of {len(results)} tasks did not end well: {told}", results)
        return results[0] if isinstance(tasks, TaskHandle) else results

    def _start(
        self,
        cmd: Sequence[str],
        logfile: str | None,
        cwd: str | None,
        env: Mapping[str, str] | None,
        *,
        is_piped: bool,
    ) -> "subprocess.Popen[bytes] | int":
        if isinstance(cmd, str):
            raise TypeError("cmd is a list of words, such as ['make', '-j']; shlex.split makes one of a string")
        words = [os.fspath(word) for word in cmd]
        output = open(os.path.join(self.rundir, logfile), "wb") if logfile is not None else None  # noqa: SIM115  (closed below)
        try:
            return subprocess.Popen(
                words,
                cwd=cwd or self.rundir,
                env=dict(self.env if env is None else env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_piped else output,
                stderr=subprocess.STDOUT if is_piped or output is not None else None,
                close_fds=False,
            )
        except OSError as error:
            status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            self.error(f"cannot run {words[0]}: {error.strerror}")
            return self._ended(words, status)
        finally:
            if output is not None:
                output.close()

    def _filter(
        self,
        process: "subprocess.Popen[bytes]",
        logfile: str | None,
        logfilter: Callable[[str], bool],
    ) -> int:
        """Copy the output to the log file, and the lines the filter wants to the task's log."""
        assert process.stdout is not None
        path = os.path.join(self.rundir, logfile) if logfile is not None else os.devnull
        with open(path, "wb") as log, process.stdout as output:
            for line in output:
                log.write(line)
                text = line.decode("utf-8", "replace")
                if logfilter(text):
                    print(text, end="")  # noqa: T201  (the task's log is this process's stdout)
        return process.wait()

    def _ended(self, cmd: Sequence[str], status: int) -> int:
        status = 128 - status if status < 0 else status
        self.commands.append(CommandRecord(shlex.join(str(word) for word in cmd), status))
        return status


def _asked(task: TaskHandle) -> dict[str, Any]:
    return {"type": task.type, "name": task.name, "params": dict(task.params), "needs": list(task.needs)}


def _subtask_result(result: Mapping[str, Any]) -> SubtaskResult:
    return SubtaskResult(
        name=result["name"],
        verdict=result["verdict"],
        status=result["status"],
        output=[item_from_mapping(item) for item in result["output"]],
    )


def mapping_of(value: Any) -> Any:  # noqa: ANN401  (what a user's code returns)
    """Return an item, or a memento, as plain data; objects of other libraries say themselves what is in them."""
    for method in ("to_mapping", "model_dump"):
        if callable(tell := getattr(value, method, None)):
            return tell()
    return value


def marker_like(marker: Any) -> Marker:  # noqa: ANN401  (what a user's code makes)
    """Return a marker; one of a class that only looks like ours is taken for what it says."""
    if isinstance(marker, Marker):
        return marker
    severity = getattr(marker.severity, "value", marker.severity)
    loc = getattr(marker, "loc", None)
    place = None if loc is None else MarkerLocation(loc.path, max(0, loc.line or 0), max(0, loc.pos or 0))
    return Marker(Severity(str(severity).lower()), marker.msg, place)


def plain(value: object) -> Any:  # noqa: ANN401  (JSON)
    """Return a value as JSON-like plain data.

    Raises:
        TypeError: it has something in it that JSON cannot say.
    """
    return json.loads(json.dumps(value))
