"""The life of a worker, told what happens and when."""

import random

import msgspec
import pytest

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.limits import job_wall_seconds
from dfm.core.wire.environment import environment_message
from dfm.core.wire.messages import (
    Ack,
    Answered,
    Asked,
    Beat,
    CancelAttempt,
    Drain,
    Exit,
    Hello,
    Leaving,
    Message,
    Result,
    Run,
    Shape,
    Started,
    ToWorker,
    Vacating,
    Welcome,
)
from dfm.core.worker.session import (
    Connect,
    Effect,
    End,
    Forget,
    GoOn,
    HandOver,
    HangUp,
    Hold,
    Keep,
    Leave,
    Say,
    Self,
    Session,
    Start,
    Stop,
)

ME = Self(slot="s1", incarnation="i", host="h", pid=1, version="1")
TERMS = Welcome(
    epoch=1, heartbeat_seconds=5, silence_seconds=15, idle_seconds=300, lost_seconds=200, kill_grace_seconds=3,
    margin_seconds=120,
)  # fmt: skip
DONE = Result(attempt=1, outcome="succeeded", body=b"x")


def run(attempt: int = 1, wall_seconds: float | None = None) -> Run:
    return Run(attempt=attempt, number=1, task="t", spec=b"", wall_seconds=wall_seconds)


def keeping(*attempts: int) -> Welcome:
    return Welcome(
        epoch=1, heartbeat_seconds=5, silence_seconds=15, idle_seconds=300, lost_seconds=200, kill_grace_seconds=3,
        margin_seconds=120, keep=list(attempts),
    )  # fmt: skip


def said(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Say)]


def stops(effects: list[Effect]) -> list[Stop]:
    return [effect for effect in effects if isinstance(effect, Stop)]


def serving(me: Self = ME) -> Session:
    session = Session(me, 0.0)
    session.begin()
    session.connected(0.0)
    session.heard([TERMS], 0.0)
    return session


@pytest.fixture
def free() -> Session:
    return serving()


@pytest.fixture
def busy() -> Session:
    session = serving()
    session.heard([run()], 1.0)
    session.started(1, 1.0)
    return session


def alive(session: Session, start: float, end: float) -> list[Effect]:
    """Let time pass, the daemon beating."""
    effects: list[Effect] = []
    now = start
    while now < end:
        now = min(end, now + 4.0)
        effects += session.heard([Beat()], now) + session.tick(now)
    return effects


def silent(session: Session, start: float, end: float) -> list[Effect]:
    """Let time pass, nobody speaking."""
    effects: list[Effect] = []
    now = start
    while now < end:
        now = min(end, now + 1.0)
        effects += session.tick(now)
    return effects


def test_new_worker_connects_and_introduces_itself() -> None:
    session = Session(ME, 0.0, [DONE])
    assert session.begin() == [Connect(0.0)]
    assert session.connected(0.5) == [
        Say(Hello(slot="s1", incarnation="i", host="h", pid=1, version="1", slots=1, cores=1, finished=[1]))
    ]
    assert session.heard([TERMS], 0.6) == [Say(DONE)]


def test_attempt_is_started_told_and_held_until_acknowledged(free: Session) -> None:
    assert free.heard([run()], 1.0) == [Start(run(), {})]
    assert free.started(1, 1.1) == [Say(Started(attempt=1))]
    assert free.ended(DONE, 2.0) == [Keep(DONE), Say(DONE)]
    assert free.heard([Ack(attempt=1)], 2.1) == [Forget(1)]


def test_attempt_gets_the_environment_of_its_digest(free: Session) -> None:
    message = environment_message({"A": "\udcff"})
    wanted = Run(attempt=1, number=1, task="t", spec=b"", environment=message.digest)
    assert free.heard([message, wanted], 1.0) == [Start(wanted, {"A": "\udcff"})]
    unknown = Run(attempt=2, number=1, task="t", spec=b"", environment="no")
    assert free.heard([unknown], 1.0) == [Start(unknown, None)]


