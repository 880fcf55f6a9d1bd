"""Wrong input gets what, where and what to do, and the exit status that the manual promises; never a traceback."""

import os
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


@pytest.mark.parametrize(
    ("text", "words", "status", "told"),
    [
        (HEAD + "  - {name: build, run: 'true'}\n", ["biuld"], 2, "did you mean 'build'?"),
        (HEAD + "  - {name: a, ned: [b]}\n", ["a"], 3, "flow.yaml:4:15: error: unknown key 'ned'"),
        (HEAD + "  - {name: a, ned: [b]}\n", ["a"], 3, "did you mean 'needs'?"),
        (HEAD + "  - {name: a, with: {x: 1}, run: 'true'}\n", ["a", "-D", "a.y=1"], 2, "has no parameter 'y'"),
        (HEAD + "  - {name: a, run: 'true'}\n", ["a", "-D", "zz=1"], 2, "-D zz sets nothing"),
        (HEAD + "  - {name: a, run: 'true'}\n", ["a", "--runner", "locl"], 2, "did you mean 'local'?"),
        (HEAD + "  - {name: a, run: 'true'}\n", ["a", "--runner-opt", "kill_grase=1"], 2, "did you mean 'kill_grace'?"),
        (HEAD + "  - {name: a, run: 'true'}\n", ["a", "-c", "fast"], 3, "has no configuration 'fast'"),
        (HEAD + "  - {name: a, run: [}\n", ["a"], 3, "flow.yaml:4:21: error: not YAML"),
        (HEAD + "  - {name: a, needs: b}\n  - {name: b, needs: a}\n", ["a"], 3, "p.a -> p.b -> p.a"),
        (HEAD + "  - {name: a, needs: ghost}\n", ["a"], 3, "there is no task 'ghost'"),
        (HEAD + "  - {name: a}\n  - {name: a}\n", ["a"], 3, "two tasks are named 'p.a'"),
        (HEAD + "  - {name: ../a, run: 'true'}\n", ["a"], 3, "cannot be the name of a task"),
        (HEAD + "  - {name: /a, run: 'true'}\n", ["a"], 3, "cannot be the name of a task"),
        (HEAD + "  - {name: a, run: 'echo ${{ 1 + }}'}\n", ["a"], 3, "flow.yaml:4:34: error: a value was expected"),
        (HEAD + "  - {name: a, run: 'echo ${{ sed }}', with: {seed: 1}}\n", ["a"], 3, "did you mean 'seed'?"),
        ("a: [1, 2\n", ["a"], 3, "not YAML"),
        ("", ["a"], 3, "the file is empty"),
        (HEAD, ["a"], 2, "the flow has no tasks"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_a_way_out(
    dfm: Dfm, flow: Flow, text: str, words: list[str], status: int, told: str
) -> None:
    flow(text)
    answer = dfm("run", *words)
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (answer.returncode, answer.stdout) == (status, "")


def test_a_broken_flow_is_never_passed_over_for_that_of_a_parent(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    below = tmp_path / "below"
    below.mkdir()
    (below / "flow.yaml").write_text("package: {name: q, tasks: [\n", encoding="utf-8")
    answer = dfm("run", "a", cwd=below)
    assert answer.returncode == 3
    assert "not YAML" in answer.stderr


def test_no_flow_file_says_what_one_is_called(dfm: Dfm) -> None:
    answer = dfm("run", "a")
    assert answer.returncode == 2
    assert "flow.yaml" in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["run", "a"],
        ["run", "a", "-n"],
        ["show", "tasks"],
        ["validate"],
        ["graph", "a"],
        ["daemon", "start"],
        ["why", "pending"],
    ],
)
def test_a_project_whose_path_is_not_utf_8_is_refused(dfm: Dfm, tmp_path: Path, words: list[str]) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    (place / "flow.yaml").write_text(HEAD + "  - {name: a, run: 'true'}\n", encoding="utf-8")
    answer = dfm(*words, cwd=place)
    assert (answer.returncode, answer.stdout, answer.stderr) == (
        2,
        "",
        (
            f"dfm: error: the path of the flow file is not UTF-8: {tmp_path}/caf\\xe9/flow.yaml\n"
            "  hint: paths and parameters reach tasks, records and workers as UTF-8: choose another name\n"
        ),
    )
    assert [path.name for path in place.iterdir()] == ["flow.yaml"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-D", "x=caf"], "the value of -D is not UTF-8: x=caf\\xe9"),
        (["--rundir", "/caf"], "the path of the run directory is not UTF-8: /caf\\xe9"),
        (["--package-map", "caf"], "the value of --package-map is not UTF-8: caf\\xe9"),
    ],
)
def test_an_option_that_is_not_utf_8_is_refused(dfm: Dfm, flow: Flow, words: list[str], told: str) -> None:
    flow("package:\n  name: p\n  with: {x: {type: str, value: a}}\n  tasks:\n  - {name: a, run: 'echo ${{ x }}'}\n")
    answer = dfm("run", "a", words[0], words[1] + os.fsdecode(b"\xe9"))
    assert (answer.returncode, answer.stderr.splitlines()[0]) == (2, f"dfm: error: {told}")


def test_a_flow_can_be_run_from_a_directory_that_is_not_utf_8(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    for _ in range(2):
        assert dfm("run", "a", "--root", "..", "--rundir", str(tmp_path / "rundir"), cwd=place).returncode == 0


def test_non_utf_8_is_told_with_its_place(dfm: Dfm, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_bytes(b"package:\n  name: p\n  desc: \xff\n")
    answer = dfm("run")
    assert answer.returncode == 3
    assert "flow.yaml:3:9: error: the file is not UTF-8: byte 0xff" in answer.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)),
            "aliases expand",
        ),
        ("a: " + "[" * 3000 + "]" * 3000 + "\n", "nested more than"),
    ],
)
def test_hostile_yaml_is_refused_at_once(dfm: Dfm, flow: Flow, text: str, told: str) -> None:
    flow(text)
    answer = dfm("run", timeout=10)
    assert answer.returncode == 3
    assert told in answer.stderr


