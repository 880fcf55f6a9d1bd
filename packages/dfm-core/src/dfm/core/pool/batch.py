"""Worker jobs: the ledger's decisions carried out in the dialect of a batch system.

The ledger says what to submit, ask, look up and cancel; here that becomes commands, and their answers its events. What
is to be recorded is with the journal before a command starts. A command that fails in a way nobody foresaw is an answer
too: nothing is left open that the ledger waits for.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from dfm.api.batch import (
    ARRAY_INDEX,
    ArrayDialect,
    BatchDialect,
    CancelState,
    Command,
    CommandOutput,
    EndCause,
    FailureKind,
    FormatRefused,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    QueryFailed,
    SubmitAnswer,
    SubmitFailed,
    TokenDialect,
    WorkerJob,
)
from dfm.api.errors import DfmError
from dfm.core.config.settings import PoolSettings
from dfm.core.crashpoint import crash_point
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.events import DrainWorker, PoolEvent, Record
from dfm.core.pool.jobs import (
    Announce,
    AskHistory,
    CancelAnswered,
    CancelJobs,
    CancelWanted,
    Clock,
    HistoryAnswered,
    JobView,
    LaunchWanted,
    LedgerAction,
    LedgerEvent,
    LookUpAnswered,
    LookUpJob,
    PausePool,
    QueryAnswered,
    QueryJobs,
    SubmitAnswered,
    SubmitJob,
    Tell,
)
from dfm.core.pool.jobtable import array_of
from dfm.core.pool.ledger import Ledger
from dfm.core.pool.limits import job_wall_seconds
from dfm.core.pool.scaling import Launch, Release, Withdraw
from dfm.core.wire.messages import Shape

_log = logging.getLogger(__name__)
_TAIL_BYTES = 2000
_LINE_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlace:
    """What all worker jobs of a pool have in common.

    Attributes:
        prefix: `dfm-<instance>-`; names of jobs begin with it.
        directory: absolute, on a file system that all nodes share; where workers start.
        log_directory: absolute, shared; exists.
        access: path of the access file.
        has_limits: whether the jobs end after some time; processes of this host do not.
    """

    prefix: str
    directory: str
    log_directory: str
    access: str
    has_limits: bool = True

    def log_of(self, name: str) -> str:
        """Return the path of a worker's log; an element of an array has its index behind a dot."""
        return f"{self.log_directory}/{name.replace('[', '.').removesuffix(']')}.log"


def worker_job(
    place: JobPlace,
    settings: PoolSettings,
    *,
    name: str,
    slot: str,
    slots: int,
    shape: Shape,
    excluded_hosts: Sequence[str] = (),
    is_array: bool = False,
    is_short: bool = False,
) -> WorkerJob:
    """Return the job for a worker of a shape, or that of an array of them, where slot and log have an ARRAY_INDEX.

    With `is_short` it asks for no more time than one task needs.
    """
    log = place.log_of(f"{name}[{ARRAY_INDEX}]" if is_array else name)
    limit = job_wall_seconds(shape, settings, is_short=is_short) if place.has_limits else None
    cores = shape.cores * slots
    words = [
        *(settings.worker_command or (sys.executable, "-m", "dfm.core.worker")),
        *("--access", place.access),
        *("--slot", slot),
        *("--log", log),
        *("--directory", place.directory),
        *("--slots", str(slots)),
        *("--cores", str(cores)),
        *(() if limit is None else ("--lives", f"{limit:g}")),
    ]
    return WorkerJob(
        name=name,
        slot=slot,
        argv=tuple(words),
        directory=place.directory,
        log=log,
        cores=cores,
        memory_bytes=None if shape.memory_bytes is None else shape.memory_bytes * slots,
        wall_seconds=limit,
        warning_seconds=settings.walltime_margin / 2,
        queue=shape.queue,
        resource_select=shape.resource_select,
        excluded_hosts=tuple(excluded_hosts),
    )


Questions = Callable[[BatchDialect], Sequence[Command]]
"""Makes the commands that ask for states; asked again where the batch system wants a simpler form."""


async def ask(
    dialect: BatchDialect, questions: Questions, run: Callable[[Command], Awaitable[CommandOutput]]
) -> tuple[Listed | QueryFailed, BatchDialect]:
    """Return what all commands say together, and the dialect to go on with; one that fails makes all a failure."""
    found: list[JobStatus] = []
    missing: list[JobKey] = []
    answered = 0
    while answered < len(commands := questions(dialect)):
        command = commands[answered]
        answer = dialect.parse_query(command, await run(command))
        match answer:
            case FormatRefused(text=text, next=simpler):
                _log.info("%s does not know this form of the question: %s", dialect.name, text)
                dialect = simpler
                found, missing, answered = [], [], 0
            case QueryFailed():
                return answer, dialect
            case Listed():
                found += answer.jobs
                missing += answer.missing
                answered += 1
    return Listed(jobs=tuple(found), missing=tuple(missing)), dialect


