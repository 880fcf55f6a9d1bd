"""The batch jobs of the pool: each by a name that is unique for ever, journalled before it is submitted.

What the scheduler says is a hint. Rules that hold after every event:
1. a job is in the journal before its submission is asked for; what is submitted is therefore always known by name;
2. absence is `unknown`; unknown becomes `lost` only when no worker is connected, three good answers in a row did not
   list it, and a grace has passed. An answer that failed changes nothing;
3. while the last good answer is old, or the answer of a submission is open, no job is launched;
4. an ambiguous submission is looked up by its name before another is made under another name;
5. only jobs of the ledger are ever cancelled, by the id that belongs to the name.

Journal entries are of the kinds `job-intent`, `job`, `job-twin`, `job-abandoned` and `job-end`.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from dfm.api.batch import (
    CancelState,
    EndCause,
    FailureKind,
    JobKey,
    JobState,
    JobStatus,
    QueryFailed,
    SubmitFailed,
    Submitted,
)
from dfm.core.config.settings import PoolSettings
from dfm.core.pool.breaker import MOST_REFUSALS, MOST_YOUNG_DEATHS, Breaker, back_off_seconds
from dfm.core.pool.events import (
    JournalEntry,
    Loss,
    LossKind,
    Record,
    ShapeRefused,
    WorkerLost,
    WorkerResumed,
    WorkerSuspended,
)
from dfm.core.pool.jobs import (
    Announce,
    AskHistory,
    CancelAllWanted,
    CancelAnswered,
    CancelJobs,
    CancelWanted,
    Clock,
    HistoryAnswered,
    HostExcluded,
    JobView,
    LaunchWanted,
    LedgerAction,
    LedgerEvent,
    LookUpAnswered,
    LookUpJob,
    PausePool,
    Phase,
    QueryAnswered,
    QueryJobs,
    ResumeWanted,
    SubmitAnswered,
    SubmitJob,
    Tell,
    WorkerConnected,
    WorkerParted,
    WorkersSilent,
    WorkerUnfit,
    WorkerWorked,
)
from dfm.core.wire.messages import Shape

_LOOK_UP_SECONDS = (5.0, 10.0, 15.0)
"""Waits before the look-ups of an ambiguous submission; after as many misses it is given up."""
_SOON_SECONDS = 2.0
"""When to look the first time at jobs whose workers have not come, and a second time at one that looks hopeless."""
_STOPPING_SECONDS = 50.0
"""So long a batch system may take to end a job (LSF: INT, 10 s, TERM, 10 s, KILL) before it is told again."""
_JITTER = 0.1
"""Part of an interval by which it is made longer at most, so that daemons that began together do not ask together."""
_STEADY_ANSWERS = 10
"""After so many answers in which nothing but what is connected was listed, it is asked more seldom still."""
_FIRST_RAMP = 4
_HOPELESS_ANSWERS = 2
_MISSING_ANSWERS = 3
_HOST_DEATHS = 2
_MOST_PAUSES = 1
"""After so many pauses for workers that died young, the next failure ends the tasks that wait for them."""
_MOST_EXCLUDED = 10
_NEVER = float("inf")
_LONG_AGO = float("-inf")
_LISTED_PHASES = frozenset({Phase.PENDING, Phase.HELD, Phase.RUNNING, Phase.SUSPENDED, Phase.UNKNOWN})
_PHASES = {
    JobState.PENDING: Phase.PENDING,
    JobState.HELD: Phase.HELD,
    JobState.RUNNING: Phase.RUNNING,
    JobState.SUSPENDED: Phase.SUSPENDED,
    JobState.UNKNOWN: Phase.UNKNOWN,
}
_LOSSES = {
    EndCause.DONE: LossKind.LEFT,
    EndCause.FAILED: LossKind.UNEXPLAINED,
    EndCause.WALLTIME: LossKind.WALLTIME,
    EndCause.MEMORY: LossKind.MEMORY,
    EndCause.PREEMPTED: LossKind.PREEMPTED,
    EndCause.KILLED_BY_OWNER: LossKind.KILLED,
    EndCause.KILLED_BY_ADMIN: LossKind.KILLED,
    EndCause.LAUNCH: LossKind.HOST,
    EndCause.NODE: LossKind.HOST,
    EndCause.LOST: LossKind.UNEXPLAINED,
}
_GUILTLESS = frozenset({EndCause.PREEMPTED, EndCause.KILLED_BY_OWNER, EndCause.KILLED_BY_ADMIN})
"""Ends that say nothing of whether the next worker would do well."""


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of the ledger, in seconds, scaled already; `scale` is the factor for those that are not settings.

    Attributes:
        leave_seconds: a job that is still listed this long after its worker has left is cancelled.
        young_seconds: a worker that ended before this age has failed; one that got older has done well.
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
            scale=scale,
        )


class _Job(msgspec.Struct, eq=False):
    name: str
    slot: str
    shape: Shape
    slots: int
    clock: float
    phase: Phase
    since: float
    launched_at: float
    excluded: tuple[str, ...] = ()
    id: str | None = None
    cluster: str | None = None
    reason: str = ""
    host: str = ""
    seen_at: float = _LONG_AGO
    running_since: float | None = None
    suspended_at: float | None = None
    """When it was last listed as suspended, while the reactor takes its worker for such."""
    missing: int = 0
    hopeless: int = 0
    misses: int = 0
    look_up_at: float = _NEVER
    is_connected: bool = False
    connected_at: float | None = None
    parted_at: float = _LONG_AGO
    given_up_at: float | None = None
    has_left: bool = False
    is_judged: bool = False
    is_unwanted: bool = False
    is_cancelling: bool = False
    cancel_at: float = _NEVER
    cancels: int = 0
    twins: set[str] = set()

    @property
    def key(self) -> JobKey:
        return JobKey(name=self.name, id=self.id, cluster=self.cluster, submitted_at=self.clock)


class Ledger:
    """The jobs, and what is known of them.

    `instance` is of the project, 8 characters or so; the names of all its jobs begin with `dfm-<instance>-`.
    """

    def __init__(self, settings: LedgerSettings, instance: str, epoch: int) -> None:
        self._settings = settings
        self._instance = instance
        self._epoch = epoch
        self._count = 0
        self._jobs: dict[str, _Job] = {}
        self._slots: dict[str, _Job] = {}
        self._submits: deque[float] = deque()
        self._refusals = Breaker(MOST_REFUSALS, settings.scale)
        self._deaths: dict[Shape, Breaker] = {}
        self._ramps: dict[Shape, int] = {}
        self._submit_at = _LONG_AGO
        self._is_polling = False
        self._polled_at = _LONG_AGO
        self._poll_at = _LONG_AGO
        self._routine_at = _LONG_AGO
        self._answered_at = _LONG_AGO
        self._steady_answers = 0
        self._host_deaths: dict[str, list[float]] = {}
        self._excluded: dict[str, tuple[float, str]] = {}
        self._trusts_until = _LONG_AGO
        self._strays: set[str] = set()
        self._closing = ""

    def handle(self, event: LedgerEvent, now: float) -> list[LedgerAction]:
        """Take in one event; return what must be done, in order.

        What follows a Record in the list may be done only once the record is in the journal. With most events all jobs
        are looked at, but not with those that come from each of many workers.
        """
        actions: list[LedgerAction] = []
        match event:
            case LaunchWanted():
                self._on_launch(event, now, actions)
            case SubmitAnswered():
                self._on_submit_answer(event, now, actions)
            case LookUpAnswered():
                self._on_look_up(event, now, actions)
            case QueryAnswered():
                self._on_query(event, now, actions)
            case HistoryAnswered():
                self._on_history(event, now, actions)
            case CancelAnswered():
                self._on_cancel_answer(event, now, actions)
            case WorkerConnected():
                self._on_connected(event, now, actions)
                return actions
            case WorkerParted():
                self._on_parted(event, now, actions)
            case WorkersSilent():
                self._ask_soon()
            case WorkerUnfit():
                self._on_unfit(event, now, actions)
            case WorkerWorked():
                self._on_worked(event)
                return actions
            case CancelWanted():
                self._cancel([job for slot in event.slots if (job := self._slots.get(slot))], event.why, actions)
            case CancelAllWanted():
                self._closing = event.why
                waiting = [job for job in self._jobs.values() if event.is_urgent or not job.is_connected]
                self._cancel(waiting, event.why, actions)
            case HostExcluded():
                self._exclude(event.host, event.text, now, actions)
            case ResumeWanted():
                self._on_resume()
            case Clock():
                pass
        self._look_at_clock(now, actions)
        return actions

    # Submissions.

    def _on_launch(self, event: LaunchWanted, now: float, actions: list[LedgerAction]) -> None:
        left = min(event.count, self.submits_left(now))
        while left > 0:
            together = min(left, event.array_size)
            left -= together
            self._count += 1
            slot = f"s-{self._epoch}-{self._count}"
            self._submits.append(now)
            self._refusals.try_one()
            self._deaths_of(event.shape).try_one()
            for element in [slot] if together == 1 else [f"{slot}.{index + 1}" for index in range(together)]:
                self._launch(element, event, now, actions)

    def _launch(self, slot: str, event: LaunchWanted, now: float, actions: list[LedgerAction]) -> None:
        name = job_name(self._instance, slot)
        excluded = tuple(sorted(self.excluded_hosts(now)))
        job = _Job(name, slot, event.shape, event.slots, event.clock, Phase.INTENT, now, now, excluded)
        if not self._outstanding():
            self._answered_at = now
            self._poll_at = now + self._soon()
            self._routine_at = now + self._settings.poll_seconds
        self._jobs[name] = self._slots[slot] = job
        self._steady_answers = 0
        actions.append(Record(_intent(job)))
        actions.append(SubmitJob(name=name, slot=slot, shape=event.shape, slots=event.slots, excluded_hosts=excluded))

    def _on_submit_answer(self, event: SubmitAnswered, now: float, actions: list[LedgerAction]) -> None:
        job = self._jobs.get(event.name)
        if job is None or job.phase is not Phase.INTENT:
            return
        match event.answer:
            case Submitted(id=job_id, cluster=cluster, warning=warning):
                self._refusals.succeed()
                self._submit_at = _LONG_AGO
                job.seen_at = now
                self._identify(job, job_id, cluster, now, actions)
                if warning:
                    actions.append(Tell(warning))
            case SubmitFailed(kind=kind, text=text):
                self._on_refusal(job, kind, text, now, actions, is_repeated=event.is_repeated)

    def _on_refusal(
        self, job: _Job, kind: FailureKind, text: str, now: float, actions: list[LedgerAction], *, is_repeated: bool
    ) -> None:
        match kind:
            case FailureKind.PERMANENT:
                self._refusals.cancel_trial()
                self._forget(job, None, text, actions)
                actions.append(Announce(ShapeRefused(job.shape, text)))
            case FailureKind.TRANSIENT:
                self._forget(job, None, text, actions)
                if not is_repeated:
                    self._back_off(text, now, actions)
            case FailureKind.AMBIGUOUS:
                self._move(job, Phase.AMBIGUOUS, text, now)
                job.look_up_at = now + _LOOK_UP_SECONDS[0] * self._settings.scale

    def _back_off(self, text: str, now: float, actions: list[LedgerAction]) -> None:
        if self._refusals.fail(now, text):
            actions.append(PausePool(self._pause_text(self._refusals, "the batch system takes no jobs", now)))
        self._submit_at = now + back_off_seconds(max(self._refusals.in_a_row, 1)) * self._settings.scale

    def _identify(self, job: _Job, job_id: str, cluster: str | None, now: float, actions: list[LedgerAction]) -> None:
        """Take note of a job's id; cancel it where it was unwanted before it had one."""
        job.id, job.cluster = job_id, cluster
        job.look_up_at = _NEVER
        actions.append(Record(_identified(job)))
        self._move(job, Phase.PENDING, "", now)
        if job.is_unwanted:
            self._cancel([job], job.reason, actions)

    def _on_look_up(self, event: LookUpAnswered, now: float, actions: list[LedgerAction]) -> None:
        job = self._jobs.get(event.name)
        if job is None or job.phase is not Phase.AMBIGUOUS:
            return
        if isinstance(event.answer, QueryFailed):
            job.look_up_at = now + _LOOK_UP_SECONDS[-1] * self._settings.scale
            return
        found = [status for status in event.answer.jobs if status.name in ("", job.name)]
        if found:
            self._refusals.succeed()
            for status in found:
                self._apply(job, status, now, actions)
            return
        job.misses += 1
        if job.misses < len(_LOOK_UP_SECONDS):
            job.look_up_at = now + _LOOK_UP_SECONDS[job.misses] * self._settings.scale
            return
        job.look_up_at = _NEVER
        actions.append(Record(_entry("job-abandoned", name=job.name)))
        self._deaths_of(job.shape).cancel_trial()
        if not event.is_repeated:
            self._back_off(f"a submission was not answered, and no job came of it: {job.reason}", now, actions)
        self._move(job, Phase.ABANDONED, "submitted without an answer, and not found", now)

    # What the scheduler says.

    def _on_query(self, event: QueryAnswered, now: float, actions: list[LedgerAction]) -> None:
        self._is_polling = False
        self._poll_at = max(now + 10 * event.seconds, self._polled_at + self._interval())
        if isinstance(event.answer, QueryFailed):
            return
        self._answered_at = now
        self._steady_answers = self._steady_answers + 1 if self._is_steady() else 0
        by_id = {job.id: job for job in self._jobs.values() if job.id is not None}
        for status in event.answer.jobs:
            job = self._jobs.get(status.name) if status.name else by_id.get(status.id)
            if job is not None:
                self._apply(job, status, now, actions)
            elif status.name.startswith(f"dfm-{self._instance}-") and status.state is not JobState.ENDED:
                self._tell_of_stray(status, actions)
        for key in event.answer.missing:
            job = self._jobs.get(key.name)
            if job is not None and job.id == key.id and job.phase in _LISTED_PHASES:
                self._miss(job, now, actions)
        if any(job.hopeless and not job.is_unwanted for job in self._jobs.values()):
            self._poll_at = min(self._poll_at, now + max(10 * event.seconds, self._soon()))

    def _tell_of_stray(self, status: JobStatus, actions: list[LedgerAction]) -> None:
        if status.name not in self._strays:
            self._strays.add(status.name)
            actions.append(Tell(f"job {status.id} ({status.name}) is of this project and not in the ledger"))

    def _apply(self, job: _Job, status: JobStatus, now: float, actions: list[LedgerAction]) -> None:
        if job.id is None:
            if job.phase is Phase.INTENT or (job.phase is Phase.ABANDONED and status.state is JobState.ENDED):
                return
            self._identify(job, status.id, status.cluster, now, actions)
        elif job.id != status.id:
            self._on_twin(job, status, actions)
            return
        job.missing = 0
        job.seen_at = now
        job.host = status.host or job.host
        if status.warning:
            actions.append(Tell(status.warning))
        if status.state is JobState.ENDED and not status.is_requeued:
            self._end(job, status.cause or EndCause.FAILED, status.reason, now, actions)
            return
        phase = _PHASES.get(status.state, Phase.PENDING)
        self._announce_suspension(job, phase, now, actions)
        if phase is Phase.RUNNING:
            job.running_since = now if job.running_since is None else job.running_since
        elif phase in (Phase.PENDING, Phase.HELD):
            job.running_since = None
        self._move(job, phase, status.reason, now)
        self._judge_pending(job, status, now, actions)
        if job.has_left and not job.is_unwanted and now - job.parted_at >= self._settings.leave_seconds:
            self._cancel([job], "its worker has left, and it goes on", actions)

    def _announce_suspension(self, job: _Job, phase: Phase, now: float, actions: list[LedgerAction]) -> None:
        if phase is Phase.SUSPENDED:
            if job.suspended_at is None:
                actions.append(Announce(WorkerSuspended(job.slot)))
            job.suspended_at = now
        elif phase is not Phase.UNKNOWN or self._is_long_unlisted(job, now):
            self._end_suspension(job, actions)

    def _is_long_unlisted(self, job: _Job, now: float) -> bool:
        """Return whether a job that was suspended has not been listed as such for so long that it may be gone."""
        return job.suspended_at is not None and now - job.suspended_at >= self._settings.lost_grace_seconds

    def _end_suspension(self, job: _Job, actions: list[LedgerAction]) -> None:
        """Let the silence of a worker count again."""
        if job.suspended_at is not None:
            job.suspended_at = None
            actions.append(Announce(WorkerResumed(job.slot)))

    def _judge_pending(self, job: _Job, status: JobStatus, now: float, actions: list[LedgerAction]) -> None:
        is_barred = status.state is JobState.PENDING and self._is_barred(job, status, now)
        job.hopeless = job.hopeless + 1 if status.is_hopeless or is_barred else 0
        if job.hopeless < _HOPELESS_ANSWERS or job.is_unwanted:
            return
        text = f"the batch system will never start job {job.id}: {status.reason}"
        if job.excluded:
            self._excluded.clear()
            self._trusts_until = now + self._settings.exclusion_seconds
            actions.append(Tell(f"{text}; hosts that were avoided are tried again"))
        else:
            actions.append(Announce(ShapeRefused(job.shape, text)))
        self._cancel([job], text, actions)

    def _is_barred(self, job: _Job, status: JobStatus, now: float) -> bool:
        """Return whether a job waits for the hosts that it was told to avoid: it cannot be told otherwise any more."""
        return bool(job.excluded) and (status.has_no_host or not self.excluded_hosts(now).keys() & set(job.excluded))

    def _on_twin(self, job: _Job, status: JobStatus, actions: list[LedgerAction]) -> None:
        """End a job that the scheduler made twice of one submission."""
        if status.state is JobState.ENDED:
            job.twins.discard(status.id)
            return
        if status.id not in job.twins:
            job.twins.add(status.id)
            actions.append(Record(_entry("job-twin", name=job.name, id=status.id)))
            actions.append(Tell(f"job {status.id} is a second one of the same submission as {job.id}: cancelled"))
        actions.append(CancelJobs((JobKey(name=job.name, id=status.id, cluster=job.cluster, submitted_at=job.clock),)))

    def _miss(self, job: _Job, now: float, actions: list[LedgerAction]) -> None:
        """Take note that a good answer did not list a job. That is no end."""
        job.missing += 1
        if job.missing >= _MISSING_ANSWERS and self._is_long_unlisted(job, now):
            self._end_suspension(job, actions)
        if job.is_connected:
            return
        if job.has_left and job.missing >= _MISSING_ANSWERS:
            self._end_unlisted(job, EndCause.DONE, "its worker left", now, actions)
            return
        if job.phase is not Phase.UNKNOWN:
            self._move(job, Phase.UNKNOWN, "the batch system does not list it", now)
        known_at = max(job.seen_at, job.launched_at, job.parted_at)
        if job.missing >= _MISSING_ANSWERS and now - known_at >= self._settings.lost_grace_seconds:
            self._end_unlisted(job, EndCause.LOST, f"not listed in {job.missing} answers", now, actions)
        else:
            actions.append(AskHistory(job.key))

    def _end_unlisted(self, job: _Job, cause: EndCause, text: str, now: float, actions: list[LedgerAction]) -> None:
        """Take a job for ended that is not listed any more; should it live all the same, it is to end."""
        actions.append(CancelJobs((job.key,)))
        self._end(job, cause, text, now, actions)

    def _on_history(self, event: HistoryAnswered, now: float, actions: list[LedgerAction]) -> None:
        job = self._jobs.get(event.name)
        status = event.status
        if job is None or status is None or job.is_connected or not job.missing or status.id != job.id:
            return
        if status.state is JobState.ENDED and not status.is_requeued:
            self._end(job, status.cause or EndCause.FAILED, status.reason, now, actions)

    # Ends.

    def _end(self, job: _Job, cause: EndCause, text: str, now: float, actions: list[LedgerAction]) -> None:
        is_guiltless = cause in _GUILTLESS or (cause is EndCause.DONE and job.connected_at is not None)
        if not (job.is_unwanted or is_guiltless or job.has_left or self._has_done_well(job, now)):
            self._count_death(
                job,
                f"job {job.id} ended, {cause.value}: {text}" if text else f"job {job.id} ended, {cause.value}",
                now,
                actions,
            )
        words = f"its job {job.id} ended: {text or cause.value}"
        if job.twins:
            self._go_on_as_twin(job, now, actions)
        else:
            self._forget(job, cause, text, actions)
        actions.append(Announce(WorkerLost(slot=job.slot, loss=Loss(_LOSSES[cause], words))))

    def _go_on_as_twin(self, job: _Job, now: float, actions: list[LedgerAction]) -> None:
        """Look after the other job of a submission that was taken twice, until that one has ended too."""
        job.id = min(job.twins)
        job.twins.discard(job.id)
        job.is_connected = job.is_cancelling = False
        job.missing = job.cancels = 0
        actions.append(Record(_identified(job)))
        self._move(job, Phase.PENDING, "", now)
        self._cancel([job], "it is a second one of the same submission", actions)

    def _forget(self, job: _Job, cause: EndCause | None, text: str, actions: list[LedgerAction]) -> None:
        del self._jobs[job.name]
        del self._slots[job.slot]
        if not job.is_judged:
            self._deaths_of(job.shape).cancel_trial()
        actions.append(Record(_entry("job-end", name=job.name, cause=cause.value if cause else "", text=text)))

    def _has_done_well(self, job: _Job, now: float) -> bool:
        return job.connected_at is not None and now - job.connected_at >= self._settings.young_seconds

    def _count_death(self, job: _Job, text: str, now: float, actions: list[LedgerAction]) -> None:
        """Count a worker that never came, or died young: against its shape, and against its host."""
        if job.is_judged:
            return
        job.is_judged = True
        self._ramps[job.shape] = 1
        breaker = self._deaths_of(job.shape)
        if breaker.fail(now, f"{text} (worker {job.slot})"):
            actions.append(PausePool(self._pause_text(breaker, "workers do not come up", now)))
            self._give_up_shape(job.shape, breaker, actions)
        if job.host:
            deaths = [at for at in self._host_deaths.get(job.host, []) if now - at < self._settings.exclusion_seconds]
            self._host_deaths[job.host] = [*deaths, now]
            if len(deaths) + 1 >= _HOST_DEATHS:
                self._exclude(
                    job.host, f"{len(deaths) + 1} workers died young on it, the last one: {text}", now, actions
                )

    def _give_up_shape(self, shape: Shape, breaker: Breaker, actions: list[LedgerAction]) -> None:
        """End what waits for workers that do not come up even after a pause; one that is there may yet do it."""
        if breaker.pauses > _MOST_PAUSES and not any(
            job.is_connected for job in self._jobs.values() if job.shape == shape
        ):
            text = f"workers do not come up, {breaker.in_a_row} times in a row. The last: {breaker.text}"
            actions.append(Announce(ShapeRefused(shape, text)))

    def _exclude(self, host: str, text: str, now: float, actions: list[LedgerAction]) -> None:
        current = self.excluded_hosts(now)
        if host in current or len(current) >= _MOST_EXCLUDED or now < self._trusts_until:
            return
        self._excluded[host] = (now + self._settings.exclusion_seconds, text)
        actions.append(Tell(f"host {host} gets no workers for a while: {text}"))

    def _pause_text(self, breaker: Breaker, what: str, now: float) -> str:
        wait = max(breaker.until - now, 0.0)
        return (
            f"{what}, {breaker.in_a_row} times in a row; the next try is in {wait:.0f} s "
            f"(`dfm daemon resume` tries at once). The last: {breaker.text}"
        )

    def _deaths_of(self, shape: Shape) -> Breaker:
        breaker = self._deaths.get(shape)
        if breaker is None:
            breaker = self._deaths[shape] = Breaker(MOST_YOUNG_DEATHS, self._settings.scale)
        return breaker

    # Cancelling.

    def _cancel(self, jobs: list[_Job], why: str, actions: list[LedgerAction]) -> None:
        """Have jobs ended. One whose id is not known yet is cancelled as soon as it is."""
        for job in jobs:
            if not job.is_unwanted:
                job.is_unwanted = True
                job.reason = why
        ready = [job for job in jobs if job.id is not None and not job.is_cancelling]
        for job in ready:
            job.is_cancelling = True
            job.cancel_at = _NEVER
        if ready:
            actions.append(CancelJobs(tuple(job.key for job in ready)))

    def _on_cancel_answer(self, event: CancelAnswered, now: float, actions: list[LedgerAction]) -> None:
        for key in event.jobs:
            job = self._jobs.get(key.name)
            if job is not None and job.id == key.id and key.id is not None:
                self._on_cancelled(job, event.states.get(key.id), now, actions)

    def _on_cancelled(self, job: _Job, state: CancelState | None, now: float, actions: list[LedgerAction]) -> None:
        job.is_cancelling = False
        job.cancels += 1
        wait = max(back_off_seconds(job.cancels), _STOPPING_SECONDS if state is CancelState.STOPPING else 0.0)
        job.cancel_at = now + wait * self._settings.scale
        if state is CancelState.GONE and (job.seen_at > job.launched_at or job.has_left) and not job.is_connected:
            self._end(job, EndCause.KILLED_BY_OWNER, job.reason, now, actions)

    # Workers.

    def _on_connected(self, event: WorkerConnected, now: float, actions: list[LedgerAction]) -> None:
        job = self._slots.get(event.slot)
        if job is None:
            return
        job.is_connected = True
        job.given_up_at = None
        job.has_left = False
        job.missing = 0
        job.host = event.host
        if job.connected_at is None:
            job.connected_at = now
            ramp = self._ramps.get(job.shape, _FIRST_RAMP)
            self._ramps[job.shape] = min(max(2 * ramp, 1), self._settings.launch_batch)
        if job.phase is Phase.ABANDONED:
            self._move(job, Phase.AMBIGUOUS, "its worker came", now)
            job.look_up_at = now
            job.misses = 0
        if event.job_id in job.twins:
            self._swap_twin(job, event.job_id, actions)
        if self._is_steady():
            self._poll_at = max(self._poll_at, self._routine_at)

    def _swap_twin(self, job: _Job, job_id: str, actions: list[LedgerAction]) -> None:
        """Take that one of two twins for the job whose worker came."""
        assert job.id is not None
        former, job.id = job.id, job_id
        job.twins.discard(job_id)
        job.twins.add(former)
        actions += [Record(_identified(job)), Record(_entry("job-twin", name=job.name, id=former))]

    def _on_parted(self, event: WorkerParted, now: float, actions: list[LedgerAction]) -> None:
        job = self._slots.get(event.slot)
        if job is None:
            return
        job.is_connected = False
        job.parted_at = now
        if event.is_final and not event.is_in_order:
            job.given_up_at = now
        if event.is_in_order:
            job.has_left = True
            self._do_well(job)
        if self._closing:
            self._cancel([job], self._closing, actions)
        self._ask_soon()

    def _ask_soon(self) -> None:
        self._poll_at = min(self._poll_at, self._polled_at + self._settings.poll_seconds)

    def _on_worked(self, event: WorkerWorked) -> None:
        job = self._slots.get(event.slot)
        if job is not None and not job.is_judged:
            self._do_well(job)

    def _do_well(self, job: _Job) -> None:
        if not job.is_judged:
            job.is_judged = True
            self._deaths_of(job.shape).succeed()

    def _on_unfit(self, event: WorkerUnfit, now: float, actions: list[LedgerAction]) -> None:
        job = self._slots.get(event.slot)
        if job is not None:
            job.host = event.host
            self._count_death(job, f"host {event.host} cannot be used: {event.text}", now, actions)
            self._cancel([job], event.text, actions)

    def _on_resume(self) -> None:
        self._refusals.succeed()
        for breaker in self._deaths.values():
            breaker.succeed()
        self._submit_at = _LONG_AGO
        self._excluded.clear()
        self._host_deaths.clear()

    # Time.

    def _look_at_clock(self, now: float, actions: list[LedgerAction]) -> None:
        for job in list(self._jobs.values()):
            self._look_at_job(job, now, actions)
        if self._is_polling or now < self._poll_at:
            return
        outstanding = self._outstanding()
        if outstanding:
            self._is_polling = True
            self._polled_at = now
            actions.append(QueryJobs(tuple(job.key for job in outstanding)))

    def _look_at_job(self, job: _Job, now: float, actions: list[LedgerAction]) -> None:
        if job.is_connected and not job.is_judged and self._has_done_well(job, now):
            self._do_well(job)
        if now >= job.look_up_at:
            job.look_up_at = _NEVER
            actions.append(LookUpJob(job.name))
        if now >= job.cancel_at:
            self._cancel([job], job.reason, actions)
        if now >= self._start_deadline(job):
            text = f"job {job.id} runs on {job.host or 'a host'}, but its worker did not connect in time"
            if job.connected_at is None:
                self._count_death(job, text, now, actions)
            self._cancel([job], text, actions)
        if now >= self._unknown_deadline(job):
            self._give_up(job, now, actions)

    def _start_deadline(self, job: _Job) -> float:
        """Return when a job that runs must have a worker again: it has none yet, or its worker was given up."""
        if job.phase is not Phase.RUNNING or job.is_connected or job.is_unwanted:
            return _NEVER
        since = job.running_since if job.connected_at is None else job.given_up_at
        return _NEVER if since is None else since + self._settings.start_seconds

    def _unknown_deadline(self, job: _Job) -> float:
        if job.phase not in (Phase.UNKNOWN, Phase.ABANDONED) or job.is_connected:
            return _NEVER
        return max(job.since, job.parted_at) + self._settings.unknown_seconds

    def _give_up(self, job: _Job, now: float, actions: list[LedgerAction]) -> None:
        if job.id is None:
            self._forget(job, None, job.reason, actions)
            return
        self._end_unlisted(job, EndCause.LOST, "the batch system has not known it for long", now, actions)

    def _interval(self) -> float:
        """Return the time to the next question: longer where nothing changes, and never the same for all daemons."""
        times = 1 if not self._is_steady() else 4 if self._steady_answers < _STEADY_ANSWERS else 12
        spread = zlib.crc32(f"{self._instance} {self._polled_at}".encode()) / (1 << 32)
        return self._settings.poll_seconds * times * (1 + _JITTER * spread)

    def _is_steady(self) -> bool:
        return all(job.is_connected and not job.is_unwanted for job in self._jobs.values())

    def _soon(self) -> float:
        return min(_SOON_SECONDS * self._settings.scale, self._settings.poll_seconds)

    def _outstanding(self) -> list[_Job]:
        return [job for job in self._jobs.values() if job.id is not None]

    def _move(self, job: _Job, phase: Phase, reason: str, now: float) -> None:
        if job.phase is not phase:
            job.phase = phase
            job.since = now
        if not job.is_unwanted:
            job.reason = reason

    def next_deadline(self, now: float) -> float | None:
        """Return when a `Clock` is due at the latest; None where nothing is outstanding."""
        deadlines = [self._deadline_of(job) for job in self._jobs.values()]
        if self._outstanding() and not self._is_polling:
            deadlines.append(self._poll_at)
        earliest = min(deadlines, default=_NEVER)
        return None if earliest == _NEVER else max(earliest, now)

    def _deadline_of(self, job: _Job) -> float:
        doing_well = _NEVER
        if job.is_connected and not job.is_judged and job.connected_at is not None:
            doing_well = job.connected_at + self._settings.young_seconds
        return min(doing_well, job.look_up_at, job.cancel_at, self._start_deadline(job), self._unknown_deadline(job))

    # What others see.

    def jobs(self) -> list[JobView]:
        """Return the jobs that have not ended and are not abandoned, in the order in which they were launched."""
        return [self._view(job) for job in self._jobs.values() if job.phase is not Phase.ABANDONED]

    def _view(self, job: _Job) -> JobView:
        deadline = self._deadline_of(job)
        return JobView(
            name=job.name,
            slot=job.slot,
            id=job.id,
            shape=job.shape,
            slots=job.slots,
            phase=job.phase,
            reason=job.reason,
            since=job.since,
            deadline=min(deadline, self._poll_at) if job.id is not None else deadline,
            host=job.host,
            is_connected=job.is_connected,
            is_stopping=job.is_unwanted or job.has_left,
            started_at=job.launched_at,
        )

    def job_of(self, slot: str) -> JobView | None:
        """Return the job of a slot; None where it has ended, is abandoned, or was never ours."""
        job = self._slots.get(slot)
        return None if job is None or job.phase is Phase.ABANDONED else self._view(job)

    def knows(self, slot: str) -> bool:
        """Return whether a worker of this slot may come in: its job is in the ledger and was not told to end."""
        job = self._slots.get(slot)
        return job is not None and not job.is_unwanted

    def is_fresh(self, now: float) -> bool:
        """Return whether what is known is young enough to launch more jobs."""
        if any(job.phase is Phase.AMBIGUOUS for job in self._jobs.values()):
            return False
        return not self._outstanding() or now - self._answered_at <= 3 * max(
            self._interval(), self._poll_at - self._polled_at
        )

    def submits_left(self, now: float) -> int:
        """Return how many jobs may be submitted now: 0 while paused or backing off, 1 for a trial after a pause."""
        minute = 60.0 * self._settings.scale
        while self._submits and self._submits[0] <= now - minute:
            self._submits.popleft()
        if self._closing or now < self._submit_at:
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
        """Return why nothing is submitted, for `dfm why` and `status`; empty where jobs may be submitted."""
        deaths = [breaker for of, breaker in self._deaths.items() if shape in (None, of)]
        if self._closing:
            return "the pool is closing"
        if self._refusals.is_open:
            return self._pause_text(self._refusals, "the batch system takes no jobs", now)
        if now < self._submit_at:
            wait = self._submit_at - now
            return f"the batch system refused a job; the next try is in {wait:.0f} s: {self._refusals.text}"
        if opened := [breaker for breaker in deaths if breaker.is_open]:
            return self._pause_text(opened[0], "workers do not come up", now)
        if not self.is_fresh(now):
            return "the batch system has not answered of late, so that it is not known how many jobs there are"
        return "" if self.submits_left(now) else "as many jobs as a minute allows have been submitted"

    def excluded_hosts(self, now: float) -> dict[str, str]:
        """Return the hosts that are avoided for now, and why."""
        self._excluded = {host: entry for host, entry in self._excluded.items() if now < entry[0]}
        return {host: text for host, (_, text) in self._excluded.items()}

    def check(self, now: float) -> list[str]:
        """Return the invariants that do not hold; the watchdog's."""
        faults = [
            f"job {job.name} has no id and is {job.phase.value}"
            for job in self._jobs.values()
            if job.id is None and job.phase in _LISTED_PHASES
        ]
        faults += [
            f"job {job.name} is ambiguous and nobody looks it up"
            for job in self._jobs.values()
            if job.phase is Phase.AMBIGUOUS and job.look_up_at < now - self._settings.poll_seconds
        ]
        if self._outstanding() and not self._is_polling and self._poll_at < now - 4 * self._settings.poll_seconds:
            faults.append(f"jobs were to be asked for {now - self._poll_at:.0f} s ago")
        return faults

    # The journal.

    def restore(self, entries: Iterable[JournalEntry], now: float) -> list[LedgerAction]:
        """Take in the journal of earlier epochs; return what is to be asked: ambiguous names, and the states of all.

        Entries of other kinds are passed over.
        """
        for entry in entries:
            self._replay(entry, now)
        self._poll_at = now
        return self.handle(Clock(), now)

    def _replay(self, entry: JournalEntry, now: float) -> None:
        fields = entry.fields
        if entry.kind == "job-intent":
            self._replay_intent(fields, now)
            return
        job = self._jobs.get(str(fields.get("name", "")))
        if job is None:
            return
        match entry.kind:
            case "job":
                job.id = str(fields["id"])
                job.twins.discard(job.id)
                job.cluster = None if fields["cluster"] is None else str(fields["cluster"])
                job.look_up_at = _NEVER
                job.phase = Phase.PENDING
            case "job-twin":
                job.twins.add(str(fields["id"]))
            case "job-abandoned":
                job.look_up_at = _NEVER
                job.phase = Phase.ABANDONED
            case "job-end":
                del self._jobs[job.name]
                del self._slots[job.slot]
            case _:
                pass

    def _replay_intent(self, fields: dict[str, object], now: float) -> None:
        slots, clock, excluded = fields["slots"], fields["clock"], fields["excluded"]
        assert isinstance(slots, int)
        assert isinstance(clock, int | float)
        assert isinstance(excluded, list)
        job = _Job(
            str(fields["name"]),
            str(fields["slot"]),
            msgspec.convert(fields["shape"], Shape),
            slots,
            clock,
            Phase.AMBIGUOUS,
            now,
            now,
            tuple(excluded),
            reason="the daemon was restarted while it was submitted",
            look_up_at=now,
        )
        self._jobs[job.name] = self._slots[job.slot] = job

    def snapshot(self) -> list[JournalEntry]:
        """Return entries that say all that the journal so far says of jobs that have not ended."""
        return [entry for job in self._jobs.values() for entry in _story(job)]


