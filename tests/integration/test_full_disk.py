"""A disk that is full: nothing hangs, nothing is torn, the message names the path, and with space it goes on.

The disk is a small file system in memory, mounted over one of the directories of a project; only root may do that.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from tests.integration.held import HOLD, begun, let_go, lines

from dfm.api.errors import InfrastructureError, RunnerError
from dfm.api.runner import Outcome, Runner, TaskRequest
from dfm.core.pool.journal import replay
from dfm.testing.opening import opened_pool
from dfm.testing.project import QUICK_POOL, Project, wait_until
from dfm.testing.tasks import Workspace

NO_SPACE = "No space left on device"


class Disk:
    """A small file system, mounted at a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._filling = directory / "filling"

    def fill(self) -> None:
        """Leave not a block."""
        with self._filling.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            assert os.statvfs(self.directory).f_bavail == 0

    def free(self) -> None:
        self._filling.unlink()


Mount = Callable[[Path], Disk]


@pytest.fixture
def mount(project: Project) -> Iterator[Mount]:
    """Mount a small disk at a directory of the project, over what is there, which goes with it."""
    mounted: list[Path] = []

    def mount_at(directory: Path) -> Disk:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "dfm-test", str(directory)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted.append(directory)
        return Disk(directory)

    yield mount_at
    project.dfm("daemon", "stop")
    wait_until(lambda: not project.processes(), "the processes of the project to be gone")
    for directory in mounted:
        subprocess.run(["umount", str(directory)], check=True)


def journals(project: Project) -> list[Path]:
    return list(project.private.rglob("journal"))


def test_a_daemon_whose_journal_cannot_grow_ends_and_the_next_delivers_what_ran(project: Project, mount: Mount) -> None:
    tell = 'dfm-out item --type p.T text="$(head -c 9000 /dev/zero | tr "\\0" x)"'
    project.write_flow({"held": f"{HOLD}; {tell}", "after": {"run": "true", "needs": ["held"]}})
    disk = mount(project.private / "state")
    with project.started("daemon", "start", "--foreground") as daemon:
        wait_until(lambda: project.dfm("daemon", "status", "--json").stdout.count('"running": true'), "the daemon")
        with project.started("run", "after", "--daemon") as run:
            begun(project)
            disk.fill()
            let_go(project)
            stderr = daemon.communicate(timeout=60)[1]
            assert daemon.returncode not in (0, None)
            [journal] = journals(project)
            assert str(journal) in stderr
            assert NO_SPACE in stderr
            assert "Traceback" not in stderr
            found = replay(journal.read_bytes())
            assert not any(entry.kind == "commit" for entry in found.entries)
            disk.free()
            assert project.dfm("daemon", "start").returncode == 0
            stdout, stderr = run.communicate(timeout=60)
            assert run.returncode == 0, stdout + stderr
        assert (len(lines(project.directory / "begun")), lines(project.directory / "done")) == (1, ["done"])


@pytest.mark.parametrize("place", ["private/state", ".dfm"])
def test_a_daemon_that_finds_no_space_says_where_and_starts_when_there_is_some(
    project: Project, mount: Mount, place: str
) -> None:
    project.write_flow({"a": "echo a"})
    disk = mount(project.directory / place)
    if place == ".dfm":
        project.write_settings({"pool": dict(QUICK_POOL)})
    disk.fill()
    answer = project.dfm("daemon", "start")
    assert answer.returncode not in (0, 70), answer.stderr
    assert str(disk.directory) in answer.stderr
    assert NO_SPACE in answer.stderr
    assert "Traceback" not in answer.stderr
    disk.free()
    with project.daemon():
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


def test_a_run_directory_without_space_fails_the_run_and_not_the_daemon(project: Project, mount: Mount) -> None:
    project.write_flow(
        {"big": "head -c 100000 /dev/zero > big; dfm-out fileset big", "after": {"run": "true", "needs": ["big"]}}
    )
    disk = mount(project.rundir)
    with project.daemon():
        disk.fill()
        answer = project.dfm("run", "after", "--daemon")
        told = answer.stdout + answer.stderr
        assert answer.returncode not in (0, 70), told
        assert NO_SPACE in told
        assert str(project.rundir) in told
        assert "Traceback" not in told
        disk.free()
        assert project.verdicts("after", "--daemon") == {"big": "succeeded", "after": "succeeded"}
        assert (project.rundir / "p.big" / "big").stat().st_size == 100_000


def test_a_run_directory_that_fills_up_under_a_task_fails_the_run_and_not_the_daemon(
    project: Project, mount: Mount
) -> None:
    project.write_flow({"held": HOLD + "; head -c 100000 /dev/zero > big; dfm-out fileset big"})
    disk = mount(project.rundir)
    with project.daemon():
        with project.started("run", "held", "--daemon") as run:
            begun(project)
            disk.fill()
            let_go(project)
            stdout, stderr = run.communicate(timeout=60)
        assert run.returncode not in (0, 70), stdout + stderr
        assert "Traceback" not in stdout + stderr
        disk.free()
        assert project.verdicts("held", "--daemon") == {"held": "succeeded"}
        assert (project.rundir / "p.held" / "big").stat().st_size == 100_000


def test_a_worker_that_can_keep_neither_log_nor_result_goes_on(project: Project, mount: Mount) -> None:
    project.write_flow({"held": HOLD, "after": {"run": "true", "needs": ["held"]}})
    keys = mount(project.private / "access")
    logs = mount(project.state / "workers")
    with project.daemon(), project.started("run", "after", "--daemon") as run:
        begun(project)
        keys.fill()
        logs.fill()
        let_go(project)
        stdout, stderr = run.communicate(timeout=60)
        assert run.returncode == 0, stdout + stderr
        [worker] = project.workers()
        os.kill(worker, signal.SIGTERM)
        wait_until(lambda: worker not in project.workers(), "the worker to leave")
        keys.free()
        logs.free()
        assert project.verdicts("after", "--daemon") == {"held": "succeeded", "after": "succeeded"}
    assert len(lines(project.directory / "begun")) == 2


async def test_a_run_whose_own_pool_cannot_write_its_journal_ends_with_the_reason_and_leaves_no_worker(
    project: Project, mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, project.environ[name])
    disk = mount(project.private / "state")
    workspace = Workspace(tmp_path)
    big = workspace.shell('dfm-out item --type p.T text="$(head -c 9000 /dev/zero | tr "\\0" x)"')
    pool = opened_pool(workspace, environ=project.environ, project=str(project.directory))
    with pytest.raises(InfrastructureError, match=f"cannot write the pool's journal .*/journal: {NO_SPACE}"):
        await _with(pool, workspace.shell("true"), disk.fill, big)
    wait_until(lambda: not project.workers(), "the worker that was told to go to be gone", 15)


async def _with(
    pool: AbstractAsyncContextManager[Runner], first: TaskRequest, then: Callable[[], None], second: TaskRequest
) -> None:
    """Run a task, do something, run another."""
    async with pool as runner, asyncio.timeout(20):
        assert (await runner.run(first)).outcome is Outcome.SUCCEEDED
        then()
        with contextlib.suppress(RunnerError):
            await runner.run(second)
            await asyncio.Future()
