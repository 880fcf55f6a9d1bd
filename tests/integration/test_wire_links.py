"""Links over real sockets: who gets in, what strangers get, and what a slow reader does."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.integration.descriptors import no_descriptors

from dfm.core.wire import channel as channel_module
from dfm.core.wire.access import Access, new_key
from dfm.core.wire.channel import (
    Channel,
    ConnectError,
    Listener,
    connect,
    connect_unix,
    listen_tcp,
    listen_unix,
    own_identity,
)
from dfm.core.wire.exchange import Decoder, decode_from_worker, decode_to_worker
from dfm.core.wire.handshake import Identity, PlainLinkError, VersionError, slot_key
from dfm.core.wire.messages import Ack, Beat, Leaving, Message, Result
from dfm.core.wire.tls import can_tls

DAEMON = b"d" * 16
ME = own_identity("1")
PATIENCE = 30.0


class End:
    """One end of a link, with what it heard."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.heard: list[Message] = []
        self.closed: str | None = None
        self.channel: Channel | None = None
        self._news = asyncio.Event()

    @property
    def decoder(self) -> Decoder:
        return self._decoder

    def on_messages(self, messages: list[Message]) -> None:
        self.heard += messages
        self._news.set()

    def on_closed(self, reason: str) -> None:
        self.closed = reason
        self._news.set()

    async def has(self, count: int) -> list[Message]:
        async with asyncio.timeout(PATIENCE):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard

    async def end(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while self.closed is None:
                self._news.clear()
                await self._news.wait()
        return self.closed


class Server:
    def __init__(self, sockets: list[socket.socket], key: bytes) -> None:
        self.key = key
        self.sockets = sockets
        self.ends: list[End] = []
        self.arrived = asyncio.Event()
        self.greets = False
        self.listener = Listener(sockets, self._accept, ME, self._key_of, DAEMON)

    def access(self, *addresses: str, key: bytes | None = None, daemon: bytes = DAEMON) -> Access:
        port = self.sockets[0].getsockname()[1]
        return Access(
            project="p", epoch=1, daemon_id=daemon, addresses=addresses or ("127.0.0.1",), port=port,
            key=key or self.key,
        )  # fmt: skip

    def _key_of(self, slot: str) -> bytes | None:
        return slot_key(self.key, slot) if slot.startswith("s") else None

    def _accept(self, channel: Channel) -> End:
        end = End(decode_from_worker)
        end.channel = channel
        self.ends.append(end)
        self.arrived.set()
        if self.greets:
            channel.send(Beat(lag_seconds=1.0))
        return end


@contextlib.asynccontextmanager
async def serving(sockets: list[socket.socket], *, greets: bool = False) -> AsyncIterator[Server]:
    server = Server(sockets, new_key())
    server.greets = greets
    running = asyncio.get_running_loop().create_task(server.listener.run())
    yield server
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    for end in server.ends:
        assert end.channel is not None
        end.channel.abort("over")
    await asyncio.gather(*(end.end() for end in server.ends))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(listen_tcp(["127.0.0.1"], 0)) as opened:
        yield opened


async def joined(server: Server) -> tuple[Channel, End]:
    mine = End(decode_to_worker)
    channel = await connect(server.access(), "s1", mine, ME)
    await server.arrived.wait()
    return channel, mine


async def test_messages_arrive_both_ways_in_order(server: Server) -> None:
    channel, mine = await joined(server)
    said = [Result(attempt=number, outcome="x", body=bytes(number)) for number in range(2000)]
    channel.send(*said)
    for message in said:
        channel.send(message)
    theirs = server.ends[0]
    assert await theirs.has(4000) == said * 2
    assert theirs.channel is not None
    assert theirs.channel.slot == "s1"
    theirs.channel.send(Ack(attempt=1))
    assert await mine.has(1) == [Ack(attempt=1)]
    channel.close()
    assert await mine.end() == ""
    assert await theirs.end() == "the other end has closed"


async def test_what_the_holder_says_while_the_link_is_opened_arrives() -> None:
    async with serving(listen_tcp(["127.0.0.1"], 0), greets=True) as server:
        channel, mine = await joined(server)
        assert await mine.has(1) == [Beat(lag_seconds=1.0)]
        channel.close()
        await mine.end()


async def test_fifty_megabytes_arrive(server: Server) -> None:
    channel, mine = await joined(server)
    big = Result(attempt=1, outcome="x", body=os.urandom(50_000_000))
    channel.send(big, Beat())
    assert await server.ends[0].has(2) == [big, Beat()]
    channel.close()
    await mine.end()


async def test_what_was_sent_before_the_close_still_arrives(server: Server) -> None:
    channel, mine = await joined(server)
    channel.send(Leaving(reason="idle"))
    channel.close()
    assert await server.ends[0].has(1) == [Leaving(reason="idle")]
    await mine.end()


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("127.0.0.1", "127.0.0.2"), ("no-such-host.invalid", "127.0.0.1")]
)
async def test_addresses_that_refuse_are_told_apart_from_those_that_do_not_answer(addresses: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    access = Access(project="p", epoch=1, daemon_id=DAEMON, addresses=addresses, port=port, key=new_key())
    with pytest.raises(ConnectError) as raised:
        await connect(access, "s1", End(decode_to_worker), ME)
    assert list(raised.value.refused_at) == [address for address in addresses if address.startswith("127.")]


async def test_next_address_is_tried_and_all_are_named(server: Server) -> None:
    notes: list[str] = []
    mine = End(decode_to_worker)
    access = server.access("no-such-host.invalid", "127.0.0.1")
    channel = await connect(access, "s1", mine, ME, notes.append)
    assert notes[0] == f"trying no-such-host.invalid port {access.port}"
    assert notes[-1] == f"trying 127.0.0.1 port {access.port}"
    channel.close()
    await mine.end()


@pytest.mark.parametrize(("slot", "has_key"), [("s1", False), ("x1", True)])
async def test_wrong_key_and_unknown_slot_get_the_same_nothing(server: Server, slot: str, has_key: bool) -> None:
    access = server.access(key=None if has_key else new_key())
    with pytest.raises(ConnectError, match="does not hold the key of the access file, or does not know this slot"):
        await connect(access, slot, End(decode_to_worker), ME)
    assert server.ends == []


async def test_other_protocol_is_told_both_versions(server: Server) -> None:
    with pytest.raises(VersionError, match=r"dfm 9 \(protocol 7\).*dfm 1 \(protocol 1\)"):
        await connect(server.access(), "s1", End(decode_to_worker), Identity(version="9", protocol=7))
    assert server.ends == []


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0\0", b"\0\x05hello", b"\xff" * 5000]
)
async def test_stranger_gets_not_a_byte(server: Server, greeting: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.access().port)
    writer.write(greeting)
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        await writer.wait_closed()
    assert server.ends == []
    assert server.listener.refusals.count == 1


