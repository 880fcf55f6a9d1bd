"""The worker at work: its session in an event loop, between the link to the daemon and the bodies it runs.

A body is run by the same code as on the person's own machine, under a jobserver of this worker. Times are taken from
CLOCK_BOOTTIME, which goes on while a host sleeps: who was asleep must not believe that its lease still stands.
"""

import asyncio
import contextlib
import errno
import os
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from dfm.api.errors import DfmError, InfrastructureError
from dfm.api.runner import Outcome, TaskResult
from dfm.core.execute.body import BodyRunner
from dfm.core.execute.process import ProcessTrees
from dfm.core.execute.staging import write_bin_dir
from dfm.core.jobserver.owner import TokenServer
from dfm.core.wire.access import read_access
from dfm.core.wire.channel import Channel, connect_worker
from dfm.core.wire.codec import decode_request, decode_to_worker, encode_result
from dfm.core.wire.frame import ProtocolError
from dfm.core.wire.messages import Result, Run, ToWorker
from dfm.core.worker.memory import OutOfMemoryCounter
from dfm.core.worker.session import (
    BodyEnded,
    BodyStarted,
    Connect,
    Connected,
    Disconnected,
    Heard,
    Identity,
    Jitter,
    Leave,
    Say,
    Session,
    SessionAction,
    SessionEvent,
    Start,
    StopBody,
    Tick,
    Told,
    Unreachable,
)

