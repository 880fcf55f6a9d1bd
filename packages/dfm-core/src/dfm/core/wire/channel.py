"""Links in an event loop: TCP between workers and daemon, a Unix socket between clients and daemon.

What is said in one turn of the loop leaves as one frame. Who does not prove in time who it is, sends anything else, or
does not read what it is sent is hung up on. Strangers cost one line in the log a minute, however many they are.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dfm.api.errors import RunnerError
from dfm.core.wire.access import Access
from dfm.core.wire.codec import encode_messages
from dfm.core.wire.frame import FrameReader, FrameWriter, ProtocolError
from dfm.core.wire.handshake import (
    MAX_HANDSHAKE_BYTES,
    NONCE_BYTES,
    ClientHandshake,
    HandshakeError,
    ServerHandshake,
    SessionKeys,
    slot_key,
)
from dfm.core.wire.messages import Message

HANDSHAKE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
MAX_HANDSHAKES = 64
BACKLOG = 2048
MAX_UNREAD_BYTES = 512 * 1024 * 1024
"""What a peer may leave unread before it is hung up on: two of the largest messages."""
_COMPLAINT_SECONDS = 60.0
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000))
_PEER = struct.Struct("3i")

Decode = Callable[[bytes], list[Any]]
_log = logging.getLogger(__name__)


class Channel:
    """A link whose peer is known. `on_messages` and `on_closed` are set by whoever is given the channel, at once.

    Attributes:
        on_messages: called with what came together, in order; what it raises closes the link.
        on_closed: called once, with the reason.
    """

    def __init__(self, transport: asyncio.Transport, writer: FrameWriter, reader: FrameReader, decode: Decode) -> None:
        self._transport = transport
        self._writer = writer
        self._reader = reader
        self._decode = decode
        self._unsent: list[Message] = []
        self._reason: str | None = None
        self._loop = asyncio.get_running_loop()
        self.on_messages: Callable[[list[Any]], None] = lambda _: None
        self.on_closed: Callable[[str], None] = lambda _: None

    @property
    def is_open(self) -> bool:
        """Whether anything that is said can still arrive."""
        return self._reason is None

    @property
    def peer(self) -> str:
        """Where the other end is, for people."""
        name = self._transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "this host"

    def send(self, message: Message) -> None:
        """Say something: it leaves at the end of this turn of the loop, with what else is said until then."""
        if self._reason is not None:
            return
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(message)

    def flush(self) -> None:
        """Let what was said leave now."""
        if not self._unsent or self._reason is not None:
            return
        messages, self._unsent = self._unsent, []
        try:
            self._transport.write(self._writer.pack(encode_messages(messages)))
        except ProtocolError:
            self._send_singly(messages)
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.close("the other end does not read")

    def close(self, reason: str) -> None:
        """Let what was said leave, and hang up."""
        if self._reason is None:
            self.flush()
            self._reason = reason
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Hang up at once."""
        if self._reason is None:
            self._reason = reason
            self._transport.abort()

    def received(self, data: bytes) -> None:
        """Take in what came; the protocol calls this."""
        try:
            for body in self._reader.feed(data):
                self.on_messages(self._decode(body))
        except ProtocolError as error:
            self.abort(str(error))

    def lost(self, error: BaseException | None) -> None:
        """Be told that the link is gone; the protocol calls this."""
        reason = self._reason or ("the other end hung up" if error is None else str(error))
        self._reason = reason
        self.on_closed(reason)

    def _send_singly(self, messages: Sequence[Message]) -> None:
        """Send what is too large together one by one; one that is too large by itself closes the link."""
        try:
            for message in messages:
                self._transport.write(self._writer.pack(encode_messages([message])))
        except ProtocolError as error:
            self.abort(str(error))


@dataclass(slots=True)
class _Strangers:
    """Counts those who were hung up on before they were known, and says so now and then."""

    count: int = 0
    told_at: float = 0.0

    def met(self, why: str) -> None:
        """Count one."""
        self.count += 1
        now = time.monotonic()
        if now - self.told_at >= _COMPLAINT_SECONDS:
            self.told_at = now
            _log.warning("%d connections by strangers so far, the last one: %s", self.count, why)


