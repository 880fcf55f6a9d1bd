"""Which task goes to which worker.

Owns the numbers of attempts, and the rule that no task waits while a worker is free that it fits: a task that comes
goes to a worker that is free, and a worker that becomes free takes what waits, in the order of `fairness`.
"""

from dfm.core.pool import taskjournal
from dfm.core.pool.events import AskToDrain, Assign, PoolAction, Record
from dfm.core.pool.standing import Stage
from dfm.core.pool.state import State, Task, Worker
from dfm.core.wire.messages import EPOCH_SHIFT


class Placing:
    """Gives tasks to workers; an attempt has a number that no other epoch of the daemon gives."""

    def __init__(self, state: State, epoch: int) -> None:
        self._state = state
        self._margin = state.settings.walltime_margin_seconds
        self._epoch = epoch
        self._attempts = 0

    def place(self, task: Task, now: float, actions: list[PoolAction]) -> None:
        """Give a task to a worker that is free, or put it behind all others of its client."""
        if not self._give_away(task, now, actions):
            task.pool.waiting.append(task)

    def requeue(self, tasks: list[Task], now: float, actions: list[PoolAction]) -> None:
        """Put tasks that lost their worker before all others of their clients, unless a worker is free."""
        left = [task for task in tasks if not self._give_away(task, now, actions)]
        for task in reversed(left):
            task.pool.waiting.prepend(task)

    def settle(self, worker: Worker, now: float, actions: list[PoolAction]) -> None:
        """Give a worker what it can take, and enter it among the free ones or take it from there."""
        pool = worker.pool
        if not worker.takes_tasks or worker.rests_until > now:
            pool.free.discard(worker)
            return
        room = worker.ends_at - now - self._margin
        while pool.waiting.count and worker.has_room:
            task = self._state.next_for(pool, room, now)
            if task is None:
                break
            self._assign(task, worker, now, actions)
        if worker.has_room:
            pool.free.add(worker, worker.ends_at)
        else:
            pool.free.discard(worker)

    def drain(self, worker: Worker, actions: list[PoolAction]) -> None:
        """Give a worker nothing any more, and ask it to leave after what it has."""
        worker.is_draining = True
        worker.pool.free.discard(worker)
        actions.append(AskToDrain(worker.slot))

    def _give_away(self, task: Task, now: float, actions: list[PoolAction]) -> bool:
        worker = task.pool.free.first_that_ends_after(now + task.wall + self._margin)
        if worker is None:
            return False
        self._assign(task, worker, now, actions)
        if not worker.has_room:
            task.pool.free.discard(worker)
        return True

    def _assign(self, task: Task, worker: Worker, now: float, actions: list[PoolAction]) -> None:
        self._attempts += 1
        attempt = (self._epoch << EPOCH_SHIFT) | self._attempts
        task.attempt = attempt
        task.number += 1
        self._state.hand_over(task, worker)
        task.move(Stage.ASSIGNED, "", now)
        self._state.counts["assigned"] += 1
        actions.append(Record(taskjournal.dispatched(task, worker)))
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
