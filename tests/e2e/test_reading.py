"""Reading a flow: show, graph, validate, schema and completion, as a user and a program meet them; nothing is run."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]

FLOW = """\
package:
  name: p
  desc: a package to read
  with:
    n: {type: int, value: 3, doc: how many}
  imports: [{from: lib, as: l}]
  fragments: [more.yaml]
  configs:
  - {name: fast, with: {n: 1}}
  tags: [{Stage: {value: whole}}]
  types:
  - {name: Stage, uses: std.Tag, doc: a stage}
  - {name: Wave, uses: std.DataItem, with: {format: {type: str, value: vcd}}}
  - {name: Bare}
  tasks:
  - root: top
    desc: all of it
    doc: Everything there is.
    needs: [cmp, loop, pick, user]
    tags: [{Stage: {value: last}}]
  - name: lonely
    run: touch executed
  - export: maker
    with: {lang: {type: str, value: verilog, doc: a language}}
    produces: [{type: std.FileSet, filetype: "${{ lang }}"}]
    run: touch executed
  - local: user
    needs: maker
    consumes: [{filetype: vhdl}]
    run: touch executed
  - name: cmp
    strategy: {matrix: {a: [1, 2]}}
    body:
    - {name: x, run: touch executed, with: {q: "${{ n }}"}}
    - {name: y, needs: [x], run: touch executed}
  - name: loop
    control: {type: while, cond: "${{ _iter < 3 }}", max_iter: 5}
    body: [{name: z, run: touch executed}]
  - name: pick
    control:
      type: match
      cases:
      - {when: "${{ n == 3 }}", body: [{name: three, run: touch executed}]}
      - {default: true, body: [{name: other, run: touch executed}]}
