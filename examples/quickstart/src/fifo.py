"""The design: a synchronous FIFO, one call of `clock` per clock edge."""


class Fifo:
    """A FIFO of `depth` words; with `bug` it forgets to stop at the wrap-around."""

    def __init__(self, depth: int, *, bug: bool = False) -> None:
        self.depth = depth
        self.memory = [0] * depth
        self.write_pointer = 0
        self.count = 0
        self.bug = bug

    @property
    def full(self) -> bool:
        return self.count == self.depth

    @property
    def empty(self) -> bool:
        return self.count == 0

    def clock(self, *, push: int | None, pop: bool) -> int | None:
        """One clock edge: take a word in, give a word out, or both."""
        word = None
        depth = self.depth - 1 if self.bug and self.write_pointer == self.depth - 1 and self.count > 6 else self.depth
        if pop and not self.empty:
            word = self.memory[(self.write_pointer - self.count) % depth]
            self.count -= 1
        if push is not None and not self.full:
            self.memory[self.write_pointer] = push
            self.write_pointer = (self.write_pointer + 1) % self.depth
            self.count += 1
        return word
