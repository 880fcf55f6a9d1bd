"""A TCP proxy that stalls, drips, resets and loses connections, for tests of what talks over a network.

`with FaultProxy("127.0.0.1", port) as proxy`: connect to `proxy.port` instead, then call `proxy.stall()` and so on from
the test. It runs in a thread with an event loop of its own, so that tests with and without asyncio can use it. It works
on the bytes only: nothing of the machine's network is changed, and no rights are needed.
"""

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65536
PIECES_PER_SECOND = 20
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
WAIT_SECONDS = 10.0


class Way(enum.Enum):
    """Where bytes go: UP from the one who connected to the target, DOWN back."""

    UP = "up"
    DOWN = "down"


@dataclass(eq=False, slots=True)
class _Connection:
    client: socket.socket
    target: socket.socket
    task: "asyncio.Task[None] | None" = None
    resets: bool = False
    dangling: Way | None = None


@dataclass(slots=True)
class _Pace:
    """How fast bytes pass: so many at a time, and for each byte, and after each piece, a pause."""

    piece_bytes: int = CHUNK_BYTES
    seconds_per_byte: float = 0.0
    seconds_per_piece: float = 0.0
    flows: dict[Way, asyncio.Event] = field(default_factory=lambda: {way: asyncio.Event() for way in Way})


