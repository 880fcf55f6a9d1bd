"""Which node next, on graphs of any shape, with a runner that only pretends."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.api.events import Event, TaskFinished, TaskStarted, Verdict
from dfm.api.runner import Outcome, Runner, ShellBody, TaskRequest, TaskResult
from dfm.core.flow.load import load_flow
from dfm.core.graph.build import Surroundings, build_graph
from dfm.core.graph.node import Graph
from dfm.core.graph.select import Selection
from dfm.core.record.store import RecordStore
from dfm.core.schedule.lifecycle import Lifecycle, Settings
from dfm.core.schedule.policy import FailurePolicy
from dfm.core.schedule.scheduler import Scheduler
from dfm.core.std import FLOW_FILE


class Pretender(Runner):
    """A runner whose bodies end as their text says, after the event loop had a turn or some."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.running = 0
        self.most = 0
        self.order: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    @property
    def max_in_flight(self) -> int:
        return self.width

    async def run(self, request: TaskRequest) -> TaskResult:
        assert isinstance(request.body, ShellBody)
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(request.task)
        for _ in range(len(request.task) % 3):
            await asyncio.sleep(0)
        self.running -= 1
        match request.body.text:
            case "hang":
                await asyncio.Event().wait()
                raise AssertionError
            case "fail":
                return TaskResult(outcome=Outcome.FAILED, cause="exit status 1", status=1)
            case "lose" if request.attempt < 3:
                return TaskResult(outcome=Outcome.LOST, cause="its host vanished")
            case "refuse" if request.attempt == 1:
                return TaskResult(outcome=Outcome.REFUSED, cause="no such queue")
            case "vanish":
                return TaskResult(outcome=Outcome.LOST, cause="its host vanished")
            case _:
                return TaskResult(outcome=Outcome.SUCCEEDED)


class Events:
    def __init__(self) -> None:
        self.all: list[Event] = []

    def emit(self, event: Event) -> None:
        self.all.append(event)

    def tick(self) -> None:
        return None


MakeGraph = Callable[[dict[str, tuple[str, Sequence[str]]]], Graph]


def graph_in(directory: Path, tasks: Mapping[str, tuple[str, Sequence[str]]]) -> Graph:
    text = "".join(
        f"  - {{name: {name}, run: {run}, needs: [{', '.join(needs)}]}}\n" for name, (run, needs) in tasks.items()
    )
    path = directory / "flow.yaml"
    path.write_text(f"package:\n  name: p\n  tasks:\n{text}", encoding="utf-8")
    flow = load_flow(str(path), environ={}, standard_library=FLOW_FILE)
    targets = [Selection(name) for name in flow.root.tasks]
    return build_graph(flow, targets, Surroundings(environ={}, root_rundir=str(directory / "rundir")), {})


def scheduled(directory: Path, graph: Graph, runner: Pretender, events: Events, most_failures: int | None) -> Scheduler:
    settings_ = Settings(
        run_id="r",
        root_rundir=str(directory / "rundir"),
        root_pkgdir=str(directory),
        environ={},
        rerun=lambda task: f"dfm run {task}",
    )
    return Scheduler(
        graph,
        Lifecycle(settings_, RecordStore(), runner, events),
        runner.max_in_flight,
        FailurePolicy(most_failures),
        events,
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, str]]:
    def went(
        tasks: dict[str, tuple[str, Sequence[str]]], most_failures: int | None = 1, width: int = 1
    ) -> dict[str, str]:
        graph = graph_in(tmp_path, tasks)
        outcome = asyncio.run(scheduled(tmp_path, graph, Pretender(width), Events(), most_failures).run())
        return {node.task.leaf: str(verdict) for node, verdict in zip(graph.nodes, outcome.verdicts, strict=True)}

    return went


