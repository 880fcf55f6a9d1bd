"""One run at a time in one run directory.

The lock is an flock on `.dfm.lock`; the kernel gives it back when its last holder is gone, so no person ever has to.
The guard of a run inherits it: where a run was killed, the next one waits the moment that the guard needs to clean up.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from dfm.api.errors import InfrastructureError

WAIT_FOR_GUARD_SECONDS = 15.0
"""The guard gives up after 10 s; this is above it."""
_POLL_SECONDS = 0.05


class RunLock:
    """Held from entering to leaving.

    Attributes:
        fd: the open lock file, for a guard to inherit.
    """

    def __init__(self, root_rundir: str) -> None:
        self._path = os.path.join(root_rundir, ".dfm.lock")
        self.fd = -1

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            InfrastructureError: another run holds it, or it cannot be made.
        """
        try:
            self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise InfrastructureError(
                f"cannot lock the run directory ({self._path}): {error.strerror}",
                hint="--rundir names another one",
            ) from error
        try:
            self._take()
        except BaseException:
            os.close(self.fd)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
        os.close(self.fd)

    def _take(self) -> None:
        deadline = time.monotonic() + WAIT_FOR_GUARD_SECONDS
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno == errno.ENOLCK:
                    break
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                    raise InfrastructureError(f"cannot lock {self._path}: {error.strerror}") from error
                owner = self._owner()
                if _is_alive(owner) or time.monotonic() > deadline:
                    raise InfrastructureError(
                        f"another run holds this run directory: {_told(owner)}",
                        hint="wait for it, or give this run another one with --rundir",
                    ) from None
                time.sleep(_POLL_SECONDS)
            else:
                break
        self._sign()

    def _sign(self) -> None:
        """Write down whose lock it is, for the message to the next who wants it."""
        mine = {
            "pid": os.getpid(),
            "start": _start_time(os.getpid()),
            "boot": _boot_id(),
            "host": os.uname().nodename,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, json.dumps(mine).encode(), 0)
        except OSError as error:
            raise InfrastructureError(f"cannot write {self._path}: {error.strerror}") from error

    def _owner(self) -> dict[str, object]:
        try:
            owner = json.loads(os.pread(self.fd, 4096, 0))
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}


def _is_alive(owner: dict[str, object]) -> bool:
    """Whether the owner is surely another live run; on another host we cannot look, and believe the lock."""
    if not owner:
        return False
    if owner.get("boot") != _boot_id():
        return owner.get("host") != os.uname().nodename
    pid = owner.get("pid")
    start = _start_time(pid) if isinstance(pid, int) else None
    return start is not None and start == owner.get("start")


def _told(owner: dict[str, object]) -> str:
    if not owner:
        return "its owner is not known"
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"


def _start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None where it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] == "Z" else words[19]


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
