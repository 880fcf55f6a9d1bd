"""The reactor's decisions, one behaviour each. A recorder asserts that nothing else was asked for."""

import pytest
from msgspec.structs import replace

from dfm.core.pool.events import (
    Acknowledge,
    AskToDrain,
    Assign,
    AttemptAsked,
    AttemptEnded,
    AttemptStarted,
    ClientClosed,
    ClientGone,
    ClientOpened,
    Confirm,
    Deliver,
    DrainWorker,
    HostSuspected,
    JournalEntry,
    Loss,
    LossKind,
    PassAnswer,
    PassQuestion,
    PoolAction,
    PoolEvent,
    QuestionAnswered,
    Record,
    Report,
    ResultReceived,
    Retire,
    ShapeRefused,
    Stop,
    TaskCancelled,
    TaskSubmitted,
    Tick,
    Welcomed,
    WorkerArrived,
    WorkerDisconnected,
    WorkerHeard,
    WorkerLost,
    WorkerResumed,
    WorkerSuspended,
    WorkerVacating,
)
from dfm.core.pool.reactor import Reactor, ReactorSettings
from dfm.core.pool.standing import Demand, Stage
from dfm.core.wire.messages import EPOCH_SHIFT, Shape

SHAPE = Shape(cores=1)
SETTINGS = ReactorSettings(walltime_margin_seconds=10.0)
UNKNOWN = Loss(LossKind.UNEXPLAINED, "gone")


class Bench:
    """A reactor, its clock and its journal. `do` returns what was asked for, without reports and records."""

    def __init__(self, settings: ReactorSettings = SETTINGS, journal: list[JournalEntry] | None = None) -> None:
        self.now = 100.0
        self.journal = list(journal or [])
        self.reactor = Reactor(settings, 1 if journal is None else 2)
        self.reactor.restore(self.journal, self.now)
        self.reports: list[Report] = []

    def do(self, *events: PoolEvent) -> list[PoolAction]:
        actions: list[PoolAction] = []
        for event in events:
            for action in self.reactor.handle(event, self.now):
                if isinstance(action, Record):
                    self.journal.append(action.entry)
                elif isinstance(action, Report):
                    self.reports.append(action)
                else:
                    actions.append(action)
            assert self.reactor.check(self.now) == []
        return actions

    def wait(self, seconds: float) -> list[PoolAction]:
        """Let time pass, ticking as often as the reactor wants."""
        end = self.now + seconds
        actions: list[PoolAction] = []
        while (due := self.reactor.next_deadline(self.now)) is not None and due <= end:
            self.now = due
            actions += self.do(Tick())
        self.now = end
        return actions

    def attempt(self, client: str = "c", ticket: int = 1) -> int:
        return next(task.attempt for task in self.reactor.tasks() if (task.client, task.ticket) == (client, ticket))

    def standing(self, ticket: int = 1) -> Stage:
        standing = self.reactor.pending_reason("c", ticket, self.now)
        assert standing is not None
        return standing.state


def submit(ticket: int = 1, client: str = "c", wall: float | None = None, shape: Shape = SHAPE) -> TaskSubmitted:
    return TaskSubmitted(client=client, ticket=ticket, task=f"t{ticket}", shape=shape, spec=b"spec", wall_seconds=wall)


def arrive(slot: str = "w", **fields: object) -> WorkerArrived:
    values: dict[str, object] = {"slot": slot, "incarnation": "i", "host": f"host-{slot}", "slots": 1, "shape": SHAPE}
    return WorkerArrived(**{**values, **fields})  # type: ignore[arg-type]


def ended(attempt: int, slot: str = "w", *, incarnation: str = "i", infrastructure: bool = False) -> AttemptEnded:
    return AttemptEnded(
        slot=slot,
        incarnation=incarnation,
        attempt=attempt,
        outcome="succeeded",
        body=b"body",
        is_infrastructure=infrastructure,
    )


def assigns(actions: list[PoolAction]) -> list[tuple[str, str]]:
    return [(action.task, action.slot) for action in actions if isinstance(action, Assign)]


@pytest.fixture
def empty() -> Bench:
    bench = Bench()
    bench.do(ClientOpened(client="c"))
    return bench


@pytest.fixture
def busy() -> Bench:
    """One worker that has task 1 of client c."""
    bench = Bench()
    bench.do(ClientOpened(client="c"), arrive(), submit())
    return bench


def test_a_task_is_confirmed_and_given_to_a_free_worker(empty: Bench) -> None:
    assert empty.do(arrive()) == [Welcomed(slot="w")]
    first = (1 << EPOCH_SHIFT) | 1
    assign = Assign(slot="w", attempt=first, number=1, task="t1", spec=b"spec", environment="", wall_seconds=None)
    assert empty.do(submit()) == [Confirm(client="c", ticket=1), assign]
    assert [entry.kind for entry in empty.journal] == ["client", "submit", "dispatch"]


