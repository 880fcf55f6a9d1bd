"""Flows whose tasks are only known while they run, results that outlive their run, and functions that decide."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
Flow = Callable[[str], Path]

HEAD = "package:\n  name: p\n  tasks:\n"


def verdicts(answer: Answer) -> dict[str, str]:
    return {task["task"].removeprefix("p."): task["verdict"] for task in json.loads(answer.stdout)["tasks"]}


def reasons(answer: Answer) -> dict[str, str]:
    return {task["task"].removeprefix("p."): task["reason"] for task in json.loads(answer.stdout)["tasks"]}


def causes(answer: Answer) -> dict[str, str]:
    return {task["task"].removeprefix("p."): task["cause"] for task in json.loads(answer.stdout)["tasks"]}


def log(tmp_path: Path, *names: str) -> str:
    return Path(tmp_path, "rundir", *names, f"{names[-1]}.log").read_text(encoding="utf-8")


LOOP = (
    HEAD + "  - root: x\n"
    "    control: {type: do-while, until: '${{ state.n >= 2 }}', max_iter: 5, state: {init: {n: 0}}}\n"
    "    body: [{name: b, run: 'dfm-out item --type p.T n:=${{ state.n + 1 }}'}]\n"
    "  - {root: y, needs: [x], run: 'cp $DFM_INPUTS got.json'}\n"
)


def test_a_loop_runs_and_is_then_up_to_date(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(LOOP)
    assert verdicts(dfm("run", "y", "--json")) == {
        "x.b_0": "succeeded",
        "x.b_1": "succeeded",
        "x": "succeeded",
        "y": "succeeded",
    }
    got = json.loads((tmp_path / "rundir" / "p.y" / "got.json").read_text(encoding="utf-8"))
    assert [(item["src"], item["n"]) for item in got] == [("p.x.b_1", 2)]
    assert set(verdicts(dfm("run", "y", "--json")).values()) == {"up-to-date"}


def test_a_dry_run_does_not_unfold(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(LOOP)
    answer = dfm("run", "y", "-n", "--json")
    assert answer.returncode == 0
    assert verdicts(answer)["x"] == "would-run"
    assert not (tmp_path / "rundir").exists()


GENERATOR = """
from dfm.api import TaskContext, TaskInput


def make(ctxt: TaskContext, input: TaskInput) -> None:
    print("made")
    first = ctxt.addTask(ctxt.mkTaskNode("leaf", name=ctxt.mkName("a"), n=1, needs=ctxt.getInputs()))
    for number in range(input.params.count):
        ctxt.addTask(ctxt.mkTaskNode("p.leaf", name=f"b{number}", n=number, needs=[first]))
