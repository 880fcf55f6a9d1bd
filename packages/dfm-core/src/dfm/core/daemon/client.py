"""The way to a daemon: for a run, which survives the daemon's restart, and for a person's questions.

A run whose link breaks looks for the daemon again for RETRY_SECONDS, opens itself anew and says again all that was not
answered: a ticket means the same task however often it is said. If nobody comes, what waits ends with an error that
says so; nothing is ever run elsewhere in secret. A run that wants nothing any more but that its tasks stop looks for
CANCELLED_SECONDS only, and not at all where it is urgent: workers stop the tasks of a run that does not come back.
"""

import asyncio
import contextlib
import glob
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

from dfm.api.errors import RunnerError
from dfm.core.__about__ import __version__
from dfm.core.crashpoint import crash_point
from dfm.core.daemon.endpoint import ASKING_SOCKET, Discovery, Endpoint, state_root
from dfm.core.pool.link import open_message
from dfm.core.pool.runner import PoolLink
from dfm.core.wire.channel import Channel, ConnectError, connect_unix, own_identity
from dfm.core.wire.exchange import decode_to_client
from dfm.core.wire.messages import (
    Answer,
    Ask,
    CancelTask,
    Close,
    Done,
    Environment,
    FromClient,
    Message,
    Notice,
    Opened,
    Received,
    Submit,
    ToClient,
)

RETRY_SECONDS = 60.0
CANCELLED_SECONDS = 3.0
ANSWER_SECONDS = 10.0
FAREWELL_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
_TELL_SECONDS = 2.0
"""A daemon that was started anew at once is back before; of one that is away for longer a person is told."""


