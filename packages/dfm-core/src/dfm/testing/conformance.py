"""The suite that every runner must pass: derive a class from RunnerConformance, and give it a runner.

    class TestMine(RunnerConformance):
        @pytest.fixture
        def open_runner(self, workspace: Workspace) -> OpenRunner:
            return lambda: opened("mine", workspace, jobs=2)

It needs `dfm-core[testing]`. The runner must run at least two tasks at once. Tests and tasks share a file system (the
`workspace`); they need not share a host: that a process is gone is seen from the lock that it held on a file.
"""

import asyncio
import fcntl
import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, TypeAlias

import pytest

from dfm.api.runner import Outcome, PythonBody, PythonCall, PythonSource, Runner, ShellBody, TaskRequest, TaskResult
from dfm.api.task import Marker, MarkerLocation, Severity
from dfm.testing.tasks import Workspace

OpenRunner: TypeAlias = Callable[[], AbstractAsyncContextManager[Runner]]

BIG_ITEM_BYTES = 50 * 1000 * 1000
BIG_LOG_LINES = 400_000
MANY_TASKS = 30
STRANGE_TEXT = "ünï \N{SNOWMAN} \N{GRINNING FACE} 'once' \"twice\" $HOME `x` \\ * ~ {a} <b> & ; | #\ttab\nline two"
_LET_GO_SECONDS = 15.0
"""A body's processes have this long to be gone: SIGTERM, the runner's grace, SIGKILL, and one sweep."""
_APPEARS_SECONDS = 60.0
"""A body has this long to begin: a worker may have to be started first."""
_LOOK_SECONDS = 0.02


