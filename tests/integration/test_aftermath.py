"""What a run that was killed has left with workers is ended before the next one begins in its directory."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.held import HOLD, begun, is_gone, let_go, lines

from dfm.core.pool.trace import NAME
from dfm.testing.fake_lsf import FakeLsf, Host, Params
from dfm.testing.project import QUICK_POOL, Project, verdicts, wait_until

ALONE = (
    'for pid in $(cat "$DFM_SRCDIR/begun" 2>/dev/null); do kill -0 "$pid" && echo "$pid" >> "$DFM_SRCDIR/met"; done; '
    f"{HOLD}; true"
)
"""As HOLD; leaves in `met` the bodies that ran before it and still do."""


@pytest.fixture
def lsf(tmp_path: Path) -> Iterator[FakeLsf]:
    quick = Params(mbd_sleep_time=2, sbd_sleep_time=2)
    with FakeLsf(tmp_path, speed=10, hosts=(Host(name="hostA", slots=1),), params=quick) as cluster:
        yield cluster
        wait_until(lambda: not living(cluster), "LSF to have seen that its jobs are gone")


@pytest.fixture
def on_lsf(tmp_path: Path, lsf: FakeLsf) -> Iterator[Project]:
    directory = tmp_path / "project"
    directory.mkdir()
    found = Project(directory)
    found.environ["PATH"] = lsf.environ["PATH"]
    found.write_settings({"default": "lsf", "pool": {**QUICK_POOL, "lost_timeout": "2h"}})
    yield found
    wait_until(lambda: not found.processes(), "the processes of the project to be gone")
    assert not list(found.private.rglob("run-*/journal"))
    assert not list(found.private.rglob("access.json"))


def living(lsf: FakeLsf) -> list[int]:
    return [job.id for job in lsf.jobs() if job.is_live]


@contextlib.contextmanager
def killed(project: Project, *words: str) -> Iterator[None]:
    """Have a run killed when the block ends."""
    with project.started("run", *words) as process:
        yield
        process.kill()
        process.wait()


def result(process: "subprocess.Popen[str]") -> dict[str, str]:
    stdout, stderr = process.communicate(timeout=90)
    assert stdout, stderr
    return verdicts(subprocess.CompletedProcess([], process.returncode, stdout, stderr))


def assert_alone(project: Project, *words: str) -> str:
    """Run `held` again and return what it says; no body of before must have been alive when its own began."""
    with project.started("run", "held", "--json", *words) as again:
        begun(project, 2)
        let_go(project)
        stdout, stderr = again.communicate(timeout=90)
    assert verdicts(subprocess.CompletedProcess([], again.returncode, stdout, stderr)) == {"held": "succeeded"}
    assert (lines(project.directory / "met"), lines(project.directory / "done")) == ([], ["done"])
    assert not (project.rundir / NAME).exists()
    return stderr


@pytest.mark.parametrize("runner", ["local", "lsf"])
def test_a_worker_that_has_not_noticed_the_death_of_its_run_is_ended_before_the_next_run_begins(
    on_lsf: Project, lsf: FakeLsf, runner: str
) -> None:
    on_lsf.write_flow({"held": ALONE})
    with killed(on_lsf, "held"):
        begun(on_lsf)
        [worker] = on_lsf.workers()
        os.kill(worker, signal.SIGSTOP)
    [old] = living(lsf)
    assert_alone(on_lsf, "--runner", runner)
    assert list(lsf.invocations("bkill")[0].argv) == [str(old)]


def test_jobs_that_still_wait_for_a_host_are_cancelled_by_the_next_run(on_lsf: Project, lsf: FakeLsf) -> None:
    on_lsf.write_flow({"one": HOLD, "two": HOLD, "both": {"needs": ["one", "two"], "run": "true"}, "a": "true"})
    with killed(on_lsf, "both"):
        begun(on_lsf)
        wait_until(lambda: len(living(lsf)) == 2, "a second job to wait for the only host")
    assert on_lsf.verdicts("a", "--runner", "local") == {"a": "succeeded"}
    wait_until(lambda: not living(lsf), "all jobs to be ended")


def test_a_run_that_ends_well_or_is_interrupted_leaves_no_trace(on_lsf: Project) -> None:
    on_lsf.write_flow({"a": "true", "held": HOLD})
    assert on_lsf.verdicts("a") == {"a": "succeeded"}
    assert not (on_lsf.rundir / NAME).exists()
    with on_lsf.started("run", "held") as process:
        begun(on_lsf)
        assert (on_lsf.rundir / NAME).exists()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (on_lsf.rundir / NAME).exists()


def test_a_local_run_waits_for_the_daemon_to_stop_the_tasks_of_the_killed_one(project: Project) -> None:
    project.write_settings({"pool": {**QUICK_POOL, "client_grace": "2h"}})
    project.write_flow({"held": ALONE})
    with project.daemon():
        with killed(project, "held", "--daemon"):
            begun(project)
        assert_alone(project)
        assert project.status()["workers_count"]["total"] == 1, "the worker stays warm"


def test_where_the_daemon_is_dead_too_its_jobs_with_tasks_of_the_directory_are_ended(project: Project) -> None:
    project.write_settings({"pool": {**QUICK_POOL, "lost_timeout": "2h", "client_grace": "2h"}})
    project.write_flow({"held": ALONE, "other": 'echo "$$" > "$DFM_SRCDIR/other"; exec sleep 600'})
    with project.daemon(), killed(project, "other", "--daemon", "--rundir", "elsewhere"):
        wait_until((project.directory / "other").exists, "the task of the other directory to begin")
        [other] = lines(project.directory / "other")
        with killed(project, "held", "--daemon"):
            [pid] = begun(project)
            daemon = project.status()["pid"]
            os.kill(daemon, signal.SIGKILL)
        assert_alone(project)
        assert is_gone(pid)
        assert not is_gone(other), "what runs in another directory is for the next daemon"
        answer = project.dfm("daemon", "reap")
        assert answer.returncode == 0, answer.stderr
        wait_until(lambda: is_gone(other), "what is left to be ended")


def test_reap_speaks_to_the_batch_system_that_the_jobs_are_with(on_lsf: Project, lsf: FakeLsf) -> None:
    on_lsf.write_flow({"held": HOLD})
    with on_lsf.daemon(), killed(on_lsf, "held", "--daemon"):
        begun(on_lsf)
        os.kill(on_lsf.status()["pid"], signal.SIGKILL)
    answer = on_lsf.dfm("daemon", "reap", "--runner", "local")
    assert (answer.returncode, answer.stderr.count("ended: dfm-")) == (0, 1), answer.stderr
    assert living(lsf) == []


def test_reap_ends_what_a_killed_run_with_its_own_workers_left_and_removes_its_key(
    on_lsf: Project, lsf: FakeLsf
) -> None:
    on_lsf.write_flow({"held": HOLD})
    with killed(on_lsf, "held"):
        begun(on_lsf)
        [worker] = on_lsf.workers()
        os.kill(worker, signal.SIGSTOP)
    assert len(list(on_lsf.private.rglob("access.json"))) == 1
    answer = on_lsf.dfm("daemon", "reap")
    assert (answer.returncode, answer.stderr.count("ended: dfm-")) == (0, 1), answer.stderr
    assert [list((on_lsf.private / name).iterdir()) for name in ("state", "access")] == [[], []]
    assert living(lsf) == []
    assert on_lsf.dfm("daemon", "reap").stderr == "nothing was left\n"


def test_reap_beside_a_living_daemon_ends_what_a_killed_run_left(on_lsf: Project) -> None:
    on_lsf.write_flow({"held": HOLD})
    with killed(on_lsf, "held"):
        begun(on_lsf)
        [worker] = on_lsf.workers()
        os.kill(worker, signal.SIGSTOP)
    with on_lsf.daemon():
        answer = on_lsf.dfm("daemon", "reap")
        assert (answer.returncode, answer.stderr.count("ended: dfm-")) == (0, 1), answer.stderr
        assert on_lsf.status()["project"] == str(on_lsf.directory)


def test_a_daemon_whose_whole_project_was_removed_cancels_its_jobs_and_ends(
    tmp_path: Path, on_lsf: Project, lsf: FakeLsf
) -> None:
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR"):
        on_lsf.environ[name] = str(tmp_path / name)
    on_lsf.write_flow({"held": HOLD})
    assert on_lsf.dfm("daemon", "start").returncode == 0
    with killed(on_lsf, "held", "--daemon"):
        begun(on_lsf)
        daemon = on_lsf.status()["pid"]
    shutil.rmtree(on_lsf.directory)
    wait_until(lambda: is_gone(str(daemon)), "the daemon to end", 10)  # it has not waited in vain for the job's end
    assert living(lsf) == []
    assert list((tmp_path / "DFM_ACCESS_DIR").rglob("access.json")) == []


def test_a_daemon_with_another_runner_does_not_take_the_jobs_for_its_own(on_lsf: Project, lsf: FakeLsf) -> None:
    on_lsf.write_flow({"held": HOLD, "a": "true"})
    with on_lsf.daemon(), killed(on_lsf, "held", "--daemon"):
        begun(on_lsf)
        os.kill(on_lsf.status()["pid"], signal.SIGKILL)
    answer = on_lsf.dfm("daemon", "start", "--runner", "local")
    assert answer.returncode == 7
    assert "1 worker jobs of runner lsf have not ended" in answer.stderr + on_lsf.daemon_log()
    assert len(living(lsf)) == 1
    assert on_lsf.dfm("daemon", "reap").returncode == 0
    with on_lsf.daemon("--runner", "local"):
        assert on_lsf.verdicts("a", "--daemon", "--runner", "local") == {"a": "succeeded"}