@dataclass(slots=True)
class WorkerServer:
    """Listens for workers; each that proves its slot becomes a channel.

    Attributes:
        knows: whether a slot may connect now.
        on_worker: given the channel and the slot that was proved.
    """

    daemon_id: bytes
    key: bytes
    version: str
    decode: Decode
    knows: Callable[[str], bool]
    on_worker: Callable[[Channel, str], None]
    strangers: _Strangers = field(default_factory=_Strangers)
    handshakes: int = 0
    _servers: list[asyncio.Server] = field(default_factory=list)
    _links: "set[_ServerLink]" = field(default_factory=set)

    async def listen(self, hosts: Sequence[str], port: int) -> int:
        """Listen at these addresses, or at every interface where there are none, and return the port.

        Raises:
            RunnerError: the addresses or the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            for host in hosts or ("",):
                listener = _listener(host, port)
                port = listener.getsockname()[1]
                server = await loop.create_server(lambda: _ServerLink(self), sock=listener, backlog=BACKLOG)
                self._servers.append(server)
        except OSError as error:
            await self.close()
            raise RunnerError(f"cannot listen for workers at {', '.join(hosts) or 'any address'}: {error}") from error
        return port

    async def close(self) -> None:
        """Listen no more and hang up on everybody; waits for nobody."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for link in list(self._links):
            link.hang_up("the daemon stops")

    def slot_key(self, slot: str) -> bytes:
        """Return the key of a slot; one that nobody knows for a slot that may not connect."""
        return slot_key(self.key, slot) if self.knows(slot) else secrets.token_bytes(32)