class RunnerConformance:
    """What holds for every runner, whatever it stands on.

    Attributes:
        has_jobserver: whether bodies find a GNU make jobserver in their environment.
        carries_questions: whether the bodies of Python tasks can ask the run for tasks; the runner is then opened with
            an `ask` that answers as `dfm.testing.opening.all_well` does.
    """

    pytestmark = pytest.mark.asyncio
    has_jobserver: ClassVar[bool] = False
    carries_questions: ClassVar[bool] = False

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Workspace:
        """Return a directory that all hosts of the runner share; override it where `tmp_path` is not."""
        directory = tmp_path / "with blank and ünïcödé"
        directory.mkdir()
        return Workspace(directory)

    @pytest.fixture
    def open_runner(self, workspace: Workspace) -> OpenRunner:
        """Return what opens a runner with at least two slots and closes it; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} gives no runner: override the fixture open_runner")

    async def test_a_script_that_ends_well_succeeds(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        result = await _run(open_runner, workspace.shell("true"))
        assert (result.outcome, result.status, result.cause) == (Outcome.SUCCEEDED, 0, None)
        assert (result.outputs, result.memento, result.markers) == ([], None, [])
        assert result.host
        assert result.started_at.endswith("Z")
        assert result.seconds > 0

    async def test_a_python_task_may_ask_the_run_for_tasks(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        if not self.carries_questions:
            pytest.skip("the runner does not carry questions")
        request = workspace.python(
            "from dfm.api import TaskOutput\n"
            "nodes = [ctxt.mkTaskNode('leaf', name=name, text=input.params.text) for name in ('one', 'two')]\n"
            "results = [*await ctxt.run_subgraph(nodes), await ctxt.run_subgraph(nodes[0])]\n"
            "return TaskOutput(memento=[[r.name, r.status] for r in results])",
            params={"text": STRANGE_TEXT},
        )
        result = await _run(open_runner, request)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, None)
        assert result.memento == [["one", 0], ["two", 0], ["one", 0]]

    async def test_a_script_may_have_many_lines(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.shell("a=1\nb=2\necho $((a + b)) > sum\n")
        assert (await _run(open_runner, request)).outcome is Outcome.SUCCEEDED
        assert (Path(request.rundir) / "sum").read_text() == "3\n"

    async def test_items_come_back_in_the_order_they_were_made(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        request = workspace.shell("for i in 3 1 2; do dfm-out item --type p.Number n:=$i; done; dfm-out fileset a.v")
        result = await _run(open_runner, request)
        numbers = [{"type": "p.Number", "n": n} for n in (3, 1, 2)]
        assert list(result.outputs[:3]) == numbers
        assert result.outputs[3]["type"] == "std.FileSet"
        assert (result.outputs[3]["basedir"], result.outputs[3]["files"]) == (request.rundir, ["a.v"])

    async def test_variables_for_others_come_back(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        result = await _run(open_runner, workspace.shell("dfm-out env A=1; dfm-out path /opt/bin"))
        [item] = result.outputs
        assert (item["type"], item["vals"], item["prepend_path"]) == ("std.Env", {"A": "1"}, {"PATH": "/opt/bin"})

    async def test_markers_come_back_with_their_place(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        result = await _run(open_runner, workspace.shell("dfm-out warning 'slack -0.2' --file top.v --line 7"))
        assert result.outcome is Outcome.SUCCEEDED
        assert list(result.markers) == [Marker(Severity.WARNING, "slack -0.2", MarkerLocation("top.v", 7))]

    async def test_a_memento_goes_in_and_comes_out(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.shell('cat "$DFM_MEMENTO" > was; dfm-out memento \'{"n": 2}\'', memento={"n": 1})
        result = await _run(open_runner, request)
        assert result.memento == {"n": 2}
        assert json.loads((Path(request.rundir) / "was").read_text()) == {"n": 1}

    async def test_a_python_task_gets_its_memento_and_whether_something_changed(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        request = workspace.python(
            "from dfm.api import TaskOutput\nreturn TaskOutput(memento=[input.memento, input.changed, input.params.a])",
            memento={"n": [1, None]},
            changed=False,
            params={"a": {"b": True}},
        )
        assert (await _run(open_runner, request)).memento == [{"n": [1, None]}, False, {"b": True}]

    @pytest.mark.parametrize("keyword", ["def", "async def"])
    async def test_a_python_task_runs_commands_and_makes_items(
        self, open_runner: OpenRunner, workspace: Workspace, keyword: str
    ) -> None:
        call = "await ctxt.exec" if keyword == "async def" else "ctxt.run"
        request = workspace.python(
            "from dfm.api import FileSet, TaskOutput\n"
            f"{keyword} task(ctxt, input):\n"
            "    print('in the log')\n"
            f"    status = {call}(['sh', '-c', 'echo made > made.txt; exit 4'])\n"
            "    ctxt.info(f'it was {status}')\n"
            "    item = ctxt.make_item('p.Thing', of=[each.n for each in input.inputs])\n"
            "    return TaskOutput(output=[FileSet('text', '.', ['made.txt']), item])\n",
            inputs=[{"type": "p.Number", "src": "p.a", "seq": 0, "n": 5}],
        )
        result = await _run(open_runner, request)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, None)
        assert [item["type"] for item in result.outputs] == ["std.FileSet", "p.Thing"]
        assert result.outputs[1]["of"] == [5]
        assert [(marker.severity, marker.msg) for marker in result.markers] == [(Severity.INFO, "it was 4")]
        assert [command.status for command in result.commands] == [4]
        assert b"in the log" in workspace.log(request)

    async def test_a_python_task_may_be_a_function_of_a_file(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        file = workspace.directory / "bench.py"
        file.write_text("def bench(ctxt, input):\n    ctxt.create('out.txt', input.name)\n", encoding="utf-8")
        request = workspace.request(PythonBody(PythonSource.FILE, str(file), "bench", "flow.yaml:1"))
        assert (await _run(open_runner, request)).outcome is Outcome.SUCCEEDED
        assert (Path(request.rundir) / "out.txt").read_text(encoding="utf-8") == request.task

    @pytest.mark.parametrize("answer", ["True", "False"])
    async def test_a_python_function_is_asked_whether_a_result_stands(
        self, open_runner: OpenRunner, workspace: Workspace, answer: str
    ) -> None:
        file = workspace.directory / "fresh.py"
        file.write_text(f"def fresh(ctxt):\n    return {answer}\n", encoding="utf-8")
        body = PythonBody(PythonSource.FILE, str(file), "fresh", "flow.yaml:1", PythonCall.UPTODATE)
        result = await _run(open_runner, workspace.request(body))
        assert (result.outcome, str(result.memento)) == (Outcome.SUCCEEDED, answer)

    async def test_a_python_function_makes_sub_tasks(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        text = "for n in (1, 2):\n    ctxt.addTask(ctxt.mkTaskNode('p.leaf', name=f'n{n}', n=n))\n"
        body = PythonBody(PythonSource.INLINE, text, "", "flow.yaml:1", PythonCall.GENERATE)
        result = await _run(open_runner, workspace.request(body))
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, None)
        assert [item["type"] for item in result.outputs] == ["std.TaskRunSpec"] * 2

    @pytest.mark.parametrize("status", [1, 2, 42, 255])
    async def test_a_status_other_than_0_fails_the_task(
        self, open_runner: OpenRunner, workspace: Workspace, status: int
    ) -> None:
        result = await _run(open_runner, workspace.shell(f"exit {status}"))
        assert (result.outcome, result.status) == (Outcome.FAILED, status)
        assert result.cause == f"exit status {status}"

    async def test_a_failed_task_keeps_its_items_and_markers(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        result = await _run(open_runner, workspace.shell("dfm-out error broken; dfm-out item --type p.A; exit 3"))
        assert (result.outcome, result.status) == (Outcome.FAILED, 3)
        assert [marker.msg for marker in result.markers] == ["broken"]

    @pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("SEGV", 11), ("TERM", 15)])
    async def test_a_signal_fails_the_task_with_its_number(
        self, open_runner: OpenRunner, workspace: Workspace, name: str, number: int
    ) -> None:
        result = await _run(open_runner, workspace.shell(f"ulimit -c 0; kill -{name} $$"))
        assert (result.outcome, result.status) == (Outcome.FAILED, 128 + number)
        assert result.cause is not None
        assert str(number) in result.cause

    async def test_a_command_that_does_not_exist_is_127(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        result = await _run(open_runner, workspace.shell("exec no-such-command-anywhere"))
        assert (result.outcome, result.status) == (Outcome.FAILED, 127)

    async def test_a_shell_that_does_not_exist_fails_the_task(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        result = await _run(open_runner, workspace.request(ShellBody("true", "no-such-shell")))
        assert (result.outcome, result.status) == (Outcome.FAILED, 127)
        assert result.cause is not None
        assert "no-such-shell" in result.cause

    async def test_outputs_that_cannot_be_understood_fail_the_task(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        result = await _run(open_runner, workspace.shell('echo "not json" >> "$DFM_OUTPUT"'))
        assert result.outcome is Outcome.FAILED
        assert result.cause

    @pytest.mark.parametrize(
        ("text", "status", "cause"),
        [
            ("raise ValueError('too small')", 1, "too small"),
            ("from dfm.api import TaskOutput\nreturn TaskOutput(status=7)", 7, "status 7"),
            ("import os\nos._exit(9)", 9, "without a result"),
            ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", 137, "9"),
            ("this is no python", 1, "syntax"),
        ],
    )
    async def test_a_python_task_that_ends_badly_fails(
        self, open_runner: OpenRunner, workspace: Workspace, text: str, status: int, cause: str
    ) -> None:
        result = await _run(open_runner, workspace.python(text))
        assert (result.outcome, result.status) == (Outcome.FAILED, status)
        assert result.cause is not None
        assert cause in result.cause

    async def test_the_traceback_of_a_python_task_is_in_its_log(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        request = workspace.python("raise ValueError('too small')")
        await _run(open_runner, request)
        assert b"Traceback" in workspace.log(request)

    async def test_a_runner_works_on_after_a_failure(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        async with open_runner() as runner:
            outcomes = [(await runner.run(workspace.shell(text))).outcome for text in ("false", "kill -9 $$", "true")]
        assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.SUCCEEDED]

    async def test_a_body_finds_who_and_where_it_is(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        words = ["$DFM_TASK_NAME", "$DFM_RUNDIR", "$DFM_SRCDIR", "$DFM_ROOT_RUNDIR", "$DFM_ATTEMPT", "$(cat)"]
        quoted = " ".join(f'"{word}"' for word in words)
        request = workspace.shell(f"printf '%s\\n' {quoted}; touch here", attempt=3)
        assert (await _run(open_runner, request)).outcome is Outcome.SUCCEEDED
        told = workspace.log(request).decode().split("\n")
        stdin = ""
        assert told[:6] == [request.task, request.rundir, request.srcdir, request.root_rundir, "3", stdin]
        assert (Path(request.rundir) / "here").exists()

    async def test_a_body_gets_the_environment_of_the_request_and_nothing_of_the_host(
        self, open_runner: OpenRunner, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OF_THE_HOST", "leaks")
        strange = {"PLAIN": "1", "EMPTY": "", "STRANGE": STRANGE_TEXT, "EQUALS": "a=b=c"}
        request = workspace.shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(_DUMP_ENVIRONMENT)}", env=strange)
        result = await _run(open_runner, request)
        assert result.outcome is Outcome.SUCCEEDED
        found = json.loads((Path(request.rundir) / "environment.json").read_text(encoding="utf-8"))
        assert {name: found.get(name) for name in strange} == strange
        assert "OF_THE_HOST" not in found
        assert found["PATH"].endswith(request.env["PATH"])

    async def test_parameters_and_inputs_arrive_whole(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        params = {"text": STRANGE_TEXT, "number": 7, "flag": True, "items": [1, "two", {"three": None}]}
        inputs = [{"type": "p.In", "src": "p.a", "seq": n, "text": STRANGE_TEXT} for n in range(3)]
        request = workspace.shell(
            'cp "$DFM_PARAMS" params.json; cp "$DFM_INPUTS" inputs.json; printf %s "$DFM_PARAM_TEXT" > text',
            params=params,
            inputs=inputs,
        )
        assert (await _run(open_runner, request)).outcome is Outcome.SUCCEEDED
        rundir = Path(request.rundir)
        assert json.loads((rundir / "params.json").read_text(encoding="utf-8")) == params
        assert json.loads((rundir / "inputs.json").read_text(encoding="utf-8")) == inputs
        assert (rundir / "text").read_text(encoding="utf-8") == STRANGE_TEXT

    async def test_strange_text_comes_back_as_it_was(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.python(
            "from dfm.api import TaskOutput\n"
            "ctxt.warning(input.params.text)\n"
            "item = ctxt.make_item('p.Text', text=input.params.text)\n"
            "return TaskOutput(output=[item], memento=input.params.text)",
            params={"text": STRANGE_TEXT},
        )
        result = await _run(open_runner, request)
        assert result.outputs[0]["text"] == result.memento == result.markers[0].msg == STRANGE_TEXT

    async def test_a_jobserver_is_there_where_the_runner_has_one(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        request = workspace.shell('printf %s "$MAKEFLAGS"')
        await _run(open_runner, request)
        assert (b"--jobserver-auth=" in workspace.log(request)) is self.has_jobserver

    async def test_the_log_holds_both_streams_in_order(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.shell("echo one; echo two >&2; echo three; printf '\\xff\\xfe no UTF-8, no end of line'")
        await _run(open_runner, request)
        assert workspace.log(request) == b"one\ntwo\nthree\n\xff\xfe no UTF-8, no end of line"

    async def test_the_log_of_the_last_attempt_replaces_the_one_before(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        first = workspace.shell("echo first", name="p.again")
        second = workspace.shell("echo second", name="p.again", attempt=2)
        async with open_runner() as runner:
            await runner.run(first)
            await runner.run(second)
        assert workspace.log(second) == b"second\n"

    async def test_what_a_given_up_attempt_still_writes_is_not_in_the_next_ones_results(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        first = workspace.shell('echo "$DFM_OUTPUT" > output; ln p.again.log old.log', name="p.again")
        late = 'echo late >> old.log; echo \'{"type": "p.Late"}\' >> "$(cat output)"'
        second = workspace.shell(f"{late}; dfm-out item --type p.Good; echo good", name="p.again", attempt=2)
        async with open_runner() as runner:
            await runner.run(first)
            result = await runner.run(second)
        assert [item["type"] for item in result.outputs] == ["p.Good"]
        assert workspace.log(second) == b"good\n"

    async def test_a_failed_task_has_its_log(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.shell("echo why >&2; exit 1")
        await _run(open_runner, request)
        assert workspace.log(request) == b"why\n"

    async def test_a_big_item_goes_through(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        maker = workspace.python(
            "from dfm.api import TaskOutput\n"
            f"return TaskOutput(output=[ctxt.make_item('p.Big', text='x' * {BIG_ITEM_BYTES})])"
        )
        async with open_runner() as runner:
            [item] = (await runner.run(maker)).outputs
            assert len(item["text"]) == BIG_ITEM_BYTES
            reader = workspace.python(f"assert len(input.inputs[0].text) == {BIG_ITEM_BYTES}", inputs=[item])
            assert (await runner.run(reader)).outcome is Outcome.SUCCEEDED

    async def test_a_big_parameter_goes_through(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.shell('wc -c < "$DFM_PARAMS"', params={"big": "x" * 2_000_000})
        assert (await _run(open_runner, request)).outcome is Outcome.SUCCEEDED
        assert int(workspace.log(request)) > 2_000_000

    async def test_a_big_log_is_kept_whole(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        request = workspace.shell(f"yes 'a line of a log that goes on and on' | head -{BIG_LOG_LINES}; echo end")
        assert (await _run(open_runner, request)).outcome is Outcome.SUCCEEDED
        log = workspace.log(request)
        assert (log.count(b"\n"), log[-4:]) == (BIG_LOG_LINES + 1, b"end\n")

    async def test_two_tasks_run_at_once(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        here = shlex.quote(str(workspace.directory))
        looks = int(_APPEARS_SECONDS / 0.05)
        meet = f"for i in $(seq {looks}); do [ -e {{other}} ] && exit 0; sleep 0.05; done; exit 1"
        requests = [
            workspace.shell(f"cd {here}; touch {mine}; {meet.format(other=other)}")
            for mine, other in (("a", "b"), ("b", "a"))
        ]
        async with open_runner() as runner:
            assert runner.max_in_flight >= 2
            results = await asyncio.gather(*(runner.run(request) for request in requests))
        assert [result.outcome for result in results] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]

    async def test_each_of_many_gets_its_own_result(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        requests = [workspace.shell(f"dfm-out memento {n}; exit $(({n} % 3))") for n in range(MANY_TASKS)]
        async with open_runner() as runner:
            results = await asyncio.gather(*(runner.run(request) for request in requests))
        assert [(result.memento, result.status) for result in results] == [(n, n % 3) for n in range(MANY_TASKS)]

    async def test_a_task_sees_what_the_one_before_it_wrote(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        file = shlex.quote(str(workspace.directory / "chain"))
        async with open_runner() as runner:
            for n in range(6):
                request = workspace.shell(f"touch {file}; [ $(wc -l < {file}) = {n} ] && echo {n} >> {file}")
                assert (await runner.run(request)).outcome is Outcome.SUCCEEDED, f"task {n} saw something else"

    async def test_a_runner_can_be_opened_again(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        for _ in range(2):
            assert (await _run(open_runner, workspace.shell("true"))).outcome is Outcome.SUCCEEDED

    async def test_a_runner_that_was_given_nothing_closes(self, open_runner: OpenRunner) -> None:
        async with open_runner() as runner:
            assert runner.max_in_flight >= 1

    async def test_cancelling_ends_the_body_and_all_it_started(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        body = _Body(workspace, "sleep 1000")
        async with open_runner() as runner:
            await _cancel(runner, body)
            await body.is_gone()

    async def test_cancelling_twice_ends_a_body_that_will_not_listen(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        body = _Body(workspace, "trap '' TERM INT HUP; while :; do sleep 1; done")
        async with open_runner() as runner:
            await _cancel(runner, body, times=2)
            await body.is_gone()

    async def test_cancelling_a_python_task_ends_its_commands(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        body = _Body(workspace, "sleep 1000", is_python=True)
        async with open_runner() as runner:
            await _cancel(runner, body)
            await body.is_gone()

    async def test_a_request_that_is_cancelled_at_once_harms_no_other(
        self, open_runner: OpenRunner, workspace: Workspace
    ) -> None:
        async with open_runner() as runner:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(runner.run(workspace.shell("sleep 0.1"))) for _ in range(8)]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
            after = await runner.run(workspace.shell("true"))
        assert all(task.cancelled() for task in tasks[::2])
        assert [task.result().outcome for task in tasks[1::2]] == [Outcome.SUCCEEDED] * 4
        assert after.outcome is Outcome.SUCCEEDED

    async def test_a_runner_works_on_after_a_cancel(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        body = _Body(workspace, "sleep 1000")
        async with open_runner() as runner:
            await _cancel(runner, body)
            results = await asyncio.gather(*(runner.run(workspace.shell("true")) for _ in range(4)))
        assert {result.outcome for result in results} == {Outcome.SUCCEEDED}

    @pytest.mark.parametrize("status", [0, 1])
    async def test_what_a_body_leaves_behind_is_ended(
        self, open_runner: OpenRunner, workspace: Workspace, status: int
    ) -> None:
        body = _Body(workspace, f"exit {status}")
        async with open_runner() as runner:
            assert (await runner.run(body.request)).status == status
            await body.is_gone()

    async def test_closing_the_runner_leaves_nothing(self, open_runner: OpenRunner, workspace: Workspace) -> None:
        body = _Body(workspace, "exit 0")
        async with open_runner() as runner:
            await runner.run(body.request)
        await body.is_gone()


_DUMP_ENVIRONMENT = "import json, os; json.dump(dict(os.environ), open('environment.json', 'w', encoding='utf-8'))"

_HOLD = """\
import fcntl, os, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock.fileno(), True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "1000"])
    os._exit(0)
