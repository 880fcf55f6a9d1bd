"""DFM as the jobserver: N tokens in a FIFO, shared by our bodies and by the makes and ninjas inside them.

DFM does no work itself, so all N are for bodies: a body costs one, which is the implicit token of a make in it. Waiting
for a token has no time-out and does not poll. What a killed client held is recovered; see accounts.py.
"""

import asyncio
import contextlib
import errno
import fcntl
import glob
import os
import shutil
import stat
import tempfile
import termios
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from msgspec import Struct

from dfm.core.jobserver.accounts import Book, Generation
from dfm.core.jobserver.protocol import FifoAuth, PipeAuth, format_makeflags
from dfm.core.jobserver.tokens import Lease, TokenSource

TOKEN = b"+"
_READ_AT_ONCE = 4096
_PREFIX = "dfm-jobs-"
_YOUNG_SECONDS = 60.0


def left_directories(name: str) -> list[str]:
    """Return the directories that the server of a run could not remove, because the run was killed."""
    return _directories(glob.escape(name))


def _directories(pattern: str) -> list[str]:
    return glob.glob(os.path.join(glob.escape(_home()), f"{_PREFIX}{pattern}-*"))


def stale_directories() -> list[str]:
    """Return the directories of servers of this user that are gone, whoever was to remove them having been killed too.

    A server keeps its FIFO open; one that nobody has open has no reader (ENXIO, fifo(7)). Young ones are passed over:
    they may be about to be opened.
    """
    return [path for path in _directories("*") if _is_stale(path)]


def _is_stale(directory: str) -> bool:
    with contextlib.suppress(OSError):
        facts = os.lstat(directory)
        is_ours = facts.st_uid == os.geteuid() and stat.S_ISDIR(facts.st_mode)
        if is_ours and time.clock_gettime(time.CLOCK_REALTIME) - facts.st_mtime >= _YOUNG_SECONDS:
            return not any(_is_open(os.path.join(directory, name)) for name in os.listdir(directory))
    return False


def _is_open(fifo: str) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.ENXIO
    return True


def _home() -> str:
    """Return the temporary directory, or one without blanks: MAKEFLAGS has no way to quote them."""
    usual = tempfile.gettempdir()
    return "/tmp" if any(character.isspace() for character in usual) else usual  # noqa: S108  (mkdtemp makes it private)


class _Pipe(Struct, eq=False):
    """One FIFO: our own non-blocking end, the two ends that children inherit, and how they find them."""

    path: str
    own: int
    child_read: int
    child_write: int
    environment: Mapping[str, str]

    @classmethod
    def make(cls, path: str, jobs: int) -> "_Pipe":
        os.mkfifo(path, 0o600)
        own = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        child_read = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        child_write = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        flags = format_makeflags(jobs, PipeAuth(child_read, child_write), FifoAuth(path))
        return cls(path, own, child_read, child_write, {"MAKEFLAGS": flags})

    def close(self) -> None:
        for fd in (self.own, self.child_read, self.child_write):
            os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def tokens(self) -> int:
        """Return how many tokens are in the pipe now."""
        answer = fcntl.ioctl(self.own, termios.FIONREAD, b"\0\0\0\0")
        return int.from_bytes(answer, "little")

    def put(self, count: int) -> None:
        while count > 0:
            count -= os.write(self.own, TOKEN * min(count, _READ_AT_ONCE))

    def take(self, most: int) -> int:
        """Take out up to `most` tokens; return how many."""
        try:
            return len(os.read(self.own, most))
        except BlockingIOError:
            return 0


