"""Daemon, worker and client killed with SIGKILL at each named place: every run ends right, and nothing is done twice.

The daemon dies again and again under runs that go on; a worker and a client die once in each test. At the end no task has
two results in the journal, no process of the project is left (the fixture looks), and there is no job to reap.
"""

import contextlib
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

import dfm.core
from dfm.api.errors import ExitCode, RunnerError
from dfm.core.pool.journal import replay
from dfm.testing.project import QUICK_POOL, Answer, Project, verdicts, wait_until

if TYPE_CHECKING:
    import subprocess

SOURCE = Path(dfm.core.__file__).parent
TASK = """
  - name: {name}
    shell: sh
    run: |
      echo "{name} ${{{{ word }}}}" > {name}.out
      dfm-out fileset --filetype text {name}.out
      echo {name} >> "$DFM_SRCDIR/ran"
"""
FLOW = f"""
package:
  name: p
  with:
    word: {{type: str, value: one}}
  tasks:
{TASK.format(name="left")}
{TASK.format(name="right")}
  - root: both
    needs: [left, right]
    shell: sh
    run: cat ../p.left/left.out ../p.right/right.out > both.out; dfm-out fileset --filetype text both.out
"""
TASKS = {"left", "right", "both"}

# Of two places between which nothing becomes durable, one is enough.
BEGINNING = ["daemon.locked", "daemon.counted", "pool.journal.open", "pool.access.written", "daemon.listening"]
UNDER_WAY = [
    "daemon.published",
    "pool.client.after",
    "pool.submit.after",
    "pool.job-intent.before",
    "pool.launch.before",
    "pool.launch.after",
    "pool.job.after",
    "pool.dispatch.before",
    "pool.dispatch.after",
    "pool.started.heard",
    "pool.commit.before",
    "pool.commit.after",
    "pool.forget.after",
    "pool.close.after",
]
STOPPING = ["daemon.stopping", "pool.access.removed", "pool.jobs.ended", "daemon.ended"]
WORKER = [
    "worker.connected",
    "worker.assigned",
    "worker.starting",
    "execute.body_ended",
    "worker.body_ended",
    "worker.result_kept",
    "worker.acknowledged",
    "worker.forgotten",
]
CLIENT = [
    "client.connected",
    "client.opened",
    "run.runner_open",
    "task.begun",
    "client.submit",
    "client.done",
    "client.received",
    "task.ended",
    "record.commit.temporary",
    "task.committed",
    "client.closing",
]
ACKNOWLEDGED = {"worker.connected", "worker.acknowledged", "worker.forgotten"}
"""Who dies there has run nothing that must be run again."""
RUNS_AT_MOST = 3
ARMING = """\
if mv "$DFM_STATE_DIR/point" "$DFM_STATE_DIR/point.$$" 2>/dev/null; then
  read -r DFM_CRASHPOINT DFM_CRASHPOINT_ARMED <"$DFM_STATE_DIR/point.$$"
  export DFM_CRASHPOINT DFM_CRASHPOINT_ARMED
fi
exec "$PYTHON" -m dfm.core.worker "$@"
"""
"""The next worker is armed with what stands in `point`, and no other; its process id is in the name of what is left."""


def armed(point: str, how: str = "yes") -> dict[str, str]:
    return {"DFM_CRASHPOINT": point, "DFM_CRASHPOINT_ARMED": how}


def prepared(project: Project, **pool: object) -> Project:
    (project.directory / "flow.yaml").write_text(FLOW, encoding="utf-8")
    (project.directory / "worker.sh").write_text(ARMING, encoding="utf-8")
    project.environ["PYTHON"] = sys.executable
    command = ["/bin/sh", str(project.directory / "worker.sh")]
    often = {"max_submits_per_minute": 6000, "poll_interval": "5s"}
    settings = {**QUICK_POOL, **often, "worker_command": command, **pool}
    project.write_settings({"pool": settings})
    return project


def arm_next_worker(project: Project, point: str, how: str = "yes") -> None:
    Path(project.environ["DFM_STATE_DIR"], "point").write_text(f"{point} {how}\n", encoding="utf-8")


def armed_worker(project: Project) -> int:
    """Return the process id of the worker that was armed last, once it has been started."""
    directory = Path(project.environ["DFM_STATE_DIR"])
    wait_until(lambda: list(directory.glob("point.*")), "a worker to be armed")
    [taken] = directory.glob("point.*")
    taken.unlink()
    return int(taken.suffix[1:])


