"""What of the reactor's rules does not hold: the watchdog, which trusts no count and looks everything over.

It takes time in the number of tasks, so that it is asked each ten seconds or so, and after every event in tests.
"""

from math import inf

from dfm.core.pool.standing import Stage
from dfm.core.pool.state import Client, ShapePool, State, Task, Worker
from dfm.core.pool.views import deadline_of

_SLACK_SECONDS = 30.0
"""How late a deadline may be looked at before the watchdog speaks."""


def faults(state: State, now: float) -> list[str]:
    """Return the invariants that do not hold, each with what breaks it."""
    found = [fault for client in state.clients.values() for fault in _faults_of_client(state, client, now)]
    for worker in state.workers.values():
        found += _faults_of_worker(worker)
    for pool in state.pools.values():
        found += _faults_of_pool(pool, now, state.settings.walltime_margin_seconds)
    following = state.deadlines.next
    if (state.clients or state.workers) and following is None:
        found.append("there are tasks or workers, and no deadline")
    if following is not None and following + _SLACK_SECONDS < now:
        found.append(f"a deadline is {now - following:.0f} s overdue")
    return found


def _faults_of_client(state: State, client: Client, now: float) -> list[str]:
    found = [fault for task in client.tasks.values() for fault in _faults_of_task(state, task, now)]
    running = sum(1 for task in client.tasks.values() if task.worker is not None)
    if running != client.share.running:
        found.append(f"client {client.share.client} runs {running}, counted {client.share.running}")
    return found


def _faults_of_task(state: State, task: Task, now: float) -> list[str]:
    name = f"task {task.name} of {task.share.client}"
    worker = task.worker
    places = [
        task.pool.waiting.holds(task),
        worker is not None and state.workers.get(worker.slot) is worker and worker.attempts.get(task.attempt) is task,
        task.end is not None,
    ]
    found = []
    if sum(places) != 1:
        found.append(f"{name} is {task.stage.value} and in {sum(places)} places")
    if places[0] != (task.stage is Stage.QUEUED) or places[2] != (task.stage is Stage.ENDED):
        found.append(f"{name} is {task.stage.value} and not where such tasks are")
    if task.stage is not Stage.ENDED and deadline_of(state, task, now) + _SLACK_SECONDS < now:
        found.append(f"{name} is {task.stage.value} and nobody looks at it again")
    if len(task.losses or ()) >= state.settings.max_losses and task.stage is not Stage.ENDED:
        found.append(f"{name} lost too many workers and goes on")
    return found


def _faults_of_worker(worker: Worker) -> list[str]:
    found = []
    if sum(not task.may_crowd for task in worker.attempts.values()) > worker.slots:
        found.append(f"worker {worker.slot} has more tasks than slots")
    if any(task.worker is not worker for task in worker.attempts.values()):
        found.append(f"worker {worker.slot} has a task that is not its own")
    if sum(task.questions is not None for task in worker.attempts.values()) != worker.lent:
        found.append(f"worker {worker.slot} has lent other slots than are counted")
    return found


def _faults_of_pool(pool: ShapePool, now: float, margin: float) -> list[str]:
    shortest = min(pool.waiting.walls(), default=inf)
    idle = pool.free.first_that_ends_after(now + shortest + margin)
    if pool.waiting.count and idle is not None:
        return [f"{pool.waiting.count} tasks wait while worker {idle.slot} is free"]
    return []
