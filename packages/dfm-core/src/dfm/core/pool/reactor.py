"""The pool's decisions about tasks, attempts and workers, free of I/O and clocks.

Rules that hold after every event:
1. an accepted task is in exactly one place: waiting, with one worker, or ended and waiting for its client;
2. an attempt belongs to the one life of the one slot that it was sent to. A result counts only from there, and only
   while the attempt is the task's current one; every other result is acknowledged, counted and dropped;
3. a worker is lost in one way only (`_lose`), whatever told of it; its tasks go back to the front of the queue, at
   most `max_losses` times without a known cause, and then end as lost. They never just disappear. A task that ran out
   of memory and may grow goes on in its next larger shape, once for each, and that is not counted as a loss;
4. after a restart an attempt is not sent to another worker before its lease has passed: its worker is taken for one
   whose link is broken, with all that follows from that;
5. no task waits while a worker is free that it fits;
6. an attempt whose body waits for an answer of the run is leased and takes no slot. With the answer it takes one again,
   even where the worker has none left: the worker holds the answer back until one of its slots is free.

Journal entries are of the kinds `client`, `close`, `submit`, `cancel`, `dispatch`, `lost`, `grow`, `refund`,
`commit` and `forget`; see `restore`.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

import msgspec

from dfm.api.units import format_memory
from dfm.core.config.settings import PoolSettings
from dfm.core.pool.deadlines import Deadlines, Key, Watch
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
    ShapeRefused,
    Stop,
    TaskCancelled,
    TaskSubmitted,
    Tick,
    Welcomed,
    WorkerArrived,
    WorkerDisconnected,
    WorkerHeard,
    WorkerLost,
    WorkerResumed,
    WorkerSuspended,
    WorkerVacating,
)
from dfm.core.pool.fairness import Free, Share, Waiting
from dfm.core.pool.hosts import Hosts
from dfm.core.pool.standing import Counters, Demand, Stage, TaskStanding, TaskView, WorkerView
from dfm.core.wire.messages import EPOCH_SHIFT, Shape

LOST = "lost"
REFUSED = "refused"
"""Outcome of a task that we could not bring to an end, as in dfm.api.runner.Outcome."""
_FOREVER = float("inf")
_MISFIT_LIMIT = 3
"""So many new workers in a row whose whole life is too short for a task: no other will be longer."""
_SLACK_SECONDS = 30.0
"""How late a deadline may be looked at before the watchdog speaks."""


def _name_of_slot(slot: str) -> str:
    return slot


class ReactorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times of the reactor, in seconds, scaled already.

    Attributes:
        stop_seconds: a worker that was told to stop an attempt must have said so after this time, else it is retired.
        job_wall_seconds: limit of every worker job, None where jobs have none: longer tasks are refused at once.
        host_failures: a host that fails that many different tasks or workers is suspected; None suspects none, for
            a pool that has only one host.
        log_of: the path of the log of a slot's worker, for the account of a lost task.
    """

    lease_seconds: float = 20.0
    client_grace_seconds: float = 60.0
    walltime_margin_seconds: float = 120.0
    stop_seconds: float = 30.0
    check_seconds: float = 10.0
    max_losses: int = 3
    job_wall_seconds: float | None = None
    host_failures: int | None = 3
    host_window_seconds: float = 600.0
    host_suspicion_seconds: float = 1800.0
    host_rest_seconds: float = 5.0
    log_of: Callable[[str], str] = _name_of_slot

    @classmethod
    def of(
        cls, settings: PoolSettings, log_of: Callable[[str], str] = _name_of_slot, *, has_many_hosts: bool = True
    ) -> "ReactorSettings":
        """Return what the settings of the pool mean for the reactor."""
        scale = settings.time_scale
        return cls(
            lease_seconds=settings.lease_timeout * scale,
            client_grace_seconds=settings.client_grace * scale,
            walltime_margin_seconds=settings.walltime_margin * scale,
            stop_seconds=(settings.kill_grace + settings.lease_timeout) * scale,
            check_seconds=10.0 * scale,
            max_losses=settings.max_losses,
            job_wall_seconds=None if settings.walltime is None else settings.walltime * scale,
            host_failures=3 if has_many_hosts else None,
            host_window_seconds=600.0 * scale,
            host_suspicion_seconds=1800.0 * scale,
            host_rest_seconds=5.0 * scale,
            log_of=log_of,
        )


class _Client(msgspec.Struct, eq=False):
    share: Share
    tasks: "dict[int, _Task]"
    is_here: bool
    rundir: str
    gone_at: float = 0.0


class _Pool(msgspec.Struct, eq=False):
    """All of one shape. `encoded` is the shape as journal entries hold it."""

    shape: Shape
    encoded: object
    waiting: "Waiting[_Task]"
    free: "Free[_Worker]"
    running: int = 0
    workers: int = 0
    quiet_since: float = 0.0
    misfits: int = 0


class _Task(msgspec.Struct, eq=False):
    client: _Client
    share: Share
    ticket: int
    name: str
    pool: _Pool
    spec: bytes
    environment: str
    wall_seconds: float | None
    wall: float
    order: int
    since: float
    stage: Stage = Stage.QUEUED
    reason: str = ""
    attempt: int = 0
    number: int = 0
    worker: "_Worker | None" = None
    losses: list[tuple[str, str, str]] | None = None
    host_failures: int = 0
    overruns: int = 0
    is_unwanted: bool = False
    is_orphan: bool = False
    is_refunded: bool = False
    larger: tuple[Shape, ...] = ()
    outgrown: tuple[str, ...] = ()
    """The classes in which it ran out of memory."""
    is_hungry: bool = False
    """Whether a worker gave it back whose job was ended for memory, as was known only once it had begun again."""
    questions: dict[int, bytes] | None = None
    """Those of the current attempt that are not answered; None where it works."""
    may_crowd: bool = False
    """Whether the current attempt has waited for an answer, so that its worker may have more attempts than slots."""
    end: Deliver | None = None


class _Worker(msgspec.Struct, eq=False):
    slot: str
    incarnation: str
    host: str
    slots: int
    pool: _Pool
    ends_at: float
    arrived_at: float
    heard_at: float
    attempts: dict[int, _Task]
    is_connected: bool = True
    is_draining: bool = False
    is_leaving: bool = False
    is_suspended: bool = False
    rests_until: float = 0.0
    lapse: Loss | None = None
    idle_since: float | None = None
    former: tuple[str, ...] = ()
    lent: int = 0
    """How many of the attempts wait for answers."""

    @property
    def has_room(self) -> bool:
        return len(self.attempts) - self.lent < self.slots