def test_a_result_is_committed_acknowledged_and_delivered_in_that_order(busy: Bench) -> None:
    attempt = busy.attempt()
    actions = busy.reactor.handle(ended(attempt), busy.now)
    assert isinstance(actions[0], Record)
    assert actions[0].entry.kind == "commit"
    assert actions[1:] == [
        Acknowledge("w", attempt),
        Deliver(client="c", ticket=1, outcome="succeeded", body=b"body"),
    ]


GROWING = (Shape(cores=1, memory_bytes=1 << 30, resource_class="big"), Shape(cores=1, resource_class="huge"))
SMALL = Shape(cores=1, memory_bytes=1 << 20, resource_class="small")
OUT_OF_MEMORY = Loss(LossKind.MEMORY, "its job 7 ended: memory")


@pytest.fixture
def growing(empty: Bench) -> Bench:
    """One small worker that has task 1, which may grow twice."""
    empty.do(arrive(shape=SMALL), replace(submit(shape=SMALL), larger=GROWING))
    return empty


def starved(bench: Bench, slot: str = "w") -> AttemptEnded:
    return replace(ended(bench.attempt(), slot), outcome="failed", is_out_of_memory=True)


def test_a_task_that_ran_out_of_memory_goes_on_in_the_next_larger_class(growing: Bench) -> None:
    first = growing.attempt()
    assert growing.do(starved(growing)) == [Acknowledge("w", first)]
    assert [entry.kind for entry in growing.journal[-1:]] == ["grow"]
    standing = growing.reactor.pending_reason("c", 1, growing.now)
    assert standing is not None
    assert standing.reason.startswith("it ran out of memory in class small (1M) and needs class big (1G)")
    assert assigns(growing.do(arrive("x", shape=SMALL), arrive("y", shape=GROWING[0]))) == [("t1", "y")]
    [_, deliver] = growing.do(ended(growing.attempt(), "y"))
    assert isinstance(deliver, Deliver)
    assert (deliver.attempts, deliver.resource_class) == (2, "big")
    assert (growing.reactor.counters().outgrown, growing.reactor.counters().lost_attempts) == (1, 0)


def test_a_task_in_its_largest_class_fails_when_it_runs_out_of_memory(growing: Bench) -> None:
    growing.do(arrive("x", shape=GROWING[0]), arrive("y", shape=GROWING[1]), starved(growing))
    growing.do(starved(growing, "x"))
    attempt = growing.attempt()
    [_, deliver] = growing.do(starved(growing, "y"))
    end = Deliver(client="c", ticket=1, outcome="failed", body=b"body", attempts=3, is_out_of_memory=True)
    assert (deliver, attempt & 3) == (replace(end, resource_class="huge"), 3)


def test_a_job_that_was_ended_for_memory_has_its_task_grow_or_counts_against_it(growing: Bench) -> None:
    growing.do(submit(2, shape=SMALL), WorkerLost(slot="w", loss=OUT_OF_MEMORY))
    assert growing.reactor.demand(growing.now)[GROWING[0]].waiting == 1
    for slot in ("x", "y", "z"):
        growing.do(arrive(slot, shape=SMALL))
        assert growing.standing(2) is Stage.ASSIGNED
        growing.do(WorkerLost(slot=slot, loss=OUT_OF_MEMORY))
    assert growing.standing(2) is Stage.ENDED


def test_what_was_given_back_grows_once_the_job_is_known_to_have_ended_for_memory(growing: Bench) -> None:
    told_to_go = Loss(LossKind.KILLED, "the worker was told to go (signal)")
    growing.do(WorkerVacating(slot="w", incarnation="i", loss=told_to_go, dropped=(growing.attempt(),)))
    assert growing.reactor.demand(growing.now)[SMALL].waiting == 1
    growing.do(WorkerLost(slot="w", incarnation="i", loss=Loss(LossKind.LEFT, "signal")))
    growing.do(WorkerLost(slot="w", loss=OUT_OF_MEMORY))
    assert growing.reactor.demand(growing.now)[GROWING[0]].waiting == 1


def test_what_began_again_in_too_small_a_class_grows_at_its_next_kill(growing: Bench) -> None:
    told_to_go = Loss(LossKind.KILLED, "the worker was told to go (signal)")
    growing.do(arrive("x", shape=SMALL))
    growing.do(WorkerVacating(slot="w", incarnation="i", loss=told_to_go, dropped=(growing.attempt(),)))
    growing.do(WorkerLost(slot="w", loss=OUT_OF_MEMORY))
    assert growing.standing() is Stage.ASSIGNED
    growing.do(WorkerVacating(slot="x", incarnation="i", loss=told_to_go, dropped=(growing.attempt(),)))
    assert growing.reactor.demand(growing.now)[GROWING[0]].waiting == 1


