"""A `dfm run` killed with SIGKILL at any named place costs a rerun at the most, never a stale success."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dfm.core

SOURCE = Path(dfm.core.__file__).parent
POINTS = sorted(
    {
        name
        for file in SOURCE.rglob("*.py")
        if file.parent.name not in ("daemon", "pool", "worker")  # see test_pool_kill_points.py
        for name in re.findall(r"crash_point\(\s*\"([a-z_.]+)\"\s*\)", file.read_text(encoding="utf-8"))
    }
)

FLOW = """
package:
  name: p
  with:
    word: {type: str, value: one}
  tasks:
  - name: sources
    uses: std.FileSet
    with: {base: src, include: "*.txt", type: text}
  - name: header
    uses: std.CreateFile
    with: {filename: header.txt, content: "word ${{ word }}", type: text}
  - name: upper
    needs: [sources, header]
    run: |
      set -e
      cat "$DFM_SRCDIR"/src/*.txt ../p.header/header.txt | tr a-z A-Z > upper.out
      dfm-out fileset --filetype upper upper.out
  - name: count
    needs: [upper]
    shell: pytask
    run: |
      from pathlib import Path
      from dfm.api import FileSet, TaskOutput
      text = Path(input.inputs[0].basedir, "upper.out").read_text()
      Path("count.out").write_text(f"{len(text)} {text}")
      return TaskOutput(output=[FileSet("count", ".", ["count.out"])])
  - root: total
    needs: [count]
    shell: sh
    run: cp ../p.count/count.out total.out; dfm-out fileset --filetype total total.out
"""


class Project:
    """A flow in a directory of its own, and the `dfm` beside this interpreter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "src").mkdir()
        (directory / "flow.yaml").write_text(FLOW, encoding="utf-8")

    def write(self, text: str) -> None:
        (self.directory / "src" / "a.txt").write_text(text, encoding="utf-8")

    def run(self, word: str, point: str | None = None) -> "subprocess.CompletedProcess[str]":
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("DFM_", "MAKE"))}
        if point is not None:
            environ |= {"DFM_CRASHPOINT": point, "DFM_CRASHPOINT_ARMED": "yes"}
        return subprocess.run(
            [
                str(Path(sys.executable).parent / "dfm"),
                "run",
                "total",
                "--json",
                "-j2",
                "-D",
                f"word={word}",
            ],
            cwd=self.directory,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def total(self) -> str:
        return (self.directory / "rundir" / "p.total" / "total.out").read_text(encoding="utf-8")


def expected(text: str, word: str) -> str:
    upper = f"{text}word {word}".upper()
    return f"{len(upper)} {upper}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def verdicts(answer: "subprocess.CompletedProcess[str]") -> set[str]:
    return {task["verdict"] for task in json.loads(answer.stdout)["tasks"]}


def test_there_are_at_least_twenty_places() -> None:
    assert len(POINTS) >= 20


ONLY_WITH_A_RECORD = ("record.commit.temporary", "record.commit.temporary:2")
"""A first record is appended to its intent; one that has a record before it is written beside it and renamed."""
REPEATED = [f"{name}:2" for name in POINTS if name.startswith(("task.committed", "execute.", "record."))]


@pytest.mark.parametrize("point", [*POINTS, *REPEATED])
def test_the_run_after_a_killed_one_ends_with_correct_outputs(project: Project, point: str) -> None:
    project.write("first\n")
    killed = project.run("one", point)
    assert killed.returncode == (0 if point in ONLY_WITH_A_RECORD else -signal.SIGKILL), killed.stderr
    again = project.run("one")
    assert again.returncode == 0, again.stderr
    assert project.total == expected("first\n", "one")

    project.write("second\n")
    killed = project.run("two", point)
    assert killed.returncode == -signal.SIGKILL or point not in ONLY_WITH_A_RECORD, killed.stderr
    again = project.run("two")
    assert again.returncode == 0, again.stderr
    assert project.total == expected("second\n", "two")

    quiet = project.run("two")
    assert verdicts(quiet) == {"up-to-date"}, quiet.stdout
    assert project.total == expected("second\n", "two")
