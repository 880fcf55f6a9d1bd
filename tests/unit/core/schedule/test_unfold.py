"""What becomes of nodes whose sub-tasks are only known when their turn comes, with a runner that only pretends."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfm.api.events import Event, TaskFinished, Verdict
from dfm.api.runner import Answer, Outcome, PythonBody, Runner, ShellBody, TaskRequest, TaskResult
from dfm.core.flow.diagnostics import FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.graph.build import Surroundings, build_growing
from dfm.core.graph.select import select
from dfm.core.record.store import RecordStore
from dfm.core.schedule.lifecycle import Lifecycle, Settings
from dfm.core.schedule.policy import FailurePolicy
from dfm.core.schedule.scheduler import Scheduler
from dfm.core.std import FLOW_FILE

HEAD = "package:\n  name: p\n  tasks:\n"


class Pretender(Runner):
    """Bodies say what comes of them: `emit {...}` makes an item, `fail` fails, `ask ...` asks for tasks."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.requests: list[TaskRequest] = []
        self.answers: list[Answer] = []
        self.scheduler: Scheduler | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    @property
    def max_in_flight(self) -> int:
        return 1

    async def run(self, request: TaskRequest) -> TaskResult:
        self.requests.append(request)
        await asyncio.sleep(0)
        if isinstance(request.body, PythonBody):
            failed = [item["task_name"] for item in request.inputs if item["type"] == "std.TaskFailure"]
            return TaskResult(outcome=Outcome.SUCCEEDED, outputs=[{"type": "p.Sum", "failed": failed}])
        assert isinstance(request.body, ShellBody)
        word, _, rest = request.body.text.partition(" ")
        self.texts[request.task] = request.body.text
        if word == "fail":
            return TaskResult(outcome=Outcome.FAILED, cause="exit status 1", status=1)
        if word == "emit":
            return TaskResult(outcome=Outcome.SUCCEEDED, outputs=[{"type": "p.T", **json.loads(rest)}])
        if word == "ask":
            assert self.scheduler is not None
            self.answers.append(await self.scheduler.answer(request.task, json.loads(rest)))
        return TaskResult(outcome=Outcome.SUCCEEDED)


class Events:
    def __init__(self) -> None:
        self.all: list[Event] = []

    def emit(self, event: Event) -> None:
        self.all.append(event)

    def tick(self) -> None:
        return None


class Went:
    """How a run went."""

    def __init__(self, runner: Pretender, events: Events, scheduler: Scheduler) -> None:
        self.runner = runner
        self.finished = [event for event in events.all if isinstance(event, TaskFinished)]
        self.scheduler = scheduler

    @property
    def verdicts(self) -> dict[str, str]:
        return {event.task.removeprefix("p."): str(event.verdict) for event in self.finished if event.is_visible}

    @property
    def texts(self) -> dict[str, str]:
        return {task.removeprefix("p."): text for task, text in self.runner.texts.items()}

    def cause(self, task: str) -> str:
        return next(event.cause or "" for event in self.finished if event.task == f"p.{task}")

    def items(self, task: str) -> list[Mapping[str, Any]]:
        node = next(node for node in self.scheduler.graph.nodes if node.name == f"p.{task}")
        return list(self.scheduler.outputs([node.index])[0])


Run = Callable[..., Went]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def went(tasks: str, *targets: str, most_failures: int | None = 1) -> Went:
        path = tmp_path / "flow.yaml"
        path.write_text(HEAD + tasks, encoding="utf-8")
        flow = load_flow(str(path), environ={}, standard_library=FLOW_FILE)
        chosen = [select(flow, name) for name in targets or ("x",)]
        graph, growth = build_growing(flow, chosen, Surroundings(environ={}, root_rundir=str(tmp_path / "rundir")), {})
        runner, events = Pretender(), Events()
        settings_ = Settings(
            run_id="r",
            root_rundir=str(tmp_path / "rundir"),
            root_pkgdir=str(tmp_path),
            environ={},
            rerun=lambda task: f"dfm run {task}",
        )
        lifecycle = Lifecycle(settings_, RecordStore(), runner, events)
        scheduler = runner.scheduler = Scheduler(graph, lifecycle, 1, FailurePolicy(most_failures), events, growth)
        asyncio.run(asyncio.wait_for(scheduler.run(), 60))
        return Went(runner, events, scheduler)

    return went


