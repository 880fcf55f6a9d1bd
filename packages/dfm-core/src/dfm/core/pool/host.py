"""A pool in this process: journal, reactor, ledger, listener and engine, from its opening to its end.

The same for a daemon and for a single `dfm run`. At its end every worker is told to go and every job is cancelled; what
cannot be cancelled in time stays in the journal, for `dfm daemon reap` and for the workers themselves, who leave when
nobody serves them.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from dfm.api.batch import BatchDialect
from dfm.api.errors import InfrastructureError, RunnerError
from dfm.core.__about__ import __version__
from dfm.core.config.settings import PoolSettings
from dfm.core.pool.addresses import LOOPBACK, listening_addresses, own_addresses
from dfm.core.pool.batch import BatchJobs, JobPlace
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.engine import Engine
from dfm.core.pool.jobs import CancelAllWanted
from dfm.core.pool.journal import Header, JournalFile, Replay
from dfm.core.pool.ledger import Ledger, LedgerSettings, job_name
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.pool.reap import owned
from dfm.core.wire.access import Access, new_key, write_access
from dfm.core.wire.channel import Channel, WorkerServer
from dfm.core.wire.codec import decode_from_worker
from dfm.core.wire.messages import FromWorker, Hello, Shape

END_SECONDS = 10.0
SYNC_SECONDS = 0.02
PROBE_NAME = ".dfm-probe"

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

    @property
    def journal_path(self) -> str:
        """Where the journal is."""
        return os.path.join(self.state_directory, "journal")


@contextlib.asynccontextmanager
async def hosted(plan: PoolPlan) -> AsyncIterator[Engine]:
    """Open a pool and give its engine; at the end of the block every job of it has been cancelled.

    Raises:
        InfrastructureError: the journal or the directories cannot be written.
        RunnerError: the port cannot be had.
    """
    header = Header(project=plan.project, epoch=plan.epoch)
    with owned(plan.state_directory) as is_ours:
        if not is_ours:
            raise RunnerError(f"the journal in {plan.state_directory} belongs to a process that lives")
        journal, replay = _opened(plan, header)
        async with _hosted(plan, header, journal, replay) as engine:
            yield engine


@contextlib.asynccontextmanager
async def _hosted(plan: PoolPlan, header: Header, journal: JournalFile, replay: Replay) -> AsyncIterator[Engine]:
    with journal:
        now = time.monotonic()
        prefix = f"dfm-{plan.instance}-"
        place = JobPlace(
            prefix=prefix, directory=plan.project, log_directory=plan.log_directory, access=plan.access_path
        )
        ledger = Ledger(LedgerSettings.of(plan.settings), plan.instance, plan.epoch)
        limits = ReactorSettings.of(
            plan.settings,
            lambda slot: place.log_of(job_name(plan.instance, slot)),
            has_many_hosts=not plan.is_on_this_host,
        )
        reactor = Reactor(limits, plan.epoch)
        reactor.restore(replay.entries, now)
        restored = ledger.restore(replay.entries, now)
        async with contextlib.AsyncExitStack() as stack:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            engine = Engine(
                reactor,
                ledger,
                journal,
                plan.settings,
                plan.epoch,
                plan.default_shape,
                fail=lambda error: _fail(group, error),
            )
            jobs = BatchJobs(
                ledger=ledger,
                dialect=plan.dialect,
                commands=CommandRunner(plan.environ, max(plan.settings.time_scale, 0.05)),
                settings=plan.settings,
                place=place,
                group=group,
                record=engine.record,
                flush=engine.flush_records,
                announce=engine.feed,
                notice=engine.notice,
            )
            if not plan.is_passing:
                engine.on_notice = plan.notice  # a run's own pool tells its only client
            server = await _served(plan, engine, ledger)
            stack.push_async_callback(server.close)
            syncing = group.create_task(_sync(journal, header, reactor, ledger))
            engine.start(jobs)
            jobs.do(restored)
            try:
                yield engine
            finally:
                await _ended(plan, engine, jobs)
                syncing.cancel()
                engine.stop()


def _opened(plan: PoolPlan, header: Header) -> tuple[JournalFile, Replay]:
    try:
        os.makedirs(plan.log_directory, exist_ok=True)
        return JournalFile.open(plan.journal_path, header)
    except OSError as error:
        raise InfrastructureError(f"cannot write {error.filename or plan.journal_path}: {error.strerror}") from error


async def _served(plan: PoolPlan, engine: Engine, ledger: Ledger) -> WorkerServer:
    """Listen for workers and tell them where."""
    key, daemon_id = new_key(), secrets.token_bytes(16)
    server = WorkerServer(
        daemon_id=daemon_id,
        key=key,
        version=__version__,
        decode=decode_from_worker,
        knows=ledger.knows,
        on_worker=lambda channel, slot: _introduce(engine, channel, slot),
    )
    settings = plan.settings
    here = (LOOPBACK,) if plan.is_on_this_host else ()
    addresses = settings.addresses or here or own_addresses()
    port = await server.listen(listening_addresses(settings.bind, settings.addresses or here), settings.port)
    write_access(
        plan.access_path,
        Access(
            project=plan.project,
            epoch=plan.epoch,
            daemon_id=daemon_id,
            key=key,
            addresses=tuple(addresses),
            port=port,
            probe=_probe(plan.log_directory, daemon_id.hex()),
        ),
    )
    return server


def _introduce(engine: Engine, channel: Channel, slot: str) -> None:
    """Wait for the hello of a worker that has proved its slot, then let the engine have it."""

    def first(messages: list[FromWorker]) -> None:
        hello, rest = messages[0], messages[1:]
        if not isinstance(hello, Hello) or hello.slot != slot:
            channel.abort("a worker speaks before it says hello")
            return
        channel.on_messages = lambda more: engine.worker_said(slot, hello.incarnation, more)
        channel.on_closed = lambda _: engine.worker_went(slot, hello.incarnation, channel)
        engine.worker_came(hello, channel)
        if rest:
            engine.worker_said(slot, hello.incarnation, rest)

    channel.on_messages = first


async def _ended(plan: PoolPlan, engine: Engine, jobs: BatchJobs) -> None:
    """Have every worker go and every job end, and wait for it, not long."""
    engine.dismiss_workers("the pool closes")
    jobs.feed(CancelAllWanted("the pool closes"))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(plan.access_path)
    await jobs.all_ended(END_SECONDS)
    left = jobs.left()
    if not left and plan.is_passing:
        for directory in (plan.state_directory, os.path.dirname(plan.access_path)):
            shutil.rmtree(directory, ignore_errors=True)
    if left:
        names = ", ".join(f"{job.name} ({job.id or 'no id'})" for job in left[:5])
        plan.notice(
            f"{len(left)} worker jobs are not known to have ended: {names}; they leave by themselves, "
            "and `dfm daemon reap` cancels what is left"
        )


async def _sync(journal: JournalFile, header: Header, reactor: Reactor, ledger: Ledger) -> None:
    """Have what is in the journal survive a loss of power, a moment later; and keep the file small."""
    loop, synced = asyncio.get_running_loop(), journal.size_bytes
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        if journal.is_due_for_rotation:
            journal.rotate(header, [*reactor.snapshot(), *ledger.snapshot()])
            synced = 0
        if journal.size_bytes != synced:
            synced = journal.size_bytes
            await loop.run_in_executor(None, journal.sync)


def _fail(group: asyncio.TaskGroup, error: BaseException) -> None:
    async def fail() -> None:
        if isinstance(error, OSError):
            raise InfrastructureError(f"the pool's journal cannot be written: {error.strerror}") from error
        raise error

    group.create_task(fail())


def _probe(directory: str, content: str) -> tuple[str, str]:
    """Leave something for workers to read: a node that does not see it does not see the project."""
    path = os.path.join(directory, PROBE_NAME)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(content)
    os.replace(temporary, path)
    return path, content
