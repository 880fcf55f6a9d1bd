"""Cancels worker jobs that nobody looks after any more: those in the journals of daemons and runs that are gone.

A journal is somebody's as long as its lock is held; only journals without an owner are looked at. A job is cancelled by
the id that belongs to its name, after the batch system has said that a job of that name is there.
"""

import asyncio
import contextlib
import fcntl
import glob
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence

from dfm.api.batch import BatchDialect, JobKey, JobState, Listed
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.journal import replay
from dfm.core.pool.ledger import Ledger, LedgerSettings

LOCK_NAME = "owner.lock"
GRACE_SECONDS = 30.0


@contextlib.contextmanager
def owned(directory: str) -> Iterator[bool]:
    """Hold the lock of a journal's directory; gives False where somebody else has it."""
    fd = os.open(os.path.join(directory, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


async def reap(
    dialect: BatchDialect, environ: Mapping[str, str], root: str, snapshots: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Cancel what is left; return the names of jobs that are gone now, and of those that are not known to be.

    Args:
        dialect: of the batch system that the jobs were submitted to.
        environ: of this process.
        root: directory under which journals lie.
        snapshots: of daemons on other hosts that are gone; removed with the last of their jobs.
    """
    gone: list[str] = []
    left: list[str] = []
    commands = CommandRunner(environ)
    for path in sorted(glob.glob(os.path.join(glob.escape(root), "*", "journal"))):
        directory = os.path.dirname(path)
        with owned(directory) as is_ours:
            if not is_ours:
                continue
            jobs = _unfinished(path)
            still = await _cancelled(dialect, commands, jobs)
            gone += [job.name for job in jobs if job.name not in still]
            left += sorted(still)
            if not still:
                shutil.rmtree(directory, ignore_errors=True)
    for path in snapshots:
        jobs = [job for job in _unfinished(path) if job.name not in (*gone, *left)]
        still = await _cancelled(dialect, commands, jobs)
        gone += [job.name for job in jobs if job.name not in still]
        left += sorted(still)
        if not left:
            os.unlink(path)
    return gone, left


def _unfinished(path: str) -> list[JobKey]:
    """Return the jobs of a journal that are not known to have ended."""
    with open(path, "rb") as file:
        found = replay(file.read())
    ledger = Ledger(LedgerSettings(), "reaping0", 0)
    ledger.restore(_of_jobs(found.entries), time.monotonic())
    return [JobKey(name=job.name, id=job.id) for job in ledger.jobs()]


def _of_jobs(entries: list[JournalEntry]) -> list[JournalEntry]:
    return [entry for entry in entries if entry.kind.startswith("job")]


async def _cancelled(dialect: BatchDialect, commands: CommandRunner, jobs: list[JobKey]) -> set[str]:
    """Cancel jobs and return the names of those that are still there after a while."""
    left = {job.name for job in jobs}
    deadline = time.monotonic() + GRACE_SECONDS
    while left:
        alive: list[JobKey] = []
        for name in sorted(left):
            command = dialect.find(name)
            answer = dialect.parse_query(command, await commands.run(command))
            if not isinstance(answer, Listed):
                continue
            living = [job for job in answer.jobs if job.state is not JobState.ENDED]
            alive += [JobKey(name=name, id=job.id, cluster=job.cluster) for job in living]
            if not living:
                left.discard(name)
        for command in dialect.cancel(alive):
            await commands.run(command)
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(1.0)
    return left
