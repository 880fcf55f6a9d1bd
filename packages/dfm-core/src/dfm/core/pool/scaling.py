"""How many workers there shall be: one allocator over all shapes, as a function of what is known.

What it counts are tasks that wait and fit, never guessed seconds of work: pools that guess flap. A worker that is on
its way counts from the moment it is asked for. Workers are never killed while they have work; surplus ones that do not
yet run are cancelled, newest first, and idle ones leave by themselves.

Invariants, each a property test: live + pending <= max_workers; pending <= launch_batch_size; submissions in a minute
<= max_submits_per_minute; nothing is launched while the ledger is stale or the pool is paused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.jobs import JobView
from dfm.core.pool.standing import Demand
from dfm.core.wire.messages import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """All that a plan depends on.

    Attributes:
        demand: from `Reactor.demand`.
        jobs: those of the ledger that have not ended, from `Ledger.jobs`.
        idle: slots of workers without work, the longest idle first.
        is_fresh: the ledger's answers are young enough and none is ambiguous.
        submits_left: how many submissions the limiters allow now, 0 while the pool is paused.
        ramp: by shape, most workers that may be on their way; a shape that is not in it has the full batch.
        quiet_since: by shape, since when no task has waited or run; absent where one does.
        default: the shape of the workers that are kept for `min_workers`.
    """

    demand: Mapping[Shape, Demand]
    jobs: Sequence[JobView]
    idle: Sequence[str] = ()
    is_fresh: bool = True
    submits_left: int = 0
    ramp: Mapping[Shape, int]
    quiet_since: Mapping[Shape, float]
    default: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Submit that many jobs for workers of this shape: a LaunchWanted for the ledger."""

    shape: Shape
    count: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Cancel jobs that nobody waits for any more and that no worker has connected from: a CancelWanted."""

    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Ask a worker to finish and leave, so that another shape can have its place: a DrainWorker for the reactor."""

    slot: str


ScaleAction = Launch | Withdraw | Release


def plan(view: PoolView, settings: PoolSettings, now: float) -> list[ScaleAction]:
    """Return what brings the pool nearer to what its tasks ask for. Empty means all is as it should be."""
    raise NotImplementedError


def job_wall_seconds(shape: Shape, settings: PoolSettings) -> float | None:
    """Return the limit to ask for a worker job of this shape; None leaves it to the queue.

    A shape's own wall time is that of a task: the job needs the margin twice more, once because a worker takes nothing
    that may reach into it, once for the time until the first task.
    """
    raise NotImplementedError
