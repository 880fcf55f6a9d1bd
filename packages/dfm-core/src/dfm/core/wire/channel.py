"""Links between processes: TCP with the handshake of DFM-AUTH/1, Unix sockets with the kernel's word for the peer.

What is sent in one turn of the event loop goes out together. A peer that does not read is not waited for: when more
than QUEUE_BYTES wait for it, its link is closed. A dead host is noticed by keep-alive and TCP_USER_TIMEOUT, a silent
peer by whoever holds the link, with `heard_at`.

Strangers cost little: at most MAX_HANDSHAKES at once, HANDSHAKE_SECONDS each, no answer that tells them anything, and
one line of log a minute at most.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from dfm.api.errors import RunnerError
from dfm.core.wire.access import Access
from dfm.core.wire.exchange import Decoder, encode
from dfm.core.wire.frame import MAX_FRAME_BYTES, FrameReader, FrameWriter, ProtocolError
from dfm.core.wire.handshake import (
    CAN_TLS,
    KEY_BYTES,
    NONCE_BYTES,
    ConnectingSide,
    HandshakeError,
    Identity,
    ListeningSide,
    PlainLinkError,
    Session,
    VersionError,
    as_packet,
    check_greeting,
    greeting,
    packet_length,
    slot_key,
)
from dfm.core.wire.messages import Message
from dfm.core.wire.tls import TLS_HINT, can_tls, tls_context

HANDSHAKE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
MAX_HANDSHAKES = 64
BACKLOG = 2048
QUEUE_BYTES = 64 * 1024 * 1024
"""What may wait for a slow reader; one message more than that may be on top."""
_BATCH_MESSAGES = 512
_NOTE_SECONDS = 60.0
_NO_DESCRIPTOR_SECONDS = 1.0
_KEEP_IDLE, _KEEP_INTERVAL, _KEEP_COUNT, _USER_TIMEOUT_MS = 10, 5, 3, 20_000
_PEER_CREDENTIALS = struct.Struct("3i")

_log = logging.getLogger(__name__)


class Peer(Protocol):
    """Whoever holds an end of a link. Called from the event loop; nothing here may block."""

    @property
    def decoder(self) -> Decoder:
        """Reads what the other end says; of `exchange`."""

    def on_messages(self, messages: list[Message]) -> None:
        """Take in what the other end said, in its order."""

    def on_closed(self, reason: str) -> None:
        """The link is gone, once and for good; empty where we closed it ourselves."""


class ConnectError(RunnerError):
    """No address of the daemon could be reached.

    Attributes:
        refused_at: the addresses at which somebody said that nobody listens. That tells something of the daemon only
            where it was found before: an address such as the loopback is another host to everybody.
    """

    def __init__(self, message: str, *, hint: str | None = None, refused_at: Collection[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.refused_at = refused_at


class Channel(asyncio.Protocol):
    """One open link.

    Attributes:
        slot: which slot the other end has proved; empty on a Unix socket and on the worker's own end.
        address: of the other end, for logs.
        peer_version: of the other end's distribution.
        heard_at: when bytes last came, on the loop's clock.
    """

    def __init__(self, session: Session | None, *, slot: str = "", address: str = "", peer_version: str = "") -> None:
        self.slot = slot
        self.address = address
        self.peer_version = peer_version
        self.heard_at = 0.0
        self._writer = FrameWriter(None if session is None else session.sends)
        self._reader = FrameReader(None if session is None else session.receives)
        self._peer: Peer | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outbox: list[Message] = []
        self._is_scheduled = False
        self._is_closed = False
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Whether something that is sent now may still arrive."""
        return not self._is_closed

    def attach(self, peer: Peer) -> None:
        """Say who holds this end; before the link is opened."""
        self._peer = peer

    def detach(self) -> None:
        """Tell the holder nothing more, not even the end."""
        self._peer = None

    def send(self, *messages: Message) -> None:
        """Send messages, together with all that is sent in this turn of the loop; on a closed link they are dropped."""
        if self._is_closed:
            return
        self._outbox += messages
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what is still to be sent, then close; `on_closed` is called with an empty reason."""
        if not self._is_closed:
            self._flush()
            self._is_closed = True
            if self._transport is not None:
                self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once; `on_closed` is called with the reason."""
        if not self._is_closed:
            self._is_closed = True
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.heard_at = self._loop.time()
        if self._is_closed:
            transport.abort()
        else:
            self._flush()

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        self.heard_at = self._loop.time()
        try:
            for payload in self._reader.feed(data):
                if self._peer is not None and not self._is_closed:
                    self._peer.on_messages(self._peer.decoder(payload))
        except ProtocolError as error:
            self.abort(error.message)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._reason = self._why_lost(error)
        self._outbox.clear()
        if self._peer is not None:
            peer, self._peer = self._peer, None
            peer.on_closed(self._reason)

    def _why_lost(self, error: Exception | None) -> str:
        if isinstance(error, OSError):
            return f"the link broke: {error.strerror or error}"
        if error is not None:
            return f"the link broke: {error}"
        return "the other end has closed" if self._reader.is_between_payloads else "the other end broke off"

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._is_closed or self._transport is None or not self._outbox:
            return
        messages, self._outbox = self._outbox, []
        waiting = self._transport.get_write_buffer_size()
        if waiting > QUEUE_BYTES:
            self.abort(f"the other end does not read: {waiting} bytes wait for it")
            return
        try:
            self._transport.write(self._writer.pack(_payloads(messages)))
        except ProtocolError as error:
            self.abort(error.message)