async def test_silent_strangers_neither_stay_nor_keep_others_out(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "HANDSHAKE_SECONDS", 0.5)
    strangers = [await asyncio.open_connection("127.0.0.1", server.access().port) for _ in range(80)]
    monkeypatch.setattr(channel_module, "CONNECT_SECONDS", PATIENCE)
    for reader, _ in strangers:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
    for _, writer in strangers:
        writer.close()
    monkeypatch.setattr(channel_module, "HANDSHAKE_SECONDS", PATIENCE)
    channel, mine = await joined(server)
    channel.close()
    await mine.end()


async def test_listener_without_descriptors_rests_between_tries_and_takes_in_who_waited(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "_NO_DESCRIPTOR_SECONDS", 0.2)
    loop = asyncio.get_running_loop()
    with socket.socket() as waiting:
        waiting.settimeout(0)
        with no_descriptors():
            began, spent = loop.time(), time.process_time()
            await loop.sock_connect(waiting, ("127.0.0.1", server.access().port))
            async with asyncio.timeout(PATIENCE):
                while server.listener.refusals.count < 4:  # noqa: ASYNC110  (a listener tells nobody that it rests)
                    await asyncio.sleep(0.01)
            assert loop.time() - began >= 3 * 0.2
            assert time.process_time() - spent < 0.5
        assert server.listener.refusals.last_reason == "cannot accept: Too many open files"
        await loop.sock_sendall(waiting, b"\0\0")
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(waiting, 1) == b""
    channel, mine = await joined(server)
    channel.close()
    await mine.end()