class FaultProxy:
    """A proxy to one target; what a method does holds until another is called, for connections to come as well.

    Args:
        host: of the target.
        port: of the target; it need not listen yet.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.host = "127.0.0.1"
        self.port = 0
        self._pace = _Pace()
        self._connections: set[_Connection] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="fault proxy")
        self._is_ready = threading.Event()

    def __enter__(self) -> Self:
        self._listen()
        self._thread.start()
        self._is_ready.wait(WAIT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(WAIT_SECONDS)

    # What a test does to the network.

    def heal(self) -> None:
        """Let everything pass again at full speed, and listen; what is lost stays lost."""
        self._do(self._heal)

    def stall(self, *ways: Way) -> None:
        """Let nothing pass, one way or both; connections stay, and what was sent comes after `heal`."""
        self._do(lambda: self._stall(ways or tuple(Way)))

    def drip(self, piece_bytes: int = 1, seconds: float = 0.001) -> None:
        """Let pass so many bytes at a time, with a pause after each piece."""
        self._do(lambda: self._set_pace(piece_bytes, 0.0, seconds))

    def limit(self, bytes_per_second: float) -> None:
        """Let pass so many bytes in a second, each way of each connection."""
        piece = max(1, int(bytes_per_second / PIECES_PER_SECOND))
        self._do(lambda: self._set_pace(piece, 1 / bytes_per_second, 0.0))

    def reset(self) -> None:
        """Reset all connections, to both ends; new ones are accepted."""
        self._do(self._reset)

    def half_open(self, *, dangling: Way = Way.UP) -> None:
        """Let one end of all connections vanish without the other hearing of it.

        Args:
            dangling: UP leaves the one who connected without its target, whose connection is reset; what it sends is
                swallowed. DOWN leaves the target so.
        """
        self._do(lambda: self._half_open(dangling))

    def refuse(self) -> None:
        """Refuse new connections until `heal`; those there are go on."""
        self._do(self._refuse)

    @property
    def connections(self) -> int:
        """How many connections pass through now, without those that dangle."""
        return len(self._connections)

    # In the proxy's own thread.

    def _do(self, act: Callable[[], None]) -> None:
        """Act in the proxy's thread, and return when all that was cancelled by it has ended."""
        asyncio.run_coroutine_threadsafe(self._act(act), self._loop).result(WAIT_SECONDS)

    async def _act(self, act: Callable[[], None]) -> None:
        before = set(self._tasks)
        act()
        cancelled = {task for task in before if task.cancelling()}
        if cancelled:
            await asyncio.wait(cancelled)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen()
        listener.settimeout(0)
        self._listener, self.port = listener, listener.getsockname()[1]

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with asyncio.TaskGroup() as self._group:
            self._heal()
            self._is_ready.set()
            await self._stopping.wait()
            self._refuse()
            for task in self._tasks:
                task.cancel()
        for end in tuple(self._sockets):  # those whose task was cancelled before it began
            self._close(end)

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _heal(self) -> None:
        self._set_pace(CHUNK_BYTES, 0.0, 0.0)
        for event in self._pace.flows.values():
            event.set()
        if self._accepting is None:
            if self._listener is None:
                self._listen()
            self._accepting = self._own(self._accept())

    def _refuse(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    def _stall(self, ways: Sequence[Way]) -> None:
        for way in ways:
            self._pace.flows[way].clear()

    def _set_pace(self, piece_bytes: int, seconds_per_byte: float, seconds_per_piece: float) -> None:
        self._pace.piece_bytes = piece_bytes
        self._pace.seconds_per_byte = seconds_per_byte
        self._pace.seconds_per_piece = seconds_per_piece

    async def _accept(self) -> None:
        assert self._listener is not None
        try:
            while True:
                client, _ = await self._loop.sock_accept(self._listener)
                self._sockets.add(client)
                self._own(self._connect(client))
        finally:
            self._listener.close()
            self._listener = None

    async def _connect(self, client: socket.socket) -> None:
        connection = _Connection(client, socket.socket(), asyncio.current_task())
        self._sockets.add(connection.target)
        for end in (connection.client, connection.target):
            end.settimeout(0)
        self._connections.add(connection)
        try:
            await self._loop.sock_connect(connection.target, self._target)
            async with asyncio.TaskGroup() as pipes:
                pipes.create_task(self._pipe(connection, Way.UP))
                pipes.create_task(self._pipe(connection, Way.DOWN))
        except OSError:
            connection.resets = True  # the target refuses
        finally:
            self._connections.discard(connection)
            for way, end in ((Way.UP, connection.client), (Way.DOWN, connection.target)):
                if connection.dangling is not way:
                    self._close(end, resets=connection.resets)

    async def _pipe(self, connection: _Connection, way: Way) -> None:
        source, sink = connection.client, connection.target
        if way is Way.DOWN:
            source, sink = sink, source
        try:
            while data := await self._loop.sock_recv(source, self._pace.piece_bytes):
                await self._pass_on(data, sink, way)
            await self._pace.flows[way].wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._reset_one(connection)  # one end was reset, so the other one shall be

    async def _pass_on(self, data: bytes, sink: socket.socket, way: Way) -> None:
        while data:
            await self._pace.flows[way].wait()
            piece, data = data[: self._pace.piece_bytes], data[self._pace.piece_bytes :]
            await self._loop.sock_sendall(sink, piece)
            await asyncio.sleep(self._pace.seconds_per_piece + len(piece) * self._pace.seconds_per_byte)

    def _reset(self) -> None:
        for connection in self._connections:
            self._reset_one(connection)

    def _reset_one(self, connection: _Connection) -> None:
        connection.resets = True
        assert connection.task is not None
        connection.task.cancel()

    def _half_open(self, dangling: Way) -> None:
        for connection in self._connections:
            connection.dangling = dangling
            self._reset_one(connection)
            end = connection.client if dangling is Way.UP else connection.target
            self._own(self._swallow(end, connection.task))

    async def _swallow(self, end: socket.socket, pipes: "asyncio.Task[None] | None") -> None:
        assert pipes is not None
        await asyncio.wait({pipes})  # one reader of a socket at a time
        try:
            with contextlib.suppress(OSError):
                while await self._loop.sock_recv(end, CHUNK_BYTES):
                    pass
                await asyncio.Future()
        finally:
            self._close(end)

    def _close(self, end: socket.socket, *, resets: bool = False) -> None:
        self._sockets.discard(end)
        if resets:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        end.close()
