"""When to stop submitting: back-off after refusals, a breaker after many, and trials after a pause.

The delays follow what sites tolerate: 5, 15, 60, 300 s after a refusal that may pass; a pause of 1, 15, 30, 60 minutes
after five refusals in a row, or after three workers in a row that died young. At the end of a pause one worker is
tried; the pool goes on only when it did well.
"""

from dataclasses import dataclass

BACK_OFF_SECONDS = (5.0, 15.0, 60.0, 300.0)
PAUSE_SECONDS = (60.0, 900.0, 1800.0, 3600.0)
MOST_REFUSALS = 5
MOST_YOUNG_DEATHS = 3


@dataclass(slots=True)
class Breaker:
    """Counts what went wrong in a row, and says until when nothing is tried.

    Attributes:
        limit: so many in a row open it.
        scale: factor on all times.
    """

    limit: int
    scale: float = 1.0
    text: str = ""
    in_a_row: int = 0
    pauses: int = 0
    until: float = float("-inf")
    is_open: bool = False
    is_on_trial: bool = False

    def fail(self, now: float, text: str) -> bool:
        """Count a failure; return whether it opened the breaker, or opened it again after a trial."""
        self.in_a_row += 1
        self.text = text
        if self.is_open and not self.is_on_trial:
            return False
        if not self.is_open and self.in_a_row < self.limit:
            return False
        self.until = now + PAUSE_SECONDS[min(self.pauses, len(PAUSE_SECONDS) - 1)] * self.scale
        self.pauses += 1
        self.is_open = True
        self.is_on_trial = False
        return True

    def succeed(self) -> bool:
        """Forget the failures; return whether this closed it."""
        was_open = self.is_open
        self.in_a_row = 0
        self.pauses = 0
        self.text = ""
        self.until = float("-inf")
        self.is_open = self.is_on_trial = False
        return was_open

    def try_one(self) -> None:
        """Take note that one is tried after a pause."""
        if self.is_open:
            self.is_on_trial = True

    def cancel_trial(self) -> None:
        """The trial came to no end that tells anything: another may be made."""
        self.is_on_trial = False

    def allows(self, now: float) -> int | None:
        """Return how many may be tried now; None is any number."""
        if not self.is_open:
            return None
        return 0 if self.is_on_trial or now < self.until else 1


def back_off_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row."""
    return BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1]
