"""The ledger's decisions about jobs, one behaviour each."""

import pytest

from dfm.api.batch import (
    CancelState,
    EndCause,
    FailureKind,
    JobKey,
    JobState,
    JobStatus,
    Listed,
    QueryFailed,
    SubmitFailed,
    Submitted,
)
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
    WorkerWorked,
)
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.wire.messages import Shape

SHAPE = Shape(cores=2)
NAME = "dfm-inst-1-1-1"
SLOT = "s-1-1"
KEY = JobKey(name=NAME, id="7", submitted_at=5.0)


class Bench:
    """A ledger, its clock and its journal. `do` returns what was asked for, without polls and records."""

    def __init__(self, journal: list[JournalEntry] | None = None, settings: LedgerSettings | None = None) -> None:
        self.now = 100.0
        self.journal = list(journal or [])
        self.ledger = Ledger(settings or LedgerSettings(), "inst", 1 if journal is None else 2)
        self.restored = self.ledger.restore(self.journal, self.now)

    def do(self, *events: LedgerEvent) -> list[LedgerAction]:
        actions: list[LedgerAction] = []
        for event in events:
            for action in self.ledger.handle(event, self.now):
                if isinstance(action, Record):
                    self.journal.append(action.entry)
                elif not isinstance(action, QueryJobs):
                    actions.append(action)
            assert self.ledger.check(self.now) == []
        return actions

    def wait(self, seconds: float) -> list[LedgerAction]:
        self.now += seconds
        return self.do(Clock())

    def poll(self, *jobs: JobStatus, missing: tuple[JobKey, ...] = (), after: float = 15.0) -> list[LedgerAction]:
        """Let time pass, and have the scheduler answer."""
        return self.wait(after) + self.do(QueryAnswered(answer=Listed(jobs=jobs, missing=missing)))

    def launch(self, count: int = 1, array_size: int = 1) -> list[LedgerAction]:
        return self.do(LaunchWanted(shape=SHAPE, slots=1, clock=5.0, count=count, array_size=array_size))

    @property
    def phases(self) -> list[Phase]:
        return [job.phase for job in self.ledger.jobs()]


def status(state: JobState, job_id: str = "7", **more: object) -> JobStatus:
    return JobStatus(id=job_id, name=NAME, state=state, **more)  # type: ignore[arg-type]


@pytest.fixture
def pending() -> Bench:
    """One job that was submitted."""
    bench = Bench()
    bench.launch()
    bench.do(SubmitAnswered(name=NAME, answer=Submitted(id="7")))
    return bench


@pytest.fixture
def running(pending: Bench) -> Bench:
    """One job whose worker is connected."""
    pending.poll(status(JobState.RUNNING, host="h"))
    pending.do(WorkerConnected(slot=SLOT, host="h", job_id="7"))
    return pending


def test_a_job_is_in_the_journal_before_it_is_submitted() -> None:
    actions = Bench().ledger.handle(LaunchWanted(shape=SHAPE, slots=1, clock=5.0), 1.0)
    assert isinstance(actions[0], Record)
    assert actions[0].entry.kind == "job-intent"
    assert actions[1:] == [SubmitJob(name=NAME, slot=SLOT, shape=SHAPE, slots=1)]


def test_no_question_is_asked_while_there_is_no_job() -> None:
    ledger = Bench().ledger
    assert ledger.handle(Clock(), 1e6) == []
    assert ledger.next_deadline(1e6) is None


def test_all_jobs_are_asked_for_at_once_and_never_twice_at_a_time(pending: Bench) -> None:
    assert pending.ledger.handle(Clock(), 115.0) == [QueryJobs((KEY,))]
    assert pending.ledger.handle(Clock(), 500.0) == []