def test_a_larger_class_that_is_refused_ends_the_task_with_both_reasons(growing: Bench) -> None:
    growing.do(starved(growing))
    [deliver] = growing.do(ShapeRefused(GROWING[0], "no such queue"))
    assert isinstance(deliver, Deliver)
    assert (deliver.outcome, deliver.cause) == ("refused", "no such queue (it ran out of memory in class small)")


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_a_task_is_as_large_after_a_restart_as_before(growing: Bench, *, by_snapshot: bool) -> None:
    growing.do(starved(growing))
    again = Bench(journal=growing.reactor.snapshot() if by_snapshot else growing.journal)
    again.do(ClientOpened(client="c"))
    assert assigns(again.do(arrive("x", shape=SMALL), arrive("y", shape=GROWING[0]))) == [("t1", "y")]
    assert assigns(again.do(starved(again, "y"), arrive("z", shape=GROWING[1]))) == [("t1", "z")]


def test_out_of_memory_is_passed_through(busy: Bench) -> None:
    event = AttemptEnded(
        slot="w", incarnation="i", attempt=busy.attempt(), outcome="failed", body=b"", is_out_of_memory=True
    )
    assert busy.do(event)[1] == Deliver(client="c", ticket=1, outcome="failed", is_out_of_memory=True)


def test_a_task_whose_workers_are_ended_for_memory_is_told_so(empty: Bench) -> None:
    empty.do(submit())
    actions: list[PoolAction] = []
    memory = Loss(LossKind.MEMORY, "its job was ended for memory")
    for number in range(3):
        actions = empty.do(arrive(f"w{number}"), WorkerLost(slot=f"w{number}", loss=memory))
        empty = Bench(journal=empty.reactor.snapshot()) if number < 2 else empty
        empty.do(ClientOpened(client="c"))
    [deliver] = [action for action in actions if isinstance(action, Deliver)]
    assert deliver.cause.startswith("the jobs of 3 workers were ended for memory while they ran it: give it more (")
    assert "no known cause" not in deliver.cause


def test_a_worker_that_has_no_time_for_what_waits_is_none_that_will_serve(empty: Bench) -> None:
    empty.do(arrive("old", lives_seconds=100.0, slots=1), submit(1, wall=50.0), submit(2, wall=3600.0))
    assert empty.reactor.demand(empty.now)[SHAPE].workers == 0
    empty.do(arrive("young", lives_seconds=7300.0), submit(3, wall=3600.0))
    assert empty.reactor.demand(empty.now)[SHAPE].workers == 1


def test_a_received_result_is_forgotten_and_one_that_is_not_is_delivered_again(busy: Bench) -> None:
    delivered = busy.do(ended(busy.attempt()))[1]
    assert busy.do(ClientGone("c"), ClientOpened(client="c")) == [delivered]
    assert busy.do(ResultReceived("c", 1), ClientOpened(client="c")) == []
    assert busy.reactor.tasks() == []


def test_a_run_directory_is_taken_until_the_last_attempt_of_a_closed_client_has_ended() -> None:
    bench = Bench()
    bench.do(ClientOpened(client="c", rundir="/r"), arrive(), submit())
    attempt = bench.attempt()
    bench.do(ClientClosed("c"))
    taken = bench.reactor.is_taken
    assert (taken("/r", "d"), taken("/other", "d"), taken("/r", "c")) == (True, False, False)
    bench.do(ended(attempt))
    assert not taken("/r", "d")


def test_a_restarted_daemon_knows_the_directory_of_a_client_that_is_not_back() -> None:
    before = Bench()
    before.do(ClientOpened(client="c", rundir="/r"), submit())
    for journal in (before.journal, before.reactor.snapshot()):
        after = Bench(journal=journal)
        assert after.reactor.gone_from("/r") == ["c"]
        assert after.reactor.is_taken("/r", "d")
        after.do(ClientOpened(client="c", rundir="/r"))
        assert after.reactor.gone_from("/r") == []


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_a_directory_that_a_closed_client_s_attempt_is_in_is_taken_after_a_restart_too(*, by_snapshot: bool) -> None:
    before = Bench()
    before.do(ClientOpened(client="c", rundir="/r"), arrive(), submit(1), submit(2))
    attempt = before.attempt()
    before.do(ClientClosed("c"))
    after = Bench(journal=before.reactor.snapshot() if by_snapshot else before.journal)
    assert after.reactor.is_taken("/r", "d")
    assert after.reactor.slots_at_work("/r") == {"w"}
    assert after.reactor.tasks() == []
    assert after.do(arrive(running=(attempt,))) == [Welcomed(slot="w", keep=(attempt,)), Stop("w", attempt)]
    assert after.do(ended(attempt)) == [Acknowledge("w", attempt)]
    assert not after.reactor.is_taken("/r", "d")
    assert not Bench(journal=after.journal).reactor.is_taken("/r", "d")


