"""How long the reactor waits, and how often it tries: its settings, as they follow from those of the pool."""

from collections.abc import Callable

import msgspec

from dfm.core.config.settings import PoolSettings


def _name_of_slot(slot: str) -> str:
    return slot


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
