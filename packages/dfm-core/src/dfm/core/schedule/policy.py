"""When a run goes on after a failure."""

from msgspec import Struct

MAX_ATTEMPTS = 3
"""Attempts at one task whose runner lost it; more points to the task itself (reliability: poison tasks stop)."""


class FailurePolicy(Struct, frozen=True):
    """How many failed tasks end the run; None never does.

    What runs when the limit is reached is let finish; nothing new starts.
    """

    max_failures: int | None = 1

    def is_exhausted(self, failures: int) -> bool:
        """Whether no new task may start."""
        return self.max_failures is not None and failures >= self.max_failures