def test_what_a_closed_client_had_with_a_worker_that_does_not_come_back_ends_with_its_lease() -> None:
    before = Bench()
    before.do(ClientOpened(client="c", rundir="/r"), arrive(), submit())
    before.do(ClientClosed("c"))
    after = Bench(journal=before.journal)
    after.wait(21.0)
    assert not after.reactor.is_taken("/r", "d")


def test_the_same_ticket_is_the_same_task(busy: Bench) -> None:
    assert busy.do(submit()) == [Confirm(client="c", ticket=1)]
    delivered = busy.do(ended(busy.attempt()))[1]
    assert busy.do(submit()) == [Confirm(client="c", ticket=1), delivered]


def test_a_result_of_an_attempt_that_is_not_current_is_acknowledged_and_dropped(busy: Bench) -> None:
    old = busy.attempt()
    busy.do(WorkerLost(slot="w", loss=UNKNOWN), arrive("x"), arrive(incarnation="j"))
    assert busy.do(ended(old, incarnation="j")) == [Acknowledge("w", old)]
    assert busy.reactor.counters().late_results == 1


def test_a_result_of_a_worker_that_was_given_up_counts_for_nothing(busy: Bench) -> None:
    attempt = busy.attempt()
    busy.wait(21.0)
    actions = busy.do(ended(attempt))
    assert [type(action) for action in actions] == [Retire]
    assert busy.standing() is Stage.QUEUED


def test_a_lost_worker_hands_its_task_to_the_next_one(busy: Bench) -> None:
    busy.do(arrive("x"))
    actions = busy.do(WorkerLost(slot="w", incarnation="i", loss=UNKNOWN))
    assert assigns(actions) == [("t1", "x")]


def test_a_silent_worker_is_given_up_after_its_lease_and_one_that_is_heard_is_not(busy: Bench) -> None:
    for _ in range(10):
        assert busy.wait(10.0) == []
        busy.do(WorkerHeard(slot="w", incarnation="i"))
    assert [type(action) for action in busy.wait(21.0)] == [Retire]


def test_a_broken_link_leaves_the_worker_its_lease(busy: Bench) -> None:
    attempt = busy.attempt()
    busy.do(WorkerDisconnected(slot="w", incarnation="i"))
    assert busy.standing() is Stage.UNREACHABLE
    busy.wait(15.0)
    assert busy.do(arrive(running=(attempt,))) == [Welcomed(slot="w", keep=(attempt,))]
    assert busy.standing() is Stage.RUNNING
    assert [type(action) for action in busy.do(ended(attempt))] == [Acknowledge, Deliver]


def test_an_attempt_that_never_reached_its_worker_is_sent_again_and_does_not_count(busy: Bench) -> None:
    for _ in range(5):
        busy.do(WorkerDisconnected(slot="w", incarnation="i"))
        assert assigns(busy.do(arrive())) == [("t1", "w")]


def test_three_unexplained_losses_end_a_task_with_hosts_and_logs_named() -> None:
    bench = Bench(ReactorSettings(log_of=lambda slot: f"/logs/{slot}.log"))
    bench.do(ClientOpened(client="c"), submit())
    for slot in ("a", "b"):
        bench.do(arrive(slot), WorkerLost(slot=slot, loss=UNKNOWN))
    bench.do(arrive("d"))
    delivered = bench.do(WorkerLost(slot="d", loss=UNKNOWN))[-1]
    assert isinstance(delivered, Deliver)
    assert (delivered.outcome, delivered.attempts) == ("lost", 3)
    assert all(f"host-{slot}: gone, log /logs/{slot}.log" in delivered.cause for slot in "abd")


@pytest.mark.parametrize("kind", [kind for kind in LossKind if kind not in (LossKind.UNEXPLAINED, LossKind.MEMORY)])
def test_explained_losses_do_not_count(empty: Bench, kind: LossKind) -> None:
    empty.do(submit())
    for number in range(10):
        empty.do(arrive(f"w{number}"), WorkerLost(slot=f"w{number}", loss=Loss(kind, "known")))
    assert empty.standing() is Stage.QUEUED


def test_a_second_life_of_a_slot_ends_the_first_and_the_first_cannot_come_back(busy: Bench) -> None:
    actions = busy.do(arrive(incarnation="j"))
    assert [type(action) for action in actions] == [Retire, Welcomed, Assign]
    assert [type(action) for action in busy.do(arrive(incarnation="i"))] == [Retire]
    assert busy.reactor.workers()[0].incarnation == "j"