@pytest.mark.parametrize(("value", "ran"), [("2", {"x.then": "go then"}), ("0", {"x.other": "go other"})])
def test_if_runs_one_branch_or_the_other(run: Run, value: str, ran: dict[str, str]) -> None:
    went = run(
        "  - name: x\n"
        f"    with: {{n: {{type: int, value: {value}}}}}\n"
        "    control: {type: if, cond: '${{ n > 1 }}', else: [{name: other, run: go other}]}\n"
        "    body: [{name: then, run: go then}]\n"
    )
    assert went.texts == ran
    assert went.verdicts["x"] == "succeeded"


def test_if_without_a_branch_hands_on_what_it_receives(run: Run) -> None:
    went = run(
        "  - {name: a, run: 'emit {\"v\": 1}'}\n"
        "  - name: x\n    needs: [a]\n    control: {type: if, cond: '${{ in.v > 1 }}'}\n    body: [{name: b, run: go}]\n"
    )
    assert went.verdicts == {"a": "succeeded", "x": "succeeded"}
    assert [item["v"] for item in went.items("x")] == [1]


@pytest.mark.parametrize(("kind", "leaf"), [("bug", "fix"), ("feature", "add"), ("odd", "rest")])
def test_match_runs_the_first_case_that_holds(run: Run, kind: str, leaf: str) -> None:
    went = run(
        f'  - {{name: a, run: \'emit {{"kind": "{kind}"}}\'}}\n'
        "  - name: x\n    needs: [a]\n    control:\n      type: match\n      cases:\n"
        "      - {when: '${{ in.kind == \"bug\" }}', body: [{name: fix, run: go}]}\n"
        "      - {when: '${{ in.kind == \"feature\" }}', body: [{name: add, run: go}]}\n"
        "      - {default: true, body: [{name: rest, run: go}]}\n"
    )
    assert went.texts == {"a": f'emit {{"kind": "{kind}"}}', f"x.{leaf}": "go"}


def test_a_while_loop_carries_its_state_from_one_iteration_to_the_next(run: Run) -> None:
    went = run(
        "  - name: x\n"
        "    control: {type: while, cond: '${{ state.n < 3 }}', max_iter: 9, state: {init: {n: 0}}}\n"
        '    body: [{name: b, run: \'emit {"n": ${{ state.n + 1 }}, "of": ${{ _max_iter }}, "i": ${{ _iter }}}\'}]\n'
    )
    assert went.texts == {
        "x.b_0": 'emit {"n": 1, "of": 9, "i": 0}',
        "x.b_1": 'emit {"n": 2, "of": 9, "i": 1}',
        "x.b_2": 'emit {"n": 3, "of": 9, "i": 2}',
    }
    assert [item["n"] for item in went.items("x")] == [3]


def test_a_while_loop_may_not_run_at_all(run: Run) -> None:
    went = run("  - name: x\n    control: {type: while, cond: false, max_iter: 9}\n    body: [{name: b, run: go}]\n")
    assert went.verdicts == {"x": "up-to-date"}


@pytest.mark.parametrize(
    ("control", "word"),
    [
        ("type: while, cond: '${{ state.n < 3 }}', max_iter: 2", "`cond` still holds"),
        ("type: do-while, until: '${{ state.n > 3 }}', max_iter: 2", "`until` still does not hold"),
    ],
)
def test_a_loop_that_does_not_end_is_a_failure_that_says_so(run: Run, control: str, word: str) -> None:
    went = run(
        f"  - name: x\n    control: {{{control}, state: {{init: {{n: 0}}}}}}\n    body: [{{name: b, run: go}}]\n"
    )
    assert went.verdicts == {"x.b_0": "succeeded", "x.b_1": "succeeded", "x": "failed"}
    assert went.cause("x") == f"the loop does not end: {word} after 2 iterations (n=0)"