def _payloads(messages: Sequence[Message]) -> Iterable[bytes]:
    """Join messages into payloads that fit a frame where they can."""
    if len(messages) == 1:
        yield encode(messages)
        return
    for start in range(0, len(messages), _BATCH_MESSAGES):
        batch = messages[start : start + _BATCH_MESSAGES]
        payload = encode(batch)
        if len(payload) <= MAX_FRAME_BYTES:
            yield payload
        else:
            yield from (encode([message]) for message in batch)


Accept = Callable[[Channel], Peer]
"""Called with each link that has proved itself; returns who holds our end."""


class Refusals(msgspec.Struct):
    """How many were turned away, told at most once a minute."""

    count: int = 0
    last_reason: str = ""
    _told_at: float = float("-inf")
    _told_count: int = 0

    def add(self, reason: str, now: float) -> None:
        """Count one."""
        self.count += 1
        self.last_reason = reason
        if now - self._told_at >= _NOTE_SECONDS:
            _log.warning("%d connections refused, the last: %s", self.count - self._told_count, reason)
            self._told_at, self._told_count = now, self.count


class Listener:
    """Accepts links at a listening socket, of `listen_tcp` or `listen_unix`, until `run` is cancelled.

    Args:
        sockets: listening, non-blocking; closed when `run` ends.
        accept: takes in a link.
        identity: what we tell of ourselves.
        keys: the own key of a slot that may connect (`slot_key`), None for others; unused on Unix sockets.
        daemon_id: as in the access file.
        is_encrypted: as in the access file; Unix sockets never are.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        accept: Accept,
        identity: Identity,
        keys: Callable[[str], bytes | None],
        daemon_id: bytes,
        *,
        is_encrypted: bool = False,
    ) -> None:
        self.refusals = Refusals()
        self._sockets = sockets
        self._accept = accept
        self._identity = identity
        self._keys = keys
        self._daemon_id = daemon_id
        self._is_encrypted = is_encrypted

    async def run(self) -> None:
        """Accept until cancelled. Open links live on; they belong to whoever accepted them."""
        turns = asyncio.Semaphore(MAX_HANDSHAKES)
        try:
            async with asyncio.TaskGroup() as group:
                for listening in self._sockets:
                    group.create_task(self._accept_all(listening, turns, group))
        finally:
            self.close()

    def close(self) -> None:
        """Close the sockets: for where `run` is cancelled before it has begun, and so before it could close them."""
        for listening in self._sockets:
            listening.close()

    async def _accept_all(self, listening: socket.socket, turns: asyncio.Semaphore, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await turns.acquire()
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                turns.release()
                self.refusals.add(f"cannot accept: {error.strerror}", loop.time())
                await asyncio.sleep(_NO_DESCRIPTOR_SECONDS if error.errno in (errno.EMFILE, errno.ENFILE) else 0)
            except asyncio.CancelledError:
                turns.release()
                raise
            else:
                group.create_task(self._take_in(connection, turns))

    async def _take_in(self, connection: socket.socket, turns: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._open(connection)
        except TimeoutError:
            self._refuse(connection, f"no proof within {HANDSHAKE_SECONDS:.0f} s")
        except (RunnerError, OSError) as error:
            self._refuse(connection, str(error))
        except BaseException:
            connection.close()
            raise
        finally:
            turns.release()

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003  (the standard library's signature)
        is_unix = connection.family == socket.AF_UNIX
        channel, session = await (self._greet(connection) if is_unix else self._prove(connection))
        if session is not None and session.tls is None and self._is_encrypted:
            raise PlainLinkError(f"the worker of slot {session.slot} cannot encrypt its link")
        channel.attach(self._accept(channel))
        loop = asyncio.get_running_loop()
        context = None if session is None or session.tls is None else tls_context(session.tls, is_server=True)
        await loop.connect_accepted_socket(lambda: channel, connection, ssl=context)

    async def _greet(self, connection: socket.socket) -> tuple[Channel, None]:
        check_credentials(connection)
        await _send_packet(connection, greeting(self._identity))
        version = check_greeting(await _read_packet(connection), self._identity)
        return Channel(None, address="local", peer_version=version), None

    async def _prove(self, connection: socket.socket) -> tuple[Channel, Session]:
        _set_options(connection)
        side = ListeningSide(
            self._keys,
            self._identity,
            self._daemon_id,
            secrets.token_bytes(NONCE_BYTES),
            secrets.token_bytes(KEY_BYTES),
        )
        await _send_packet(connection, side.answer(await _read_packet(connection)))
        session = side.finish(await _read_packet(connection))
        address = _shown(connection.getpeername())
        return Channel(session, slot=session.slot, address=address, peer_version=session.peer_version), session

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        self.refusals.add(reason, asyncio.get_running_loop().time())
        connection.close()


def listen_tcp(bind: Sequence[str], port: int) -> list[socket.socket]:
    """Return listening sockets: at each of the addresses, at every interface where there is none; all of one port.

    Raises:
        RunnerError: an address is not one of this host, or the port is taken.
    """
    found: list[socket.socket] = []
    address = ""
    try:
        for address in bind or ("",):
            found.append(_listening(address, port if not found else found[0].getsockname()[1]))
    except OSError as error:
        for opened in found:
            opened.close()
        raise RunnerError(f"cannot listen at {address or 'any address'} port {port}: {error.strerror}") from error
    return found


def listen_unix(path: str) -> socket.socket:
    """Return a listening Unix socket, made anew; its directory is the caller's to keep private.

    Raises:
        RunnerError: it cannot be made.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listening.setblocking(False)  # noqa: FBT003  (the standard library's signature)
        listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise RunnerError(f"cannot make the socket {path}: {error.strerror or error}") from error
    return listening