def test_same_attempt_is_started_once(busy: Session) -> None:
    assert busy.heard([run()], 2.0) == []
    busy.ended(DONE, 3.0)
    assert busy.heard([run()], 4.0) == [Say(DONE)]


def test_cancelled_attempt_is_stopped_and_its_result_told_as_none(busy: Session) -> None:
    assert busy.heard([CancelAttempt(attempt=1)], 2.0) == [Stop(attempt=1)]
    assert busy.heard([CancelAttempt(attempt=1)], 2.1) == []
    assert busy.heard([CancelAttempt(attempt=1, is_urgent=True)], 2.2) == [Stop(attempt=1, is_urgent=True)]
    assert said(busy.ended(DONE, 2.5)) == [Result(attempt=1, outcome="lost", body=b"")]


def test_cancelled_attempt_that_has_ended_already_is_forgotten(busy: Session) -> None:
    busy.ended(DONE, 2.0)
    assert busy.heard([CancelAttempt(attempt=1)], 2.1) == [Forget(1)]


def test_attempt_beyond_its_walltime_is_stopped_and_its_result_told(free: Session) -> None:
    free.heard([run(wall_seconds=10)], 1.0)
    assert free.tick(5.0) == [Say(Beat())]
    assert [effect for effect in alive(free, 5.0, 12.0) if not isinstance(effect, Say)] == [
        Stop(attempt=1, cause="walltime of 10 s exceeded")
    ]
    assert said(free.ended(DONE, 12.0)) == [DONE]


def test_worker_beats_while_it_is_in(free: Session) -> None:
    assert said(alive(free, 0.0, 40.0)).count(Beat()) in range(4, 9)


def test_silent_daemon_s_link_is_closed_and_the_attempts_end_with_the_lease(busy: Session) -> None:
    effects = silent(busy, 1.0, 16.5)
    assert HangUp("the daemon is silent") in effects
    assert Stop(attempt=1, is_urgent=True) in effects
    assert busy.ended(DONE, 17.0) == []


def test_refused_connection_keeps_the_attempts_running(busy: Session) -> None:
    effects = busy.disconnected(2.0)
    for now in range(3, 100):
        effects += busy.unreachable(float(now), is_refused=True)
    assert [effect for effect in effects if not isinstance(effect, Connect)] == []
    assert busy.running == [1]


def test_refused_worker_of_a_pool_that_ends_with_its_run_leaves_at_once() -> None:
    session = serving()
    session.heard([msgspec.structs.replace(TERMS, is_passing=True), run()], 1.0)
    session.disconnected(2.0)
    assert session.unreachable(2.5, is_refused=False) != []
    assert not session.has_left
    assert session.unreachable(3.0, is_refused=True) == [Leave(End.LOST, "the run that it belonged to is gone")]


def test_unreachable_daemon_does_not_keep_the_attempts_running(busy: Session) -> None:
    effects = busy.disconnected(2.0)
    for now in range(3, 18):
        effects += busy.unreachable(float(now), is_refused=False)
    assert Stop(attempt=1, is_urgent=True) in effects


def test_worker_that_waits_with_attempts_tries_more_often_than_the_lease_is_long(busy: Session) -> None:
    effects = busy.disconnected(2.0)
    for now in range(3, 14):
        effects += busy.unreachable(float(now), is_refused=True)
    waits = [effect.within_seconds for effect in effects if isinstance(effect, Connect)]
    assert max(waits) <= 15 / 4
    assert waits == sorted(waits)


def test_reconnected_worker_tells_what_it_runs_and_stops_what_is_not_kept(busy: Session) -> None:
    busy.heard([run(2)], 2.0)
    busy.disconnected(3.0)
    [hello] = said(busy.connected(4.0))
    assert isinstance(hello, Hello)
    assert hello.running == [1, 2]
    assert busy.heard([keeping(2)], 4.1) == [Stop(attempt=1, is_urgent=True)]
    assert busy.ended(DONE, 5.0) == []