def test_do_while_runs_at_least_once_and_ends_when_until_holds(run: Run) -> None:
    went = run(
        "  - name: x\n    control: {type: do-while, until: '${{ state.ok }}', max_iter: 5, state: {init: {ok: true}}}\n"
        "    body: [{name: b, run: 'emit {\"ok\": ${{ _iter == 1 }}}'}]\n"
    )
    assert went.verdicts == {"x.b_0": "succeeded", "x.b_1": "succeeded", "x": "succeeded"}


def test_repeat_ends_early_where_until_holds_or_an_item_breaks(run: Run) -> None:
    went = run(
        "  - name: x\n    control: {type: repeat, count: 5, until: '${{ _iter == 1 }}'}\n    body: [{name: b, run: go}]\n"
        "  - name: y\n    control: {type: repeat, count: 5}\n    body: [{name: b, run: 'emit {\"_break\": true}'}]\n",
        "x",
        "y",
    )
    assert went.verdicts == {
        "x.b_0": "succeeded",
        "x.b_1": "succeeded",
        "x": "succeeded",
        "y.b_0": "succeeded",
        "y": "succeeded",
    }


def test_only_the_fields_of_feedback_go_into_the_state(run: Run) -> None:
    went = run(
        "  - name: x\n"
        "    control: {type: repeat, count: 2, state: {init: {a: 0, b: 0}, feedback: [a]}}\n"
        '    body: [{name: b, run: \'emit {"a": ${{ state.a + 1 }}, "b": ${{ state.b + 1 }}}\'}]\n'
    )
    assert went.texts["x.b_1"] == 'emit {"a": 2, "b": 1}'


def test_a_loop_stops_at_an_iteration_that_fails(run: Run) -> None:
    went = run(
        "  - name: x\n    control: {type: repeat, count: 3}\n"
        '    body: [{name: b, run: \'${{ _iter == 1 ? "fail" : "go" }}\'}]\n'
        "  - {name: y, needs: [x], run: go}\n",
        "y",
        most_failures=None,
    )
    assert went.verdicts == {"x.b_0": "succeeded", "x.b_1": "failed", "x": "blocked", "y": "blocked"}


def test_loops_nest_and_see_their_own_state(run: Run) -> None:
    went = run(
        "  - name: x\n    control: {type: repeat, count: 2}\n    body:\n    - name: y\n"
        "      with: {outer: {type: int, value: '${{ _iter }}'}}\n"
        "      control: {type: repeat, count: 2}\n      body: [{name: b, run: 'go ${{ outer }} ${{ _iter }}'}]\n"
    )
    assert went.texts == {
        "x.y_0.b_0": "go 0 0",
        "x.y_0.b_1": "go 0 1",
        "x.y_1.b_0": "go 1 0",
        "x.y_1.b_1": "go 1 1",
    }


def test_a_condition_that_cannot_be_evaluated_points_into_it(run: Run) -> None:
    went = run("  - name: x\n    control: {type: if, cond: '${{ in.nope }}'}\n    body: [{name: b, run: go}]\n")
    assert "flow.yaml:5:39: error: there is no 'nope' in it" in went.cause("x")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("control: {type: if, cond: '${{ nope }}'}\n    body: [{name: b, run: go}]", "nope"),
        ("control: {type: repeat, count: 1}\n    body: [{name: b, run: 'go ${{ stat.n }}'}]", "stat"),
        ("control: {type: repeat, count: 1}\n    body: [{name: b, body: [{name: c, iff: '${{ itr }}'}]}]", "itr"),
        ("control: {type: repeat, count: 1}\n    body: [{name: b, with: {v: {type: int, value: '${{ ww }}'}}}]", "ww"),
    ],
)
def test_a_name_that_nothing_has_is_told_before_anything_runs(run: Run, written: str, name: str) -> None:
    with pytest.raises(FlowInvalid) as caught:
        run(f"  - name: x\n    {written}\n")
    assert [item.message for item in caught.value.diagnostics] == [f"nothing is called {name!r} here"]


