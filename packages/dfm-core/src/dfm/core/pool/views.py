"""What others are told of tasks and workers: where each stands and why, what is asked for, what changed.

Owns the words of `dfm why`. Nothing is changed here.
"""

from collections.abc import Mapping

from dfm.core.pool.events import Report
from dfm.core.pool.standing import Demand, Stage, TaskStanding, TaskView, WorkerView
from dfm.core.pool.state import ShapePool, State, Task, Worker
from dfm.core.wire.messages import Shape


def report(task: Task) -> Report:
    """Return what its client is told of a task."""
    worker = task.worker
    return Report(
        client=task.share.client,
        ticket=task.ticket,
        state=_stage_of(task).value,
        reason=_reason_of(task),
        host=worker.host if worker is not None else "",
        attempt=task.number,
    )


def standing_of(state: State, task: Task, now: float) -> TaskStanding:
    """Return where a task stands."""
    return TaskStanding(
        state=_stage_of(task), reason=_reason_of(task), since=task.since, deadline=deadline_of(state, task, now)
    )


def _stage_of(task: Task) -> Stage:
    worker = task.worker
    if worker is None or task.stage is Stage.CANCELLING:
        return task.stage
    if worker.is_suspended:
        return Stage.SUSPENDED
    return task.stage if worker.is_connected else Stage.UNREACHABLE


def _reason_of(task: Task) -> str:
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


def _why_queued(pool: ShapePool) -> str:
    if not pool.workers:
        return "there is no worker of its shape yet"
    return f"none of the {pool.workers} workers of its shape is free and has enough time left"


def deadline_of(state: State, task: Task, now: float) -> float:
    """Return when a task is looked at again at the latest, `now` or later."""
    worker = task.worker
    settings = state.settings
    if worker is not None and not worker.is_suspended:
        return max(worker.heard_at + settings.lease_seconds, now)
    if not task.client.is_here:
        return max(task.client.gone_at + settings.client_grace_seconds, now)
    following = state.deadlines.next
    return now + settings.check_seconds if following is None else max(following, now)


def demand(state: State, now: float) -> dict[Shape, Demand]:
    """Return what each shape asks for; shapes without tasks and workers are left out."""
    willing: dict[Shape, int] = {}
    until = {shape: now + _least(pool) for shape, pool in state.pools.items() if pool.waiting.count}
    for worker in state.workers.values():
        shape = worker.pool.shape
        if _will_serve(worker, now) and worker.ends_at > until.get(shape, now) + state.settings.walltime_margin_seconds:
            willing[shape] = willing.get(shape, 0) + 1
    return {
        shape: _demand_of(pool, willing.get(shape, 0))
        for shape, pool in state.pools.items()
        if pool.waiting.count or pool.running or pool.workers
    }


def _least(pool: ShapePool) -> float:
    """Return the shortest wall time of what waits."""
    return min(pool.waiting.walls(), default=0.0)


def _will_serve(worker: Worker, now: float) -> bool:
    """Return whether a worker will take one of the tasks that wait, if it lives: one that has room now would have."""
    return worker.takes_tasks and (worker.rests_until > now or not worker.has_room)


def _demand_of(pool: ShapePool, workers: int) -> Demand:
    eldest = pool.waiting.eldest()
    return Demand(
        waiting=pool.waiting.count,
        running=pool.running,
        workers=workers,
        waiting_since=None if eldest is None else eldest.since,
    )


def quiet_since(state: State) -> Mapping[Shape, float]:
    """Return, by shape, since when no task of it waits; absent where one does."""
    return {shape: pool.quiet_since for shape, pool in state.pools.items() if not pool.waiting.count}


def view_of_task(task: Task) -> TaskView:
    """Return a task as lists show it."""
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


def view_of_worker(worker: Worker) -> WorkerView:
    """Return a worker as lists show it."""
    return WorkerView(
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
