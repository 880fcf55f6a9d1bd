"""A pool in this process: journal, reactor, ledger, listener and engine, from its opening to its end.

The same for a daemon and for a single `dfm run`. At its end every worker is told to go and every job is cancelled; what
cannot be cancelled in time stays in the journal, for `dfm daemon reap` and for the workers themselves, who leave when
nobody serves them. Where no job is left, and no client is owed anything by a daemon, the journal goes too.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import cast

from dfm.api.batch import BatchDialect
from dfm.api.errors import InfrastructureError, RunnerError
from dfm.core.__about__ import __version__
from dfm.core.causes import first_cause
from dfm.core.config.settings import PoolSettings
from dfm.core.crashpoint import crash_point
from dfm.core.pool.addresses import LOOPBACK, listening_addresses, own_addresses
from dfm.core.pool.batch import BatchJobs, JobPlace
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.engine import Engine
from dfm.core.pool.jobs import CancelAllWanted
from dfm.core.pool.jobtable import job_name
from dfm.core.pool.journal import (
    Header,
    JournalFile,
    Replay,
    encode,
    encode_header,
    read_snapshot,
    write_snapshot,
)
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.pool.reap import jobs_in, owned, owner_of
from dfm.core.wire.access import Access, Root, new_key, plant_probe, remove_probe, write_access
from dfm.core.wire.channel import Channel, Listener, listen_tcp, own_identity
from dfm.core.wire.exchange import decode_from_worker
from dfm.core.wire.handshake import slot_key
from dfm.core.wire.messages import FromWorker, Hello, Message, Shape
from dfm.core.wire.redaction import Redaction
from dfm.core.wire.tls import TLS_HINT, can_tls

END_SECONDS = 10.0
LEAVE_SECONDS = 2.0
"""Beyond `kill_grace`: how long a worker may take to leave before its job is cancelled under it."""
SYNC_SECONDS = 0.02
SNAPSHOT_SECONDS = 60.0
"""How old the snapshot for other hosts may become; a job it does not have leaves by itself when its slot is unknown."""
_POLL_HERE_SECONDS = 1.0
RESULTS_DIRECTORY = "results"
"""In the directory of the access file: results that workers keep until they are acknowledged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """All that makes one pool.

    Attributes:
        project: absolute directory that nodes share; where workers start.
        instance: eight characters for the names of jobs.
        epoch: of this life of the pool.
        state_directory: private, on this host's own disk; holds the journal.
        access_path: of the access file, in a private directory that nodes share.
        log_directory: for the logs of workers, shared with the nodes.
        default_shape: of workers that are kept for `min_workers`.
        is_on_this_host: workers are processes of this host; nobody else needs to reach it.
        is_passing: it lives as long as a run; when all its jobs have ended nothing of it is kept.
        snapshot_path: where a daemon on another host finds which jobs there are; empty where none ever looks.
        redaction: looks over what the pool tells of itself.
        probe: by which workers see that they have the same directory; planted when the pool opens.
        is_succeeded: asked at the end: whether what lies at the shared paths may be another pool's by now.
    """

    dialect: BatchDialect
    settings: PoolSettings
    project: str
    instance: str
    epoch: int
    state_directory: str
    access_path: str
    log_directory: str
    default_shape: Shape
    environ: Mapping[str, str]
    notice: Callable[[str], None]
    is_on_this_host: bool = False
    is_passing: bool = False
    snapshot_path: str = ""
    probe: Root | None = None
    is_succeeded: Callable[[], bool] = lambda: False
    redaction: Redaction = field(default_factory=Redaction)

    @property
    def journal_path(self) -> str:
        """Where the journal is."""
        return os.path.join(self.state_directory, "journal")