"""
MORE = "fragment:\n  name: f\n  tasks:\n  - {name: extra, needs: [maker], run: touch executed}\n"
LIB = "package:\n  name: lib\n  tasks:\n  - {export: build, desc: builds, run: touch executed}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW, encoding="utf-8")
    (tmp_path / "more.yaml").write_text(MORE, encoding="utf-8")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "flow.yaml").write_text(LIB, encoding="utf-8")
    return tmp_path


@pytest.fixture
def results(dfm: Dfm, project: Path) -> Callable[..., list[dict[str, Any]]]:
    def shown(*words: str) -> list[dict[str, Any]]:
        answer = dfm("show", *words, "--json")
        assert (answer.returncode, answer.stderr) == (0, "")
        document = json.loads(answer.stdout)
        assert document["schema"] == f"dfm-show-{words[0]}/1"
        assert document["count"] == len(document["results"])
        assert not (project / "executed").exists()
        found: list[dict[str, Any]] = document["results"]
        return found

    return shown


Results = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["top", "lonely", "maker", "user", "cmp", "loop", "pick", "f.extra"]),
        (["--search", "EVERYTHING"], ["top"]),
        (["--regex", r"p\.l"], ["lonely", "loop"]),
        (["--tag", "Stage"], ["top"]),
        (["--tag", "std.Tag"], ["top"]),
        (["--tag", "Stage:value=last"], ["top"]),
        (["--tag", "Stage:value=first"], []),
        (["--scope", "local"], ["user"]),
        (["--scope", "export"], ["maker"]),
        (["--produces", "filetype=verilog"], ["maker"]),
        (["--produces", "type=std.FileSet,filetype=verilog"], ["maker"]),
        (["--produces", "filetype=vhdl"], []),
    ],
)
def test_tasks_can_be_narrowed_down(results: Results, words: list[str], names: list[str]) -> None:
    assert [row["short_name"] for row in results("tasks", *words)] == names


def test_tasks_of_another_package_are_named_by_it(results: Results) -> None:
    assert [row["name"] for row in results("tasks", "--package", "lib")] == ["lib.build"]
    everything = [row["name"] for row in results("tasks", "--all")]
    assert {"lib.build", "std.FileSet", "p.top"} <= set(everything)


def test_a_task_tells_parameters_with_type_value_and_help(results: Results) -> None:
    detail = results("task", "maker")[0]
    assert detail["params"] == {
        "lang": {"type": "str", "value": "verilog", "written": None, "deferred": False, "doc": "a language"}
    }
    assert detail["produces"] == [{"type": "std.FileSet", "filetype": "verilog"}]
    assert detail["scope"] == ["export"]
    assert results("task", "maker", "-D", "maker.lang=sv")[0]["params"]["lang"]["value"] == "sv"


def test_a_task_tells_its_tags_as_data(results: Results) -> None:
    detail = results("task", "top")[0]
    assert detail["tags"] == [{"type": "p.Stage", "fields": {"category": "", "value": "last"}}]
    assert (detail["desc"], detail["doc"]) == ("all of it", "Everything there is.")


def test_needs_are_followed_as_far_as_asked(results: Results) -> None:
    assert "needs_chain" not in results("task", "top")[0]
    assert [row["name"] for row in results("task", "top", "--needs")[0]["needs_chain"]] == [
        "p.cmp", "p.loop", "p.pick", "p.user", "p.maker",
    ]  # fmt: skip
    one = results("task", "top", "--needs", "1")[0]["needs_chain"]
    assert [row["name"] for row in one] == ["p.cmp", "p.loop", "p.pick", "p.user"]
    assert one[0] == {"name": "p.cmp", "depth": 1, "needed_by": ["p.top"]}


def test_control_is_shown_and_not_executed(results: Results) -> None:
    assert results("task", "loop")[0]["control"] == {
        "type": "while",
        "condition": "_iter < 3",
        "limit": "5",
        "branches": [{"when": None, "tasks": ["p.loop.z"]}],
    }


def test_a_sub_task_can_be_shown(results: Results) -> None:
    assert results("task", "cmp.x")[0]["name"] == "p.cmp.x"
    cell = results("task", "cmp.x_1")[0]
    assert (cell["name"], cell["params"]["q"]["value"]) == ("p.cmp.x", 3)
    assert results("task", "loop.z")[0]["run"] == "touch executed"


def test_packages_tell_what_they_hold(results: Results) -> None:
    assert {row["name"]: row["tasks"] for row in results("packages")} | {"std": 0} == {"std": 0, "p": 8, "lib": 1}
    assert [row["name"] for row in results("packages", "--tag", "Stage")] == ["p"]
    detail = results("package", "p")[0]
    assert (detail["imports"], detail["aliases"], detail["configs"]) == (["lib"], {"l": "lib"}, ["fast"])
    assert detail["params"]["n"] == {"type": "int", "value": 3, "written": None, "deferred": False, "doc": "how many"}


def test_a_configuration_and_d_reach_what_is_shown(results: Results) -> None:
    assert results("package", "p", "-c", "fast")[0]["params"]["n"]["value"] == 1
    assert results("project", "-D", "n=7")[0]["params"]["n"]["value"] == 7


def test_the_project_tells_what_it_offers(results: Results, project: Path) -> None:
    detail = results("project")[0]
    assert (detail["root_tasks"], detail["export_tasks"], detail["local_tasks"]) == (["p.top"], ["p.maker"], ["p.user"])
    assert detail["counts"] == {"tasks": 8, "types": 3, "imports": 1, "packages": 3}
    assert str(project / "more.yaml") in detail["files"]


def test_types_are_told_apart_by_their_base(results: Results) -> None:
    assert [row["name"] for row in results("types")] == ["p.Stage", "p.Wave", "p.Bare"]
    assert [row["name"] for row in results("types", "--tags-only")] == ["p.Stage"]
    assert [row["name"] for row in results("types", "--data-items-only")] == ["p.Wave", "p.Bare"]
    assert "std.FileSet" in [row["name"] for row in results("types", "--all", "--data-items-only")]
    assert results("types", "--search", "wave")[0]["params"]["format"]["value"] == "vcd"


def test_tags_count_what_bears_them(results: Results) -> None:
    rows = {row["name"]: row["used_by"] for row in results("tags")}
    assert rows["p.Stage"] == ["p", "p.top"]
    assert rows["std.ResourceTag"] == []


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["task", "maekr"], "did you mean 'maker'?"),
        (["task", "cmp.xx"], "did you mean 'p.cmp.x'?"),
        (["package", "lbi"], "did you mean 'lib'?"),
        (["tasks", "--package", "lbi"], "did you mean 'lib'?"),
        (["tasks", "--tag", "Stag"], "did you mean 'Stage'?"),
        (["tasks", "--tag", "Stage:value"], "has no `=`"),
        (["tasks", "--scope", "rot"], "'rot'"),
        (["tasks", "--regex", "("], "is not a regular expression"),
        (["tasks", "--produces", "x"], "is not KEY=VALUE"),
        (["types", "--tags-only", "--data-items-only"], "contradict"),
        (["task", "top", "--needs", "far"], "not a number of steps"),
        (["taks"], "taks"),
        (["task"], "NAME"),
    ],
)
def test_wrong_use_is_told_with_a_way_out(dfm: Dfm, words: list[str], told: str) -> None:
    answer = dfm("show", *words)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert told in answer.stderr


@pytest.mark.usefixtures("project")
def test_tables_are_aligned_and_without_colour_in_a_pipe(dfm: Dfm) -> None:
    answer = dfm("show", "tasks")
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["NAME", "SCOPE", "DESC"]
    assert lines[1] == "p.top      root     all of it"
    assert "\x1b" not in answer.stdout
    assert "\x1b[1m" in dfm("show", "tasks", env={"FORCE_COLOR": "1"}).stdout


@pytest.mark.usefixtures("project")
def test_nothing_found_is_told_beside_an_empty_list(dfm: Dfm) -> None:
    answer = dfm("show", "tasks", "--search", "zzz")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "nothing is found\n")


def test_show_alone_tells_what_it_can_show(dfm: Dfm) -> None:
    answer = dfm("show")
    assert answer.returncode == 0
    assert {"tasks", "task", "packages", "package", "project", "types", "tags"} <= set(answer.stdout.split())


def test_the_graph_draws_compounds_as_clusters_and_control_as_what_it_is(dfm: Dfm, project: Path) -> None:
    dot = dfm("graph", "top").stdout
    assert 'label="p.cmp";' in dot
    assert 'label="p.loop\\nwhile _iter < 3, at most 5", shape=diamond' in dot
    assert 'label="n == 3"' in dot
    assert "lonely" not in dot
    assert "lang = verilog" not in dot
    assert "lang = verilog" in dfm("graph", "top", "--show-params").stdout
    assert "subgraph c" in dfm("graph", "-f", "mermaid").stdout
    assert not (project / "executed").exists()
    assert not (project / "rundir").exists()


def test_the_graph_in_json_names_compounds_and_control(dfm: Dfm, project: Path) -> None:
    assert dfm("graph", "top", "--json", "-o", "g.json").stdout == ""
    document = json.loads((project / "g.json").read_text(encoding="utf-8"))
    assert (document["schema"], document["targets"]) == ("dfm-graph/1", ["p.top"])
    nodes = {node["name"]: node for node in document["nodes"]}
    assert nodes["p.cmp.x_0"]["compound"] == "p.cmp"
    assert nodes["p.cmp.x_0"]["params"] == {"q": 3}
    assert nodes["p.pick"]["control"]["branches"][0] == {"when": "n == 3", "tasks": ["p.pick.three"]}


def test_validate_warns_of_what_nobody_uses_and_nobody_takes(dfm: Dfm, project: Path) -> None:
    document = json.loads(dfm("validate", "--json").stdout)
    assert document["valid"] is True
    assert [(w["code"], w["location"]["line"]) for w in document["warnings"]] == [
        ("unused-task", 21),
        ("unused-task", 4),
        ("nothing-to-consume", 27),
    ]
    assert document["warnings"][1]["location"]["file"] == "more.yaml"
    assert not (project / "executed").exists()


def test_validate_tells_all_faults_of_all_files_with_their_places(dfm: Dfm, project: Path) -> None:
    (project / "more.yaml").write_text(
        "fragment:\n  tasks:\n  - {name: a, needs: ghost}\n  - {name: b, ned: [a]}\n", encoding="utf-8"
    )
    (project / "lib" / "flow.yaml").write_text(LIB + "  - {name: c, run: '${{ 1 + }}'}\n", encoding="utf-8")
    answer = dfm("validate", "--json")
    document = json.loads(answer.stdout)
    places = {(e["code"], e["location"]["file"], e["location"]["line"]) for e in document["errors"]}
    assert answer.returncode == 3
    assert document["error_count"] == 3
    assert places == {
        ("unknown-task", "more.yaml", 3),
        ("unknown-key", "more.yaml", 4),
        ("bad-expression", "lib/flow.yaml", 5),
    }


def test_validate_takes_the_file_it_is_given(dfm: Dfm, project: Path) -> None:
    other = project / "other.yaml"
    other.write_text("package: {name: q, tasks: [{name: a, run: 'true'}]}\n", encoding="utf-8")
    answer = dfm("validate", "other.yaml")
    assert (answer.returncode, answer.stdout) == (0, "valid: 1 task\n")


def test_the_schema_is_one_and_can_be_written_to_a_file(dfm: Dfm, tmp_path: Path) -> None:
    document = json.loads(dfm("schema").stdout)
    Draft202012Validator.check_schema(document)
    assert dfm("schema", "-o", "s.json").stdout == ""
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8")) == document
    assert "package-map" in json.loads(dfm("schema", "--package-map").stdout)["properties"]
    assert dfm("schema", "-o", "no/where").returncode == 6


@pytest.fixture
def shell_environ(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.usefixtures("project")
def test_complete_prints_the_tasks_that_begin_so(dfm: Dfm, shell_environ: dict[str, str]) -> None:
    assert dfm("complete", "l", env=shell_environ).stdout.split() == ["lonely", "loop"]
    assert dfm("complete", env=shell_environ).stdout.split()[0] == "top"


@pytest.mark.parametrize("words", [[], ["x"], ["--root", "/nonexistent"], ["-c", "ghost"]])
def test_complete_never_fails(dfm: Dfm, shell_environ: dict[str, str], words: list[str]) -> None:
    answer = dfm("complete", *words, env=shell_environ)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_complete_still_knows_the_names_while_the_flow_is_being_edited(
    dfm: Dfm, project: Path, shell_environ: dict[str, str]
) -> None:
    assert dfm("complete", "l", env=shell_environ).stdout.split() == ["lonely", "loop"]
    (project / "flow.yaml").write_text("package: [", encoding="utf-8")
    answer = dfm("complete", "l", env=shell_environ)
    assert (answer.returncode, answer.stdout.split(), answer.stderr) == (0, ["lonely", "loop"], "")


BASH = shutil.which("bash") or "/bin/bash"
COMPLETE = """\
source "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_dfm
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def press_tab(dfm: Dfm, project: Path, shell_environ: dict[str, str]) -> Callable[..., list[str]]:
    script = project / "complete.bash"
    script.write_text(dfm("completion", "bash").stdout, encoding="utf-8")

    def press(*words: str, path: str = shell_environ["PATH"]) -> list[str]:
        done = subprocess.run(
            [BASH, "-c", COMPLETE, "bash", *words],
            cwd=project,
            env=shell_environ | {"SCRIPT": str(script), "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return press


def test_tab_in_bash_completes_commands_options_and_tasks(press_tab: Callable[..., list[str]]) -> None:
    assert press_tab("dfm", "gr") == ["graph"]
    assert press_tab("dfm", "show", "ty") == ["types"]
    assert press_tab("dfm", "run", "--keep") == ["--keep-going"]
    assert press_tab("dfm", "completion", "f") == ["fish"]


def test_tab_reads_the_list_without_python_until_the_flow_is_newer(
    press_tab: Callable[..., list[str]], dfm: Dfm, project: Path, shell_environ: dict[str, str]
) -> None:
    dfm("complete", env=shell_environ)
    nowhere = str(project / "nowhere")
    assert press_tab("dfm", "run", "l", path=nowhere) == ["lonely", "loop"]
    newer = project / "flow.yaml"
    listed = next((project / "cache" / "dfm" / "complete").iterdir())
    stamp = listed.stat().st_mtime_ns + 1_000_000_000
    os.utime(newer, ns=(stamp, stamp))
    assert press_tab("dfm", "run", "l", path=nowhere) == []


@pytest.mark.parametrize(("shell", "check"), [("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])])
def test_scripts_for_other_shells_can_be_read_by_them(dfm: Dfm, tmp_path: Path, shell: str, check: list[str]) -> None:
    text = dfm("completion", shell).stdout
    assert "dfm complete" in text
    assert "@WORDS@" not in text
    if shutil.which(shell) is None:
        return
    script = tmp_path / "script"
    script.write_text(text, encoding="utf-8")
    subprocess.run([*check, str(script)], check=True, timeout=60)