if os.fork() == 0:
    os.execvp("sleep", ["sleep", "1000"])
open(sys.argv[1] + ".there", "w").close()
os.execvp("bash", ["bash", "-c", sys.argv[2]])
"""


class _Body:
    """A body that starts a child in the background and another in a session of its own; all hold one lock."""

    def __init__(self, workspace: Workspace, script: str, *, is_python: bool = False) -> None:
        self._lock = workspace.directory / "lock"
        program = workspace.directory / "hold.py"
        program.write_text(_HOLD, encoding="utf-8")
        argv = [sys.executable, str(program), str(self._lock), script]
        if is_python:
            self.request = workspace.python(f"return ctxt.run({argv!r}) and None")
        else:
            self.request = workspace.shell(f"exec {shlex.join(argv)}")

    async def runs(self) -> None:
        """Wait until the body and its children run."""
        there = Path(f"{self._lock}.there")
        await _until(there.exists, _APPEARS_SECONDS, "the body did not begin")

    async def is_gone(self) -> None:
        """Wait until no process holds the lock any more."""
        await _until(self._can_be_taken, _LET_GO_SECONDS, "a process of the task is still there")

    def _can_be_taken(self) -> bool:
        with open(self._lock, "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


async def _cancel(runner: Runner, body: _Body, *, times: int = 1) -> None:
    """Cancel the task once its body runs; it ends as cancelled."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run(body.request))
        await body.runs()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
    assert task.cancelled()


async def _until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(_LOOK_SECONDS)


async def _run(open_runner: OpenRunner, request: TaskRequest) -> TaskResult:
    async with open_runner() as runner:
        return await runner.run(request)