TICK_SECONDS = 0.25
STOP_SECONDS = 8.0
"""The longest that bodies may take to end when the worker goes; then they are killed."""
FAREWELL_SECONDS = 1.0
_SHELL_NOT_FOUND = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where a worker keeps what it needs.

    Attributes:
        access_path: of the access file; read anew before every connection, for the daemon may have moved.
        scratch: directory of its own, on this host.
        run_token: marks all its bodies.
    """

    access_path: str
    scratch: str
    run_token: str


class Worker:
    """One worker process.

    Args:
        identity: what it says of itself.
        place: where it keeps what it needs.
        tell: writes one line to its log.
    """

    def __init__(self, identity: Identity, place: WorkerPlace, tell: Callable[[str], None]) -> None:
        self._identity = identity
        self._place = place
        self._tell = tell
        self._session = Session(identity, boot_time(), Jitter(zlib.crc32(identity.incarnation.encode())))
        self._trees = ProcessTrees(run_token=place.run_token)
        self._tokens = TokenServer(identity.cores, place.run_token)
        self._oom = OutOfMemoryCounter()
        self._bodies: BodyRunner | None = None
        self._channel: Channel | None = None
        self._attempts: dict[int, asyncio.Task[None]] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._left: asyncio.Future[str] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._pending_signal: str | None = None

    async def run(self) -> str:
        """Work until there is a reason to go, and return it. Nothing of what was run is left."""
        loop = asyncio.get_running_loop()
        self._left = loop.create_future()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._tokens)
            await stack.enter_async_context(self._trees)
            self._bodies = BodyRunner(self._trees, write_bin_dir(self._place.scratch))
            group = self._group = await stack.enter_async_context(asyncio.TaskGroup())
            ticking = group.create_task(self._tick())
            self._do(self._session.begin())
            if self._pending_signal is not None:
                self._feed(Told(self._pending_signal))
            reason = await self._left
            ticking.cancel()
            if self._connecting is not None:
                self._connecting.cancel()
            await self._stop_bodies()
            await self._hang_up()
        return reason

    def told(self, reason: str) -> None:
        """Be told to go by a signal; a second one kills at once."""
        self._tell(f"was told to go ({reason})")
        if self._group is None:
            self._pending_signal = reason
            return
        if self._left is not None and self._left.done():
            self._trees.kill_all()
        self._feed(Told(reason))

    def _feed(self, event: SessionEvent) -> None:
        self._do(self._session.handle(event, boot_time()))

    def _do(self, actions: list[SessionAction]) -> None:
        for action in actions:
            match action:
                case Say(message):
                    if self._channel is not None:
                        self._channel.send(message)
                case Start(run, variables):
                    self._start(run, variables)
                case StopBody(attempt, is_urgent):
                    self._stop(attempt, is_urgent=is_urgent)
                case Connect(after_seconds):
                    self._connect(after_seconds)
                case Leave(reason):
                    assert self._left is not None
                    if not self._left.done():
                        self._left.set_result(reason)

    # The link.

    def _connect(self, after_seconds: float) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.on_closed = lambda _: None
            channel.on_messages = lambda _: None
            channel.abort("looking for the daemon anew")
        if self._connecting is not None and not self._connecting.done():
            return
        assert self._group is not None
        self._connecting = self._group.create_task(self._look_for_daemon(after_seconds))

    async def _look_for_daemon(self, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        try:
            access = read_access(self._place.access_path)
            channel = await connect_worker(
                access, self._identity.slot, self._identity.version, decode_to_worker, self._tell
            )
        except DfmError as error:
            self._connecting = None
            self._feed(Unreachable(error.message))
            return
        self._connecting = None
        self._tell(f"connected to {channel.peer}, epoch {access.epoch}")
        self._channel = channel
        channel.on_messages = self._hear
        channel.on_closed = self._closed
        self._feed(Connected())

    def _hear(self, messages: list[ToWorker]) -> None:
        for message in messages:
            self._feed(Heard(message))

    def _closed(self, why: str) -> None:
        self._channel = None
        self._tell(f"the link to the daemon is gone: {why}")
        self._feed(Disconnected(why))

    async def _hang_up(self) -> None:
        """Let the last words leave."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        closed = asyncio.Event()
        channel.on_closed = lambda _: closed.set()
        channel.close("the worker leaves")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await closed.wait()

    # Bodies.

    def _start(self, run: Run, variables: Mapping[bytes, bytes]) -> None:
        assert self._group is not None
        self._attempts[run.attempt] = self._group.create_task(self._attempt(run, variables))

    def _stop(self, attempt: int, *, is_urgent: bool) -> None:
        task = self._attempts.get(attempt)
        if task is not None:
            task.cancel()
            if is_urgent:
                asyncio.get_running_loop().call_soon(task.cancel)

    async def _attempt(self, run: Run, variables: Mapping[bytes, bytes]) -> None:
        try:
            result = await self._result(run, variables)
        except asyncio.CancelledError:
            result = Result(attempt=run.attempt, outcome="cancelled", body=b"")
        self._attempts.pop(run.attempt, None)
        self._feed(BodyEnded(result))

    async def _result(self, run: Run, variables: Mapping[bytes, bytes]) -> Result:
        """Run one attempt and return what came of it, whatever came of it."""
        assert self._bodies is not None
        try:
            request = decode_request(run.spec, variables, attempt=run.number)
        except ProtocolError as error:
            return _failed(run, f"the request cannot be read: {error}", is_infrastructure=False)
        lease = await self._tokens.acquire()
        is_clean = False
        kills = self._oom.count()
        try:
            self._feed(BodyStarted(run.attempt))
            async with asyncio.timeout(run.wall_seconds):
                result = await self._bodies.run(request, lease)
            is_clean = result.outcome is Outcome.SUCCEEDED
        except TimeoutError:
            return _failed(run, f"walltime of {run.wall_seconds:g} s exceeded", is_infrastructure=False)
        except InfrastructureError as error:
            return _failed(run, error.message, is_infrastructure=True)
        finally:
            self._tokens.release(lease, is_clean=is_clean)
        is_killed = result.status == 128 + 9
        try:
            body = encode_result(result)
        except (TypeError, ValueError, RecursionError) as error:
            return _failed(run, f"the result cannot be sent: {error}", is_infrastructure=False)
        return Result(
            attempt=run.attempt,
            outcome=str(result.outcome),
            body=body,
            is_out_of_memory=is_killed and self._oom.count() > kills,
            is_infrastructure=_is_of_the_host(result),
        )

    async def _stop_bodies(self) -> None:
        """Stop what runs: politely, then not."""
        for task in self._attempts.values():
            task.cancel()
        if self._attempts:
            _, left = await asyncio.wait(list(self._attempts.values()), timeout=STOP_SECONDS)
            for task in left:
                task.cancel()
            self._trees.kill_all()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._feed(Tick())


def boot_time() -> float:
    """Return seconds on a clock that goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _failed(run: Run, cause: str, *, is_infrastructure: bool) -> Result:
    result = TaskResult(outcome=Outcome.FAILED, cause=cause, status=1, host=os.uname().nodename)
    return Result(
        attempt=run.attempt,
        outcome=str(result.outcome),
        body=encode_result(result),
        is_infrastructure=is_infrastructure,
    )


def _is_of_the_host(result: TaskResult) -> bool:
    """Whether a body could not be started for reasons of this host, so that another may do better."""
    words = (os.strerror(errno.ENOSPC), os.strerror(errno.ESTALE), os.strerror(errno.EIO))
    is_not_started = result.status == _SHELL_NOT_FOUND and not result.commands
    return is_not_started or (
        result.outcome is Outcome.FAILED and result.cause is not None and any(word in result.cause for word in words)
    )