def run_words(word: str) -> tuple[str, ...]:
    return ("run", "both", "--daemon", "--json", "-D", f"word={word}")


def assert_right(project: Project, word: str, answer: Answer) -> None:
    assert answer.returncode == 0, answer.stdout + answer.stderr + project.daemon_log()
    assert set(verdicts(answer)) == TASKS
    assert set(verdicts(answer).values()) <= {"succeeded", "up-to-date"}
    both = (project.rundir / "p.both" / "both.out").read_text(encoding="utf-8")
    assert both == f"left {word}\nright {word}\n"


def assert_nothing_twice(project: Project) -> None:
    for path in project.private.rglob("journal"):
        entries = replay(path.read_bytes()).entries
        committed = [(entry.fields["client"], entry.fields["ticket"]) for entry in entries if entry.kind == "commit"]
        assert not [task for task, count in Counter(committed).items() if count > 1]


def times_run(project: Project) -> Counter[str]:
    path = project.directory / "ran"
    return Counter(path.read_text(encoding="utf-8").split() if path.exists() else ())


def is_at_home(project: Project, process: "subprocess.Popen[str]") -> bool:
    """Whether this very daemon answers."""
    try:
        return bool(project.status()["pid"] == process.pid)
    except RunnerError:
        return False


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


class Run:
    """A run under way, and how it ended."""

    def __init__(self, project: Project, word: str, process: "subprocess.Popen[str]") -> None:
        self._project = project
        self._process = process
        self._word = word

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def assert_right(self) -> None:
        """Wait for its end, which must be good, unless the daemon was gone before the run could begin."""
        stdout, stderr = self._process.communicate(timeout=60)
        if self._process.returncode != ExitCode.RUNNER_UNAVAILABLE or "no daemon of" not in stderr:
            assert_right(self._project, self._word, Answer([], self._process.returncode, stdout, stderr))