class TokenServer(TokenSource):
    """A jobserver with `jobs` tokens.

    Args:
        jobs: how many things may run at once, at least 1.
        name: of the run, for the private directory of the FIFO; see `left_directories`.
        directory: where to make that; None for the system's temporary directory.
    """

    def __init__(self, jobs: int, name: str = "", directory: str | None = None) -> None:
        self._jobs = jobs
        self._name = name
        self._parent = directory
        self._directory: str | None = None
        self._book = Book(jobs)
        self._pipes: dict[int, _Pipe] = {}
        self._waiting: deque[asyncio.Future[Lease]] = deque()
        self._is_watching = False

    @property
    def limit(self) -> int:
        """The number of tokens."""
        return self._jobs

    async def __aenter__(self) -> Self:
        self._directory = tempfile.mkdtemp(prefix=f"{_PREFIX}{self._name}-", dir=self._parent or _home())
        self._pipes[0] = _Pipe.make(os.path.join(self._directory, "0"), self._jobs)
        self._pipes[0].put(self._jobs)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for pipe in self._pipes.values():
            loop.remove_reader(pipe.own)
            pipe.close()
        self._pipes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def acquire(self) -> Lease:
        """Wait for a token and take it."""
        if self._waiting or not self._current.take(1):
            return await self._wait_turn()
        return self._grant()

    def release(self, lease: Lease, *, is_clean: bool) -> None:
        """Give a body's token back, and look for what its clients did not."""
        generation = self._generation(lease.generation)
        self._book.end(generation)
        self._current.put(1)
        if self._book.held == 0:
            self._recount()
        elif generation.number in self._book.closed:
            self._collect(generation)
        elif not is_clean and self._current.tokens() < self._book.wanted_in_pipe():
            self._rotate()
        self._serve()

    @property
    def _current(self) -> _Pipe:
        return self._pipes[self._book.current.number]

    def _generation(self, number: int) -> Generation:
        return self._book.closed.get(number, self._book.current)

    def _grant(self) -> Lease:
        """Return the lease for a token that was just taken from the pipe."""
        generation = self._book.start()
        pipe = self._current
        return Lease(pipe.environment, (pipe.child_read, pipe.child_write), TOKEN, generation.number)

    async def _wait_turn(self) -> Lease:
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._watch()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(turn.result(), is_clean=True)
            elif turn in self._waiting:
                self._waiting.remove(turn)
                self._watch()
            raise

    def _serve(self) -> None:
        """Hand tokens from the pipe to those who wait, in their order."""
        while self._waiting:
            if self._waiting[0].done():  # cancelled, and its coroutine has not run yet
                self._waiting.popleft()
            elif self._current.take(1):
                self._waiting.popleft().set_result(self._grant())
            else:
                break
        self._watch()

    def _watch(self) -> None:
        """Let the event loop look at the pipe exactly while somebody waits."""
        loop = asyncio.get_running_loop()
        if self._waiting and not self._is_watching:
            loop.add_reader(self._current.own, self._serve)
        elif not self._waiting and self._is_watching:
            loop.remove_reader(self._current.own)
        self._is_watching = bool(self._waiting)

    def _recount(self) -> None:
        """Set the tokens right while no body runs: then all of them must be here."""
        for generation in list(self._book.closed.values()):
            self._close(generation)
        missing = self._jobs - self._current.tokens()
        if missing > 0:
            self._current.put(missing)
        elif missing < 0:
            self._current.take(-missing)

    def _rotate(self) -> None:
        """Begin a new pipe, for tokens may be lost with a killed client of the old one."""
        assert self._directory is not None
        old = self._current
        old_generation = self._book.current
        moved = old.take(self._jobs)
        if self._is_watching:
            asyncio.get_running_loop().remove_reader(old.own)
            self._is_watching = False
        new = self._book.rotate(moved)
        self._pipes[new.number] = _Pipe.make(os.path.join(self._directory, str(new.number)), self._jobs)
        self._current.put(moved)
        if old_generation.bodies == 0:
            self._close(old_generation)
            return
        asyncio.get_running_loop().add_reader(old.own, self._collect, old_generation)

    def _collect(self, generation: Generation) -> None:
        """Move what came back to a closed generation's pipe; close it for good when its last body has ended."""
        pipe = self._pipes[generation.number]
        back = self._book.came_back(generation, pipe.take(_READ_AT_ONCE))
        if back:
            self._current.put(back)
        if generation.bodies == 0:
            self._close(generation)
        if back:
            self._serve()

    def _close(self, generation: Generation) -> None:
        pipe = self._pipes.pop(generation.number)
        asyncio.get_running_loop().remove_reader(pipe.own)
        self._current.put(self._book.came_back(generation, pipe.take(_READ_AT_ONCE)))
        self._current.put(self._book.settle(generation))
        pipe.close()
