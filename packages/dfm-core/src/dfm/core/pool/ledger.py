"""The batch jobs of the pool: each by a name that is unique for ever, journalled before it is submitted.

What the scheduler says is a hint. Rules that hold after every event:
1. a job is in the journal before its submission is asked for; what is submitted is therefore always known by name;
2. absence is `unknown`; unknown becomes `lost` only when no worker is connected, three good answers in a row did not
   list it, and a grace has passed. An answer that failed changes nothing;
3. while the last good answer is old, or the answer of a submission is open, no job is launched;
4. an ambiguous submission is looked up by its name before another is made under another name;
5. only jobs of the ledger are ever cancelled, by the id that belongs to the name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.jobs import JobView, LedgerAction, LedgerEvent
from dfm.core.wire.messages import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Times of the ledger, in seconds, scaled already."""

    poll_seconds: float = 15.0
    start_seconds: float = 120.0
    lost_grace_seconds: float = 120.0
    unknown_seconds: float = 1800.0
    drain_seconds: float = 30.0
    launch_batch: int = 4
    max_submits_per_minute: int = 30
    scale: float = 1.0

    @classmethod
    def of(cls, settings: PoolSettings) -> "LedgerSettings":
        """Return what the settings of the pool mean for the ledger."""
        raise NotImplementedError


class Ledger:
    """The jobs, and what is known of them. `instance` is of the project, 8 characters; names begin `dfm-<instance>-`."""

    def __init__(self, settings: LedgerSettings, instance: str, epoch: int) -> None:
        raise NotImplementedError

    def handle(self, event: LedgerEvent, now: float) -> list[LedgerAction]:
        """Take in one event; return what must be done, in order."""
        raise NotImplementedError

    def next_deadline(self, now: float) -> float | None:
        """Return when a `Clock` is due at the latest; None where nothing is outstanding."""
        raise NotImplementedError

    def jobs(self) -> list[JobView]:
        """Return the jobs that have not ended and are not abandoned, in the order in which they were launched."""
        raise NotImplementedError

    def knows(self, slot: str) -> bool:
        """Return whether a worker of this slot may come in: its job is in the ledger and was not told to end."""
        raise NotImplementedError

    def is_fresh(self, now: float) -> bool:
        """Return whether what is known is young enough to launch more jobs."""
        raise NotImplementedError

    def submits_left(self, now: float) -> int:
        """Return how many jobs may be submitted now: 0 while paused or backing off, 1 for a trial after a pause."""
        raise NotImplementedError

    def ramp(self) -> Mapping[Shape, int]:
        """Return, by shape, how many workers may be on their way at once: few after an early death, twice as many after each that connects."""
        raise NotImplementedError

    def pause_reason(self, now: float) -> str:
        """Return why nothing is submitted, for `dfm why` and `status`; empty where jobs may be submitted."""
        raise NotImplementedError

    def excluded_hosts(self, now: float) -> dict[str, str]:
        """Return the hosts that are avoided for now, and why."""
        raise NotImplementedError

    def check(self, now: float) -> list[str]:
        """Return the invariants that do not hold; the watchdog's."""
        raise NotImplementedError

    def restore(self, entries: Iterable[JournalEntry], now: float) -> list[LedgerAction]:
        """Take in the journal of earlier epochs; return what is to be asked: ambiguous names, and the states of all."""
        raise NotImplementedError

    def snapshot(self) -> list[JournalEntry]:
        """Return entries that say all that the journal so far says of jobs that have not ended."""
        raise NotImplementedError
