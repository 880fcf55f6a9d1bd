"""The batch jobs of the pool: each by a name that is unique for ever, journalled before it is submitted.

What the scheduler says is a hint. Rules that hold after every event:
1. a job is in the journal before its submission is asked for; what is submitted is therefore always known by name;
2. absence is `unknown`; unknown becomes `lost` only when no worker is connected, three good answers in a row did not
   list it, and a grace has passed. An answer that failed changes nothing;
3. while the last good answer is old, or the answer of a submission is open, no job is launched;
4. an ambiguous submission is looked up by its name before another is made under another name;
5. only jobs of the ledger are ever cancelled, by the id that belongs to the name.

What comes of the answers of the batch system is decided here. `admission` decides whether jobs may be submitted and
where, `polling` when the batch system is asked; `jobtable` is what all of them know, `jobjournal` what of it survives.
"""

from collections.abc import Iterable, Mapping

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
from dfm.core.pool import jobjournal
from dfm.core.pool.admission import Admission
from dfm.core.pool.breaker import back_off_seconds
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
from dfm.core.pool.jobtable import LISTED_PHASES, NEVER, Job, JobTable, job_name
from dfm.core.pool.limits import LedgerSettings
from dfm.core.pool.polling import Polling
from dfm.core.wire.messages import Shape

__all__ = ["Ledger", "LedgerSettings"]

_LOOK_UP_SECONDS = (5.0, 10.0, 15.0)
"""Waits before the look-ups of an ambiguous submission; after as many misses it is given up."""
_STOPPING_SECONDS = 50.0
"""So long a batch system may take to end a job (LSF: INT, 10 s, TERM, 10 s, KILL) before it is told again."""
_HOPELESS_ANSWERS = 2
_MISSING_ANSWERS = 3
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


