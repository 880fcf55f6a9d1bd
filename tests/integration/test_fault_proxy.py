"""The proxy does to connections what a bad network does."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dfm.testing.fault_proxy import FaultProxy, Way

pytestmark = pytest.mark.timeout(60)


class Echo:
    """A server that sends back what it gets, and keeps how each connection ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        self.connections: list[socket.socket] = []
        self.ends: list[str] = []
        self.has_ended = threading.Event()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
                self.ends.append("closed")
            except ConnectionResetError:
                self.ends.append("reset")
            except OSError:
                self.ends.append("stopped")
        self.has_ended.set()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo.port) as started:
        yield started


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A connection that has passed bytes there and back."""
    with socket.create_connection((proxy.host, proxy.port), timeout=30) as connection:
        connection.sendall(b"hello")
        assert receive(connection, 5) == b"hello"
        yield connection


def receive(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (data := connection.recv(length - len(received))):
        received += data
    return received


def is_silent(connection: socket.socket) -> bool:
    """Whether nothing comes, not even an end, for a while."""
    connection.settimeout(0.2)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(30)
    return False


def test_a_sound_proxy_passes_everything_and_the_end_of_it(client: socket.socket, echo: Echo) -> None:
    whole = bytes(range(256)) * 4096
    sender = threading.Thread(target=client.sendall, args=(whole,))
    sender.start()
    assert receive(client, len(whole)) == whole
    sender.join()
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert echo.has_ended.wait(30)
    assert echo.ends == ["closed"]


def test_stalled_bytes_come_after_heal(client: socket.socket, proxy: FaultProxy) -> None:
    proxy.stall()
    client.sendall(b"late")
    assert is_silent(client)
    proxy.heal()
    assert receive(client, 4) == b"late"


@pytest.mark.parametrize("way", list(Way))
def test_one_way_alone_may_stall(client: socket.socket, proxy: FaultProxy, way: Way) -> None:
    proxy.stall(way)
    client.sendall(b"late")
    assert is_silent(client)
    proxy.heal()
    assert receive(client, 4) == b"late"


def test_a_connection_made_during_a_stall_is_silent_too(proxy: FaultProxy) -> None:
    proxy.stall()
    with socket.create_connection((proxy.host, proxy.port), timeout=30) as connection:
        connection.sendall(b"late")
        assert is_silent(connection)
        proxy.heal()
        assert receive(connection, 4) == b"late"


def test_dripped_bytes_come_in_small_pieces(client: socket.socket, proxy: FaultProxy) -> None:
    proxy.drip(piece_bytes=2, seconds=0.05)
    client.sendall(b"abcdef")
    pieces = [client.recv(100)]
    while sum(map(len, pieces)) < 6:
        pieces.append(client.recv(100))
    assert b"".join(pieces) == b"abcdef"
    assert len(pieces) > 1


def test_a_limit_takes_its_time(client: socket.socket, proxy: FaultProxy) -> None:
    proxy.limit(bytes_per_second=10_000)
    began = time.monotonic()
    client.sendall(b"x" * 5_000)
    assert len(receive(client, 5_000)) == 5_000
    assert time.monotonic() - began >= 0.4


def test_a_reset_reaches_both_ends_and_new_connections_pass(
    client: socket.socket, proxy: FaultProxy, echo: Echo
) -> None:
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.has_ended.wait(30)
    assert echo.ends == ["reset"]
    with socket.create_connection((proxy.host, proxy.port), timeout=30) as again:
        again.sendall(b"again")
        assert receive(again, 5) == b"again"


def test_a_dangling_client_hears_nothing_of_the_end_of_its_target(
    client: socket.socket, proxy: FaultProxy, echo: Echo
) -> None:
    proxy.half_open()
    assert echo.has_ended.wait(30)
    client.sendall(b"x" * 1000)
    assert is_silent(client)
    client.sendall(b"still no fault")
    assert proxy.connections == 0


def test_a_dangling_target_hears_nothing_of_the_end_of_its_client(
    client: socket.socket, proxy: FaultProxy, echo: Echo
) -> None:
    proxy.half_open(dangling=Way.DOWN)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    echo.connections[0].sendall(b"into the void")
    assert not echo.has_ended.is_set()


def test_refused_connections_are_accepted_after_heal(client: socket.socket, proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=30)
    client.sendall(b"goes on")
    assert receive(client, 7) == b"goes on"
    proxy.heal()
    with socket.create_connection((proxy.host, proxy.port), timeout=30) as again:
        again.sendall(b"again")
        assert receive(again, 5) == b"again"


def connect_and_read(proxy: FaultProxy) -> None:
    with socket.create_connection((proxy.host, proxy.port), timeout=30) as connection:
        connection.recv(1)


def test_a_target_that_does_not_listen_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with FaultProxy("127.0.0.1", port) as started, pytest.raises(ConnectionResetError):
        connect_and_read(started)


def has_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_end_closes_everything_whatever_state_it_is_in(echo: Echo) -> None:
    with ExitStack() as stack:

        def connect(proxy: FaultProxy) -> socket.socket:
            return stack.enter_context(socket.create_connection((proxy.host, proxy.port), timeout=30))

        with FaultProxy("127.0.0.1", echo.port) as proxy:
            clients = [connect(proxy) for _ in range(3)]
            for client in clients:
                client.sendall(b"hello")
                assert receive(client, 5) == b"hello"
            proxy.half_open()
            clients.append(connect(proxy))
            proxy.stall()
            clients[-1].sendall(b"stuck")
        assert [has_ended(client) for client in clients] == [True] * 4
    assert not any(thread.name == "fault proxy" for thread in threading.enumerate())
