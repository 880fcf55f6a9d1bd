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
from dfm.api.task import Marker, MarkerLocation, Severity

NOT_FOUND, NOT_EXECUTABLE = 127, 126


class ChildContext:
    """A TaskContext that keeps what the task does for its record."""

    def __init__(self, request: TaskRequest) -> None:
        self._request = request
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
        self.markers.append(marker)

    def make_item(self, type: str, **fields: Any) -> DataItem:  # noqa: A002, ANN401  (the format's own word; JSON)
        """Return a new item of `type`."""
        return item_from_mapping({"type": type, **fields})

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


def plain(value: object) -> Any:  # noqa: ANN401  (JSON)
    """Return a value as JSON-like plain data.

    Raises:
        TypeError: it has something in it that JSON cannot say.
    """
    return json.loads(json.dumps(value))
