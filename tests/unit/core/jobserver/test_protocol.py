"""What MAKEFLAGS says, and where the tokens are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.core.jobserver.accounts import Book, Generation
from dfm.core.jobserver.protocol import Auth, FifoAuth, PipeAuth, format_makeflags, parse_auth


@pytest.mark.parametrize(
    ("makeflags", "auths"),
    [
        ("", []),
        ("kw", []),
        (" -j4 --jobserver-auth=3,4", [PipeAuth(3, 4)]),
        (" -j4 --jobserver-fds=3,4 -j", [PipeAuth(3, 4)]),
        (" -j4 --jobserver-auth=fifo:/tmp/GMfifo12", [FifoAuth("/tmp/GMfifo12")]),
        (" --jobserver-auth=3,4 --jobserver-auth=5,6", [PipeAuth(5, 6)]),
        (" --jobserver-auth=-2,-2", []),
        (" -j -- X=--jobserver-auth=1,2", [PipeAuth(1, 2)]),
        ("k --jobserver-auth=nonsense", []),
    ],
)
def test_a_parent_is_found_in_every_form(makeflags: str, auths: list[Auth]) -> None:
    assert parse_auth(makeflags) == auths


def test_what_we_write_names_the_pipe_for_make_and_the_fifo_for_ninja() -> None:
    flags = format_makeflags(4, PipeAuth(7, 8), FifoAuth("/run/j/0"))
    assert flags == " -j4 --jobserver-auth=7,8 -- --jobserver-auth=fifo:/run/j/0"
    assert parse_auth(flags) == [PipeAuth(7, 8), FifoAuth("/run/j/0")]


class World:
    """Pipes and clients as they really are, beside the book: clients take, give back, and die holding tokens."""

    def __init__(self, total: int, chance: random.Random) -> None:
        self.book = Book(total)
        self.total = total
        self.chance = chance
        self.pipes: dict[int, int] = {0: total}
        self.bodies: list[tuple[Generation, list[int]]] = []

    def start(self) -> None:
        number = self.book.current.number
        if self.pipes[number]:
            self.pipes[number] -= 1
            self.bodies.append((self.book.start(), [0]))

    def client_takes(self) -> None:
        generation, held = self.chance.choice(self.bodies)
        if self.pipes[generation.number]:
            self.pipes[generation.number] -= 1
            held[0] += 1

    def client_gives(self) -> None:
        generation, held = self.chance.choice(self.bodies)
        if held[0]:
            held[0] -= 1
            self.pipes[generation.number] += 1

    def end(self, *, is_killed: bool) -> None:
        generation, held = self.bodies.pop(self.chance.randrange(len(self.bodies)))
        if not is_killed:
            self.pipes[generation.number] += held[0]
        self.book.end(generation)
        self.pipes[self.book.current.number] += 1
        if self.book.held == 0:
            for closed in list(self.book.closed.values()):
                self.settle(closed)
            self.pipes[self.book.current.number] = self.total
        elif generation.number in self.book.closed:
            self.collect(generation)
        elif is_killed and self.pipes[self.book.current.number] < self.book.wanted_in_pipe():
            self.rotate()

    def collect(self, generation: Generation) -> None:
        back = self.book.came_back(generation, self.pipes[generation.number])
        self.pipes[generation.number] = 0
        self.pipes[self.book.current.number] += back
        if generation.bodies == 0:
            self.settle(generation)

    def settle(self, generation: Generation) -> None:
        back = self.book.came_back(generation, self.pipes.pop(generation.number))
        self.pipes[self.book.current.number] += back + self.book.settle(generation)

    def rotate(self) -> None:
        old = self.book.current
        moved, self.pipes[old.number] = self.pipes[old.number], 0
        new = self.book.rotate(moved)
        self.pipes[new.number] = moved
        if old.bodies == 0:
            self.settle(old)

    def in_use(self) -> int:
        return len(self.bodies) + sum(held[0] for _, held in self.bodies)


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_no_token_is_made_too_many_and_none_stays_lost(total: int, seed: int) -> None:
    chance = random.Random(seed)
    world = World(total, chance)
    for _ in range(200):
        match chance.randrange(6):
            case 0 | 1:
                world.start()
            case 2 if world.bodies:
                world.client_takes()
            case 3 if world.bodies:
                world.client_gives()
            case 4 if world.bodies:
                world.end(is_killed=False)
            case 5 if world.bodies:
                world.end(is_killed=True)
        assert world.in_use() + sum(world.pipes.values()) <= total
    while world.bodies:
        world.end(is_killed=True)
    assert world.pipes == {world.book.current.number: total}