def test_a_failure_blocks_what_needs_it_near_and_far(run: Callable[..., dict[str, str]]) -> None:
    found = run({"a": ("fail", []), "b": ("ok", ["a"]), "c": ("ok", ["b"]), "d": ("ok", [])}, most_failures=None)
    assert found == {"a": "failed", "b": "blocked", "c": "blocked", "d": "succeeded"}


def test_a_lost_task_is_tried_again_and_again_but_not_for_ever(run: Callable[..., dict[str, str]]) -> None:
    assert run({"a": ("lose", []), "b": ("vanish", [])}, most_failures=None) == {"a": "succeeded", "b": "lost"}


def test_a_refused_task_is_not_tried_again(run: Callable[..., dict[str, str]]) -> None:
    assert run({"a": ("refuse", []), "b": ("ok", [])}, most_failures=None) == {"a": "refused", "b": "succeeded"}


def test_an_attempt_that_never_began_is_not_explained_by_the_log_of_an_earlier_run(tmp_path: Path) -> None:
    rundir = tmp_path / "rundir" / "p.a"
    rundir.mkdir(parents=True)
    (rundir / "p.a.log").write_text("of an earlier run\n", encoding="utf-8")
    events = Events()
    asyncio.run(scheduled(tmp_path, graph_in(tmp_path, {"a": ("vanish", [])}), Pretender(1), events, None).run())
    assert [(end.cause, end.log) for end in events.all if isinstance(end, TaskFinished)] == [
        ("its host vanished", None)
    ]


def test_what_is_ready_first_runs_first(tmp_path: Path) -> None:
    graph = graph_in(tmp_path, {"c": ("ok", []), "a": ("ok", ["c"]), "b": ("ok", [])})
    runner = Pretender(1)
    asyncio.run(scheduled(tmp_path, graph, runner, Events(), 1).run())
    assert runner.order == ["p.c", "p.b", "p.a"]


def test_a_cancelled_run_has_a_verdict_for_every_node(tmp_path: Path) -> None:
    graph = graph_in(tmp_path, {"aa": ("hang", []), "b": ("ok", ["aa"]), "c": ("ok", [])})
    events = Events()
    scheduler = scheduled(tmp_path, graph, Pretender(1), events, 1)

    async def cancelled() -> None:
        task = asyncio.ensure_future(scheduler.run())  # noqa: TID251
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    ended = [event.verdict for event in events.all if isinstance(event, TaskFinished)]
    assert sorted(ended) == [Verdict.CANCELLED, Verdict.NOT_RUN, Verdict.NOT_RUN]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 25), st.integers(1, 4), st.sampled_from([None, 1, 3]))
def test_on_any_graph_every_node_gets_one_verdict_after_its_needs(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, width: int, most_failures: int | None
) -> None:
    chance = random.Random(seed)
    tasks = {
        f"t{n}": (
            chance.choice(["ok", "ok", "ok", "fail", "lose"]),
            [f"t{m}" for m in range(n) if chance.random() < 3 / size],
        )
        for n in range(size)
    }
    directory = tmp_path_factory.mktemp("any")
    graph = graph_in(directory, tasks)
    events, runner = Events(), Pretender(width)
    outcome = asyncio.run(scheduled(directory, graph, runner, events, most_failures).run())
    ended = [event.task for event in events.all if isinstance(event, TaskFinished)]
    assert sorted(ended) == sorted(f"p.{name}" for name in tasks)
    assert runner.most <= width
    good: set[str] = set()
    for event in events.all:
        if isinstance(event, TaskFinished) and event.verdict.is_good:
            good.add(event.task)
        if isinstance(event, TaskStarted):
            assert {f"p.{need}" for need in tasks[event.task.removeprefix("p.")][1]} <= good
    failed = outcome.verdicts.count(Verdict.FAILED)
    if most_failures is None:
        assert Verdict.NOT_RUN not in outcome.verdicts
        assert failed == sum(
            1 for event in events.all if isinstance(event, TaskFinished) and event.verdict is Verdict.FAILED
        )
    else:
        assert failed < most_failures + width
