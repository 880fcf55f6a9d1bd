"""The guard: a small process that outlives a `dfm run` killed by SIGKILL, and kills what that run left.

It is forked before the first task, sits in a session of its own, holds the run's lock, and sleeps on a pipe. A run that
ends well dismisses it. If the pipe closes without that word, every process that carries the run's token is killed and
the jobserver's directory removed; only then does the lock go. What a run has left that was killed with its guard, the
guard of the next run removes.
"""

import contextlib
import gc
import os
import shutil
import signal
import time
from collections.abc import Sequence

from msgspec import Struct

from dfm.api.errors import InfrastructureError
from dfm.core.execute.process import RUN_TOKEN, close_all_but, token_holders
from dfm.core.jobserver.owner import left_directories, stale_directories

GIVE_UP_SECONDS = 10.0
_DISMISSED = b"\n"


class Guard(Struct, frozen=True):
    """A guard that watches this process."""

    pid: int
    _pipe: int

    def dismiss(self) -> None:
        """End the guard; what ran has ended in order."""
        with contextlib.suppress(OSError):
            os.write(self._pipe, _DISMISSED)
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_guard(run_token: str, keep_fds: Sequence[int]) -> Guard:
    """Start a guard over everything that carries `run_token`.

    Args:
        run_token: the value of DFM_RUN_TOKEN.
        keep_fds: descriptors that shall stay open until the guard is gone.

    Raises:
        InfrastructureError: no process can be started.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise InfrastructureError(f"cannot start a process: {error.strerror}") from error
    if pid == 0:
        _be_guard(run_token, reading, keep_fds)
    os.close(reading)
    return Guard(pid, writing)


def _be_guard(run_token: str, reading: int, keep_fds: Sequence[int]) -> None:
    """Be the guard, and never return."""
    try:
        gc.disable()
        os.setsid()
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGPIPE,
            signal.SIGQUIT,
        ):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        close_all_but((0, 1, 2, reading, *keep_fds))
        os.chdir("/")
        _remove(stale_directories())
        if os.read(reading, 1) != _DISMISSED:
            _kill_all(run_token)
            _remove(left_directories(run_token))
    finally:
        os._exit(0)


def _remove(directories: Sequence[str]) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _kill_all(run_token: str) -> None:
    """Kill until two looks in a row find nothing: a process may have been forked and not yet bear its token."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        found = token_holders(RUN_TOKEN, run_token)
        quiet = 0 if found else quiet + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
