"""`dfm run` as a person meets it: what runs, in which order, what flows, what is told."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
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


def test_without_a_task_it_lists_what_can_be_run(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - {root: go, desc: the whole thing}\n  - {name: inner}\n")
    answer = dfm("run")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "tasks of package p:\n  go  the whole thing\nrun one with: dfm run TASK\n"


def test_needs_run_first_and_items_flow_in_their_order(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD
        + "  - {name: a, run: 'dfm-out item --type p.T n:=1'}\n  - {name: b, run: 'dfm-out item --type p.T n:=2'}\n"
        "  - {name: c, needs: [b, a], run: 'cp $DFM_INPUTS got.json'}\n"
    )
    assert dfm("run", "c", "-j2").returncode == 0
    got = json.loads((tmp_path / "rundir" / "p.c" / "got.json").read_text(encoding="utf-8"))
    assert [(item["src"], item["seq"], item["n"]) for item in got] == [("p.b", 0, 2), ("p.a", 0, 1)]


@pytest.mark.parametrize("words", [[], ["-n"], ["-k"]])
def test_an_unknown_resource_class_is_told_before_anything_runs(
    dfm: Dfm, flow: Flow, tmp_path: Path, words: list[str]
) -> None:
    flow(
        HEAD + "  - {name: a, run: 'true'}\n"
        "  - {name: b, needs: [a], run: 'true', tags: [{std.ResourceTag: {resource_class: nix}}]}\n"
    )
    answer = dfm("run", "b", *words)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.startswith(
        "flow.yaml:5:82: error: there is no resource class 'nix', which task p.b asks for [unknown-resource-class]\n"
    )
    assert not (tmp_path / "rundir").exists()


def test_a_script_finds_its_parameters_and_its_memento(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - name: a\n    uptodate: false\n    with: {on: true, words: [x, y], text: it's}\n    run: |\n"
        '      echo "$DFM_PARAM_ON $DFM_PARAM_WORDS $DFM_PARAM_TEXT $DFM_TASK_NAME" > out\n'
        '      [ -n "$DFM_MEMENTO" ] && cat "$DFM_MEMENTO" > memento\n      dfm-out memento \'{"n": 1}\'\n'
    )
    assert dfm("run", "a").returncode == 0
    assert dfm("run", "a").returncode == 0
    here = tmp_path / "rundir" / "p.a"
    assert (here / "out").read_text(encoding="utf-8") == 'true ["x","y"] it\'s p.a\n'
    assert json.loads((here / "memento").read_text(encoding="utf-8")) == {"n": 1}


def test_an_environment_reaches_those_that_need_it_and_no_further(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: set, uses: std.SetEnv, with: {setenv: {X: '1'}, prepend_path: {PATH: /opt/p}}}\n"
        "  - {name: script, run: 'dfm-out env Y=2; dfm-out path bin'}\n"
        "  - {name: near, needs: [set, script], run: 'echo $X$Y $PATH > out'}\n"
        "  - {name: far, needs: near, run: 'echo \"[$X]\" > out'}\n"
    )
    assert dfm("run", "far").returncode == 0
    near = (tmp_path / "rundir" / "p.near" / "out").read_text(encoding="utf-8")
    assert near.startswith("12 ")
    assert f"{tmp_path}/rundir/p.script/bin:/opt/p:" in near
    assert (tmp_path / "rundir" / "p.far" / "out").read_text(encoding="utf-8") == "[]\n"


def test_consumes_and_passthrough_decide_what_goes_on(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: a, run: 'dfm-out item --type p.A; dfm-out item --type p.B'}\n"
        "  - {name: b, needs: a, consumes: [{type: p.A}], run: 'cp $DFM_INPUTS got'}\n"
        "  - {name: c, needs: b, run: 'cp $DFM_INPUTS got'}\n"
    )
    assert dfm("run", "c").returncode == 0
    types = [
        [item["type"] for item in json.loads((tmp_path / "rundir" / f"p.{task}" / "got").read_text(encoding="utf-8"))]
        for task in ("b", "c")
    ]
    assert types == [["p.A"], ["p.B"]]


def test_an_expression_in_run_sees_the_real_parameters(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        "package:\n  name: p\n  with: {n: {type: int, value: 1}}\n  tasks:\n"
        "  - {name: base, with: {x: {type: str, value: base}}, run: 'echo ${{ x }} ${{ n + 1 }} > out'}\n"
        "  - {name: derived, uses: base, with: {x: derived}}\n"
    )
    assert dfm("run", "derived", "-D", "n=4").returncode == 0
    assert (tmp_path / "rundir" / "p.derived" / "out").read_text(encoding="utf-8") == "derived 5\n"
    assert dfm("run", "derived", "-D", "derived.x=typed").returncode == 0
    assert (tmp_path / "rundir" / "p.derived" / "out").read_text(encoding="utf-8") == "typed 2\n"


def test_parameters_may_come_as_json(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        "package:\n  name: p\n  with: {m: {type: map}}\n  tasks:\n"
        "  - {name: a, with: {l: {type: list}}, run: 'echo ${{ m.k }} ${{ l | join }} > out'}\n"
    )
    given = {"package": {"m": {"k": 7}}, "tasks": {"a": {"l": ["x", "y"]}}}
    assert dfm("run", "a", "-P", json.dumps(given)).returncode == 0
    assert (tmp_path / "rundir" / "p.a" / "out").read_text(encoding="utf-8") == "7 x y\n"


def test_a_false_condition_disables_a_task_and_what_only_it_needs(dfm: Dfm, flow: Flow) -> None:
    flow(
        "package:\n  name: p\n  with: {n: {type: int, value: 1}}\n  tasks:\n"
        "  - {name: a, run: 'true'}\n  - {name: b, needs: a, iff: '${{ n > 20 }}', run: 'false'}\n  - {name: c, needs: b, run: 'true'}\n"
    )
    assert verdicts(dfm("run", "c", "--json")) == {"b": "disabled", "c": "succeeded"}
    assert verdicts(dfm("run", "c", "--json", "-D", "n=21", "-k")) == {"a": "succeeded", "b": "failed", "c": "blocked"}


def test_a_condition_may_wait_for_the_inputs(dfm: Dfm, flow: Flow) -> None:
    flow(
        HEAD + "  - {name: a, run: 'dfm-out item --type p.T'}\n"
        "  - {name: b, needs: a, iff: '${{ (inputs | length) > 1 }}', run: 'false'}\n"
    )
    assert verdicts(dfm("run", "b", "--json")) == {"a": "succeeded", "b": "disabled"}


def test_a_matrix_makes_a_copy_for_each_combination_with_needs_inside_a_cell(
    dfm: Dfm, flow: Flow, tmp_path: Path
) -> None:
    flow(
        HEAD + "  - name: m\n    strategy: {matrix: {x: [1, 2], y: [a, b]}}\n    body:\n"
        "    - {name: make, run: 'dfm-out item --type p.T v=${{ matrix.x }}${{ this.y }}'}\n"
        "    - {name: use, needs: make, run: 'cp $DFM_INPUTS got'}\n  - {name: top, needs: m}\n"
    )
    answer = dfm("run", "top", "--json")
    assert answer.returncode == 0, answer.stderr
    got = tmp_path / "rundir" / "p.m" / "p.m.use_1_0" / "got"
    assert [item["v"] for item in json.loads(got.read_text(encoding="utf-8"))] == ["2a"]
    assert len([name for name in verdicts(answer) if name.startswith("m.")]) == 8


def test_one_node_of_a_compound_task_can_be_run_alone(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - name: m\n    strategy: {matrix: {x: [1, 2]}}\n    body: [{name: s, run: 'true'}]\n")
    assert verdicts(dfm("run", "m.s_1", "--json")) == {"m.s_1": "succeeded"}
    assert "did you mean" in dfm("run", "m.s_9").stderr


def test_sub_tasks_see_the_parameters_around_them(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - name: c\n    with: {seed: {type: int, value: 3}}\n    body:\n"
        "    - {name: s, with: {seed: '${{ seed }}', t: '${{ this.seed }}'}, run: 'echo ${{ seed }} ${{ t }} > out'}\n"
    )
    assert dfm("run", "c", "-D", "seed=8").returncode == 0
    assert (tmp_path / "rundir" / "p.c" / "p.c.s" / "out").read_text(encoding="utf-8") == "8 8\n"


def test_a_failure_lets_running_tasks_finish_and_starts_nothing_new(dfm: Dfm, flow: Flow) -> None:
    flow(
        HEAD + "  - {name: bad, run: 'exit 4'}\n  - {name: after, needs: bad, run: 'true'}\n"
        "  - {name: other, run: 'true'}\n  - {name: all, needs: [bad, after, other]}\n"
    )
    answer = dfm("run", "all", "-j1", "--json")
    assert answer.returncode == 1
    assert verdicts(answer) == {"bad": "failed", "after": "blocked", "all": "blocked", "other": "not-run"}
    answer = dfm("run", "all", "-j1", "-k", "--json")
    assert verdicts(answer)["other"] == "succeeded"


def test_max_fail_counts_failures(dfm: Dfm, flow: Flow) -> None:
    flow(
        HEAD
        + "".join(f"  - {{name: b{n}, run: 'exit 1'}}\n" for n in range(5))
        + "  - {name: all, needs: [b0, b1, b2, b3, b4]}\n"
    )
    counts = list(verdicts(dfm("run", "all", "-j1", "--max-fail", "3", "--json")).values())
    assert (counts.count("failed"), counts.count("not-run")) == (3, 2)


def test_a_second_run_has_nothing_to_do_and_a_reason_for_what_it_does(dfm: Dfm, flow: Flow) -> None:
    text = (
        HEAD
        + "  - {name: a, with: {x: 1}, run: 'echo $DFM_PARAM_X; dfm-out item --type p.T'}\n  - {name: b, needs: a, run: 'true'}\n"
    )
    flow(text)
    assert set(verdicts(dfm("run", "b", "--json")).values()) == {"succeeded"}
    assert set(verdicts(dfm("run", "b", "--json")).values()) == {"up-to-date"}
    answer = dfm("run", "b", "--json", "-D", "a.x=2")
    assert verdicts(answer) == {"a": "succeeded", "b": "up-to-date"}
    assert reasons(answer)["a"] == "param x: 1 -> 2"
    flow(text.replace("echo", "printf"))
    assert "its script changed" in (reasons(dfm("run", "b", "--json"))["a"] or "")
    assert reasons(dfm("run", "b", "--json", "-f")) == {"a": "forced", "b": "forced"}


def test_a_task_run_alone_leaves_what_needs_it_stale(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: a, run: 'cp $DFM_SRCDIR/in out; dfm-out fileset out', uptodate: false}\n"
        "  - {name: b, needs: a, run: 'cp ../p.a/out copy'}\n"
    )
    (tmp_path / "in").write_text("1", encoding="utf-8")
    dfm("run", "b")
    (tmp_path / "in").write_text("2", encoding="utf-8")
    dfm("run", "a")
    assert verdicts(dfm("run", "b", "--json"))["b"] == "succeeded"
    assert (tmp_path / "rundir" / "p.b" / "copy").read_text(encoding="utf-8") == "2"


def test_a_dry_run_tells_and_writes_nothing(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n  - {name: b, needs: a, run: 'true'}\n")
    answer = dfm("run", "-n", "b")
    assert answer.returncode == 0
    assert answer.stdout == (
        "would run  p.a  (it has never run)\nwould run  p.b  (it has never run)\n"
        "2 would run, 0 would not; nothing was run or written\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.yaml"]


def test_explain_tells_why_each_task_runs(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    assert ">> p.a  (it has never run)" in dfm("run", "a", "--explain").stdout
    assert "up to date p.a  (nothing that it depends on changed since 20" in dfm("run", "a", "--explain").stdout


def test_clean_empties_what_dfm_made_and_nothing_else(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'echo x >> out'}\n")
    dfm("run", "a")
    assert dfm("run", "a", "--clean").returncode == 0
    assert (tmp_path / "rundir" / "p.a" / "out").read_text(encoding="utf-8") == "x\n"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("dear", encoding="utf-8")
    answer = dfm("run", "a", "--clean", "--rundir", str(mine))
    assert answer.returncode == 2
    assert "which DFM did not make" in answer.stderr
    assert (mine / "thesis.txt").exists()


def test_json_is_one_object_on_stdout(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - {name: a, run: 'exit 9'}\n  - {name: m, uses: std.Message, with: {msg: hello}}\n")
    answer = dfm("run", "a", "m", "-k", "--json")
    content = json.loads(answer.stdout)
    assert content["schema"] == "dfm-run/1"
    assert content["exit_code"] == answer.returncode == 1
    assert content["counts"] == {"failed": 1, "succeeded": 1}
    failed = next(task for task in content["tasks"] if task["task"] == "p.a")
    assert (failed["exit_status"], failed["cause"], failed["rerun"].split()[-1]) == (9, "exit status 9", "p.a")
    assert "p.m: hello" in answer.stderr


def test_two_runs_in_one_directory_refuse_each_other(
    dfm: Dfm, flow: Flow, tmp_path: Path, environ: dict[str, str]
) -> None:
    flow(HEAD + "  - {name: a, run: 'echo > ../up; sleep 1000'}\n  - {name: b, run: 'true'}\n")
    (tmp_path / "rundir").mkdir()
    os.mkfifo(tmp_path / "rundir" / "up")
    script = Path(sys.executable).parent / "dfm"
    first = subprocess.Popen([str(script), "run", "a"], cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL)
    (tmp_path / "rundir" / "up").read_text(encoding="utf-8")
    answer = dfm("run", "b")
    first.send_signal(signal.SIGINT)
    assert first.wait(20) == 130
    assert answer.returncode == 6
    assert f"another run holds this run directory: process {first.pid}" in answer.stderr
    assert dfm("run", "b").returncode == 0


def test_a_closed_pipe_does_not_stop_a_run(flow: Flow, tmp_path: Path, environ: dict[str, str]) -> None:
    flow(
        HEAD
        + "".join(f"  - {{name: t{n}, run: 'touch done'}}\n" for n in range(20))
        + f"  - {{name: all, needs: [{', '.join(f't{n}' for n in range(20))}]}}\n"
    )
    script = Path(sys.executable).parent / "dfm"
    subprocess.run(
        ["sh", "-c", f"{script} run all | head -1"],
        cwd=tmp_path,
        env=environ,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert len(list((tmp_path / "rundir").glob("p.t*/done"))) == 20


PYTASK = HEAD + "  - name: a\n    shell: pytask\n    with: {n: 2}\n    run: |\n{body}"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("      return None\n", 0, ""),
        ("      await ctxt.exec(['true'])\n", 0, ""),
        ("      assert await ctxt.exec(['sh', '-c', 'exit 3']) == 3\n", 0, ""),
        ("      assert ctxt.run(['/no/such']) == 127\n", 0, ""),
        ("      1 / 0\n", 1, "ZeroDivisionError: division by zero"),
        ("      return 5\n", 1, "a task returns a TaskOutput or None, not int"),
        ("      import os; os.kill(os.getpid(), 9)\n", 1, "killed by signal 9"),
        ("      raise SystemExit(4)\n", 1, "exit status 4"),
        ("      input.params.m\n", 1, "has no parameter 'm' (it has: n)"),
        ("      from dfm.api import TaskOutput; return TaskOutput(status=2)\n", 1, "the task returned status 2"),
        ("      def f(ctxt, input):\n        raise KeyError('inside')\n", 1, "KeyError: 'inside'"),
        ("      async def f(ctxt, input):\n        assert input.params.n == 2\n", 0, ""),
        ("      x = = 1\n", 1, "invalid syntax"),
    ],
)
def test_a_python_task_ends_as_its_code_says(dfm: Dfm, flow: Flow, body: str, status: int, told: str) -> None:
    flow(PYTASK.replace("{body}", body))
    answer = dfm("run", "a")
    assert told in answer.stdout
    assert answer.returncode == status, answer.stdout + answer.stderr


def test_a_python_function_of_a_file_sees_items_and_makes_some(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(
        "from dfm.api import FileSet, TaskOutput\nimport helper\n"
        "def make(ctxt, input):\n    ctxt.create('f.txt', helper.TEXT)\n"
        "    return TaskOutput(output=[FileSet('text', '.', ['f.txt'])], memento={'n': (input.memento or {'n': 0})['n'] + 1})\n"
        "def use(ctxt, input):\n    item, = input.inputs\n    print(open(item.basedir + '/' + item.files[0]).read(), item.src)\n",
        encoding="utf-8",
    )
    (tmp_path / "helper.py").write_text("TEXT = 'hi'\n", encoding="utf-8")
    flow(HEAD + "  - {name: a, shell: pytask, run: 't.py::make'}\n  - {name: b, needs: a, pytask: 't.py::use'}\n")
    assert dfm("run", "b").returncode == 0
    assert (tmp_path / "rundir" / "p.b" / "p.b.log").read_text(encoding="utf-8") == "hi p.a\n"
    (tmp_path / "t.py").write_text((tmp_path / "t.py").read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert verdicts(dfm("run", "b", "--json"))["a"] == "succeeded"
    answer = dfm("run", "b", "-D", "x=1")
    assert answer.returncode == 2


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo '{bad' >> $DFM_OUTPUT", "output.jsonl:1: not JSON"),
        ("echo '{\"x\": 1}' >> $DFM_OUTPUT", "an item needs a `type`"),
        ("echo nonsense >> $DFM_ENV", "env:1: not NAME=VALUE"),
        ("dfm-out fileset ghost.txt", "ghost.txt is declared as output and does not exist"),
        ("dfm-out error 'bad width' --file rtl/a.v --line 7; exit 1", "rtl/a.v:7: error: bad width"),
    ],
)
def test_what_a_script_says_wrongly_fails_it_with_the_place(dfm: Dfm, flow: Flow, script: str, told: str) -> None:
    flow(HEAD + f"  - name: a\n    run: |\n      {script}\n")
    answer = dfm("run", "a")
    assert answer.returncode == 1
    assert told in answer.stdout


def test_an_inherited_rundir_is_that_of_the_compound_task(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - name: c\n    body:\n    - {name: a, rundir: inherit, run: 'touch a; dfm-out item --type p.A'}\n"
        "    - {name: b, rundir: inherit, run: 'touch b; dfm-out item --type p.B'}\n"
    )
    assert dfm("run", "c", "-j2").returncode == 0
    assert {"a", "b"} <= {path.name for path in (tmp_path / "rundir" / "p.c").iterdir()}
    assert set(verdicts(dfm("run", "c", "--json")).values()) == {"up-to-date"}


def test_other_shells_and_interpreters_run_scripts(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - {name: a, shell: sh, run: 'echo $0 > out'}\n"
        "  - name: b\n    shell: python3\n    run: |\n      import os\n      open('out', 'w').write(os.environ['DFM_TASK_NAME'])\n"
    )
    assert dfm("run", "a", "b").returncode == 0
    assert (tmp_path / "rundir" / "p.b" / "out").read_text(encoding="utf-8") == "p.b"


def test_the_jobserver_of_a_make_around_us_is_used(flow: Flow, tmp_path: Path, environ: dict[str, str]) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    flow(HEAD + "  - {name: a, run: 'echo \"$MAKEFLAGS\" > out'}\n")
    script = Path(sys.executable).parent / "dfm"
    (tmp_path / "Makefile").write_text(f"all:\n\t+@{script} run a\n", encoding="utf-8")
    subprocess.run(["make", "-j2"], cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=60)
    out = (tmp_path / "rundir" / "p.a" / "out").read_text(encoding="utf-8")
    assert "--jobserver-auth=" in out
    assert "fifo:" not in out


def test_validate_show_and_graph_tell_without_running(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD
        + "  - {root: a, desc: first, with: {x: {type: int, value: 3}}, run: 'touch ${{ x }}'}\n  - {root: b, needs: a}\n"
    )
    assert dfm("validate").stdout == "valid: 2 tasks\n"
    assert json.loads(dfm("validate", "--json").stdout)["valid"] is True
    assert "p.a   root   first" in dfm("show", "tasks").stdout
    shown = json.loads(dfm("show", "task", "a", "--json").stdout)["results"][0]
    assert [(name, x["type"], x["value"]) for name, x in shown["params"].items()] == [("x", "int", 3)]
    assert [row["name"] for row in json.loads(dfm("show", "packages", "--json").stdout)["results"]] == ["std", "p"]
    assert "n0 -> n1" in dfm("graph", "b").stdout.replace("n1 -> n0", "n0 -> n1")
    assert dfm("graph", "b", "-f", "mermaid").stdout.startswith("flowchart LR\n")
    assert len(json.loads(dfm("graph", "--json").stdout)["nodes"]) == 2
    assert not (tmp_path / "rundir").exists()


def test_validate_tells_every_fault_and_exits_3(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - {name: a, ned: b}\n  - {name: c, needs: d}\n")
    answer = dfm("validate", "--json")
    assert answer.returncode == 3
    assert [error["code"] for error in json.loads(answer.stdout)["errors"]] == ["unknown-key", "unknown-task"]


def test_a_flow_without_tasks_has_nothing_to_select(dfm: Dfm, flow: Flow) -> None:
    flow("package: {name: p}\n")
    answer = dfm("run")
    assert (answer.returncode, "has no tasks" in answer.stderr) == (4, True)


def test_a_derived_task_is_at_home_where_it_is_declared(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "flow.yaml").write_text(
        "package:\n  name: lib\n  with: {word: {type: str, value: lib-word}}\n  tasks:\n"
        "  - {export: base, run: 'echo $DFM_SRCDIR ${{ word }} > out'}\n"
        "  - {export: py, shell: pytask, run: 'code.py::f'}\n",
        encoding="utf-8",
    )
    (tmp_path / "lib" / "code.py").write_text(
        "def f(ctxt, input):\n    ctxt.create('out', input.srcdir)\n", encoding="utf-8"
    )
    flow(
        "package:\n  name: p\n  imports: [lib]\n  tasks:\n  - {name: a, uses: lib.base}\n  - {name: b, uses: lib.py}\n"
    )
    assert dfm("run", "a", "b").returncode == 0
    assert (tmp_path / "rundir" / "p.a" / "out").read_text(encoding="utf-8") == f"{tmp_path} lib-word\n"
    assert (tmp_path / "rundir" / "p.b" / "out").read_text(encoding="utf-8") == str(tmp_path)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie that waits for this machine's init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_run_leaves_no_process_and_no_directory(flow: Flow, tmp_path: Path, environ: dict[str, str]) -> None:
    flow(HEAD + "  - {name: a, run: 'setsid sleep 1000 & echo $$ > ../up; sleep 1000'}\n")
    (tmp_path / "rundir").mkdir()
    (tmp_path / "tmp").mkdir()
    os.mkfifo(tmp_path / "rundir" / "up")
    script = Path(sys.executable).parent / "dfm"
    process = subprocess.Popen(
        [str(script), "run", "a"], cwd=tmp_path, env=environ | {"TMPDIR": str(tmp_path / "tmp")}, stdout=subprocess.PIPE
    )
    body = int((tmp_path / "rundir" / "up").read_text(encoding="utf-8"))
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    process.kill()
    process.communicate(timeout=20)
    again = subprocess.run(
        [str(script), "run", "a", "-n"], cwd=tmp_path, env=environ, capture_output=True, check=True, timeout=60
    )
    assert b"p.a" in again.stdout
    with (tmp_path / "rundir" / ".dfm.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the guard holds it until it has cleaned up
    assert not is_running(body)
    assert list((tmp_path / "tmp").iterdir()) == []