def own_identity(version: str) -> Identity:
    """Return what this process tells of itself."""
    return Identity(version=version, abilities=CAN_TLS if can_tls() else 0)


async def connect(
    access: Access, slot: str, peer: Peer, identity: Identity, note: Callable[[str], None] = lambda _: None
) -> Channel:
    """Open a link to the daemon of an access file: its addresses in their order, each for CONNECT_SECONDS.

    Args:
        access: of `read_access`.
        slot: which slot we are.
        peer: who holds our end.
        identity: of `own_identity`.
        note: is told of each address, for the log.

    Raises:
        ConnectError: no address led to the daemon; the message lists them all.
        VersionError: the daemon speaks another protocol.
        PlainLinkError: the link must be encrypted, and this Python cannot.
    """
    if access.is_encrypted and not can_tls():
        raise PlainLinkError("links to this daemon must be encrypted, and this Python cannot", hint=TLS_HINT)
    tried: list[str] = []
    refused_at: list[str] = []
    for address in access.addresses:
        note(f"trying {address} port {access.port}")
        try:
            return await _connect_at(address, access, slot, peer, identity)
        except VersionError:
            raise
        except TimeoutError:
            tried.append(f"{address}: no answer within {CONNECT_SECONDS + HANDSHAKE_SECONDS:.0f} s")
        except OSError as error:
            refused_at += [address] if isinstance(error, ConnectionRefusedError) else []
            tried.append(f"{address}: {error.strerror or error}")
        except RunnerError as error:
            tried.append(f"{address}: {error.message}")
        note(tried[-1])
    text = f"cannot reach the daemon at port {access.port}: {'; '.join(tried)}"
    raise ConnectError(text, refused_at=refused_at)


