"""How many workers there shall be: one allocator over all shapes, as a function of what is known.

What it counts are tasks that wait and fit, never guessed seconds of work: pools that guess flap. A worker that is on
its way counts from the moment it is asked for. Workers are never killed while they have work; surplus ones that do not
yet run are cancelled, newest first, and idle ones leave by themselves.

A worker is stuck while all its tasks wait for answers of the run: it will not make room before other tasks have ended.
A shape is starving whose tasks wait while no worker of it will take one, and none is on its way.
A full pool makes room for a starving shape: it cancels a job that nothing waits for, lets an idle worker go, or in the
end a busy one; and where workers are stuck, the shape gets some beyond `max_workers`, for what the stuck ones wait for
may be its tasks. Where its jobs only wait for room with the batch system, an idle worker of another shape leaves. One
beyond the limit is enough to come to an end: its tasks lend their slot while they wait, to any depth. More are for
speed: as many as there are stuck ones, and no more than `extra_workers` of each shape and in all.

Invariants, each a property test: live + pending <= max_workers + extra, where `extra` is no more than there are stuck
workers, and no more than `extra_workers` but for one of each starving shape; where all that there is are stuck workers,
a starving shape gets one; pending <= launch_batch_size, but for one of each starving shape; submissions in a minute <=
max_submits_per_minute; nothing is launched while the ledger is stale or the pool is paused.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.jobs import JobView, Phase
from dfm.core.pool.standing import Demand
from dfm.core.wire.messages import Shape


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan depends on.

    Attributes:
        demand: from `Reactor.demand`.
        jobs: those of the ledger that have not ended, from `Ledger.jobs`.
        idle: slots of workers without work, the longest idle first.
        stuck: slots of workers all of whose tasks wait for answers.
        draining: slots of workers that were asked to leave.
        missed: slots of workers whose link is broken; they may come back, with what they run.
        is_fresh: the ledger's answers are young enough and none is ambiguous.
        submits_left: how many submissions the limiters allow now, 0 while the pool is paused.
        ramp: by shape, most workers that may be on their way; a shape that is not in it has the full batch.
        quiet_since: by shape, since when no task has waited; absent where one does.
        default: the shape of the workers that are kept for `min_workers`.
    """

    demand: Mapping[Shape, Demand]
    jobs: Sequence[JobView]
    idle: Sequence[str] = ()
    stuck: Collection[str] = ()
    draining: Collection[str] = ()
    missed: Collection[str] = ()
    is_fresh: bool = True
    submits_left: int = 0
    ramp: Mapping[Shape, int]
    quiet_since: Mapping[Shape, float]
    default: Shape


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Submit that many jobs for workers of this shape: a LaunchWanted for the ledger."""

    shape: Shape
    count: int


class Withdraw(msgspec.Struct, frozen=True):
    """Cancel jobs that nobody waits for any more and that no worker has connected from: a CancelWanted."""

    slots: tuple[str, ...]


class Release(msgspec.Struct, frozen=True):
    """Ask a worker to finish and leave, so that another shape can have its place: a DrainWorker for the reactor."""

    slot: str


ScaleAction = Launch | Withdraw | Release


_QUIET_SECONDS = 60.0
"""So long nothing must have waited before jobs that are on their way are cancelled."""


def plan(view: PoolView, settings: PoolSettings, now: float) -> list[ScaleAction]:
    """Return what brings the pool nearer to what its tasks ask for. Empty means all is as it should be."""
    counts = _count(view)
    actions: list[ScaleAction] = list(_withdraw(view, counts, settings, now))
    if not view.is_fresh:
        return actions
    wanted = {shape: need for shape in view.demand if (need := _need(view, counts, settings, shape)) > 0}
    launches = _share_out(view, counts, settings, wanted)
    actions += [Launch(shape=shape, count=count) for shape, count in launches.items() if count]
    starving = [shape for shape in wanted if not launches[shape] and _is_starving(view, counts, shape)]
    return actions or _make_room(view, counts, settings, starving, now) or _give_way(view, counts, settings, now)


class _Counts(msgspec.Struct):
    """Jobs that count: all of the ledger, and by shape those on their way that are wanted."""

    total: int
    stuck: int
    coming: dict[Shape, list[JobView]]
    live: dict[Shape, list[JobView]]

    @property
    def lasting(self) -> int:
        """How many there are, here or on their way, that were not told to stop."""
        return sum(map(len, self.live.values())) + sum(map(len, self.coming.values()))


def _count(view: PoolView) -> _Counts:
    counts = _Counts(len(view.jobs), sum(job.slot in view.stuck for job in view.jobs), {}, {})
    for job in view.jobs:
        if job.is_stopping:
            continue
        if job.is_connected:
            counts.live.setdefault(job.shape, []).append(job)
        elif job.phase is not Phase.SUSPENDED:
            counts.coming.setdefault(job.shape, []).append(job)
    return counts


def _is_starving(view: PoolView, counts: _Counts, shape: Shape) -> bool:
    demand = view.demand.get(shape)
    return demand is not None and demand.waiting > 0 and not demand.workers and not counts.coming.get(shape)


def _withdraw(view: PoolView, counts: _Counts, settings: PoolSettings, now: float) -> list[Withdraw]:
    """Cancel what is on its way for shapes that nothing has waited for, newest first, down to `min_workers`."""
    quiet_seconds = _QUIET_SECONDS * settings.time_scale
    surplus = [
        job
        for shape, jobs in counts.coming.items()
        for job in jobs
        if (shape not in view.demand or _is_quiet(view, shape, now, quiet_seconds)) and job.slot not in view.missed
    ]
    surplus.sort(key=lambda job: job.started_at, reverse=True)
    surplus = [job for job in surplus if now - job.started_at >= quiet_seconds]
    chosen = surplus[: max(counts.lasting - settings.min_workers, 0)]
    return [Withdraw(tuple(job.slot for job in chosen))] if chosen else []


def _is_quiet(view: PoolView, shape: Shape, now: float, quiet_seconds: float) -> bool:
    since = view.quiet_since.get(shape)
    return since is not None and now - since >= quiet_seconds


def _need(view: PoolView, counts: _Counts, settings: PoolSettings, shape: Shape) -> int:
    """Return how many more workers the waiting tasks of a shape could use. None that waits fits a free worker."""
    coming = sum(job.slots for job in counts.coming.get(shape, ()))
    return -(-(view.demand[shape].waiting - coming) // settings.worker_slots)


def _share_out(view: PoolView, counts: _Counts, settings: PoolSettings, wanted: dict[Shape, int]) -> dict[Shape, int]:
    """Share the room out, one worker a turn to the shape that has the fewest."""
    missing = settings.min_workers - counts.lasting - sum(wanted.values())
    if missing > 0:
        wanted[view.default] = wanted.get(view.default, 0) + missing
    pending = sum(1 for job in view.jobs if not job.is_connected)
    launches = dict.fromkeys(wanted, 0)
    while sum(launches.values()) < view.submits_left:
        open_shapes = [shape for shape in wanted if _may_launch(view, counts, shape, launches, wanted)]
        if pending + sum(launches.values()) >= settings.launch_batch_size:
            open_shapes = [shape for shape in open_shapes if not launches[shape] and _is_starving(view, counts, shape)]
        beyond = counts.total + sum(launches.values()) - settings.max_workers
        if beyond >= counts.stuck:
            break
        if beyond >= 0:
            open_shapes = [s for s in open_shapes if _may_go_beyond(view, counts, settings, s, launches[s], beyond)]
        if not open_shapes:
            break
        poorest = min(open_shapes, key=lambda shape: _workers(counts, shape) + launches[shape])
        launches[poorest] += 1
    return launches


def _may_launch(
    view: PoolView, counts: _Counts, shape: Shape, launches: dict[Shape, int], wanted: dict[Shape, int]
) -> bool:
    on_their_way = len(counts.coming.get(shape, ())) + launches[shape]
    ramp = view.ramp.get(shape)
    return launches[shape] < wanted[shape] and (ramp is None or on_their_way < ramp)


def _may_go_beyond(
    view: PoolView, counts: _Counts, settings: PoolSettings, shape: Shape, launches: int, beyond: int
) -> bool:
    """Return whether a shape may have one more worker though the pool is full, beside those it is to launch anyway."""
    if not launches and _is_starving(view, counts, shape):
        return True
    at_work = sum(job.slot not in view.stuck for job in counts.live.get(shape, ())) + len(counts.coming.get(shape, ()))
    extra = _extra_workers(settings)
    return beyond < extra and at_work + launches < extra and _waiting(view, shape) > 0


def _extra_workers(settings: PoolSettings) -> int:
    return settings.max_workers // 4 if settings.extra_workers is None else settings.extra_workers


def _workers(counts: _Counts, shape: Shape) -> int:
    return len(counts.live.get(shape, ())) + len(counts.coming.get(shape, ()))


def _make_room(
    view: PoolView, counts: _Counts, settings: PoolSettings, starving: list[Shape], now: float
) -> list[ScaleAction]:
    """Have a worker leave a full pool for a shape that none will serve: one without work, else a busy one.

    A worker with work finishes it first. So that two shapes do not take turns at every task, the starving one must
    have waited for a while before a busy worker is asked to go.
    """
    starving = [shape for shape in starving if view.ramp.get(shape, 1) > 0]
    if not starving or counts.total < settings.max_workers or any(_is_leaving(view, job) for job in view.jobs):
        return []
    live = _live(view, counts)
    if idle := _idle(view, live):
        return [Release(idle[0])]
    unwanted = [job for shape, jobs in counts.coming.items() if not _waiting(view, shape) for job in jobs]
    if unwanted := [job for job in unwanted if job.slot not in view.missed]:
        return [Withdraw((unwanted[-1].slot,))]
    waits = [since for shape in starving if (since := view.demand[shape].waiting_since) is not None]
    if not live or now - min(waits, default=now) < _QUIET_SECONDS * settings.time_scale:
        return []
    return [Release(max(live, key=lambda job: len(counts.live[job.shape])).slot)]


def _give_way(view: PoolView, counts: _Counts, settings: PoolSettings, now: float) -> list[ScaleAction]:
    """Have an idle worker leave, for its room, where jobs of a shape that none will serve have waited for a while."""
    if counts.lasting <= settings.min_workers or any(_is_leaving(view, job) for job in view.jobs):
        return []
    before = now - _QUIET_SECONDS * settings.time_scale
    is_kept_out = any(
        _waiting(view, shape) and not view.demand[shape].workers and all(job.started_at <= before for job in jobs)
        for shape, jobs in counts.coming.items()
    )
    return [Release(slot) for slot in _idle(view, _live(view, counts))[:1] if is_kept_out]


def _live(view: PoolView, counts: _Counts) -> list[JobView]:
    """Return the jobs whose workers are here and do not only wait."""
    return [job for jobs in counts.live.values() for job in jobs if job.slot not in view.stuck]


def _idle(view: PoolView, live: Sequence[JobView]) -> list[str]:
    """Return the slots of those without work, the longest idle first."""
    slots = {job.slot for job in live}
    return [slot for slot in view.idle if slot in slots]


def _is_leaving(view: PoolView, job: JobView) -> bool:
    """Return whether a worker makes room by itself before long."""
    return job.is_stopping or (job.slot in view.draining and job.slot not in view.stuck)


def _waiting(view: PoolView, shape: Shape) -> int:
    demand = view.demand.get(shape)
    return 0 if demand is None else demand.waiting
