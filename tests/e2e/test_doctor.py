"""`dfm doctor`: all is well or what mends it, and an exit status that says what kind of fault came first."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
Flow = Callable[[str], Path]


def test_all_is_well_with_the_local_runner_and_nothing_is_left(dfm: Dfm, tmp_path: Path) -> None:
    answer = dfm("doctor", "--json", "--canary")
    report = json.loads(answer.stdout)
    assert (report["ok"], answer.returncode, report["runner"]) == (True, 0, "local")
    standings = {check["name"]: check["standing"] for check in report["checks"]}
    assert {"python", "libyaml", "settings", "runtime directory", "jobserver", "runners", "canary"} <= set(standings)
    assert standings["canary"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_faults_of_settings_are_told_with_their_fixes_beside_the_rest(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    flow("package: {name: p, tasks: []}")
    (tmp_path / ".dfm").mkdir()
    (tmp_path / ".dfm" / "config.yaml").write_text("runner: {pol: {}, local: {kill_grase: 3s}}", encoding="utf-8")
    answer = dfm("doctor")
    assert "error    settings: .dfm/config.yaml:1:10: unknown key 'pol'" in answer.stdout
    assert "         fix: did you mean 'pool'?" in answer.stdout
    assert "error    runner local: .dfm/config.yaml:1:27: runner local has no option 'kill_grase'" in answer.stdout
    assert "         fix: did you mean 'kill_grace'?" in answer.stdout
    assert "ok       python:" in answer.stdout
    assert answer.returncode == 3


def test_a_runner_that_is_not_there_is_told_with_what_to_install(dfm: Dfm) -> None:
    answer = dfm("doctor", "--runner", "lfs")
    assert "error    runner lfs: there is no runner 'lfs'" in answer.stdout
    assert "         fix: did you mean 'lsf'?" in answer.stdout
    assert answer.returncode == 7


def test_a_fault_of_the_machine_is_6(dfm: Dfm, tmp_path: Path) -> None:
    (tmp_path / "run" / "dfm").mkdir(parents=True, mode=0o777)
    (tmp_path / "run" / "dfm").chmod(0o777)
    answer = dfm("doctor", env={"XDG_RUNTIME_DIR": str(tmp_path / "run")})
    directory = tmp_path / "run" / "dfm"
    assert f"error    runtime directory: {directory} is open to others (mode 0777)" in answer.stdout
    assert f"         fix: chmod 700 {directory}" in answer.stdout
    assert answer.returncode == 6


def test_wrong_use_is_told_as_everywhere(dfm: Dfm) -> None:
    answer = dfm("doctor", "--runner-opt", "kill_grace")
    assert (answer.returncode, answer.stdout) == (2, "")
    answer = dfm("doctor", "--root", "ghost")
    assert (answer.returncode, "does not exist" in answer.stderr) == (2, True)
