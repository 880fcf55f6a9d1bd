"""The daemon of the simulation: the real reactor, ledger, scaling and journal codec between a link and a scheduler."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.checker import Checker
from tests.simulation.scheduler import Scheduler
from tests.simulation.settings import SHAPES
from tests.simulation.world import Link, World

from dfm.api.batch import JobKey
from dfm.core.config.settings import PoolSettings
from dfm.core.pool import journal
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
    JournalEntry,
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
    Announce,
    AskHistory,
    CancelAnswered,
    CancelJobs,
    CancelWanted,
    Clock,
    HistoryAnswered,
    HostExcluded,
    LaunchWanted,
    LedgerAction,
    LedgerEvent,
    LookUpAnswered,
    LookUpJob,
    PausePool,
    QueryAnswered,
    QueryJobs,
    ResumeWanted,
    SubmitAnswered,
    SubmitJob,
    Tell,
    WorkerConnected,
    WorkerParted,
    WorkerWorked,
)
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.pool.scaling import Launch, PoolView, Release, ScaleAction, Withdraw, plan
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
    Exit,
    Hello,
    Leaving,
    Open,
    Received,
    Result,
    Run,
    Started,
    Submit,
    Vacating,
    Welcome,
)

HEADER = journal.Header(project="p", epoch=1, runner="r")
_REASONS = {"preempted": LossKind.PREEMPTED, "walltime": LossKind.WALLTIME}


@dataclass(frozen=True)
class Cores:
    """The classes under test; a mutant replaces one."""

    reactor: type[Reactor] = Reactor
    ledger: type[Ledger] = Ledger
    arrange: Callable[[list[PoolAction]], list[PoolAction]] = lambda actions: actions
    plan: Callable[[PoolView, PoolSettings, float], list[ScaleAction]] = plan


class Disk:
    """The journal of all daemons: what was appended survives a crash, what was synced survives a loss of power."""

    def __init__(self) -> None:
        self.content = bytearray(journal.encode_header(HEADER))
        self.synced = len(self.content)

    def append(self, entry: JournalEntry) -> None:
        self.content += journal.encode([entry])

    def sync(self) -> None:
        self.synced = len(self.content)

    def lose_power(self, torn: int) -> None:
        """Keep what was synced, and perhaps a torn piece of what was not."""
        del self.content[min(self.synced + torn, len(self.content)) :]


class Daemon:
    """One life of it."""

    def __init__(
        self, world: World, cores: Cores, disk: Disk, scheduler: Scheduler, checker: Checker, epoch: int
    ) -> None:
        self.world, self.disk, self.scheduler, self.checker, self.epoch = world, disk, scheduler, checker, epoch
        self.cores = cores
        self.is_alive = True
        self._workers: dict[tuple[str, str], Link] = {}
        self._clients: dict[str, Link] = {}
        self._links: list[Link] = []
        found = journal.replay(bytes(disk.content))
        del disk.content[found.good_bytes :]
        self.settings = world.settings
        self.reactor = cores.reactor(ReactorSettings.of(self.settings), epoch)
        self.ledger = cores.ledger(LedgerSettings.of(self.settings), "inst", epoch)
        checker.daemon_started(found.entries)
        disk.append(JournalEntry(kind="epoch", fields={"epoch": epoch}))
        disk.sync()
        self.reactor.restore(found.entries, world.now)
        self._do_ledger(self.ledger.restore(found.entries, world.now))
        self._beat()
        self._sync()

    # Time.

    def _beat(self) -> None:
        if not self.is_alive:
            return
        self._feed(Tick())
        self._feed_ledger(Clock())
        self._scale()
        for link in list(self._workers.values()):
            link.send("down", Beat())
        self.world.after(5.0, self._beat)

    def _sync(self) -> None:
        if self.is_alive:
            self.disk.sync()
            self.checker.synced()

    def _scale(self) -> None:
        now = self.world.now
        workers = self.reactor.workers()
        view = PoolView(
            demand=self.reactor.demand(now),
            jobs=self.ledger.jobs(),
            idle=[worker.slot for worker in workers if worker.idle_since is not None],
            stuck={worker.slot for worker in workers if worker.is_waiting},
            draining={worker.slot for worker in workers if worker.is_draining},
            missed={worker.slot for worker in workers if not worker.is_connected},
            is_fresh=self.ledger.is_fresh(now),
            submits_left=self.ledger.submits_left(now),
            ramp=self.ledger.ramp(now),
            quiet_since=self.reactor.quiet_since(),
            default=SHAPES[0],
        )
        for action in self.cores.plan(view, self.settings, now):
            match action:
                case Launch(shape=shape, count=count):
                    self._feed_ledger(LaunchWanted(shape=shape, slots=1, clock=now, count=count))
                case Withdraw(slots):
                    self._feed_ledger(CancelWanted(slots=slots, why="nobody waits for it"))
                case Release(slot):
                    self._feed(DrainWorker(slot))

    # Cores.

    def _feed(self, event: PoolEvent) -> None:
        if self.is_alive:
            self._do(self.cores.arrange(self.reactor.handle(event, self.world.now)))
            if not isinstance(event, WorkerHeard | Tick):
                self.checker.look_at(self.reactor, self.ledger)

    def _feed_ledger(self, event: LedgerEvent) -> None:
        if self.is_alive:
            self._do_ledger(self.ledger.handle(event, self.world.now))

    def _record(self, entry: JournalEntry) -> None:
        self.disk.append(entry)
        self.checker.recorded(entry)

    def _do(self, actions: list[PoolAction]) -> None:
        is_recorded = False
        for action in actions:
            match action:
                case Record(entry):
                    self._record(entry)
                    is_recorded = True
                case Assign():
                    self.checker.assigned(action, self.reactor)
                    self._say(
                        action.slot,
                        Run(
                            attempt=action.attempt,
                            number=action.number,
                            task=action.task,
                            spec=action.spec,
                            wall_seconds=action.wall_seconds,
                        ),
                    )
                case PassQuestion():
                    self._tell(
                        action.client,
                        Asked(
                            attempt=action.attempt, number=action.number, question=action.question, ticket=action.ticket
                        ),
                    )
                case PassAnswer():
                    self.checker.answering(action)
                    self._say(action.slot, Answered(attempt=action.attempt, number=action.number, answer=action.answer))
                case Acknowledge(slot, attempt):
                    self.checker.acknowledged(attempt)
                    self._say(slot, Ack(attempt=attempt))
                case Stop(slot, attempt, is_urgent):
                    self._say(slot, CancelAttempt(attempt=attempt, is_urgent=is_urgent))
                case AskToDrain(slot):
                    self._say(slot, Drain())
                case Welcomed():
                    self._welcome(action)
                case Retire():
                    self._retire(action)
                case Deliver():
                    self._deliver(action)
                case Confirm():
                    self._tell(action.client, Accepted(ticket=action.ticket))
                case HostSuspected():
                    self._feed_ledger(HostExcluded(host=action.host, text=action.text))
                case Report():
                    pass
        if is_recorded:
            self.world.after(0.02, self._sync)

    def _do_ledger(self, actions: list[LedgerAction]) -> None:
        for action in actions:
            match action:
                case Record(entry):
                    self._record(entry)
                    self.disk.sync()
                    self.checker.synced()
                case SubmitJob():
                    self.checker.submitting(action.name, self.reactor, self.ledger, self.scheduler)
                    self._submit(action)
                case LookUpJob(name):
                    self.scheduler.find(name, lambda answer, name=name: self._look_up_answered(name, answer))  # type: ignore[misc]
                case QueryJobs(jobs):
                    self.scheduler.query(jobs, lambda answer: self._feed_ledger(QueryAnswered(answer=answer)))
                case AskHistory(job):
                    self.scheduler.history(
                        job,
                        lambda status, job=job: self._feed_ledger(HistoryAnswered(name=job.name, status=status)),  # type: ignore[misc]
                    )
                case CancelJobs(jobs):
                    self._cancel(jobs)
                case Announce(event):
                    self._feed(event)
                case PausePool(text) | Tell(text):
                    self.world.log(f"tells: {text}")

    def _look_up_answered(self, name: str, answer: object) -> None:
        self._feed_ledger(LookUpAnswered(name=name, answer=answer))  # type: ignore[arg-type]

    def _submit(self, action: SubmitJob) -> None:
        self.world.log(f"submit {action.name}")
        self.scheduler.submit(
            action.name,
            action.slot,
            action.slots,
            action.shape,
            action.excluded_hosts,
            lambda answer: self._feed_ledger(SubmitAnswered(name=action.name, answer=answer)),
        )

    def _cancel(self, jobs: tuple[JobKey, ...]) -> None:
        self.scheduler.cancel(jobs, lambda states: self._feed_ledger(CancelAnswered(jobs=jobs, states=states)))

    # Workers.

    def accept_worker(self, slot: str) -> Link | None:
        if not self.ledger.knows(slot):
            link = Link(self.world)
            self.world.after(0.01, lambda: link.receivers["down"](Exit(why="its slot is not known")))
            link.receivers["up"] = lambda _: None
            return link
        link = Link(self.world)
        self._links.append(link)
        incarnation = [""]
        link.receivers["up"] = lambda message: self._worker_said(link, slot, incarnation, message)
        link.closers["daemon"] = lambda: self._worker_went(link, slot, incarnation[0])
        return link

    def _worker_said(self, link: Link, slot: str, incarnation: list[str], message: object) -> None:
        if not self.is_alive:
            return
        if isinstance(message, Hello):
            self._worker_came(link, slot, incarnation, message)
        elif self._workers.get((slot, incarnation[0])) is link:
            self._worker_spoke(slot, incarnation[0], message)

    def _worker_came(self, link: Link, slot: str, incarnation: list[str], hello: Hello) -> None:
        if not self.ledger.knows(slot):
            link.send("down", Exit(why="its slot is not known"))
            return
        incarnation[0] = hello.incarnation
        before = self._workers.get((slot, hello.incarnation))
        if before is not None:
            before.close("daemon")
        self._workers[slot, hello.incarnation] = link
        self._feed(
            WorkerArrived(
                slot=slot,
                incarnation=hello.incarnation,
                host=hello.host,
                slots=hello.slots,
                shape=next(job.shape for job in self.ledger.jobs() if job.slot == slot),
                lives_seconds=hello.lives_seconds,
                running=tuple(hello.running),
                finished=tuple(hello.finished),
            )
        )
        if (slot, hello.incarnation) in self._workers:
            self._feed_ledger(WorkerConnected(slot=slot, host=hello.host, job_id=hello.job_id))

    def _worker_spoke(self, slot: str, incarnation: str, message: object) -> None:
        match message:
            case Beat():
                self._feed(WorkerHeard(slot=slot, incarnation=incarnation))
            case Started(attempt=attempt):
                self._feed(AttemptStarted(slot=slot, incarnation=incarnation, attempt=attempt))
                self._feed_ledger(WorkerWorked(slot))
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
            case Result():
                self._feed(
                    AttemptEnded(
                        slot=slot,
                        incarnation=incarnation,
                        attempt=message.attempt,
                        outcome=message.outcome,
                        body=message.body,
                        is_infrastructure=message.is_infrastructure,
                        is_out_of_memory=message.is_out_of_memory,
                    )
                )
            case Vacating(reason=reason, dropped=dropped):
                loss = Loss(_REASONS.get(reason, LossKind.KILLED), reason)
                self._feed(WorkerVacating(slot=slot, incarnation=incarnation, loss=loss, dropped=tuple(dropped)))
            case Leaving(reason=reason):
                self._feed(WorkerLost(slot=slot, incarnation=incarnation, loss=Loss(LossKind.LEFT, reason)))
                self._feed_ledger(WorkerParted(slot=slot, is_in_order=True))
            case _:
                raise AssertionError(message)

    def _worker_went(self, link: Link, slot: str, incarnation: str) -> None:
        if self.is_alive and self._workers.get((slot, incarnation)) is link:
            del self._workers[slot, incarnation]
            self._feed(WorkerDisconnected(slot=slot, incarnation=incarnation))
            if not any(other == slot for other, _ in self._workers):
                self._feed_ledger(WorkerParted(slot=slot, is_final=False))

    def _say(self, slot: str, message: object) -> None:
        worker = next((worker for worker in self.reactor.workers() if worker.slot == slot), None)
        link = self._workers.get((slot, worker.incarnation)) if worker is not None else None
        if link is not None:
            link.send("down", message)

    def _welcome(self, action: Welcomed) -> None:
        self._say(
            action.slot,
            Welcome(
                epoch=self.epoch,
                heartbeat_seconds=self.settings.heartbeat_interval,
                silence_seconds=15.0,
                idle_seconds=self.settings.idle_timeout,
                lost_seconds=self.settings.lost_timeout,
                kill_grace_seconds=self.settings.kill_grace,
                margin_seconds=self.settings.walltime_margin,
                keep=list(action.keep),
            ),
        )

    def _retire(self, action: Retire) -> None:
        link = self._workers.pop((action.slot, action.incarnation), None)
        if link is not None:
            link.send("down", Exit(why=action.why))
            link.close("daemon")
        if not any(slot == action.slot for slot, _ in self._workers):
            self._feed_ledger(WorkerParted(slot=action.slot))

    # Clients.

    def accept_client(self, client: str) -> Link:
        link = Link(self.world)
        self._links.append(link)
        link.receivers["up"] = lambda message: self._client_said(link, client, message)
        link.closers["daemon"] = lambda: self._client_went(link, client)
        return link

    def _client_said(self, link: Link, client: str, message: object) -> None:
        if not self.is_alive:
            return
        match message:
            case Open():
                self._clients[client] = link
                self._feed(ClientOpened(client=client))
            case Submit():
                self._feed(
                    TaskSubmitted(
                        client=client,
                        ticket=message.ticket,
                        task=message.task,
                        shape=message.shape,
                        spec=message.spec,
                        wall_seconds=message.wall_seconds,
                        larger=message.larger,
                    )
                )
            case CancelTask(ticket=ticket):
                self._feed(TaskCancelled(client=client, ticket=ticket))
            case Answered():
                self._feed(
                    QuestionAnswered(
                        client=client,
                        ticket=message.ticket,
                        attempt=message.attempt,
                        number=message.number,
                        answer=message.answer,
                    )
                )
            case Received(ticket=ticket):
                self._feed(ResultReceived(client, ticket))
            case Close():
                self._feed(ClientClosed(client))
            case _:
                raise AssertionError(message)

    def _client_went(self, link: Link, client: str) -> None:
        if self.is_alive and self._clients.get(client) is link:
            del self._clients[client]
            self._feed(ClientGone(client))

    def _deliver(self, action: Deliver) -> None:
        self.checker.delivering(action)
        self._tell(
            action.client,
            Done(ticket=action.ticket, outcome=action.outcome, cause=action.cause, body=action.body),
        )

    def _tell(self, client: str, message: object) -> None:
        link = self._clients.get(client)
        if link is not None:
            link.send("down", message)

    # The end.

    def resume(self) -> None:
        self._feed_ledger(ResumeWanted())

    def crash(self) -> None:
        self.is_alive = False
        for link in self._links:
            link.reset()
