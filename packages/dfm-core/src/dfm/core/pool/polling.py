"""When the batch system is asked for the states of all jobs, and how old its last answer may be.

It is asked seldom where nothing changes, soon where something is expected, and never twice at once.
"""

import zlib

from dfm.core.pool.jobs import Phase
from dfm.core.pool.jobtable import LONG_AGO, JobTable
from dfm.core.pool.limits import LedgerSettings

_SOON_SECONDS = 2.0
"""When to look the first time at jobs whose workers have not come, and a second time at one that looks hopeless."""
_JITTER = 0.1
"""Part of an interval by which it is made longer at most, so that daemons that began together do not ask together."""
_STEADY_ANSWERS = 10
"""After so many answers in which nothing but what is connected was listed, it is asked more seldom still."""


class Polling:
    """The questions for all jobs. `is_open` while one is not answered, `due_at` when the next one is due."""

    def __init__(self, settings: LedgerSettings, instance: str, table: JobTable) -> None:
        self._settings = settings
        self._instance = instance
        self._table = table
        self.is_open = False
        self.due_at = LONG_AGO
        self._asked_at = LONG_AGO
        self._answered_at = LONG_AGO
        self._routine_at = LONG_AGO
        self._steady_answers = 0

    def launch(self, now: float) -> None:
        """Take note of a job that is about to be submitted; with the first one, questions begin."""
        if not self._table.outstanding():
            self._answered_at = now
            self.due_at = now + self._soon()
            self._routine_at = now + self._settings.poll_seconds
        self._steady_answers = 0

    def ask(self, now: float) -> bool:
        """Return whether to ask now; if so, the question is taken for asked."""
        if self.is_open or now < self.due_at or not self._table.outstanding():
            return False
        self.is_open = True
        self._asked_at = now
        return True

    def answer(self, seconds: float, now: float) -> None:
        """Take note of an answer, of whatever kind, that took `seconds`."""
        self.is_open = False
        self.due_at = max(now + 10 * seconds, self._asked_at + self._interval())

    def learn(self, now: float) -> None:
        """Take note that the answer was a good one, before anything comes of it."""
        self._answered_at = now
        self._steady_answers = self._steady_answers + 1 if self._table.is_steady() else 0

    def ask_soon(self) -> None:
        """Ask as often as where something changes."""
        self.due_at = min(self.due_at, self._asked_at + self._settings.poll_seconds)

    def ask_again(self, seconds: float, now: float) -> None:
        """Ask once more as soon as may be after an answer that took `seconds`."""
        self.due_at = min(self.due_at, now + max(10 * seconds, self._soon()))

    def calm_down(self) -> None:
        """Let the next question wait for its turn where no worker is expected any more."""
        if self._table.is_steady():
            self.due_at = max(self.due_at, self._routine_at)

    def ask_at(self, now: float) -> None:
        """Ask at a time, whatever was asked before."""
        self.due_at = now

    def is_fresh(self, now: float) -> bool:
        """Return whether what is known is young enough to launch more jobs."""
        if any(job.phase is Phase.AMBIGUOUS for job in self._table.by_name.values()):
            return False
        return not self._table.outstanding() or now - self._answered_at <= 3 * max(
            self._interval(), self.due_at - self._asked_at
        )

    def overdue_seconds(self, now: float) -> float:
        """Return for how long a question that is due has not been asked; 0 where that is no fault."""
        is_late = self.due_at < now - 4 * self._settings.poll_seconds
        return now - self.due_at if is_late and not self.is_open and self._table.outstanding() else 0.0

    def _interval(self) -> float:
        """Return the time to the next question: longer where nothing changes, and never the same for all daemons."""
        times = 1 if not self._table.is_steady() else 4 if self._steady_answers < _STEADY_ANSWERS else 12
        spread = zlib.crc32(f"{self._instance} {self._asked_at}".encode()) / (1 << 32)
        return self._settings.poll_seconds * times * (1 + _JITTER * spread)

    def _soon(self) -> float:
        return min(_SOON_SECONDS * self._settings.scale, self._settings.poll_seconds)