def test_the_longer_nothing_changes_the_more_seldom_it_is_asked(running: Bench) -> None:
    running.do(WorkerWorked(SLOT))
    gaps = []
    for _ in range(13):
        running.do(QueryAnswered(answer=Listed(jobs=(status(JobState.RUNNING, host="h"),))))
        deadline = running.ledger.next_deadline(running.now)
        assert deadline is not None
        gaps.append(deadline - running.now)
        running.now = deadline
        assert running.ledger.handle(Clock(), running.now) == [QueryJobs((KEY,))]
    steady, long_steady = gaps[1:10], gaps[10:]
    assert all(60.0 <= gap <= 66.0 for gap in steady)
    assert all(180.0 <= gap <= 198.0 for gap in long_steady)
    assert len(set(steady)) == len(steady), "no two are the same, so that daemons do not ask together"


def test_a_slow_answer_makes_the_next_question_wait(pending: Bench) -> None:
    pending.wait(15.0)
    pending.do(QueryAnswered(answer=Listed(jobs=(status(JobState.PENDING),)), seconds=9.0))
    assert pending.ledger.next_deadline(pending.now) == pending.now + 90.0


def test_absence_is_unknown_and_three_absences_and_a_grace_are_loss(pending: Bench) -> None:
    for _ in range(7):
        actions = pending.poll(missing=(KEY,))
        assert actions == [AskHistory(KEY)]
        assert pending.phases == [Phase.UNKNOWN]
    cancelled, told = pending.poll(missing=(KEY,))
    assert cancelled == CancelJobs((KEY,)), "should it live all the same"
    assert isinstance(told, Announce)
    assert told.event == WorkerLost(
        slot=SLOT, loss=Loss(LossKind.UNEXPLAINED, "its job 7 ended: not listed in 8 answers")
    )
    assert pending.phases == []


def test_a_job_whose_worker_is_connected_is_never_lost_by_absence(running: Bench) -> None:
    for _ in range(20):
        assert running.poll(missing=(KEY,), after=60.0) == []
    assert running.phases == [Phase.RUNNING]


def test_an_answer_that_failed_changes_nothing_and_freezes_the_pool(pending: Bench) -> None:
    before = pending.ledger.jobs()[0].phase
    for _ in range(4):
        pending.wait(15.0)
        assert pending.do(QueryAnswered(answer=QueryFailed(text="no answer"))) == []
    assert pending.ledger.jobs()[0].phase is before
    assert not pending.ledger.is_fresh(pending.now)
    pending.poll(status(JobState.PENDING))
    assert pending.ledger.is_fresh(pending.now)


def test_an_ambiguous_submission_is_looked_up_by_name_and_freezes_the_pool() -> None:
    bench = Bench()
    bench.launch()
    bench.do(SubmitAnswered(name=NAME, answer=SubmitFailed(kind=FailureKind.AMBIGUOUS, text="timed out")))
    assert not bench.ledger.is_fresh(bench.now)
    assert bench.wait(5.0) == [LookUpJob(NAME)]
    bench.do(LookUpAnswered(name=NAME, answer=Listed(jobs=(status(JobState.PENDING),))))
    assert bench.ledger.jobs()[0].id == "7"
    assert bench.ledger.is_fresh(bench.now)


def test_a_submission_that_is_never_found_is_abandoned_and_taken_in_again_when_it_shows_up() -> None:
    bench = Bench()
    bench.launch()
    bench.do(SubmitAnswered(name=NAME, answer=SubmitFailed(kind=FailureKind.AMBIGUOUS, text="timed out")))
    for seconds in (5.0, 10.0, 15.0):
        assert bench.wait(seconds) == [LookUpJob(NAME)]
        bench.do(LookUpAnswered(name=NAME, answer=Listed(jobs=())))
    assert bench.ledger.jobs() == []
    assert bench.ledger.knows(SLOT)
    bench.do(WorkerConnected(slot=SLOT, host="h"))
    bench.do(LookUpAnswered(name=NAME, answer=Listed(jobs=(status(JobState.RUNNING),))))
    assert bench.phases == [Phase.RUNNING]


def test_a_refusal_for_good_refuses_the_shape_and_is_not_retried() -> None:
    bench = Bench()
    bench.launch()
    answer = SubmitFailed(kind=FailureKind.PERMANENT, text="no such queue")
    assert bench.do(SubmitAnswered(name=NAME, answer=answer)) == [Announce(ShapeRefused(SHAPE, "no such queue"))]
    assert bench.phases == []


