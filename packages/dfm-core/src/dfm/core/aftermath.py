"""What a run that was killed has left with workers, ended before the next one begins in the same run directory.

The caller holds the lock of the run directory, so that the run cannot come back; its trace says where its tasks went.
Two bodies must never write in one directory, and no job that nobody looks after may stay with a batch system.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dfm.api.errors import RunnerError
from dfm.core.config.settings import PoolSettings
from dfm.core.daemon.client import ask_daemon
from dfm.core.daemon.endpoint import Endpoint
from dfm.core.pool.reap import Speakers, end_run, end_tasks
from dfm.core.pool.trace import Trace, read_trace, remove_trace
from dfm.core.pooled import own_pool_access, own_pool_snapshot, own_pool_state
from dfm.core.wire.messages import Ask

_LOOK_SECONDS = 0.1
_TELL_SECONDS = 1.0
"""So long it is silent: what takes longer is told, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What is needed to end what a run has left.

    Attributes:
        speakers: to batch systems.
        environ: of this process.
        settings: of the pool.
        access_base: of the private directories that nodes share; None is the usual one.
    """

    speakers: Speakers
    environ: Mapping[str, str]
    settings: PoolSettings
    access_base: str | None
    notice: Callable[[str], None]

    def end(self, root_rundir: str) -> None:
        """End what the last run in a run directory has left, and wait until nothing of it writes there any more.

        The wait has an end even where nobody answers: by then its workers have stopped by themselves what they ran.

        Raises:
            DfmError: a runner cannot be used.
        """
        trace = read_trace(root_rundir)
        if trace is not None:
            asyncio.run(self._end(trace, root_rundir))
        remove_trace(root_rundir)

    async def _end(self, trace: Trace, root_rundir: str) -> None:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell())
            still = await (self._end_pool if trace.has_own_pool else self._end_in_daemon)(trace, root_rundir)
            telling.cancel()
        if still:
            names = ", ".join(sorted(still)[:5])
            self.notice(f"jobs of the run before are not known to have ended: {names}; `dfm daemon reap` ends them")

    async def _tell(self) -> None:
        await asyncio.sleep(_TELL_SECONDS)
        self.notice("waits: the run before was killed, and its tasks on workers are being stopped")

    async def _end_pool(self, trace: Trace, root_rundir: str) -> set[str]:
        """End a pool that died with its run; its workers leave as soon as they miss it, within their lease."""
        until = self._until(self.settings.lease_timeout)
        is_here = trace.host == socket.gethostname()
        directory = own_pool_state(trace.run_id) if is_here else ""
        still = await end_run(self.speakers, self.environ, directory, own_pool_snapshot(root_rundir), until)
        access = own_pool_access(trace.project, trace.run_id, self.access_base)
        shutil.rmtree(os.path.dirname(access), ignore_errors=True)
        return still

    async def _end_in_daemon(self, trace: Trace, root_rundir: str) -> set[str]:
        endpoint = Endpoint(trace.project)
        vacate = Ask(verb="vacate", rundir=_real(root_rundir))
        found = endpoint.read()
        if found is not None and found.host != socket.gethostname():
            # That daemon stops the tasks of a run that is gone by itself.
            await asyncio.sleep((self.settings.client_grace + self.settings.kill_grace) * self.settings.time_scale)
            return set()
        with contextlib.suppress(RunnerError):  # it is gone, perhaps just now
            while not (await ask_daemon(endpoint, vacate))["is_vacant"]:  # noqa: ASYNC110  (it is another process)
                await asyncio.sleep(_LOOK_SECONDS)
            return set()
        until = self._until(self.settings.lost_timeout)
        return await end_tasks(self.speakers, self.environ, endpoint.state_location(), vacate.rundir, until)

    def _until(self, seconds: float) -> float:
        return time.monotonic() + seconds * self.settings.time_scale


def _real(path: str) -> str:
    return os.path.realpath(path)