def test_names_that_the_run_will_know_are_not_told(run: Run) -> None:
    went = run(
        "  - name: x\n    with: {w: {type: int, value: 2}}\n    control: {type: repeat, count: 1}\n    body:\n"
        "    - name: b\n      with: {v: {type: int, value: '${{ w }}'}}\n"
        '      run: "go ${{ v }} ${{ this.w }} ${{ name }} ${{ nope:-no }} ${{ nope | default(1) }} ${{ [1] | map(item) }} ${{ env }}"\n'
    )
    assert went.texts["x.b_0"] == "go 2 2 p.x.b_0 no 1 [1] {}"


def test_sub_tasks_in_a_branch_need_tasks_outside_of_it(run: Run) -> None:
    went = run(
        "  - {name: a, run: 'emit {\"v\": 1}'}\n"
        "  - name: x\n    control: {type: if, cond: true}\n    body: [{name: b, needs: [a], run: 'go ${{ inputs | length }}'}]\n"
    )
    assert went.texts["x.b"] == "go 1"


def test_a_matrix_and_a_parameter_may_come_from_the_inputs(run: Run) -> None:
    went = run(
        "  - {name: a, run: 'emit {\"seeds\": [3, 4]}'}\n"
        "  - name: x\n    needs: [a]\n    with: {n: {type: int, value: '${{ inputs | length }}'}}\n"
        "    strategy:\n      matrix: {seed: '${{ inputs[0].seeds }}'}\n      body: [{name: s, run: 'go ${{ matrix.seed }} ${{ n }}'}]\n"
    )
    assert went.texts == {"a": 'emit {"seeds": [3, 4]}', "x.s_0": "go 3 1", "x.s_1": "go 4 1"}


def test_a_compound_task_disabled_by_its_inputs_makes_no_sub_tasks(run: Run) -> None:
    went = run("  - name: x\n    iff: '${{ (inputs | length) > 0 }}'\n    body: [{name: s, run: go}]\n")
    assert went.verdicts == {"x": "disabled"}


def test_a_chain_runs_its_sub_tasks_in_their_order(run: Run) -> None:
    went = run(
        "  - name: x\n    strategy: {chain: true}\n    body:\n"
        "    - {name: a, run: 'emit {\"v\": 1}'}\n    - {name: b, run: 'go ${{ inputs | length }}'}\n    - {name: c, run: go}\n"
    )
    assert [request.task for request in went.runner.requests] == ["p.x.a", "p.x.b", "p.x.c"]
    assert went.texts["x.b"] == "go 1"


def test_sub_tasks_of_a_matrix_cell_need_each_other_and_carry_its_values_in_their_names(run: Run) -> None:
    went = run(
        "  - name: x\n    strategy:\n      matrix: {s: [1, 2]}\n      body:\n"
        "      - {name: build, run: 'emit {\"of\": ${{ matrix.s }}}'}\n"
        "      - {name: 'sim-${{ matrix.s }}', needs: [build], run: 'go ${{ inputs[0].of }}'}\n"
    )
    assert {task: text for task, text in went.texts.items() if "sim" in task} == {"x.sim-1": "go 1", "x.sim-2": "go 2"}


