"""The template of a runner by somebody else: built as a wheel, installed beside the core's wheel, run through the suite."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "examples" / "third-party-runner"


def wheel_of(source: Path, target: Path) -> Path:
    words = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(target), str(source)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return next(target.iterdir())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the two wheels, and what the kit for authors needs."""
    directory = tmp_path_factory.mktemp("site")
    core = wheel_of(ROOT / "packages" / "dfm-core", directory / "core")
    theirs = wheel_of(TEMPLATE, directory / "theirs")
    venv.create(directory / "venv", with_pip=False, symlinks=True)
    python = directory / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    words = [*pip, f"dfm-core[testing] @ {core.as_uri()}", f"dfm-runner-prefix[test] @ {theirs.as_uri()}"]
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    shutil.copytree(TEMPLATE / "tests", directory / "tests")
    shutil.copy(TEMPLATE / "pyproject.toml", directory / "pyproject.toml")
    return directory


def call(site: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DFM_", "PYTEST_", "MAKE"))}
    program, *rest = words
    return subprocess.run(
        [str(site / "venv" / "bin" / program), *rest],
        cwd=cwd or site,
        env=environ | {"XDG_CONFIG_HOME": str(site / "xdg")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_it_is_listed_with_its_distribution_and_options(site: Path) -> None:
    rows = json.loads(call(site, "dfm", "runners", "--json").stdout)["runners"]
    [row] = [row for row in rows if row["name"] == "prefix"]
    assert (row["distribution"], row["version"], row["state"]) == ("dfm-runner-prefix", "1.0.0", "ready")
    assert [option["name"] for option in row["options"]] == ["command", "stop_time"]


def test_it_passes_the_suite_that_every_runner_must_pass(site: Path) -> None:
    done = call(site, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout[-3000:]


def test_it_runs_a_flow_and_the_doctor_finds_it_well(site: Path, tmp_path: Path) -> None:
    flow = "package: {name: p, tasks: [{name: a, run: nice}, {name: b, needs: [a], run: 'exit 3'}]}"
    (tmp_path / "flow.yaml").write_text(flow, encoding="utf-8")
    words = ["--runner", "prefix", "--runner-opt", "command=nice -n 2"]
    run = call(site, "dfm", "run", "a", "b", *words, "--json", cwd=tmp_path)
    tasks = {task["task"]: task for task in json.loads(run.stdout)["tasks"]}
    assert (tasks["p.a"]["verdict"], tasks["p.b"]["exit_status"], run.returncode) == ("succeeded", 3, 1)
    doctor = call(site, "dfm", "doctor", "--canary", *words, cwd=tmp_path)
    assert "ok       prefix: own checks: tasks run through" in doctor.stdout
    assert "ok       canary: a task ran on" in doctor.stdout
    assert doctor.returncode == 0


def test_a_command_that_is_not_there_is_told_before_and_when_it_runs(site: Path, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("package: {name: p, tasks: [{name: a, run: 'true'}]}", encoding="utf-8")
    words = ["--runner", "prefix", "--runner-opt", "command=no-such-prefix -x"]
    doctor = call(site, "dfm", "doctor", *words, cwd=tmp_path)
    assert "error    prefix: own checks: there is no no-such-prefix on the PATH" in doctor.stdout
    run = call(site, "dfm", "run", "a", *words, cwd=tmp_path)
    assert "cannot start no-such-prefix: No such file or directory" in run.stderr
    assert (doctor.returncode, run.returncode) == (7, 7)
