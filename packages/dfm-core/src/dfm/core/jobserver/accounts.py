"""Where the N tokens of our jobserver are: the book, without the pipes.

Each token is in one of these places: the pipe of a generation, a body of ours (the one it started with), or a client
in a body's tree, which took it from the pipe. Only the first two can be counted; what is missing from N is with
clients, or lost with one that was killed.

A *generation* is one pipe with the bodies that were started on it. When a body ends badly and tokens are missing while
others run, the generation is closed: the tokens in its pipe move to a new one, as do those that come back to it later.
When its last body has ended nobody can hold a token of it any more, so what is still missing was lost, and is minted
anew. No new work waits for that, and the number of tokens never exceeds N.
"""

from msgspec import Struct, field


class Generation(Struct):
    """One pipe's share of the book.

    Attributes:
        abroad: tokens of this generation that are with clients or lost; never below 0.
        bodies: bodies that run on it.
    """

    number: int
    abroad: int = 0
    bodies: int = 0


class Book(Struct):
    """The book of one server with `total` tokens."""

    total: int
    held: int = 0
    current: Generation = field(default_factory=lambda: Generation(0))
    closed: dict[int, Generation] = field(default_factory=dict)

    def start(self) -> Generation:
        """Note that a token was taken for a body, which runs on the current generation."""
        self.held += 1
        self.current.bodies += 1
        assert self.held <= self.total
        return self.current

    def end(self, generation: Generation) -> None:
        """Note that a body has ended and its own token is to go back."""
        self.held -= 1
        generation.bodies -= 1
        assert self.held >= 0
        assert generation.bodies >= 0

    def wanted_in_pipe(self) -> int:
        """Return how many tokens would be in the current pipe if no client held any."""
        return self.total - self.held - sum(generation.abroad for generation in self.closed.values())

    def rotate(self, in_pipe: int) -> Generation:
        """Close the current generation, with `in_pipe` tokens in its pipe, and return the new one."""
        old = self.current
        old.abroad = max(0, self.wanted_in_pipe() - in_pipe)
        self.closed[old.number] = old
        self.current = Generation(old.number + 1)
        return self.current

    def came_back(self, generation: Generation, tokens: int) -> int:
        """Note tokens that came back to a closed generation; return how many of them are ours to put on."""
        accepted = min(tokens, generation.abroad)
        generation.abroad -= accepted
        return accepted

    def settle(self, generation: Generation) -> int:
        """Take a closed generation without bodies off the book; return how many tokens to mint for those lost."""
        assert generation.bodies == 0
        del self.closed[generation.number]
        return generation.abroad