def test_a_task_is_never_given_to_a_worker_whose_life_is_too_short(empty: Bench) -> None:
    empty.do(arrive("short", lives_seconds=60.0), submit(1, wall=51.0))
    assert empty.standing() is Stage.QUEUED
    assert assigns(empty.do(submit(2, wall=50.0))) == [("t2", "short")]
    assert assigns(empty.do(arrive("long", lives_seconds=61.0))) == [("t1", "long")]


def test_a_task_goes_to_the_worker_that_ends_first_after_it(empty: Bench) -> None:
    empty.do(arrive("endless"), arrive("long", lives_seconds=500.0), arrive("short", lives_seconds=100.0))
    assert assigns(empty.do(submit(1, wall=80.0), submit(2, wall=80.0), submit(3))) == [
        ("t1", "short"),
        ("t2", "long"),
        ("t3", "endless"),
    ]


def test_a_task_longer_than_any_job_ends_at_once() -> None:
    bench = Bench(ReactorSettings(job_wall_seconds=100.0, walltime_margin_seconds=10.0))
    delivered = bench.do(ClientOpened(client="c"), submit(wall=91.0))[-1]
    assert isinstance(delivered, Deliver)
    assert delivered.outcome == "refused"
    assert "91 s" in delivered.cause


def test_tasks_that_no_new_worker_has_time_for_end_after_three_of_those(empty: Bench) -> None:
    empty.do(submit(wall=1000.0))
    for number in range(2):
        empty.do(arrive(f"w{number}", lives_seconds=60.0))
    delivered = empty.do(arrive("w2", lives_seconds=60.0))[-1]
    assert isinstance(delivered, Deliver)
    assert delivered.outcome == "refused"


def test_a_new_worker_that_lives_long_enough_shows_that_there_are_such(empty: Bench) -> None:
    empty.do(submit(1, wall=1000.0), submit(2, wall=1000.0))
    lives = [60.0, 60.0, 5000.0, 60.0, 60.0]
    actions = [empty.do(arrive(f"w{number}", lives_seconds=life)) for number, life in enumerate(lives)]
    assert [len(assigns(some)) for some in actions] == [0, 0, 1, 0, 0]
    assert empty.standing(2) is Stage.QUEUED
    [*_, refused] = empty.do(arrive("last", lives_seconds=60.0))
    assert isinstance(refused, Deliver)


def test_a_refused_shape_ends_its_waiting_tasks_in_the_words_of_the_batch_system(empty: Bench) -> None:
    other = Shape(cores=2)
    empty.do(submit(1), submit(2, shape=other))
    assert empty.do(ShapeRefused(other, "queue unknown")) == [
        Deliver(client="c", ticket=2, outcome="refused", cause="queue unknown")
    ]
    assert empty.standing(1) is Stage.QUEUED


def test_clients_share_workers_by_weight() -> None:
    bench = Bench()
    bench.do(ClientOpened(client="a", weight=2.0), ClientOpened(client="b"))
    for ticket in range(30):
        bench.do(submit(ticket, "a"))
    for ticket in range(30):
        bench.do(submit(ticket, "b"))
    bench.do(arrive(slots=9))
    running = [task.client for task in bench.reactor.tasks() if task.state is Stage.ASSIGNED]
    assert (running.count("a"), running.count("b")) == (6, 3)


def test_tasks_of_one_client_go_in_order_and_a_lost_one_goes_first(empty: Bench) -> None:
    empty.do(submit(1), submit(2), submit(3))
    assert assigns(empty.do(arrive())) == [("t1", "w")]
    empty.do(WorkerLost(slot="w", loss=UNKNOWN))
    assert assigns(empty.do(arrive("x", slots=3))) == [("t1", "x"), ("t2", "x"), ("t3", "x")]


def test_a_draining_worker_gets_nothing_more(busy: Bench) -> None:
    assert busy.do(DrainWorker("w"), DrainWorker("w"), submit(2)) == [AskToDrain("w"), Confirm(client="c", ticket=2)]
    assert assigns(busy.do(ended(busy.attempt()))) == []


def test_a_suspended_worker_is_not_lost_however_long_it_is_silent(busy: Bench) -> None:
    attempt = busy.attempt()
    busy.do(WorkerSuspended("w"), submit(2))
    assert busy.wait(3600.0) == []
    assert busy.standing() is Stage.SUSPENDED
    busy.do(WorkerResumed("w"))
    assert assigns(busy.do(ended(attempt))) == [("t2", "w")]


