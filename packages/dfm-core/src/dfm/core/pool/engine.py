"""The pool at work: the reactor and the ledger in an event loop, between clients, workers and a batch system.

All decisions are theirs; here messages become events and actions become messages, commands and records. Order that
holds: what an event asks to be recorded is with the kernel before anything that the same turn of the loop sends, so
that no result is acknowledged, and no attempt is under way, that the journal does not know (`outbox`). What people look
at is put together by `overview`.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from dfm.core.__about__ import __version__
from dfm.core.config.settings import PoolSettings
from dfm.core.crashpoint import crash_point
from dfm.core.pool.batch import BatchJobs
from dfm.core.pool.events import (
    Acknowledge,
    AskToDrain,
    Assign,
    AttemptAsked,
    AttemptEnded,
    AttemptStarted,
    ClientClosed,
    ClientGone,
    ClientOpened,
    Confirm,
    Deliver,
    DrainWorker,
    HostSuspected,
    Loss,
    LossKind,
    PassAnswer,
    PassQuestion,
    PoolAction,
    PoolEvent,
    QuestionAnswered,
    Record,
    Report,
    ResultReceived,
    Retire,
    Stop,
    TaskCancelled,
    TaskSubmitted,
    Tick,
    Welcomed,
    WorkerArrived,
    WorkerDisconnected,
    WorkerHeard,
    WorkerLost,
    WorkerVacating,
)
from dfm.core.pool.jobs import (
    CancelWanted,
    HostExcluded,
    Phase,
    ResumeWanted,
    WorkerConnected,
    WorkerParted,
    WorkersSilent,
    WorkerUnfit,
    WorkerWorked,
)
from dfm.core.pool.ledger import Ledger
from dfm.core.pool.outbox import Journal, Outbox
from dfm.core.pool.overview import Held, Overview
from dfm.core.pool.reactor import Reactor
from dfm.core.pool.scaling import PoolView, plan
from dfm.core.wire.environment import variables_of
from dfm.core.wire.messages import (
    Accepted,
    Ack,
    Answered,
    Asked,
    Beat,
    CancelAttempt,
    CancelTask,
    Close,
    Done,
    Drain,
    Environment,
    Exit,
    FromClient,
    FromWorker,
    Hello,
    InFlight,
    Leaving,
    Notice,
    Open,
    Opened,
    PoolWaits,
    Received,
    Result,
    Run,
    Shape,
    Started,
    Submit,
    TaskState,
    ToClient,
    ToWorker,
    Vacating,
    Welcome,
)
from dfm.core.wire.redaction import Redaction

TICK_SECONDS = 0.5
GATHER_SECONDS = 0.01
"""How long after a task came it is asked whether workers are wanted, so that those that come with it count too."""
CHECK_SECONDS = 10.0
"""How often the watchdog asks whether everything is as it must be."""
WAITS_SECONDS = 2.0
"""How often clients are told what the pool waits for."""
_SILENT_BEATS = 2
"""So many heartbeats late, a worker's job is asked for at once; its lease lasts longer than that and the answer."""
_COMES_AGAIN = frozenset({Phase.PENDING, Phase.HELD})
"""Where a job stands that the batch system has put back: another life of its worker will come."""

_HELD = "the tasks of an earlier run in the same directory have not stopped yet"

_log = logging.getLogger(__name__)


class WorkerLink(Protocol):
    """The way to one worker, whose slot the handshake has proved."""

    def send(self, message: ToWorker) -> None:
        """Say something, some time soon."""

    def close(self) -> None:
        """Say what was said and hang up."""


class _Client(msgspec.Struct):
    """A client that is attached, with what it has said.

    Attributes:
        held: what it has said since it opened, while the tasks of an earlier run in its directory have not stopped;
            None where it need not wait.
    """

    name: str
    send: Callable[[ToClient], None]
    directory: str = ""
    user: str = ""
    rundir: str = ""
    weight: float = 1.0
    held: list[FromClient] | None = None
    held_since: float = 0.0
    in_flight: int = 0
    done: int = 0