class _ServerLink(asyncio.Protocol):
    """One connection to the daemon: a stranger first, then a channel."""

    def __init__(self, server: WorkerServer) -> None:
        self._server = server
        self._handshake = ServerHandshake(server.daemon_id, server.version, secrets.token_bytes(NONCE_BYTES))
        self._reader = FrameReader(None, MAX_HANDSHAKE_BYTES)
        self._writer = FrameWriter(None)
        self._slot: str | None = None
        self._channel: Channel | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server._links.add(self)  # noqa: SLF001  (two halves of one thing)
        if self._server.handshakes >= MAX_HANDSHAKES:
            transport.abort()
            return
        self._server.handshakes += 1
        _tune(transport.get_extra_info("socket"))
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._refuse, "it said nothing for long")

    def data_received(self, data: bytes) -> None:
        if self._channel is None:
            data = self._shake(data)
        if self._channel is not None and data:
            self._channel.received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server._links.discard(self)  # noqa: SLF001  (two halves of one thing)
        self._settled()
        if self._channel is not None:
            self._channel.lost(exc)

    def hang_up(self, reason: str) -> None:
        """Close the connection, whatever it is."""
        if self._channel is not None:
            self._channel.close(reason)
        else:
            self._transport.abort()

    def _shake(self, data: bytes) -> bytes:
        """Go on with the handshake; return what came behind it, which is for the channel."""
        try:
            while bodies := self._reader.feed(data, most=1):
                data = b""
                self._step(bodies[0])
                if self._channel is not None:
                    return self._reader.rest
        except ProtocolError as error:
            self._refuse(str(error))
        return b""

    def _step(self, body: bytes) -> None:
        """Go on with the handshake; there is a channel once the peer has proved its slot."""
        if self._slot is None:
            self._slot = self._handshake.slot(body)
            answer = self._handshake.answer(self._server.slot_key(self._slot))
            self._transport.write(self._writer.pack(answer))
            return
        keys = self._handshake.accept(body)
        self._settled()
        reader = FrameReader(keys.to_server)
        self._channel = Channel(self._transport, FrameWriter(keys.to_client), reader, self._server.decode)
        self._server.on_worker(self._channel, self._slot)

    def _refuse(self, why: str) -> None:
        self._server.strangers.met(why)
        self._transport.abort()

    def _settled(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._server.handshakes -= 1


class _ClientLink(asyncio.Protocol):
    """One connection of a worker: the handshake, then a channel."""

    def __init__(self, handshake: ClientHandshake, decode: Decode) -> None:
        self._handshake = handshake
        self._decode = decode
        self._reader = FrameReader(None, MAX_HANDSHAKE_BYTES)
        self._writer = FrameWriter(None)
        self._channel: Channel | None = None
        self.ready: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        _tune(transport.get_extra_info("socket"))
        transport.write(self._writer.pack(self._handshake.hello()))

    def data_received(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.received(data)
            return
        try:
            for body in self._reader.feed(data, most=1):
                self._finish(self._handshake.prove(body))
        except ProtocolError as error:
            self._fail(error)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._channel is not None:
            self._channel.lost(exc)
        else:
            self._fail(HandshakeError("it hung up; the slot is not known there, or the key is not its own"))

    def _finish(self, proof: bytes) -> None:
        self._transport.write(self._writer.pack(proof))
        keys: SessionKeys = self._handshake.keys()
        self._channel = Channel(self._transport, FrameWriter(keys.to_server), FrameReader(keys.to_client), self._decode)
        if not self.ready.done():
            self.ready.set_result(self._channel)

    def _fail(self, error: ProtocolError) -> None:
        self._transport.abort()
        if not self.ready.done():
            self.ready.set_exception(error)


async def connect_worker(
    access: Access, slot: str, version: str, decode: Decode, tell: Callable[[str], None]
) -> Channel:
    """Return a channel to the daemon, by the first address that leads to it.

    Args:
        access: as the access file has it now.
        slot: the slot of this worker.
        version: of DFM, for people.
        decode: of what comes.
        tell: is told of every try, for the worker's log.

    Raises:
        RunnerError: none does; the error tells of each.
    """
    failures = []
    for address in access.addresses:
        handshake = ClientHandshake(slot_key(access.key, slot), slot, version, secrets.token_bytes(NONCE_BYTES))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await _connected(address, access.port, handshake, decode)
        except (OSError, ProtocolError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            failures.append(f"{address}:{access.port}: {why}")
            tell(f"cannot reach the daemon at {failures[-1]}")
    raise RunnerError(f"cannot reach the daemon: {'; '.join(failures) or 'the access file names no address'}")


async def _connected(address: str, port: int, handshake: ClientHandshake, decode: Decode) -> Channel:
    loop = asyncio.get_running_loop()
    transport, link = await loop.create_connection(lambda: _ClientLink(handshake, decode), address, port)
    try:
        return await link.ready
    except BaseException:
        transport.abort()
        raise


class _LocalLink(asyncio.Protocol):
    """A connection over a Unix socket: the kernel has named the peer, there is no handshake."""

    def __init__(self, decode: Decode, on_channel: Callable[[Channel], None]) -> None:
        self._decode = decode
        self._on_channel = on_channel
        self._channel: Channel | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("socket")
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in (os.geteuid(), 0):
            transport.abort()
            return
        self._channel = Channel(transport, FrameWriter(None), FrameReader(None), self._decode)
        self._on_channel(self._channel)

    def data_received(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._channel is not None:
            self._channel.lost(exc)


async def serve_local(path: str, decode: Decode, on_channel: Callable[[Channel], None]) -> asyncio.Server:
    """Listen at a Unix socket that only this user can reach, in the place of one that nobody serves any more."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise RunnerError(f"cannot make the socket {path}: {error}") from error
    finally:
        os.umask(mask)
    return await asyncio.get_running_loop().create_unix_server(lambda: _LocalLink(decode, on_channel), sock=listener)


async def connect_local(path: str, decode: Decode) -> Channel:
    """Return a channel to whoever serves the socket.

    Raises:
        OSError: nobody does.
        RunnerError: it is somebody else's.
    """
    loop = asyncio.get_running_loop()
    made: list[Channel] = []
    await loop.create_unix_connection(lambda: _LocalLink(decode, made.append), path)
    if not made:
        raise RunnerError(f"the socket {path} is served by another user")
    return made[0]


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _tune(link: socket.socket) -> None:
    """Have small messages sent at once, and a peer whose host is gone noticed."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
