"""Whose task is next, and which free worker takes it.

Weighted fair queueing by what runs: the client with the fewest running tasks for its weight is next, and among equals
the one that was served longest ago. Within a client the eldest task that fits goes first; a task fits a worker when its
wall time ends before the worker's job does. Everything is O(1) in tasks; clients that wait for one shape, and different
wall times of one client, are few and looked through.
"""

import bisect
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


@dataclass(slots=True, eq=False)
class Share:
    """What one client has had. `served` is when it was last given a worker, as a count."""

    client: str
    weight: float = 1.0
    running: int = 0
    served: int = 0


class Queued(Protocol):
    """What waits: `order` is unique and grows; `wall` is 0 where no time is declared."""

    @property
    def order(self) -> int: ...

    @property
    def wall(self) -> float: ...

    @property
    def share(self) -> Share: ...


T = TypeVar("T", bound=Queued)


@dataclass(slots=True)
class _Lane(Generic[T]):
    share: Share
    by_wall: dict[float, "OrderedDict[int, T]"] = field(default_factory=dict)

    def eldest(self, room: float) -> T | None:
        best: T | None = None
        for wall, tasks in self.by_wall.items():
            if wall <= room:
                task = next(iter(tasks.values()))
                if best is None or task.order < best.order:
                    best = task
        return best


class Waiting(Generic[T]):
    """The tasks of one shape that wait."""

    __slots__ = ("_lanes", "count")

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}
        self.count = 0

    def append(self, task: T) -> None:
        """Put a task behind all others of its client."""
        self._tasks_like(task)[task.order] = task
        self.count += 1

    def prepend(self, task: T) -> None:
        """Put a task before all others of its client."""
        tasks = self._tasks_like(task)
        tasks[task.order] = task
        tasks.move_to_end(task.order, last=False)
        self.count += 1

    def remove(self, task: T) -> None:
        """Take a task out, wherever it stands."""
        lane = self._lanes[task.share.client]
        tasks = lane.by_wall[task.wall]
        del tasks[task.order]
        self.count -= 1
        if not tasks:
            del lane.by_wall[task.wall]
            if not lane.by_wall:
                del self._lanes[task.share.client]

    def take(self, room: float) -> T | None:
        """Take out the task that is next for a worker with `room` seconds left for one; None where none fits."""
        chosen: T | None = None
        rank: tuple[float, int] | None = None
        for lane in self._lanes.values():
            share = lane.share
            claim = (share.running / share.weight, share.served)
            if rank is None or claim < rank:
                task = lane.eldest(room)
                if task is not None:
                    chosen, rank = task, claim
        if chosen is not None:
            self.remove(chosen)
        return chosen

    def holds(self, task: T) -> bool:
        """Return whether the task waits here."""
        lane = self._lanes.get(task.share.client)
        return lane is not None and task.order in lane.by_wall.get(task.wall, ())

    def walls(self) -> set[float]:
        """Return the different wall times of what waits."""
        return {wall for lane in self._lanes.values() for wall in lane.by_wall}

    def drain(self, least_wall: float = float("-inf")) -> list[T]:
        """Take out all tasks whose wall time is above `least_wall`, the eldest first."""
        taken = [
            task
            for lane in self._lanes.values()
            for wall, tasks in lane.by_wall.items()
            if wall > least_wall
            for task in tasks.values()
        ]
        for task in taken:
            self.remove(task)
        return sorted(taken, key=lambda task: task.order)

    def eldest(self) -> T | None:
        """Return the task that has waited longest."""
        heads = [task for lane in self._lanes.values() if (task := lane.eldest(float("inf"))) is not None]
        return min(heads, key=lambda task: task.order, default=None)

    def _tasks_like(self, task: T) -> "OrderedDict[int, T]":
        client = task.share.client
        lane = self._lanes.get(client)
        if lane is None:
            lane = self._lanes[client] = _Lane(task.share)
        tasks = lane.by_wall.get(task.wall)
        if tasks is None:
            tasks = lane.by_wall[task.wall] = OrderedDict()
        return tasks


W = TypeVar("W")


def _end(entry: tuple[float, int, W]) -> float:
    return entry[0]


def _key(entry: tuple[float, int, W]) -> tuple[float, int]:
    return entry[:2]


class Free(Generic[W]):
    """The workers of one shape that would take a task, by the end of their jobs.

    A task goes to the worker that ends first after it, so that those with much time stay free for long tasks; among
    those that end at the same time, or never, to the one that became free last, so that the others get idle and leave.
    """

    __slots__ = ("_by_end", "_keys", "_sequence")

    def __init__(self) -> None:
        self._by_end: list[tuple[float, int, W]] = []
        self._keys: dict[int, tuple[float, int]] = {}
        self._sequence = 0

    def add(self, worker: W, ends_at: float) -> None:
        """Enter a worker, or enter it anew when its end has changed."""
        known = self._keys.get(id(worker))
        if known is not None:
            if known[0] == ends_at:
                return
            self.discard(worker)
        self._sequence += 1
        key = (ends_at, -self._sequence)
        self._keys[id(worker)] = key
        bisect.insort(self._by_end, (*key, worker))

    def discard(self, worker: W) -> None:
        """Take a worker out, if it is there."""
        key = self._keys.pop(id(worker), None)
        if key is not None:
            del self._by_end[bisect.bisect_left(self._by_end, key, key=_key)]

    def first_that_ends_after(self, when: float) -> W | None:
        """Return the best worker whose job ends at `when` or later."""
        index = bisect.bisect_left(self._by_end, when, key=_end)
        return self._by_end[index][2] if index < len(self._by_end) else None
