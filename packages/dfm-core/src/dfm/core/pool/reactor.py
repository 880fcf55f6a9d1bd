"""The pool's decisions about tasks, attempts and workers, free of I/O and clocks: what is to be done at each event.

Rules that hold after every event:
1. an accepted task is in exactly one place: waiting, with one worker, or ended and waiting for its client;
2. an attempt belongs to the one life of the one slot that it was sent to. A result counts only from there, and only
   while the attempt is the task's current one; every other result is acknowledged, counted and dropped;
3. a worker is lost in one way only (`Membership.lose`), whatever told of it; its tasks go back to the front of the
   queue, at most `max_losses` times without a known cause, and then end as lost. They never just disappear. A task that
   ran out of memory and may grow goes on in its next larger shape, once for each, and that is not counted as a loss;
4. after a restart an attempt is not sent to another worker before its lease has passed: its worker is taken for one
   whose link is broken, with all that follows from that;
5. no task waits while a worker is free that it fits;
6. an attempt whose body waits for an answer of the run is leased and takes no slot. With the answer it takes one again,
   even where the worker has none left: the worker holds the answer back until one of its slots is free.

What comes of what clients and attempts say is decided here. `membership` decides which workers there are, `placing`
which of them a task goes to, `losses` what becomes of an attempt without a result. All of them know `state`;
`taskjournal` is what of it survives, `views` what is told of it, `watchdog` whether the rules hold.
"""

from collections.abc import Iterable, Mapping
from itertools import chain

from dfm.core.pool import taskjournal, views, watchdog
from dfm.core.pool.deadlines import Watch
from dfm.core.pool.events import (
    Acknowledge,
    AttemptAsked,
    AttemptEnded,
    AttemptStarted,
    ClientClosed,
    ClientGone,
    ClientOpened,
    Confirm,
    DrainWorker,
    JournalEntry,
    PassAnswer,
    PassQuestion,
    PoolAction,
    PoolEvent,
    QuestionAnswered,
    Record,
    ResultReceived,
    ShapeRefused,
    TaskCancelled,
    TaskSubmitted,
    Tick,
    WorkerArrived,
    WorkerDisconnected,
    WorkerHeard,
    WorkerLost,
    WorkerResumed,
    WorkerSuspended,
    WorkerVacating,
)
from dfm.core.pool.limits import ReactorSettings
from dfm.core.pool.losses import Losses
from dfm.core.pool.membership import Membership
from dfm.core.pool.placing import Placing
from dfm.core.pool.results import LOST, REFUSED, finish
from dfm.core.pool.standing import Counters, Demand, Stage, TaskStanding, TaskView, WorkerView
from dfm.core.pool.state import Client, State, Task
from dfm.core.wire.messages import Shape

__all__ = ["Reactor", "ReactorSettings"]