@contextlib.asynccontextmanager
async def hosted(plan: PoolPlan, broken: Callable[[str], None] = lambda _: None) -> AsyncIterator[Engine]:
    """Open a pool and give its engine; at the end of the block every job of it has been cancelled.

    Args:
        plan: of the pool.
        broken: is told why the pool cannot go on, before the block is cancelled.

    Raises:
        InfrastructureError: the journal or the directories cannot be written; where that happens while the pool is
            open, the block is cancelled.
        RunnerError: the port cannot be had.
    """
    if plan.settings.require_encryption and not can_tls():
        raise RunnerError("runner.pool.require_encryption is set, and this Python cannot encrypt links", hint=TLS_HINT)
    plan = _settled(plan)
    header = Header(project=plan.project, epoch=plan.epoch, runner=plan.dialect.name)
    with owned(plan.state_directory) as is_ours:
        if not is_ours:
            raise _taken(plan.state_directory)
        journal, replay = _opened(plan, header)
        crash_point("pool.journal.open")
        probe = plant_probe(plan.log_directory)
        try:
            alarm = _Alarm(plan.journal_path, broken)
            async with _hosted(dataclasses.replace(plan, probe=probe), header, journal, replay, alarm) as engine:
                yield engine
        finally:
            remove_probe(probe)


def _settled(plan: PoolPlan) -> PoolPlan:
    """Return the plan with what holds for processes of this host: they have no limit, and to look at them is cheap."""
    if not plan.is_on_this_host:
        return plan
    poll_interval = min(plan.settings.poll_interval, _POLL_HERE_SECONDS)
    return dataclasses.replace(
        plan, settings=dataclasses.replace(plan.settings, walltime=None, poll_interval=poll_interval)
    )


def _taken(directory: str) -> RunnerError:
    owner = owner_of(directory)
    who = "" if owner is None else f" (pid {owner})"
    return RunnerError(
        f"the journal in {directory} belongs to a process that lives{who}",
        hint="a daemon whose .dfm was removed ends by itself within seconds: try again then; "
        f"one whose project was moved is stopped there, or by `kill {owner or 'PID'}`",
    )


@contextlib.asynccontextmanager
async def _hosted(
    plan: PoolPlan, header: Header, journal: JournalFile, replay: Replay, alarm: "_Alarm"
) -> AsyncIterator[Engine]:
    with journal:
        now = time.monotonic()
        prefix = f"dfm-{plan.instance}-"
        place = JobPlace(
            prefix=prefix,
            directory=plan.project,
            log_directory=plan.log_directory,
            access=plan.access_path,
            has_limits=not plan.is_on_this_host,
        )
        rules = ReactorSettings.of(
            plan.settings,
            lambda slot: place.log_of(job_name(plan.instance, slot)),
            has_many_hosts=not plan.is_on_this_host,
        )
        reactor = Reactor(rules, plan.epoch)
        ledger = Ledger(LedgerSettings.of(plan.settings), plan.instance, plan.epoch)
        reactor.restore(replay.entries, now)
        restored = ledger.restore(replay.entries, now)
        try:
            async with asyncio.TaskGroup() as group:
                engine = Engine(
                    reactor,
                    ledger,
                    journal,
                    plan.settings,
                    plan.epoch,
                    plan.default_shape,
                    fail=alarm.ring,
                    redaction=plan.redaction,
                    is_passing=plan.is_passing,
                )
                jobs = BatchJobs(
                    ledger=ledger,
                    dialect=plan.dialect,
                    commands=CommandRunner(plan.environ, max(plan.settings.time_scale, 0.05)),
                    settings=plan.settings,
                    place=place,
                    group=group,
                    record=engine.record,
                    flush=lambda: _flushed(engine, journal, alarm),
                    announce=engine.feed,
                    notice=engine.notice,
                )
                if not plan.is_passing:
                    engine.on_notice = plan.notice  # a run's own pool tells its only client
                listening = _served(plan, engine, ledger, group)
                crash_point("pool.access.written")
                syncing = group.create_task(_sync(plan, journal, header, reactor, ledger, alarm))
                try:
                    async with alarm:
                        engine.start(jobs)
                        jobs.do(restored)
                        yield engine
                finally:
                    if plan.is_passing or not alarm.is_of_journal:
                        await _ended(plan, engine, jobs, is_orderly=alarm.error is None)
                    syncing.cancel()
                    listening.cancel()
                    engine.stop()
        except BaseExceptionGroup as group:
            if alarm.error is None:
                raise first_cause(group) from group
            raise alarm.error from alarm.error.__cause__


