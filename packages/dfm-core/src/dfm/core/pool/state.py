"""What the reactor knows: clients and their tasks, workers, and of each shape what waits and who is free.

Owns every change of a task's place, so that what is counted beside the tables (running tasks of a client and of a
shape, workers of a shape, lent slots, since when nothing waits) agrees with them. Nothing is decided here, nothing is
said to anybody, and no action comes of it.
"""

from collections.abc import Iterator
from math import inf

import msgspec

from dfm.core.pool.deadlines import Deadlines, Watch
from dfm.core.pool.events import Deliver, Loss, LossKind, TaskSubmitted
from dfm.core.pool.fairness import Free, Share, Waiting
from dfm.core.pool.limits import ReactorSettings
from dfm.core.pool.standing import Stage
from dfm.core.wire.messages import Shape


class Client(msgspec.Struct, eq=False):
    """One `dfm run`, whether its link holds or not. `gone_at` counts while it is not here."""

    share: Share
    tasks: "dict[int, Task]"
    is_here: bool
    rundir: str
    gone_at: float = 0.0


class ShapePool(msgspec.Struct, eq=False):
    """All of one shape.

    Attributes:
        encoded: the shape as journal entries hold it.
        quiet_since: since when none of its tasks waits; of no meaning while one does.
        misfits: how many new workers in a row were too short-lived for what waits.
    """

    shape: Shape
    encoded: object
    waiting: "Waiting[Task]"
    free: "Free[Worker]"
    running: int = 0
    workers: int = 0
    quiet_since: float = 0.0
    misfits: int = 0


class Task(msgspec.Struct, eq=False):
    """One task of a client, until its result was received.

    Attributes:
        wall: how much of a worker's life it asks for, in seconds; 0 where it declares nothing.
        attempt: the current one, 0 where there is none that counts.
        number: how many attempts there were.
        losses: those that count, each as host, slot, text and kind.
        overruns: how many whole lives of workers were too short for it.
        is_unwanted: cancelled by its client.
        is_orphan: its client is closed, so that nobody is told how it ends.
        is_refunded: a bad host was once made answerable for what it lost.
        larger: the shapes in which it may go on, should it run out of memory.
        outgrown: the classes in which it ran out of memory.
        is_hungry: a worker gave it back whose job was ended for memory, as was known only once it had begun again.
        questions: those of the current attempt that are not answered; None where it works.
        may_crowd: whether the current attempt has waited for an answer, so that its worker may have more attempts
            than slots.
        end: its result, not yet received.
    """

    client: Client
    share: Share
    ticket: int
    name: str
    pool: ShapePool
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
    worker: "Worker | None" = None
    losses: list[tuple[str, str, str, LossKind]] | None = None
    host_failures: int = 0
    overruns: int = 0
    is_unwanted: bool = False
    is_orphan: bool = False
    is_refunded: bool = False
    larger: tuple[Shape, ...] = ()
    outgrown: tuple[str, ...] = ()
    is_hungry: bool = False
    questions: dict[int, bytes] | None = None
    may_crowd: bool = False
    end: Deliver | None = None

    def move(self, stage: Stage, reason: str, now: float) -> None:
        """Be in a stage from now on."""
        self.stage = stage
        self.reason = reason
        self.since = now

    def count_loss(self, host: str, slot: str, loss: Loss) -> None:
        """Put a loss to the account, if it is of a kind that counts."""
        if loss.kind in (LossKind.UNEXPLAINED, LossKind.MEMORY):
            self.losses = [*(self.losses or ()), (host, slot, loss.text, loss.kind)]

    def refund(self, host: str) -> None:
        """Take from the account what a host did."""
        self.is_refunded = True
        self.host_failures = 0
        if self.losses:
            self.losses = [loss for loss in self.losses if loss[0] != host]


class Worker(msgspec.Struct, eq=False):
    """One life of one slot.

    Attributes:
        ends_at: when its job ends; infinite where that is not known or never.
        is_leaving: it has said that it goes; `is_draining`: it was asked to.
        rests_until: its host failed a task, and it gets none before.
        lapse: what its loss will be, should its lease end.
        idle_since: None while it has work, and where it never was heard of in this epoch.
        former: the incarnations that its slot had before.
        lent: how many of its attempts wait for answers.
    """

    slot: str
    incarnation: str
    host: str
    slots: int
    pool: ShapePool
    ends_at: float
    arrived_at: float
    heard_at: float
    attempts: dict[int, Task]
    is_connected: bool = True
    is_draining: bool = False
    is_leaving: bool = False
    is_suspended: bool = False
    rests_until: float = 0.0
    lapse: Loss | None = None
    idle_since: float | None = None
    former: tuple[str, ...] = ()
    lent: int = 0

    @property
    def has_room(self) -> bool:
        """Return whether fewer attempts work than it has slots."""
        return len(self.attempts) - self.lent < self.slots

    @property
    def takes_tasks(self) -> bool:
        """Return whether it is to be sent tasks, once it has rested and has room."""
        return self.is_connected and not (self.is_draining or self.is_leaving or self.is_suspended)


