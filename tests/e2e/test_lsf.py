"""`dfm run --runner lsf` as its README shows it, and the RTL example, on the fake LSF."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dfm.testing.fake_lsf import FakeLsf
from dfm.testing.project import Project, verdicts, wait_until

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "packages" / "dfm-runner-lsf" / "README.md"


def copied(name: str, tmp_path: Path) -> Project:
    directory = Path(
        shutil.copytree(ROOT / "examples" / name, tmp_path / name, ignore=shutil.ignore_patterns("rundir"))
    )
    return Project(directory)


def lines_of(heading: str) -> list[str]:
    """Return the indented lines of the README under a heading, and before the first one where that is empty."""
    text = README.read_text(encoding="utf-8")
    part = text.partition(f"\n## {heading}\n")[2] if heading else text.partition("\n## ")[0]
    found = [line.strip() for line in part.splitlines() if re.match(r"    (dfm|eval|python) ", line)]
    return [line.partition("  #")[0].rstrip() for line in found]


@pytest.fixture
def lsf(tmp_path: Path) -> Iterator[FakeLsf]:
    with FakeLsf(tmp_path, speed=100) as cluster:
        yield cluster
        wait_until(lambda: not any(job.is_live for job in cluster.jobs()), "the jobs to be gone")


def test_the_lines_of_the_readme_try_it_without_a_cluster(tmp_path: Path) -> None:
    project = copied("quickstart", tmp_path)
    environ = {**project.environ, "FAKE_LSF_DIR": str(tmp_path / "cluster")}
    lines = lines_of("Trying it without a cluster")
    assert [line.split()[0] for line in lines] == ["eval", "dfm", "python"]
    try:
        answer = shell(lines, project, environ)
        assert answer.returncode == 0, answer.stderr
        assert re.match(r"15 ok, 1 up to date in ", answer.stdout.splitlines()[-1])
    finally:
        subprocess.run(
            [sys.executable, "-m", "dfm.testing.fake_lsf", "down"],
            env=environ,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert not (tmp_path / "cluster").exists()
    wait_until(lambda: not project.processes(), "the processes to be gone")


def test_the_other_lines_of_the_readme_show_what_would_be_submitted_and_what_works(
    tmp_path: Path, lsf: FakeLsf
) -> None:
    project = copied("quickstart", tmp_path)
    project.environ["PATH"] = lsf.environ["PATH"]
    run, dry, doctor = lines_of("")
    assert "--dry-run" in dry
    shown = shell([dry], project, project.environ)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^bsub -J \S+ -n 1 ", shown.stdout + shown.stderr, re.MULTILINE)
    assert lsf.invocations("bsub") == []
    found = shell([doctor], project, project.environ)
    assert found.returncode == 0, found.stdout + found.stderr
    assert len([call for call in lsf.invocations("bsub") if call.argv != ("-V",)]) == 1
    answer = shell([run], project, project.environ)
    assert answer.returncode == 0, answer.stderr
    wait_until(lambda: not project.processes(), "the processes to be gone")


def test_the_rtl_example_runs_on_lsf_and_is_then_up_to_date(tmp_path: Path, lsf: FakeLsf) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    project = copied("rtl", tmp_path)
    project.environ["PATH"] = lsf.environ["PATH"]
    first = project.dfm("run", "regression", "--runner", "lsf", "--json")
    assert first.returncode == 0, first.stderr
    assert list(verdicts(first).values()).count("succeeded") == 15
    table = (project.rundir / "rtl.regression" / "table.txt").read_text(encoding="utf-8")
    assert len(table.splitlines()) == 14
    submissions = len(lsf.invocations("bsub"))
    second = project.dfm("run", "regression", "--runner", "lsf", "--json")
    assert set(verdicts(second).values()) == {"up-to-date"}
    local = project.dfm("run", "regression", "--json")
    assert set(verdicts(local).values()) == {"up-to-date"}, "what ran on LSF is up to date on this host"
    assert len(lsf.invocations("bsub")) == submissions
    assert json.loads(first.stdout)["exit_code"] == 0


def shell(lines: list[str], project: Project, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    path = f"{os.path.dirname(sys.executable)}:{environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=project.directory,
        env={**environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
