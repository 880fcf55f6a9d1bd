"""Where the daemon of a project is, and whether it is there: a lock, an epoch, a socket that answers.

Rules:
1. whoever holds the lock on `<project>/.dfm/daemon.lock` is the daemon of the project; nobody else writes here;
2. the epoch grows by one with every daemon; what carries a smaller one belongs to a daemon that is gone;
3. that a daemon lives is shown by its socket giving the answer that belongs to `daemon.json`, never by a process id;
4. files of a daemon that is gone are removed by the next that takes the lock, or by `status`, which takes it too;
5. a daemon whose lock file was removed or replaced ends, and touches nothing that may be its successor's.
"""

import contextlib
import enum
import errno
import fcntl
import hashlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dfm.api.errors import InfrastructureError, RunnerError
from dfm.core.wire.access import ACCESS_FILE, access_directory, private_directory, socket_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATE_DIRECTORY = ".dfm"
_LOCK_NAME = "daemon.lock"
ASKING_SOCKET = "ask.sock"
"""In the state directory of a run with a pool of its own: where it can be asked how its tasks stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What `daemon.json` tells; nothing in it is secret.

    Attributes:
        daemon_id: random; the socket must answer with it.
        access: path of the file with the key and the addresses for workers.
    """

    daemon_id: str
    project: str
    epoch: int
    host: str
    pid: int
    socket: str
    access: str
    runner: str
    version: str
    started_at: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The places of one project's daemon."""

    project: str

    @property
    def directory(self) -> str:
        """What the daemon keeps with the project."""
        return os.path.join(self.project, STATE_DIRECTORY)

    @property
    def discovery_path(self) -> str:
        """Where the daemon tells where it is."""
        return os.path.join(self.directory, "daemon.json")

    @property
    def lock_path(self) -> str:
        """What the daemon holds locked while it lives."""
        return os.path.join(self.directory, _LOCK_NAME)

    @property
    def log_path(self) -> str:
        """What the daemon says."""
        return os.path.join(self.directory, "daemon.log")

    @property
    def snapshot_path(self) -> str:
        """Which jobs there are, for a daemon on another host after this one died with its journal."""
        return os.path.join(self.directory, "jobs")

    @property
    def instance(self) -> str:
        """Eight digits that stand for the project and this user in names of jobs, whatever host the daemon is on."""
        words = (os.path.realpath(self.project), str(os.geteuid()))
        return _digest(words)[:8]

    def socket_path(self) -> str:
        """Return the path of the socket: with the project, or a short one where that is too long for a socket.

        Raises:
            RunnerError: there is no directory for the short one.
        """
        return socket_path(self.project)

    def state_directory(self) -> str:
        """Return the directory on this host's own disk for the journal, private to this user.

        Raises:
            InfrastructureError: it cannot be made, or belongs to somebody else.
        """
        return state_directory(self.state_location())

    def state_location(self) -> str:
        """Return where `state_directory` makes it; nothing is made."""
        return os.path.join(state_root(), project_digest(self.project)[:16])

    def access_path(self, base: str | None = None) -> str:
        """Return the path of the file with the key, in a directory that nodes share and only this user may enter.

        Args:
            base: of that directory; None is `DFM_ACCESS_DIR`, else ~/.dfm/run.

        Raises:
            AccessError: the directory cannot be made, or belongs to somebody else.
        """
        return os.path.join(access_directory(self.project, base or os.environ.get("DFM_ACCESS_DIR")), ACCESS_FILE)

    def make_directory(self) -> str:
        """Make the daemon's directory in the project, for this user alone.

        Raises:
            InfrastructureError: it cannot be written.
        """
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot make {self.directory}: {error.strerror}") from error
        return self.directory

    def read(self) -> Discovery | None:
        """Return what the last daemon told; None where there is nothing, or nothing that can be read."""
        try:
            with open(self.discovery_path, encoding="utf-8") as file:
                content = json.load(file)
            return Discovery(**content)
        except (OSError, ValueError, TypeError):
            return None

    def publish(self, discovery: Discovery) -> None:
        """Tell where the daemon is, in one step.

        Raises:
            InfrastructureError: it cannot be written.
        """
        _replace(self.discovery_path, json.dumps(asdict(discovery), indent=1))

    def withdraw(self) -> None:
        """Remove what a daemon that is gone has left, its key too; only whoever holds the lock may."""
        found = self.read()
        keys = [] if found is None or not self._is_our_access(found.access) else [found.access]
        for path in (*keys, self.discovery_path, self.socket_path()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def withdraw_removed(self) -> None:
        """Remove what a daemon has elsewhere than in its `.dfm`, which is gone; only whoever holds the journal may."""
        path = self.socket_path()
        if os.path.dirname(path) != self.directory:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _is_our_access(self, path: str) -> bool:
        """Whether a path, which somebody else may have written, is of this project's access file and no other's."""
        directory, name = os.path.split(path)
        usual = hashlib.sha256(os.fsencode(os.path.realpath(self.project))).hexdigest()[:16]
        if name != ACCESS_FILE or os.path.basename(directory) != usual or not os.path.isdir(directory):
            return False
        facts = os.lstat(directory)
        return facts.st_uid == os.geteuid() and not facts.st_mode & 0o077

    def next_epoch(self, last: "Callable[[], int]" = lambda: 0) -> int:
        """Count a new daemon and return its number, from 1; only whoever holds the lock may.

        Args:
            last: returns the greatest number that is known elsewhere; asked where the project does not have its count.

        Raises:
            InfrastructureError: it cannot be written.
        """
        path = os.path.join(self.directory, "epoch")
        try:
            with open(path, encoding="ascii") as file:
                epoch = int(file.read()) + 1
        except (OSError, ValueError):
            discovery = self.read()
            epoch = 1 + max(last(), 0 if discovery is None else discovery.epoch)
        _replace(path, f"{epoch}\n")
        return epoch

    @contextlib.contextmanager
    def locked(self) -> "Iterator[HeldLock | None]":
        """Hold the lock; gives None where another daemon has it.

        Raises:
            InfrastructureError: its file cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                at = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, at)
                fd = os.open(_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=at)
                stack.callback(os.close, fd)
            except OSError as error:
                raise InfrastructureError(f"cannot write {self.lock_path}: {error.strerror}") from error
            yield HeldLock(self.lock_path, at, os.fstat(fd)) if _try_lock(fd) else None


class LockPlace(enum.Enum):
    """What has become of the lock file that a daemon holds."""

    KEPT = "it lies where it lay, or was moved with its project, or nobody can tell now"
    REMOVED = "was removed"
    REPLACED = "was replaced"


class HeldLock:
    """The lock of a project while this process holds it.

    Args:
        path: of its file.
        directory: that it lies in, open.
        facts: of the file that is locked.
    """

    def __init__(self, path: str, directory: int, facts: os.stat_result) -> None:
        self._path = path
        self._directory = directory
        self._facts = facts

    def place(self) -> LockPlace:
        """Look whether the file is still there; a shared disk may take its time to answer."""
        try:
            return LockPlace.KEPT if self._is_it(os.stat(self._path)) else LockPlace.REPLACED
        except (FileNotFoundError, NotADirectoryError):
            return self._place_in_directory()
        except OSError:
            return LockPlace.KEPT

    def _place_in_directory(self) -> LockPlace:
        try:
            facts = os.stat(_LOCK_NAME, dir_fd=self._directory)
        except OSError as error:
            is_gone = error.errno in (errno.ENOENT, errno.ESTALE)
            return LockPlace.REMOVED if is_gone else LockPlace.KEPT
        return LockPlace.KEPT if self._is_it(facts) else LockPlace.REPLACED

    def _is_it(self, facts: os.stat_result) -> bool:
        return os.path.samestat(facts, self._facts)


def project_digest(project: str) -> str:
    """Return hexadecimal digits that stand for a project, this user and this host."""
    return _digest((os.path.realpath(project), str(os.geteuid()), socket.gethostname()))


def _digest(words: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def state_root() -> str:
    """Return the directory on this host's own disk under which journals lie."""
    given = os.environ.get("DFM_STATE_DIR")
    return given or f"/var/tmp/dfm-{os.geteuid()}"  # noqa: S108  (private_directory checks who owns it)


def state_directory(path: str) -> str:
    """Make the directory for one journal, below `state_root` and private to this user, and return it.

    Raises:
        InfrastructureError: it cannot be made, or belongs to somebody else.
    """
    root = os.path.dirname(path)
    try:
        os.makedirs(os.path.dirname(root), exist_ok=True)
    except OSError as error:
        raise InfrastructureError(
            f"cannot make the directory {root} for the journal: {error.strerror}",
            hint="DFM_STATE_DIR names another one, on this host's own disk",
        ) from error
    private_directory(root)
    return private_directory(path)


def _replace(path: str, content: str) -> None:
    """Write a file for this user alone, whole or not at all, even at a loss of power."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise RunnerError(f"cannot lock the daemon's lock file: {error.strerror}") from error
    return True
