"""Which workers there are: who comes in, is heard of, is out of reach, suspended, asked to leave, and given up.

Owns the life of each slot. Rules:
1. a slot has one life at a time. What another life of it says is refused, and that one told to leave;
2. a worker is lost in one way only (`lose`), whatever told of it;
3. a worker whose link is broken keeps its tasks until its lease ends, and so does one of an earlier epoch of the
   daemon: it is taken for one whose link broke as the epoch began.
"""

from math import inf

from dfm.core.pool.deadlines import Key, Watch
from dfm.core.pool.events import (
    DrainWorker,
    Loss,
    LossKind,
    PoolAction,
    Retire,
    Stop,
    Welcomed,
    WorkerArrived,
    WorkerDisconnected,
    WorkerLost,
    WorkerResumed,
    WorkerSuspended,
    WorkerVacating,
)
from dfm.core.pool.losses import Losses
from dfm.core.pool.placing import Placing
from dfm.core.pool.results import REFUSED, finish
from dfm.core.pool.standing import Stage
from dfm.core.pool.state import ShapePool, State, Task, Worker
from dfm.core.pool.taskjournal import Lease
from dfm.core.pool.views import report

_MISFIT_LIMIT = 3
"""So many new workers in a row whose whole life is too short for a task: no other will be longer."""