def test_a_read_only_place_is_told_before_anything_runs(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    answer = dfm("run", "a", "--rundir", str(blocked / "rundir"))
    assert answer.returncode == 6
    assert "the run directory" in answer.stderr


def test_a_log_that_cannot_be_written_ends_the_run_with_its_path(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    (tmp_path / "rundir" / "p.a" / "p.a.log").mkdir(parents=True)
    answer = dfm("run", "a")
    assert answer.returncode == 6
    assert "cannot write the log" in answer.stderr


def test_a_body_that_does_not_exist_fails_with_its_name(dfm: Dfm, flow: Flow) -> None:
    flow(
        HEAD + "  - {name: a, shell: pytask, run: 'nothing.py::f'}\n  - {name: b, shell: nosh, run: 'true'}\n"
        "  - {name: c, run: /no/such/program}\n"
    )
    answer = dfm("run", "a", "b", "c", "-k")
    assert answer.returncode == 1
    assert "there is no file" in answer.stdout
    assert "there is no shell 'nosh'" in answer.stdout
    assert "exit status 127" in answer.stdout


def test_a_body_killed_by_a_signal_is_told_as_such(dfm: Dfm, flow: Flow) -> None:
    flow(HEAD + "  - {name: a, run: 'kill -SEGV $$'}\n")
    answer = dfm("run", "a")
    assert answer.returncode == 1
    assert "killed by signal 11 (SIGSEGV)" in answer.stdout


def test_a_huge_log_and_a_huge_line_cost_nothing(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(
        HEAD + "  - name: a\n    run: |\n      head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 99\n"
        "      head -c 1000000 /dev/zero | tr '\\0' 'y'; echo; exit 3\n"
    )
    answer = dfm("run", "a")
    assert answer.returncode == 1
    assert len(answer.stdout) < 5000
    assert (tmp_path / "rundir" / "p.a" / "p.a.log").stat().st_size > 100_000_000


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_whole_tree_in_order(
    tmp_path: Path, flow: Flow, environ: dict[str, str], number: int, status: int
) -> None:
    flow(
        HEAD + "  - name: a\n    run: |\n      echo $$ > ../body.pid\n"
        "      setsid sh -c 'echo $$ > ../daemon.pid; trap \"\" TERM; echo go > ../started; sleep 1000' &\n"
        "      sleep 1000\n"
    )
    (tmp_path / "rundir").mkdir()
    os.mkfifo(tmp_path / "rundir" / "started")
    script = Path(sys.executable).parent / "dfm"
    process = subprocess.Popen(
        [str(script), "run", "a", "--rundir", "rundir"],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (tmp_path / "rundir" / "started").read_text(encoding="utf-8") == "go\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == status, output
    for name in ("body.pid", "daemon.pid"):
        pid = int((tmp_path / "rundir" / name).read_text(encoding="utf-8"))
        assert not Path(f"/proc/{pid}").exists()


def test_an_error_inside_dfm_is_a_bug_with_a_place_to_report_it(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    broken = tmp_path / "broken"
    broken.mkdir(parents=True)
    (tmp_path / "broken" / "sitecustomize.py").write_text(
        "import dfm.core.graph.select as s\ndef boom(*a): raise RuntimeError('boom')\ns.listed_tasks = boom\n",
        encoding="utf-8",
    )
    answer = dfm("run", env={"PYTHONPATH": str(tmp_path / "broken")})
    assert answer.returncode == 70
    assert "RuntimeError: boom" in answer.stderr
    assert "Please report it" in answer.stderr


def test_a_disk_that_takes_no_more_ends_the_run_in_order(flow: Flow, tmp_path: Path, environ: dict[str, str]) -> None:
    flow(HEAD + "  - {name: a, run: 'true'}\n")
    (tmp_path / "rundir").mkdir()
    script = Path(sys.executable).parent / "dfm"
    answer = subprocess.run(
        ["sh", "-c", f"ulimit -f 0; {script} run a"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 6
    assert "Traceback" not in answer.stderr
    assert "File too large" in answer.stderr


def test_toml_works_as_yaml_does(dfm: Dfm, tmp_path: Path) -> None:
    (tmp_path / "flow.toml").write_text(
        '[package]\nname = "p"\n[[package.tasks]]\nname = "a"\nrun = "true"\nned = ["b"]\n', encoding="utf-8"
    )
    answer = dfm("run", "a")
    assert answer.returncode == 3
    assert "flow.toml:6:1: error: unknown key 'ned'" in answer.stderr


def test_a_second_interrupt_kills_what_ignores_the_first(flow: Flow, tmp_path: Path, environ: dict[str, str]) -> None:
    flow(HEAD + "  - {name: a, run: \"trap '' TERM INT; echo up > ../up; while :; do sleep 1000; done\"}\n")
    (tmp_path / "rundir").mkdir()
    os.mkfifo(tmp_path / "rundir" / "up")
    script = Path(sys.executable).parent / "dfm"
    process = subprocess.Popen(
        [str(script), "run", "a", "--runner-opt", "kill_grace=1000s"],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert (tmp_path / "rundir" / "up").read_text(encoding="utf-8") == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "dfm: stopping; once more kills what still runs\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 cancelled" in output


def test_a_variable_that_is_no_text_is_told_where_it_is_used_and_counts_where_it_is_declared(
    dfm: Dfm, flow: Flow
) -> None:
    latin = {"X": "caf\udce9"}
    flow('package: {name: p, tasks: [{name: a, shell: sh, run: "echo ${{ env.X }}"}]}')
    answer = dfm("run", "a", env=latin)
    assert answer.returncode == 3
    assert "flow.yaml:1:68: error: the value of 'X' is not UTF-8" in answer.stderr
    flow('package: {name: p, tasks: [{name: a, shell: sh, env: [X], run: "true"}]}')
    assert "1 ok" in dfm("run", "a", env=latin).stdout
    assert "up to date" in dfm("run", "a", env=latin).stdout
    assert "1 ok" in dfm("run", "a", env={"X": "caf\udcea"}).stdout
