"""The access file: how a worker finds its daemon and proves that it belongs to it; and private directories.

It holds the key, the addresses in the order in which to try them, and the epoch. It is written in one step, for its
owner alone, into a directory of its owner's alone; whoever reads it checks both on the opened file. Only its path
travels.
"""

import base64
import contextlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, replace

from dfm.api.errors import InfrastructureError, RunnerError

KEY_BYTES = 32
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a worker must know.

    Attributes:
        addresses: names or numbers of the daemon's host, in the order in which to try them.
        probe: path of a file on the shared file system and what it holds: a node that does not see it is not fit.
    """

    project: str
    epoch: int
    daemon_id: bytes
    key: bytes
    addresses: tuple[str, ...]
    port: int
    probe: tuple[str, str] = ("", "")

    def __repr__(self) -> str:
        return f"Access(project={self.project!r}, epoch={self.epoch}, addresses={self.addresses}, port={self.port})"

    def with_port(self, port: int) -> "Access":
        """Return the same with the port that was got."""
        return replace(self, port=port)


def new_key() -> bytes:
    """Return a key that nobody has."""
    return secrets.token_bytes(KEY_BYTES)


def write_access(path: str, access: Access) -> None:
    """Write the file in one step; a worker that reads sees the old one or the new one.

    Raises:
        InfrastructureError: it cannot be written, or its directory is not this user's alone.
    """
    directory = private_directory(os.path.dirname(path))
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}.{secrets.token_hex(4)}")
    content = {
        "v": 1,
        "project": access.project,
        "epoch": access.epoch,
        "daemon_id": access.daemon_id.hex(),
        "key": base64.b64encode(access.key).decode(),
        "addresses": list(access.addresses),
        "port": access.port,
        "probe": list(access.probe),
    }
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error


def read_access(path: str) -> Access:
    """Read the file, if nobody else could have written or read it.

    Raises:
        RunnerError: there is none, it is not this user's alone, or it is not an access file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise RunnerError(f"cannot read the access file {path}: {error.strerror}") from error
    with open(fd, "rb") as file:
        _check_private(path, os.fstat(file.fileno()))
        content = file.read(_MAX_FILE_BYTES + 1)
    try:
        fields = json.loads(content)
        return Access(
            project=fields["project"],
            epoch=fields["epoch"],
            daemon_id=bytes.fromhex(fields["daemon_id"]),
            key=base64.b64decode(fields["key"], validate=True),
            addresses=tuple(fields["addresses"]),
            port=fields["port"],
            probe=(fields["probe"][0], fields["probe"][1]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RunnerError(f"{path} is not an access file of DFM") from error


def private_directory(path: str, *, is_strict: bool = True) -> str:
    """Make a directory that only this user may enter, and return its path.

    Args:
        path: of the directory.
        is_strict: whether one that others may enter is refused; else the mode its owner gave it is left.

    Raises:
        InfrastructureError: it cannot be made, is a link, or is not this user's alone.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        facts = os.lstat(path)
    except OSError as error:
        raise InfrastructureError(f"cannot make the directory {path}: {error.strerror}") from error
    is_ours = facts.st_uid == os.geteuid() and stat.S_ISDIR(facts.st_mode)
    if not is_ours or (is_strict and facts.st_mode & 0o077):
        raise InfrastructureError(
            f"{path} is not a directory of this user's alone",
            hint=f"remove it, or make it yours: chmod 700 {path}",
        )
    return path


def runtime_directory() -> str:
    """Return a directory of this user's alone for sockets, with a short path.

    Raises:
        InfrastructureError: it belongs to somebody else.
    """
    given = os.environ.get("DFM_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isdir(given) and os.access(given, os.W_OK):
        return private_directory(os.path.join(given, "dfm"))
    return private_directory(f"/tmp/dfm-{os.geteuid()}")  # noqa: S108  (its owner and mode are checked)


def _check_private(path: str, facts: os.stat_result) -> None:
    is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
    if not is_ours or facts.st_mode & 0o077 or facts.st_size > _MAX_FILE_BYTES:
        raise RunnerError(
            f"{path} is not a file of this user's alone",
            hint="whoever could write or read it could run tasks in your name; stop the daemon and start it again",
        )
