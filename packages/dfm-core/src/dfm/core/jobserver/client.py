"""DFM under somebody else's jobserver: a `make` that started us with `+`, or another `dfm run`.

One token came with our own start; each further body costs one byte from the parent's pipe, and the very same byte goes
back. Children get the parent's jobserver as it is. The parent's pipe is opened anew through /proc, so that our
non-blocking reads do not change the description that others share.
"""

import asyncio
import contextlib
import os
import stat
from collections import deque
from types import TracebackType
from typing import Self

from dfm.core.jobserver.protocol import Auth, FifoAuth, PipeAuth
from dfm.core.jobserver.tokens import Lease, TokenSource

_IMPLICIT = b""


class JobserverUnavailableError(Exception):
    """The jobserver that MAKEFLAGS names cannot be reached."""


class TokenClient(TokenSource):
    """Takes tokens from the jobserver that `auth` names; `makeflags` goes to the bodies unchanged."""

    def __init__(self, auth: Auth, makeflags: str) -> None:
        self._auth = auth
        self._makeflags = makeflags
        self._reading = -1
        self._writing = -1
        self._has_implicit = True
        self._held: list[bytes] = []
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._is_watching = False

    @property
    def limit(self) -> None:
        """Unknown: the parent keeps the tokens."""
        return None

    async def __aenter__(self) -> Self:
        self._reading, self._writing = open_ends(self._auth)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_watching:
            asyncio.get_running_loop().remove_reader(self._reading)
        for token in self._held:
            self._put(token)
        self._held.clear()
        os.close(self._reading)
        os.close(self._writing)

    async def acquire(self) -> Lease:
        """Wait for a token and take it: our own first, then the parent's."""
        token = None if self._waiting else self._take()
        if token is None:
            token = await self._wait_turn()
        pass_fds = (self._auth.read_fd, self._auth.write_fd) if isinstance(self._auth, PipeAuth) else ()
        return Lease({"MAKEFLAGS": self._makeflags}, pass_fds, token)

    def release(self, lease: Lease, *, is_clean: bool) -> None:  # noqa: ARG002  (only the server can recount)
        """Give a lease back, to who waits here first."""
        self._give(lease.token)

    def _take(self) -> bytes | None:
        if self._has_implicit:
            self._has_implicit = False
            return _IMPLICIT
        try:
            token = os.read(self._reading, 1)
        except BlockingIOError:
            return None
        if not token:
            return None
        self._held.append(token)
        return token

    def _give(self, token: bytes) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(token)
                self._watch()
                return
        if token == _IMPLICIT:
            self._has_implicit = True
        else:
            self._held.remove(token)
            self._put(token)
        self._watch()

    def _put(self, token: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, token)

    async def _wait_turn(self) -> bytes:
        turn: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._watch()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(turn.result())
            elif turn in self._waiting:
                self._waiting.remove(turn)
                self._watch()
            raise

    def _serve(self) -> None:
        while self._waiting:
            token = self._take()
            if token is None:
                break
            self._give(token)
        self._watch()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._waiting and not self._is_watching:
            loop.add_reader(self._reading, self._serve)
        elif not self._waiting and self._is_watching:
            loop.remove_reader(self._reading)
        self._is_watching = bool(self._waiting)


def open_ends(auth: Auth) -> tuple[int, int]:
    """Open the reading (non-blocking) and the writing end of a jobserver.

    Raises:
        JobserverUnavailableError: the descriptors are closed or no pipe, or the FIFO is gone.
    """
    reading_path, writing_path = _paths(auth)
    try:
        if not stat.S_ISFIFO(os.stat(reading_path).st_mode) or not stat.S_ISFIFO(os.stat(writing_path).st_mode):
            raise JobserverUnavailableError("what MAKEFLAGS names is no pipe")
        reading = os.open(reading_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            writing = os.open(writing_path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            os.close(reading)
            raise
    except OSError as error:
        raise JobserverUnavailableError(
            f"the jobserver that MAKEFLAGS names cannot be opened: {error.strerror}"
        ) from error
    return reading, writing


def _paths(auth: Auth) -> tuple[str, str]:
    match auth:
        case FifoAuth(path):
            return path, path
        case PipeAuth(read_fd, write_fd):
            return f"/proc/self/fd/{read_fd}", f"/proc/self/fd/{write_fd}"
