"""The trace of a run in its run directory: while it is there, workers may still write there, though the run is gone.

It is written before the first task is handed to a pool, and removed when nothing of the run is with a worker any more.
Whoever finds one and holds the lock of the directory knows that the run before was killed, and where its tasks went.
"""

import contextlib
import os
import re

import msgspec

from dfm.api.errors import InfrastructureError

NAME = ".dfm-pool"
_RUN_ID = re.compile(r"[0-9a-f]{32}")


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tasks of a run went.

    Attributes:
        host: of the run.
        project: absolute directory.
        has_own_pool: whether the run hosted its pool; else the project's daemon had its tasks.
    """

    run_id: str
    host: str
    project: str
    has_own_pool: bool


def has_trace(root_rundir: str) -> bool:
    """Return whether a run directory has one."""
    return os.path.lexists(os.path.join(root_rundir, NAME))


def leave_trace(root_rundir: str, trace: Trace) -> None:
    """Write the trace.

    Raises:
        InfrastructureError: it cannot be written.
    """
    path = os.path.join(root_rundir, NAME)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(trace))
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error


def read_trace(root_rundir: str) -> Trace | None:
    """Return the trace; None where there is none that says anything, as where a run was killed while it wrote it."""
    try:
        with open(os.open(os.path.join(root_rundir, NAME), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            trace = msgspec.json.decode(file.read(), type=Trace)
    except (OSError, msgspec.MsgspecError):
        return None
    return trace if _RUN_ID.fullmatch(trace.run_id) and os.path.isabs(trace.project) else None


def remove_trace(root_rundir: str) -> None:
    """Remove the trace: nothing of the run is with a worker any more."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(root_rundir, NAME))
