"""What `dfm doctor` looks at on this machine: seeded faults are found, each with what mends it."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from dfm.api.batch import Finding, Standing
from dfm.core.doctor.surroundings import (
    look_at_jobserver,
    look_at_libyaml,
    look_at_python,
    look_at_runtime_directory,
    look_at_settings_files,
    look_at_shared_directory,
)


def told(findings: Sequence[Finding], standing: Standing) -> list[str]:
    return [f"{finding.text} -> {finding.hint}" for finding in findings if finding.standing is standing]


def is_well(findings: Sequence[Finding]) -> bool:
    return not told(findings, Standing.ERROR) and not told(findings, Standing.WARNING)


def test_all_is_well_here(tmp_path: Path) -> None:
    assert is_well(look_at_python())
    assert is_well(look_at_shared_directory(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_an_old_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2, "final", 0))
    [fault] = told(look_at_python(), Standing.ERROR)
    assert fault == "Python 3.10.2 is too old -> install Python 3.11 or newer, and DFM in a venv of it"


def test_a_missing_bash_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told(look_at_python(), Standing.ERROR) == [
        "there is no bash on the PATH, and scripts run in bash -> install bash"
    ]


def test_yaml_without_libyaml_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    [remark] = told(look_at_libyaml(), Standing.WARNING)
    assert "without libyaml" in remark


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "dfm"


def look(runtime: Path) -> list[Finding]:
    return look_at_runtime_directory({"XDG_RUNTIME_DIR": str(runtime.parent)})


def test_a_private_runtime_directory_is_well(runtime: Path) -> None:
    assert is_well(look(runtime))
    runtime.mkdir(mode=0o700)
    assert is_well(look(runtime))


def test_a_runtime_directory_that_is_open_to_others_is_an_error(runtime: Path) -> None:
    runtime.mkdir()
    runtime.chmod(0o755)
    assert told(look(runtime), Standing.ERROR) == [f"{runtime} is open to others (mode 0755) -> chmod 700 {runtime}"]


def test_a_file_in_the_place_of_the_runtime_directory_is_an_error(runtime: Path) -> None:
    runtime.write_text("")
    [fault] = told(look(runtime), Standing.ERROR)
    assert f"{runtime} is not a directory" in fault


def test_a_link_in_the_place_of_the_runtime_directory_is_an_error(runtime: Path, tmp_path: Path) -> None:
    runtime.symlink_to(tmp_path)
    [fault] = told(look(runtime), Standing.ERROR)
    assert f"{runtime} is not a directory" in fault


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_runtime_directory_of_another_user_is_an_error(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 12345, -1)
    [fault] = told(look(runtime), Standing.ERROR)
    assert f"{runtime} belongs to user 12345" in fault


def test_a_runtime_directory_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    [remark] = told(look_at_runtime_directory({"DFM_RUNTIME_DIR": str(tmp_path / "ghost")}), Standing.WARNING)
    assert remark.startswith(
        f"DFM_RUNTIME_DIR names {tmp_path / 'ghost'}, which cannot be written; /tmp is used instead"
    )


Tool = Callable[[str, str], None]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Put a program on the one directory of PATH."""
    (tmp_path / "bin").mkdir()

    def make(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("name", "script", "standing", "text"),
    [
        ("make", "echo GNU Make 4.4.1", Standing.OK, "make 4.4 shares the jobs"),
        ("make", "echo GNU Make 3.82", Standing.WARNING, "make 3.82 does not share the jobs"),
        ("ninja", "echo 1.11.1", Standing.WARNING, "ninja 1.11 does not share the jobs"),
        ("ninja", "exit 3", Standing.WARNING, "--version gives no answer"),
    ],
)
def test_tools_that_do_not_share_jobs_are_a_warning(
    tmp_path: Path, tool: Tool, name: str, script: str, standing: Standing, text: str
) -> None:
    tool(name, script)
    found = look_at_jobserver({"PATH": str(tmp_path / "bin")})
    other = "ninja" if name == "make" else "make"
    assert told(found, Standing.SKIPPED) == [f"there is no {other} on the PATH -> "]
    assert any(text in line for line in told(found, standing))


def test_a_jobserver_that_cannot_be_reached_is_a_warning(tmp_path: Path) -> None:
    found = look_at_jobserver({"PATH": str(tmp_path), "MAKEFLAGS": f" --jobserver-auth=fifo:{tmp_path / 'ghost'}"})
    [remark] = told(found, Standing.WARNING)
    assert "running one thing at a time" in remark


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    [fault] = told(look_at_shared_directory(str(tmp_path / "ghost")), Standing.ERROR)
    assert (
        fault
        == f"{tmp_path / 'ghost'} cannot be written: No such file or directory -> run dfm where you may write, or use --rundir"
    )


def test_a_clock_that_differs_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 90 * 10**9)
    [remark] = told(look_at_shared_directory(str(tmp_path)), Standing.WARNING)
    assert "its clock and ours differ by" in remark


def test_a_disk_that_is_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfm.core.doctor.surroundings.LITTLE_SPACE_BYTES", 1 << 60)
    [remark] = told(look_at_shared_directory(str(tmp_path)), Standing.WARNING)
    assert "MiB free -> make room" in remark


def test_a_slow_directory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfm.core.doctor.surroundings.SLOW_SECONDS", 0.0)
    [remark] = told(look_at_shared_directory(str(tmp_path)), Standing.WARNING)
    assert "use a faster disk" in remark


def test_a_settings_file_that_everybody_may_write_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    file.chmod(0o666)
    assert told(look_at_settings_files([("installation", str(file))]), Standing.WARNING) == [
        f"installation: everybody may write {file} -> chmod o-w {file}"
    ]
    file.chmod(0o644)
    assert is_well(look_at_settings_files([("installation", str(file))]))
