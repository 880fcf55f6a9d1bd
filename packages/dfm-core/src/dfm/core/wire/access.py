"""The access file: where a daemon listens, and the key that proves one belongs to it.

It is the only place of the key: not argv, not the environment, not a job script. The directory is 0700, the file 0600,
both ours, and a reader trusts neither before it has looked at the *opened* file. Workers read it anew at each
reconnection, so that a daemon may come back at another address.
"""

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping

import msgspec

from dfm.api.errors import RunnerError, UsageError
from dfm.core.wire.handshake import KEY_BYTES

ACCESS_FILE = "access.json"
_MAX_ACCESS_BYTES = 64 * 1024
MAX_SOCKET_PATH = 107
"""sockaddr_un.sun_path has 108 bytes on Linux, the last a NUL (unix(7))."""


class AccessError(RunnerError):
    """The access file, or the directory of it, is not there or not to be trusted."""


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that workers must see as the daemon does.

    Attributes:
        directory: absolute.
        probe: name of a file in it.
        content: what the daemon wrote into that file.
    """

    directory: str
    probe: str
    content: str


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What one needs to reach a daemon.

    Attributes:
        project: a name of the project for logs.
        epoch: number of the daemon's life; grows.
        addresses: names or addresses of the daemon's host, in the order to try them.
        key: KEY_BYTES of randomness, new for each daemon.
        time_scale: factor on the times that a worker keeps by itself, for tests.
        is_encrypted: links must be; an end that cannot does not open one.
    """

    project: str
    epoch: int
    daemon_id: bytes
    addresses: tuple[str, ...]
    port: int
    key: bytes
    roots: tuple[Root, ...] = ()
    time_scale: float = 1.0
    is_encrypted: bool = False
    v: int = 1

    def __repr__(self) -> str:
        return f"Access({self.project!r}, epoch={self.epoch}, addresses={self.addresses}, port={self.port})"


def new_key() -> bytes:
    """Return a fresh key."""
    return secrets.token_bytes(KEY_BYTES)


def access_directory(project: str, base: str | None = None) -> str:
    """Return the private directory of a project's access file; make it where it is not there.

    Args:
        project: absolute directory of the project.
        base: directory that all nodes share; None is ~/.dfm/run.

    Raises:
        AccessError: it cannot be made, or others may write or read it.
    """
    directory = access_location(project, base)
    parent = os.path.dirname(directory)
    try:
        os.makedirs(parent, mode=0o700, exist_ok=True)
    except OSError as error:
        raise AccessError(f"cannot make the directory {parent}: {error.strerror}") from error
    return private_directory(directory)


def access_location(project: str, base: str | None = None) -> str:
    """Return where `access_directory` makes it; nothing is made."""
    parent = base or os.path.join(os.path.expanduser("~"), ".dfm", "run")
    return os.path.join(parent, hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:16])


def refuse_relative_places(environ: Mapping[str, str]) -> None:
    """See that directories which variables name for a daemon and its runs are the same wherever dfm is called.

    Raises:
        UsageError: one is relative.
    """
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "DFM_RUNTIME_DIR"):
        given = environ.get(name)
        if given and not os.path.isabs(given):
            raise UsageError(
                f"{name} is {given!r}, which is another directory wherever dfm is called",
                hint="name it by its absolute path, or leave the variable out",
            )


_SOCKET_NAME_BYTES = len("/dfm/.sock") + 24