class _Alarm:
    """Ends the block of whoever uses the pool, with the reason for which the pool cannot go on.

    A daemon whose journal cannot be written leaves its workers and jobs as they are, as if it had been killed: what
    they run and have run is for the next daemon, and what is in the journal is true.
    """

    def __init__(self, journal_path: str, broken: Callable[[str], None]) -> None:
        self.error: BaseException | None = None
        self.is_of_journal = False
        self._journal_path = journal_path
        self._broken = broken
        self._group = asyncio.TaskGroup()
        self._is_over = False

    async def __aenter__(self) -> None:
        await self._group.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        await self._group.__aexit__(kind, error, traceback)

    def ring(self, error: BaseException) -> None:
        """Say that the pool cannot go on; the first reason counts. At the end of the block nobody listens any more."""
        if self.error is not None or self._is_over:
            _log.warning("%s: %s", self._journal_path, error)
            return
        self.error = error
        if isinstance(error, OSError):
            self.is_of_journal = True
            self.error = InfrastructureError(f"cannot write the pool's journal {self._journal_path}: {error.strerror}")
            self.error.__cause__ = error
        self._broken(str(self.error))
        self._group.create_task(self._raise(self.error))

    async def _raise(self, error: BaseException) -> None:
        raise error


def _opened(plan: PoolPlan, header: Header) -> tuple[JournalFile, Replay]:
    try:
        os.makedirs(plan.log_directory, exist_ok=True)
        journal, found = JournalFile.open(plan.journal_path, header, is_full=plan.settings.journal_sync == "full")
        try:
            found = _taken_over(plan, journal, found)
            if found.header is not None and found.header.runner != header.runner:
                _refuse_jobs_of(found)
                journal.rotate(header, found.entries)
        except BaseException:
            journal.close()
            raise
    except OSError as error:
        raise InfrastructureError(f"cannot write {error.filename or plan.journal_path}: {error.strerror}") from error
    return journal, found


def _taken_over(plan: PoolPlan, journal: JournalFile, found: Replay) -> Replay:
    """Return what the journal holds; where it is new, what a daemon on another host has left."""
    if found.entries or plan.is_passing or not plan.snapshot_path:
        return found
    snapshot = read_snapshot(plan.snapshot_path, plan.project)
    if snapshot is None or not snapshot.entries:
        return found
    plan.notice("this host has no journal of the project: the jobs of a daemon elsewhere are taken over")
    journal.append(snapshot.entries)
    return snapshot


def _refuse_jobs_of(found: Replay) -> None:
    """Raise RunnerError where jobs of another runner have not ended: nobody here speaks to its batch system."""
    assert found.header is not None
    left, runner = jobs_in(found), found.header.runner
    if left:
        raise RunnerError(
            f"{len(left)} worker jobs of runner {runner} have not ended since this project's daemon had that runner",
            hint=f"`dfm daemon reap` ends them; `dfm daemon start --runner {runner}` takes them in again",
        )


def _served(plan: PoolPlan, engine: Engine, ledger: Ledger, group: asyncio.TaskGroup) -> "asyncio.Task[None]":
    """Listen for workers and tell them where; return what listens."""
    key, daemon_id = new_key(), secrets.token_bytes(16)
    settings = plan.settings
    here = (LOOPBACK,) if plan.is_on_this_host else ()
    sockets = listen_tcp(listening_addresses(settings.bind, settings.addresses or here), settings.port)
    listener = Listener(
        sockets,
        accept=lambda channel: _WorkerEnd(engine, channel),
        identity=own_identity(__version__),
        keys=lambda slot: slot_key(key, slot) if ledger.knows(slot) else None,
        daemon_id=daemon_id,
        is_encrypted=settings.require_encryption,
    )
    directory, name = os.path.split(plan.access_path)
    write_access(
        directory,
        Access(
            project=plan.project,
            epoch=plan.epoch,
            daemon_id=daemon_id,
            key=key,
            addresses=tuple(settings.addresses or here or own_addresses()),
            port=sockets[0].getsockname()[1],
            roots=(plan.probe,) if plan.probe is not None else (),
            time_scale=settings.time_scale,
            is_encrypted=settings.require_encryption,
        ),
        name,
    )
    listening = group.create_task(listener.run())
    listening.add_done_callback(lambda _: listener.close())
    return listening