class DaemonLink(PoolLink):
    """A run's link to its project's daemon.

    Args:
        rundir: of the run.
        hear: takes what the daemon says.
        broken: is told when the daemon is gone for good.
    """

    decoder = staticmethod(decode_to_client)

    def __init__(
        self,
        endpoint: Endpoint,
        run_id: str,
        rundir: str,
        hear: Callable[[ToClient], None],
        broken: Callable[[str], None],
    ) -> None:
        self._endpoint = endpoint
        self._run_id = run_id
        self._rundir = os.path.realpath(rundir)
        self._hear = hear
        self._broken = broken
        self._channel: Channel | None = None
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._environments: list[Environment] = []
        self._open_tickets: dict[int, Submit] = {}
        self._cancelled: dict[int, CancelTask] = {}
        self._is_closing = False
        self._is_lost = False
        self._connected_at = 0.0
        self._group = contextlib.AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await self._group.enter_async_context(asyncio.TaskGroup())
        try:
            await self._connect(is_resuming=False)
            await self._answered()
        except (RunnerError, TimeoutError) as error:
            await self._group.aclose()
            raise RunnerError(
                f"the daemon of {self._endpoint.project} does not answer", hint="dfm daemon status tells more"
            ) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closing = True
        channel = self._channel
        if channel is not None:
            channel.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._closed.wait()
        await self._group.__aexit__(kind, error, traceback)

    async def _answered(self) -> None:
        """Wait until the run is open: not long on a link that holds, and as long as for any other on one that broke.

        Raises:
            TimeoutError: there is no answer.
        """
        loop = asyncio.get_running_loop()
        while not self._opened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._opened.wait()
            is_deaf = self._channel is not None and loop.time() - self._connected_at >= ANSWER_SECONDS
            if self._is_lost or (is_deaf and not self._opened.is_set()):
                raise TimeoutError

    def send(self, message: FromClient) -> None:
        """Say something to the daemon; what matters is said again if it must be."""
        match message:
            case Environment():
                self._environments.append(message)
            case Submit():
                self._open_tickets[message.ticket] = message
            case CancelTask():
                self._cancelled[message.ticket] = message
            case Received():
                self._open_tickets.pop(message.ticket, None)
                self._cancelled.pop(message.ticket, None)
            case Close():
                self._is_closing = True
            case _:
                pass
        if self._channel is not None:
            self._channel.send(message)

    async def _connect(self, *, is_resuming: bool) -> None:
        channel = await connect_unix(self._endpoint.socket_path(), self, own_identity(__version__))
        crash_point("client.connected")
        self._closed.clear()
        self._channel = channel
        self._connected_at = asyncio.get_running_loop().time()
        project = self._endpoint.project
        channel.send(open_message(self._run_id, project, rundir=self._rundir, is_resuming=is_resuming))
        for message in (*self._environments, *self._open_tickets.values(), *self._cancelled.values()):
            channel.send(message)

    def on_messages(self, messages: list[Message]) -> None:
        """Take in what the daemon says."""
        for message in cast("list[ToClient]", messages):
            if isinstance(message, Opened):
                crash_point("client.opened")
                self._opened.set()
            elif isinstance(message, Done):
                crash_point("client.done")
                self._open_tickets.pop(message.ticket, None)
            self._hear(message)

    def on_closed(self, reason: str) -> None:
        """Look for the daemon again, unless the run is over."""
        self._channel = None
        self._closed.set()
        if not self._is_closing and self._tasks is not None:
            self._tasks.create_task(self._look_again(reason or "it hung up"))

    async def _look_again(self, why: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        until, tell_at = began + RETRY_SECONDS, began + _TELL_SECONDS
        while loop.time() < until and not self._is_closing:
            await asyncio.sleep(_PAUSE_SECONDS)
            with contextlib.suppress(RunnerError):
                await self._connect(is_resuming=True)
                return
            until = min(until, loop.time() + self._patience())
            if loop.time() >= tell_at and not self._cancelled:
                tell_at = until
                self._hear(Notice(text=f"the daemon is gone ({why}); waits {RETRY_SECONDS:g} s for a new one to start"))
        if not self._is_closing:
            self._is_lost = True
            self._broken(f"the daemon is gone ({why}), and did not come back in {loop.time() - began:.0f} s")

    def _patience(self) -> float:
        """Return for how many seconds from now it is worth looking for the daemon, as what is wanted of it stands."""
        if any(cancel.is_urgent for cancel in self._cancelled.values()):
            return 0.0
        is_stopping = bool(self._cancelled) and self._open_tickets.keys() <= self._cancelled.keys()
        return CANCELLED_SECONDS if is_stopping else RETRY_SECONDS


async def ask_daemon(endpoint: Endpoint, ask: Ask, *, seconds: float = ANSWER_SECONDS) -> dict[str, object]:
    """Return the answer to one question.

    Raises:
        RunnerError: there is no daemon, or it does not answer, or it says that it cannot.
    """
    try:
        return await _ask_at(endpoint.socket_path(), f"daemon of {endpoint.project}", ask, seconds)
    except ConnectError as error:
        raise RunnerError(f"no daemon of {endpoint.project} answers", hint="dfm daemon start starts one") from error


async def ask_runs(project: str, ask: Ask) -> list[dict[str, object]]:
    """Return the answers of the runs of a project on this host that have pools of their own."""
    answers = []
    for path in glob.glob(os.path.join(glob.escape(state_root()), "run-*", ASKING_SOCKET)):
        with contextlib.suppress(RunnerError):  # it is over, or was killed
            answer = await _ask_at(path, "run", ask, ANSWER_SECONDS)
            if answer["project"] == project:
                answers.append(answer)
    return answers


async def _ask_at(path: str, who: str, ask: Ask, seconds: float) -> dict[str, object]:
    """Return the answer to one question.

    Raises:
        ConnectError: nobody listens at the socket.
        RunnerError: there is no answer, or one that says that it cannot be answered.
    """
    asking = _Asking()
    channel = await connect_unix(path, asking, own_identity(__version__))
    channel.send(ask)
    try:
        async with asyncio.timeout(seconds):
            answer = await asking.answer
    except TimeoutError:
        raise RunnerError(f"the {who} did not answer in {seconds:g} s") from None
    finally:
        channel.detach()
        channel.abort("answered")
    if answer.error:
        raise RunnerError(answer.error)
    return answer.content


class _Asking:
    """Our end of a link for one question."""

    decoder = staticmethod(decode_to_client)

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def on_messages(self, messages: list[Message]) -> None:
        """Take the first answer."""
        for message in messages:
            if isinstance(message, Answer) and not self.answer.done():
                self.answer.set_result(message)

    def on_closed(self, reason: str) -> None:
        """Wait no longer."""
        if not self.answer.done():
            self.answer.set_exception(RunnerError(f"the daemon hung up: {reason or 'it closed the link'}"))


def living_daemon(endpoint: Endpoint) -> Discovery | None:
    """Return where the daemon of the project is, if it answers and is the one that says that it is; else None."""
    discovery = endpoint.read()
    if discovery is None or not os.path.lexists(endpoint.socket_path()):
        return None
    try:
        status = asyncio.run(ask_daemon(endpoint, Ask(verb="status")))
    except RunnerError:
        return None
    return discovery if status.get("daemon_id") == discovery.daemon_id else None