class State:
    """The tables, and the deadlines at which something of them is looked at."""

    def __init__(self, settings: ReactorSettings) -> None:
        self.settings = settings
        self.clients: dict[str, Client] = {}
        self.pools: dict[Shape, ShapePool] = {}
        self.workers: dict[str, Worker] = {}
        self.deadlines = Deadlines()
        self.counts = dict.fromkeys(
            ("submitted", "assigned", "committed", "lost_attempts", "lost_tasks", "outgrown", "late_results"), 0
        )
        self._order = 0
        self._served = 0
        self._is_checking = False

    def task_of(self, client: str, ticket: int) -> Task | None:
        """Return the task of a ticket; None where it is forgotten or never came."""
        owner = self.clients.get(client)
        return owner.tasks.get(ticket) if owner is not None else None

    def enter_client(self, name: str, weight: float, rundir: str, *, is_here: bool) -> Client:
        """Take in a client without tasks."""
        client = self.clients[name] = Client(Share(name, weight), {}, is_here=is_here, rundir=rundir)
        return client

    def enter_task(self, client: Client, event: TaskSubmitted, now: float) -> Task:
        """Take in a task; it is in no place yet."""
        pool = self.pool_of(event.shape, now)
        wall = event.wall_seconds or event.shape.wall_seconds or 0.0
        self._order += 1
        task = Task(
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

    def enlarge(self, task: Task, now: float) -> None:
        """Have a task that is in no place be of its next larger shape."""
        task.outgrown = (*task.outgrown, task.pool.shape.resource_class or "")
        shape, *rest = task.larger
        task.pool = self.pool_of(shape, now)
        task.larger = tuple(rest)
        task.wall_seconds = shape.wall_seconds
        task.wall = shape.wall_seconds or 0.0
        task.is_hungry = False

    def pool_of(self, shape: Shape, now: float) -> ShapePool:
        """Return what there is of a shape, from now on something."""
        pool = self.pools.get(shape)
        if pool is None:
            pool = ShapePool(shape, msgspec.to_builtins(shape), Waiting(), Free(), quiet_since=now)
            self.pools[shape] = pool
        return pool

    def unqueue(self, task: Task, now: float) -> None:
        """Take a task that waits out of the queue."""
        task.pool.waiting.remove(task)
        _note_quiet(task.pool, now)

    def next_for(self, pool: ShapePool, room: float, now: float) -> Task | None:
        """Take that task out of the queue which is next for a worker with `room` seconds left; None: none fits."""
        task = pool.waiting.take(room)
        if task is not None:
            _note_quiet(pool, now)
        return task

    def drain_queue(self, pool: ShapePool, now: float, least_wall: float = -inf) -> list[Task]:
        """Take all tasks out of the queue that ask for more than `least_wall` seconds, the eldest first."""
        tasks = pool.waiting.drain(least_wall)
        if tasks:
            _note_quiet(pool, now)
        return tasks

    def hand_over(self, task: Task, worker: Worker) -> None:
        """Give a task that is in no place to a worker, as its current attempt."""
        task.worker = worker
        worker.attempts[task.attempt] = task
        worker.idle_since = None
        task.pool.running += 1
        self._served += 1
        task.share.running += 1
        task.share.served = self._served

    def take_back(self, task: Task, now: float) -> None:
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

    def enter_worker(self, worker: Worker, now: float) -> None:
        """Take in a life of a slot that has none, with a lease from now."""
        worker.pool.workers += 1
        self.workers[worker.slot] = worker
        key = (worker.slot, worker.incarnation, 0)
        self.deadlines.enter(now + self.settings.lease_seconds, Watch.LEASE, key)

    def remove_worker(self, worker: Worker) -> None:
        """Forget a life of a slot. Its attempts are still to be taken back."""
        del self.workers[worker.slot]
        worker.pool.workers -= 1
        worker.pool.free.discard(worker)

    def orphans(self) -> list[Task]:
        """Return the tasks of closed clients that are still with workers."""
        return [task for _, task in self.leased() if task.is_orphan]

    def leased(self) -> Iterator[tuple[Worker, Task]]:
        """Yield what is with workers, with whom."""
        return ((worker, task) for worker in self.workers.values() for task in worker.attempts.values())

    def watch(self, now: float) -> None:
        """See to it that there is a deadline as long as there is anything to look at."""
        if not self._is_checking:
            self._is_checking = True
            self.deadlines.enter(now + self.settings.check_seconds, Watch.CHECK)

    def forget_unused(self, now: float) -> None:
        """Forget the shapes of which there is nothing; watch on where there are clients or workers."""
        unused = [
            shape for shape, pool in self.pools.items() if not (pool.workers or pool.running or pool.waiting.count)
        ]
        for shape in unused:
            del self.pools[shape]
        self._is_checking = False
        if self.clients or self.workers:
            self.watch(now)


def _note_quiet(pool: ShapePool, now: float) -> None:
    """Take note of the time where the last task that waited was taken."""
    if not pool.waiting.count:
        pool.quiet_since = now
