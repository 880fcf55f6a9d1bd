"""The pool at work: the reactor and the ledger in an event loop, between clients, workers and a batch system.

All decisions are theirs; here messages become events and actions become messages, commands and records. Order that
holds: what an event asks to be recorded is with the kernel before anything that the same turn of the loop sends, so
that no result is acknowledged, and no attempt is under way, that the journal does not know.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from dfm.core.__about__ import __version__
from dfm.core.config.settings import PoolSettings
from dfm.core.pool.events import (
    Acknowledge,
    AskToDrain,
    Assign,
    AttemptEnded,
    AttemptStarted,
    ClientClosed,
    ClientGone,
    ClientOpened,
    Confirm,
    Deliver,
    HostSuspected,
    Loss,
    LossKind,
    PoolAction,
    PoolEvent,
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
from dfm.core.pool.reactor import Reactor
from dfm.core.wire.messages import (
    Accepted,
    Ack,
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

TICK_SECONDS = 0.5
RECENT = 100
"""How many ended tasks are shown to people."""

_log = logging.getLogger(__name__)


class WorkerLink(Protocol):
    """The way to one worker, whose slot the handshake has proved."""

    def send(self, message: ToWorker) -> None:
        """Say something, some time soon."""

    def close(self, reason: str) -> None:
        """Say what was said and hang up."""


class Journal(Protocol):
    """Takes records; what was written is with the kernel."""

    def write(self, records: Sequence[Record]) -> None:
        """Append the records, in one go."""


class JobKeeper(Protocol):
    """Has worker jobs submitted and ended, as many as there is work for."""

    def tick(self, now: float) -> None:
        """Look at the work and the jobs."""

    def shape_of(self, slot: str) -> Shape | None:
        """Return the shape a slot was submitted for; None where the slot is not of ours, or has been given up."""

    def connected(self, hello: Hello, now: float) -> None:
        """Be told that the worker of a slot is there."""

    def left(self, slot: str, reason: str, now: float) -> None:
        """Be told that the worker of a slot has left in order."""

    def suspect(self, host: str, text: str, now: float) -> None:
        """Keep jobs away from a host for a while."""


@dataclass(slots=True)
class _Client:
    """A client that is attached, with what it has said."""

    name: str
    send: Callable[[ToClient], None]
    directory: str = ""
    user: str = ""
    in_flight: int = 0
    done: int = 0


@dataclass(slots=True)
class _Worker:
    """One life of a worker that is connected."""

    hello: Hello
    link: WorkerLink
    environments: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task that has ended, for people."""

    client: str
    task: str
    outcome: str
    seconds: float
    worker: str
    host: str
    at: str