class Siege:
    """Runs one after the other, under daemons that die one after the other."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._open = contextlib.ExitStack()
        self._run: Run | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def lose_daemon_at(self, point: str) -> None:
        """Have a daemon that dies at a place; let runs come, one at a time, until one of them has led it there."""
        with self._project.started("daemon", "start", "--foreground", env=armed(point)) as daemon:

            def is_dead() -> bool:
                return daemon.poll() is not None

            wait_until(lambda: is_dead() or is_at_home(self._project, daemon), f"the daemon to die at {point} or live")
            before = self._count
            while not is_dead():
                if self._run is None or self._run.has_ended:
                    self.end()
                    assert self._count - before < RUNS_AT_MOST, f"no run passes {point}"
                    self._begin()
                wait_until(lambda: is_dead() or self._run_has_ended, f"the daemon to die at {point}, or the run to end")
            assert daemon.returncode == -signal.SIGKILL, daemon.communicate()[1]

    @property
    def _run_has_ended(self) -> bool:
        return self._run is not None and self._run.has_ended

    def _begin(self) -> None:
        self._count += 1
        word = f"w{self._count}"
        process = self._open.enter_context(self._project.started(*run_words(word)))
        self._run = Run(self._project, word, process)

    def end(self) -> None:
        """Wait until the run that is under way ends, as it must."""
        if self._run is not None:
            self._run.assert_right()
        self._run = None
        self._open.close()


# The daemon.


def test_runs_outlive_daemons_that_are_killed_at_every_place(project: Project) -> None:
    prepared(project)
    with Siege(project) as siege:
        for point in [*UNDER_WAY[:3], *BEGINNING, *UNDER_WAY[3:]]:
            siege.lose_daemon_at(point)
        with project.daemon():
            siege.end()
            answer = project.dfm(*run_words("last"))
            assert_right(project, "last", answer)
            assert_nothing_twice(project)
            assert set(verdicts(project.dfm(*run_words("last"))).values()) == {"up-to-date"}


def test_a_daemon_that_is_killed_while_it_stops_leaves_nothing_that_hinders_the_next(project: Project) -> None:
    prepared(project)
    for point in STOPPING:
        with project.started("daemon", "start", "--foreground", env=armed(point)) as daemon:
            wait_until(lambda: is_at_home(project, daemon), "the daemon to answer")
            if not project.workers():  # else those of the daemon before, which come to this one
                assert_right(project, point, project.dfm(*run_words(point)))
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == -signal.SIGKILL, point
    with project.daemon():
        assert_right(project, "last", project.dfm(*run_words("last")))
        assert_nothing_twice(project)


@pytest.fixture(scope="class")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = prepared(Project(tmp_path_factory.mktemp("project")))
    with project.daemon():
        assert_right(project, "first", project.dfm(*run_words("first")))  # some places are passed at later runs only
        yield project
    wait_until(lambda: not project.processes(), "the processes of the project to be gone")


# A worker.


class TestWorker:
    @pytest.mark.parametrize("point", WORKER)
    def test_a_run_ends_well_though_its_worker_is_killed(self, served: Project, point: str) -> None:
        for warm in served.workers():
            os.kill(warm, signal.SIGKILL)
        wait_until(lambda: not served.workers(), "the warm workers to be gone")
        arm_next_worker(served, point)
        before = times_run(served)
        assert_right(served, point, served.dfm(*run_words(point)))
        pid = armed_worker(served)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the armed worker to die")
        more = times_run(served) - before
        assert sorted(more) == ["left", "right"]
        assert more.total() <= 2 + (point not in ACKNOWLEDGED), "more was run again than the killed attempt"
        assert_nothing_twice(served)


# The client.


class TestClient:
    @pytest.mark.parametrize("point", CLIENT)
    def test_the_run_after_a_killed_one_ends_with_its_own_results(self, served: Project, point: str) -> None:
        killed = served.dfm(*run_words("killed"), env=armed(point))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert_right(served, point, served.dfm(*run_words(point)))
        assert_nothing_twice(served)


# Frozen, and thawed when it is too late.


@pytest.mark.parametrize("point", ["worker.assigned", "worker.starting", "worker.result_kept"])
def test_what_a_worker_says_that_was_frozen_beyond_its_lease_counts_for_nothing(project: Project, point: str) -> None:
    prepared(project, lease_timeout="20s", max_workers=1)
    with project.daemon():
        arm_next_worker(project, point, "stop")
        assert_right(project, "one", project.dfm(*run_words("one")))
        before = project.status()["counters"]["committed"]
        frozen = armed_worker(project)
        with contextlib.suppress(ProcessLookupError):  # who is cancelled is thawed, and may have left
            os.kill(frozen, signal.SIGCONT)
        wait_until(lambda: frozen not in project.workers(), "the worker that was given up to leave")
        assert project.status()["counters"]["committed"] == before == len(TASKS)
        assert_nothing_twice(project)
        assert set(verdicts(project.dfm(*run_words("one"))).values()) == {"up-to-date"}


@pytest.mark.parametrize("point", ["pool.dispatch.after", "pool.commit.after"])
def test_a_run_outlives_a_daemon_that_is_frozen_until_its_workers_miss_it(project: Project, point: str) -> None:
    prepared(project, lease_timeout="20s")
    with (
        project.started("daemon", "start", "--foreground", env=armed(point, "stop")) as daemon,
        contextlib.ExitStack() as stack,
    ):
        wait_until(lambda: is_at_home(project, daemon), "the daemon to answer")
        run = Run(project, "one", stack.enter_context(project.started(*run_words("one"))))
        wait_until(lambda: is_stopped(daemon.pid), "the daemon to freeze")
        logs = project.state / "workers"
        wait_until(
            lambda: any("the daemon is silent" in log.read_text(encoding="utf-8") for log in logs.glob("*.log")),
            "a worker to miss the daemon",
        )
        daemon.send_signal(signal.SIGCONT)
        run.assert_right()
        assert_nothing_twice(project)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0


def test_every_place_of_pool_daemon_and_worker_is_tried() -> None:
    files = [file for part in ("daemon", "pool", "worker") for file in (SOURCE / part).rglob("*.py")]
    found = {
        name for file in files for name in re.findall(r'crash_point\("([a-z_.]+)"\)', file.read_text(encoding="utf-8"))
    }
    tried = {point.partition(":")[0] for point in [*BEGINNING, *UNDER_WAY, *STOPPING, *WORKER, *CLIENT]}
    assert found - tried == {"worker.leaving"}
