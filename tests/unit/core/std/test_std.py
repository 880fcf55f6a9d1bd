"""The tasks of the standard library."""

import os
from pathlib import Path
from typing import Any

import pytest

from dfm.api.items import Item
from dfm.api.runner import BuiltinBody, Outcome, TaskRequest, TaskResult
from dfm.core.std.run import run_builtin


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("rtl/b.sv", "rtl/a.sv", "rtl/sub/c.sv", "rtl/a.svh", "inc1/x.h", "rundir/keep"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return tmp_path


def run(project: Path, task: str, inputs: list[Item] | None = None, **params: Any) -> TaskResult:  # noqa: ANN401
    return run_builtin(
        TaskRequest(
            run_id="r",
            task="p.t",
            attempt=1,
            rundir=str(project / "rundir"),
            srcdir=str(project),
            root_pkgdir=str(project),
            root_rundir=str(project),
            artefact="p.t",
            body=BuiltinBody(task),
            params=params,
            inputs=inputs or [],
            memento=None,
            env={},
        )
    )


def files(result: TaskResult) -> list[str]:
    assert result.outcome is Outcome.SUCCEEDED, result.cause
    return list(result.outputs[0]["files"])


def test_a_file_whose_name_is_not_utf_8_fails_the_task_that_would_hand_it_on(project: Path) -> None:
    (project / "rtl" / os.fsdecode(b"caf\xe9.sv")).touch()
    result = run(project, "FileSet", base="rtl", include=["*.sv"])
    assert (result.outcome, result.cause) == (
        Outcome.FAILED,
        "the name of a file is not UTF-8: caf\\xe9.sv; rename or exclude it",
    )
    assert files(run(project, "FileSet", base="rtl", include=["*.sv"], exclude=["caf*"])) == ["a.sv", "b.sv"]


def test_a_message_is_text_for_the_terminal(project: Path) -> None:
    result = run(project, "Message", msg="hi")
    assert (result.text, result.outputs) == ("p.t: hi", ())


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"include": ["*.sv"]}, ["a.sv", "b.sv"]),
        ({"include": ["b.sv", "*.sv"]}, ["b.sv", "a.sv"]),
        ({"include": ["**/*.sv"]}, ["a.sv", "b.sv", "sub/c.sv"]),
        ({"include": ["*.sv*"], "exclude": ["*h"]}, ["a.sv", "b.sv"]),
        ({"include": "*.svh"}, None),
    ],
)
def test_a_file_set_is_sorted_and_without_doubles(
    project: Path, params: dict[str, Any], wanted: list[str] | None
) -> None:
    result = run(project, "FileSet", base="rtl", **params)
    assert files(result) == (wanted or ["a.svh"])


def test_a_file_set_has_its_other_fields(project: Path) -> None:
    item = run(
        project, "FileSet", base="rtl", type="sv", include=["a.sv"], incdirs=["sub ."], defines=["A=1", "B"]
    ).outputs[0]
    assert item == {
        "type": "std.FileSet",
        "filetype": "sv",
        "basedir": str(project / "rtl"),
        "files": ["a.sv"],
        "incdirs": ["sub", "."],
        "defines": ["A=1", "B"],
        "attributes": [],
    }


def test_a_base_may_be_a_pattern_for_one_directory(project: Path) -> None:
    assert files(run(project, "FileSet", base="inc*", include=["*"])) == ["x.h"]
    (project / "inc2").mkdir()
    result = run(project, "FileSet", base="inc*", include=["*"])
    assert result.cause is not None
    assert "matches 2 directories" in result.cause


@pytest.mark.parametrize(
    ("params", "cause"),
    [
        ({"base": "rtl", "include": ["z.sv"]}, "no file matches 'z.sv' in "),
        ({"base": "nowhere", "include": ["*"]}, "base 'nowhere' is no directory"),
        ({"base": "rtl", "include": [1]}, "include is a list of strings"),
    ],
)
def test_a_file_set_that_cannot_be_says_why(project: Path, params: dict[str, Any], cause: str) -> None:
    result = run(project, "FileSet", **params)
    assert result.outcome is Outcome.FAILED
    assert result.cause is not None
    assert result.cause.startswith(cause)


def test_a_created_file_is_not_touched_when_it_is_right(project: Path) -> None:
    first = run(project, "CreateFile", filename="d/f.txt", content="x\n", type="t", incdir=True)
    path = project / "rundir" / "d" / "f.txt"
    before = path.stat()
    assert (files(first), first.outputs[0]["incdirs"]) == (["d/f.txt"], [str(project / "rundir")])
    run(project, "CreateFile", filename="d/f.txt", content="x\n", type="t")
    assert path.stat().st_ino == before.st_ino
    path.unlink()
    run(project, "CreateFile", filename="d/f.txt", content="x\n", type="t")
    assert path.read_text(encoding="utf-8") == "x\n"


@pytest.mark.parametrize("name", ["../f", "/tmp/f", "", "."])
def test_a_created_file_stays_in_its_run_directory(project: Path, name: str) -> None:
    assert run(project, "CreateFile", filename=name, content="x").outcome is Outcome.FAILED


def test_an_environment_expands_patterns(project: Path) -> None:
    item = run(project, "SetEnv", setenv={"A": 1, "F": "rtl/*.sv", "N": "no/*"}, append_path={"P": "q"}).outputs[0]
    assert item["vals"] == {"A": "1", "F": f"{project}/rtl/a.sv:{project}/rtl/b.sv", "N": "no/*"}
    assert (item["append_path"], item["prepend_path"]) == ({"P": "q"}, {})


def test_a_file_type_is_set_on_copies(project: Path) -> None:
    given = {"type": "std.FileSet", "src": "p.a", "seq": 0, "filetype": "a", "basedir": "/b", "files": ["f"]}
    result = run(project, "SetFileType", [given, {"type": "p.T"}], filetype="z")
    assert list(result.outputs) == [{"type": "std.FileSet", "filetype": "z", "basedir": "/b", "files": ["f"]}]
    assert given["filetype"] == "a"


def test_include_directories_are_the_base_directories(project: Path) -> None:
    given = {"type": "std.FileSet", "filetype": "a", "basedir": "/b", "files": ["f"]}
    outputs = run(project, "IncDirs", [given, {"type": "p.T"}]).outputs
    assert [(item["incdirs"], item["files"]) for item in outputs] == [(["/b"], [])]
