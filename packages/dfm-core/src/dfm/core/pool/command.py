"""Runs a batch system's commands: never a shell, never without a time-out, never on the way of the event loop.

Each command has a session of its own; when its time is up the whole group is ended, and its answer says so. What it
prints beyond MAX_OUTPUT_BYTES is read and thrown away. At most MAX_IN_FLIGHT run at once.
"""

import asyncio
import contextlib
import errno
import fnmatch
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dfm.api.batch import Command, CommandOutput

MAX_OUTPUT_BYTES = 1024 * 1024
MAX_IN_FLIGHT = 2
KILL_SECONDS = 2.0
NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""What a shell says of a command that it may not start, and of one that is not there."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC, errno.ELOOP, errno.ENAMETOOLONG})

_NOT_EXECUTABLE = frozenset({errno.EACCES, errno.ENOEXEC})

_log = logging.getLogger(__name__)


def command_environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment a command gets: the caller's, without and with what the command says, in plain English."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in command.keep_env or not any(fnmatch.fnmatchcase(name, pattern) for pattern in command.unset_env)
    }
    return {**kept, "LC_ALL": "C", **command.set_env}


@dataclass(slots=True)
class CommandRunner:
    """Runs commands and returns what came of them; a command that cannot be started has an answer too.

    Attributes:
        environ: of this process.
        scale: factor on every time-out, for tests.
    """

    environ: Mapping[str, str]
    scale: float = 1.0
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_IN_FLIGHT))

    async def run(self, command: Command) -> CommandOutput:
        """Run one command to its end, or until its time is up. Cancelling ends it."""
        async with self._free:
            _write_files(command)
            output = await self._run(command)
        _log.debug("%s -> %d %r %r", command.argv, output.status, output.stdout[-500:], output.stderr[-500:])
        return output

    async def _run(self, command: Command) -> CommandOutput:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  (it returns once the child has begun; its pipes do not block)
                command.argv,
                env=command_environment(command, self.environ),
                stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            # What is not among these is a want of this process, which may have it later.
            is_absent = error.errno in _ABSENT
            status = NOT_EXECUTABLE if error.errno in _NOT_EXECUTABLE else NOT_FOUND
            text = f"{command.argv[0]}: {error.strerror}"
            return CommandOutput(status=status, stdout="", stderr=text, is_timed_out=not is_absent)
        run = _Running(process, command.stdin)
        try:
            async with asyncio.timeout(command.timeout_seconds * self.scale):
                await run.ended()
        except TimeoutError:
            await run.stop(KILL_SECONDS * self.scale)
            return run.output(is_timed_out=True)
        finally:
            run.close()
        return run.output(is_timed_out=False)


def answer_to(command: Command, environ: Mapping[str, str]) -> CommandOutput:
    """Run one command to its end for who has no event loop."""
    return asyncio.run(CommandRunner(environ).run(command))


def _write_files(command: Command) -> None:
    """Write what the command wants to find, for its owner alone, in one step each."""
    for path, text in command.files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)


class _Running:
    """A child with its three pipes in the event loop."""

    def __init__(self, process: "subprocess.Popen[bytes]", stdin: str | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._unsent = b"" if stdin is None else stdin.encode("utf-8", "surrogateescape")
        self._chunks: dict[int, bytearray] = {}
        self._open: set[int] = set()
        self._changed = asyncio.Event()
        self._status: int | None = None
        assert process.stdout is not None
        assert process.stderr is not None
        for pipe in (process.stdout, process.stderr):
            self._chunks[pipe.fileno()] = bytearray()
            self._watch(pipe.fileno(), self._loop.add_reader, self._read)
        if process.stdin is not None:
            self._watch(process.stdin.fileno(), self._loop.add_writer, self._write)
        self._loop.add_reader(self._pidfd, self._reap)

    async def ended(self) -> None:
        """Wait until the child has ended and said all it had to say."""
        while self._status is None or self._open:
            self._changed.clear()
            await self._changed.wait()
            if self._status is not None:
                self._drain()

    async def stop(self, seconds: float) -> None:
        """End the whole group: politely, then not. What ignores the polite way outlives the leader."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.ended()

    def output(self, *, is_timed_out: bool) -> CommandOutput:
        """Return what came of it."""
        status = 128 + signal.SIGKILL if self._status is None else self._status
        texts = [bytes(chunk).decode("utf-8", "replace") for chunk in self._chunks.values()]
        return CommandOutput(
            status=status if status >= 0 else 128 - status,
            stdout=texts[0],
            stderr=texts[1],
            is_timed_out=is_timed_out,
        )

    def close(self) -> None:
        """Leave nothing: no child, no descriptor."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        for fd in list(self._open):
            self._unwatch(fd)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _watch(self, fd: int, add: Callable[..., object], callback: Callable[[int], None]) -> None:
        os.set_blocking(fd, False)
        self._open.add(fd)
        add(fd, callback, fd)

    def _unwatch(self, fd: int) -> None:
        self._open.discard(fd)
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        self._changed.set()

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        if not data:
            self._unwatch(fd)
            return
        chunk = self._chunks[fd]
        chunk += data[: MAX_OUTPUT_BYTES - len(chunk)]

    def _drain(self) -> None:
        """Take what the child had written; a grandchild that keeps its pipes open says nothing that we wait for."""
        for fd in list(self._open):
            if fd in self._chunks:
                before = -1
                while fd in self._open and before != len(self._chunks[fd]):
                    before = len(self._chunks[fd])
                    self._read(fd)
            if fd in self._open:
                self._unwatch(fd)

    def _write(self, fd: int) -> None:
        try:
            sent = os.write(fd, self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._unwatch(fd)
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._status = self._process.wait()
        self._changed.set()