def test_failures_stay_inside_a_compound_task_that_counts_them(run: Run) -> None:
    went = run(
        "  - name: x\n    max_failures: 2\n    body:\n"
        "    - {name: a, run: fail}\n    - {name: b, run: fail}\n    - {name: c, run: go}\n"
        "  - {name: y, run: go}\n",
        "x",
        "y",
        most_failures=2,
    )
    assert went.verdicts == {"x.a": "failed", "x.b": "failed", "x.c": "not-run", "x": "failed", "y": "succeeded"}
    assert went.cause("x") == "2 of its sub-tasks failed: p.x.a, p.x.b"
    assert went.cause("x.c") == "p.x starts nothing after 2 failures"
    assert went.scheduler.outcome.failures == {Verdict.FAILED: 1}


@pytest.mark.parametrize("text", ["go", "fail"])
def test_on_error_is_always_called_and_has_the_last_word(run: Run, text: str) -> None:
    went = run(
        "  - name: x\n    on_error: 'hand:sum_up'\n    body:\n"
        f"    - name: inner\n      body: [{{name: a, run: {text}}}, {{name: b, needs: [a], run: go}}]\n"
        "    - {name: c, run: 'emit {\"v\": 1}'}\n"
        "  - {name: y, needs: [x], run: go}\n",
        "y",
    )
    assert went.verdicts["x"] == went.verdicts["y"] == "succeeded"
    assert [item["failed"] for item in went.items("x")] == [["p.x.inner.a"] if text == "fail" else []]
    assert went.scheduler.outcome.failures == {}


def test_on_error_is_not_called_where_what_the_compound_task_needs_failed(run: Run) -> None:
    went = run(
        "  - {name: a, run: fail}\n  - name: x\n    needs: [a]\n    on_error: hand.sum_up\n    body: [{name: b, run: go}]\n",
        most_failures=None,
    )
    assert went.verdicts == {"a": "failed", "x.b": "blocked", "x": "blocked"}


def ask(*tasks: Mapping[str, object], **more: object) -> str:
    return "ask " + json.dumps({"ask": "run_tasks", "tasks": tasks, **more})


def test_a_body_gets_the_results_of_the_tasks_it_asks_for_and_holds_no_slot_meanwhile(run: Run) -> None:
    tasks = [
        {"type": "leaf", "name": "one", "params": {"n": 1}},
        {"type": "p.leaf", "name": "two", "params": {"n": 2}, "needs": ["one"]},
    ]
    went = run(
        "  - {name: leaf, with: {n: {type: int}}, run: 'emit {\"n\": ${{ n }}}'}\n"
        f"  - name: x\n    run: '{ask(*tasks)}'\n"
    )
    assert went.verdicts == {"x.one": "succeeded", "x.two": "succeeded", "x": "succeeded"}
    results = went.runner.answers[0]["results"]
    assert [(result["name"], result["status"], result["output"][0]["n"]) for result in results] == [
        ("one", 0, 1),
        ("two", 0, 2),
    ]


def test_what_an_asked_for_task_needs_of_other_tasks_comes_with_it(run: Run) -> None:
    went = run(
        "  - {name: leaf, needs: [dep], run: 'go ${{ inputs | length }}'}\n"
        "  - {name: dep, needs: [deeper], run: 'emit {\"v\": 1}'}\n  - {name: deeper, run: go}\n"
        f"  - name: x\n    run: '{ask({'type': 'leaf', 'name': 'n'})}'\n"
    )
    assert list(went.verdicts) == ["deeper", "dep", "x.n", "x"]
    assert went.texts["x.n"] == "go 1"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"type": "laef", "name": "n"}, "asks for a task of type 'laef', and there is none"),
        ({"type": "leaf", "name": "n", "params": {"m": 1}}, "with a parameter 'm'; 'p.leaf' has none of this name"),
        ({"type": "leaf", "name": "n", "needs": ["nope"]}, "that needs 'nope', and there is none"),
        ({"type": "leaf", "name": "n", "needs": ["p.x"]}, "'n' needs 'p.x', which waits for it"),
        ({"type": "leaf", "name": "n", "neds": []}, "has a 'neds', which has no meaning here; did you mean 'needs'?"),
        ({"type": "leaf", "name": "../n"}, "asks for a task named '../n'"),
        ({"name": "n"}, "says neither which task it is made of"),
    ],
)
def test_a_task_that_cannot_be_made_is_an_answer_and_leaves_nothing(
    run: Run, task: dict[str, object], message: str
) -> None:
    went = run(f"  - {{name: leaf, run: go}}\n  - name: x\n    run: '{ask(task)}'\n")
    assert message in went.runner.answers[0]["error"]
    assert went.verdicts == {"x": "succeeded"}