def test_result_that_came_without_a_link_is_told_after_the_welcome(busy: Session) -> None:
    busy.disconnected(2.0)
    assert busy.ended(DONE, 3.0) == [Keep(DONE)]
    [hello] = said(busy.connected(4.0))
    assert isinstance(hello, Hello)
    assert (hello.running, hello.finished) == ([], [1])
    assert busy.heard([keeping()], 4.1) == [Say(DONE)]


def test_frozen_worker_tells_no_result_before_it_is_welcome_again(busy: Session) -> None:
    effects = busy.ended(DONE, 100.0)
    assert effects[:2] == [Hold(), HangUp("we were frozen")]
    assert said(effects) == []
    assert said(busy.connected(101.0)) != [DONE]
    assert said(busy.heard([keeping()], 101.1)) == [DONE]


def test_frozen_worker_believes_nothing_that_waited_for_it(busy: Session) -> None:
    effects = busy.heard([run(2)], 100.0)
    assert [effect for effect in effects if isinstance(effect, Start)] == []
    assert busy.running == [1]


def test_frozen_worker_s_attempt_goes_on_where_it_is_still_wanted(busy: Session) -> None:
    assert Hold() in busy.tick(100.0)
    assert GoOn() not in busy.connected(101.0)
    assert busy.heard([keeping(1)], 101.1) == [GoOn()]


def test_frozen_worker_stops_what_is_not_wanted_before_the_rest_goes_on(busy: Session) -> None:
    busy.heard([run(2)], 2.0)
    busy.tick(100.0)
    busy.connected(101.0)
    assert busy.heard([keeping(2)], 101.1) == [Stop(attempt=1, is_urgent=True), GoOn()]


def test_worker_that_is_frozen_twice_before_it_is_welcome_holds_once(busy: Session) -> None:
    assert Hold() in busy.tick(100.0)
    assert Hold() not in busy.tick(200.0)
    busy.connected(201.0)
    assert busy.heard([keeping(1)], 201.1).count(GoOn()) == 1


def test_time_in_which_a_worker_was_frozen_is_not_the_task_s(free: Session) -> None:
    free.heard([run(wall_seconds=60)], 1.0)
    free.tick(1000.0)
    free.connected(1001.0)
    assert free.heard([keeping(1)], 1001.1) == [GoOn()]
    assert stops(alive(free, 1001.1, 1050.0)) == []
    assert stops(alive(free, 1050.0, 1070.0)) == [Stop(attempt=1, cause="walltime of 60 s exceeded")]


def test_frozen_worker_that_gets_no_answer_stops_its_attempts(busy: Session) -> None:
    busy.tick(100.0)
    assert Stop(attempt=1, is_urgent=True) in silent(busy, 100.0, 106.0)


def test_daemon_of_an_earlier_life_is_not_obeyed(busy: Session) -> None:
    busy.disconnected(2.0)
    busy.connected(3.0)
    older = msgspec.structs.replace(TERMS, epoch=0)
    assert busy.heard([older, run(9)], 3.1)[0] == HangUp("a daemon of an earlier life answers")
    assert busy.running == [1]


def test_idle_worker_leaves_and_says_so(free: Session) -> None:
    effects = alive(free, 0.0, 301.0)
    assert effects[-2:] == [Say(Leaving(reason="idle")), Leave(End.ORDERLY, "idle")]


def test_working_worker_is_not_idle(busy: Session) -> None:
    assert [effect for effect in alive(busy, 1.0, 1000.0) if isinstance(effect, Leave)] == []


def test_worker_without_a_welcome_leaves() -> None:
    session = Session(ME, 0.0)
    effects: list[Effect] = []
    for now in range(125):
        effects += session.tick(float(now))
    assert effects == [Leave(End.LOST, "no daemon took us in")]