class _WorkerEnd:
    """Our end of a worker's link: its hello first, then all else to the engine."""

    decoder = staticmethod(decode_from_worker)

    def __init__(self, engine: Engine, channel: Channel) -> None:
        self._engine = engine
        self._channel = channel
        self._incarnation: str | None = None

    def on_messages(self, messages: list[Message]) -> None:
        """Take in what the worker says."""
        said = cast("list[FromWorker]", messages)
        if self._incarnation is None:
            hello = said.pop(0)
            if not isinstance(hello, Hello) or hello.slot != self._channel.slot:
                self._channel.abort("a worker speaks before it says hello, or for another slot")
                return
            self._incarnation = hello.incarnation
            self._engine.worker_came(hello, self._channel)
        self._engine.worker_said(self._channel.slot, self._incarnation, said)

    def on_closed(self, reason: str) -> None:  # noqa: ARG002  (the protocol's signature)
        """Tell the engine that the link is gone."""
        if self._incarnation is not None:
            self._engine.worker_went(self._channel.slot, self._incarnation, self._channel)


async def _ended(plan: PoolPlan, engine: Engine, jobs: BatchJobs, *, is_orderly: bool) -> None:
    """Have every worker go and every job end, and wait for it, not long: a worker ends its tasks in order first."""
    engine.dismiss_workers("the pool closes")
    jobs.feed(CancelAllWanted("the pool closes"))
    if not plan.is_succeeded():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(plan.access_path)
    crash_point("pool.access.removed")
    await jobs.all_ended(plan.settings.kill_grace * plan.settings.time_scale + LEAVE_SECONDS)
    if jobs.left():
        jobs.feed(CancelAllWanted("the pool closes", is_urgent=True))
        await jobs.all_ended(END_SECONDS)
    crash_point("pool.jobs.ended")
    left = jobs.left()
    if not left:
        _tidy(plan, is_needed=not plan.is_passing and (engine.is_owing or not is_orderly))
    if left:
        names = ", ".join(f"{job.name} ({job.id or 'no id'})" for job in left[:5])
        plan.notice(
            f"{len(left)} worker jobs are not known to have ended: {names}; they leave by themselves, "
            "and `dfm daemon reap` cancels what is left"
        )


def _tidy(plan: PoolPlan, *, is_needed: bool) -> None:
    """Remove what a pool without jobs leaves, but its journal where that is needed; its lock is still held."""
    if not plan.is_succeeded():
        if plan.snapshot_path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(plan.snapshot_path)
        private = os.path.dirname(plan.access_path)
        shutil.rmtree(private if plan.is_passing else os.path.join(private, RESULTS_DIRECTORY), ignore_errors=True)
        if not is_needed:
            with contextlib.suppress(OSError):  # it is not empty, or was removed above
                os.rmdir(private)
    if not is_needed:
        shutil.rmtree(plan.state_directory, ignore_errors=True)


async def _flushed(engine: Engine, journal: JournalFile, alarm: _Alarm) -> None:
    """Have what was recorded survive a loss of power: what is submitted next must be known after one."""
    try:
        engine.flush_records()
        await asyncio.get_running_loop().run_in_executor(None, journal.sync)
    except OSError as error:
        alarm.ring(error)
        await asyncio.Future()  # what was to follow must never happen; the pool ends


async def _sync(
    plan: PoolPlan, journal: JournalFile, header: Header, reactor: Reactor, ledger: Ledger, alarm: _Alarm
) -> None:
    """Have what is in the journal survive a loss of power, a moment later; keep the file small, and others informed."""
    loop, synced = asyncio.get_running_loop(), journal.size_bytes
    shown, due_at = 0, 0.0
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        try:
            if journal.is_due_for_rotation:
                journal.rotate(header, [*reactor.snapshot(), *ledger.snapshot()])
                synced = shown = 0
            if journal.size_bytes != synced:
                synced = journal.size_bytes
                await loop.run_in_executor(None, journal.sync)
        except OSError as error:
            alarm.ring(error)
            return
        if plan.snapshot_path and journal.size_bytes != shown and loop.time() >= due_at:
            shown, due_at = journal.size_bytes, loop.time() + SNAPSHOT_SECONDS * plan.settings.time_scale
            await loop.run_in_executor(None, _show, plan, encode_header(header) + encode(ledger.snapshot()))


def _show(plan: PoolPlan, content: bytes) -> None:
    try:
        write_snapshot(plan.snapshot_path, content)
    except OSError as error:
        _log.warning("cannot write %s: %s", plan.snapshot_path, error.strerror)
