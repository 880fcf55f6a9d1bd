"""A `dfm run`: submits tasks, takes their results, loses its link, dies and comes back.

What a body asks it answers by itself, or by a task of its own: of another shape, which may ask in its turn.
"""

from typing import TYPE_CHECKING

import msgspec
from tests.simulation.settings import LARGE, SHAPES, SMALL
from tests.simulation.worker import Work
from tests.simulation.world import Link, ViolationError, World

from dfm.core.wire.messages import Answered, Asked, CancelTask, Close, Done, Open, Received, Submit

if TYPE_CHECKING:
    from tests.simulation.daemon import Daemon


SUB = 1000
"""The ticket of a task is this much above that of the one that asks for it."""
DEEPEST = 2 * SUB


class Client:
    """One run id; what it has received survives its death, as records in run directories do."""

    def __init__(self, world: World, name: str, tasks: int) -> None:
        self.world, self.name = world, name
        random = world.random
        self.work = {
            ticket: Work(
                client=name,
                ticket=ticket,
                seconds=random.choice((0.5, 3.0, 10.0, 30.0)),
                is_asking=ticket % 3 == 0,
                is_poison="poison" in world.faults and random.random() < 0.1,
                is_hungry="memory" in world.faults and random.random() < 0.2,
            )
            for ticket in range(1, tasks + 1)
        }
        self._shapes = {ticket: random.choice(SHAPES) for ticket in self.work}
        self._questions: dict[int, Asked] = {}
        self.received: dict[int, str] = {}
        self.cancelled: set[int] = set()
        self.daemon: Daemon | None = None
        self._link: Link | None = None
        self._is_dead = False
        self.is_closed = False
        self._tick()

    @property
    def is_done(self) -> bool:
        return len(self.received) == len(self.work)

    def _tick(self) -> None:
        if self.is_closed:
            return
        if not self._is_dead:
            self._go_on()
        self.world.after(2.0, self._tick)

    def _go_on(self) -> None:
        world = self.world
        if world.strikes("client-crash", 0.004):
            self._die()
        elif self._link is None:
            self._connect()
        elif self._link.is_mute:
            self._link.close("client")
            self._link = None
        elif self.is_done:
            self._link.send("up", Close())
            self.is_closed = True
        elif world.strikes("client-cancels", 0.05):
            ticket = world.random.choice(sorted(self.work))
            if ticket not in self.received:
                self.cancelled.add(ticket)
                self._link.send("up", CancelTask(ticket=ticket))

    def _die(self) -> None:
        self.world.log(f"client {self.name} dies")
        self._is_dead = True
        if self._link is not None:
            self._link.close("client")
            self._link = None
        self.world.after(self.world.random.uniform(2, 120), self._revive)

    def _revive(self) -> None:
        self._is_dead = False

    def _connect(self) -> None:
        daemon = self.daemon
        if daemon is None or not daemon.is_alive:
            return
        link = self._link = daemon.accept_client(self.name)
        link.receivers["down"] = lambda message: self._heard(link, message)
        link.closers["client"] = lambda: self._broke(link)
        link.send("up", Open(run_id=self.name, user="u", version="1", directory="/"))
        for ticket in self.work:
            if ticket not in self.received:
                self._submit(link, ticket)
                if ticket in self.cancelled:
                    link.send("up", CancelTask(ticket=ticket))

    def _submit(self, link: Link, ticket: int) -> None:
        spec = msgspec.msgpack.encode(self.work[ticket])
        shape = self._shapes[ticket]
        larger = (LARGE,) if shape == SMALL and ticket % 4 else ()
        link.send("up", Submit(ticket=ticket, task=f"t{ticket}", shape=shape, larger=larger, spec=spec))

    def _broke(self, link: Link) -> None:
        if self._link is link:
            self._link = None

    def _heard(self, link: Link, message: object) -> None:
        if self._link is not link:
            return
        if isinstance(message, Asked):
            self._take_question(link, message)
        if not isinstance(message, Done):
            return
        ticket = message.ticket
        if message.body and not message.body.startswith(f"{self.name}:{ticket}:".encode()):
            raise ViolationError(f"{self.name} got the result of another for {ticket}: {message.body!r}")
        if self.work[ticket].is_poison and message.outcome == "succeeded":
            raise ViolationError(f"{ticket} of {self.name} cannot have succeeded")
        if message.body.endswith(b"-memory") and ticket % 4:
            raise ViolationError(f"{ticket} of {self.name} failed, where it should have had more memory")
        self.received.setdefault(ticket, message.outcome)
        link.send("up", Received(ticket=ticket))
        question = self._questions.pop(ticket, None)
        if question is not None:
            self._answer(link, question)

    def _take_question(self, link: Link, asked: Asked) -> None:
        if asked.question != f"{self.name}:{asked.ticket}:{asked.attempt}".encode():
            raise ViolationError(f"{self.name} is asked for {asked.ticket} what another asks: {asked!r}")
        random = self.world.random
        wanted = asked.ticket + SUB
        if wanted not in self.work and random.random() < 0.3:
            self.world.after(random.uniform(0.1, 20), lambda: self._answer(link, asked))
            return
        if wanted not in self.work:
            is_asking = wanted < DEEPEST and random.random() < 0.5
            seconds = random.choice((0.5, 3.0))
            self.work[wanted] = Work(client=self.name, ticket=wanted, seconds=seconds, is_asking=is_asking)
            mine = SHAPES.index(self._shapes[asked.ticket])
            self._shapes[wanted] = SHAPES[(mine + random.choice((0, 1, 1))) % len(SHAPES)]
            self._submit(link, wanted)
        if wanted in self.received:
            self._answer(link, asked)
        else:
            self._questions[wanted] = asked

    def _answer(self, link: Link, asked: Asked) -> None:
        if self._link is link:
            link.send(
                "up",
                Answered(ticket=asked.ticket, attempt=asked.attempt, number=asked.number, answer=asked.question),
            )