@pytest.fixture
def long_lived() -> Bench:
    """One job that was submitted and asked for more time than one task needs."""
    bench = Bench(settings=LedgerSettings(may_be_shorter=lambda shape: shape == SHAPE))
    [submit] = bench.launch()
    assert isinstance(submit, SubmitJob)
    assert not submit.is_short
    return bench


def is_short(actions: list[LedgerAction]) -> list[bool]:
    return [action.is_short for action in actions if isinstance(action, SubmitJob)]


def test_where_long_lives_are_refused_short_ones_are_asked_for_and_that_is_told_once(long_lived: Bench) -> None:
    refusal = SubmitFailed(kind=FailureKind.PERMANENT, text="RUNLIMIT: Cannot exceed queue's hard limit(s)")
    assert long_lived.do(SubmitAnswered(name=NAME, answer=refusal)) == []
    assert is_short(long_lived.launch()) == [True]
    told = long_lived.do(SubmitAnswered(name="dfm-inst-1-2-1", answer=Submitted(id="8")))
    assert told == [
        Tell(f"workers get no more time than one task needs (runner.pool.walltime), since with more: {refusal.text}")
    ]
    assert is_short(long_lived.launch()) == [True]
    assert long_lived.do(SubmitAnswered(name="dfm-inst-1-3-1", answer=Submitted(id="9"))) == []


def test_what_is_refused_with_a_short_life_too_refuses_the_shape(long_lived: Bench) -> None:
    refusal = SubmitFailed(kind=FailureKind.PERMANENT, text="no such queue")
    long_lived.do(SubmitAnswered(name=NAME, answer=refusal))
    long_lived.launch()
    refused = long_lived.do(SubmitAnswered(name="dfm-inst-1-2-1", answer=refusal))
    assert refused == [Announce(ShapeRefused(SHAPE, "no such queue"))]


def test_a_job_that_can_never_start_is_followed_by_one_with_a_short_life(long_lived: Bench) -> None:
    long_lived.do(SubmitAnswered(name=NAME, answer=Submitted(id="7")))
    hopeless = status(JobState.PENDING, is_hopeless=True, reason="PartitionTimeLimit")
    long_lived.poll(hopeless)
    assert long_lived.poll(hopeless) == [CancelJobs((KEY,))]
    assert is_short(long_lived.launch()) == [True]


def test_a_worker_that_is_ended_for_memory_says_nothing_of_its_host() -> None:
    bench = Bench()
    for number in (1, 2):
        bench.launch()
        name = f"dfm-inst-1-{number}-1"
        bench.do(SubmitAnswered(name=name, answer=Submitted(id=str(number))))
        bench.do(WorkerConnected(slot=f"s-1-{number}", host="h"))
        ended = JobStatus(id=str(number), name=name, state=JobState.ENDED, cause=EndCause.MEMORY, host="h")
        bench.poll(ended)
    assert bench.ledger.excluded_hosts(bench.now) == {}


def test_refusals_that_may_pass_wait_longer_and_longer_and_then_pause_the_pool() -> None:
    bench = Bench()
    waits, actions = [], []
    for number in range(1, 6):
        bench.launch()
        answer = SubmitFailed(kind=FailureKind.TRANSIENT, text="LSF is down")
        actions = bench.do(SubmitAnswered(name=f"dfm-inst-1-{number}-1", answer=answer))
        start = bench.now
        while not bench.ledger.submits_left(bench.now):
            bench.now += 5.0
        waits.append(bench.now - start)
    assert waits == [5.0, 15.0, 60.0, 300.0, 300.0]
    assert [type(action) for action in actions] == [PausePool]
    assert bench.ledger.submits_left(bench.now) == 1
    assert "LSF is down" in bench.ledger.pause_reason(bench.now)
    bench.do(ResumeWanted())
    assert bench.ledger.pause_reason(bench.now) == ""


