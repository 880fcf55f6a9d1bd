"""A worker: the real session, in a process that can crash, freeze and be killed."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from tests.simulation.world import Link, ViolationError, World

from dfm.core.wire.messages import Answered, Asked, Result, Run, ToWorker
from dfm.core.worker.session import (
    Connect,
    Effect,
    End,
    Forget,
    GoOn,
    HandOver,
    HangUp,
    Hold,
    Keep,
    Leave,
    Say,
    Self,
    Session,
    Start,
    Stop,
)

OUT_OF_MEMORY = 137
"""Exit status of a worker whose job the batch system ended for memory."""


class Work(msgspec.Struct, frozen=True):
    """What a simulated task is: whose, how long, whether it asks its client half-way, whether it kills its worker,
    and whether it needs a large one.
    """

    client: str
    ticket: int
    seconds: float
    is_asking: bool = False
    is_poison: bool = False
    is_hungry: bool = False


class Door(Protocol):
    """Where workers connect: the daemon, when there is one."""

    def connect_worker(self, slot: str) -> Link | None: ...


class Worker:
    """One process of one job."""

    def __init__(
        self,
        world: World,
        door: Door,
        identity: Self,
        *,
        is_bad: bool,
        is_small: bool,
        on_end: Callable[["Worker", int], None],
    ) -> None:
        self.world = world
        self.door = door
        self.identity = identity
        self.is_bad = is_bad
        self.is_small = is_small
        self.on_end = on_end
        self.is_alive = True
        self.is_frozen = False
        self._inbox: list[Callable[[], Sequence[Effect]]] = []
        self._link: Link | None = None
        self._bodies: dict[int, Work] = {}
        self._stopped: set[int] = set()
        self._is_held = False
        self._session = Session(identity, world.now)
        self._do(self._session.begin())
        world.after(world.random.uniform(0, 5), self._beat)

    def _beat(self) -> None:
        if self.is_alive:
            if self.world.strikes("worker-crash", 0.01):
                self.world.log(f"worker {self.identity.slot} crashes")
                self.crash()
                self.on_end(self, 139)
                return
            if not self.is_frozen and self.world.strikes("worker-freeze", 0.01):
                self.freeze()
                self.world.after(self.world.random.uniform(5, 60), self.thaw)
            if not self.is_frozen:
                self._take(lambda: self._session.tick(self.world.now))
            self.world.after(1.0, self._beat)

    def _take(self, event: Callable[[], Sequence[Effect]]) -> None:
        """Let the session take in an event, or keep it for when the process is no longer frozen."""
        if not self.is_alive:
            return
        if self.is_frozen:
            self._inbox.append(event)
            return
        self._do(event())

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if not self.is_alive:
                return
            match effect:
                case Say(message):
                    if self._link is not None:
                        self._link.send("up", message)
                case Start(run):
                    self._start(run)
                case Stop(attempt=attempt, cause=cause):
                    outcome = "failed" if cause else "lost"
                    self._stopped.add(attempt)
                    self.world.after(0.5, lambda attempt=attempt, outcome=outcome: self._end_body(attempt, outcome))  # type: ignore[misc]
                case Hold():
                    self._is_held = True
                case GoOn():
                    self._is_held = False
                case HandOver(answered):
                    self._go_on(answered)
                case Keep() | Forget():
                    pass
                case Connect(within_seconds):
                    self.world.after(self.world.random.uniform(0, within_seconds) + 0.01, self._connect)
                case HangUp():
                    self._hang_up()
                case Leave(end, reason):
                    self.world.log(f"worker {self.identity.slot} leaves: {reason}")
                    self._die()
                    self.on_end(self, 0 if end is End.ORDERLY else 7)

    def _connect(self) -> None:
        if not self.is_alive or self._link is not None or self._session.has_left:
            return
        link = self.door.connect_worker(self.identity.slot)
        if link is None:
            is_refused = self.world.random.random() < 0.5
            self._take(lambda: self._session.unreachable(self.world.now, is_refused=is_refused))
            return
        self._link = link
        link.receivers["down"] = lambda message: self._take_from(link, message)
        link.closers["worker"] = lambda: self._link_broke(link)
        self._take(lambda: self._session.connected(self.world.now))

    def _take_from(self, link: Link, message: object) -> None:
        if self._link is link:
            heard: list[ToWorker] = [message]  # type: ignore[list-item]  # the daemon says only such
            self._take(lambda: self._session.heard(heard, self.world.now) if self._link is link else [])

    def _link_broke(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self._take(lambda: self._session.disconnected(self.world.now))

    def _hang_up(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            link.close("worker")

    # Bodies.

    def _start(self, run: Run) -> None:
        work = msgspec.msgpack.decode(run.spec, type=Work)
        self._bodies[run.attempt] = work
        self._take(lambda: self._session.started(run.attempt, self.world.now))
        if work.is_poison:
            self.world.after(1.0, lambda: self._poisoned(run.attempt))
        elif work.is_hungry and self.is_small:
            self.world.after(1.0, lambda: self._run_out_of_memory(run.attempt))
        elif self.is_bad:
            self.world.after(0.5, lambda: self._end_body(run.attempt, "failed", is_bad=True))
        elif work.is_asking:
            self.world.after(work.seconds / 2, lambda: self._ask(run.attempt))
        else:
            self.world.after(work.seconds, lambda: self._end_body(run.attempt, "succeeded"))

    def _ask(self, attempt: int) -> None:
        work = self._bodies.get(attempt)
        if work is not None:
            question = f"{work.client}:{work.ticket}:{attempt}".encode()
            asked = Asked(attempt=attempt, number=1, question=question)
            self._take(lambda: self._session.asked(asked, self.world.now))

    def _go_on(self, answered: Answered) -> None:
        work = self._bodies.get(answered.attempt)
        if work is None:
            return
        if answered.answer != f"{work.client}:{work.ticket}:{answered.attempt}".encode():
            raise ViolationError(f"attempt {answered.attempt} gets the answer of another: {answered!r}")
        self.world.after(work.seconds / 2, lambda: self._end_body(answered.attempt, "succeeded"))

    def _run_out_of_memory(self, attempt: int) -> None:
        """The kernel kills the body, or the batch system the whole job, at once or with a warning: as the task has it."""
        work = self._bodies.get(attempt)
        if work is None or not self.is_alive:
            return
        if work.ticket % 3 == 0:
            self._end_body(attempt, "failed", is_out_of_memory=True)
            return
        self.on_end(self, OUT_OF_MEMORY)
        if work.ticket % 3 == 1:
            self.crash()
        else:
            self.terminate("signal")

    def _poisoned(self, attempt: int) -> None:
        if self.is_alive and attempt in self._bodies:
            self.crash()
            self.on_end(self, 139)

    def _end_body(self, attempt: int, outcome: str, *, is_bad: bool = False, is_out_of_memory: bool = False) -> None:
        if not self.is_alive:
            return
        if self.is_frozen or (self._is_held and attempt not in self._stopped):
            self.world.after(
                1.0, lambda: self._end_body(attempt, outcome, is_bad=is_bad, is_out_of_memory=is_out_of_memory)
            )
            return
        work = self._bodies.pop(attempt, None)
        if work is not None:
            end = "-memory" if is_out_of_memory else ""
            body = b"" if outcome == "lost" else f"{work.client}:{work.ticket}:{attempt}{end}".encode()
            result = Result(
                attempt=attempt,
                outcome=outcome,
                body=body,
                is_infrastructure=is_bad,
                is_out_of_memory=is_out_of_memory,
            )
            self._take(lambda: self._session.ended(result, self.world.now))

    # Ends and pauses.

    def crash(self) -> None:
        """Kill -9: the kernel closes the link."""
        self._die()

    def vanish(self) -> None:
        """The host loses its power: nobody closes the link."""
        if self._link is not None:
            self._link.is_mute = True
        self._die()

    def _die(self) -> None:
        self.is_alive = False
        self._bodies.clear()
        self._hang_up()

    def terminate(self, reason: str) -> None:
        """SIGTERM: it says so, stops what runs, and is gone a little later whatever it does."""
        self.is_frozen = False
        self._take(lambda: self._session.signalled(reason, self.world.now))
        self.world.after(8.0, self._die_late)

    def _die_late(self) -> None:
        if self.is_alive:
            self._die()

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        if not self.is_frozen:
            return
        self.is_frozen = False
        inbox, self._inbox = self._inbox, []
        for event in inbox:
            self._take(event)