def test_worker_without_its_daemon_leaves(free: Session) -> None:
    free.disconnected(1.0)
    assert silent(free, 1.0, 199.0) == []
    assert silent(free, 199.0, 202.0) == [Leave(End.LOST, "the daemon is lost")]


def test_drained_worker_finishes_then_leaves(busy: Session) -> None:
    assert busy.heard([Drain()], 2.0) == []
    assert said(busy.heard([run(2)], 2.1)) == [Vacating(reason="drained", dropped=[2])]
    assert busy.ended(DONE, 3.0) == [Keep(DONE), Say(DONE)]
    assert busy.heard([Ack(attempt=1)], 3.1) == [
        Forget(1),
        Say(Leaving(reason="drained")),
        Leave(End.ORDERLY, "drained"),
    ]


def test_told_exit_leaves_at_once(busy: Session) -> None:
    assert busy.heard([Exit(why="another life")], 2.0)[-1] == Leave(End.ORDERLY, "another life")
    assert busy.tick(3.0) == []


def test_signal_drops_everything_and_leaves_when_it_has_ended(busy: Session) -> None:
    assert busy.signalled("signal", 2.0) == [Say(Vacating(reason="signal", dropped=[1])), Stop(attempt=1)]
    assert busy.signalled("signal", 2.1)[-1] == Stop(attempt=1, is_urgent=True)
    assert busy.ended(DONE, 3.0)[-1] == Leave(End.SIGNAL, "signal")


def test_attempt_that_does_not_die_does_not_hold_a_vacating_worker(busy: Session) -> None:
    busy.signalled("preempted", 2.0)
    assert silent(busy, 2.0, 9.0) == [Say(Beat())]
    assert silent(busy, 9.0, 10.5)[-1] == Leave(End.SIGNAL, "preempted")


def test_worker_takes_nothing_that_reaches_into_its_margin() -> None:
    session = serving(Self(slot="s1", incarnation="i", host="h", pid=1, version="1", lives_seconds=1000))
    assert isinstance(session.heard([run(1, 800)], 1.0)[0], Start)
    refused = session.heard([run(2, 900)], 1.0)
    assert said(refused) == [Vacating(reason="walltime", left_seconds=999.0, dropped=[2])]


@pytest.mark.parametrize("wall_seconds", [60.0, 7200.0, 864_000.0])
def test_worker_takes_the_task_that_its_job_was_sized_for(wall_seconds: float) -> None:
    settings = PoolSettings(walltime_margin=30.0)
    lives = job_wall_seconds(Shape(wall_seconds=wall_seconds), settings)
    me = Self(slot="s1", incarnation="i", host="h", pid=1, version="1", lives_seconds=lives)
    session = Session(me, 0.0)
    session.connected(1.0)
    session.heard([msgspec.structs.replace(TERMS, margin_seconds=settings.walltime_margin)], 1.0)
    assert isinstance(session.heard([run(1, wall_seconds)], 2.0)[0], Start)


def test_times_that_the_daemon_has_not_said_are_scaled() -> None:
    me = Self(slot="s1", incarnation="i", host="h", pid=1, version="1", time_scale=0.1)
    session = Session(me, 0.0)
    assert session.unreachable(0.0, is_refused=False) == [Connect(0.05)]
    assert session.tick(11.9) == []
    assert session.tick(12.1) == [Leave(End.LOST, "no daemon took us in")]


def test_worker_near_its_limit_says_so_and_at_last_drops_what_runs() -> None:
    session = serving(Self(slot="s1", incarnation="i", host="h", pid=1, version="1", lives_seconds=1000))
    session.heard([run()], 1.0)
    effects = alive(session, 1.0, 978.0)
    first, last = [message for message in said(effects) if isinstance(message, Vacating)]
    assert (first.reason, first.dropped, last.reason, last.dropped) == ("walltime", [], "walltime", [1])
    assert session.ended(DONE, 979.0)[-1] == Leave(End.ORDERLY, "walltime")