def test_workers_that_never_come_up_pause_their_shape_and_are_tried_one_by_one() -> None:
    bench = Bench()
    submits = 0
    start = bench.now
    while bench.now < start + 3600.0:
        room = bench.ledger.ramp(bench.now).get(SHAPE, 4) - len(bench.ledger.jobs())
        for action in bench.launch(max(room, 0)):
            if isinstance(action, SubmitJob):
                submits += 1
                job_id = str(submits)
                bench.do(SubmitAnswered(name=action.name, answer=Submitted(id=job_id)))
                ended = JobStatus(
                    id=job_id, name=action.name, state=JobState.ENDED, cause=EndCause.FAILED, host=f"h{submits}"
                )
                bench.do(QueryAnswered(answer=Listed(jobs=(ended,))))
        bench.now += 10.0
    assert 4 <= submits <= 9
    assert "workers do not come up" in bench.ledger.pause_reason(bench.now)


def test_a_worker_that_has_worked_is_no_early_death(running: Bench) -> None:
    running.do(WorkerWorked(SLOT), WorkerParted(slot=SLOT, is_final=False))
    running.poll(status(JobState.ENDED, cause=EndCause.FAILED))
    assert running.ledger.ramp(running.now)[SHAPE] == 4


def test_two_early_deaths_on_a_host_exclude_it() -> None:
    bench = Bench()
    for number in (1, 2):
        bench.launch()
        name = f"dfm-inst-1-{number}-1"
        bench.do(SubmitAnswered(name=name, answer=Submitted(id=str(number))))
        ended = JobStatus(id=str(number), name=name, state=JobState.ENDED, cause=EndCause.FAILED, host="bad")
        bench.poll(ended)
    assert list(bench.ledger.excluded_hosts(bench.now)) == ["bad"]
    submit = bench.launch()[0]
    assert isinstance(submit, SubmitJob)
    assert submit.excluded_hosts == ("bad",)
    assert bench.ledger.excluded_hosts(bench.now + 1801.0) == {}


def test_a_job_that_is_hopeless_because_of_excluded_hosts_does_not_refuse_its_shape() -> None:
    bench = Bench()
    bench.do(HostExcluded(host="bad", text="it fails"))
    bench.launch()
    bench.do(SubmitAnswered(name=NAME, answer=Submitted(id="7")))
    bench.poll(status(JobState.PENDING, is_hopeless=True))
    actions = bench.poll(status(JobState.PENDING, is_hopeless=True))
    assert [type(action) for action in actions] == [Tell, CancelJobs]
    assert bench.ledger.excluded_hosts(bench.now) == {}


def test_a_job_that_will_never_start_refuses_its_shape(pending: Bench) -> None:
    hopeless = status(JobState.PENDING, is_hopeless=True, reason="no such host")
    assert pending.poll(hopeless) == []
    text = "the batch system will never start job 7: no such host"
    assert pending.poll(hopeless) == [Announce(ShapeRefused(SHAPE, text)), CancelJobs((KEY,))]


def test_a_job_that_looks_hopeless_is_looked_at_soon_and_once_more(pending: Bench) -> None:
    assert pending.ledger.next_deadline(pending.now) == pending.now + 2.0
    pending.poll(status(JobState.PENDING, is_hopeless=True), after=2.0)
    assert pending.ledger.next_deadline(pending.now) == pending.now + 2.0
    assert CancelJobs((KEY,)) in pending.poll(status(JobState.PENDING, is_hopeless=True), after=2.0)


def test_workers_that_come_at_once_cost_no_early_question(pending: Bench) -> None:
    launched = pending.now
    pending.do(WorkerConnected(slot=SLOT, host="h", job_id="7"))
    asked = [pending.ledger.handle(Clock(), launched + seconds) for seconds in (2.0, 14.9, 15.0)]
    assert asked == [[], [], [QueryJobs((KEY,))]]


def test_the_start_deadline_counts_from_running_and_not_from_the_submission(pending: Bench) -> None:
    for _ in range(20):
        assert pending.poll(status(JobState.PENDING)) == []
    pending.poll(status(JobState.RUNNING, host="h"))
    assert pending.wait(119.0) == []
    assert pending.wait(1.0) == [CancelJobs((KEY,))]


