"""Virtual time: one heap of things to come, one source of chance, one log whose digest tells two runs apart."""

import hashlib
import heapq
import random
from collections.abc import Callable

from tests.simulation.settings import LIMITS, settings_with

FAULTS = (
    "worker-crash",
    "worker-freeze",
    "link-reset",
    "link-half-open",
    "link-stall",
    "daemon-crash",
    "power-loss",
    "client-crash",
    "client-cancels",
    "submit-answer-lost",
    "submit-twice",
    "submit-refused",
    "list-empty",
    "query-fails",
    "slow-answers",
    "requeue",
    "suspend",
    "walltime",
    "node-loss",
    "black-hole",
    "poison",
    "cancel-lost",
    "job-lingers",
    "memory",
)


class ViolationError(AssertionError):
    """An invariant does not hold."""


class World:
    """The clock, the chance and the log of one seed."""

    def __init__(self, seed: int, faults: frozenset[str]) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.faults = faults
        self.is_calm = False
        self.events = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._digest = hashlib.sha256()
        self.after_event: Callable[[], None] = lambda: None
        self.tail: list[str] = []
        self.settings = settings_with(self.random.choice(LIMITS))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + seconds, self._sequence, act))

    def run_until(self, end: float, is_done: Callable[[], bool] = lambda: False) -> None:
        while self._heap and self._heap[0][0] <= end and not is_done():
            self.now, _, act = heapq.heappop(self._heap)
            self.events += 1
            act()
            self.after_event()
        if not is_done():
            self.now = end

    def log(self, text: str) -> None:
        line = f"{self.now:.3f} {text}"
        self._digest.update(line.encode())
        self.tail.append(line)
        if len(self.tail) > 20_000:
            del self.tail[:10_000]

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def strikes(self, fault: str, chance: float) -> bool:
        """Whether a fault of this kind happens now; never once the world is calm."""
        return fault in self.faults and not self.is_calm and self.random.random() < chance


class Link:
    """An ordered stream in both directions. It can stall, be reset, or lose everything without a word."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_open = True
        self.is_mute = False
        self.stalled_until = 0.0
        self.receivers: dict[str, Callable[[object], None]] = {}
        self.closers: dict[str, Callable[[], None]] = {}
        self._last = {"up": 0.0, "down": 0.0}

    def send(self, direction: str, message: object) -> None:
        if not self.is_open or self.is_mute:
            return
        world = self.world
        if world.strikes("link-reset", 0.004):
            self.reset()
            return
        if world.strikes("link-half-open", 0.003):
            self.is_mute = True
            return
        if world.strikes("link-stall", 0.01):
            self.stalled_until = world.now + world.random.uniform(1, 30)
        when = max(world.now + world.random.uniform(0.001, 0.02), self._last[direction], self.stalled_until)
        self._last[direction] = when
        world.after(when - world.now, lambda: self._deliver(direction, message))

    def _deliver(self, direction: str, message: object) -> None:
        if self.is_open and not self.is_mute:
            self.receivers[direction](message)

    def reset(self) -> None:
        """Both ends learn that the link is gone; what was on its way is lost."""
        if self.is_open:
            self.is_open = False
            for close in list(self.closers.values()):
                self.world.after(0.001, close)

    def close(self, side: str) -> None:
        """One end closes: the other learns of it behind what is on its way, if it learns of anything."""
        if not self.is_open:
            return
        other = next((close for name, close in self.closers.items() if name != side), None)
        direction = "up" if side == "client" else "down"
        self.closers.pop(side, None)
        if other is None or self.is_mute:
            self.is_open = False
            return
        when = max(self.world.now + 0.01, self._last[direction])

        def end() -> None:
            if self.is_open:
                self.is_open = False
                other()

        self.world.after(when - self.world.now, end)