def runtime_directory() -> str:
    """Return the private directory of this user for sockets on this host; make it where it is not there.

    One in which the path of a socket would be too long is passed over.

    Raises:
        AccessError: it cannot be made, or somebody else has made it.
    """
    for name in ("DFM_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        given = os.environ.get(name, "")
        if (
            os.path.isabs(given)
            and len(os.fsencode(given)) <= MAX_SOCKET_PATH - _SOCKET_NAME_BYTES
            and is_private(given)
        ):
            return private_directory(os.path.join(given, "dfm"))
    return private_directory(f"/tmp/dfm-{os.geteuid()}")  # noqa: S108  (owner, mode and kind are looked at)


def socket_path(project: str) -> str:
    """Return where the daemon of a project has its socket.

    It lies in the project's `.dfm`, or in `runtime_directory` where that path is too long for a socket.
    """
    usual = os.path.join(project, ".dfm", "daemon.sock")
    if len(os.fsencode(usual)) <= MAX_SOCKET_PATH:
        return usual
    digest = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:24]
    return os.path.join(runtime_directory(), f"{digest}.sock")


def private_directory(path: str) -> str:
    """Make a directory for us alone, or see that it is one.

    Raises:
        AccessError: it is a link, not a directory, another's, or open to others.
    """
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            raise
        except OSError as error:
            raise AccessError(f"cannot make the directory {path}: {error.strerror}") from error
    with _opened_directory(path):
        return path


def is_private(path: str) -> bool:
    """Return whether a path is a directory, no link, that is ours alone."""
    try:
        with _opened_directory(path):
            return True
    except AccessError:
        return False


def write_access(directory: str, access: Access, name: str = ACCESS_FILE) -> str:
    """Write the access file, whole or not at all; return its path.

    Raises:
        AccessError: the directory is not private, or cannot be written.
    """
    temporary = f".{name}.{secrets.token_hex(8)}"
    with _opened_directory(directory) as at:
        try:
            _write_new(at, temporary, msgspec.json.encode(access))
            os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)
            os.fsync(at)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=at)
            raise AccessError(f"cannot write {os.path.join(directory, name)}: {error.strerror}") from error
    return os.path.join(directory, name)


def read_access(path: str) -> Access:
    """Read an access file.

    Raises:
        AccessError: it is not there, not ours alone, too large, or says something else.
    """
    directory, name = os.path.split(os.path.abspath(path))
    with _opened_directory(directory) as at:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            raise AccessError(f"cannot open the access file {path}: {error.strerror}") from error
        try:
            _check_file(path, os.fstat(fd))
            text = os.read(fd, _MAX_ACCESS_BYTES + 1)
        finally:
            os.close(fd)
    return _decoded(path, text)


def plant_probe(directory: str) -> Root:
    """Write a file by which workers see that they have the same directory.

    Raises:
        AccessError: the directory cannot be written.
    """
    content = secrets.token_hex(16)
    name = f".dfm-probe-{secrets.token_hex(4)}"
    path = os.path.join(directory, name)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise AccessError(f"cannot write {path}: {error.strerror}") from error
    return Root(directory=directory, probe=name, content=content)


def remove_probe(root: Root) -> None:
    """Take the probe away again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(root.directory, root.probe))


def _decoded(path: str, text: bytes) -> Access:
    try:
        access = msgspec.json.decode(text, type=Access)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AccessError(f"{path} is no access file: {error}") from None
    if access.v != 1 or len(access.key) != KEY_BYTES or not 0 < access.port < 1 << 16 or not access.addresses:
        raise AccessError(f"{path} is no access file that this version knows")
    return access


def _check_file(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise AccessError(f"the access file {path} is no regular file")
    _check_owner(path, status)
    if status.st_size > _MAX_ACCESS_BYTES:
        raise AccessError(f"the access file {path} has {status.st_size} bytes, more than any of ours")


def _check_owner(path: str, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise AccessError(f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o077:
        raise AccessError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, others may use it",
            hint="chmod go= a file or directory that is the daemon's; never one that serves others too",
        )


@contextlib.contextmanager
def _opened_directory(path: str) -> Iterator[int]:
    """Open a directory that is ours alone; what is done through the descriptor cannot be led elsewhere."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise AccessError(f"cannot open the directory {path}: {error.strerror}") from error
    try:
        _check_owner(path, os.fstat(fd))
        yield fd
    finally:
        os.close(fd)


def _write_new(at: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=at)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