class _Worker(msgspec.Struct):
    """One life of a worker that is connected."""

    hello: Hello
    link: WorkerLink
    environments: set[str] = set()


class Engine:
    """Runs tasks on workers for any number of clients.

    Args:
        reactor: restored from the journal where there is one.
        ledger: likewise.
        journal: takes the records.
        settings: of the pool; times are scaled here.
        epoch: of this daemon.
        default_shape: of the workers that are kept for `min_workers`.
        fail: is told why nothing can go on: the journal cannot be written.
        redaction: looks over what people are told; learns the environments of tasks.
        is_passing: the pool lives as long as one run.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        reactor: Reactor,
        ledger: Ledger,
        journal: Journal,
        settings: PoolSettings,
        epoch: int,
        default_shape: Shape,
        fail: Callable[[BaseException], None],
        redaction: Redaction,
        *,
        is_passing: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._ledger = ledger
        self._settings = settings
        self._epoch = epoch
        self._default_shape = default_shape
        self._fail = fail
        self._redaction = redaction
        self._is_passing = is_passing
        self._clock = clock
        self._outbox = Outbox(journal, fail)
        self._overview = Overview(reactor, ledger, epoch, redaction, clock)
        self._jobs: BatchJobs | None = None
        self._clients: dict[str, _Client] = {}
        self._workers: dict[tuple[str, str], _Worker] = {}
        self._current: dict[str, str] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._is_acting = False
        self._events: deque[PoolEvent] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._beat_at = 0.0
        self._check_at = 0.0
        self._waits = ""
        self._waits_at = 0.0
        self.on_notice: Callable[[str], None] = lambda _: None

    def start(self, jobs: BatchJobs) -> None:
        """Begin: from now on time passes, and worker jobs are submitted as they are wanted."""
        self._jobs = jobs
        self._tick()

    def stop(self) -> None:
        """End: say what was to be said, and let the workers go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathering is not None:
            self._gathering.cancel()
        self._outbox.flush()
        workers, self._workers = self._workers, {}  # that their links are gone is no news to anybody any more
        for worker in workers.values():
            worker.link.close()

    def dismiss_workers(self, why: str) -> None:
        """Tell every worker to kill what it runs and to leave."""
        for worker in self._workers.values():
            self._outbox.say(worker.link.send, Exit(why=why))
        self._outbox.flush()

    @property
    def in_flight(self) -> int:
        """How many tasks one client may have unfinished, so that no worker waits for the next and none are hoarded."""
        slots = self._settings.max_workers * self._settings.worker_slots
        connected = sum(worker.hello.slots for worker in self._workers.values())
        return 2 * max(slots, connected) + 16

    @property
    def is_owing(self) -> bool:
        """Whether clients have tasks that have not ended, or results that they have not received."""
        return bool(self._reactor.tasks())

    # Clients.

    def attach(self, name: str, send: Callable[[ToClient], None]) -> None:
        """Take in the link of a client; a new link of the same client ends the older one."""
        self._clients[name] = _Client(name, send)

    def detach(self, name: str, send: Callable[[ToClient], None]) -> None:
        """Be told that a client's link broke."""
        client = self._clients.get(name)
        if client is not None and client.send == send:
            del self._clients[name]
            self._feed(ClientGone(name))
            self._admit_held()

    def hear(self, name: str, message: FromClient) -> None:
        """Take in what a client says."""
        client = self._clients[name]
        if client.held is not None and not isinstance(message, Close):
            client.held.append(message)
            return
        match message:
            case Submit():
                self._submit(client, message)
            case Answered():
                self._feed(
                    QuestionAnswered(
                        client=name,
                        ticket=message.ticket,
                        attempt=message.attempt,
                        number=message.number,
                        answer=message.answer,
                    )
                )
            case Received(ticket=ticket):
                self._feed(ResultReceived(name, ticket))
            case CancelTask(ticket=ticket, is_urgent=is_urgent):
                self._feed(TaskCancelled(client=name, ticket=ticket, is_urgent=is_urgent))
            case Environment(digest=digest, variables=variables):
                self._environments[digest] = variables
                self._redaction.learn(variables_of(message))
            case Open():
                client.directory, client.user = message.directory, message.user
                client.rundir, client.weight = message.rundir, message.weight
                self._outbox.say(client.send, Opened(epoch=self._epoch, version=__version__, in_flight=self.in_flight))
                client.in_flight = self.in_flight
                self._outbox.say(client.send, PoolWaits(text=self._waits))
                self._admit(client)
            case Close():
                del self._clients[name]
                self._feed(ClientClosed(name))
                self._admit_held()
            case Beat():
                self._outbox.say(client.send, Beat())
            case _:
                _log.warning("client %s said %s, which is for the daemon", name, type(message).__name__)

    def _admit(self, client: _Client) -> None:
        """Let a client in; one whose directory another has not left waits, for two bodies must not write there at once.

        Who opens a run in a directory holds its lock: a client of it whose link is broken does not come back.
        """
        if self._must_wait(client):
            client.held, client.held_since = [], self._clock()
            self._outbox.say(client.send, Notice(text=f"waits: {_HELD}"))
        else:
            self._feed(ClientOpened(client=client.name, weight=client.weight, rundir=client.rundir))

    def _must_wait(self, client: _Client) -> bool:
        return bool(client.rundir) and not self.vacate(client.rundir, client.name)

    def vacate(self, rundir: str, client: str = "") -> bool:
        """Have the tasks stopped that runs which are gone have in a run directory; return whether none is left.

        Args:
            rundir: whose lock the asker holds, so that no run of before can come back.
            client: whose tasks may go on.
        """
        for name in self._reactor.gone_from(rundir):
            if name != client:
                self._feed(ClientClosed(name))
        return not self._reactor.is_taken(rundir, client)

    def _admit_held(self) -> None:
        """Let in those who need wait no more, and hear what they have said meanwhile."""
        for client in list(self._clients.values()):
            if client.held is not None and not self._must_wait(client):
                said, client.held = client.held, None
                self._admit(client)
                for message in said:
                    self.hear(client.name, message)

    def notice(self, text: str) -> None:
        """Tell every client, and whoever hosts the pool."""
        text = self._redaction.hide(text)
        self.on_notice(text)
        for client in self._clients.values():
            self._outbox.say(client.send, Notice(text=text))

    def _submit(self, client: _Client, message: Submit) -> None:
        self._feed(
            TaskSubmitted(
                client=client.name,
                ticket=message.ticket,
                task=message.task,
                shape=message.shape,
                larger=message.larger,
                spec=message.spec,
                environment=message.environment,
                wall_seconds=message.wall_seconds,
            )
        )
        if self._gathering is None and len(self._workers) < self._settings.max_workers:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._scale_for_gathered)

    # Workers.

    def worker_came(self, hello: Hello, link: WorkerLink) -> None:
        """Take in a worker that has proved its slot and said hello."""
        job = self._ledger.job_of(hello.slot)
        if job is None or not self._ledger.knows(hello.slot):
            link.send(Exit(why=f"slot {hello.slot} is not one of ours"))
            link.close()
            return
        jobs = self._batch
        if hello.unfit:
            link.send(Exit(why=f"unfit: {hello.unfit}"))
            link.close()
            jobs.feed(WorkerUnfit(slot=hello.slot, host=hello.host, text=hello.unfit))
            return
        jobs.feed(WorkerConnected(slot=hello.slot, host=hello.host, job_id=hello.job_id))
        self._workers[hello.slot, hello.incarnation] = _Worker(hello, link)
        self._feed(
            WorkerArrived(
                slot=hello.slot,
                incarnation=hello.incarnation,
                host=hello.host,
                slots=hello.slots,
                shape=job.shape,
                lives_seconds=hello.lives_seconds,
                running=tuple(hello.running),
                finished=tuple(hello.finished),
            )
        )

    def worker_said(self, slot: str, incarnation: str, messages: Sequence[FromWorker]) -> None:
        """Take in what a worker says, in order."""
        for message in messages:
            match message:
                case Result():
                    self._ended(slot, incarnation, message)
                case Started(attempt=attempt):
                    crash_point("pool.started.heard")
                    self._feed(AttemptStarted(slot=slot, incarnation=incarnation, attempt=attempt))
                    self._batch.feed(WorkerWorked(slot))
                case Asked():
                    self._feed(
                        AttemptAsked(
                            slot=slot,
                            incarnation=incarnation,
                            attempt=message.attempt,
                            number=message.number,
                            question=message.question,
                        )
                    )
                case Beat():
                    self._feed(WorkerHeard(slot=slot, incarnation=incarnation))
                case Vacating(reason=reason, dropped=dropped):
                    self._feed(
                        WorkerVacating(
                            slot=slot,
                            incarnation=incarnation,
                            loss=_loss_of_vacating(reason),
                            dropped=tuple(dropped),
                        )
                    )
                case Leaving(reason=reason):
                    self._left(slot, incarnation, reason)
                case Hello():
                    _log.warning("worker %s said hello twice", slot)

    def worker_went(self, slot: str, incarnation: str, link: WorkerLink) -> None:
        """Be told that a link of a worker broke; it may have a newer one already."""
        worker = self._workers.get((slot, incarnation))
        if worker is not None and worker.link is link:
            del self._workers[slot, incarnation]
            self._feed(WorkerDisconnected(slot=slot, incarnation=incarnation))
            self._batch.feed(WorkerParted(slot=slot, is_final=False))

    def feed(self, event: PoolEvent) -> None:
        """Take in an event that the keeper of jobs knows of."""
        self._feed(event)

    def _ended(self, slot: str, incarnation: str, result: Result) -> None:
        worker = self._worker(slot)
        self._overview.end(slot, None if worker is None else worker.hello.host, result)
        self._feed(
            AttemptEnded(
                slot=slot,
                incarnation=incarnation,
                attempt=result.attempt,
                outcome=result.outcome,
                body=result.body,
                is_out_of_memory=result.is_out_of_memory,
                is_infrastructure=result.is_infrastructure,
            )
        )

    def _left(self, slot: str, incarnation: str, reason: str) -> None:
        self._workers.pop((slot, incarnation), None)
        self._feed(WorkerLost(slot=slot, incarnation=incarnation, loss=Loss(LossKind.LEFT, reason)))
        self._batch.feed(WorkerParted(slot=slot, is_in_order=True))

    @property
    def _batch(self) -> BatchJobs:
        assert self._jobs is not None, "started before anybody connects"
        return self._jobs

    # Actions.

    def _feed(self, event: PoolEvent) -> None:
        """Let the reactor take in an event, after those that are being taken in."""
        self._events.append(event)
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._events:
                for action in self._reactor.handle(self._events.popleft(), self._clock()):
                    self._do(action)
        finally:
            self._is_acting = False

    def _do(self, action: PoolAction) -> None:
        match action:
            case Record():
                self._outbox.record(action)
            case Assign():
                self._assign(action)
            case Acknowledge(slot, attempt):
                self._overview.drop(attempt)
                self._tell(slot, Ack(attempt=attempt))
            case PassQuestion():
                self._inform(
                    action.client,
                    Asked(attempt=action.attempt, number=action.number, question=action.question, ticket=action.ticket),
                )
            case PassAnswer():
                self._tell(action.slot, Answered(attempt=action.attempt, number=action.number, answer=action.answer))
            case Stop(slot, attempt, is_urgent):
                self._tell(slot, CancelAttempt(attempt=attempt, is_urgent=is_urgent))
            case Deliver():
                self._deliver(action)
            case Confirm(client=client, ticket=ticket):
                self._inform(client, Accepted(ticket=ticket))
            case Report():
                self._inform(
                    action.client,
                    TaskState(
                        ticket=action.ticket,
                        state=action.state,
                        reason=self._redaction.hide(action.reason),
                        host=action.host,
                        attempt=action.attempt,
                    ),
                )
            case Welcomed(slot=slot, keep=keep):
                self._current[slot] = next(life for where, life in reversed(self._workers) if where == slot)
                self._tell(slot, self._welcome(keep))
            case Retire(slot, incarnation, why):
                self._retire(slot, incarnation, why)
            case AskToDrain(slot):
                self._tell(slot, Drain())
            case HostSuspected():
                self._batch.feed(HostExcluded(host=action.host, text=action.text))

    def _assign(self, action: Assign) -> None:
        worker = self._worker(action.slot)
        if worker is None:
            return
        self._overview.begin(action)
        if action.environment and action.environment not in worker.environments:
            worker.environments.add(action.environment)
            variables = self._environments.get(action.environment, {})
            self._outbox.say(worker.link.send, Environment(digest=action.environment, variables=variables))
        self._outbox.say(
            worker.link.send,
            Run(
                attempt=action.attempt,
                number=action.number,
                task=action.task,
                spec=action.spec,
                environment=action.environment,
                wall_seconds=action.wall_seconds,
            ),
        )

    def _deliver(self, action: Deliver) -> None:
        client = self._clients.get(action.client)
        if client is None:
            return
        self._outbox.say(
            client.send,
            Done(
                ticket=action.ticket,
                outcome=action.outcome,
                cause=self._redaction.hide(action.cause),
                body=action.body,
                attempts=action.attempts,
                is_out_of_memory=action.is_out_of_memory,
                resource_class=action.resource_class,
            ),
        )

    def _retire(self, slot: str, incarnation: str, why: str) -> None:
        worker = self._workers.pop((slot, incarnation), None)
        if worker is not None:
            self._outbox.flush()
            worker.link.send(Exit(why=why))
            worker.link.close()
        if any(where == slot for where, _ in self._workers):
            return  # another life of the slot is there: the job is as it should be
        self._batch.feed(WorkerParted(slot=slot))
        job = self._ledger.job_of(slot)
        if job is not None and job.phase not in _COMES_AGAIN:
            self._batch.feed(CancelWanted(slots=(slot,), why=f"its worker was given up: {why}"))

    def _welcome(self, keep: Sequence[int]) -> Welcome:
        settings, scale = self._settings, self._settings.time_scale
        return Welcome(
            epoch=self._epoch,
            heartbeat_seconds=settings.heartbeat_interval * scale,
            silence_seconds=0.75 * settings.lease_timeout * scale,
            idle_seconds=self._idle_seconds * scale,
            lost_seconds=settings.lost_timeout * scale,
            kill_grace_seconds=settings.kill_grace * scale,
            margin_seconds=settings.walltime_margin * scale,
            is_passing=self._is_passing,
            keep=list(keep),
        )

    @property
    def _idle_seconds(self) -> float:
        settings = self._settings
        return min(settings.idle_timeout, settings.licence_idle_timeout if self._batch.held_tokens else math.inf)

    def _worker(self, slot: str) -> _Worker | None:
        return self._workers.get((slot, self._current.get(slot, "")))

    def _tell(self, slot: str, message: ToWorker) -> None:
        worker = self._worker(slot)
        if worker is not None:
            self._outbox.say(worker.link.send, message)

    def _inform(self, name: str, message: ToClient) -> None:
        client = self._clients.get(name)
        if client is not None:
            self._outbox.say(client.send, message)

    def record(self, record: Record) -> None:
        """Have something recorded before anything else is said."""
        self._outbox.record(record)

    def flush_records(self) -> None:
        """Give the journal what was recorded.

        Raises:
            OSError: it cannot be written; nothing that depends on it may be said.
        """
        self._outbox.flush_records()

    # Time.

    def _tick(self) -> None:
        loop, now = asyncio.get_running_loop(), self._clock()
        scale = self._settings.time_scale
        self._timer = loop.call_later(TICK_SECONDS * min(1.0, scale), self._tick)
        self._feed(Tick())
        self._admit_held()
        self._batch.tick()
        self._notice_silence(now)
        self._scale(now)
        if now >= self._beat_at:
            self._beat_at = now + self._settings.heartbeat_interval * scale
            for worker in self._workers.values():
                self._outbox.say(worker.link.send, Beat())
        if now >= self._check_at:
            self._check_at = now + CHECK_SECONDS * scale
            self._check(now)
        if now >= self._waits_at:
            self._waits_at = now + WAITS_SECONDS * scale
            self._tell_of_waits(now)
        for client in self._clients.values():
            if client.in_flight and client.in_flight != self.in_flight:
                client.in_flight = self.in_flight
                self._outbox.say(client.send, InFlight(count=client.in_flight))

    def _tell_of_waits(self, now: float) -> None:
        """Tell clients why tasks are queued where that is not for want of a free worker."""
        text = self._overview.why_no_worker(now)
        if text != self._waits:
            self._waits = text
            for client in self._clients.values():
                self._outbox.say(client.send, PoolWaits(text=text))

    def _notice_silence(self, now: float) -> None:
        """Have the batch system asked about workers that miss heartbeats: it may have suspended them."""
        limit = _SILENT_BEATS * self._settings.heartbeat_interval * self._settings.time_scale
        silent = (worker for worker in self._reactor.workers() if worker.is_connected and not worker.is_suspended)
        if any(now - worker.heard_at > limit for worker in silent):
            self._batch.feed(WorkersSilent())

    def _scale_for_gathered(self) -> None:
        self._gathering = None
        self._scale(self._clock())

    def _scale(self, now: float) -> None:
        ledger, reactor = self._ledger, self._reactor
        workers = reactor.workers()
        idle = [view for view in workers if view.idle_since is not None and view.is_connected]
        view = PoolView(
            demand=reactor.demand(now),
            jobs=ledger.jobs(),
            idle=[worker.slot for worker in sorted(idle, key=lambda worker: worker.idle_since or 0.0)],
            stuck={view.slot for view in workers if view.is_waiting},
            draining={view.slot for view in workers if view.is_draining},
            missed={view.slot for view in workers if not view.is_connected},
            is_fresh=ledger.is_fresh(now),
            submits_left=ledger.submits_left(now),
            ramp=ledger.ramp(now),
            quiet_since=reactor.quiet_since(),
            default=self._default_shape,
        )
        for action in plan(view, self._settings, now):
            self._batch.scale(action)

    def _check(self, now: float) -> None:
        """The watchdog: what must always hold and does not is a bug, told with all that is known, not a hang."""
        faults = [*self._reactor.check(now), *self._ledger.check(now)]
        if faults:
            text = "; ".join(faults)
            _log.error("the pool is not as it must be: %s; status: %s", text, self.status())
            self._fail(AssertionError(f"the pool is not as it must be: {text}"))

    # What people may look at.

    def status(self) -> dict[str, object]:
        """Return the workers, jobs, tasks and clients; docs/reference/daemon-status.md describes it."""
        return self._overview.status(self._batch, {client.name: client.directory for client in self._clients.values()})

    def why(self, needle: str) -> list[dict[str, object]]:
        """Return where every unfinished task stands whose name is, or holds, `needle`; an empty one means all."""
        held = [
            Held(
                task=message.task, client=client.name, reason=_HELD, since=client.held_since, check_seconds=TICK_SECONDS
            )
            for client in self._clients.values()
            for message in client.held or ()
            if isinstance(message, Submit)
        ]
        return self._overview.why(needle, held)

    # Orders of people.

    def job_names(self) -> list[str]:
        """Return the names of the jobs that are not known to have ended."""
        return [job.name for job in self._ledger.jobs()]

    def resume(self) -> None:
        """Forget pauses and exclusions: a person says that what was wrong is mended."""
        self._batch.feed(ResumeWanted())

    def drain_all(self) -> int:
        """Have every worker leave once it is free, and return how many there are."""
        workers = self._reactor.workers()
        for worker in workers:
            self._feed(DrainWorker(worker.slot))
        return len(workers)

    def reap(self) -> int:
        """Cancel every job from which no worker is connected, and return how many."""
        slots = tuple(job.slot for job in self._ledger.jobs() if not job.is_connected)
        if slots:
            self._batch.feed(CancelWanted(slots=slots, why="`dfm daemon reap`"))
        return len(slots)


def _loss_of_vacating(reason: str) -> Loss:
    kinds = {"preempted": LossKind.PREEMPTED, "walltime": LossKind.WALLTIME}
    return Loss(kinds.get(reason, LossKind.KILLED), f"the worker was told to go ({reason})")
