"""Ends worker jobs that nobody looks after any more: those in the journals of daemons and runs that are gone.

A journal is somebody's as long as its lock is held; only journals without an owner are looked at. Each is of one
runner, and only by that runner's words its jobs are spoken of. A job is cancelled by the id that belongs to its name,
after the batch system has said that a job of that name is there.
"""

import asyncio
import contextlib
import fcntl
import glob
import itertools
import os
import shutil
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from dfm.api.batch import BatchDialect, CancelState, Command, CommandOutput, JobKey, JobState, Listed
from dfm.core.pool.batch import Questions, ask
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.jobtable import array_of, prefix_of
from dfm.core.pool.journal import Header, Replay, read_header, read_journal
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.wire.access import is_private, private_directory

LOCK_NAME = "owner.lock"
JOURNAL_NAME = "journal"
_FLOCK = struct.Struct("hhqqi0q")
"""struct flock of 64-bit Linux (fcntl(2)): type, whence, start, length, pid."""
_QUESTIONS = 4
"""So often it is asked what is left: a batch system that ends a job step by step takes some 20 s for it."""


class Speaker(msgspec.Struct, frozen=True):
    """How to speak to a batch system.

    Attributes:
        poll_seconds: shortest time between two questions.
    """

    dialect: BatchDialect
    poll_seconds: float


Speakers = Callable[[str], Speaker | None]
"""Returns who speaks to the batch system of a runner of that name; None where nobody here can."""


@contextlib.contextmanager
def owned(directory: str) -> Iterator[bool]:
    """Hold the lock of a journal's directory; gives False where somebody else has it, or there is no directory."""
    fd = _locked(os.path.join(directory, LOCK_NAME))
    if fd is None:
        yield False
        return
    try:
        with contextlib.suppress(OSError):  # a full disk; it is for messages only
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield True
    finally:
        os.close(fd)


def owner_of(directory: str) -> int | None:
    """Return the process that says that a journal is its own, for a message; None where none does.

    Never for a journal that this process owns: with any descriptor of the file that is closed the lock is let go.
    """
    try:
        with open(os.path.join(directory, LOCK_NAME), encoding="ascii") as file:
            return int(file.read(20))
    except (OSError, ValueError):
        return None


def is_owned(directory: str) -> bool:
    """Return whether another process holds the lock of a journal's directory; nothing is locked for that."""
    try:
        with open(os.path.join(directory, LOCK_NAME), "rb") as file:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_ = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
            return bool(kind != fcntl.F_UNLCK)
    except FileNotFoundError:
        return False


