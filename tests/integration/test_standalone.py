"""One request in a process of its own: its result comes back, and stopping the command stops the task."""

import fcntl
import os
import signal
import subprocess
from pathlib import Path

import pytest

from dfm.api.runner import (
    Outcome,
    TaskRequest,
)
from dfm.core.standalone.command import task_command
from dfm.testing.tasks import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def left_in(request: TaskRequest) -> list[str]:
    return sorted(name for name in os.listdir(request.rundir) if "request" in name or "answer" in name)


def test_a_command_without_a_result_is_lost(workspace: Workspace) -> None:
    request = workspace.shell("true")
    command = task_command(request)
    assert left_in(request) == [f".{request.artefact}.request"]
    result = command.result(137)
    assert (result.outcome, result.cause) == (
        Outcome.LOST,
        "the command that runs the task ended with status 137 and left no result",
    )
    assert left_in(request) == []


def test_the_file_of_the_request_is_the_users_own_and_gone_once_it_is_read(workspace: Workspace) -> None:
    request = workspace.shell('ls -a "$DFM_RUNDIR"', env={"SECRET": "x"})
    command = task_command(request)
    path = Path(request.rundir) / f".{request.artefact}.request"
    assert path.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(command.argv, check=True, capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert b".request" not in workspace.log(request)
    assert command.result(0).outcome is Outcome.SUCCEEDED
    assert left_in(request) == []


@pytest.mark.parametrize("signals", [1, 2])
def test_stopping_the_command_stops_the_task_and_all_it_started(workspace: Workspace, signals: int) -> None:
    lock = workspace.directory / "lock"
    fifo = workspace.directory / "begun"
    os.mkfifo(fifo)
    request = workspace.shell(
        f"exec 9> {lock}; flock 9; setsid sleep 1000 & trap '' TERM; echo > {fifo}; while :; do sleep 0.1; done"
    )
    command = task_command(request)
    with subprocess.Popen(command.argv) as process:
        fifo.read_text()
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    with open(lock, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert command.result(143).outcome is Outcome.LOST


def test_a_directory_that_is_gone_is_told_as_lost(workspace: Workspace) -> None:
    request = workspace.shell("true")
    command = task_command(request)
    moved = f"{request.rundir}.moved"
    os.rename(request.rundir, moved)
    done = subprocess.run(command.argv, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert command.result(done.returncode).outcome is Outcome.LOST