class Reactor:
    """Tasks, attempts and workers of one pool, in one epoch of its daemon."""

    def __init__(self, settings: ReactorSettings, epoch: int) -> None:
        self._settings = settings
        self._epoch = epoch
        self._attempts = 0
        self._order = 0
        self._served = 0
        self._clients: dict[str, _Client] = {}
        self._pools: dict[Shape, _Pool] = {}
        self._workers: dict[str, _Worker] = {}
        self._hosts: Hosts[_Task] = Hosts(
            settings.host_failures, settings.host_window_seconds, settings.host_suspicion_seconds
        )
        self._given_back: dict[str, list[_Task]] = {}
        self._deadlines = Deadlines()
        self._is_checking = False
        self._counts = dict.fromkeys(
            ("submitted", "assigned", "committed", "lost_attempts", "lost_tasks", "outgrown"), 0
        )
        self._late_results = 0
        self._owed: list[PoolAction] = []

    # What happens, most frequent first.

    def handle(self, event: PoolEvent, now: float) -> list[PoolAction]:
        """Take in one event; return what must be done, in order.

        What follows a Record in the list may be done only once the record is in the journal.
        """
        actions, self._owed = self._owed, []
        match event:
            case WorkerHeard():
                self._life(event.slot, event.incarnation, now, actions)
            case AttemptEnded():
                self._on_ended(event, now, actions)
            case AttemptStarted():
                self._on_started(event, now, actions)
            case AttemptAsked():
                self._on_asked(event, now, actions)
            case QuestionAnswered():
                self._on_answered(event, now, actions)
            case TaskSubmitted():
                self._on_submitted(event, now, actions)
            case ResultReceived():
                self._on_received(event, actions)
            case Tick():
                self._on_tick(now, actions)
            case TaskCancelled():
                self._on_cancelled(event, now, actions)
            case WorkerArrived():
                self._on_arrived(event, now, actions)
            case WorkerDisconnected():
                self._on_disconnected(event, now)
            case WorkerLost():
                self._on_lost(event, now, actions)
            case WorkerVacating():
                self._on_vacating(event, now, actions)
            case WorkerSuspended():
                self._on_suspended(event, now, actions)
            case WorkerResumed():
                self._on_resumed(event, now, actions)
            case DrainWorker():
                self._on_drain(event, actions)
            case ClientOpened():
                self._on_opened(event, now, actions)
            case ClientGone():
                self._on_client_gone(event, now)
            case ClientClosed():
                self._on_client_closed(event, now, actions)
            case ShapeRefused():
                self._on_refused(event, now, actions)
        return actions

    # Clients.

    def _on_opened(self, event: ClientOpened, now: float, actions: list[PoolAction]) -> None:
        client = self._clients.get(event.client)
        if client is None:
            client = self._open(event.client, event.weight, event.rundir, actions)
        client.is_here = True
        client.share.weight = event.weight
        self._watch(now)
        actions.extend(task.end for task in client.tasks.values() if task.end is not None)
        for task in client.tasks.values():
            actions.extend(_question(task, number) for number in task.questions or ())

    def _open(self, name: str, weight: float, rundir: str, actions: list[PoolAction]) -> _Client:
        client = self._clients[name] = _Client(Share(name, weight), {}, is_here=True, rundir=rundir)
        actions.append(_record("client", client=name, weight=weight, rundir=rundir))
        return client

    def _on_client_gone(self, event: ClientGone, now: float) -> None:
        client = self._clients.get(event.client)
        if client is not None and client.is_here:
            self._miss(client, now)

    def _miss(self, client: _Client, now: float) -> None:
        client.is_here = False
        client.gone_at = now
        self._deadlines.enter(now + self._settings.client_grace_seconds, Watch.GRACE, (client.share.client, "", 0))

    def _on_client_closed(self, event: ClientClosed, now: float, actions: list[PoolAction]) -> None:
        client = self._clients.pop(event.client, None)
        if client is None:
            return
        actions.append(_record("close", client=event.client))
        for task in client.tasks.values():
            task.is_orphan = True
            if task.stage is Stage.QUEUED:
                self._unqueue(task, now)
                task.stage = Stage.ENDED
            elif task.stage is not Stage.ENDED:
                self._stop(task, now, actions, is_urgent=False)
        client.tasks.clear()

    # Tasks.

    def _on_submitted(self, event: TaskSubmitted, now: float, actions: list[PoolAction]) -> None:
        client = self._clients.get(event.client) or self._open(event.client, 1.0, "", actions)
        known = client.tasks.get(event.ticket)
        if known is not None:
            self._confirm_again(known, actions)
            return
        task = self._enter_task(client, event, now)
        self._counts["submitted"] += 1
        actions.append(Record(_submission(task)))
        actions.append(Confirm(client=event.client, ticket=event.ticket))
        refusal = self._refusal(task)
        if refusal:
            self._finish(task, now, actions, REFUSED, refusal)
        else:
            self._watch(now)
            self._place(task, now, actions)

    def _enter_task(self, client: _Client, event: TaskSubmitted, now: float) -> _Task:
        pool = self._pools.get(event.shape) or self._enter_pool(event.shape, now)
        wall = event.wall_seconds or event.shape.wall_seconds or 0.0
        self._order += 1
        task = _Task(
            client,
            client.share,
            event.ticket,
            event.task,
            pool,
            event.spec,
            event.environment,
            event.wall_seconds,
            wall,
            self._order,
            now,
            larger=event.larger,
        )
        client.tasks[event.ticket] = task
        return task

    def _enter_pool(self, shape: Shape, now: float) -> _Pool:
        pool = self._pools[shape] = _Pool(shape, msgspec.to_builtins(shape), Waiting(), Free(), quiet_since=now)
        return pool

    def _confirm_again(self, task: _Task, actions: list[PoolAction]) -> None:
        actions.append(Confirm(client=task.share.client, ticket=task.ticket))
        if task.end is not None:
            actions.append(task.end)
        elif task.worker is not None:
            actions.append(self._report(task))

    def _refusal(self, task: _Task) -> str:
        limit = self._settings.job_wall_seconds
        margin = self._settings.walltime_margin_seconds
        if limit is None or task.pool.shape.wall_seconds is not None or task.wall + margin <= limit:
            return ""
        return (
            f"no worker lives long enough: the task asks for {task.wall:g} s, jobs of workers end after {limit:g} s "
            f"(runner.pool.walltime), of which {margin:g} s are kept free (runner.pool.walltime_margin)"
        )

    def _on_cancelled(self, event: TaskCancelled, now: float, actions: list[PoolAction]) -> None:
        client = self._clients.get(event.client)
        task = client.tasks.get(event.ticket) if client is not None else None
        if task is None or task.stage is Stage.ENDED:
            return
        if not task.is_unwanted:
            actions.append(_record("cancel", client=event.client, ticket=event.ticket))
        if task.stage is Stage.QUEUED:
            self._unqueue(task, now)
            self._finish(task, now, actions, LOST, "cancelled")
        else:
            self._stop(task, now, actions, is_urgent=event.is_urgent)

    def _stop(self, task: _Task, now: float, actions: list[PoolAction], *, is_urgent: bool) -> None:
        """Have an attempt stopped. Its place stays taken until its worker says that it is free."""
        worker = task.worker
        assert worker is not None
        if not task.is_unwanted:
            task.is_unwanted = True
            self._move(task, Stage.CANCELLING, "cancelled; its worker has been told to stop it", now)
        if worker.is_connected:
            actions.append(Stop(worker.slot, task.attempt, is_urgent))
            self._expect_stop(worker, task, now)

    def _expect_stop(self, worker: _Worker, task: _Task, now: float) -> None:
        key = (worker.slot, worker.incarnation, task.attempt)
        self._deadlines.enter(now + self._settings.stop_seconds, Watch.STOP, key)

    def _on_received(self, event: ResultReceived, actions: list[PoolAction]) -> None:
        client = self._clients.get(event.client)
        task = client.tasks.get(event.ticket) if client is not None else None
        if client is not None and task is not None and task.stage is Stage.ENDED:
            del client.tasks[event.ticket]
            actions.append(_record("forget", client=event.client, ticket=event.ticket))

    def _on_refused(self, event: ShapeRefused, now: float, actions: list[PoolAction]) -> None:
        pool = self._pools.get(event.shape)
        for task in pool.waiting.drain() if pool is not None else []:
            self._note_quiet(task.pool, now)
            outgrown = f" (it ran out of memory in class {task.outgrown[-1]})" if task.outgrown else ""
            self._finish(task, now, actions, REFUSED, f"{event.text}{outgrown}")

    # Placing tasks on workers.

    def _place(self, task: _Task, now: float, actions: list[PoolAction]) -> None:
        if not self._give_away(task, now, actions):
            task.pool.waiting.append(task)

    def _give_away(self, task: _Task, now: float, actions: list[PoolAction]) -> bool:
        worker = task.pool.free.first_that_ends_after(now + task.wall + self._settings.walltime_margin_seconds)
        if worker is None:
            return False
        self._assign(task, worker, now, actions)
        if not worker.has_room:
            task.pool.free.discard(worker)
        return True

    def _assign(self, task: _Task, worker: _Worker, now: float, actions: list[PoolAction]) -> None:
        self._attempts += 1
        attempt = (self._epoch << EPOCH_SHIFT) | self._attempts
        task.attempt = attempt
        task.number += 1
        self._hand_over(task, worker)
        self._move(task, Stage.ASSIGNED, "", now)
        self._counts["assigned"] += 1
        actions.append(_dispatch(task, worker))
        actions.append(
            Assign(
                slot=worker.slot,
                attempt=attempt,
                number=task.number,
                task=task.name,
                spec=task.spec,
                environment=task.environment,
                wall_seconds=task.wall_seconds,
            )
        )

    def _hand_over(self, task: _Task, worker: _Worker) -> None:
        task.worker = worker
        worker.attempts[task.attempt] = task
        worker.idle_since = None
        task.pool.running += 1
        self._served += 1
        task.share.running += 1
        task.share.served = self._served

    def _take_back(self, task: _Task, now: float) -> None:
        """Part a task from its worker, whatever becomes of either."""
        worker = task.worker
        assert worker is not None
        del worker.attempts[task.attempt]
        worker.lent -= task.questions is not None
        task.questions = None
        task.may_crowd = False
        task.worker = None
        task.share.running -= 1
        task.pool.running -= 1
        if not worker.attempts:
            worker.idle_since = now

    def _unqueue(self, task: _Task, now: float) -> None:
        task.pool.waiting.remove(task)
        self._note_quiet(task.pool, now)

    def _note_quiet(self, pool: _Pool, now: float) -> None:
        """Take note of the time where the last task that waited was taken."""
        if not pool.waiting.count:
            pool.quiet_since = now

    def _settle(self, worker: _Worker, now: float, actions: list[PoolAction]) -> None:
        """Give a worker what it can take, and enter it among the free ones or take it from there."""
        pool = worker.pool
        if not self._is_usable(worker, now):
            pool.free.discard(worker)
            return
        room = worker.ends_at - now - self._settings.walltime_margin_seconds
        while pool.waiting.count and worker.has_room:
            task = pool.waiting.take(room)
            if task is None:
                break
            self._note_quiet(pool, now)
            self._assign(task, worker, now, actions)
        if worker.has_room:
            pool.free.add(worker, worker.ends_at)
        else:
            pool.free.discard(worker)

    def _is_usable(self, worker: _Worker, now: float) -> bool:
        return _takes_tasks(worker) and worker.rests_until <= now

    def _requeue(self, tasks: list[_Task], now: float, actions: list[PoolAction]) -> None:
        """Put tasks that lost their worker before all others of their clients, unless a worker is free."""
        left = [task for task in tasks if not self._give_away(task, now, actions)]
        for task in reversed(left):
            task.pool.waiting.prepend(task)

    # Attempts.

    def _on_started(self, event: AttemptStarted, now: float, actions: list[PoolAction]) -> None:
        worker = self._life(event.slot, event.incarnation, now, actions)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if task is not None and task.stage is Stage.ASSIGNED:
            self._move(task, Stage.RUNNING, "", now)
            actions.append(self._report(task))

    def _on_asked(self, event: AttemptAsked, now: float, actions: list[PoolAction]) -> None:
        worker = self._life(event.slot, event.incarnation, now, actions)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if worker is None or task is None or task.is_unwanted:
            return
        if task.questions is None:
            task.questions = {}
            task.may_crowd = True
            worker.lent += 1
            actions.append(self._report(task))
        task.questions[event.number] = event.question
        if task.client.is_here:
            actions.append(_question(task, event.number))
        self._settle(worker, now, actions)

    def _on_answered(self, event: QuestionAnswered, now: float, actions: list[PoolAction]) -> None:
        """Pass an answer on. If the worker cannot be reached now it asks again, and so does the client answer."""
        client = self._clients.get(event.client)
        task = client.tasks.get(event.ticket) if client is not None else None
        if task is None or task.attempt != event.attempt or event.number not in (task.questions or ()):
            return
        worker = task.worker
        assert worker is not None
        assert task.questions is not None
        del task.questions[event.number]
        if worker.is_connected:
            actions.append(
                PassAnswer(slot=worker.slot, attempt=event.attempt, number=event.number, answer=event.answer)
            )
        if not task.questions:
            task.questions = None
            worker.lent -= 1
            actions.append(self._report(task))
            self._settle(worker, now, actions)

    def _on_ended(self, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        worker = self._life(event.slot, event.incarnation, now, actions)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if worker is None or task is None:
            self._late_results += 1
            if worker is not None:
                actions.append(Acknowledge(event.slot, event.attempt))
            return
        if event.is_infrastructure and not task.is_unwanted and task.host_failures + 1 < self._settings.max_losses:
            self._fail_on_host(task, worker, event, now, actions)
        elif event.is_out_of_memory and task.larger and not task.is_unwanted:
            self._take_back(task, now)
            self._grow(task, worker.slot, now, actions)
            actions.append(Acknowledge(event.slot, event.attempt))
            self._requeue([task], now, actions)
        else:
            self._take_back(task, now)
            self._commit(task, event, now, actions)
        self._settle(worker, now, actions)

    def _commit(self, task: _Task, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        acknowledge = Acknowledge(event.slot, event.attempt)
        if task.is_unwanted:
            self._finish(task, now, actions, LOST, "cancelled", before_delivery=acknowledge)
            return
        self._finish(
            task,
            now,
            actions,
            event.outcome,
            "",
            body=event.body,
            is_out_of_memory=event.is_out_of_memory,
            before_delivery=acknowledge,
        )

    def _finish(
        self,
        task: _Task,
        now: float,
        actions: list[PoolAction],
        outcome: str,
        cause: str,
        *,
        body: bytes = b"",
        is_out_of_memory: bool = False,
        before_delivery: Acknowledge | None = None,
    ) -> None:
        """End a task: into the journal, then to its worker, then to its client. The only way in which one ends."""
        assert task.stage is not Stage.ENDED
        assert task.worker is None
        self._move(task, Stage.ENDED, cause, now)
        end = Deliver(
            client=task.share.client,
            ticket=task.ticket,
            outcome=outcome,
            cause=cause,
            body=body,
            attempts=max(task.number, 1),
            is_out_of_memory=is_out_of_memory,
            resource_class=task.pool.shape.resource_class,
        )
        task.spec = b""
        self._counts["committed"] += 1
        if outcome == LOST and not task.is_unwanted:
            self._counts["lost_tasks"] += 1
        if not task.is_orphan:
            task.end = end
            actions.append(Record(_commitment(end)))
        if before_delivery is not None:
            actions.append(before_delivery)
        if task.client.is_here and not task.is_orphan:
            actions.append(end)

    def _fail_on_host(
        self, task: _Task, worker: _Worker, event: AttemptEnded, now: float, actions: list[PoolAction]
    ) -> None:
        """Give a task that its host failed to another worker. The worker rests, lest it takes the same task again."""
        task.host_failures += 1
        loss = Loss(LossKind.HOST, f"host {worker.host} failed it")
        self._take_back(task, now)
        self._lose_attempt(task, worker, loss, now, actions)
        actions.append(Acknowledge(event.slot, event.attempt))
        worker.rests_until = now + self._settings.host_rest_seconds
        worker.pool.free.discard(worker)
        self._deadlines.enter(worker.rests_until, Watch.REST, (worker.slot, worker.incarnation, 0))
        self._requeue([task], now, actions)
        name = f"{task.share.client}/{task.ticket}"
        self._blame(worker.host, name, task, now, actions)

    def _grow(self, task: _Task, slot: str, now: float, actions: list[PoolAction]) -> None:
        """Have a task that ran out of memory on the worker of a slot go on in its next larger shape."""
        small = task.pool.shape
        entry = _record("grow", client=task.share.client, ticket=task.ticket, attempt=task.attempt, slot=slot)
        actions.append(entry)
        self._enlarge(task, now)
        self._counts["outgrown"] += 1
        text = f"it ran out of memory in {_size(small)} and needs {_size(task.pool.shape)}"
        self._move(task, Stage.QUEUED, text, now)
        actions.append(self._report(task))

    def _judge_given_back(self, slot: str, loss: Loss, now: float, actions: list[PoolAction]) -> None:
        """Learn why a worker was told to go that gave tasks back: of a batch system that kills with a warning."""
        for task in self._given_back.pop(slot, ()):
            if loss.kind is not LossKind.MEMORY or task.stage is Stage.ENDED or task.is_unwanted:
                continue
            if task.stage is Stage.QUEUED and task.larger:
                self._unqueue(task, now)
                self._grow(task, slot, now, actions)
                self._requeue([task], now, actions)
            else:
                task.is_hungry = True

    def _enlarge(self, task: _Task, now: float) -> None:
        task.outgrown = (*task.outgrown, task.pool.shape.resource_class or "")
        shape, *rest = task.larger
        task.pool = self._pools.get(shape) or self._enter_pool(shape, now)
        task.larger = tuple(rest)
        task.wall_seconds = shape.wall_seconds
        task.wall = shape.wall_seconds or 0.0
        task.is_hungry = False

    # Losses.

    def _on_lost(self, event: WorkerLost, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        if worker is not None and event.incarnation in ("", worker.incarnation):
            self._lose(worker, event.loss, now, actions)
        if not event.incarnation:
            self._judge_given_back(event.slot, event.loss, now, actions)

    def _lose(self, worker: _Worker, loss: Loss, now: float, actions: list[PoolAction]) -> None:
        """Give a worker up. What it still sends is refused from here on."""
        del self._workers[worker.slot]
        worker.pool.workers -= 1
        worker.pool.free.discard(worker)
        if loss.kind is not LossKind.LEFT:
            actions.append(Retire(worker.slot, worker.incarnation, loss.text))
        tasks = sorted(worker.attempts.values(), key=lambda task: task.order)
        for task in tasks:
            self._take_back(task, now)
        if loss.kind is LossKind.UNEXPLAINED and worker.host:
            self._blame_for_loss(worker, tasks, now, actions)
        self._requeue([task for task in tasks if self._lose_attempt(task, worker, loss, now, actions)], now, actions)

    def _blame_for_loss(self, worker: _Worker, tasks: list[_Task], now: float, actions: list[PoolAction]) -> None:
        """Count a lost worker against its host, unless it had a task that has lost workers before: that one is suspect.

        Without this a task that kills its workers would have all hosts suspected, one after the other.
        """
        if not tasks:
            self._blame(worker.host, f"worker {worker.slot}", None, now, actions)
        elif not any(task.losses or task.is_refunded for task in tasks):
            for task in tasks:
                self._blame(worker.host, f"worker {worker.slot}", task, now, actions)

    def _lose_attempt(self, task: _Task, worker: _Worker, loss: Loss, now: float, actions: list[PoolAction]) -> bool:
        """Take note of a lost attempt; return whether there shall be another. Without one, the task has ended."""
        self._counts["lost_attempts"] += 1
        if task.is_unwanted or task.is_orphan:
            self._finish(task, now, actions, LOST, "cancelled")
            return False
        if task.is_hungry and loss.kind is LossKind.KILLED:
            loss = Loss(LossKind.MEMORY, f"{loss.text}, as the one before, whose job was ended for memory")
        if loss.kind is LossKind.MEMORY and task.larger:
            self._grow(task, worker.slot, now, actions)
            return True
        if self._is_for_host(task, worker, loss, now):
            task.is_refunded = True
            loss = Loss(LossKind.HOST, f"{loss.text}; its host is suspected")
        actions.append(_lost(task, worker, loss))
        _count_loss(task, worker.host, worker.slot, loss)
        if loss.kind is LossKind.WALLTIME and self._had_whole_life(task, worker):
            task.overruns += 1
        account = self._account(task)
        if account:
            self._finish(task, now, actions, LOST, account)
            return False
        self._move(task, Stage.QUEUED, f"attempt {task.number} was lost: {loss.text}", now)
        actions.append(
            Report(
                client=task.share.client,
                ticket=task.ticket,
                state=Stage.QUEUED.value,
                reason=task.reason,
                host=worker.host,
                attempt=task.number,
            )
        )
        return True

    def _is_for_host(self, task: _Task, worker: _Worker, loss: Loss, now: float) -> bool:
        """Return whether a loss is put down to a bad host: once for each task."""
        is_unexplained = loss.kind is LossKind.UNEXPLAINED
        return is_unexplained and not task.is_refunded and self._hosts.is_suspected(worker.host, now)

    def _had_whole_life(self, task: _Task, worker: _Worker) -> bool:
        """Return whether a longer life is what the task needs, and no other worker has it."""
        life = worker.ends_at - worker.arrived_at
        return task.wall == 0 and life < _FOREVER and task.since - worker.arrived_at <= 0.1 * life

    def _account(self, task: _Task) -> str:
        """Return why a task is given up, with hosts and logs named; empty where it is not."""
        limit = self._settings.max_losses
        if task.overruns >= limit:
            return (
                f"it ran until the end of its worker's job {task.overruns} times, each with all of that job's time: "
                "give workers a longer walltime, or the task a wall time"
            )
        losses = task.losses or []
        if len(losses) < limit:
            return ""
        places = "; ".join(
            f"{host or 'unknown host'}: {text}, log {self._settings.log_of(slot)}" for host, slot, text in losses
        )
        return f"{len(losses)} workers were lost while they ran it, for no known cause ({places})"

    def _blame(self, host: str, name: str, task: _Task | None, now: float, actions: list[PoolAction]) -> None:
        failed = self._hosts.fail(host, name, now, task)
        if failed is None:
            return
        text = f"{len(failed)} tasks failed on it or were lost with its workers"
        actions.append(HostSuspected(host=host, text=text))
        for task_of_host in failed:
            self._refund(task_of_host, host, actions)
        for worker in self._workers.values():
            if worker.host == host and not worker.is_draining:
                self._drain(worker, actions)

    def _refund(self, task: _Task, host: str, actions: list[PoolAction]) -> None:
        """Take what a bad host did to a task from its account, once: a task may be what makes hosts look bad."""
        if task.stage is Stage.ENDED or task.is_refunded:
            return
        task.is_refunded = True
        task.host_failures = 0
        if task.losses:
            task.losses = [loss for loss in task.losses if loss[0] != host]
        actions.append(_record("refund", client=task.share.client, ticket=task.ticket, host=host))

    # Workers.

    def _life(self, slot: str, incarnation: str, now: float, actions: list[PoolAction]) -> _Worker | None:
        """Return the worker if it is the one that we know under that slot; else see to it that it leaves."""
        worker = self._workers.get(slot)
        if worker is not None and worker.incarnation == incarnation and worker.is_connected:
            worker.heard_at = now
            return worker
        if worker is None or worker.incarnation != incarnation:
            actions.append(Retire(slot, incarnation, "it was given up, or another life of its slot has taken over"))
        return None

    def _on_arrived(self, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        former: tuple[str, ...] = ()
        if worker is not None and worker.incarnation != event.incarnation:
            if event.incarnation in worker.former:
                actions.append(Retire(event.slot, event.incarnation, "another life of its slot has taken over"))
                return
            former = (*worker.former, worker.incarnation)
            self._lose(worker, Loss(LossKind.UNEXPLAINED, "another life of its slot has taken over"), now, actions)
            worker = None
        if worker is None:
            worker = self._enter_worker(event, now, former)
        else:
            self._take_in_again(worker, event, now, actions)
        self._welcome(worker, event, now, actions)

    def _enter_worker(self, event: WorkerArrived, now: float, former: tuple[str, ...]) -> _Worker:
        pool = self._pools.get(event.shape) or self._enter_pool(event.shape, now)
        pool.workers += 1
        worker = self._workers[event.slot] = _Worker(
            event.slot,
            event.incarnation,
            event.host,
            event.slots,
            pool,
            _end_of(event, now),
            now,
            now,
            {},
            idle_since=now,
            former=former,
        )
        self._deadlines.enter(now + self._settings.lease_seconds, Watch.LEASE, (event.slot, event.incarnation, 0))
        self._watch(now)
        return worker

    def _take_in_again(self, worker: _Worker, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
        """Make good a broken link: what the worker does not know of never reached it, and goes to another."""
        worker.is_connected = True
        worker.heard_at = now
        worker.lapse = None
        worker.host = event.host
        worker.slots = event.slots
        worker.ends_at = _end_of(event, now)
        told = {*event.running, *event.finished}
        missed = [task for attempt, task in worker.attempts.items() if attempt not in told]
        loss = Loss(LossKind.LEFT, f"it never reached {worker.slot}, whose link broke")
        for task in missed:
            self._take_back(task, now)
        self._requeue([task for task in missed if self._lose_attempt(task, worker, loss, now, actions)], now, actions)

    def _welcome(self, worker: _Worker, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
        keep = tuple(attempt for attempt in event.running if attempt in worker.attempts)
        actions.append(Welcomed(slot=worker.slot, keep=keep))
        for attempt, task in worker.attempts.items():
            if task.is_unwanted:
                actions.append(Stop(worker.slot, attempt))
                self._expect_stop(worker, task, now)
            elif attempt in keep:
                self._move(task, Stage.RUNNING, "", now)
                actions.append(self._report(task))
        if self._hosts.is_suspected(worker.host, now):
            self._drain(worker, actions)
        self._settle(worker, now, actions)
        self._judge_life(worker, now, actions)

    def _judge_life(self, worker: _Worker, now: float, actions: list[PoolAction]) -> None:
        """End tasks that no worker of their shape lives long enough for, seen from several that just began."""
        room = worker.ends_at - now - self._settings.walltime_margin_seconds
        pool = worker.pool
        if worker.arrived_at != now or room == _FOREVER or max(pool.waiting.walls(), default=0.0) <= room:
            return
        pool.misfits += 1
        if pool.misfits < _MISFIT_LIMIT:
            return
        pool.misfits = 0
        text = (
            f"no worker lives long enough: the last {_MISFIT_LIMIT} of this shape each began with less time than "
            f"the task asks for, the last with {room:g} s"
        )
        for task in pool.waiting.drain(room):
            self._note_quiet(pool, now)
            self._finish(task, now, actions, REFUSED, text)

    def _on_disconnected(self, event: WorkerDisconnected, now: float) -> None:
        worker = self._workers.get(event.slot)
        if worker is None or worker.incarnation != event.incarnation or not worker.is_connected:
            return
        worker.is_connected = False
        worker.heard_at = now
        worker.lapse = Loss(LossKind.UNEXPLAINED, "its link broke and it did not come back")
        worker.pool.free.discard(worker)

    def _on_vacating(self, event: WorkerVacating, now: float, actions: list[PoolAction]) -> None:
        worker = self._life(event.slot, event.incarnation, now, actions)
        if worker is None:
            return
        worker.is_leaving = True
        worker.lapse = event.loss
        worker.pool.free.discard(worker)
        dropped = [task for attempt in event.dropped if (task := worker.attempts.get(attempt)) is not None]
        for task in dropped:
            self._take_back(task, now)
        lost = [task for task in dropped if self._lose_attempt(task, worker, event.loss, now, actions)]
        if event.loss.kind is LossKind.KILLED and lost:
            self._given_back.setdefault(event.slot, []).extend(lost)
        self._requeue(lost, now, actions)

    def _on_suspended(self, event: WorkerSuspended, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        if worker is not None and not worker.is_suspended:
            worker.is_suspended = True
            worker.pool.free.discard(worker)
            self._tell_of_all(worker, actions)
            self._watch(now)

    def _on_resumed(self, event: WorkerResumed, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        if worker is not None and worker.is_suspended:
            worker.is_suspended = False
            worker.heard_at = now
            self._tell_of_all(worker, actions)
            self._settle(worker, now, actions)

    def _tell_of_all(self, worker: _Worker, actions: list[PoolAction]) -> None:
        actions.extend(self._report(task) for task in worker.attempts.values() if not task.is_orphan)

    def _on_drain(self, event: DrainWorker, actions: list[PoolAction]) -> None:
        worker = self._workers.get(event.slot)
        if worker is not None and not worker.is_draining:
            self._drain(worker, actions)

    def _drain(self, worker: _Worker, actions: list[PoolAction]) -> None:
        worker.is_draining = True
        worker.pool.free.discard(worker)
        actions.append(AskToDrain(worker.slot))

    # Time.

    def _on_tick(self, now: float, actions: list[PoolAction]) -> None:
        for watch, key in self._deadlines.due(now):
            match watch:
                case Watch.LEASE:
                    self._look_at_lease(key, now, actions)
                case Watch.GRACE:
                    self._look_at_grace(key[0], now, actions)
                case Watch.STOP:
                    self._look_at_stop(key, now, actions)
                case Watch.REST:
                    self._look_at_rest(key, now, actions)
                case Watch.CHECK:
                    self._forget_unused(now)

    def _look_at_lease(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        slot, incarnation, _ = key
        worker = self._workers.get(slot)
        if worker is None or worker.incarnation != incarnation:
            return
        lease = self._settings.lease_seconds
        if worker.is_suspended:
            self._deadlines.enter(now + lease, Watch.LEASE, key)
        elif worker.heard_at + lease > now:
            self._deadlines.enter(worker.heard_at + lease, Watch.LEASE, key)
        else:
            loss = worker.lapse or Loss(LossKind.UNEXPLAINED, f"no sign of life for {lease:g} s")
            self._lose(worker, loss, now, actions)

    def _look_at_grace(self, name: str, now: float, actions: list[PoolAction]) -> None:
        client = self._clients.get(name)
        grace = self._settings.client_grace_seconds
        if client is not None and not client.is_here and client.gone_at + grace <= now:
            self._on_client_closed(ClientClosed(name), now, actions)

    def _look_at_stop(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        slot, incarnation, attempt = key
        worker = self._workers.get(slot)
        if worker is None or worker.incarnation != incarnation or attempt not in worker.attempts:
            return
        if worker.is_suspended:
            self._deadlines.enter(now + self._settings.stop_seconds, Watch.STOP, key)
        elif worker.is_connected:
            self._lose(worker, Loss(LossKind.KILLED, "it did not stop a task that it was told to stop"), now, actions)

    def _look_at_rest(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        worker = self._workers.get(key[0])
        if worker is not None and worker.incarnation == key[1]:
            self._settle(worker, now, actions)

    def _forget_unused(self, now: float) -> None:
        self._hosts.forget_old(now)
        unused = [
            shape for shape, pool in self._pools.items() if not (pool.workers or pool.running or pool.waiting.count)
        ]
        for shape in unused:
            del self._pools[shape]
        self._is_checking = False
        if self._clients or self._workers:
            self._watch(now)

    def _watch(self, now: float) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._deadlines.enter(now + self._settings.check_seconds, Watch.CHECK)

    def next_deadline(self, now: float) -> float | None:
        """Return when a Tick is due at the latest, `now` or later; None where there is nothing to watch."""
        return None if self._deadlines.next is None else max(self._deadlines.next, now)

    # What others see.

    def _move(self, task: _Task, stage: Stage, reason: str, now: float) -> None:
        task.stage = stage
        task.reason = reason
        task.since = now

    def _report(self, task: _Task) -> Report:
        worker = task.worker
        return Report(
            client=task.share.client,
            ticket=task.ticket,
            state=_stage_of(task).value,
            reason=_reason_of(task),
            host=worker.host if worker is not None else "",
            attempt=task.number,
        )

    def demand(self, now: float) -> Mapping[Shape, Demand]:
        """Return what each shape asks for; shapes without tasks and workers are left out."""
        willing: dict[Shape, int] = {}
        for worker in self._workers.values():
            if self._will_serve(worker, now):
                willing[worker.pool.shape] = willing.get(worker.pool.shape, 0) + 1
        return {
            shape: _demand_of(pool, willing.get(shape, 0))
            for shape, pool in self._pools.items()
            if pool.waiting.count or pool.running or pool.workers
        }

    def _will_serve(self, worker: _Worker, now: float) -> bool:
        """Return whether a worker will take one of the tasks that wait: one that has room now would have."""
        return _takes_tasks(worker) and (worker.rests_until > now or not worker.has_room)

    def pending_reason(self, client: str, ticket: int, now: float) -> TaskStanding | None:
        """Return where a task stands; None where there is no such task."""
        owner = self._clients.get(client)
        task = owner.tasks.get(ticket) if owner is not None else None
        if task is None:
            return None
        return TaskStanding(
            state=_stage_of(task),
            reason=_reason_of(task),
            since=task.since,
            deadline=self._deadline_of(task, now),
        )

    def _deadline_of(self, task: _Task, now: float) -> float:
        worker = task.worker
        if worker is not None and not worker.is_suspended:
            return max(worker.heard_at + self._settings.lease_seconds, now)
        if not task.client.is_here:
            return max(task.client.gone_at + self._settings.client_grace_seconds, now)
        following = self._deadlines.next
        return now + self._settings.check_seconds if following is None else max(following, now)

    def workers(self) -> list[WorkerView]:
        """Return the workers, in the order in which they came."""
        return [
            WorkerView(
                slot=worker.slot,
                incarnation=worker.incarnation,
                host=worker.host,
                shape=worker.pool.shape,
                slots=worker.slots,
                busy=len(worker.attempts),
                is_connected=worker.is_connected,
                is_draining=worker.is_draining or worker.is_leaving,
                is_suspended=worker.is_suspended,
                is_waiting=bool(worker.attempts) and worker.lent == len(worker.attempts),
                heard_at=worker.heard_at,
                ends_at=worker.ends_at,
                idle_since=worker.idle_since,
                tasks=tuple(task.name for task in worker.attempts.values()),
            )
            for worker in self._workers.values()
        ]

    def tasks(self) -> list[TaskView]:
        """Return the tasks that are not forgotten, by client, in the order in which they were submitted."""
        return [_view(task) for client in self._clients.values() for task in client.tasks.values()]

    def counters(self) -> Counters:
        """Return what has happened in this epoch."""
        return Counters(**self._counts, late_results=self._late_results)

    def quiet_since(self) -> Mapping[Shape, float]:
        """Return, by shape, since when no task of it waits; absent where one does."""
        return {shape: pool.quiet_since for shape, pool in self._pools.items() if not pool.waiting.count}

    def check(self, now: float) -> list[str]:
        """Return the invariants that do not hold, each with what breaks it: the watchdog's, dear, each 10 s or so."""
        faults = [fault for client in self._clients.values() for fault in self._faults_of_client(client, now)]
        for worker in self._workers.values():
            faults += self._faults_of_worker(worker)
        for pool in self._pools.values():
            faults += self._faults_of_pool(pool, now)
        following = self._deadlines.next
        if (self._clients or self._workers) and following is None:
            faults.append("there are tasks or workers, and no deadline")
        if following is not None and following + _SLACK_SECONDS < now:
            faults.append(f"a deadline is {now - following:.0f} s overdue")
        return faults

    def _faults_of_client(self, client: _Client, now: float) -> list[str]:
        faults = [fault for task in client.tasks.values() for fault in self._faults_of_task(task, now)]
        running = sum(1 for task in client.tasks.values() if task.worker is not None)
        if running != client.share.running:
            faults.append(f"client {client.share.client} runs {running}, counted {client.share.running}")
        return faults

    def _faults_of_task(self, task: _Task, now: float) -> list[str]:
        name = f"task {task.name} of {task.share.client}"
        worker = task.worker
        places = [
            task.pool.waiting.holds(task),
            worker is not None
            and self._workers.get(worker.slot) is worker
            and worker.attempts.get(task.attempt) is task,
            task.end is not None,
        ]
        faults = []
        if sum(places) != 1:
            faults.append(f"{name} is {task.stage.value} and in {sum(places)} places")
        if places[0] != (task.stage is Stage.QUEUED) or places[2] != (task.stage is Stage.ENDED):
            faults.append(f"{name} is {task.stage.value} and not where such tasks are")
        if task.stage is not Stage.ENDED and self._deadline_of(task, now) + _SLACK_SECONDS < now:
            faults.append(f"{name} is {task.stage.value} and nobody looks at it again")
        if len(task.losses or ()) >= self._settings.max_losses and task.stage is not Stage.ENDED:
            faults.append(f"{name} lost too many workers and goes on")
        return faults

    def _faults_of_worker(self, worker: _Worker) -> list[str]:
        faults = []
        if sum(not task.may_crowd for task in worker.attempts.values()) > worker.slots:
            faults.append(f"worker {worker.slot} has more tasks than slots")
        if any(task.worker is not worker for task in worker.attempts.values()):
            faults.append(f"worker {worker.slot} has a task that is not its own")
        if sum(task.questions is not None for task in worker.attempts.values()) != worker.lent:
            faults.append(f"worker {worker.slot} has lent other slots than are counted")
        return faults

    def _faults_of_pool(self, pool: _Pool, now: float) -> list[str]:
        margin = self._settings.walltime_margin_seconds
        shortest = min(pool.waiting.walls(), default=_FOREVER)
        idle = pool.free.first_that_ends_after(now + shortest + margin)
        if pool.waiting.count and idle is not None:
            return [f"{pool.waiting.count} tasks wait while worker {idle.slot} is free"]
        return []

    # The journal.

    def restore(self, entries: Iterable[JournalEntry], now: float) -> None:
        """Take in the journal of earlier epochs, before any event.

        Clients are gone until they come back, attempts are with workers that are out of reach until they come back.
        Entries of other kinds are passed over. What is to be done about it comes with the actions of the next event.
        """
        current: dict[int, tuple[_Task, dict[str, object]]] = {}
        for entry in entries:
            self._replay(entry, current, now)
        for client in self._clients.values():
            self._miss(client, now)
            for task in client.tasks.values():
                self._restore_task(task, current, now)
        self._watch(now)

    def _replay(self, entry: JournalEntry, current: dict[int, tuple[_Task, dict[str, object]]], now: float) -> None:
        fields = entry.fields
        if entry.kind == "client":
            name = str(fields["client"])
            known = self._clients.get(name)
            if known is None:
                share, rundir = Share(name, _number(fields["weight"])), str(fields.get("rundir", ""))
                self._clients[name] = _Client(share, {}, is_here=False, rundir=rundir)
            return
        if entry.kind == "close":
            self._clients.pop(str(fields["client"]), None)
            return
        client = self._clients.get(str(fields.get("client", "")))
        if client is None:
            return
        ticket = int(_number(fields["ticket"]))
        if entry.kind == "submit":
            self._replay_submission(client, ticket, fields, now)
            return
        task = client.tasks.get(ticket)
        if task is None:
            return
        match entry.kind:
            case "dispatch":
                task.attempt = int(_number(fields["attempt"]))
                task.number = int(_number(fields["number"]))
                current[task.attempt] = (task, fields)
            case "lost":
                task.attempt = 0
                kind = LossKind(str(fields["kind"]))
                _count_loss(task, str(fields["host"]), str(fields["slot"]), Loss(kind, str(fields["text"])))
                task.host_failures += kind is LossKind.HOST
            case "grow":
                task.attempt = 0
                self._enlarge(task, now)
            case "refund":
                task.is_refunded = True
                task.host_failures = 0
                task.losses = [loss for loss in task.losses or [] if loss[0] != fields["host"]]
            case "cancel":
                task.is_unwanted = True
            case "commit":
                task.attempt = 0
                task.spec = b""
                task.end = _end_from(client.share.client, ticket, fields)
            case "forget":
                del client.tasks[ticket]
            case _:
                pass

    def _replay_submission(self, client: _Client, ticket: int, fields: dict[str, object], now: float) -> None:
        if ticket in client.tasks:
            return
        wall = fields["wall_seconds"]
        spec = fields["spec"]
        assert isinstance(spec, bytes)
        event = TaskSubmitted(
            client=client.share.client,
            ticket=ticket,
            task=str(fields["task"]),
            shape=msgspec.convert(fields["shape"], Shape),
            spec=spec,
            environment=str(fields["environment"]),
            wall_seconds=None if wall is None else _number(wall),
            larger=msgspec.convert(fields.get("larger", ()), tuple[Shape, ...]),
        )
        task = self._enter_task(client, event, now)
        task.number = int(_number(fields.get("number", 0)))
        task.outgrown = msgspec.convert(fields.get("outgrown", ()), tuple[str, ...])

    def _restore_task(self, task: _Task, current: dict[int, tuple[_Task, dict[str, object]]], now: float) -> None:
        if task.end is not None:
            self._move(task, Stage.ENDED, task.end.cause, now)
        elif task.attempt:
            worker = self._restore_worker(task, current[task.attempt][1], now)
            self._hand_over(task, worker)
            task.may_crowd = True
            stage = Stage.CANCELLING if task.is_unwanted else Stage.RUNNING
            self._move(task, stage, "the daemon was restarted", now)
        elif task.is_unwanted or (account := self._account(task)):
            self._finish(task, now, self._owed, LOST, "cancelled" if task.is_unwanted else account)
        else:
            task.reason = "the daemon was restarted"
            task.pool.waiting.append(task)

    def _restore_worker(self, task: _Task, fields: dict[str, object], now: float) -> _Worker:
        slot, incarnation = str(fields["slot"]), str(fields["incarnation"])
        worker = self._workers.get(slot)
        if worker is None:
            task.pool.workers += 1
            worker = self._workers[slot] = _Worker(
                slot, incarnation, str(fields["host"]), 1, task.pool, _FOREVER, now, now, {}, is_connected=False
            )
            worker.lapse = Loss(LossKind.DAEMON, "the daemon was restarted, and its worker did not come back")
            self._deadlines.enter(now + self._settings.lease_seconds, Watch.LEASE, (slot, incarnation, 0))
        assert worker.incarnation == incarnation, "a slot has one life at a time"
        worker.slots = max(worker.slots, len(worker.attempts) + 1)
        return worker

    def gone_from(self, rundir: str) -> list[str]:
        """Return the clients of a run directory whose links are broken."""
        return [name for name, client in self._clients.items() if client.rundir == rundir and not client.is_here]

    def is_taken(self, rundir: str, client: str) -> bool:
        """Return whether another client, or what is left of one, may still write into a run directory."""
        leased = (task.client for worker in self._workers.values() for task in worker.attempts.values())
        return any(
            other.rundir == rundir and other.share.client != client for other in chain(self._clients.values(), leased)
        )

    def snapshot(self) -> list[JournalEntry]:
        """Return entries that say all that the journal so far says of what is not forgotten."""
        entries = []
        for client in self._clients.values():
            name, weight = client.share.client, client.share.weight
            entries.append(_entry("client", client=name, weight=weight, rundir=client.rundir))
            for task in client.tasks.values():
                entries += _story(task)
        return entries


def _takes_tasks(worker: _Worker) -> bool:
    return worker.is_connected and not (worker.is_draining or worker.is_leaving or worker.is_suspended)


def _demand_of(pool: _Pool, workers: int) -> Demand:
    eldest = pool.waiting.eldest()
    return Demand(
        waiting=pool.waiting.count,
        running=pool.running,
        workers=workers,
        waiting_since=None if eldest is None else eldest.since,
    )


def _end_of(event: WorkerArrived, now: float) -> float:
    return _FOREVER if event.lives_seconds is None else now + event.lives_seconds


def _count_loss(task: _Task, host: str, slot: str, loss: Loss) -> None:
    if loss.kind in (LossKind.UNEXPLAINED, LossKind.MEMORY):
        task.losses = [*(task.losses or ()), (host, slot, loss.text)]


def _stage_of(task: _Task) -> Stage:
    worker = task.worker
    if worker is None or task.stage is Stage.CANCELLING:
        return task.stage
    if worker.is_suspended:
        return Stage.SUSPENDED
    return task.stage if worker.is_connected else Stage.UNREACHABLE


def _reason_of(task: _Task) -> str:
    worker = task.worker
    if worker is None:
        return (
            f"{task.reason}; {_why_queued(task.pool)}"
            if task.reason and task.end is None
            else (
                task.reason
                or (_why_queued(task.pool) if task.end is None else "its client has not yet received the result")
            )
        )
    place = f"worker {worker.slot} on {worker.host}"
    if task.stage is Stage.CANCELLING:
        return task.reason
    if worker.is_suspended:
        return f"the batch system has suspended {place}"
    if not worker.is_connected:
        return f"{place} is out of reach and may come back" + (f" ({task.reason})" if task.reason else "")
    if task.questions is not None:
        return f"waits on {place} for the run to answer it"
    return f"on its way to {place}" if task.stage is Stage.ASSIGNED else f"runs on {place}"


def _size(shape: Shape) -> str:
    memory = "memory without a limit" if shape.memory_bytes is None else format_memory(shape.memory_bytes)
    return f"class {shape.resource_class} ({memory})"


def _why_queued(pool: _Pool) -> str:
    if not pool.workers:
        return "there is no worker of its shape yet"
    return f"none of the {pool.workers} workers of its shape is free and has enough time left"


def _view(task: _Task) -> TaskView:
    worker = task.worker
    return TaskView(
        client=task.share.client,
        ticket=task.ticket,
        task=task.name,
        shape=task.pool.shape,
        state=_stage_of(task),
        since=task.since,
        number=task.number,
        attempt=task.attempt,
        slot=worker.slot if worker is not None else "",
        host=worker.host if worker is not None else "",
    )


def _entry(kind: str, /, **fields: object) -> JournalEntry:
    return JournalEntry(kind=kind, fields=fields)


def _record(kind: str, /, **fields: object) -> Record:
    return Record(JournalEntry(kind=kind, fields=fields))


def _submission(task: _Task) -> JournalEntry:
    growth = {"larger": msgspec.to_builtins(task.larger), "outgrown": list(task.outgrown)}
    return _entry(
        "submit",
        client=task.share.client,
        ticket=task.ticket,
        task=task.name,
        shape=task.pool.encoded,
        spec=task.spec,
        environment=task.environment,
        wall_seconds=task.wall_seconds,
        number=task.number,
        **(growth if task.larger or task.outgrown else {}),
    )


def _dispatch(task: _Task, worker: _Worker) -> Record:
    return _record(
        "dispatch",
        client=task.share.client,
        ticket=task.ticket,
        attempt=task.attempt,
        number=task.number,
        slot=worker.slot,
        incarnation=worker.incarnation,
        host=worker.host,
    )


def _question(task: _Task, number: int) -> PassQuestion:
    assert task.questions is not None
    return PassQuestion(
        client=task.share.client,
        ticket=task.ticket,
        attempt=task.attempt,
        number=number,
        question=task.questions[number],
    )


def _lost(task: _Task, worker: _Worker, loss: Loss) -> Record:
    return _record(
        "lost",
        client=task.share.client,
        ticket=task.ticket,
        attempt=task.attempt,
        kind=loss.kind.value,
        text=loss.text,
        host=worker.host,
        slot=worker.slot,
    )


def _commitment(end: Deliver) -> JournalEntry:
    return _entry(
        "commit",
        client=end.client,
        ticket=end.ticket,
        outcome=end.outcome,
        cause=end.cause,
        body=end.body,
        attempts=end.attempts,
        is_out_of_memory=end.is_out_of_memory,
        resource_class=end.resource_class,
    )


def _end_from(client: str, ticket: int, fields: dict[str, object]) -> Deliver:
    body = fields["body"]
    assert isinstance(body, bytes)
    return Deliver(
        client=client,
        ticket=ticket,
        outcome=str(fields["outcome"]),
        cause=str(fields["cause"]),
        body=body,
        attempts=int(_number(fields["attempts"])),
        is_out_of_memory=bool(fields["is_out_of_memory"]),
        resource_class=None if (name := fields.get("resource_class")) is None else str(name),
    )


def _story(task: _Task) -> list[JournalEntry]:
    """Return the entries that say where a task stands."""
    entries = [_submission(task)]
    if task.is_refunded:
        entries.append(_entry("refund", client=task.share.client, ticket=task.ticket, host=""))
    for host, slot, text in task.losses or ():
        loss = {"kind": LossKind.UNEXPLAINED.value, "text": text, "host": host, "slot": slot, "attempt": 0}
        entries.append(_entry("lost", client=task.share.client, ticket=task.ticket, **loss))
    if task.is_unwanted and task.end is None:
        entries.append(_entry("cancel", client=task.share.client, ticket=task.ticket))
    if task.worker is not None:
        entries.append(_dispatch(task, task.worker).entry)
    if task.end is not None:
        entries.append(_commitment(task.end))
    return entries


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value
