"""What another user of the same machine can do to a daemon: nothing.

Each case is tried in a process of the user `nobody`, so these tests need root.
"""

import asyncio
import contextlib
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dfm.core.wire.access import (
    Access,
    AccessError,
    access_directory,
    new_key,
    private_directory,
    write_access,
)
from dfm.core.wire.channel import Channel, Listener, Peer, check_credentials, listen_tcp, listen_unix, own_identity
from dfm.core.wire.handshake import HandshakeError, slot_key

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as a second user")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that everybody can enter, down from the root of the file system."""
    for directory in [tmp_path, *tmp_path.parents]:
        if not os.stat(directory).st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def access_path(shared: Path) -> str:
    directory = access_directory("/project", str(shared / "run"))
    access = Access(project="p", epoch=1, daemon_id=b"d" * 16, addresses=("127.0.0.1",), port=1, key=new_key())
    return write_access(directory, access)


def as_nobody(code: str, *words: str) -> str:
    """Run Python code as nobody; return the name of the error it ended with, or `done`."""
    wrapped = "import os, socket, sys\ntry:\n" + "".join(f"    {line}\n" for line in code.splitlines())
    wrapped += "except OSError as error:\n    print(type(error).__name__)\nelse:\n    print('done')\n"
    answer = subprocess.run(
        [_python(), "-I", "-S", "-c", wrapped, *words],
        user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    return answer.stdout.strip() or answer.stderr


@functools.cache
def _python() -> str:
    """Return a Python that nobody may execute: ours may lie below a home directory."""
    for path in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            subprocess.run(
                [path, "-I", "-S", "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], check=True, cwd="/"
            )
            return path
    pytest.skip("nobody cannot execute any Python here")


@pytest.mark.parametrize(
    "code",
    [
        "open(sys.argv[1]).read()",
        "open(sys.argv[1], 'a')",
        "os.stat(sys.argv[1])",
        "os.unlink(sys.argv[1])",
        "os.rename(sys.argv[1], sys.argv[1] + 'x')",
        "os.link(sys.argv[1], '/tmp/stolen')",
        "os.chmod(sys.argv[1], 0o666)",
        "os.listdir(os.path.dirname(sys.argv[1]))",
        "os.symlink('/etc/passwd', os.path.dirname(sys.argv[1]) + '/link')",
        "open(os.path.dirname(sys.argv[1]) + '/squat', 'w')",
        "os.rmdir(os.path.dirname(sys.argv[1]))",
        "os.rename(os.path.dirname(sys.argv[1]), '/tmp/moved')",
        "os.chmod(os.path.dirname(sys.argv[1]), 0o777)",
        "os.chdir(os.path.dirname(sys.argv[1]))",
    ],
)
def test_access_file_and_its_directory_are_closed_to_others(access_path: str, code: str) -> None:
    assert as_nobody(code, access_path) in ("PermissionError", "FileNotFoundError")
    assert os.path.exists(access_path)


def test_directory_that_another_has_made_before_us_is_refused(shared: Path) -> None:
    squatted = shared / "squat"
    squatted.mkdir(mode=0o700)
    os.chown(squatted, NOBODY, NOBODY)
    with pytest.raises(AccessError, match="belongs to user 65534"):
        private_directory(str(squatted))


def test_link_that_another_has_laid_is_not_followed(shared: Path) -> None:
    shared.chmod(0o1777)
    target = shared / "target"
    target.mkdir(mode=0o700)
    assert as_nobody("os.symlink(sys.argv[1], sys.argv[2])", str(target), str(shared / "link")) == "done"
    with pytest.raises(AccessError):
        private_directory(str(shared / "link"))


@contextlib.asynccontextmanager
async def _listening(sockets: list[socket.socket]) -> AsyncIterator[Listener]:
    def accept(channel: Channel) -> Peer:
        raise AssertionError(f"a stranger got in: {channel.address}")

    key = new_key()
    listener = Listener(sockets, accept, own_identity("1"), lambda slot: slot_key(key, slot), b"d" * 16)
    running = asyncio.get_running_loop().create_task(listener.run())
    yield listener
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_socket_is_closed_to_others_even_where_its_mode_lets_them(shared: Path, mode: int) -> None:
    path = str(shared / "d.sock")
    listening = listen_unix(path)
    os.chmod(path, mode)
    code = "s = socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect(sys.argv[1])\nprint(s.recv(100))"
    async with _listening([listening]) as listener:
        answer = await asyncio.to_thread(as_nobody, code, path)
    if mode == 0o600:
        assert answer == "PermissionError"
    else:
        assert answer == "b''\ndone"
        assert listener.refusals.last_reason == f"the process at the other end belongs to user {NOBODY}"


async def test_port_tells_others_nothing() -> None:
    sockets = listen_tcp(["127.0.0.1"], 0)
    port = str(sockets[0].getsockname()[1])
    code = (
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)\n"
        "s.sendall(b'\\0\\x05hello')\nprint(s.recv(100))"
    )
    async with _listening(sockets) as listener:
        assert await asyncio.to_thread(as_nobody, code, port) == "b''\ndone"
    assert listener.refusals.count == 1


def test_socket_that_another_listens_at_is_not_spoken_to(shared: Path) -> None:
    shared.chmod(0o1777)
    code = (
        "s = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nos.chmod(sys.argv[1], 0o666)\n"
        "print('ready', flush=True)\nc, _ = s.accept()\nprint(c.recv(100), flush=True)"
    )
    path = str(shared / "squat.sock")
    squatter = subprocess.Popen(
        [_python(), "-I", "-S", "-c", f"import os, socket, sys\n{code}", path],
        user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE, cwd="/",
    )  # fmt: skip
    with squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            with pytest.raises(HandshakeError, match="belongs to user"):
                check_credentials(connection)
        assert squatter.stdout.readline() == b"b''\n"


def test_credentials_are_those_of_the_kernel() -> None:
    one, other = socket.socketpair()
    with one, other:
        check_credentials(one)
        content = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        assert struct.unpack("3i", content)[1] == os.geteuid()