def test_a_job_that_goes_on_without_its_worker_is_cancelled_after_the_start_time(running: Bench) -> None:
    running.do(WorkerParted(slot=SLOT))
    assert running.poll(status(JobState.RUNNING, host="h"), after=60.0) == []
    assert running.wait(59.0) == []
    assert running.wait(1.0) == [CancelJobs((KEY,))]


def test_a_suspended_job_is_announced_and_so_is_its_going_on(running: Bench) -> None:
    assert running.poll(status(JobState.SUSPENDED), after=60.0) == [Announce(WorkerSuspended(SLOT))]
    assert running.poll(status(JobState.RUNNING), after=60.0) == [Announce(WorkerResumed(SLOT))]


def test_a_job_that_goes_on_unseen_is_announced_all_the_same(running: Bench) -> None:
    running.poll(status(JobState.SUSPENDED), after=60.0)
    assert running.poll(status(JobState.UNKNOWN), after=60.0) == []
    assert running.poll(status(JobState.RUNNING), after=60.0) == [Announce(WorkerResumed(SLOT))]


def test_a_suspended_job_that_is_listed_no_more_is_not_taken_for_suspended_for_ever(running: Bench) -> None:
    running.poll(status(JobState.SUSPENDED), after=60.0)
    assert [running.poll(missing=(KEY,), after=30.0) for _ in range(3)] == [[], [], []]
    assert running.poll(missing=(KEY,), after=30.0) == [Announce(WorkerResumed(SLOT))]


def test_a_job_that_goes_on_after_its_worker_has_left_is_cancelled(running: Bench) -> None:
    running.do(WorkerParted(slot=SLOT, is_in_order=True))
    assert running.poll(status(JobState.RUNNING)) == []
    assert running.poll(status(JobState.RUNNING)) == [CancelJobs((KEY,))]


def test_a_job_whose_worker_has_left_is_over_once_its_end_is_known(running: Bench) -> None:
    running.do(WorkerParted(slot=SLOT, is_in_order=True))
    assert running.poll(missing=(KEY,)) == [AskHistory(KEY)]
    assert running.do(HistoryAnswered(name=NAME, status=status(JobState.RUNNING))) == []
    assert running.poll(missing=(KEY,)) == [AskHistory(KEY)]
    left = Announce(WorkerLost(slot=SLOT, loss=Loss(LossKind.LEFT, "its job 7 ended: done")))
    assert running.do(HistoryAnswered(name=NAME, status=status(JobState.ENDED, cause=EndCause.DONE))) == [left]
    assert running.phases == []


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (EndCause.WALLTIME, LossKind.WALLTIME),
        (EndCause.PREEMPTED, LossKind.PREEMPTED),
        (EndCause.KILLED_BY_ADMIN, LossKind.KILLED),
        (EndCause.NODE, LossKind.HOST),
        (EndCause.MEMORY, LossKind.MEMORY),
    ],
)
def test_the_end_of_a_job_says_why_its_worker_is_lost(running: Bench, cause: EndCause, kind: LossKind) -> None:
    actions = running.poll(status(JobState.ENDED, cause=cause), after=60.0)
    lost = [action.event for action in actions if isinstance(action, Announce)]
    assert lost == [WorkerLost(slot=SLOT, loss=Loss(kind, f"its job 7 ended: {cause.value}"))]


def test_a_requeued_job_pends_again_under_its_name(running: Bench) -> None:
    running.do(WorkerParted(slot=SLOT, is_final=False))
    assert running.poll(status(JobState.ENDED, cause=EndCause.PREEMPTED, is_requeued=True)) == []
    assert running.phases == [Phase.PENDING]


def test_history_tells_how_a_job_ended_that_is_not_listed_any_more(pending: Bench) -> None:
    pending.poll(missing=(KEY,))
    ended = status(JobState.ENDED, cause=EndCause.PREEMPTED)
    assert len(pending.do(HistoryAnswered(name=NAME, status=ended))) == 1
    assert pending.phases == []