async def connect_unix(path: str, peer: Peer, identity: Identity) -> Channel:
    """Open a link to the daemon's Unix socket.

    Raises:
        ConnectError: nobody listens there, or somebody else does.
        VersionError: the daemon speaks another protocol.
    """
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # noqa: FBT003  (the standard library's signature)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await loop.sock_connect(connection, path)
            check_credentials(connection)
            await _send_packet(connection, greeting(identity))
            version = check_greeting(await _read_packet(connection), identity)
            channel = Channel(None, address=path, peer_version=version)
            channel.attach(peer)
            await loop.create_connection(lambda: channel, sock=connection)
    except VersionError:
        connection.close()
        raise
    except (OSError, RunnerError) as error:
        connection.close()
        reason = "no answer" if isinstance(error, TimeoutError) else str(error)
        raise ConnectError(f"cannot reach the daemon at {path}: {reason}") from error
    except BaseException:
        connection.close()
        raise
    return channel


def check_credentials(connection: socket.socket) -> None:
    """See that the process at the other end of a Unix socket is ours.

    Raises:
        HandshakeError: it is another user's.
    """
    content = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, _ = _PEER_CREDENTIALS.unpack(content)
    if uid != os.geteuid():
        raise HandshakeError(f"the process at the other end belongs to user {uid}")


async def _connect_at(address: str, access: Access, slot: str, peer: Peer, identity: Identity) -> Channel:
    loop = asyncio.get_running_loop()
    connection = await _connected(address, access.port)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            session = await _prove_to(connection, access, slot, identity)
            channel = Channel(session, address=f"{address}:{access.port}", peer_version=session.peer_version)
            channel.attach(peer)
            context = None if session.tls is None else tls_context(session.tls, is_server=False)
            await loop.create_connection(
                lambda: channel, sock=connection, ssl=context, server_hostname=None if context is None else ""
            )
    except BaseException:
        connection.close()
        raise
    return channel


async def _prove_to(connection: socket.socket, access: Access, slot: str, identity: Identity) -> Session:
    side = ConnectingSide(
        slot_key(access.key, slot), slot, identity, secrets.token_bytes(NONCE_BYTES), access.daemon_id
    )
    await _send_packet(connection, side.hello())
    proof, session = side.answer(await _read_packet(connection))
    if session.tls is None and access.is_encrypted:
        raise PlainLinkError("links to this daemon must be encrypted, and the daemon does not")
    await _send_packet(connection, proof)
    return session


async def _connected(address: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    last: OSError = OSError(errno.EADDRNOTAVAIL, "no such host")
    async with asyncio.timeout(CONNECT_SECONDS):
        found = _numeric(address, port) or await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, where in found:
            connection = socket.socket(family, kind, protocol)
            connection.setblocking(False)  # noqa: FBT003  (the standard library's signature)
            try:
                await loop.sock_connect(connection, where)
            except OSError as error:
                connection.close()
                last = error
            except BaseException:
                connection.close()
                raise
            else:
                _set_options(connection)
                return connection
    raise last


def _numeric(address: str, port: int) -> Sequence[Any]:
    """Resolve what is a number already without a thread."""
    try:
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []


async def _read_packet(connection: socket.socket) -> bytes:
    return await _read_exactly(connection, packet_length(await _read_exactly(connection, 2)))


async def _read_exactly(connection: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    content = b""
    while len(content) < count:
        part = await loop.sock_recv(connection, count - len(content))
        if not part:
            raise HandshakeError("the other end closed during the handshake")
        content += part
    return content


async def _send_packet(connection: socket.socket, content: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, as_packet(content))


def _listening(address: str, port: int) -> socket.socket:
    if not address and socket.has_dualstack_ipv6():
        listening = socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    else:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = socket.create_server((address, port), family=family, backlog=BACKLOG)
    listening.setblocking(False)  # noqa: FBT003  (the standard library's signature)
    return listening


def _set_options(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_IDLE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_INTERVAL)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_COUNT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def _shown(address: tuple[object, ...]) -> str:
    return f"{address[0]}:{address[1]}"
