"""What becomes of a task whose attempt brought no result: another attempt, one in a larger shape, or its end as lost.

Owns the account of each task and the suspicion of hosts. Rules:
1. a loss without a known cause counts, and after `max_losses` of them the task ends, with hosts and logs named. A loss
   with a known cause does not count, but for a task that whole lives of workers are too short for;
2. a task that ran out of memory and may grow goes on in its next larger shape, once for each, and loses nothing by it;
3. what a suspected host did is taken from the account of its tasks, once for each: a task may be what makes hosts look
   bad.
"""

from math import inf

from dfm.api.units import format_memory
from dfm.core.pool import taskjournal
from dfm.core.pool.deadlines import Watch
from dfm.core.pool.events import (
    Acknowledge,
    AttemptEnded,
    HostSuspected,
    Loss,
    LossKind,
    PoolAction,
    Record,
    Report,
)
from dfm.core.pool.hosts import Hosts
from dfm.core.pool.placing import Placing
from dfm.core.pool.results import LOST, finish
from dfm.core.pool.standing import Stage
from dfm.core.pool.state import State, Task, Worker
from dfm.core.pool.views import report
from dfm.core.wire.messages import Shape


class Losses:
    """Judges attempts that were taken back from their workers, and the hosts of those."""

    def __init__(self, state: State, placing: Placing) -> None:
        settings = state.settings
        self._state = state
        self._settings = settings
        self._placing = placing
        self._hosts: Hosts[Task] = Hosts(
            settings.host_failures, settings.host_window_seconds, settings.host_suspicion_seconds
        )
        self._given_back: dict[str, list[Task]] = {}

    # Attempts.

    def lose(self, tasks: list[Task], worker: Worker, loss: Loss, now: float, actions: list[PoolAction]) -> list[Task]:
        """Judge tasks whose attempts are lost; return those that go on: they wait, or are with another worker."""
        left = [task for task in tasks if self._lose_attempt(task, worker, loss, now, actions)]
        self._placing.requeue(left, now, actions)
        return left

    def _lose_attempt(self, task: Task, worker: Worker, loss: Loss, now: float, actions: list[PoolAction]) -> bool:
        """Take note of a lost attempt; return whether there shall be another. Without one, the task has ended."""
        self._state.counts["lost_attempts"] += 1
        if task.is_unwanted or task.is_orphan:
            finish(self._state, task, now, actions, LOST, "cancelled")
            return False
        if task.is_hungry and loss.kind is LossKind.KILLED:
            loss = Loss(LossKind.MEMORY, f"{loss.text}, as the one before, whose job was ended for memory")
        if loss.kind is LossKind.MEMORY and task.larger:
            self._grow(task, worker.slot, now, actions)
            return True
        if self._is_for_host(task, worker, loss, now):
            task.is_refunded = True
            loss = Loss(LossKind.HOST, f"{loss.text}; its host is suspected")
        is_overrun = loss.kind is LossKind.WALLTIME and _had_whole_life(task, worker)
        actions.append(Record(taskjournal.lost(task, worker, loss, is_overrun=is_overrun)))
        task.count_loss(worker.host, worker.slot, loss)
        task.overruns += is_overrun
        account = self.account(task)
        if account:
            finish(self._state, task, now, actions, LOST, account)
            return False
        task.move(Stage.QUEUED, f"attempt {task.number} was lost: {loss.text}", now)
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

    def _is_for_host(self, task: Task, worker: Worker, loss: Loss, now: float) -> bool:
        """Return whether a loss is put down to a bad host: once for each task."""
        is_unexplained = loss.kind is LossKind.UNEXPLAINED
        return is_unexplained and not task.is_refunded and self.is_suspected(worker.host, now)

    def account(self, task: Task) -> str:
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
            f"{host or 'unknown host'}: {text}, log {self._settings.log_of(slot)}" for host, slot, text, _ in losses
        )
        of_memory = sum(kind is LossKind.MEMORY for *_, kind in losses)
        if of_memory == len(losses):
            return f"the jobs of {of_memory} workers were ended for memory while they ran it: give it more ({places})"
        others = f", {of_memory} of them for memory, the others" if of_memory else ","
        return f"{len(losses)} workers were lost while they ran it{others} for no known cause ({places})"

    # Memory.

    def outgrow(self, task: Task, worker: Worker, event: AttemptEnded, now: float, actions: list[PoolAction]) -> None:
        """Have a task that ran out of memory go on in its next larger shape."""
        self._state.take_back(task, now)
        self._grow(task, worker.slot, now, actions)
        actions.append(Acknowledge(event.slot, event.attempt))
        self._placing.requeue([task], now, actions)

    def _grow(self, task: Task, slot: str, now: float, actions: list[PoolAction]) -> None:
        small = task.pool.shape
        actions.append(Record(taskjournal.outgrown(task, slot)))
        self._state.enlarge(task, now)
        self._state.counts["outgrown"] += 1
        text = f"it ran out of memory in {_size(small)} and needs {_size(task.pool.shape)}"
        task.move(Stage.QUEUED, text, now)
        actions.append(report(task))

    def note_given_back(self, slot: str, tasks: list[Task]) -> None:
        """Remember what a worker gave back that was told to go, until it is known why it was."""
        if tasks:
            self._given_back.setdefault(slot, []).extend(tasks)

    def judge_given_back(self, slot: str, loss: Loss, now: float, actions: list[PoolAction]) -> None:
        """Learn why a worker was told to go that gave tasks back: of a batch system that kills with a warning."""
        for task in self._given_back.pop(slot, ()):
            if loss.kind is not LossKind.MEMORY or task.stage is Stage.ENDED or task.is_unwanted:
                continue
            if task.stage is Stage.QUEUED and task.larger:
                self._state.unqueue(task, now)
                self._grow(task, slot, now, actions)
                self._placing.requeue([task], now, actions)
            else:
                task.is_hungry = True

    # Hosts.

    def is_suspected(self, host: str, now: float) -> bool:
        """Return whether nothing shall be sent to a host."""
        return self._hosts.is_suspected(host, now)

    def fail_on_host(
        self, task: Task, worker: Worker, event: AttemptEnded, now: float, actions: list[PoolAction]
    ) -> None:
        """Give a task that its host failed to another worker. The worker rests, lest it takes the same task again."""
        task.host_failures += 1
        loss = Loss(LossKind.HOST, f"host {worker.host} failed it")
        self._state.take_back(task, now)
        goes_on = self._lose_attempt(task, worker, loss, now, actions)
        actions.append(Acknowledge(event.slot, event.attempt))
        worker.rests_until = now + self._settings.host_rest_seconds
        worker.pool.free.discard(worker)
        self._state.deadlines.enter(worker.rests_until, Watch.REST, (worker.slot, worker.incarnation, 0))
        self._placing.requeue([task] if goes_on else [], now, actions)
        name = f"{task.share.client}/{task.ticket}"
        self._blame(worker.host, name, task, now, actions)

    def blame_for_worker(self, worker: Worker, tasks: list[Task], now: float, actions: list[PoolAction]) -> None:
        """Count a lost worker against its host, unless it had a task that has lost workers before: that one is suspect.

        Without this a task that kills its workers would have all hosts suspected, one after the other.
        """
        if not tasks:
            self._blame(worker.host, f"worker {worker.slot}", None, now, actions)
        elif not any(task.losses or task.is_refunded for task in tasks):
            for task in tasks:
                self._blame(worker.host, f"worker {worker.slot}", task, now, actions)

    def _blame(self, host: str, name: str, task: Task | None, now: float, actions: list[PoolAction]) -> None:
        failed = self._hosts.fail(host, name, now, task)
        if failed is None:
            return
        text = f"{len(failed)} tasks failed on it or were lost with its workers"
        actions.append(HostSuspected(host=host, text=text))
        for task_of_host in failed:
            _refund(task_of_host, host, actions)
        for worker in self._state.workers.values():
            if worker.host == host and not worker.is_draining:
                self._placing.drain(worker, actions)

    def forget_old(self, now: float) -> None:
        """Forget hosts of which nothing has been heard for long."""
        self._hosts.forget_old(now)


def _had_whole_life(task: Task, worker: Worker) -> bool:
    """Return whether a longer life is what the task needs, and no other worker has it."""
    life = worker.ends_at - worker.arrived_at
    return task.wall == 0 and life < inf and task.since - worker.arrived_at <= 0.1 * life


def _refund(task: Task, host: str, actions: list[PoolAction]) -> None:
    if task.stage is not Stage.ENDED and not task.is_refunded:
        task.refund(host)
        actions.append(Record(taskjournal.refunded(task, host)))


def _size(shape: Shape) -> str:
    memory = "memory without a limit" if shape.memory_bytes is None else format_memory(shape.memory_bytes)
    return f"class {shape.resource_class} ({memory})"