def job_name(instance: str, slot: str) -> str:
    """Return the name of the job of a slot: `s-2-7` has a job of its own, `s-2-7.3` is an element of an array."""
    number, _, index = slot.removeprefix("s-").partition(".")
    return f"dfm-{instance}-{number}-1{f'[{index}]' if index else ''}"


def prefix_of(name: str) -> str:
    """Return what the names of all jobs of an instance begin with."""
    return f"{name.rsplit('-', 3)[0]}-"


def array_of(name: str) -> str:
    """Return the name of the array that an element belongs to; that of any other job is its own."""
    return name.partition("[")[0]


def _entry(kind: str, /, **fields: object) -> JournalEntry:
    return JournalEntry(kind=kind, fields=fields)


def _intent(job: _Job) -> JournalEntry:
    return _entry(
        "job-intent",
        name=job.name,
        slot=job.slot,
        shape=msgspec.to_builtins(job.shape),
        slots=job.slots,
        clock=job.clock,
        excluded=list(job.excluded),
    )


def _identified(job: _Job) -> JournalEntry:
    return _entry("job", name=job.name, id=job.id, cluster=job.cluster)


def _story(job: _Job) -> list[JournalEntry]:
    entries = [_intent(job)]
    if job.id is not None:
        entries.append(_identified(job))
    elif job.phase is Phase.ABANDONED:
        entries.append(_entry("job-abandoned", name=job.name))
    return entries + [_entry("job-twin", name=job.name, id=twin) for twin in sorted(job.twins)]