class Ledger:
    """The jobs, and what is known of them.

    `instance` is of the project, 8 characters or so; the names of all its jobs begin with `dfm-<instance>-`.
    """

    def __init__(self, settings: LedgerSettings, instance: str, epoch: int) -> None:
        self._settings = settings
        self._instance = instance
        self._epoch = epoch
        self._count = 0
        self._table = JobTable()
        self._jobs = self._table.by_name
        self._slots = self._table.by_slot
        self._admission = Admission(settings, self._table)
        self._polling = Polling(settings, instance, self._table)
        self._strays: set[str] = set()
        self._shortened: dict[Shape, str] = {}
        """Shapes whose jobs are asked for with as little time as one task needs, and why, as long as nobody knows."""
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
                self._polling.ask_soon()
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
                self._admission.exclude(event.host, event.text, now, actions)
            case ResumeWanted():
                self._admission.resume()
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
            self._admission.submit(event.shape, now)
            for element in [slot] if together == 1 else [f"{slot}.{index + 1}" for index in range(together)]:
                self._launch(element, event, now, actions)

    def _launch(self, slot: str, event: LaunchWanted, now: float, actions: list[LedgerAction]) -> None:
        name = job_name(self._instance, slot)
        excluded = tuple(sorted(self.excluded_hosts(now)))
        is_short = event.shape in self._shortened
        job = Job(name, slot, event.shape, event.slots, event.clock, Phase.INTENT, now, now, excluded, is_short)
        self._polling.launch(now)
        self._table.enter(job)
        actions.append(Record(jobjournal.intended(job)))
        actions.append(
            SubmitJob(
                name=name,
                slot=slot,
                shape=event.shape,
                slots=event.slots,
                excluded_hosts=excluded,
                is_short=is_short,
            )
        )

    def _on_submit_answer(self, event: SubmitAnswered, now: float, actions: list[LedgerAction]) -> None:
        job = self._jobs.get(event.name)
        if job is None or job.phase is not Phase.INTENT:
            return
        match event.answer:
            case Submitted(id=job_id, cluster=cluster, warning=warning):
                self._admission.accept()
                job.seen_at = now
                self._identify(job, job_id, cluster, now, actions)
                if warning:
                    actions.append(Tell(warning))
                self._tell_of_short_lives(job, actions)
            case SubmitFailed(kind=kind, text=text):
                self._on_refusal(job, kind, text, now, actions, is_repeated=event.is_repeated)

    def _on_refusal(
        self, job: Job, kind: FailureKind, text: str, now: float, actions: list[LedgerAction], *, is_repeated: bool
    ) -> None:
        match kind:
            case FailureKind.PERMANENT:
                self._admission.refuse_shape()
                self._forget(job, None, text, actions)
                self._refuse(job, text, actions)
            case FailureKind.TRANSIENT:
                self._forget(job, None, text, actions)
                if not is_repeated:
                    self._admission.back_off(text, now, actions)
            case FailureKind.AMBIGUOUS:
                job.move(Phase.AMBIGUOUS, text, now)
                job.look_up_at = now + _LOOK_UP_SECONDS[0] * self._settings.scale

    def _refuse(self, job: Job, text: str, actions: list[LedgerAction]) -> None:
        """Take in that such a job will never run: one with less time may, and else its shape has no workers."""
        if job.is_short or not self._settings.may_be_shorter(job.shape):
            actions.append(Announce(ShapeRefused(job.shape, text)))
        else:
            self._shortened.setdefault(job.shape, text)

    def _tell_of_short_lives(self, job: Job, actions: list[LedgerAction]) -> None:
        text = self._shortened.get(job.shape)
        if job.is_short and text:
            self._shortened[job.shape] = ""
            actions.append(
                Tell(f"workers get no more time than one task needs (runner.pool.walltime), since with more: {text}")
            )

    def _identify(self, job: Job, job_id: str, cluster: str | None, now: float, actions: list[LedgerAction]) -> None:
        """Take note of a job's id; cancel it where it was unwanted before it had one."""
        job.id, job.cluster = job_id, cluster
        job.look_up_at = NEVER
        actions.append(Record(jobjournal.identified(job)))
        job.move(Phase.PENDING, "", now)
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
            self._admission.accept()
            for status in found:
                self._apply(job, status, now, actions)
            return
        job.misses += 1
        if job.misses < len(_LOOK_UP_SECONDS):
            job.look_up_at = now + _LOOK_UP_SECONDS[job.misses] * self._settings.scale
            return
        job.look_up_at = NEVER
        actions.append(Record(jobjournal.abandoned(job)))
        self._admission.cancel_trial(job)
        if not event.is_repeated:
            text = f"a submission was not answered, and no job came of it: {job.reason}"
            self._admission.back_off(text, now, actions)
        job.move(Phase.ABANDONED, "submitted without an answer, and not found", now)

    # What the scheduler says.

    def _on_query(self, event: QueryAnswered, now: float, actions: list[LedgerAction]) -> None:
        self._polling.answer(event.seconds, now)
        if isinstance(event.answer, QueryFailed):
            return
        self._polling.learn(now)
        by_id = {job.id: job for job in self._jobs.values() if job.id is not None}
        for status in event.answer.jobs:
            job = self._jobs.get(status.name) if status.name else by_id.get(status.id)
            if job is not None:
                self._apply(job, status, now, actions)
            elif status.name.startswith(f"dfm-{self._instance}-") and status.state is not JobState.ENDED:
                self._tell_of_stray(status, actions)
        for key in event.answer.missing:
            job = self._jobs.get(key.name)
            if job is not None and job.id == key.id and job.phase in LISTED_PHASES:
                self._miss(job, now, actions)
        if any(job.hopeless and not job.is_unwanted for job in self._jobs.values()):
            self._polling.ask_again(event.seconds, now)

    def _tell_of_stray(self, status: JobStatus, actions: list[LedgerAction]) -> None:
        if status.name not in self._strays:
            self._strays.add(status.name)
            actions.append(Tell(f"job {status.id} ({status.name}) is of this project and not in the ledger"))

    def _apply(self, job: Job, status: JobStatus, now: float, actions: list[LedgerAction]) -> None:
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
        job.move(phase, status.reason, now)
        self._judge_pending(job, status, now, actions)
        if job.has_left and not job.is_unwanted and now - job.parted_at >= self._settings.leave_seconds:
            self._cancel([job], "its worker has left, and it goes on", actions)

    def _announce_suspension(self, job: Job, phase: Phase, now: float, actions: list[LedgerAction]) -> None:
        if phase is Phase.SUSPENDED:
            if job.suspended_at is None:
                actions.append(Announce(WorkerSuspended(job.slot)))
            job.suspended_at = now
        elif phase is not Phase.UNKNOWN or self._is_long_unlisted(job, now):
            self._end_suspension(job, actions)

    def _is_long_unlisted(self, job: Job, now: float) -> bool:
        """Return whether a job that was suspended has not been listed as such for so long that it may be gone."""
        return job.suspended_at is not None and now - job.suspended_at >= self._settings.lost_grace_seconds

    def _end_suspension(self, job: Job, actions: list[LedgerAction]) -> None:
        """Let the silence of a worker count again."""
        if job.suspended_at is not None:
            job.suspended_at = None
            actions.append(Announce(WorkerResumed(job.slot)))

    def _judge_pending(self, job: Job, status: JobStatus, now: float, actions: list[LedgerAction]) -> None:
        is_barred = status.state is JobState.PENDING and self._is_barred(job, status, now)
        job.hopeless = job.hopeless + 1 if status.is_hopeless or is_barred else 0
        if job.hopeless < _HOPELESS_ANSWERS or job.is_unwanted:
            return
        text = f"the batch system will never start job {job.id}: {status.reason}"
        if job.excluded:
            self._admission.trust_hosts(now)
            actions.append(Tell(f"{text}; hosts that were avoided are tried again"))
        else:
            self._refuse(job, text, actions)
        self._cancel([job], text, actions)

    def _is_barred(self, job: Job, status: JobStatus, now: float) -> bool:
        """Return whether a job waits for the hosts that it was told to avoid: it cannot be told otherwise any more."""
        return bool(job.excluded) and (status.has_no_host or not self.excluded_hosts(now).keys() & set(job.excluded))

    def _on_twin(self, job: Job, status: JobStatus, actions: list[LedgerAction]) -> None:
        """End a job that the scheduler made twice of one submission."""
        if status.state is JobState.ENDED:
            job.twins.discard(status.id)
            return
        if status.id not in job.twins:
            job.twins.add(status.id)
            actions.append(Record(jobjournal.doubled(job, status.id)))
            actions.append(Tell(f"job {status.id} is a second one of the same submission as {job.id}: cancelled"))
        actions.append(CancelJobs((JobKey(name=job.name, id=status.id, cluster=job.cluster, submitted_at=job.clock),)))

    def _miss(self, job: Job, now: float, actions: list[LedgerAction]) -> None:
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
            job.move(Phase.UNKNOWN, "the batch system does not list it", now)
        known_at = max(job.seen_at, job.launched_at, job.parted_at)
        if job.missing >= _MISSING_ANSWERS and now - known_at >= self._settings.lost_grace_seconds:
            self._end_unlisted(job, EndCause.LOST, f"not listed in {job.missing} answers", now, actions)
        else:
            actions.append(AskHistory(job.key))

    def _end_unlisted(self, job: Job, cause: EndCause, text: str, now: float, actions: list[LedgerAction]) -> None:
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

    def _end(self, job: Job, cause: EndCause, text: str, now: float, actions: list[LedgerAction]) -> None:
        is_guiltless = cause in _GUILTLESS or (cause is EndCause.DONE and job.connected_at is not None)
        if not (job.is_unwanted or is_guiltless or job.has_left or self._admission.has_done_well(job, now)):
            self._admission.count_death(
                job,
                f"job {job.id} ended, {cause.value}: {text}" if text else f"job {job.id} ended, {cause.value}",
                now,
                actions,
                is_of_host=cause is not EndCause.MEMORY,
            )
        words = f"its job {job.id} ended: {text or cause.value}"
        if job.twins:
            self._go_on_as_twin(job, now, actions)
        else:
            self._forget(job, cause, text, actions)
        actions.append(Announce(WorkerLost(slot=job.slot, loss=Loss(_LOSSES[cause], words))))

    def _go_on_as_twin(self, job: Job, now: float, actions: list[LedgerAction]) -> None:
        """Look after the other job of a submission that was taken twice, until that one has ended too."""
        job.id = min(job.twins)
        job.twins.discard(job.id)
        job.is_connected = job.is_cancelling = False
        job.missing = job.cancels = 0
        actions.append(Record(jobjournal.identified(job)))
        job.move(Phase.PENDING, "", now)
        self._cancel([job], "it is a second one of the same submission", actions)

    def _forget(self, job: Job, cause: EndCause | None, text: str, actions: list[LedgerAction]) -> None:
        self._table.remove(job)
        if not job.is_judged:
            self._admission.cancel_trial(job)
        actions.append(Record(jobjournal.ended(job, cause, text)))

    # Cancelling.

    def _cancel(self, jobs: list[Job], why: str, actions: list[LedgerAction]) -> None:
        """Have jobs ended. One whose id is not known yet is cancelled as soon as it is."""
        for job in jobs:
            if not job.is_unwanted:
                job.is_unwanted = True
                job.reason = why
        ready = [job for job in jobs if job.id is not None and not job.is_cancelling]
        for job in ready:
            job.is_cancelling = True
            job.cancel_at = NEVER
        if ready:
            actions.append(CancelJobs(tuple(job.key for job in ready)))

    def _on_cancel_answer(self, event: CancelAnswered, now: float, actions: list[LedgerAction]) -> None:
        for key in event.jobs:
            job = self._jobs.get(key.name)
            if job is not None and job.id == key.id and key.id is not None:
                self._on_cancelled(job, event.states.get(key.id), now, actions)

    def _on_cancelled(self, job: Job, state: CancelState | None, now: float, actions: list[LedgerAction]) -> None:
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
            self._admission.widen_ramp(job.shape)
        if job.phase is Phase.ABANDONED:
            job.move(Phase.AMBIGUOUS, "its worker came", now)
            job.look_up_at = now
            job.misses = 0
        if event.job_id in job.twins:
            self._swap_twin(job, event.job_id, actions)
        self._polling.calm_down()

    def _swap_twin(self, job: Job, job_id: str, actions: list[LedgerAction]) -> None:
        """Take that one of two twins for the job whose worker came."""
        assert job.id is not None
        former, job.id = job.id, job_id
        job.twins.discard(job_id)
        job.twins.add(former)
        actions += [Record(jobjournal.identified(job)), Record(jobjournal.doubled(job, former))]

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
            self._admission.count_success(job)
        if self._closing:
            self._cancel([job], self._closing, actions)
        self._polling.ask_soon()

    def _on_worked(self, event: WorkerWorked) -> None:
        job = self._slots.get(event.slot)
        if job is not None:
            self._admission.count_success(job)

    def _on_unfit(self, event: WorkerUnfit, now: float, actions: list[LedgerAction]) -> None:
        job = self._slots.get(event.slot)
        if job is not None:
            job.host = event.host
            self._admission.count_death(job, f"host {event.host} cannot be used: {event.text}", now, actions)
            self._cancel([job], event.text, actions)

    # Time.

    def _look_at_clock(self, now: float, actions: list[LedgerAction]) -> None:
        for job in list(self._jobs.values()):
            self._look_at_job(job, now, actions)
        if self._polling.ask(now):
            actions.append(QueryJobs(tuple(job.key for job in self._table.outstanding())))

    def _look_at_job(self, job: Job, now: float, actions: list[LedgerAction]) -> None:
        if job.is_connected and not job.is_judged and self._admission.has_done_well(job, now):
            self._admission.count_success(job)
        if now >= job.look_up_at:
            job.look_up_at = NEVER
            actions.append(LookUpJob(job.name))
        if now >= job.cancel_at:
            self._cancel([job], job.reason, actions)
        if now >= self._start_deadline(job):
            text = f"job {job.id} runs on {job.host or 'a host'}, but its worker did not connect in time"
            if job.connected_at is None:
                self._admission.count_death(job, text, now, actions)
            self._cancel([job], text, actions)
        if now >= self._unknown_deadline(job):
            self._give_up(job, now, actions)

    def _start_deadline(self, job: Job) -> float:
        """Return when a job that runs must have a worker again: it has none yet, or its worker was given up."""
        if job.phase is not Phase.RUNNING or job.is_connected or job.is_unwanted:
            return NEVER
        since = job.running_since if job.connected_at is None else job.given_up_at
        return NEVER if since is None else since + self._settings.start_seconds

    def _unknown_deadline(self, job: Job) -> float:
        if job.phase not in (Phase.UNKNOWN, Phase.ABANDONED) or job.is_connected:
            return NEVER
        return max(job.since, job.parted_at) + self._settings.unknown_seconds

    def _give_up(self, job: Job, now: float, actions: list[LedgerAction]) -> None:
        if job.id is None:
            self._forget(job, None, job.reason, actions)
            return
        self._end_unlisted(job, EndCause.LOST, "the batch system has not known it for long", now, actions)

    def next_deadline(self, now: float) -> float | None:
        """Return when a `Clock` is due at the latest; None where nothing is outstanding."""
        deadlines = [self._deadline_of(job) for job in self._jobs.values()]
        if self._table.outstanding() and not self._polling.is_open:
            deadlines.append(self._polling.due_at)
        earliest = min(deadlines, default=NEVER)
        return None if earliest == NEVER else max(earliest, now)

    def _deadline_of(self, job: Job) -> float:
        doing_well = NEVER
        if job.is_connected and not job.is_judged and job.connected_at is not None:
            doing_well = job.connected_at + self._settings.young_seconds
        return min(doing_well, job.look_up_at, job.cancel_at, self._start_deadline(job), self._unknown_deadline(job))

    # What others see.

    def jobs(self) -> list[JobView]:
        """Return the jobs that have not ended and are not abandoned, in the order in which they were launched."""
        return [self._view(job) for job in self._jobs.values() if job.phase is not Phase.ABANDONED]

    def _view(self, job: Job) -> JobView:
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
            deadline=min(deadline, self._polling.due_at) if job.id is not None else deadline,
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
        return self._polling.is_fresh(now)

    def submits_left(self, now: float) -> int:
        """Return how many jobs may be submitted now: 0 while paused or backing off, 1 for a trial after a pause."""
        return 0 if self._closing else self._admission.submits_left(now)

    def ramp(self, now: float) -> Mapping[Shape, int]:
        """Return, by shape, how many workers may be on their way at once."""
        return self._admission.ramp(now)

    def pause_reason(self, now: float, shape: Shape | None = None) -> str:
        """Return why nothing is submitted, for `dfm why` and `status`; empty where jobs may be submitted."""
        if self._closing:
            return "the pool is closing"
        if text := self._admission.pause_reason(now, shape):
            return text
        if not self.is_fresh(now):
            return "the batch system has not answered of late, so that it is not known how many jobs there are"
        return "" if self.submits_left(now) else "as many jobs as a minute allows have been submitted"

    def excluded_hosts(self, now: float) -> dict[str, str]:
        """Return the hosts that are avoided for now, and why."""
        return self._admission.excluded_hosts(now)

    def check(self, now: float) -> list[str]:
        """Return the invariants that do not hold; the watchdog's."""
        faults = [
            f"job {job.name} has no id and is {job.phase.value}"
            for job in self._jobs.values()
            if job.id is None and job.phase in LISTED_PHASES
        ]
        faults += [
            f"job {job.name} is ambiguous and nobody looks it up"
            for job in self._jobs.values()
            if job.phase is Phase.AMBIGUOUS and job.look_up_at < now - self._settings.poll_seconds
        ]
        if overdue := self._polling.overdue_seconds(now):
            faults.append(f"jobs were to be asked for {overdue:.0f} s ago")
        return faults

    # The journal.

    def restore(self, entries: Iterable[JournalEntry], now: float) -> list[LedgerAction]:
        """Take in the journal of earlier epochs; return what is to be asked: ambiguous names, and the states of all.

        Entries of other kinds are passed over.
        """
        jobjournal.replay(self._table, entries, now)
        self._polling.ask_at(now)
        return self.handle(Clock(), now)

    def snapshot(self) -> list[JournalEntry]:
        """Return entries that say all that the journal so far says of jobs that have not ended."""
        return jobjournal.snapshot(self._table)
