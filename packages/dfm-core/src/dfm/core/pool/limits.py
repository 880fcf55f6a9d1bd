"""How long reactor and ledger wait, and how often they try: what the settings of the pool mean for each."""

from collections.abc import Callable

import msgspec

from dfm.core.config.settings import PoolSettings
from dfm.core.wire.messages import Shape


def _name_of_slot(slot: str) -> str:
    return slot


_TASKS_OF_A_LIFE = 4
_SHORTEST_LIFE_SECONDS, _LONGEST_LIFE_SECONDS = 1800.0, 4 * 3600.0


def job_wall_seconds(shape: Shape, settings: PoolSettings, *, is_short: bool = False) -> float | None:
    """Return the limit to ask for a worker job of this shape; None leaves it to the queue.

    A worker takes a task only where all of the task's wall time is left to it: with time for one it would be of no use
    after its first minutes. So it has time for several, within bounds that most queues have. The least is what one task
    needs and the margin twice, once because a worker takes nothing that may reach into it, once until the first task.

    Args:
        shape: with the wall time of a task.
        settings: of the pool; its `walltime` is meant for all workers that tasks leave the choice.
        is_short: the batch system takes no longer jobs than one task needs.
    """
    if shape.wall_seconds is None:
        return settings.walltime
    least = shape.wall_seconds + 2 * settings.walltime_margin
    if is_short:
        return least
    usual = _TASKS_OF_A_LIFE * shape.wall_seconds + 2 * settings.walltime_margin
    return max(least, settings.walltime or min(max(usual, _SHORTEST_LIFE_SECONDS), _LONGEST_LIFE_SECONDS))


def _may_be_shorter(shape: Shape, settings: PoolSettings) -> bool:
    return job_wall_seconds(shape, settings) != job_wall_seconds(shape, settings, is_short=True)


def _never(shape: Shape) -> bool:  # noqa: ARG001  (a predicate)
    return False


class ReactorSettings(msgspec.Struct, frozen=True, kw_only=True):
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
        scale = settings.time_scale
        return cls(
            lease_seconds=settings.lease_timeout * scale,
            client_grace_seconds=settings.client_grace * scale,
            walltime_margin_seconds=settings.walltime_margin * scale,
            stop_seconds=(settings.kill_grace + settings.lease_timeout) * scale,
            check_seconds=10.0 * scale,
            max_losses=settings.max_losses,
            job_wall_seconds=None if settings.walltime is None else settings.walltime * scale,
            host_failures=3 if has_many_hosts else None,
            host_window_seconds=600.0 * scale,
            host_suspicion_seconds=1800.0 * scale,
            host_rest_seconds=5.0 * scale,
            log_of=log_of,
        )


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of the ledger, in seconds, scaled already; `scale` is the factor for those that are not settings.

    Attributes:
        leave_seconds: a job that is still listed this long after its worker has left is cancelled.
        young_seconds: a worker that ended before this age has failed; one that got older has done well.
        may_be_shorter: whether jobs of a shape are asked for with more time than one task needs.
    """

    poll_seconds: float = 15.0
    start_seconds: float = 120.0
    leave_seconds: float = 30.0
    lost_grace_seconds: float = 120.0
    unknown_seconds: float = 1800.0
    young_seconds: float = 60.0
    exclusion_seconds: float = 1800.0
    launch_batch: int = 4
    max_submits_per_minute: int = 30
    may_be_shorter: Callable[[Shape], bool] = _never
    scale: float = 1.0

    @classmethod
    def of(cls, settings: PoolSettings) -> "LedgerSettings":
        """Return what the settings of the pool mean for the ledger."""
        scale = settings.time_scale
        return cls(
            poll_seconds=settings.poll_interval * scale,
            start_seconds=settings.start_timeout * scale,
            leave_seconds=settings.drain_grace * scale,
            lost_grace_seconds=120.0 * scale,
            unknown_seconds=1800.0 * scale,
            young_seconds=60.0 * scale,
            exclusion_seconds=1800.0 * scale,
            launch_batch=settings.launch_batch_size,
            max_submits_per_minute=settings.max_submits_per_minute,
            may_be_shorter=lambda shape: _may_be_shorter(shape, settings),
            scale=scale,
        )
