"""How a task ends. There is one way only: into the journal, then to its worker, then to its client."""

from dfm.core.pool import taskjournal
from dfm.core.pool.events import Acknowledge, Deliver, PoolAction, Record
from dfm.core.pool.standing import Stage
from dfm.core.pool.state import State, Task

LOST = "lost"
REFUSED = "refused"
"""Outcome of a task that we could not bring to an end, as in dfm.api.runner.Outcome."""


def finish(
    state: State,
    task: Task,
    now: float,
    actions: list[PoolAction],
    outcome: str,
    cause: str,
    *,
    body: bytes = b"",
    is_out_of_memory: bool = False,
    before_delivery: Acknowledge | None = None,
) -> None:
    """End a task that is in no place; of an orphan nobody hears."""
    assert task.stage is not Stage.ENDED
    assert task.worker is None
    task.move(Stage.ENDED, cause, now)
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
    state.counts["committed"] += 1
    if outcome == LOST and not task.is_unwanted:
        state.counts["lost_tasks"] += 1
    if task.is_orphan:
        actions.append(Record(taskjournal.stopped(task)))
    else:
        task.end = end
        actions.append(Record(taskjournal.committed(end)))
    if before_delivery is not None:
        actions.append(before_delivery)
    if task.client.is_here and not task.is_orphan:
        actions.append(end)