@dataclass(slots=True)
class BatchJobs:
    """Carries out what the ledger decides.

    Attributes:
        record: takes a record for the journal.
        flush: has what was recorded written, and safe from a loss of power.
        announce: takes an event for the reactor.
        notice: tells a person.
        clock: seconds, monotonic.
    """

    ledger: Ledger
    dialect: BatchDialect
    commands: CommandRunner
    settings: PoolSettings
    place: JobPlace
    group: asyncio.TaskGroup
    record: Callable[[Record], None]
    flush: Callable[[], Awaitable[None]]
    announce: Callable[[PoolEvent], None]
    notice: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _stopping: set[str] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked_at: float = float("-inf")
    _is_history_awaited: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def held_tokens(self) -> Mapping[str, float]:
        """How many of what, such as licences, each worker job holds."""
        return self.dialect.held_tokens if isinstance(self.dialect, TokenDialect) else {}

    def feed(self, event: LedgerEvent) -> None:
        """Let the ledger take in an event, and do what it says."""
        self.do(self.ledger.handle(event, self.clock()))
        self._changed.set()

    async def all_ended(self, seconds: float) -> None:
        """Wait until no job is left whose end is not certain, not longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.left():
                    self._changed.clear()
                    await self._changed.wait()

    def left(self) -> list[JobView]:
        """Return the jobs whose end is not certain: the batch system has not said that it ends them."""
        return [job for job in self.ledger.jobs() if job.is_connected or job.name not in self._stopping]

    def tick(self) -> None:
        """Tell the ledger that time has passed."""
        self.feed(Clock())

    def scale(self, action: Launch | Withdraw | Release) -> None:
        """Do what the plan says."""
        match action:
            case Launch(shape=shape, count=count):
                self.feed(
                    LaunchWanted(
                        shape=shape,
                        slots=self.settings.worker_slots,
                        clock=time_of_day(),
                        count=count,
                        array_size=self.dialect.array_size if isinstance(self.dialect, ArrayDialect) else 1,
                    )
                )
            case Withdraw(slots):
                self.feed(CancelWanted(slots=slots, why="nobody waits for it any more"))
            case Release(slot):
                self.announce(DrainWorker(slot))

    def do(self, actions: Sequence[LedgerAction]) -> None:
        """Carry out the ledger's actions, in order; elements of one array are submitted and looked for together."""
        submissions: dict[str, list[SubmitJob]] = {}
        look_ups: dict[str, list[str]] = {}
        for action in actions:
            match action:
                case Record():
                    self.record(action)
                case SubmitJob(name=name):
                    submissions.setdefault(array_of(name), []).append(action)
                case LookUpJob(name):
                    look_ups.setdefault(array_of(name), []).append(name)
                case QueryJobs(jobs):
                    self._start(self._query(jobs))
                case AskHistory(job):
                    self._start(self._ask_history(job))
                case CancelJobs(jobs):
                    self._start(self._cancel(jobs))
                case Announce(event):
                    self.announce(event)
                case PausePool(text) | Tell(text):
                    self.notice(text)
        for name, wanted in submissions.items():
            self._start(self._submit(name, wanted))
        for name, names in look_ups.items():
            self._start(self._look_up(name, names))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self.group.create_task(work)

    async def _submit(self, name: str, wanted: Sequence[SubmitJob]) -> None:
        """Submit one job, or all elements of the array of that name."""
        first = wanted[0]
        is_array = first.name != name
        job = worker_job(
            self.place,
            self.settings,
            name=name,
            slot=f"{first.slot.rpartition('.')[0]}.{ARRAY_INDEX}" if is_array else first.slot,
            slots=first.slots,
            shape=first.shape,
            excluded_hosts=first.excluded_hosts,
            is_array=is_array,
            is_short=first.is_short,
        )
        answers = await (self._submitted_array(job, len(wanted)) if is_array else self._submitted(job))
        for number, (one, answer) in enumerate(zip(wanted, answers, strict=True)):
            self.feed(SubmitAnswered(name=one.name, answer=answer, is_repeated=number > 0))

    async def _submitted(self, job: WorkerJob) -> Sequence[SubmitAnswer]:
        output = await self._answer(job, self.dialect.submit)
        return [output if isinstance(output, SubmitFailed) else self.dialect.parse_submit(job, output)]

    async def _submitted_array(self, job: WorkerJob, count: int) -> Sequence[SubmitAnswer]:
        dialect = self.dialect
        assert isinstance(dialect, ArrayDialect), "it said that it takes arrays"
        output = await self._answer(job, lambda job: dialect.submit_array(job, count))
        if isinstance(output, SubmitFailed):
            return [output] * count
        return dialect.parse_submit_array(job, count, output)

    async def _answer(self, job: WorkerJob, command: Callable[[WorkerJob], Command]) -> CommandOutput | SubmitFailed:
        """Have a job submitted, once its records are safe; a job that the dialect refuses is not."""
        try:
            self.dialect.validate(job)
            made = command(job)
        except DfmError as error:
            text = f"{error.message} ({error.hint})" if error.hint else error.message
            return SubmitFailed(kind=FailureKind.PERMANENT, text=text)
        await self.flush()
        crash_point("pool.launch.before")
        output = await self._run(made)
        crash_point("pool.launch.after")
        return output

    async def _look_up(self, name: str, names: Sequence[str]) -> None:
        answer = await self._ask(lambda dialect: [dialect.find(name)])
        for number, one in enumerate(names):
            self.feed(LookUpAnswered(name=one, answer=answer, is_repeated=number > 0))

    async def _query(self, jobs: tuple[JobKey, ...]) -> None:
        started = self.clock()
        answer = await self._ask(lambda dialect: dialect.query(self.place.prefix, jobs))
        seconds = self.clock() - started
        if isinstance(answer, Listed):
            answer = dataclasses.replace(answer, jobs=tuple([await self._explained(status) for status in answer.jobs]))
        self.feed(QueryAnswered(answer=answer, seconds=seconds))

    async def _explained(self, status: JobStatus) -> JobStatus:
        """Return how a job stands, with the last words of its log where it has failed: they often say why."""
        if status.state is not JobState.ENDED or status.cause not in (EndCause.FAILED, EndCause.LAUNCH):
            return status
        words = await asyncio.to_thread(last_line, self.place.log_of(status.name)) if status.name else ""
        reason = "; ".join(filter(None, (status.reason, words and f"its log ends with {words!r}")))
        return dataclasses.replace(status, reason=reason)

    async def _ask(self, questions: Questions) -> Listed | QueryFailed:
        """Return what all commands say together; from a refused form on, the simpler one is used."""
        asked = self.dialect
        answer, dialect = await ask(asked, questions, self._run_in_turn)
        if dialect is not asked:
            self.dialect = dialect
        return answer

    async def _ask_history(self, job: JobKey) -> None:
        command = None if self._is_history_awaited else self.dialect.history(job)
        status = None
        if command is not None:
            self._is_history_awaited = True
            status = self.dialect.parse_history(job, await self._run_in_turn(command))
            status = None if status is None else await self._explained(status)
            self._is_history_awaited = False
        self.feed(HistoryAnswered(name=job.name, status=status))

    async def _cancel(self, jobs: tuple[JobKey, ...]) -> None:
        states: dict[str, CancelState] = {}
        texts = []
        for command in self.dialect.cancel(jobs):
            answer = self.dialect.parse_cancel(command, await self._run(command))
            states.update(answer.states)
            texts.append(answer.text)
        ending = (CancelState.STOPPING, CancelState.GONE)
        self._stopping |= {job.name for job in jobs if job.id is not None and states.get(job.id) in ending}
        self.feed(CancelAnswered(jobs=jobs, states=states, text=" ".join(filter(None, texts))))

    async def _run_in_turn(self, command: Command) -> CommandOutput:
        """Run a command that asks for states: one at a time, and no sooner than `poll_interval` after the last began.

        Whoever asks the batch system more often is what its administrators complain of, whichever question it is. A
        history that would have to wait behind another is not asked for: the next answer about all jobs will do.
        """
        async with self._turn:
            pause = self._asked_at + self.settings.poll_interval * self.settings.time_scale - self.clock()
            if pause > 0:
                await asyncio.sleep(pause)
            self._asked_at = self.clock()
            return await self._run(command)

    async def _run(self, command: Command) -> CommandOutput:
        try:
            return await self.commands.run(command)
        except OSError as error:
            return CommandOutput(status=1, stdout="", stderr=str(error), is_timed_out=True)


def time_of_day() -> float:
    """Return the time of day in seconds since the epoch, for searches in histories of batch systems."""
    return time.time_ns() / 1e9


def last_line(path: str) -> str:
    """Return the last line of a file that is not blank, shortened; empty where there is none, or no such file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_LINE_CHARACTERS]
