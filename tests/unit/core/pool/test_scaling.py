"""How many workers: the algorithm's invariants, on any pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.core.config.settings import PoolSettings
from dfm.core.pool.jobs import JobView, Phase
from dfm.core.pool.limits import job_wall_seconds
from dfm.core.pool.scaling import Launch, PoolView, Release, ScaleAction, Withdraw, plan
from dfm.core.pool.standing import Demand
from dfm.core.wire.messages import Shape

SHAPES = [Shape(cores=1), Shape(cores=4), Shape(cores=8)]
NOW = 1000.0


def job(number: int, shape: Shape, *, connected: bool, stopping: bool = False, age: float = 100.0) -> JobView:
    return JobView(
        name=f"n{number}",
        slot=f"s{number}",
        id=str(number),
        shape=shape,
        slots=1,
        phase=Phase.RUNNING if connected else Phase.PENDING,
        reason="",
        since=NOW - age,
        deadline=NOW,
        host="",
        is_connected=connected,
        is_stopping=stopping,
        started_at=NOW - age,
    )


@st.composite
def views(draw: st.DrawFn) -> tuple[PoolView, PoolSettings]:
    shapes = draw(st.lists(st.sampled_from(SHAPES), unique=True, min_size=1))
    jobs = [
        job(
            number,
            draw(st.sampled_from(SHAPES)),
            connected=draw(st.booleans()),
            stopping=draw(st.booleans()),
            age=draw(st.sampled_from([1.0, 100.0])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    settings = PoolSettings(
        max_workers=draw(st.integers(1, 10)),
        min_workers=draw(st.integers(0, 3)),
        launch_batch_size=draw(st.integers(1, 5)),
        extra_workers=draw(st.none() | st.integers(0, 4)),
        worker_slots=draw(st.integers(1, 3)),
    )
    view = PoolView(
        demand={
            shape: Demand(
                waiting=draw(st.integers(0, 20)),
                running=draw(st.integers(0, 3)),
                workers=draw(st.integers(0, 2)),
                waiting_since=draw(st.sampled_from([0.0, NOW])),
            )
            for shape in shapes
        },
        jobs=jobs,
        idle=[one.slot for one in jobs if one.is_connected and draw(st.booleans())],
        stuck=[one.slot for one in jobs if one.is_connected and draw(st.booleans())],
        draining=[one.slot for one in jobs if one.is_connected and draw(st.booleans())],
        missed=[one.slot for one in jobs if not one.is_connected and draw(st.booleans())],
        is_fresh=draw(st.booleans()),
        submits_left=draw(st.integers(0, 10)),
        ramp={shape: draw(st.integers(0, 8)) for shape in draw(st.lists(st.sampled_from(SHAPES), unique=True))},
        quiet_since={
            shape: draw(st.sampled_from([0.0, NOW])) for shape in draw(st.lists(st.sampled_from(SHAPES), unique=True))
        },
        default=SHAPES[0],
    )
    return view, settings


def launched(actions: list[ScaleAction]) -> int:
    return sum(action.count for action in actions if isinstance(action, Launch))


def is_starving(view: PoolView, shape: Shape) -> bool:
    demand = view.demand.get(shape, Demand())
    is_coming = any(one.shape == shape and not (one.is_connected or one.is_stopping) for one in view.jobs)
    return demand.waiting > 0 and not demand.workers and not is_coming


@given(views())
def test_no_plan_goes_beyond_a_limit(drawn: tuple[PoolView, PoolSettings]) -> None:
    view, settings = drawn
    actions = plan(view, settings, NOW)
    count = launched(actions)
    pending = sum(1 for one in view.jobs if not one.is_connected)
    if count:
        assert view.is_fresh
        assert count <= view.submits_left
        assert len(view.jobs) + count <= settings.max_workers + len(view.stuck)
        starving = [one for one in actions if isinstance(one, Launch) and is_starving(view, one.shape)]
        assert pending + count <= max(settings.launch_batch_size, pending) + len(starving)
        extra = settings.max_workers // 4 if settings.extra_workers is None else settings.extra_workers
        assert len(view.jobs) + count <= max(settings.max_workers + extra, len(view.jobs)) + len(starving)
    for action in actions:
        if isinstance(action, Launch):
            coming = sum(
                1 for one in view.jobs if one.shape == action.shape and not one.is_connected and not one.is_stopping
            )
            assert coming + action.count <= max(view.ramp.get(action.shape, 99), coming)


@given(views())
def test_only_jobs_whose_workers_are_on_their_way_are_cancelled(drawn: tuple[PoolView, PoolSettings]) -> None:
    view, settings = drawn
    by_slot = {one.slot: one for one in view.jobs}
    for action in plan(view, settings, NOW):
        match action:
            case Withdraw(slots):
                assert all(not by_slot[slot].is_connected and not by_slot[slot].is_stopping for slot in slots)
                assert not set(slots) & set(view.missed)
                assert all(
                    not view.demand.get(by_slot[slot].shape, Demand()).waiting
                    or view.quiet_since.get(by_slot[slot].shape) == 0.0
                    for slot in slots
                )
            case Release(slot):
                assert by_slot[slot].is_connected
            case Launch():
                pass


@given(views())
def test_a_starving_shape_has_somebody_to_wait_for_or_gets_a_worker(drawn: tuple[PoolView, PoolSettings]) -> None:
    view, settings = drawn
    may_launch = view.is_fresh and view.submits_left and all(view.ramp.get(shape, 1) for shape in SHAPES)
    if may_launch and any(is_starving(view, shape) for shape in view.demand):
        goes_on = any(one.slot not in view.stuck for one in view.jobs)
        assert goes_on or launched(plan(view, settings, NOW))


@given(views())
def test_a_plan_depends_on_nothing_else(drawn: tuple[PoolView, PoolSettings]) -> None:
    view, settings = drawn
    assert plan(view, settings, NOW) == plan(view, settings, NOW)


def view_of(waiting: dict[Shape, int], jobs: list[JobView], **more: object) -> PoolView:
    fields: dict[str, object] = {
        "demand": {shape: Demand(waiting=count, waiting_since=0.0) for shape, count in waiting.items()},
        "jobs": jobs,
        "submits_left": 30,
        "ramp": {},
        "quiet_since": {},
        "default": SHAPES[0],
        **more,
    }
    return PoolView(**fields)  # type: ignore[arg-type]


def test_unlimited_tasks_fill_the_pool_and_no_tasks_leave_min_workers() -> None:
    settings = PoolSettings(max_workers=6, min_workers=2, launch_batch_size=4)
    jobs: list[JobView] = []
    for _ in range(10):
        count = launched(plan(view_of({SHAPES[0]: 1000}, jobs), settings, NOW))
        jobs += [job(len(jobs) + n, SHAPES[0], connected=True) for n in range(count)]
    assert len(jobs) == 6
    assert launched(plan(view_of({}, []), settings, NOW)) == 2
    pending = [job(n, SHAPES[0], connected=False, age=100.0 + n) for n in range(4)]
    assert plan(view_of({}, pending), settings, NOW) == [Withdraw(("s0", "s1"))]


def test_workers_on_their_way_are_not_wanted_where_tasks_run_and_none_waits() -> None:
    coming = [job(1, SHAPES[0], connected=False), job(2, SHAPES[0], connected=False)]
    running = {SHAPES[0]: Demand(running=3, workers=3)}
    view = view_of({}, coming, demand=running, quiet_since={SHAPES[0]: NOW - 60.0})
    assert plan(view, PoolSettings(), NOW) == [Withdraw(("s1", "s2"))]
    assert plan(view_of({}, coming, demand=running, quiet_since={SHAPES[0]: NOW - 59.0}), PoolSettings(), NOW) == []


def test_a_worker_whose_link_is_broken_is_not_taken_for_one_on_its_way() -> None:
    coming = [job(1, SHAPES[0], connected=False), job(2, SHAPES[0], connected=False)]
    view = view_of({}, coming, missed={"s1"})
    assert plan(view, PoolSettings(), NOW) == [Withdraw(("s2",))]
    full = view_of({SHAPES[1]: 1}, coming, missed={"s1", "s2"})
    assert plan(full, PoolSettings(max_workers=2), NOW) == []


def test_workers_on_their_way_count() -> None:
    coming = [job(1, SHAPES[0], connected=False)]
    assert launched(plan(view_of({SHAPES[0]: 1}, coming), PoolSettings(), NOW)) == 0
    assert launched(plan(view_of({SHAPES[0]: 2}, coming), PoolSettings(), NOW)) == 1


def test_room_is_shared_between_shapes() -> None:
    actions = plan(view_of({SHAPES[0]: 100, SHAPES[1]: 100}, []), PoolSettings(max_workers=4), NOW)
    assert actions == [Launch(shape=SHAPES[0], count=2), Launch(shape=SHAPES[1], count=2)]


def test_a_full_pool_lets_one_worker_go_for_a_shape_that_has_none() -> None:
    live = [job(n, SHAPES[0], connected=True) for n in range(2)]
    settings = PoolSettings(max_workers=2)
    assert plan(view_of({SHAPES[1]: 1}, live, idle=["s1"]), settings, NOW) == [Release("s1")]
    assert plan(view_of({SHAPES[0]: 9, SHAPES[1]: 1}, live), settings, NOW) == [Release("s0")]
    assert plan(view_of({SHAPES[0]: 9, SHAPES[1]: 1}, live, draining={"s1"}), settings, NOW) == []


def test_a_full_pool_does_without_a_job_on_its_way_that_nothing_waits_for() -> None:
    jobs = [job(1, SHAPES[0], connected=True), job(2, SHAPES[0], connected=False)]
    view = view_of({SHAPES[0]: 0, SHAPES[1]: 1}, jobs)
    assert plan(view, PoolSettings(max_workers=2), NOW) == [Withdraw(("s2",))]
    assert plan(view_of({SHAPES[0]: 1, SHAPES[1]: 1}, jobs), PoolSettings(max_workers=2), NOW) == [Release("s1")]


def test_a_shape_that_stuck_workers_keep_from_the_pool_gets_one_beyond_the_limit() -> None:
    settings = PoolSettings(max_workers=2)
    live = [job(n, SHAPES[0], connected=True) for n in range(2)]
    actions = plan(view_of({SHAPES[1]: 9}, live, stuck={"s0", "s1"}), settings, NOW)
    assert actions == [Launch(shape=SHAPES[1], count=1)]
    coming = [*live, job(3, SHAPES[1], connected=False)]
    assert plan(view_of({SHAPES[1]: 9}, coming, stuck={"s0", "s1"}), settings, NOW) == []


def test_a_shape_that_stuck_workers_keep_from_the_pool_gets_as_many_as_are_stuck_up_to_the_extra_ones() -> None:
    live = [job(n, SHAPES[0], connected=True) for n in range(8)]
    stuck = {one.slot for one in live}
    settings = PoolSettings(max_workers=8, extra_workers=3)
    waiting = {SHAPES[0]: 0, SHAPES[1]: 9}
    assert plan(view_of(waiting, live, stuck=stuck), settings, NOW) == [Launch(shape=SHAPES[1], count=3)]
    assert plan(view_of(waiting, live, stuck={"s0", "s1"}), settings, NOW) == [Launch(shape=SHAPES[1], count=2)]
    one = [*live, job(8, SHAPES[1], connected=True)]
    demand = {SHAPES[1]: Demand(waiting=8, running=1, workers=1, waiting_since=0.0)}
    assert plan(view_of({}, one, demand=demand, stuck=stuck), settings, NOW) == [Launch(shape=SHAPES[1], count=2)]
    assert plan(view_of({}, one, demand=demand, stuck=stuck), PoolSettings(max_workers=8, extra_workers=0), NOW) == []


def test_the_tasks_that_a_draining_worker_waits_for_get_another() -> None:
    live = [job(1, SHAPES[0], connected=True)]
    view = view_of({SHAPES[0]: 2}, live, stuck={"s1"}, draining={"s1"})
    assert plan(view, PoolSettings(max_workers=1), NOW) == [Launch(shape=SHAPES[0], count=1)]


def test_a_busy_worker_is_asked_to_go_and_not_one_that_only_waits() -> None:
    live = [job(n, SHAPES[0], connected=True) for n in range(2)]
    view = view_of({SHAPES[1]: 1}, live, stuck={"s0"}, ramp={SHAPES[1]: 1}, submits_left=0)
    assert plan(view, PoolSettings(max_workers=2), NOW) == [Release("s1")]


@pytest.mark.parametrize(
    ("task", "walltime", "lives"),
    [
        (60.0, None, 1800.0),
        (1800.0, None, 7220.0),
        (3600.0, None, 14_400.0),
        (86_400.0, None, 86_420.0),
        (60.0, 500.0, 500.0),
        (600.0, 500.0, 620.0),
        (None, 500.0, 500.0),
        (None, None, None),
    ],
)
def test_a_job_has_time_for_several_tasks(task: float | None, walltime: float | None, lives: float | None) -> None:
    settings = PoolSettings(walltime_margin=10.0, walltime=walltime)
    assert job_wall_seconds(Shape(wall_seconds=task), settings) == lives
    assert job_wall_seconds(Shape(wall_seconds=task), settings, is_short=True) == (task + 20.0 if task else walltime)


def test_a_starving_shape_has_a_job_on_its_way_whatever_others_have() -> None:
    coming = [job(n, SHAPES[0], connected=False, age=1.0) for n in range(4)]
    view = view_of({SHAPES[0]: 9, SHAPES[1]: 9}, coming)
    assert plan(view, PoolSettings(launch_batch_size=4), NOW) == [Launch(shape=SHAPES[1], count=1)]


def test_an_idle_worker_gives_way_where_the_jobs_of_another_shape_wait_for_long() -> None:
    live = [job(n, SHAPES[0], connected=True) for n in range(2)]
    waiting = [*live, job(3, SHAPES[1], connected=False, age=60.0)]
    assert plan(view_of({SHAPES[1]: 1}, waiting, idle=["s1", "s0"]), PoolSettings(), NOW) == [Release("s1")]
    assert plan(view_of({SHAPES[1]: 1}, waiting, idle=["s1"], draining={"s0"}), PoolSettings(), NOW) == []
    assert plan(view_of({SHAPES[1]: 1}, waiting, idle=["s1"]), PoolSettings(min_workers=3), NOW) == []
    young = [*live, job(3, SHAPES[1], connected=False, age=59.0)]
    assert plan(view_of({SHAPES[1]: 1}, young, idle=["s1"]), PoolSettings(), NOW) == []