class Engine:
    """Runs tasks on workers for any number of clients.

    Args:
        reactor: restored from the journal where there is one.
        journal: takes the records.
        settings: scaled times are made here.
        epoch: of this daemon.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        reactor: Reactor,
        journal: Journal,
        settings: PoolSettings,
        epoch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._journal = journal
        self._settings = settings
        self._epoch = epoch
        self._clock = clock
        self._keeper: JobKeeper | None = None
        self._clients: dict[str, _Client] = {}
        self._workers: dict[tuple[str, str], _Worker] = {}
        self._current: dict[str, str] = {}
        self._environments: dict[str, dict[bytes, bytes]] = {}
        self._running: dict[int, tuple[Assign, float]] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._records: list[Record] = []
        self._outbox: list[
            tuple[Callable[[ToWorker], None], ToWorker] | tuple[Callable[[ToClient], None], ToClient]
        ] = []
        self._is_flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._beat_at = 0.0
        self._started = clock()
        self._counts: dict[str, int] = {}
        self._recent: deque[Ended] = deque(maxlen=RECENT)
        self.on_change: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        self._tick()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        for worker in list(self._workers.values()):
            worker.link.close("the daemon stops")

    def keep_jobs_with(self, keeper: JobKeeper) -> None:
        """Say who has worker jobs submitted; before the first client comes."""
        self._keeper = keeper

    @property
    def reactor(self) -> Reactor:
        """What knows where every task stands."""
        return self._reactor

    @property
    def in_flight(self) -> int:
        """How many tasks one client may have unfinished, so that no worker waits for the next and none are hoarded."""
        slots = self._settings.max_workers * self._settings.worker_slots
        connected = sum(worker.hello.slots for worker in self._workers.values())
        return 2 * max(slots, connected) + 16

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

    def hear(self, name: str, message: FromClient) -> None:
        """Take in what a client says."""
        client = self._clients[name]
        match message:
            case Submit():
                self._submit(client, message)
            case Received(ticket=ticket):
                self._names.pop((name, ticket), None)
                self._feed(ResultReceived(name, ticket))
            case CancelTask(ticket=ticket, is_urgent=is_urgent):
                self._feed(TaskCancelled(client=name, ticket=ticket, is_urgent=is_urgent))
            case Environment(digest=digest, variables=variables):
                self._environments[digest] = variables
            case Open():
                client.directory, client.user = message.directory, message.user
                self._say(client.send, Opened(epoch=self._epoch, version=__version__, in_flight=self.in_flight))
                client.in_flight = self.in_flight
                self._feed(ClientOpened(client=name, weight=message.weight))
            case Close():
                del self._clients[name]
                self._feed(ClientClosed(name))
            case Beat():
                self._say(client.send, Beat())
            case _:
                _log.warning("client %s said %s, which is for the daemon", name, type(message).__name__)

    def notice(self, text: str) -> None:
        """Tell every client, and the log."""
        _log.info("%s", text)
        for client in self._clients.values():
            self._say(client.send, Notice(text=text))

    def _submit(self, client: _Client, message: Submit) -> None:
        self._names[(client.name, message.ticket)] = message.task
        self._feed(
            TaskSubmitted(
                client=client.name,
                ticket=message.ticket,
                task=message.task,
                shape=message.shape,
                spec=message.spec,
                environment=message.environment,
                wall_seconds=message.wall_seconds,
            )
        )

    # Workers.

    def worker_came(self, hello: Hello, link: WorkerLink) -> None:
        """Take in a worker that has proved its slot and said hello."""
        shape = None if self._keeper is None else self._keeper.shape_of(hello.slot)
        if shape is None:
            link.send(Exit(why=f"slot {hello.slot} is not one of ours"))
            link.close("unknown slot")
            return
        now = self._clock()
        assert self._keeper is not None
        self._keeper.connected(hello, now)
        self._workers[hello.slot, hello.incarnation] = _Worker(hello, link)
        if hello.unfit:
            self._unfit(hello)
            return
        self._current[hello.slot] = hello.incarnation
        self._feed(
            WorkerArrived(
                slot=hello.slot,
                incarnation=hello.incarnation,
                host=hello.host,
                slots=hello.slots,
                shape=shape,
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
                    self._feed(AttemptStarted(slot=slot, incarnation=incarnation, attempt=attempt))
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

    def worker_went(self, slot: str, incarnation: str) -> None:
        """Be told that the link of a worker broke."""
        if self._workers.pop((slot, incarnation), None) is not None:
            self._feed(WorkerDisconnected(slot=slot, incarnation=incarnation))

    def feed(self, event: PoolEvent) -> None:
        """Take in an event that the keeper of jobs knows of."""
        self._feed(event)

    def _ended(self, slot: str, incarnation: str, result: Result) -> None:
        self._note_end(slot, result)
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
        assert self._keeper is not None
        self._keeper.left(slot, reason, self._clock())
        self._workers.pop((slot, incarnation), None)
        self._feed(WorkerLost(slot=slot, incarnation=incarnation, loss=Loss(LossKind.LEFT, reason)))

    def _unfit(self, hello: Hello) -> None:
        assert self._keeper is not None
        self.notice(f"worker {hello.slot} on {hello.host} cannot work there: {hello.unfit}")
        self._keeper.suspect(hello.host, hello.unfit, self._clock())
        self._keeper.left(hello.slot, f"unfit: {hello.unfit}", self._clock())
        worker = self._workers.pop((hello.slot, hello.incarnation))
        worker.link.send(Exit(why=f"unfit: {hello.unfit}"))
        worker.link.close("unfit")

    # Actions.

    def _feed(self, event: PoolEvent) -> None:
        for action in self._reactor.handle(event, self._clock()):
            self._do(action)

    def _do(self, action: PoolAction) -> None:
        match action:
            case Record():
                self._records.append(action)
                self._schedule_flush()
            case Assign():
                self._assign(action)
            case Acknowledge(slot, attempt):
                self._running.pop(attempt, None)
                self._tell(slot, Ack(attempt=attempt))
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
                        reason=action.reason,
                        host=action.host,
                        attempt=action.attempt,
                    ),
                )
            case Welcomed(slot=slot, keep=keep):
                self._tell(slot, self._welcome(keep))
            case Retire(slot, incarnation, why):
                self._retire(slot, incarnation, why)
            case AskToDrain(slot):
                self._tell(slot, Drain())
            case HostSuspected(host, text):
                assert self._keeper is not None
                self.notice(f"no work goes to host {host} for a while: {text}")
                self._keeper.suspect(host, text, self._clock())

    def _assign(self, action: Assign) -> None:
        worker = self._worker(action.slot)
        if worker is None:
            return
        self._running[action.attempt] = (action, self._clock())
        if action.environment and action.environment not in worker.environments:
            worker.environments.add(action.environment)
            variables = self._environments.get(action.environment, {})
            self._say(worker.link.send, Environment(digest=action.environment, variables=variables))
        self._say(
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
        self._say(
            client.send,
            Done(
                ticket=action.ticket,
                outcome=action.outcome,
                cause=action.cause,
                body=action.body,
                attempts=action.attempts,
                is_out_of_memory=action.is_out_of_memory,
            ),
        )

    def _retire(self, slot: str, incarnation: str, why: str) -> None:
        worker = self._workers.pop((slot, incarnation), None)
        if worker is None:
            return
        self._flush()
        worker.link.send(Exit(why=why))
        worker.link.close(why)

    def _welcome(self, keep: Sequence[int]) -> Welcome:
        settings, scale = self._settings, self._settings.time_scale
        return Welcome(
            epoch=self._epoch,
            heartbeat_seconds=settings.heartbeat_interval * scale,
            silence_seconds=0.75 * settings.lease_timeout * scale,
            idle_seconds=settings.idle_timeout * scale,
            lost_seconds=settings.lost_timeout * scale,
            kill_grace_seconds=settings.kill_grace * scale,
            keep=list(keep),
        )

    def _worker(self, slot: str) -> _Worker | None:
        return self._workers.get((slot, self._current.get(slot, "")))

    def _tell(self, slot: str, message: ToWorker) -> None:
        worker = self._worker(slot)
        if worker is not None:
            self._say(worker.link.send, message)

    def _inform(self, name: str, message: ToClient) -> None:
        client = self._clients.get(name)
        if client is not None:
            self._say(client.send, message)

    def _say(self, send: Callable[..., None], message: ToWorker | ToClient) -> None:
        self._outbox.append((send, message))
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Give the journal what was recorded; only then say what was to be said."""
        self._is_flushing = False
        records, self._records = self._records, []
        if records:
            self._journal.write(records)
        outbox, self._outbox = self._outbox, []
        for send, message in outbox:
            send(message)

    # Time.

    def _tick(self) -> None:
        loop, now = asyncio.get_running_loop(), self._clock()
        self._timer = loop.call_later(TICK_SECONDS * min(1.0, self._settings.time_scale), self._tick)
        self._feed(Tick())
        if self._keeper is not None:
            self._keeper.tick(now)
        if now >= self._beat_at:
            self._beat_at = now + self._settings.heartbeat_interval * self._settings.time_scale
            for worker in self._workers.values():
                self._say(worker.link.send, Beat())
        for client in self._clients.values():
            if client.in_flight and client.in_flight != self.in_flight:
                client.in_flight = self.in_flight
                self._say(client.send, InFlight(count=client.in_flight))
        self.on_change()

    def _note_end(self, slot: str, result: Result) -> None:
        """Keep what people want to see of tasks that ended."""
        assigned, since = self._running.pop(result.attempt, (None, 0.0))
        self._counts[result.outcome] = self._counts.get(result.outcome, 0) + 1
        worker = self._worker(slot)
        if assigned is None or worker is None:
            return
        self._recent.append(
            Ended(
                client="",
                task=assigned.task,
                outcome=result.outcome,
                seconds=self._clock() - since,
                worker=slot,
                host=worker.hello.host,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )


def _loss_of_vacating(reason: str) -> Loss:
    kinds = {"preempted": LossKind.PREEMPTED, "walltime": LossKind.WALLTIME}
    return Loss(kinds.get(reason, LossKind.KILLED), f"the worker was told to go ({reason})")
