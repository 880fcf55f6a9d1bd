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
from dataclasses import dataclass

from dfm.api.batch import BatchDialect, CancelState, Command, CommandOutput, JobKey, JobState, Listed
from dfm.core.pool.batch import Questions, ask
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.journal import replay
from dfm.core.pool.ledger import Ledger, LedgerSettings, array_of, prefix_of

LOCK_NAME = "owner.lock"
_QUESTIONS = 4
"""So often it is asked what is left: a batch system that ends a job step by step takes some 20 s for it."""


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
    dialect: BatchDialect,
    environ: Mapping[str, str],
    root: str,
    poll_seconds: float,
    snapshots: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Cancel what is left; return the names of jobs that are gone now, and of those that are not known to be.

    Args:
        dialect: of the batch system that the jobs were submitted to.
        environ: of this process.
        root: directory under which journals lie.
        poll_seconds: shortest time between two questions to the batch system.
        snapshots: of daemons on other hosts that are gone; removed with the last of their jobs.
    """
    gone: list[str] = []
    left: list[str] = []
    commands = CommandRunner(environ)
    turn = _Turn(commands, poll_seconds)
    for path in sorted(glob.glob(os.path.join(glob.escape(root), "*", "journal"))):
        directory = os.path.dirname(path)
        with owned(directory) as is_ours:
            if not is_ours:
                continue
            jobs = _unfinished(path)
            still = await _cancelled(dialect, commands, turn, jobs)
            gone += [job.name for job in jobs if job.name not in still]
            left += sorted(still)
            if not still:
                shutil.rmtree(directory, ignore_errors=True)
    for path in snapshots:
        jobs = [job for job in _unfinished(path) if job.name not in (*gone, *left)]
        still = await _cancelled(dialect, commands, turn, jobs)
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


async def _cancelled(dialect: BatchDialect, commands: CommandRunner, turn: "_Turn", jobs: list[JobKey]) -> set[str]:
    """Cancel jobs and return the names of those that are still there after a while.

    They are asked for together, and each is told to end once.
    """
    left = {job.name for job in jobs}
    told: set[str] = set()
    for _ in range(_QUESTIONS):
        alive: list[JobKey] = []
        for questions, names in _questions([job for job in jobs if job.name in left]):
            answer, dialect = await ask(dialect, questions, turn.run)
            if isinstance(answer, Listed):
                living = _living(answer, names)
                left -= names.keys() - {job.name for job in living}
                alive += living
        for command in dialect.cancel([job for job in alive if job.id not in told]):
            states = dialect.parse_cancel(command, await commands.run(command)).states
            told |= {job_id for job_id, state in states.items() if state is not CancelState.REFUSED}
        if not left:
            break
    return left


@dataclass(slots=True)
class _Turn:
    """Runs what asks for states, no two sooner after each other than `poll_seconds`."""

    commands: CommandRunner
    poll_seconds: float
    asked_at: float = float("-inf")

    async def run(self, command: Command) -> CommandOutput:
        await asyncio.sleep(max(0.0, self.asked_at + self.poll_seconds - time.monotonic()))
        self.asked_at = time.monotonic()
        return await self.commands.run(command)


def _questions(jobs: Sequence[JobKey]) -> Iterator[tuple[Questions, dict[str, JobKey]]]:
    """Yield what to ask, and the jobs by name that it tells of: those with an id, and each name without one."""
    for prefix in sorted({prefix_of(job.name) for job in jobs if job.id is not None}):
        known = {job.name: job for job in jobs if job.id is not None and prefix_of(job.name) == prefix}
        yield _by_id(prefix, tuple(known.values())), known
    for name in sorted({array_of(job.name) for job in jobs if job.id is None}):
        yield _by_name(name), {job.name: job for job in jobs if job.id is None and array_of(job.name) == name}


def _by_id(prefix: str, jobs: Sequence[JobKey]) -> Questions:
    return lambda dialect: dialect.query(prefix, jobs)


def _by_name(name: str) -> Questions:
    return lambda dialect: [dialect.find(name)]


def _living(answer: Listed, names: Mapping[str, JobKey]) -> list[JobKey]:
    """Return those of our jobs that live, each by the id under which the batch system has its name."""
    by_id = {job.id: job.name for job in names.values()}
    found = [(status.name or by_id.get(status.id, ""), status) for status in answer.jobs]
    return [
        JobKey(name=name, id=status.id, cluster=status.cluster)
        for name, status in found
        if name in names and status.state is not JobState.ENDED
    ]