class Membership:
    """Takes in what workers, their links and the batch system say of workers."""

    def __init__(self, state: State, placing: Placing, losses: Losses) -> None:
        self._state = state
        self._settings = state.settings
        self._workers = state.workers
        self._placing = placing
        self._losses = losses

    def hear(self, slot: str, incarnation: str, now: float, actions: list[PoolAction]) -> Worker | None:
        """Return the worker if it is the one that we know under that slot; else see to it that it leaves."""
        worker = self._workers.get(slot)
        if worker is not None and worker.incarnation == incarnation and worker.is_connected:
            worker.heard_at = now
            return worker
        if worker is None or worker.incarnation != incarnation:
            actions.append(Retire(slot, incarnation, "it was given up, or another life of its slot has taken over"))
        return None

    # Arrivals.

    def arrive(self, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
        """Take in a worker, or take it in again."""
        worker = self._workers.get(event.slot)
        former: tuple[str, ...] = ()
        if worker is not None and worker.incarnation != event.incarnation:
            if event.incarnation in worker.former:
                actions.append(Retire(event.slot, event.incarnation, "another life of its slot has taken over"))
                return
            former = (*worker.former, worker.incarnation)
            self.lose(worker, Loss(LossKind.UNEXPLAINED, "another life of its slot has taken over"), now, actions)
            worker = None
        if worker is None:
            worker = self._enter(event, now, former)
        else:
            self._take_in_again(worker, event, now, actions)
        self._welcome(worker, event, now, actions)

    def _enter(self, event: WorkerArrived, now: float, former: tuple[str, ...]) -> Worker:
        worker = Worker(
            event.slot,
            event.incarnation,
            event.host,
            event.slots,
            self._state.pool_of(event.shape, now),
            _end_of(event, now),
            now,
            now,
            {},
            idle_since=now,
            former=former,
        )
        self._state.enter_worker(worker, now)
        self._state.watch(now)
        return worker

    def expect_back(self, lease: Lease, pool: ShapePool, now: float) -> Worker:
        """Return the worker of a lease of an earlier epoch, with a slot for one attempt more than it has."""
        worker = self._workers.get(lease.slot)
        if worker is None:
            worker = Worker(lease.slot, lease.incarnation, lease.host, 1, pool, inf, now, now, {}, is_connected=False)
            worker.lapse = Loss(LossKind.DAEMON, "the daemon was restarted, and its worker did not come back")
            self._state.enter_worker(worker, now)
        assert worker.incarnation == lease.incarnation, "a slot has one life at a time"
        worker.slots = max(worker.slots, len(worker.attempts) + 1)
        return worker

    def _take_in_again(self, worker: Worker, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
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
            self._state.take_back(task, now)
        self._losses.lose(missed, worker, loss, now, actions)

    def _welcome(self, worker: Worker, event: WorkerArrived, now: float, actions: list[PoolAction]) -> None:
        keep = tuple(attempt for attempt in event.running if attempt in worker.attempts)
        actions.append(Welcomed(slot=worker.slot, keep=keep))
        for attempt, task in worker.attempts.items():
            if task.is_unwanted:
                self.tell_to_stop(worker, task, now, actions)
            elif attempt in keep:
                task.move(Stage.RUNNING, "", now)
                actions.append(report(task))
        if self._losses.is_suspected(worker.host, now):
            self._placing.drain(worker, actions)
        self._placing.settle(worker, now, actions)
        self._judge_life(worker, now, actions)

    def _judge_life(self, worker: Worker, now: float, actions: list[PoolAction]) -> None:
        """End tasks that no worker of their shape lives long enough for, seen from several that just began."""
        room = worker.ends_at - now - self._settings.walltime_margin_seconds
        pool = worker.pool
        if worker.arrived_at != now:
            return
        if room == inf or max(pool.waiting.walls(), default=0.0) <= room:
            pool.misfits = 0
            return
        pool.misfits += 1
        if pool.misfits < _MISFIT_LIMIT:
            return
        pool.misfits = 0
        text = (
            f"no worker lives long enough: the last {_MISFIT_LIMIT} of this shape each began with less time than "
            f"the task asks for, the last with {room:g} s"
        )
        for task in self._state.drain_queue(pool, now, room):
            finish(self._state, task, now, actions, REFUSED, text)

    # Partings.

    def disconnect(self, event: WorkerDisconnected, now: float) -> None:
        """Take note of a broken link: what the worker has stays with it until its lease ends."""
        worker = self._workers.get(event.slot)
        if worker is None or worker.incarnation != event.incarnation or not worker.is_connected:
            return
        worker.is_connected = False
        worker.heard_at = now
        worker.lapse = Loss(LossKind.UNEXPLAINED, "its link broke and it did not come back")
        worker.pool.free.discard(worker)

    def vacate(self, event: WorkerVacating, now: float, actions: list[PoolAction]) -> None:
        """Take back what a worker drops that was told to go, and give it nothing any more."""
        worker = self.hear(event.slot, event.incarnation, now, actions)
        if worker is None:
            return
        worker.is_leaving = True
        worker.lapse = event.loss
        worker.pool.free.discard(worker)
        dropped = [task for attempt in event.dropped if (task := worker.attempts.get(attempt)) is not None]
        for task in dropped:
            self._state.take_back(task, now)
        left = self._losses.lose(dropped, worker, event.loss, now, actions)
        if event.loss.kind is LossKind.KILLED:
            self._losses.note_given_back(event.slot, left)

    def drain(self, event: DrainWorker, actions: list[PoolAction]) -> None:
        """Ask a worker to leave, once."""
        worker = self._workers.get(event.slot)
        if worker is not None and not worker.is_draining:
            self._placing.drain(worker, actions)

    def end(self, event: WorkerLost, now: float, actions: list[PoolAction]) -> None:
        """Take in that a worker, or whatever life its slot has, is no more."""
        worker = self._workers.get(event.slot)
        if worker is not None and event.incarnation in ("", worker.incarnation):
            self.lose(worker, event.loss, now, actions)
        if not event.incarnation:
            self._losses.judge_given_back(event.slot, event.loss, now, actions)

    def lose(self, worker: Worker, loss: Loss, now: float, actions: list[PoolAction]) -> None:
        """Give a worker up. What it still sends is refused from here on."""
        self._state.remove_worker(worker)
        if loss.kind is not LossKind.LEFT:
            actions.append(Retire(worker.slot, worker.incarnation, loss.text))
        tasks = sorted(worker.attempts.values(), key=lambda task: task.order)
        for task in tasks:
            self._state.take_back(task, now)
        if loss.kind is LossKind.UNEXPLAINED and worker.host:
            self._losses.blame_for_worker(worker, tasks, now, actions)
        self._losses.lose(tasks, worker, loss, now, actions)

    # Suspension.

    def suspend(self, event: WorkerSuspended, now: float, actions: list[PoolAction]) -> None:
        """Take in that the batch system stopped a worker: its lease stands still."""
        worker = self._workers.get(event.slot)
        if worker is not None and not worker.is_suspended:
            worker.is_suspended = True
            worker.pool.free.discard(worker)
            _tell_of_all(worker, actions)
            self._state.watch(now)

    def resume(self, event: WorkerResumed, now: float, actions: list[PoolAction]) -> None:
        """Take in that a worker goes on, with a whole lease."""
        worker = self._workers.get(event.slot)
        if worker is not None and worker.is_suspended:
            worker.is_suspended = False
            worker.heard_at = now
            _tell_of_all(worker, actions)
            self._placing.settle(worker, now, actions)

    # Deadlines.

    def tell_to_stop(
        self, worker: Worker, task: Task, now: float, actions: list[PoolAction], *, is_urgent: bool = False
    ) -> None:
        """Have a worker stop an attempt: it must say in time that it has."""
        actions.append(Stop(worker.slot, task.attempt, is_urgent))
        key = (worker.slot, worker.incarnation, task.attempt)
        self._state.deadlines.enter(now + self._settings.stop_seconds, Watch.STOP, key)

    def look_at_stop(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        """Give a worker up that has not stopped what it was told to stop."""
        slot, incarnation, attempt = key
        worker = self._workers.get(slot)
        if worker is None or worker.incarnation != incarnation or attempt not in worker.attempts:
            return
        if worker.is_suspended:
            self._state.deadlines.enter(now + self._settings.stop_seconds, Watch.STOP, key)
        elif worker.is_connected:
            self.lose(worker, Loss(LossKind.KILLED, "it did not stop a task that it was told to stop"), now, actions)

    def look_at_lease(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        """Give a worker up that was not heard of for the time of a lease."""
        slot, incarnation, _ = key
        worker = self._workers.get(slot)
        if worker is None or worker.incarnation != incarnation:
            return
        lease = self._settings.lease_seconds
        if worker.is_suspended:
            self._state.deadlines.enter(now + lease, Watch.LEASE, key)
        elif worker.heard_at + lease > now:
            self._state.deadlines.enter(worker.heard_at + lease, Watch.LEASE, key)
        else:
            loss = worker.lapse or Loss(LossKind.UNEXPLAINED, f"no sign of life for {lease:g} s")
            self.lose(worker, loss, now, actions)

    def look_at_rest(self, key: Key, now: float, actions: list[PoolAction]) -> None:
        """Give a worker work again that has rested."""
        worker = self._workers.get(key[0])
        if worker is not None and worker.incarnation == key[1]:
            self._placing.settle(worker, now, actions)


def _tell_of_all(worker: Worker, actions: list[PoolAction]) -> None:
    actions.extend(report(task) for task in worker.attempts.values() if not task.is_orphan)


def _end_of(event: WorkerArrived, now: float) -> float:
    return inf if event.lives_seconds is None else now + event.lives_seconds
