"""The pool's decisions about tasks, attempts and workers, free of I/O and clocks.

Rules that hold after every event:
1. an accepted task is in exactly one place: waiting, with one worker, or ended and waiting for its client;
2. an attempt belongs to the one life of the one slot that it was sent to. A result counts only from there, and only
   while the attempt is the task's current one; every other result is acknowledged, counted and dropped;
3. a worker is lost in one way only (`_lose`), whatever told of it; its tasks go back to the front of the queue, at
   most `max_losses` times without a known cause, and then end as lost. They never just disappear;
4. after a restart an attempt is not sent to another worker before its lease has passed;
5. no task waits while a worker is free that it fits.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.events import JournalEntry, PoolAction, PoolEvent
from dfm.core.pool.standing import Counters, Demand, TaskStanding, TaskView, WorkerView
from dfm.core.wire.messages import Shape


def _name_of_slot(slot: str) -> str:
    return slot


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactorSettings:
    """Limits and times of the reactor, in seconds, scaled already.

    Attributes:
        stop_seconds: a worker that was told to stop an attempt must have said so after this time, else it is retired.
        job_wall_seconds: limit of every worker job, None where jobs have none: longer tasks are refused at once.
        host_failures: a host that fails that many different tasks or workers is suspected; None suspects none, for
            a pool that has only one host.
        log_of: the path of the log of a slot's worker, for the account of a lost task.
    """

    lease_seconds: float = 20.0
    client_grace_seconds: float = 60.0
    walltime_margin_seconds: float = 120.0
    stop_seconds: float = 30.0
    check_seconds: float = 10.0
    max_losses: int = 3
    job_wall_seconds: float | None = None
    host_failures: int | None = 3
    host_window_seconds: float = 600.0
    host_suspicion_seconds: float = 1800.0
    host_rest_seconds: float = 5.0
    log_of: Callable[[str], str] = _name_of_slot

    @classmethod
    def of(
        cls, settings: PoolSettings, log_of: Callable[[str], str] = _name_of_slot, *, has_many_hosts: bool = True
    ) -> "ReactorSettings":
        """Return what the settings of the pool mean for the reactor."""
        raise NotImplementedError


class Reactor:
    """Tasks, attempts and workers of one pool, in one epoch of its daemon."""

    def __init__(self, settings: ReactorSettings, epoch: int) -> None:
        raise NotImplementedError

    def handle(self, event: PoolEvent, now: float) -> list[PoolAction]:
        """Take in one event; return what must be done, in order.

        What follows a Record in the list may be done only once the record is in the journal.
        """
        raise NotImplementedError

    def next_deadline(self, now: float) -> float | None:
        """Return when a Tick is due at the latest; None where there is nothing to watch."""
        raise NotImplementedError

    def demand(self, now: float) -> Mapping[Shape, Demand]:
        """Return what each shape asks for; shapes without tasks and workers are left out."""
        raise NotImplementedError

    def pending_reason(self, client: str, ticket: int, now: float) -> TaskStanding | None:
        """Return where a task stands; None where there is no such task."""
        raise NotImplementedError

    def workers(self) -> list[WorkerView]:
        """Return the workers, in the order in which they came."""
        raise NotImplementedError

    def tasks(self) -> list[TaskView]:
        """Return the tasks that are not forgotten, by client, in the order in which they were submitted."""
        raise NotImplementedError

    def counters(self) -> Counters:
        """Return what has happened in this epoch."""
        raise NotImplementedError

    def quiet_since(self) -> Mapping[Shape, float]:
        """Return, by shape, since when no task of it waits or runs; absent where one does."""
        raise NotImplementedError

    def check(self, now: float) -> list[str]:
        """Return the invariants that do not hold, each with what breaks it: the watchdog's, dear, each 10 s or so."""
        raise NotImplementedError

    def restore(self, entries: Iterable[JournalEntry], now: float) -> None:
        """Take in the journal of earlier epochs, before any event.

        Clients are gone until they come back, attempts are with workers that are out of reach until they come back.
        """
        raise NotImplementedError

    def snapshot(self) -> list[JournalEntry]:
        """Return entries that say all that the journal so far says of what is not forgotten."""
        raise NotImplementedError