def test_unfit_worker_says_so_and_leaves() -> None:
    session = Session(Self(slot="s1", incarnation="i", host="h", pid=1, version="1", unfit="no disk"), 0.0)
    [hello] = said(session.connected(0.0))
    assert isinstance(hello, Hello)
    assert hello.unfit == "no disk"
    assert session.heard([TERMS], 0.1)[-1] == Leave(End.UNFIT, "unfit: no disk")


def test_worker_that_has_grown_leaves_when_it_is_free(busy: Session) -> None:
    busy.recycle("its memory has grown")
    assert busy.tick(2.0) == []
    busy.ended(DONE, 3.0)
    assert busy.heard([Ack(attempt=1)], 3.1)[-1] == Leave(End.ORDERLY, "its memory has grown")


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happens_no_result_is_told_without_a_lease_and_none_twice_started(seed: int) -> None:
    chance = random.Random(seed)
    session = Session(ME, 0.0)
    session.begin()
    now, certain, is_linked, is_welcome = 0.0, 0.0, False, False
    started: list[int] = []
    for _ in range(300):
        if session.has_left:
            break
        now += chance.choice([0.0, 0.1, 1.0, 3.0, 20.0])
        effects: list[Effect]
        kind = chance.randrange(8)
        if kind == 0 and not is_linked:
            effects, is_linked, is_welcome = session.connected(now), True, False
        elif kind == 1:
            effects, is_linked = session.disconnected(now), False
        elif kind == 2 and is_linked:
            number = chance.randrange(9)
            choices: list[ToWorker] = [Beat(), run(number), Ack(attempt=number), CancelAttempt(attempt=number)]
            choices.append(keeping(*chance.sample(range(9), 4)))
            messages = [chance.choice(choices)]
            effects = session.heard(messages, now)
            is_welcome = is_welcome or isinstance(messages[0], Welcome)
            certain = now if is_welcome else certain
        elif kind == 3 and session.running:
            effects = session.ended(Result(attempt=chance.choice(session.running), outcome="x", body=b""), now)
        elif kind == 4 and not is_linked:
            effects = session.unreachable(now, is_refused=chance.random() < 0.5)
        else:
            effects = session.tick(now)
        for effect in effects:
            if isinstance(effect, HangUp):
                is_linked = is_welcome = False
            if isinstance(effect, Say) and isinstance(effect.message, Result):
                assert is_linked
                assert is_welcome
                assert now - certain <= TERMS.silence_seconds
            if isinstance(effect, Start):
                started.append(effect.run.attempt)
                assert effect.run.attempt in session.running


# Questions of bodies.

QUESTION = Asked(attempt=1, number=5, question=b"q")
ANSWER = Answered(attempt=1, number=5, answer=b"a")


def test_question_is_said_and_its_answer_handed_over_once(busy: Session) -> None:
    assert busy.asked(QUESTION, 2.0) == [Say(QUESTION)]
    assert busy.heard([ANSWER], 3.0) == [HandOver(ANSWER)]
    assert busy.heard([ANSWER], 3.1) == []


def test_unanswered_question_is_said_again_after_the_next_welcome(busy: Session) -> None:
    busy.disconnected(2.0)
    assert busy.asked(QUESTION, 2.1) == []
    busy.connected(3.0)
    again = Welcome(**{name: getattr(TERMS, name) for name in TERMS.__struct_fields__} | {"keep": [1]})
    assert busy.heard([again], 3.1) == [Say(QUESTION)]


def test_cancelled_attempt_asks_nothing(busy: Session) -> None:
    busy.heard([CancelAttempt(attempt=1)], 2.0)
    assert busy.asked(QUESTION, 2.1) == []


def test_answer_to_an_attempt_that_has_ended_is_dropped(busy: Session) -> None:
    busy.asked(QUESTION, 2.0)
    busy.ended(DONE, 3.0)
    assert busy.heard([ANSWER], 3.1) == []