class Reactor:
    """Tasks, attempts and workers of one pool, in one epoch of its daemon."""

    def __init__(self, settings: ReactorSettings, epoch: int) -> None:
        self._settings = settings
        self._state = State(settings)
        self._placing = Placing(self._state, epoch)
        self._losses = Losses(self._state, self._placing)
        self._membership = Membership(self._state, self._placing, self._losses)
        self._owed: list[PoolAction] = []

    # What happens, most frequent first.

    def handle(self, event: PoolEvent, now: float) -> list[PoolAction]:
        """Take in one event; return what must be done, in order.

        What follows a Record in the list may be done only once the record is in the journal.
        """
        actions, self._owed = self._owed, []
        match event:
            case WorkerHeard():
                self._membership.hear(event.slot, event.incarnation, now, actions)
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
                self._membership.arrive(event, now, actions)
            case WorkerDisconnected():
                self._membership.disconnect(event, now)
            case WorkerLost():
                self._membership.end(event, now, actions)
            case WorkerVacating():
                self._membership.vacate(event, now, actions)
            case WorkerSuspended():
                self._membership.suspend(event, now, actions)
            case WorkerResumed():
                self._membership.resume(event, now, actions)
            case DrainWorker():
                self._membership.drain(event, actions)
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
        client = self._state.clients.get(event.client)
        if client is None:
            client = self._open(event.client, event.weight, event.rundir, actions)
        client.is_here = True
        client.share.weight = event.weight
        self._state.watch(now)
        actions.extend(task.end for task in client.tasks.values() if task.end is not None)
        for task in client.tasks.values():
            actions.extend(_question(task, number) for number in task.questions or ())

    def _open(self, name: str, weight: float, rundir: str, actions: list[PoolAction]) -> Client:
        client = self._state.enter_client(name, weight, rundir, is_here=True)
        actions.append(Record(taskjournal.opened(client)))
        return client

    def _on_client_gone(self, event: ClientGone, now: float) -> None:
        client = self._state.clients.get(event.client)
        if client is not None and client.is_here:
            self._miss(client, now)

    def _miss(self, client: Client, now: float) -> None:
        client.is_here = False
        client.gone_at = now
        key = (client.share.client, "", 0)
        self._state.deadlines.enter(now + self._settings.client_grace_seconds, Watch.GRACE, key)

    def _on_client_closed(self, event: ClientClosed, now: float, actions: list[PoolAction]) -> None:
        client = self._state.clients.pop(event.client, None)
        if client is None:
            return
        actions.append(Record(taskjournal.closed(event.client)))
        for task in client.tasks.values():
            task.is_orphan = True
            if task.stage is Stage.QUEUED:
                self._state.unqueue(task, now)
                task.stage = Stage.ENDED
            elif task.stage is not Stage.ENDED:
                self._stop(task, now, actions, is_urgent=False)
        client.tasks.clear()

    # Tasks.

    def _on_submitted(self, event: TaskSubmitted, now: float, actions: list[PoolAction]) -> None:
        client = self._state.clients.get(event.client) or self._open(event.client, 1.0, "", actions)
        known = client.tasks.get(event.ticket)
        if known is not None:
            self._confirm_again(known, actions)
            return
        task = self._state.enter_task(client, event, now)
        self._state.counts["submitted"] += 1
        actions.append(Record(taskjournal.submitted(task)))
        actions.append(Confirm(client=event.client, ticket=event.ticket))
        refusal = self._refusal(task)
        if refusal:
            finish(self._state, task, now, actions, REFUSED, refusal)
        else:
            self._state.watch(now)
            self._placing.place(task, now, actions)

    def _confirm_again(self, task: Task, actions: list[PoolAction]) -> None:
        actions.append(Confirm(client=task.share.client, ticket=task.ticket))
        if task.end is not None:
            actions.append(task.end)
        elif task.worker is not None:
            actions.append(views.report(task))

    def _refusal(self, task: Task) -> str:
        limit = self._settings.job_wall_seconds
        margin = self._settings.walltime_margin_seconds
        if limit is None or task.pool.shape.wall_seconds is not None or task.wall + margin <= limit:
            return ""
        return (
            f"no worker lives long enough: the task asks for {task.wall:g} s, jobs of workers end after {limit:g} s "
            f"(runner.pool.walltime), of which {margin:g} s are kept free (runner.pool.walltime_margin)"
        )

    def _on_cancelled(self, event: TaskCancelled, now: float, actions: list[PoolAction]) -> None:
        task = self._state.task_of(event.client, event.ticket)
        if task is None or task.stage is Stage.ENDED:
            return
        if not task.is_unwanted:
            actions.append(Record(taskjournal.cancelled(task)))
        if task.stage is Stage.QUEUED:
            self._state.unqueue(task, now)
            finish(self._state, task, now, actions, LOST, "cancelled")
        else:
            self._stop(task, now, actions, is_urgent=event.is_urgent)

    def _stop(self, task: Task, now: float, actions: list[PoolAction], *, is_urgent: bool) -> None:
        """Have an attempt stopped. Its place stays taken until its worker says that it is free."""
        worker = task.worker
        assert worker is not None
        if not task.is_unwanted:
            task.is_unwanted = True
            task.move(Stage.CANCELLING, "cancelled; its worker has been told to stop it", now)
        if worker.is_connected:
            self._membership.tell_to_stop(worker, task, now, actions, is_urgent=is_urgent)

    def _on_received(self, event: ResultReceived, actions: list[PoolAction]) -> None:
        task = self._state.task_of(event.client, event.ticket)
        if task is not None and task.stage is Stage.ENDED:
            del task.client.tasks[event.ticket]
            actions.append(Record(taskjournal.forgotten(event.client, event.ticket)))

    def _on_refused(self, event: ShapeRefused, now: float, actions: list[PoolAction]) -> None:
        pool = self._state.pools.get(event.shape)
        for task in self._state.drain_queue(pool, now) if pool is not None else []:
            outgrown = f" (it ran out of memory in class {task.outgrown[-1]})" if task.outgrown else ""
            finish(self._state, task, now, actions, REFUSED, f"{event.text}{outgrown}")

    # Attempts.

    def _on_started(self, event: AttemptStarted, now: float, actions: list[PoolAction]) -> None:
        worker = self._membership.hear(event.slot, event.incarnation, now, actions)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if task is not None and task.stage is Stage.ASSIGNED:
            task.move(Stage.RUNNING, "", now)
            actions.append(views.report(task))

    def _on_asked(self, event: AttemptAsked, now: float, actions: list[PoolAction]) -> None:
        worker = self._membership.hear(event.slot, event.incarnation, now, actions)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if worker is None or task is None or task.is_unwanted:
            return
        if task.questions is None:
            task.questions = {}
            task.may_crowd = True
            worker.lent += 1
            actions.append(views.report(task))
        task.questions[event.number] = event.question
        if task.client.is_here:
            actions.append(_question(task, event.number))
        self._placing.settle(worker, now, actions)

    def _on_answered(self, event: QuestionAnswered, now: float, actions: list[PoolAction]) -> None:
        """Pass an answer on. If the worker cannot be reached now it asks again, and so does the client answer."""
        task = self._state.task_of(event.client, event.ticket)
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
            actions.append(views.report(task))
            self._placing.settle(worker, now, actions)

    def _on_ended(self, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        worker = self._membership.hear(event.slot, event.incarnation, now, actions)
        task = worker.attempts.get(event.attempt) if worker is not None else None
        if worker is None or task is None:
            self._state.counts["late_results"] += 1
            if worker is not None:
                actions.append(Acknowledge(event.slot, event.attempt))
            return
        if event.is_infrastructure and not task.is_unwanted and task.host_failures + 1 < self._settings.max_losses:
            self._losses.fail_on_host(task, worker, event, now, actions)
        elif event.is_out_of_memory and task.larger and not task.is_unwanted:
            self._losses.outgrow(task, worker, event, now, actions)
        else:
            self._state.take_back(task, now)
            self._commit(task, event, now, actions)
        self._placing.settle(worker, now, actions)

    def _commit(self, task: Task, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        acknowledge = Acknowledge(event.slot, event.attempt)
        if task.is_unwanted:
            finish(self._state, task, now, actions, LOST, "cancelled", before_delivery=acknowledge)
            return
        finish(
            self._state,
            task,
            now,
            actions,
            event.outcome,
            "",
            body=event.body,
            is_out_of_memory=event.is_out_of_memory,
            before_delivery=acknowledge,
        )

    # Time.

    def _on_tick(self, now: float, actions: list[PoolAction]) -> None:
        for watch, key in self._state.deadlines.due(now):
            match watch:
                case Watch.LEASE:
                    self._membership.look_at_lease(key, now, actions)
                case Watch.GRACE:
                    self._look_at_grace(key[0], now, actions)
                case Watch.STOP:
                    self._membership.look_at_stop(key, now, actions)
                case Watch.REST:
                    self._membership.look_at_rest(key, now, actions)
                case Watch.CHECK:
                    self._losses.forget_old(now)
                    self._state.forget_unused(now)

    def _look_at_grace(self, name: str, now: float, actions: list[PoolAction]) -> None:
        client = self._state.clients.get(name)
        grace = self._settings.client_grace_seconds
        if client is not None and not client.is_here and client.gone_at + grace <= now:
            self._on_client_closed(ClientClosed(name), now, actions)

    def next_deadline(self, now: float) -> float | None:
        """Return when a Tick is due at the latest, `now` or later; None where there is nothing to watch."""
        following = self._state.deadlines.next
        return None if following is None else max(following, now)

    # The journal.

    def restore(self, entries: Iterable[JournalEntry], now: float) -> None:
        """Take in the journal of earlier epochs, before any event.

        Clients are gone until they come back, attempts are with workers that are out of reach until they come back.
        Entries of other kinds are passed over. What is to be done about it comes with the actions of the next event.
        """
        found = taskjournal.replay(self._state, entries, now)
        for client in self._state.clients.values():
            self._miss(client, now)
            for task in client.tasks.values():
                self._restore_task(task, found.leases, now)
        for task in found.orphans.values():
            self._restore_task(task, found.leases, now)
        self._state.watch(now)

    def _restore_task(self, task: Task, leases: Mapping[int, taskjournal.Lease], now: float) -> None:
        if task.end is not None:
            task.move(Stage.ENDED, task.end.cause, now)
        elif task.attempt:
            worker = self._membership.expect_back(leases[task.attempt], task.pool, now)
            self._state.hand_over(task, worker)
            task.may_crowd = True
            stage = Stage.CANCELLING if task.is_unwanted else Stage.RUNNING
            task.move(stage, "the daemon was restarted", now)
        elif task.is_unwanted or (account := self._losses.account(task)):
            finish(self._state, task, now, self._owed, LOST, "cancelled" if task.is_unwanted else account)
        else:
            task.reason = "the daemon was restarted"
            task.pool.waiting.append(task)

    def snapshot(self) -> list[JournalEntry]:
        """Return entries that say all that the journal so far says of what is not forgotten."""
        return taskjournal.snapshot(self._state)

    # What others see.

    def demand(self, now: float) -> Mapping[Shape, Demand]:
        """Return what each shape asks for; shapes without tasks and workers are left out."""
        return views.demand(self._state, now)

    def pending_reason(self, client: str, ticket: int, now: float) -> TaskStanding | None:
        """Return where a task stands; None where there is no such task."""
        task = self._state.task_of(client, ticket)
        return None if task is None else views.standing_of(self._state, task, now)

    def workers(self) -> list[WorkerView]:
        """Return the workers, in the order in which they came."""
        return [views.view_of_worker(worker) for worker in self._state.workers.values()]

    def tasks(self) -> list[TaskView]:
        """Return the tasks that are not forgotten, by client, in the order in which they were submitted."""
        return [views.view_of_task(task) for client in self._state.clients.values() for task in client.tasks.values()]

    def counters(self) -> Counters:
        """Return what has happened in this epoch."""
        return Counters(**self._state.counts)

    def quiet_since(self) -> Mapping[Shape, float]:
        """Return, by shape, since when no task of it waits; absent where one does."""
        return views.quiet_since(self._state)

    def gone_from(self, rundir: str) -> list[str]:
        """Return the clients of a run directory whose links are broken."""
        clients = self._state.clients.items()
        return [name for name, client in clients if client.rundir == rundir and not client.is_here]

    def slots_at_work(self, rundir: str | None = None) -> set[str]:
        """Return the slots of workers that have tasks, of runs in a directory where one is given."""
        return {worker.slot for worker, task in self._state.leased() if rundir in (None, task.client.rundir)}

    def is_taken(self, rundir: str, client: str) -> bool:
        """Return whether another client, or what is left of one, may still write into a run directory."""
        leased = (task.client for _, task in self._state.leased())
        return any(
            other.rundir == rundir and other.share.client != client
            for other in chain(self._state.clients.values(), leased)
        )

    def check(self, now: float) -> list[str]:
        """Return the invariants that do not hold, each with what breaks it: the watchdog's, dear, each 10 s or so."""
        return watchdog.faults(self._state, now)


def _question(task: Task, number: int) -> PassQuestion:
    assert task.questions is not None
    return PassQuestion(
        client=task.share.client,
        ticket=task.ticket,
        attempt=task.attempt,
        number=number,
        question=task.questions[number],
    )