"""


def test_python_code_makes_sub_tasks_and_only_when_their_turn_comes(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "gen.py").write_text(f"open('{tmp_path}/touched', 'w')\n{GENERATOR}", encoding="utf-8")
    flow(
        HEAD + "  - {name: leaf, with: {n: {type: int}}, run: 'dfm-out item --type p.T n:=${{ n }}'}\n"
        "  - root: x\n    with: {count: {type: int, value: 2}}\n    strategy: {generate: {run: 'gen.py::make'}}\n"
        "  - {root: y, needs: [x], run: 'cat $DFM_INPUTS'}\n"
    )
    for words in (["validate"], ["graph", "y"], ["show", "tasks"], ["run"], ["run", "y", "-n"]):
        assert dfm(*words).returncode == 0
    assert not (tmp_path / "touched").exists()
    assert verdicts(dfm("run", "y", "--json", "-j1")) == {
        "x.a": "succeeded",
        "x.b0": "succeeded",
        "x.b1": "succeeded",
        "x": "succeeded",
        "y": "succeeded",
    }
    assert log(tmp_path, "p.x") == "made\n"
    assert sorted(item["n"] for item in json.loads(log(tmp_path, "p.y"))) == [0, 1]


def test_a_script_prints_the_sub_tasks_there_are(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD
        + "  - root: x\n    with: {count: {type: int, value: 2}}\n    strategy:\n      generate:\n        shell: bash\n"
        "        run: |\n          for i in $(seq $DFM_PARAM_COUNT); do\n"
        "            echo \"- {name: m$i, uses: std.Message, with: {msg: 'number $i'}}\"\n          done\n          echo aside >&2\n"
    )
    answer = dfm("run", "x")
    assert "p.x.m1: number 1" in answer.stdout
    assert "p.x.m2: number 2" in answer.stdout
    assert log(tmp_path, "p.x") == "aside\n"


def test_a_generator_that_raises_fails_the_task_with_its_place(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - root: x\n    strategy: {generate: {run: 'raise ValueError(7)'}}\n")
    answer = dfm("run", "x", "--json")
    assert answer.returncode == 1
    assert causes(answer)["x"] == "its generator failed: ValueError: 7"


SUBGRAPH = (
    HEAD
    + "  - {name: leaf, with: {n: {type: int, value: 0}}, run: 'dfm-out item --type p.T n:=${{ n }}; exit ${{ n }}'}\n"
    "  - root: x\n    shell: pytask\n    run: |\n"
)


def test_a_python_task_runs_tasks_and_sees_their_items_even_with_one_job(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        SUBGRAPH + "      one = ctxt.mkTaskNode('leaf', name='one')\n"
        "      results = await ctxt.run_subgraph([one, ctxt.mkTaskNode('leaf', name='two', needs=one)])\n"
        "      print([(r.name, r.status, [i.src for i in r.output]) for r in results])\n"
    )
    answer = dfm("run", "x", "-j1", "--json")
    assert verdicts(answer) == {"x.one": "succeeded", "x.two": "succeeded", "x": "succeeded"}
    assert log(tmp_path, "p.x") == "[('one', 0, ['p.x.one']), ('two', 0, ['p.x.two'])]\n"


def test_a_task_whose_tasks_fail_fails_unless_it_says_how_many_may(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    call = "      {}await ctxt.run_subgraph([ctxt.mkTaskNode('leaf', name=f'n{{n}}', n=n) for n in (0, 3)]{})\n"
    flow(SUBGRAPH + call.format("", ""))
    answer = dfm("run", "x", "--json")
    assert answer.returncode == 1
    assert causes(answer)["x"] == "SubgraphError: 1 of 2 tasks did not end well: n3 (failed)"
    flow(SUBGRAPH + call.format("results = ", ", max_failures=2") + "      print([r.verdict for r in results])\n")
    assert dfm("run", "x").returncode == 0
    assert log(tmp_path, "p.x") == "['up-to-date', 'failed']\n"


def test_a_time_out_ends_the_waiting_and_not_the_tasks(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: leaf, run: 'while [ ! -e ../go ]; do sleep 0.02; done; touch done'}\n"
        "  - root: x\n    shell: pytask\n    run: |\n"
        "      try:\n          await ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='slow'), timeout=0.05)\n"
        "      except TimeoutError:\n          open('go', 'w').close()\n"
    )
    assert verdicts(dfm("run", "x", "--json")) == {"x": "succeeded", "x.slow": "succeeded"}
    assert (tmp_path / "rundir" / "p.x" / "p.x.slow" / "done").exists()


def test_tasks_that_nobody_waits_for_any_more_still_end(dfm: Dfm, flow: Flow) -> None:
    flow(
        HEAD + "  - {name: leaf, run: 'true'}\n"
        "  - root: x\n    shell: pytask\n    run: |\n"
        "      import asyncio\n      asyncio.ensure_future(ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='n')))\n"
        "      await asyncio.sleep(0)\n      await asyncio.sleep(0)\n"
    )
    answer = dfm("run", "x", "--json")
    assert answer.returncode == 0
    assert verdicts(answer)["x"] == "succeeded"
    assert verdicts(answer).get("x.n", "succeeded") == "succeeded"


def test_an_interrupt_stops_a_task_that_waits_for_its_tasks_and_leaves_nothing(
    flow: Flow, tmp_path: Path, environ: dict[str, str], dfm: Dfm
) -> None:
    flow(
        HEAD + "  - {name: leaf, run: 'echo $$ > pid; exec sleep 300'}\n"
        "  - root: x\n    shell: pytask\n    run: |\n"
        "      await ctxt.run_subgraph(ctxt.mkTaskNode('leaf', name='slow'))\n"
    )
    program = str(dfm("--version").args[0])
    pid_file = tmp_path / "rundir" / "p.x" / "p.x.slow" / "pid"
    with subprocess.Popen(
        [program, "run", "x", "--json"],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text(encoding="utf-8").strip()):
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert {task["verdict"] for task in json.loads(out)["tasks"]} == {"cancelled"}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text(encoding="utf-8")), 0)


def test_on_error_sees_every_failure_and_may_forgive(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "hand.py").write_text(
        "from dfm.api import TaskOutput\n\n\nasync def sum_up(ctxt, input):\n"
        "    print(sorted((i.task_name, i.status) for i in input.inputs if i.type == 'std.TaskFailure'))\n"
        "    return TaskOutput(status=input.params.strict)\n",
        encoding="utf-8",
    )
    flow(
        HEAD
        + "  - root: x\n    with: {strict: {type: int, value: 0}}\n    max_failures: -1\n    on_error: hand:sum_up\n"
        "    body: [{name: a, run: exit 3}, {name: b, run: exit 4}, {name: c, run: 'true'}]\n"
        "  - {root: y, needs: [x], run: 'true'}\n"
    )
    answer = dfm("run", "y", "--json")
    assert answer.returncode == 0
    assert verdicts(answer) == {
        "x.a": "failed",
        "x.b": "failed",
        "x.c": "succeeded",
        "x": "succeeded",
        "y": "succeeded",
    }
    assert log(tmp_path, "p.x") == "[('p.x.a', 3), ('p.x.b', 4)]\n"
    answer = dfm("run", "x", "-D", "x.strict=1", "--json")
    assert answer.returncode == 1
    assert verdicts(answer)["x"] == "failed"


CACHED = (
    HEAD + "  - {name: s, uses: std.FileSet, with: {include: in.txt}}\n"
    "  - root: x\n    needs: [s]\n    cache: {hash: ['${{ env.FLAVOUR:-plain }}'], compression: gzip}\n"
    "    run: |\n      COMMAND\n      date +%N > out.txt; dfm-out fileset out.txt\n"
)


@pytest.fixture
def cache(dfm: Dfm, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "in.txt").write_text("1", encoding="utf-8")
    assert dfm("cache", "init", "cache").returncode == 0
    return {"DV_FLOW_CACHE": str(tmp_path / "cache")}


def test_a_result_is_taken_from_the_cache_where_all_that_decides_is_the_same(
    dfm: Dfm, flow: Flow, tmp_path: Path, cache: dict[str, str]
) -> None:
    flow(CACHED.replace("COMMAND", "true"))
    assert verdicts(dfm("run", "x", "--json", env=cache))["x"] == "succeeded"
    answer = dfm("run", "x", "--json", "--rundir", "two", env=cache)
    assert (verdicts(answer)["x"], causes(answer)["x"]) == ("up-to-date", "its result was in the cache")
    made, taken = (Path(tmp_path, name, "p.x", "out.txt").read_text(encoding="utf-8") for name in ("rundir", "two"))
    assert made == taken
    assert set(verdicts(dfm("run", "x", "--json", "--rundir", "two", env=cache)).values()) == {"up-to-date"}
    assert verdicts(dfm("run", "x", "--json", "--rundir", "3", env={**cache, "FLAVOUR": "b"}))["x"] == "succeeded"
    (tmp_path / "in.txt").write_text("2", encoding="utf-8")
    assert verdicts(dfm("run", "x", "--json", "--rundir", "4", env=cache))["x"] == "succeeded"
    flow(CACHED.replace("COMMAND", "true #"))
    assert verdicts(dfm("run", "x", "--json", "--rundir", "5", env=cache))["x"] == "succeeded"


def test_a_forced_run_does_not_look_into_the_cache(dfm: Dfm, flow: Flow, cache: dict[str, str]) -> None:
    flow(CACHED.replace("COMMAND", "true"))
    assert verdicts(dfm("run", "x", "--json", env=cache))["x"] == "succeeded"
    assert verdicts(dfm("run", "x", "--json", "-f", env=cache))["x"] == "succeeded"


def test_a_result_is_not_kept_where_an_input_moved_while_it_was_made(
    dfm: Dfm, flow: Flow, tmp_path: Path, cache: dict[str, str]
) -> None:
    flow(CACHED.replace("COMMAND", "echo more >> ../../in.txt"))
    answer = dfm("run", "x", env=cache)
    assert "p.x is not cached: while it ran, file in.txt changed" in answer.stdout
    assert not list((tmp_path / "cache").glob("entries/*/*"))


def test_a_cache_that_is_not_there_is_wrong_use(dfm: Dfm, flow: Flow) -> None:
    flow(CACHED.replace("COMMAND", "true"))
    answer = dfm("run", "x", env={"DV_FLOW_CACHE": "nowhere"})
    assert answer.returncode == 2
    assert "dfm cache init nowhere" in answer.stderr


def test_results_of_a_base_run_directory_are_taken_as_they_are(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: a, run: 'echo 1 > out; dfm-out fileset out; echo $DFM_BASE_RUNDIR'}\n"
        "  - {root: b, needs: [a], run: 'cat $DFM_INPUTS; echo $DFM_BASE_RUNDIR >&2'}\n"
    )
    assert dfm("run", "a", "--rundir", "base").returncode == 0
    (tmp_path / "base").rename(tmp_path / "moved")
    answer = dfm("run", "b", "--base-rundir", "moved", "--json")
    assert verdicts(answer) == {"a": "up-to-date", "b": "succeeded"}
    assert f'"basedir": "{tmp_path}/moved/p.a"' in log(tmp_path, "p.b")
    assert log(tmp_path, "p.b").endswith(f"{tmp_path}/moved\n")
    assert not (tmp_path / "rundir" / "p.a").exists()
    assert verdicts(dfm("run", "b", "--base-rundir", "moved", "-f", "--json"))["a"] == "succeeded"
    assert dfm("run", "b", "--base-rundir", "nowhere").returncode == 2


def test_a_function_of_uptodate_has_the_last_word(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "chk.py").write_text(
        "import os\n\n\nasync def fresh(ctxt):\n"
        "    return ctxt.memento == {'n': 1} and not os.path.exists(os.path.join(ctxt.srcdir, ctxt.params.stale))\n\n\n"
        "def broken(ctxt):\n    raise RuntimeError('no idea')\n",
        encoding="utf-8",
    )
    flow(
        HEAD + "  - root: x\n    uptodate: chk.py::fresh\n    with: {stale: {type: str, value: stale}}\n"
        '    run: "dfm-out memento \'{\\"n\\": 1}\'"\n'
        "  - {root: y, uptodate: chk.broken, run: 'true'}\n"
    )
    assert verdicts(dfm("run", "x", "--json")) == {"x": "succeeded"}
    assert verdicts(dfm("run", "x", "--json")) == {"x": "up-to-date"}
    (tmp_path / "stale").touch()
    answer = dfm("run", "x", "--json")
    assert (verdicts(answer), reasons(answer)) == ({"x": "succeeded"}, {"x": "its `uptodate` function says so"})
    assert dfm("run", "y").returncode == 0
    answer = dfm("run", "y", "--json")
    assert answer.returncode == 1
    assert causes(answer)["y"] == "its `uptodate` function chk.broken failed: RuntimeError: no idea"


def test_filters_and_commands_in_expressions_run_only_when_the_turn_of_their_task_comes(
    dfm: Dfm, flow: Flow, tmp_path: Path
) -> None:
    flow(
        "package:\n  name: p\n  filters:\n"
        '  - {name: twice, with: [by], shell: python, run: "def filter(input, by):\\n    return input * by\\n"}\n'
        "  - {name: evens, expr: 'input | select(. % 2 == 0)'}\n"
        "  tasks:\n  - root: x\n    with:\n"
        "      a: {type: int, value: '${{ 4 | twice(3) }}'}\n"
        "      b: {type: list, value: '${{ [1, 2, 4] | evens }}'}\n"
        f"      c: {{type: str, value: \"${{{{ shell('touch {tmp_path}/touched; echo said') }}}}\"}}\n"
        "    run: echo $DFM_PARAM_A $DFM_PARAM_B $DFM_PARAM_C\n"
    )
    for words in (["validate"], ["graph", "x"], ["show", "task", "x"], ["run"], ["run", "-n", "x"]):
        assert dfm(*words).returncode == 0, words
    assert not (tmp_path / "touched").exists()
    assert dfm("run", "x").returncode == 0
    assert log(tmp_path, "p.x") == "12 [2,4] said\n"


def test_a_package_is_found_by_its_name_in_maps_and_directories(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "flow.yaml").write_text(
        "package:\n  name: lib\n  tasks:\n  - {export: hello, uses: std.Message, with: {msg: from lib}}\n",
        encoding="utf-8",
    )
    (tmp_path / "map.yaml").write_text("package-map: {packages: [{name: lib, path: lib}]}\n", encoding="utf-8")
    flow(HEAD + "  - {root: x, uses: lib.hello}\n")
    assert dfm("run", "x").returncode == 3
    for words, env in (
        (["--package-map", "map.yaml"], {}),
        ([], {"DV_FLOW_PACKAGE_MAP": "map.yaml"}),
        ([], {"DV_FLOW_PATH": str(tmp_path)}),
    ):
        answer = dfm("run", "x", "-f", *words, env=env)
        assert answer.returncode == 0
        assert "p.x: from lib" in answer.stdout


def test_a_task_is_replaced_by_another_on_the_command_line(dfm: Dfm, flow: Flow) -> None:
    flow(
        HEAD
        + "  - {name: a, uses: std.Message, with: {msg: old}}\n  - {name: b, uses: std.Message, with: {msg: new}}\n  - {root: x, needs: [a]}\n"
    )
    assert "p.a: new" in dfm("run", "x", "--override", "a=b").stdout
    assert dfm("run", "x", "--override", "a=nope").returncode == 2


def test_a_template_does_not_run_itself(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: t, template: true, with: {v: {type: str}}, run: 'echo ${{ v }}'}\n"
        "  - {root: x, uses: t, with: {v: mine}}\n"
    )
    assert dfm("validate").returncode == 0
    assert dfm("run", "x").returncode == 0
    assert log(tmp_path, "p.x") == "mine\n"
    answer = dfm("run", "t")
    assert (answer.returncode, "is a template" in answer.stderr) == (2, True)


def test_results_of_classes_that_look_like_ours_are_taken_for_what_they_say(
    dfm: Dfm, flow: Flow, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(
        "class Thing:\n    def __init__(self, **fields):\n        self.__dict__.update(fields)\n\n"
        "    def model_dump(self):\n        return dict(self.__dict__)\n\n\n"
        "async def task(ctxt, input):\n"
        "    ctxt.add_marker(Thing(severity='info', msg='by the way', loc=Thing(path='a.sv', line=3, pos=-1)))\n"
        "    items = [Thing(type='std.FileSet', basedir=input.rundir, files=[], src='', seq=-1)]\n"
        "    return Thing(status=0, output=items, memento=Thing(n=1), markers=[], changed=True)\n",
        encoding="utf-8",
    )
    flow(HEAD + "  - {name: a, pytask: other.task}\n  - {root: x, needs: [a], run: cat $DFM_INPUTS}\n")
    answer = dfm("run", "x", "--json")
    assert answer.returncode == 0
    marker = next(task for task in json.loads(answer.stdout)["tasks"] if task["task"] == "p.a")["markers"]
    assert marker == [{"severity": "info", "msg": "by the way", "loc": {"path": "a.sv", "line": 3, "pos": 0}}]
    (item,) = json.loads(log(tmp_path, "p.x"))
    assert (item["type"], item["src"], item["seq"]) == ("std.FileSet", "p.a", 0)


def test_an_unknown_name_in_a_generating_script_is_a_fault_of_the_flow(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - {root: g, strategy: {generate: {shell: bash, run: 'echo ${{ nope }}'}}}\n")
    answer = dfm("run", "g")
    assert (answer.returncode, answer.stderr) == (1, "")
    assert "nothing is called 'nope' here" in answer.stdout
