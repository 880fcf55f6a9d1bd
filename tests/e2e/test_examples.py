"""The examples that people copy, run as they are described."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

Dfm = Callable[..., "CompletedProcess[str]"]
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("rundir")))

    return copied


def verdicts(answer: "CompletedProcess[str]") -> dict[str, str]:
    return {task["task"]: task["verdict"] for task in json.loads(answer.stdout)["tasks"]}


def test_the_quickstart_passes_and_is_then_up_to_date(dfm: Dfm, example: Callable[[str], Path]) -> None:
    here = example("quickstart")
    first = dfm("run", "regression", cwd=here)
    assert (first.returncode, first.stderr) == (0, "")
    table = (here / "rundir" / "quickstart.regression" / "summary.txt").read_text(encoding="utf-8")
    assert table.splitlines()[-1].startswith("12 seeds passed")
    assert dfm("run", "regression", cwd=here).stdout == "nothing to do: all 16 tasks are up to date\n"


def test_a_bug_in_the_quickstart_is_told_with_place_log_and_rerun_command(
    dfm: Dfm, example: Callable[[str], Path]
) -> None:
    here = example("quickstart")
    answer = dfm("run", "regression", "-k", "-D", "bug=true", cwd=here)
    assert answer.returncode == 1
    assert "src/fifo.py:26: error: seed 2: the FIFO lost or changed a word" in answer.stdout
    rerun = next(line for line in answer.stdout.splitlines() if line.startswith("  rerun: "))
    again = dfm(*rerun.split()[2:], cwd=here)
    assert again.returncode == 1
    assert "[2/2] FAIL" in again.stdout.replace("[3/3]", "[2/2]")


def test_the_rtl_example_simulates_a_dozen_seeds(dfm: Dfm, example: Callable[[str], Path]) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    here = example("rtl")
    first = dfm("run", "regression", "--json", cwd=here)
    assert first.returncode == 0, first.stderr
    assert list(verdicts(first).values()).count("succeeded") == 15
    table = (here / "rundir" / "rtl.regression" / "table.txt").read_text(encoding="utf-8")
    assert len(table.splitlines()) == 14
    second = dfm("run", "regression", "--json", cwd=here)
    assert set(verdicts(second).values()) == {"up-to-date"}


def test_one_failing_seed_of_the_rtl_example_leaves_the_others_alone(dfm: Dfm, example: Callable[[str], Path]) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    here = example("rtl")
    answer = dfm("run", "regression", "-k", "--json", "-D", "fail_seed=7", cwd=here)
    assert answer.returncode == 1
    failed = [task for task in json.loads(answer.stdout)["tasks"] if task["verdict"] == "failed"]
    assert [task["task"] for task in failed] == ["rtl.sims.sim_6"]
    assert failed[0]["markers"][0]["loc"]["path"].endswith("tb/fifo_tb.v")
    assert "word 100 is" in failed[0]["markers"][0]["msg"]
    assert list(verdicts(answer).values()).count("succeeded") == 12


def test_two_makes_inside_share_the_jobs_of_the_run(dfm: Dfm, example: Callable[[str], Path]) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    here = example("make-inside")
    answer = dfm("run", "-j", "3", "check", cwd=here)
    assert answer.returncode == 0, answer.stdout
    peak = int(answer.stdout.split("at most ")[1].split()[0])
    assert 1 < peak <= 3