def test_a_cancel_is_repeated_until_it_is_answered(pending: Bench) -> None:
    assert pending.do(CancelWanted(slots=(SLOT,), why="idle")) == [CancelJobs((KEY,))]
    assert not pending.ledger.knows(SLOT)
    pending.do(CancelAnswered(jobs=(KEY,), states={}))
    assert pending.wait(5.0) == [CancelJobs((KEY,))]
    pending.do(CancelAnswered(jobs=(KEY,), states={"7": CancelState.STOPPING}))
    pending.poll(status(JobState.ENDED, cause=EndCause.KILLED_BY_OWNER))
    assert pending.phases == []


def test_a_job_that_is_being_ended_is_not_told_again_while_that_may_take(pending: Bench) -> None:
    pending.do(CancelWanted(slots=(SLOT,), why="surplus"))
    pending.do(CancelAnswered(jobs=(KEY,), states={"7": CancelState.STOPPING}))
    assert pending.poll(status(JobState.RUNNING), after=40.0) == []
    assert pending.poll(status(JobState.RUNNING), after=10.0) == [CancelJobs((KEY,))]


def test_a_job_that_has_no_id_yet_is_cancelled_as_soon_as_it_has() -> None:
    bench = Bench()
    bench.launch()
    assert bench.do(CancelAllWanted("the end")) == []
    assert bench.do(SubmitAnswered(name=NAME, answer=Submitted(id="7"))) == [CancelJobs((KEY,))]
    assert bench.launch() == []


def test_at_the_end_a_job_is_cancelled_when_its_worker_has_left_and_one_without_a_worker_at_once(
    running: Bench,
) -> None:
    running.launch()
    running.do(SubmitAnswered(name="dfm-inst-1-2-1", answer=Submitted(id="8")))
    pending = JobKey(name="dfm-inst-1-2-1", id="8", submitted_at=5.0)
    assert running.do(CancelAllWanted("the end")) == [CancelJobs((pending,))]
    assert running.do(WorkerParted(slot=SLOT, is_in_order=True)) == [CancelJobs((KEY,))]


def test_at_the_end_a_worker_that_does_not_leave_has_its_job_cancelled(running: Bench) -> None:
    assert running.do(CancelAllWanted("the end")) == []
    assert running.do(CancelAllWanted("the end", is_urgent=True)) == [CancelJobs((KEY,))]


def test_a_second_job_of_one_submission_is_cancelled(pending: Bench) -> None:
    twin = CancelJobs((JobKey(name=NAME, id="8", submitted_at=5.0),))
    actions = pending.poll(status(JobState.PENDING), status(JobState.PENDING, "8"))
    assert [type(action) for action in actions] == [Tell, CancelJobs]
    assert actions[1] == twin
    assert pending.poll(status(JobState.PENDING), status(JobState.PENDING, "8")) == [twin]


def test_the_second_job_of_a_submission_is_looked_after_until_it_has_ended_too(pending: Bench) -> None:
    pending.poll(status(JobState.PENDING), status(JobState.PENDING, "8"))
    actions = pending.poll(status(JobState.ENDED, cause=EndCause.DONE), status(JobState.RUNNING, "8"))
    twin = CancelJobs((JobKey(name=NAME, id="8", submitted_at=5.0),))
    assert twin in actions
    for bench in (pending, Bench(pending.journal)):
        assert [job.id for job in bench.ledger.jobs()] == ["8"]
        bench.poll(status(JobState.ENDED, "8", cause=EndCause.DONE))
        assert list(bench.ledger.jobs()) == []


def test_a_job_of_ours_that_the_ledger_does_not_know_is_told_and_left_alone(pending: Bench) -> None:
    stray = JobStatus(id="99", name="dfm-inst-0-1-1", state=JobState.RUNNING)
    actions = pending.poll(status(JobState.PENDING), stray)
    assert [type(action) for action in actions] == [Tell]