def test_a_vacating_worker_gives_back_what_it_dropped(busy: Bench) -> None:
    attempt = busy.attempt()
    busy.do(arrive("x"))
    loss = Loss(LossKind.PREEMPTED, "preempted")
    vacating = WorkerVacating(slot="w", incarnation="i", loss=loss, dropped=(attempt,))
    assert assigns(busy.do(vacating)) == [("t1", "x")]
    assert assigns(busy.do(submit(2))) == []


def test_a_waiting_task_that_is_cancelled_ends_at_once(empty: Bench) -> None:
    empty.do(submit())
    assert empty.do(TaskCancelled(client="c", ticket=1)) == [
        Deliver(client="c", ticket=1, outcome="lost", cause="cancelled")
    ]


def test_a_running_task_that_is_cancelled_keeps_its_place_until_it_has_stopped(busy: Bench) -> None:
    attempt = busy.attempt()
    busy.do(submit(2))
    assert busy.do(TaskCancelled(client="c", ticket=1)) == [Stop("w", attempt)]
    assert busy.do(TaskCancelled(client="c", ticket=1, is_urgent=True)) == [Stop("w", attempt, is_urgent=True)]
    actions = busy.do(ended(attempt))
    assert actions[:2] == [
        Acknowledge("w", attempt),
        Deliver(client="c", ticket=1, outcome="lost", cause="cancelled"),
    ]
    assert assigns(actions) == [("t2", "w")]


def test_a_worker_that_does_not_stop_a_task_is_retired(busy: Bench) -> None:
    busy.do(TaskCancelled(client="c", ticket=1))
    actions: list[PoolAction] = []
    for _ in range(4):
        busy.do(WorkerHeard(slot="w", incarnation="i")) if busy.reactor.workers() else None
        actions += busy.wait(10.0)
    assert [type(action) for action in actions] == [Retire, Deliver]


def test_the_tasks_of_a_client_that_stays_away_are_stopped_after_the_grace(busy: Bench) -> None:
    attempt = busy.attempt()
    busy.do(submit(2), ClientGone("c"), WorkerSuspended("w"), WorkerResumed("w"))
    actions: list[PoolAction] = []
    for _ in range(7):
        busy.do(WorkerHeard(slot="w", incarnation="i"))
        actions += busy.wait(10.0)
    assert actions == [Stop("w", attempt)]
    assert busy.do(ended(attempt)) == [Acknowledge("w", attempt)]
    assert busy.reactor.tasks() == []


def test_a_closed_client_gets_nothing_and_leaves_nothing(busy: Bench) -> None:
    attempt = busy.attempt()
    assert busy.do(submit(2), ClientClosed("c"))[1:] == [Stop("w", attempt)]
    assert busy.do(WorkerLost(slot="w", loss=UNKNOWN)) == [Retire("w", "i", "gone")]
    assert busy.reactor.snapshot() == []


def test_a_host_that_fails_several_tasks_is_suspected_and_they_are_not_charged(empty: Bench) -> None:
    for ticket in (1, 2, 3):
        empty.do(submit(ticket))
    bad = arrive("bad", slots=3, host="bad")
    empty.do(bad)
    actions: list[PoolAction] = []
    for ticket in (1, 2, 3):
        actions += empty.do(ended(empty.attempt(ticket=ticket), "bad", infrastructure=True))
    assert HostSuspected(host="bad", text="3 tasks failed on it or were lost with its workers") in actions
    assert AskToDrain("bad") in actions
    assert AskToDrain("worse") in empty.do(arrive("worse", host="bad"))
    assert len(assigns(empty.do(arrive("good", slots=3)))) == 3


def test_a_task_that_every_host_fails_ends_with_what_they_say(empty: Bench) -> None:
    empty.do(submit(), arrive())
    for _ in range(2):
        empty.do(ended(empty.attempt(), infrastructure=True))
        empty.wait(6.0)
    actions = empty.do(ended(empty.attempt(), infrastructure=True))
    assert actions[1] == Deliver(client="c", ticket=1, outcome="succeeded", body=b"body", attempts=3)