def _locked(path: str) -> int | None:
    """Open a lock file and lock it; None where that cannot be.

    Whoever had the lock may have removed the directory with it, and somebody made both anew: only the file that lies
    there counts.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, fd):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def jobs_in(found: Replay) -> list[JobKey]:
    """Return the jobs of a journal that are not known to have ended."""
    return [JobKey(name=job.name, id=job.id) for job in _ledger_of(found).jobs()]


@dataclass(slots=True)
class Reaped:
    """What became of the jobs that were left.

    Attributes:
        ended: names of those that were there and are gone now.
        left: names of those that are not known to be gone.
        gone: names of those that had ended before.
    """

    ended: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


async def reap(
    speakers: Speakers,
    environ: Mapping[str, str],
    root: str,
    *,
    project: str | None = None,
    snapshots: Sequence[str] = (),
    private_of: Callable[[str, Replay], str | None] = lambda _directory, _found: None,
) -> Reaped:
    """Cancel what is left, and remove the journals of which nothing is.

    Args:
        speakers: to the batch systems that jobs were submitted to.
        environ: of this process.
        root: directory under which journals lie.
        project: whose journals are looked at, and those of projects that are not there any more; None looks at all.
        snapshots: of daemons on other hosts that are gone; removed with the last of their jobs.
        private_of: from a journal's directory and content, returns the directory with the key, which goes with it.

    Raises:
        AccessError: others may write where the journals lie.
    """
    reaper = _Reaper(speakers, environ)
    reaped = Reaped()
    for directory in _journals(root, project):
        with owned(directory) as is_ours:
            if not is_ours:
                continue
            found = read_journal(os.path.join(directory, JOURNAL_NAME))
            if not await _reap_one(reaper, found, jobs_in(found), reaped):
                private = private_of(directory, found)
                if private is not None and is_private(private):
                    shutil.rmtree(private, ignore_errors=True)
                shutil.rmtree(directory, ignore_errors=True)
    for path in snapshots:
        found = read_journal(path)
        told = {*reaped.ended, *reaped.left, *reaped.gone}
        await _reap_one(reaper, found, [job for job in jobs_in(found) if job.name not in told], reaped)
        if not reaped.left:
            os.unlink(path)
    return reaped


async def _reap_one(reaper: "_Reaper", found: Replay, jobs: list[JobKey], reaped: Reaped) -> set[str]:
    """End jobs that one journal tells of; return those that are not known to be gone."""
    still = await reaper.end(found, jobs)
    for job in jobs:
        if job.name in still:
            reaped.left.append(job.name)
        elif job.name in reaper.seen:
            reaped.ended.append(job.name)
        else:
            reaped.gone.append(job.name)
    return still


def _journals(root: str, project: str | None) -> list[str]:
    """Return the private directories of the journals that are of a project, or of none that is there."""
    if not os.path.isdir(root):
        return []
    private_directory(root)
    paths = sorted(glob.glob(os.path.join(glob.escape(root), "*", JOURNAL_NAME)))
    return [
        os.path.dirname(path)
        for path in paths
        if is_private(os.path.dirname(path)) and (project is None or _is_of(read_header(path), project))
    ]


def _is_of(header: Header | None, project: str) -> bool:
    if header is None or os.path.realpath(header.project) == os.path.realpath(project):
        return True
    try:
        os.stat(header.project)
    except (FileNotFoundError, NotADirectoryError):
        return True  # else nobody would ever reap it
    except OSError:
        return False
    return False


async def end_run(
    speakers: Speakers, environ: Mapping[str, str], directory: str, snapshot: str, until: float
) -> set[str]:
    """End all jobs of a run's own pool, which is gone; return those with tasks that may still run.

    Args:
        speakers: to the batch systems that jobs were submitted to.
        environ: of this process.
        directory: of the journal; removed with the last of the jobs.
        snapshot: that is looked at where this host has no journal of the run.
        until: when to wait no longer, on the monotonic clock.
    """
    reaper = _Reaper(speakers, environ)
    if not _is_there(directory):
        found = read_journal(snapshot)
        jobs = jobs_in(found)
        return await reaper.end(found, jobs, {job.name for job in jobs}, until)
    with owned(directory) as is_ours:
        if not is_ours:
            return set()
        found = read_journal(os.path.join(directory, JOURNAL_NAME))
        working = working_jobs(found)
        still = await reaper.end(found, jobs_in(found), working, until)
        if not still:
            shutil.rmtree(directory, ignore_errors=True)
        return still & working


async def end_tasks(
    speakers: Speakers, environ: Mapping[str, str], directory: str, rundir: str, until: float
) -> set[str]:
    """End the jobs of a daemon, which is gone, that have tasks of a run directory; return those that may still run.

    The other jobs are for the next daemon.
    """
    if not _is_there(directory):
        return set()
    with owned(directory) as is_ours:
        if not is_ours:
            return set()
        found = read_journal(os.path.join(directory, JOURNAL_NAME))
        working = working_jobs(found, rundir)
        jobs = [job for job in jobs_in(found) if job.name in working]
        return await _Reaper(speakers, environ).end(found, jobs, working, until)


def working_jobs(found: Replay, rundir: str | None = None) -> set[str]:
    """Return the names of the jobs whose workers were given tasks that are not known to have ended.

    Args:
        found: a journal.
        rundir: only tasks of runs in this directory count; None counts all.
    """
    reactor = Reactor(ReactorSettings(), 0)
    reactor.restore(found.entries, 0.0)
    slots = reactor.slots_at_work(rundir)
    return {job.name for job in _ledger_of(found).jobs() if job.slot in slots}


def _is_there(directory: str) -> bool:
    return os.path.isdir(directory)


def _ledger_of(found: Replay) -> Ledger:
    ledger = Ledger(LedgerSettings(), "reaping0", 0)
    ledger.restore(_of_jobs(found.entries), time.monotonic())
    return ledger


def _of_jobs(entries: list[JournalEntry]) -> list[JournalEntry]:
    return [entry for entry in entries if entry.kind.startswith("job")]


class _Reaper:
    """Ends jobs, and asks each batch system no sooner again than it may be asked."""

    def __init__(self, speakers: Speakers, environ: Mapping[str, str]) -> None:
        self._speakers = speakers
        self._commands = CommandRunner(environ)
        self._turns: dict[str, _Turn] = {}
        self._dialects: dict[str, BatchDialect] = {}
        self.seen: set[str] = set()
        """Names of the jobs that the batch system said are there, when they were told to end last."""

    async def end(
        self, found: Replay, jobs: list[JobKey], awaited: Collection[str] | None = None, until: float = float("inf")
    ) -> set[str]:
        """Cancel jobs and return the names of those that are still there, or not known not to be.

        They are asked for together, and each is told to end once.

        Args:
            found: the journal that tells of them.
            jobs: what shall end.
            awaited: names; it is asked again until these are gone, the others need only have been told. None: all are
                waited for, so long as a batch system needs.
            until: when it is not asked again whatever is left, on the monotonic clock.
        """
        self.seen.clear()
        runner = "" if found.header is None else found.header.runner
        left = {job.name for job in jobs}
        turn = self._turn_for(runner) if left else None
        if turn is None:
            if left & set(awaited or ()):
                await asyncio.sleep(max(0.0, until - time.monotonic()))
            return left
        told: set[str] = set()
        for number in itertools.count(1):
            alive = await self._alive(runner, turn, [job for job in jobs if job.name in left], left)
            self.seen |= {job.name for job in alive}
            for command in self._dialects[runner].cancel([job for job in alive if job.id not in told]):
                states = self._dialects[runner].parse_cancel(command, await self._commands.run(command)).states
                told |= {job_id for job_id, state in states.items() if state is not CancelState.REFUSED}
            if awaited is not None:
                left -= {job.name for job in alive if job.id in told} - set(awaited)
            is_over = number == _QUESTIONS if awaited is None else turn.next_at > until or not left & set(awaited)
            if is_over or not left:
                break
        return left

    def _turn_for(self, runner: str) -> "_Turn | None":
        if runner not in self._turns:
            speaker = self._speakers(runner)
            if speaker is None:
                return None
            self._dialects[runner] = speaker.dialect
            self._turns[runner] = _Turn(self._commands, speaker.poll_seconds)
        return self._turns[runner]

    async def _alive(self, runner: str, turn: "_Turn", jobs: list[JobKey], left: set[str]) -> list[JobKey]:
        """Return the jobs that live; those that do not are taken out of `left`."""
        alive: list[JobKey] = []
        for questions, names in _questions(jobs):
            answer, self._dialects[runner] = await ask(self._dialects[runner], questions, turn.run)
            if isinstance(answer, Listed):
                living = _living(answer, names)
                left -= names.keys() - {job.name for job in living}
                alive += living
        return alive


@dataclass(slots=True)
class _Turn:
    """Runs what asks for states, no two sooner after each other than `poll_seconds`."""

    commands: CommandRunner
    poll_seconds: float
    next_at: float = float("-inf")

    async def run(self, command: Command) -> CommandOutput:
        await asyncio.sleep(max(0.0, self.next_at - time.monotonic()))
        self.next_at = time.monotonic() + self.poll_seconds
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