def test_no_more_jobs_a_minute_than_allowed() -> None:
    bench = Bench()
    assert len(bench.launch(100)) == 30
    bench.now += 59.0
    assert bench.launch(1) == []
    bench.now += 1.0
    assert len(bench.launch(1)) == 1


def test_after_a_restart_jobs_are_asked_for_and_open_submissions_looked_up() -> None:
    bench = Bench()
    bench.launch(2)
    bench.do(SubmitAnswered(name=NAME, answer=Submitted(id="7")))
    after = Bench(journal=bench.journal)
    assert after.restored == [LookUpJob("dfm-inst-1-2-1"), QueryJobs((KEY,))]
    assert not after.ledger.is_fresh(after.now)
    assert [job.slot for job in after.ledger.jobs()] == ["s-1-1", "s-1-2"]
    assert Bench(journal=after.ledger.snapshot()).restored == after.restored
    launched = after.launch()[0]
    assert isinstance(launched, SubmitJob)
    assert launched.name == "dfm-inst-2-1-1"


def test_a_trial_that_tells_nothing_is_followed_by_another() -> None:
    bench = Bench()
    for number in (1, 2, 3):
        bench.launch()
        name = f"dfm-inst-1-{number}-1"
        bench.do(SubmitAnswered(name=name, answer=Submitted(id=str(number))))
        bench.poll(JobStatus(id=str(number), name=name, state=JobState.ENDED, cause=EndCause.FAILED))
    assert bench.ledger.ramp(bench.now)[SHAPE] == 0
    bench.now += 61.0
    assert bench.ledger.ramp(bench.now)[SHAPE] == 1
    bench.launch()
    assert bench.ledger.ramp(bench.now)[SHAPE] == 0
    answer = SubmitFailed(kind=FailureKind.TRANSIENT, text="LSF is down")
    bench.do(SubmitAnswered(name="dfm-inst-1-4-1", answer=answer))
    assert bench.ledger.ramp(bench.now)[SHAPE] == 1


@pytest.mark.parametrize("is_told", [True, False])
def test_a_job_that_waits_only_for_hosts_it_avoids_is_taken_back_and_they_are_tried_again(*, is_told: bool) -> None:
    bench = Bench()
    bench.do(HostExcluded(host="bad", text="it ate two workers"))
    [submit] = bench.launch()
    assert isinstance(submit, SubmitJob)
    assert submit.excluded_hosts == ("bad",)
    bench.do(SubmitAnswered(name=NAME, answer=Submitted(id="7")))
    waiting = status(JobState.PENDING, reason="no suitable hosts", has_no_host=is_told)
    assert bench.poll(waiting) == []
    if not is_told:
        for _ in range(29):
            assert bench.poll(waiting, after=60.0) == [], "as long as the host is avoided"
        bench.poll(waiting, after=60.0)
    told, cancel = bench.poll(waiting)
    assert isinstance(told, Tell)
    assert told.text.endswith("hosts that were avoided are tried again")
    assert cancel == CancelJobs((KEY,))
    assert bench.do(HostExcluded(host="bad", text="again")) == [], "it is not avoided again at once"
    assert bench.ledger.excluded_hosts(bench.now) == {}


# Arrays.


def element(index: int) -> str:
    return f"dfm-inst-1-1-1[{index}]"


@pytest.fixture
def submitting() -> Bench:
    """An array of three whose submission is on its way."""
    bench = Bench()
    bench.launch(3, array_size=10)
    return bench


def array_answered(answer: SubmitFailed) -> list[LedgerEvent]:
    return [SubmitAnswered(name=element(index), answer=answer, is_repeated=index > 1) for index in (1, 2, 3)]


def test_each_element_of_an_array_is_in_the_journal_before_it_is_submitted() -> None:
    actions = Bench().ledger.handle(LaunchWanted(shape=SHAPE, slots=1, clock=5.0, count=2, array_size=10), 1.0)
    names = [
        action.entry.fields["name"] if isinstance(action, Record) else action.name
        for action in actions
        if isinstance(action, Record | SubmitJob)
    ]
    assert names == [element(1), element(1), element(2), element(2)]
    assert [type(action) for action in actions] == [Record, SubmitJob, Record, SubmitJob]
    assert [action.slot for action in actions if isinstance(action, SubmitJob)] == ["s-1-1.1", "s-1-1.2"]