def test_a_task_that_kills_its_workers_makes_no_host_suspect(empty: Bench) -> None:
    actions = empty.do(submit())
    for number in range(3):
        actions += empty.do(arrive(f"w{number}", host=f"h{number % 2}"), WorkerLost(slot=f"w{number}", loss=UNKNOWN))
    assert not [action for action in actions if isinstance(action, HostSuspected)]
    assert isinstance(actions[-1], Deliver)


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_failures_of_hosts_and_lives_that_were_too_short_count_after_a_restart_too(*, by_snapshot: bool) -> None:
    bench = Bench()
    bench.do(ClientOpened(client="c"), arrive(), submit())
    bench.do(ended(bench.attempt(), infrastructure=True))
    walltime = Loss(LossKind.WALLTIME, "its time is over")
    actions: list[PoolAction] = []
    for number in range(3):
        bench = Bench(journal=bench.reactor.snapshot() if by_snapshot else bench.journal)
        bench.do(ClientOpened(client="c"))
        actions = bench.do(arrive(f"x{number}", lives_seconds=600.0), WorkerLost(slot=f"x{number}", loss=walltime))
    [deliver] = [action for action in actions if isinstance(action, Deliver)]
    assert "until the end of its worker's job 3 times" in deliver.cause
    late = Bench()
    late.do(ClientOpened(client="c"), arrive(), submit())
    late.do(ended(late.attempt(), infrastructure=True))
    late.wait(6.0)
    late.do(ended(late.attempt(), infrastructure=True))
    again = Bench(journal=late.reactor.snapshot() if by_snapshot else late.journal)
    again.do(ClientOpened(client="c"), arrive("y"))
    assert isinstance(again.do(ended(again.attempt(), "y", infrastructure=True))[1], Deliver), "the third counts"


def test_after_a_restart_a_worker_comes_back_with_what_it_runs(busy: Bench) -> None:
    attempt = busy.attempt()
    after = Bench(journal=busy.journal)
    after.do(ClientOpened(client="c"), arrive("x"))
    assert after.standing() is Stage.UNREACHABLE
    after.wait(15.0)
    assert after.do(arrive(running=(attempt,))) == [Welcomed(slot="w", keep=(attempt,))]
    assert [type(action) for action in after.do(ended(attempt))] == [Acknowledge, Deliver]


def test_after_a_restart_nothing_is_sent_again_before_a_lease_has_passed(busy: Bench) -> None:
    after = Bench(journal=busy.journal)
    after.do(ClientOpened(client="c"), arrive("x"))
    actions: list[PoolAction] = []
    for _ in range(3):
        actions += after.wait(6.0)
        after.do(WorkerHeard(slot="x", incarnation="i"))
    assert actions == []
    actions = after.wait(3.0)
    assert assigns(actions) == [("t1", "x")]
    assert after.attempt() >> EPOCH_SHIFT == 2


def test_a_result_that_was_not_received_survives_a_restart(busy: Bench) -> None:
    delivered = busy.do(ended(busy.attempt()))[1]
    assert Bench(journal=busy.journal).do(ClientOpened(client="c")) == [delivered]


def test_a_snapshot_says_what_the_journal_says(busy: Bench) -> None:
    busy.do(submit(2), submit(3), TaskCancelled(client="c", ticket=3), arrive("x"), WorkerLost(slot="x", loss=UNKNOWN))
    busy.do(AttemptStarted(slot="w", incarnation="i", attempt=busy.attempt()))
    by_journal, by_snapshot = Bench(journal=busy.journal), Bench(journal=busy.reactor.snapshot())
    assert by_snapshot.reactor.tasks() == by_journal.reactor.tasks()
    assert by_snapshot.reactor.snapshot() == by_journal.reactor.snapshot()


def test_demand_tells_what_waits_and_what_is_free(busy: Bench) -> None:
    busy.do(submit(2), submit(3, wall=30.0), arrive("x", slots=3, shape=Shape(cores=2)))
    demand = busy.reactor.demand(busy.now)
    assert demand[SHAPE] == Demand(waiting=2, running=1, workers=1, waiting_since=100.0)
    assert demand[Shape(cores=2)] == Demand()


def test_demand_counts_the_workers_that_will_take_a_task_that_waits(empty: Bench) -> None:
    def willing() -> int:
        return empty.reactor.demand(empty.now)[SHAPE].workers

    empty.do(arrive("w"), arrive("x"), submit(1), submit(2), submit(3))
    assert willing() == 2
    empty.do(DrainWorker("w"))
    assert willing() == 1
    empty.do(WorkerSuspended("x"))
    assert willing() == 0


def test_a_worker_waits_while_all_its_attempts_do(asking: Bench) -> None:
    [worker] = asking.reactor.workers()
    assert worker.is_waiting
    assert asking.reactor.demand(asking.now)[SHAPE].workers == 0
    asking.do(submit(2))
    [worker] = asking.reactor.workers()
    assert not worker.is_waiting
    assert asking.reactor.demand(asking.now)[SHAPE].workers == 1


def test_every_unfinished_task_has_a_reason_and_a_deadline(busy: Bench) -> None:
    busy.do(submit(2))
    for ticket in (1, 2):
        standing = busy.reactor.pending_reason("c", ticket, busy.now)
        assert standing is not None
        assert standing.reason
        assert busy.now <= standing.deadline <= busy.now + 20.0
    assert busy.reactor.pending_reason("c", 9, busy.now) is None


# Questions of bodies.


