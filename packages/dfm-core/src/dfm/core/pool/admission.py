"""Whether jobs may be submitted, how many, and on which hosts.

Owns what went wrong in a row: refusals of the batch system, which hold up all, and workers that never came or died
young, which hold up their shape and have their host avoided. A worker is judged once, for good. The delays are those
of `breaker`.
"""

from collections import deque
from collections.abc import Mapping

from dfm.core.pool.breaker import MOST_REFUSALS, MOST_YOUNG_DEATHS, Breaker, back_off_seconds
from dfm.core.pool.events import ShapeRefused
from dfm.core.pool.jobs import Announce, LedgerAction, PausePool, Tell
from dfm.core.pool.jobtable import LONG_AGO, Job, JobTable
from dfm.core.pool.limits import LedgerSettings
from dfm.core.wire.messages import Shape

_FIRST_RAMP = 4
_HOST_DEATHS = 2
_MOST_PAUSES = 1
"""After so many pauses for workers that died young, the next failure ends the tasks that wait for them."""
_MOST_EXCLUDED = 10


class Admission:
    """What lets jobs be submitted, and what holds them up."""

    def __init__(self, settings: LedgerSettings, table: JobTable) -> None:
        self._settings = settings
        self._table = table
        self._submits: deque[float] = deque()
        self._submit_at = LONG_AGO
        self._refusals = Breaker(MOST_REFUSALS, settings.scale)
        self._deaths: dict[Shape, Breaker] = {}
        self._ramps: dict[Shape, int] = {}
        self._host_deaths: dict[str, list[float]] = {}
        self._excluded: dict[str, tuple[float, str]] = {}
        self._trusts_until = LONG_AGO

    # Submissions.

    def submit(self, shape: Shape, now: float) -> None:
        """Count a submission; after a pause it is the trial."""
        self._submits.append(now)
        self._refusals.try_one()
        self._deaths_of(shape).try_one()

    def accept(self) -> None:
        """The batch system took a job, or has one whose submission was not answered."""
        self._refusals.succeed()
        self._submit_at = LONG_AGO

    def refuse_shape(self) -> None:
        """The batch system will never take a job of some shape, which says nothing of others."""
        self._refusals.cancel_trial()

    def back_off(self, text: str, now: float, actions: list[LedgerAction]) -> None:
        """Count a submission that failed, and wait before the next one."""
        if self._refusals.fail(now, text):
            actions.append(PausePool(_pause_text(self._refusals, "the batch system takes no jobs", now)))
        self._submit_at = now + back_off_seconds(max(self._refusals.in_a_row, 1)) * self._settings.scale

    def submits_left(self, now: float) -> int:
        """Return how many jobs may be submitted now: 0 while paused or backing off, 1 for a trial after a pause."""
        minute = 60.0 * self._settings.scale
        while self._submits and self._submits[0] <= now - minute:
            self._submits.popleft()
        if now < self._submit_at:
            return 0
        left = max(self._settings.max_submits_per_minute - len(self._submits), 0)
        allowed = self._refusals.allows(now)
        return left if allowed is None else min(left, allowed)

    def ramp(self, now: float) -> Mapping[Shape, int]:
        """Return, by shape, how many workers may be on their way at once.

        Few after an early death, twice as many after each that connects; none while the shape is paused.
        """
        ramps = {shape: min(ramp, self._settings.launch_batch) for shape, ramp in self._ramps.items()}
        for shape, breaker in self._deaths.items():
            allowed = breaker.allows(now)
            first = min(_FIRST_RAMP, self._settings.launch_batch)
            ramps[shape] = ramps.get(shape, first) if allowed is None else allowed
        return ramps

    def pause_reason(self, now: float, shape: Shape | None = None) -> str:
        """Return what went wrong that holds submissions up; empty where nothing did."""
        if self._refusals.is_open:
            return _pause_text(self._refusals, "the batch system takes no jobs", now)
        if now < self._submit_at:
            wait = self._submit_at - now
            return f"the batch system refused a job; the next try is in {wait:.0f} s: {self._refusals.text}"
        for of, breaker in self._deaths.items():
            if breaker.is_open and shape in (None, of):
                return _pause_text(breaker, "workers do not come up", now)
        return ""

    def resume(self) -> None:
        """Forget all that went wrong: a person says so."""
        self._refusals.succeed()
        for breaker in self._deaths.values():
            breaker.succeed()
        self._submit_at = LONG_AGO
        self._excluded.clear()
        self._host_deaths.clear()

    # Workers.

    def widen_ramp(self, shape: Shape) -> None:
        """Let more workers of a shape be on their way: one has come."""
        ramp = self._ramps.get(shape, _FIRST_RAMP)
        self._ramps[shape] = min(max(2 * ramp, 1), self._settings.launch_batch)

    def has_done_well(self, job: Job, now: float) -> bool:
        """Return whether the worker of a job is past the age at which workers that cannot be used die."""
        return job.connected_at is not None and now - job.connected_at >= self._settings.young_seconds

    def count_success(self, job: Job) -> None:
        """Count a worker that did well, unless it is judged."""
        if not job.is_judged:
            job.is_judged = True
            self._deaths_of(job.shape).succeed()

    def count_death(
        self, job: Job, text: str, now: float, actions: list[LedgerAction], *, is_of_host: bool = True
    ) -> None:
        """Count a worker that never came, or died young, unless it is judged: against its shape, and its host.

        With `is_of_host` false it says nothing of the host: what the job asked for was too little.
        """
        if job.is_judged:
            return
        job.is_judged = True
        self._ramps[job.shape] = 1
        breaker = self._deaths_of(job.shape)
        if breaker.fail(now, f"{text} (worker {job.slot})"):
            actions.append(PausePool(_pause_text(breaker, "workers do not come up", now)))
            self._give_up_shape(job.shape, breaker, actions)
        if job.host and is_of_host:
            deaths = [at for at in self._host_deaths.get(job.host, []) if now - at < self._settings.exclusion_seconds]
            self._host_deaths[job.host] = [*deaths, now]
            if len(deaths) + 1 >= _HOST_DEATHS:
                died = f"{len(deaths) + 1} workers died young on it, the last one: {text}"
                self.exclude(job.host, died, now, actions)

    def cancel_trial(self, job: Job) -> None:
        """A job came to no end that tells anything of its worker: another may be tried."""
        self._deaths_of(job.shape).cancel_trial()

    def _give_up_shape(self, shape: Shape, breaker: Breaker, actions: list[LedgerAction]) -> None:
        """End what waits for workers that do not come up even after a pause; one that is there may yet do it."""
        if breaker.pauses > _MOST_PAUSES and not any(
            job.is_connected for job in self._table.by_name.values() if job.shape == shape
        ):
            text = f"workers do not come up, {breaker.in_a_row} times in a row. The last: {breaker.text}"
            actions.append(Announce(ShapeRefused(shape, text)))

    def _deaths_of(self, shape: Shape) -> Breaker:
        breaker = self._deaths.get(shape)
        if breaker is None:
            breaker = self._deaths[shape] = Breaker(MOST_YOUNG_DEATHS, self._settings.scale)
        return breaker

    # Hosts.

    def exclude(self, host: str, text: str, now: float, actions: list[LedgerAction]) -> None:
        """Have no jobs sent to a host for a while, unless too many are avoided."""
        current = self.excluded_hosts(now)
        if host in current or len(current) >= _MOST_EXCLUDED or now < self._trusts_until:
            return
        self._excluded[host] = (now + self._settings.exclusion_seconds, text)
        actions.append(Tell(f"host {host} gets no workers for a while: {text}"))

    def trust_hosts(self, now: float) -> None:
        """Avoid no host for a while: jobs do not start elsewhere."""
        self._excluded.clear()
        self._trusts_until = now + self._settings.exclusion_seconds

    def excluded_hosts(self, now: float) -> dict[str, str]:
        """Return the hosts that are avoided for now, and why."""
        self._excluded = {host: entry for host, entry in self._excluded.items() if now < entry[0]}
        return {host: text for host, (_, text) in self._excluded.items()}


def _pause_text(breaker: Breaker, what: str, now: float) -> str:
    wait = max(breaker.until - now, 0.0)
    return (
        f"{what}, {breaker.in_a_row} times in a row; the next try is in {wait:.0f} s "
        f"(`dfm daemon resume` tries at once). The last: {breaker.text}"
    )