def test_one_worker_is_no_array_and_a_larger_number_is_several() -> None:
    bench = Bench()
    assert [action.name for action in bench.launch(1, array_size=10) if isinstance(action, SubmitJob)] == [NAME]
    names = [action.name for action in bench.launch(5, array_size=2) if isinstance(action, SubmitJob)]
    assert names == [
        *("dfm-inst-1-2-1[1]", "dfm-inst-1-2-1[2]", "dfm-inst-1-3-1[1]", "dfm-inst-1-3-1[2]"),
        "dfm-inst-1-4-1",
    ]


def test_an_array_counts_as_one_submission(submitting: Bench) -> None:
    assert submitting.ledger.submits_left(submitting.now) == 29


def test_a_refused_array_counts_as_one_refusal() -> None:
    bench = Bench()
    for _ in range(4):
        names = [action.name for action in bench.launch(3, array_size=3) if isinstance(action, SubmitJob)]
        answer = SubmitFailed(kind=FailureKind.TRANSIENT, text="LSF is down")
        told = bench.do(*(SubmitAnswered(name=name, answer=answer, is_repeated=name != names[0]) for name in names))
        assert told == []
        bench.wait(400.0)
    assert bench.ledger.pause_reason(bench.now) == ""


def test_the_elements_of_a_lost_array_are_found_each_by_its_name(submitting: Bench) -> None:
    submitting.do(*array_answered(SubmitFailed(kind=FailureKind.AMBIGUOUS, text="timed out")))
    assert submitting.wait(5.0) == [LookUpJob(element(index)) for index in (1, 2, 3)]
    listed = Listed(
        jobs=tuple(JobStatus(id=f"44[{index}]", name=element(index), state=JobState.PENDING) for index in (1, 2, 3))
    )
    submitting.do(*(LookUpAnswered(name=element(index), answer=listed) for index in (1, 2, 3)))
    assert [job.id for job in submitting.ledger.jobs()] == ["44[1]", "44[2]", "44[3]"]


def test_one_element_ends_and_the_others_go_on(submitting: Bench) -> None:
    submitting.do(*(SubmitAnswered(name=element(n), answer=Submitted(id=f"44[{n}]")) for n in (1, 2, 3)))
    killed = JobStatus(id="44[2]", name=element(2), state=JobState.ENDED, cause=EndCause.KILLED_BY_ADMIN)
    others = [JobStatus(id=f"44[{n}]", name=element(n), state=JobState.RUNNING, host="h") for n in (1, 3)]
    submitting.poll(killed, *others)
    assert [job.slot for job in submitting.ledger.jobs()] == ["s-1-1.1", "s-1-1.3"]
    assert submitting.do(CancelWanted(slots=("s-1-1.3",), why="surplus")) == [
        CancelJobs((JobKey(name=element(3), id="44[3]", submitted_at=5.0),))
    ]


def test_an_array_taken_twice_has_its_second_one_cancelled(submitting: Bench) -> None:
    submitting.do(*(SubmitAnswered(name=element(n), answer=Submitted(id=f"44[{n}]")) for n in (1, 2, 3)))
    first = [JobStatus(id=f"44[{n}]", name=element(n), state=JobState.PENDING) for n in (1, 2, 3)]
    second = [JobStatus(id=f"45[{n}]", name=element(n), state=JobState.PENDING) for n in (1, 2, 3)]
    cancelled = [action for action in submitting.poll(*first, *second) if isinstance(action, CancelJobs)]
    assert [job.id for action in cancelled for job in action.jobs] == ["45[1]", "45[2]", "45[3]"]


def test_a_restart_looks_for_the_elements_of_an_array_whose_answer_was_lost(submitting: Bench) -> None:
    again = Bench(submitting.journal)
    assert again.restored == [LookUpJob(element(index)) for index in (1, 2, 3)]