def asked(attempt: int, number: int = 1, slot: str = "w") -> AttemptAsked:
    return AttemptAsked(slot=slot, incarnation="i", attempt=attempt, number=number, question=b"q")


def answered(attempt: int, number: int = 1, ticket: int = 1) -> QuestionAnswered:
    return QuestionAnswered(client="c", ticket=ticket, attempt=attempt, number=number, answer=b"a")


def passed(attempt: int, number: int = 1) -> PassQuestion:
    return PassQuestion(client="c", ticket=1, attempt=attempt, number=number, question=b"q")


@pytest.fixture
def asking(empty: Bench) -> Bench:
    """One worker with one slot, whose one attempt waits for the answer to its question 1."""
    empty.do(arrive(), submit())
    assert empty.do(asked(empty.attempt())) == [passed(empty.attempt())]
    return empty


def test_an_attempt_that_waits_for_an_answer_lends_its_slot(asking: Bench) -> None:
    assert assigns(asking.do(submit(2), submit(3))) == [("t2", "w")]
    assert asking.standing(3) is Stage.QUEUED


def test_an_answer_goes_to_the_worker_and_takes_the_slot_again(asking: Bench) -> None:
    attempt = asking.attempt()
    answer = PassAnswer(slot="w", attempt=attempt, number=1, answer=b"a")
    assert asking.do(answered(attempt)) == [answer]
    assert assigns(asking.do(submit(2))) == []
    assert assigns(asking.do(ended(attempt))) == [("t2", "w")]


def test_an_attempt_with_its_answer_crowds_its_worker_until_another_ends(asking: Bench) -> None:
    asking.do(submit(2), submit(3), answered(asking.attempt()))
    assert assigns(asking.do(ended(asking.attempt(ticket=2)))) == []
    assert assigns(asking.do(ended(asking.attempt()))) == [("t3", "w")]


def test_a_slot_is_taken_again_with_the_last_answer_only(asking: Bench) -> None:
    attempt = asking.attempt()
    asking.do(asked(attempt, 2), answered(attempt, 1))
    assert assigns(asking.do(submit(2))) == [("t2", "w")]


def test_an_answer_counts_once_and_only_for_the_current_attempt(asking: Bench) -> None:
    attempt = asking.attempt()
    assert asking.do(answered(attempt + 1), answered(attempt, 7), answered(attempt, ticket=9)) == []
    asking.do(answered(attempt))
    assert asking.do(answered(attempt)) == []


def test_a_question_of_an_attempt_that_is_not_current_is_dropped(asking: Bench) -> None:
    attempt = asking.attempt()
    asking.do(WorkerLost(slot="w", loss=UNKNOWN), arrive("v"))
    assert asking.do(asked(attempt, slot="v")) == []
    assert asking.do(answered(attempt)) == []


def test_questions_are_passed_on_again_to_a_client_that_comes_back(asking: Bench) -> None:
    attempt = asking.attempt()
    asking.do(ClientGone("c"))
    assert asking.do(asked(attempt, 2)) == []
    assert asking.do(ClientOpened(client="c")) == [passed(attempt), passed(attempt, 2)]


def test_an_answer_that_its_worker_cannot_hear_is_asked_for_again(asking: Bench) -> None:
    attempt = asking.attempt()
    assert asking.do(WorkerDisconnected(slot="w", incarnation="i")) == []
    assert asking.do(answered(attempt)) == []
    assert asking.do(arrive(running=(attempt,))) == [Welcomed(slot="w", keep=(attempt,))]
    assert asking.do(asked(attempt)) == [passed(attempt)]
    assert asking.do(answered(attempt)) == [PassAnswer(slot="w", attempt=attempt, number=1, answer=b"a")]


def test_a_restarted_daemon_takes_in_a_worker_with_more_attempts_than_slots(asking: Bench) -> None:
    asking.do(submit(2))
    attempts = asking.attempt(), asking.attempt(ticket=2)
    later = Bench(journal=asking.journal)
    later.do(ClientOpened(client="c"), arrive(running=attempts))
    assert later.do(asked(attempts[0])) == [passed(attempts[0])]
    assert assigns(later.do(ended(attempts[1]), submit(3))) == [("t3", "w")]


def test_a_cancelled_attempt_asks_nothing(asking: Bench) -> None:
    attempt = asking.attempt()
    asking.do(TaskCancelled(client="c", ticket=1))
    assert asking.do(asked(attempt, 2)) == []
    asking.do(ended(attempt))
    assert assigns(asking.do(submit(2))) == [("t2", "w")]


def test_why_tells_that_a_task_waits_for_its_answer(asking: Bench) -> None:
    standing = asking.reactor.pending_reason("c", 1, asking.now)
    assert standing is not None
    assert standing.reason == "waits on worker w on host-w for the run to answer it"