def test_tasks_that_wait_for_whoever_asks_for_them_are_told_so(run: Run) -> None:
    went = run(
        "  - {name: leaf, run: go}\n"
        f"  - name: x\n    run: '{ask({'type': 'leaf', 'name': 'n', 'needs': ['p.y']})}'\n"
        "  - {name: y, needs: [x], run: go}\n",
        "y",
    )
    assert went.cause("x.n") == "it needs a task that itself waits for this one"
    assert went.verdicts == {"x.n": "blocked", "x": "succeeded", "y": "succeeded"}


def test_failures_of_tasks_that_were_asked_for_count_where_the_body_says(run: Run) -> None:
    tasks = [{"type": "bad", "name": "a"}, {"type": "bad", "name": "b"}]
    went = run(f"  - {{name: bad, run: fail}}\n  - name: x\n    run: '{ask(*tasks, max_failures=1)}'\n")
    assert went.verdicts == {"x.a": "failed", "x.b": "not-run", "x": "succeeded"}
    assert went.scheduler.outcome.failures == {}


def test_run_tasks_makes_the_tasks_that_items_ask_for(run: Run) -> None:
    spec = {"type": "std.TaskRunSpec", "task_type": "leaf", "task_name": "n", "params": {"n": 7}}
    went = run(
        "  - {name: leaf, with: {n: {type: int}}, run: 'emit {\"n\": ${{ n }}}'}\n"
        f"  - name: a\n    run: 'emit {json.dumps(spec)}'\n  - {{name: x, needs: [a], uses: std.RunTasks}}\n"
    )
    assert went.texts["x.n"] == 'emit {"n": 7}'
    assert [item["n"] for item in went.items("x") if "n" in item] == [7]


TREES = st.recursive(
    st.sampled_from(["go", "fail", 'emit {"v": 1}']),
    lambda below: st.tuples(
        st.sampled_from(["plain", "repeat", "guarded", "absorbed", "chain"]), st.lists(below, min_size=1, max_size=3)
    ),
    max_leaves=12,
)


def written(tree: object, name: str, indent: str, chance: random.Random) -> str:
    if isinstance(tree, str):
        return f"{indent}- {{name: {name}, run: '{tree}'}}\n"
    assert isinstance(tree, tuple)
    kind, parts = tree
    lines = {
        "plain": "",
        "repeat": f"{indent}  control: {{type: repeat, count: 2}}\n",
        "guarded": f"{indent}  max_failures: {chance.randrange(-1, 3)}\n",
        "absorbed": f"{indent}  on_error: hand.sum_up\n",
        "chain": f"{indent}  strategy: {{chain: true}}\n",
    }
    body = "".join(written(part, f"t{number}", f"{indent}  ", chance) for number, part in enumerate(parts))
    return f"{indent}- name: {name}\n{lines[kind]}{indent}  body:\n{body}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, seed=st.integers(0, 1000), most=st.sampled_from([None, 1, 2]))
def test_every_node_that_ever_was_gets_exactly_one_verdict(run: Run, tree: object, seed: int, most: int | None) -> None:
    went = run(written(tree, "x", "  ", random.Random(seed)), "x", most_failures=most)
    nodes = went.scheduler.graph.nodes
    assert sorted(event.task for event in went.finished) == sorted(node.name for node in nodes)
    assert all(verdict is not None for verdict in went.scheduler.outcome.verdicts)
