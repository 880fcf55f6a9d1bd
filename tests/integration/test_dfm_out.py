"""`dfm-out` as a script calls it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.core.execute import dfm_out

Answer = subprocess.CompletedProcess[str]
Call = Callable[..., Answer]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    def called(*words: str) -> Answer:
        channels = {f"DFM_{name}": str(tmp_path / name) for name in ("OUTPUT", "ENV", "PATH", "MARKERS", "MEMENTO_OUT")}
        return subprocess.run(
            [sys.executable, "-I", "-S", dfm_out.__file__, *words],
            env=channels,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return called


def lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_set_is_one_line(call: Call, tmp_path: Path) -> None:
    assert call("fileset", "--filetype", "vvp", "--incdir", "i", "a b", "--", "--c").returncode == 0
    assert lines(tmp_path / "OUTPUT") == [
        {
            "type": "std.FileSet",
            "filetype": "vvp",
            "basedir": ".",
            "files": ["a b", "--c"],
            "incdirs": ["i"],
            "defines": [],
            "attributes": [],
        }
    ]


def test_an_item_has_text_and_json_fields(call: Call, tmp_path: Path) -> None:
    call("item", "--type=p.T", "a=1", "b:=1", "c:=[true]")
    assert lines(tmp_path / "OUTPUT") == [{"type": "p.T", "a": "1", "b": 1, "c": [True]}]


def test_markers_environment_path_and_memento(call: Call, tmp_path: Path) -> None:
    call("error", "bad", "--file", "a.v", "--line", "7")
    call("env", "A=1", "B=x\ny")
    call("path", "bin")
    call("memento", '{"n": 1}')
    assert lines(tmp_path / "MARKERS") == [
        {"severity": "error", "msg": "bad", "loc": {"path": "a.v", "line": 7, "pos": 0}}
    ]
    assert (tmp_path / "ENV").read_text(encoding="utf-8").startswith("A=1\nB<<DFM_END_")
    assert (tmp_path / "PATH").read_text(encoding="utf-8") == f"{tmp_path}/bin\n"
    assert lines(tmp_path / "MEMENTO_OUT") == [{"n": 1}]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage:"),
        (["fielset", "a"], "unknown word 'fielset'"),
        (["fileset"], "names no files"),
        (["fileset", "--typ", "x", "a"], "unknown option '--typ'"),
        (["item", "a=1"], "needs --type"),
        (["item", "--type", "T", "a:=x"], "not JSON"),
        (["env", "1"], "not NAME=VALUE"),
        (["error"], "takes one message"),
        (["error", "x", "--line", "z"], "not a number"),
        (["memento", "{"], "not JSON"),
    ],
)
def test_wrong_use_is_status_2_with_one_line(call: Call, words: list[str], told: str) -> None:
    answer = call(*words)
    assert answer.returncode == 2
    assert told in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def test_outside_a_task_it_says_so() -> None:
    answer = subprocess.run(
        [sys.executable, dfm_out.__file__, "fileset", "a"],
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (answer.returncode, "inside a task" in answer.stderr) == (2, True)


def test_parallel_calls_never_mix(tmp_path: Path) -> None:
    output = tmp_path / "OUTPUT"
    script = f'for n in 1 2 3 4 5 6 7 8; do {sys.executable} -I -S {dfm_out.__file__} item --type T v="$(head -c 9000 /dev/zero | tr "\\0" $n)" & done; wait'
    subprocess.run(
        ["sh", "-c", script], env={"DFM_OUTPUT": str(output), "PATH": "/usr/bin:/bin"}, check=True, timeout=60
    )
    assert sorted(str(item["v"])[0] for item in lines(output) if isinstance(item, dict)) == list("12345678")