async def test_flood_of_strangers_is_one_line_of_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(50):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.access().port)
            writer.write(b"\0\0")
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
    assert server.listener.refusals.count == 50
    assert len([record for record in caplog.records if record.name.endswith("channel")]) == 1


async def test_forged_frame_closes_the_link(server: Server) -> None:
    channel, mine = await joined(server)
    assert channel._transport is not None
    channel._transport.write(b"\0\0\0\x05" + bytes(16) + b"\0abcd")
    assert await mine.end() == "the other end has closed"
    assert await server.ends[0].end() == "a frame does not carry the right authentication"
    assert server.ends[0].heard == []


async def test_reader_that_does_not_read_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "QUEUE_BYTES", 1_000_000)
    channel, mine = await joined(server)
    channel.send(Beat())
    await server.ends[0].has(1)
    assert server.ends[0].channel is not None
    transport = server.ends[0].channel._transport
    assert transport is not None
    transport.pause_reading()
    for _ in range(100):
        channel.send(Result(attempt=1, outcome="x", body=bytes(1_000_000)))
        await asyncio.sleep(0)
    assert "does not read" in await mine.end()


async def test_hundred_workers_connect_at_once(server: Server) -> None:
    ends = [End(decode_to_worker) for _ in range(100)]
    channels = await asyncio.gather(
        *(connect(server.access(), f"s{number}", end, ME) for number, end in enumerate(ends))
    )
    for channel in channels:
        channel.send(Beat())
    async with asyncio.timeout(PATIENCE):
        while len(server.ends) < 100:
            server.arrived.clear()
            await server.arrived.wait()
    await asyncio.gather(*(end.has(1) for end in server.ends))
    assert len({end.channel.slot for end in server.ends if end.channel}) == 100
    for channel in channels:
        channel.close()
    await asyncio.gather(*(end.end() for end in ends))


async def test_link_is_encrypted_where_both_ends_can(server: Server) -> None:
    channel, mine = await joined(server)
    assert channel._transport is not None
    assert (channel._transport.get_extra_info("ssl_object") is not None) == can_tls()
    channel.close()
    await mine.end()


async def test_link_that_must_be_encrypted_is_or_is_not_opened_by_either_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.listener._is_encrypted = True
    plain = Identity(version="1", abilities=0)
    mine = End(decode_to_worker)
    with contextlib.suppress(ConnectError):
        await connect(server.access(), "s1", mine, plain)
        await mine.end()
    wanted = msgspec.structs.replace(server.access(), is_encrypted=True)
    monkeypatch.setattr("dfm.core.wire.channel.can_tls", lambda: False)
    with pytest.raises(PlainLinkError, match="this Python cannot"):
        await connect(wanted, "s1", End(decode_to_worker), plain)
    monkeypatch.setattr("dfm.core.wire.channel.can_tls", lambda: True)
    with pytest.raises(PlainLinkError, match="the daemon does not"):
        await connect(wanted, "s1", End(decode_to_worker), plain)
    assert server.ends == []


@pytest.mark.skipif(not can_tls(), reason="this Python cannot TLS")
async def test_link_that_must_be_encrypted_is(server: Server) -> None:
    server.listener._is_encrypted = True
    mine = End(decode_to_worker)
    channel = await connect(msgspec.structs.replace(server.access(), is_encrypted=True), "s1", mine, ME)
    await server.arrived.wait()
    channel.send(Beat(load=1.0))
    assert await server.ends[0].has(1) == [Beat(load=1.0)]
    channel.close()
    await mine.end()


async def test_unix_socket_needs_no_key_and_is_for_us_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "d.sock")
    async with serving([listen_unix(path)]) as server:
        mine = End(decode_to_worker)
        channel = await connect_unix(path, mine, ME)
        await server.arrived.wait()
        channel.send(Beat(load=1.0))
        assert await server.ends[0].has(1) == [Beat(load=1.0)]
        assert os.stat(path).st_mode & 0o777 == 0o600
        with pytest.raises(VersionError):
            await connect_unix(path, End(decode_to_worker), Identity(version="9", protocol=7))
        channel.close()
        await mine.end()


async def test_absent_daemon_is_told_plainly(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    with pytest.raises(ConnectError, match=r"cannot reach the daemon at .*none\.sock"):
        await connect_unix(path, End(decode_to_worker), ME)
