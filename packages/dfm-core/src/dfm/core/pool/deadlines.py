"""A heap of deadlines.

An entry is never moved: when it is due, its owner looks whether it still holds, and may enter it anew.
"""

import enum
import heapq
from collections.abc import Iterator


class Watch(enum.Enum):
    """What a deadline is for."""

    LEASE = enum.auto()
    """A worker must have been heard by then."""
    GRACE = enum.auto()
    """A client that is gone must be back by then."""
    STOP = enum.auto()
    """A worker must have stopped an attempt by then."""
    REST = enum.auto()
    """A worker whose host failed a task may be tried again."""
    CHECK = enum.auto()
    """What is not used any more is forgotten."""


Key = tuple[str, str, int]


class Deadlines:
    """The deadlines of one reactor; those of the same time come in the order in which they were entered."""

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Watch, Key]] = []
        self._sequence = 0

    def enter(self, when: float, watch: Watch, key: Key = ("", "", 0)) -> None:
        """Enter a deadline."""
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, watch, key))

    def due(self, now: float) -> Iterator[tuple[Watch, Key]]:
        """Take out and return those that are due. What is entered meanwhile must lie after `now`."""
        while self._heap and self._heap[0][0] <= now:
            _, _, watch, key = heapq.heappop(self._heap)
            yield watch, key

    @property
    def next(self) -> float | None:
        """Return the earliest one."""
        return self._heap[0][0] if self._heap else None
