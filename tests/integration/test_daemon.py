"""A daemon with workers on this host, and what happens to it: real processes, real signals."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.held import HOLD, begun, is_gone, let_go, lines

from dfm.api.runner import Outcome, Resources
from dfm.core.daemon.client import DaemonLink, living_daemon
from dfm.core.daemon.endpoint import Endpoint
from dfm.core.daemon.serve import WATCH_SECONDS
from dfm.core.pool.runner import PooledRunner
from dfm.core.runfacts import DaemonUse
from dfm.core.wire.tls import can_tls
from dfm.testing.opening import opened
from dfm.testing.project import QUICK_POOL, Project, verdicts, wait_until
from dfm.testing.tasks import Workspace

KILL_WORKER = """\
import os, signal
pid = os.getpid()
while b"dfm.core.worker" not in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0"):
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
os.kill(pid, signal.SIGKILL)
"""


def settings(**changes: object) -> dict[str, object]:
    return {"pool": {**QUICK_POOL, **changes}}


def record(project: Project, task: str) -> dict[str, Any]:
    path = project.rundir / f"p.{task}" / f"p.{task}.exec_data.json"
    found = json.loads(path.read_text(encoding="utf-8"))["record"]
    assert isinstance(found, dict)
    return found


def kill_daemon(project: Project) -> None:
    pid = project.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(str(pid)), "the daemon to be dead")


@contextlib.contextmanager
def running(project: Project, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Have a `dfm run --daemon --json` of these words in the block."""
    with project.started("run", "--daemon", "--json", *words) as process:
        yield process


def result(process: "subprocess.Popen[str]") -> dict[str, str]:
    """Wait for a run and return how its tasks ended."""
    stdout, stderr = process.communicate(timeout=90)
    assert stdout, stderr
    return verdicts(subprocess.CompletedProcess([], process.returncode, stdout, stderr))


# Starting, stopping, telling.


def test_the_monitor_is_refused_where_there_is_no_terminal(project: Project) -> None:
    project.write_flow({"a": "true"})
    refused = (2, "", "dfm: error: the monitor needs a terminal\n  hint: dfm daemon status prints the same once\n")
    starting = project.dfm("daemon", "start", "--monitor")
    assert (starting.returncode, starting.stdout, starting.stderr) == refused
    assert not (project.directory / ".dfm" / "daemon.json").exists()
    with project.daemon():
        watching = project.dfm("daemon", "monitor")
        assert (watching.returncode, watching.stdout, watching.stderr) == refused


def test_j_bounds_how_many_tasks_of_a_run_are_on_the_workers_at_once(project: Project) -> None:
    body = 'test "$(ls here | wc -l)" = 0 || exit 1; : >"here/$$"; sleep 0.2; rm "here/$$"'
    (project.directory / "here").mkdir()
    names = ["a", "b", "c", "d"]
    project.write_flow(dict.fromkeys(names, f"cd {project.directory}; {body}"))
    with project.daemon():
        assert project.verdicts(*names, "--daemon", "-j", "1") == dict.fromkeys(names, "succeeded")


@pytest.mark.parametrize("words", [[], ["--foreground"], ["--runner", "slurm"]])
def test_a_second_start_is_told_of_the_first_and_of_its_runner(project: Project, words: list[str]) -> None:
    project.write_flow({"a": "true"})
    with project.daemon("--runner", "lsf"):
        pid = project.status()["pid"]
        again = project.dfm("daemon", "start", *words)
        assert (again.returncode, again.stdout, again.stderr) == (
            7,
            "",
            (
                f"dfm: error: {project.directory} has a daemon already (pid {pid} on {socket.gethostname()}), of runner lsf\n"
                "  hint: dfm daemon stop stops it\n"
            ),
        )
        assert project.status()["pid"] == pid


def test_the_log_tells_when_a_start_failed(project: Project) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm("daemon", "start", "--runner", "nosuch")
    assert answer.returncode == 2
    told = project.daemon_log().splitlines()
    assert [re.sub(r"^[0-9-]{10}T[0-9:]{8}\.[0-9]{3}\+00:00 ", "AT ", line) for line in told] == [
        f"AT {line}" for line in answer.stderr.splitlines()
    ]


def test_a_pool_size_beyond_what_the_installation_allows_starts_no_daemon(project: Project, tmp_path: Path) -> None:
    project.write_flow({"a": "true"})
    project.write_settings({})
    (tmp_path / "installation.yaml").write_text("runner: {pool: {max_workers: !max 2}}", encoding="utf-8")
    environ = {"DFM_INSTALL_CONFIG": str(tmp_path / "installation.yaml")}
    answer = project.dfm("daemon", "start", "--pool-size", "5", env=environ)
    assert (answer.returncode, answer.stderr) == (
        2,
        (
            "dfm: error: runner.pool.max_workers: 5 is more than 2, the most that the installation allows at "
            "installation.yaml:1:30 (set by --pool-size)\n  hint: ask for 2 or less\n"
        ),
    )


@pytest.mark.parametrize(
    "words", [["daemon", "start"], ["daemon", "status"], ["run", "a", "--daemon"], ["why", "pending"]]
)
@pytest.mark.parametrize("name", ["DFM_STATE_DIR", "DFM_ACCESS_DIR", "DFM_RUNTIME_DIR"])
def test_a_variable_that_names_a_relative_directory_is_refused(project: Project, words: list[str], name: str) -> None:
    project.write_flow({"a": "true"})
    answer = project.dfm(*words, env={name: "state"})
    assert (answer.returncode, answer.stdout, answer.stderr) == (
        2,
        "",
        (
            f"dfm: error: {name} is 'state', which is another directory wherever dfm is called\n"
            "  hint: name it by its absolute path, or leave the variable out\n"
        ),
    )


def test_resume_says_that_nothing_was_in_the_way(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.daemon():
        answer = project.dfm("daemon", "resume")
    assert (answer.returncode, answer.stderr) == (0, "nothing kept workers from being submitted\n")


def test_logs_that_are_not_there_yet_are_told_with_what_to_do(project: Project) -> None:
    project.write_flow({"a": "true"})
    directory = project.directory / ".dfm"
    begins = "dfm daemon start begins one; with --foreground the daemon speaks to its terminal"
    assert project.dfm("daemon", "logs").stderr == (
        f"dfm: error: there is no log {directory}/daemon.log\n  hint: {begins}\n"
    )
    answer = project.dfm("daemon", "logs", "--worker", "all")
    assert (answer.stdout, answer.stderr) == ("", f"no worker of {project.directory} has left a log\n")
    wanted = f"dfm: error: there is no log {directory}/workers/w.log\n  hint: "
    assert project.dfm("daemon", "logs", "--worker", "w").stderr == f"{wanted}no worker has left a log yet\n"
    (directory / "workers").mkdir()
    (directory / "workers" / "s-1-1.log").touch()
    names = "dfm daemon logs --worker all names the workers"
    assert project.dfm("daemon", "logs", "--worker", "w").stderr == f"{wanted}{names}\n"
    assert project.dfm("daemon", "logs", "--worker", "all").stdout == "s-1-1\n"


def test_of_two_starts_at_once_one_wins_and_the_other_tells(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.started("daemon", "start") as first, project.started("daemon", "start") as second:
        answers = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert sorted([first.returncode, second.returncode]) == [0, 7], answers
    assert sum("has a daemon already" in text for text in answers) == 1
    assert project.status()["project"] == str(project.directory)


def test_a_daemon_that_is_stopped_leaves_nothing(project: Project) -> None:
    project.write_flow({"a": "echo a"})
    with project.daemon():
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
        assert len(project.workers()) == 1
        stopped = project.dfm("daemon", "stop")
        assert (stopped.returncode, stopped.stderr) == (0, f"daemon of {project.directory} has stopped\n")
        wait_until(lambda: not project.processes(), "its processes to be gone")
    assert [list((project.private / name).iterdir()) for name in ("state", "access")] == [[], []]
    assert project.dfm("daemon", "stop").stderr == f"no daemon of {project.directory} runs\n"
    told = json.loads(project.dfm("daemon", "status", "--json").stdout)
    nothing = {"running": False, "project": str(project.directory), "jobs_left": 0}
    assert told == {"schema": "dfm-daemon-status/1", **nothing}


def test_workers_of_this_host_have_no_limit_after_which_they_take_nothing(project: Project) -> None:
    project.write_settings(settings(walltime="1s"))
    project.write_flow({"a": "echo a"})
    with project.daemon():
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
        [worker] = project.workers()
        assert "--lives" not in Path(f"/proc/{worker}/cmdline").read_text(encoding="utf-8").split("\0")


def test_a_daemon_that_is_stopped_keeps_what_a_run_is_owed_for_the_next(project: Project) -> None:
    project.write_flow({"held": HOLD})
    with project.daemon(), running(project, "held") as process:
        begun(project)
        stopped = project.dfm("daemon", "stop")
        assert stopped.stderr.count("\n") == 3, stopped.stderr
        told, hint, end = stopped.stderr.splitlines()
        assert told.startswith("1 run is connected: 1 running task is cut off and begins anew; it waits a minute")
        assert hint == "  hint: `dfm daemon stop --drain` lets what runs finish first"
        assert (stopped.returncode, end) == (0, f"daemon of {project.directory} has stopped")
        assert len(list(project.private.rglob("journal"))) == 1
        let_go(project)
        with project.daemon():
            assert result(process) == {"held": "succeeded"}
    assert [list((project.private / name).iterdir()) for name in ("state", "access")] == [[], []]


def test_a_daemon_whose_directory_was_removed_stops_with_its_workers(project: Project) -> None:
    project.write_flow({"held": HOLD})
    with project.started("daemon", "start", "--foreground") as daemon:
        wait_until(lambda: living_daemon(Endpoint(str(project.directory))), "the daemon to be there")
        with running(project, "held") as process:
            [pid] = begun(project)
            shutil.rmtree(project.state)
            stderr = daemon.communicate(timeout=30)[1]
            process.kill()
    assert daemon.returncode == 0, stderr
    assert f"stops: {project.state / 'daemon.lock'} was removed\n" in stderr
    wait_until(lambda: is_gone(pid) and not project.processes(), "its workers and their tasks to be gone")
    assert not list(project.private.rglob("access.json"))
    project.write_settings(settings())
    with project.daemon():
        assert project.status()["project"] == str(project.directory)


def test_a_start_beside_a_daemon_whose_directory_was_removed_tells_its_pid_and_what_to_do(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.started("daemon", "start", "--foreground") as daemon:
        wait_until(lambda: living_daemon(Endpoint(str(project.directory))), "the daemon to be there")
        daemon.send_signal(signal.SIGSTOP)
        shutil.rmtree(project.state)
        answer = project.dfm("daemon", "start")
        daemon.send_signal(signal.SIGCONT)
        assert answer.returncode == 7
        assert f"belongs to a process that lives (pid {daemon.pid})" in answer.stderr
        assert "hint: a daemon whose .dfm was removed ends by itself within seconds: try again then" in answer.stderr
        stderr = daemon.communicate(timeout=30)[1]
    assert (daemon.returncode, f"{project.state / 'daemon.lock'} was replaced\n" in stderr) == (0, True), stderr
    with project.daemon():
        assert project.status()["project"] == str(project.directory)


def test_a_daemon_whose_project_was_moved_goes_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    project = Project(first)
    for name in ("DFM_STATE_DIR", "DFM_ACCESS_DIR"):
        project.environ[name] = str(tmp_path / name)
    project.write_settings(settings())
    project.write_flow({"a": "true"})
    with project.daemon():
        pid = project.status()["pid"]
        first.rename(second)
        time.sleep(2.5 * WATCH_SECONDS)
        project.directory = second
        assert project.status()["pid"] == pid
    wait_until(lambda: is_gone(str(pid)), "the daemon to be stopped")


def test_status_tidies_what_a_dead_daemon_left(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.daemon():
        kill_daemon(project)
        assert {"daemon.json", "daemon.sock"} <= {path.name for path in project.state.iterdir()}
        answer = project.dfm("daemon", "status")
        assert (answer.returncode, answer.stdout) == (0, f"no daemon of {project.directory} runs\n")
        assert not {"daemon.json", "daemon.sock"} & {path.name for path in project.state.iterdir()}


def test_stop_and_status_tell_of_the_workers_that_a_dead_daemon_left(project: Project) -> None:
    project.write_settings(settings(min_workers=1))
    project.write_flow({"a": "true"})
    assert project.dfm("daemon", "start").returncode == 0
    wait_until(lambda: project.status()["workers_count"]["idle"] == 1, "a warm worker")
    kill_daemon(project)
    told = (
        f"no daemon of {project.directory} runs\n"
        "1 worker job that it left is not known to have ended\n"
        "  hint: `dfm daemon reap` cancels what is left; `dfm daemon start --runner local` takes it in again\n"
    )
    assert project.dfm("daemon", "stop").stderr == told
    assert project.dfm("daemon", "status").stdout == told
    assert json.loads(project.dfm("daemon", "status", "--json").stdout)["jobs_left"] == 1
    assert project.dfm("daemon", "reap").returncode == 0
    assert project.dfm("daemon", "stop").stderr == f"no daemon of {project.directory} runs\n"


def test_status_tells_who_has_the_journal_where_no_daemon_answers(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.started("daemon", "start", "--foreground") as daemon:
        wait_until(lambda: living_daemon(Endpoint(str(project.directory))), "the daemon to be there")
        for name in ("daemon.json", "daemon.sock"):
            (project.state / name).unlink()
        told = f"no daemon of {project.directory} answers; process {daemon.pid} has its journal: "
        assert project.dfm("daemon", "status").stdout.startswith(told)
        daemon.terminate()
        assert daemon.wait(30) == 0


def test_a_run_that_wants_a_daemon_says_so_where_none_answers(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.daemon():
        kill_daemon(project)
        answer = project.dfm("run", "a", "--daemon")
        assert answer.returncode == 7
        assert f"no daemon of {project.directory} runs" in answer.stderr
        assert "hint: dfm daemon start --runner local starts one" in answer.stderr


@pytest.mark.parametrize(("served", "wanted"), [("lsf", "local"), ("local", "lsf")])
def test_a_run_that_wants_a_daemon_of_another_runner_is_told_which_one_it_has(
    project: Project, served: str, wanted: str
) -> None:
    project.write_flow({"a": "true"})
    with project.daemon("--runner", served):  # nothing is submitted as long as nothing wants to run
        answer = project.dfm("run", "a", "--daemon", "--runner", wanted)
        assert (answer.returncode, answer.stderr) == (
            7,
            (
                f"dfm: error: the daemon of {project.directory} serves runner {served}, not {wanted}\n"
                f"  hint: dfm run --daemon --runner {served} uses it\n"
            ),
        )


def test_a_run_that_wants_a_daemon_is_told_that_it_is_on_another_host(project: Project) -> None:
    project.write_flow({"a": "true"})
    with project.daemon():
        path = project.state / "daemon.json"
        text = path.read_text(encoding="utf-8")
        path.write_text(json.dumps({**json.loads(text), "host": "elsewhere"}), encoding="utf-8")
        answer = project.dfm("run", "a", "--daemon")
        path.write_text(text, encoding="utf-8")
    assert (answer.returncode, answer.stderr) == (
        7,
        (
            f"dfm: error: the daemon of {project.directory} is on host elsewhere\n"
            f"  hint: run it there, or stop that daemon there; this is host {socket.gethostname()}\n"
        ),
    )


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return a private directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="dfm-", dir="/tmp") as directory:
        yield Path(directory)


def test_a_project_whose_path_is_too_long_for_a_socket_has_a_daemon(tmp_path: Path, runtime: Path) -> None:
    deep = tmp_path.joinpath(*["a directory with a long name"] * 5)
    deep.mkdir(parents=True)
    project = Project(deep)
    project.environ["DFM_RUNTIME_DIR"] = str(runtime)
    project.write_settings(settings())
    project.write_flow({"a": "echo a"})
    with project.daemon():
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
        assert [path.suffix for path in (runtime / "dfm").iterdir()] == [".sock"]
    wait_until(lambda: not project.processes(), "the processes to be gone")
    assert list((runtime / "dfm").iterdir()) == []


# Strangers.


def test_garbage_at_either_door_harms_nobody(project: Project) -> None:
    project.write_flow({"a": "echo a"})
    with project.daemon():
        [access] = project.private.rglob("access.json")
        port = json.loads(access.read_text(encoding="utf-8"))["port"]
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\xff" * 5000, b"\0\0\0\5hello"):
            with socket.socket(socket.AF_UNIX) as here, socket.create_connection(("127.0.0.1", port)) as there:
                here.connect(str(project.state / "daemon.sock"))
                for link in (here, there):
                    link.settimeout(30)
                    with contextlib.suppress(OSError):  # ENOTCONN too, where it hung up between the two
                        link.sendall(data)
                        link.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(ConnectionError):
                        assert b"dfm" not in link.recv(4096)
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing_at_the_socket(project: Project) -> None:
    project.write_flow({"a": "echo a"})
    with project.daemon():
        path = project.state / "daemon.sock"
        path.chmod(0o777)
        for directory in (project.state, *project.directory.parents, project.directory):
            if directory.stat().st_uid == os.geteuid() and str(directory) not in {"/", "/tmp"}:
                directory.chmod(0o755)
        program = (
            "import socket, sys\n"
            "link = socket.socket(socket.AF_UNIX)\n"
            "link.settimeout(30)\n"
            "try:\n"
            "    link.connect(sys.argv[1])\n"
            "    link.sendall(b'\\0' * 50)\n"
            "    print(len(link.recv(100)))\n"
            "except ConnectionError:\n"
            "    print(0)\n"
        )
        answer = subprocess.run(
            ["/usr/bin/env", "python3", "-c", program, str(path)],
            user=65534,
            group=65534,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.stdout == "0\n", answer.stderr
        project.state.chmod(0o700)
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


# Clients.


def test_two_clients_never_see_each_others_results(project: Project) -> None:
    tasks = {f"t{n}": f'dfm-out item --type p.T who="$WHO" n:={n}; echo "$WHO {n}"' for n in range(4)}
    check = (
        "import json, os, sys\n"
        "found = [(item['who'], item['n']) for item in json.load(open(os.environ['DFM_INPUTS']))]\n"
        "sys.exit(found != [(os.environ['WHO'], n) for n in range(4)])\n"
    )
    all_of_them: dict[str, object] = {"run": f"{sys.executable} check.py", "needs": list(tasks), "rundir": "unique"}
    all_of_them["run"] = f'{sys.executable} "$DFM_SRCDIR/check.py"'
    (project.directory / "check.py").write_text(check, encoding="utf-8")
    project.write_flow({**tasks, "all": all_of_them})
    with project.daemon():
        words = ("run", "--daemon", "--json", "all")
        with (
            project.started(*words, "--rundir", "one", env={"WHO": "one"}) as one,
            project.started(*words, "--rundir", "two", env={"WHO": "two"}) as two,
        ):
            assert set(result(one).values()) == {"succeeded"}
            assert set(result(two).values()) == {"succeeded"}
    for who in ("one", "two"):
        for n in range(4):
            assert (project.directory / who / f"p.t{n}" / f"p.t{n}.log").read_text(encoding="utf-8") == f"{who} {n}\n"


CANARIES = 100


@pytest.mark.parametrize("is_cut", [True, False])
async def test_four_clients_get_each_its_own_results_and_whose_links_hold_an_equal_share(
    project: Project, *, is_cut: bool
) -> None:
    project.write_settings(settings(worker_slots=2))
    project.write_flow({"a": "true"})
    done = [0] * 4
    least_at_first_end: list[int] = []

    async def work(client: int) -> None:
        directory = project.directory / f"client{client}"
        directory.mkdir()
        workspace = Workspace(directory)
        wanted = [1 + (4 * n + client) % 120 for n in range(CANARIES)]  # told apart by what is left of them by 4
        async with opened(
            "local",
            workspace,
            environ=project.environ,
            project=str(project.directory),
            use=DaemonUse.ALWAYS,
            run_id=f"{client}" * 32,
        ) as runner:

            async def status_of(canary: int) -> int:
                result = await runner.run(workspace.shell(f"exit {canary}", name="p.canary"))
                done[client] += 1
                if is_cut and done[client] == CANARIES // 2:
                    assert isinstance(runner, PooledRunner)
                    assert isinstance(runner._link, DaemonLink)
                    assert runner._link._channel is not None
                    runner._link._channel.abort("cut by the test")
                return result.status

            assert await asyncio.gather(*map(status_of, wanted)) == wanted
            least_at_first_end.append(min(done))

    with project.daemon():
        async with asyncio.timeout(120), asyncio.TaskGroup() as clients:
            for client in range(4):
                clients.create_task(work(client))
        status = project.dfm("daemon", "status", "--json")
        counters = json.loads(status.stdout)["counters"]
    assert (counters["committed"], counters["lost_attempts"]) == (4 * CANARIES, 0)
    if not is_cut:  # whose link is cut hears of its results later, while others go on
        assert least_at_first_end[0] > 0.7 * CANARIES


def test_a_small_run_does_not_wait_behind_a_large_one(project: Project) -> None:
    project.write_settings(settings(max_workers=1))
    wait = 'for i in $(seq 600); do [ -e "$DFM_SRCDIR/$until" ] && exit 0; sleep 0.05; done; exit 1'
    body = f'until=one; [ -e "$DFM_SRCDIR/begun" ] || until=go; echo x >> "$DFM_SRCDIR/begun"; {wait}'
    many = {f"t{n}": body for n in range(4)}
    project.write_flow({**many, "many": {"needs": list(many), "run": "true"}, "one": 'touch "$DFM_SRCDIR/one"'})
    with project.daemon(), running(project, "many") as large:
        begun(project)
        with running(project, "one", "--rundir", "other") as small:
            wait_until(lambda: project.why("p.one"), "the task of the small run to be there")
            let_go(project)
            assert result(small) == {"one": "succeeded"}
        assert set(result(large).values()) == {"succeeded"}


def test_the_tasks_of_a_client_that_was_killed_are_stopped(project: Project) -> None:
    project.write_settings(settings(client_grace="10s"))
    project.write_flow({"held": HOLD, "a": "true"})
    with project.daemon():
        with running(project, "held") as process:
            [pid] = begun(project)
            process.kill()
            process.wait()
            wait_until(lambda: is_gone(pid), "the body to be stopped")
        assert lines(project.directory / "done") == []
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


ALONE = (
    'for pid in $(cat "$DFM_SRCDIR/begun" 2>/dev/null); do kill -0 "$pid" && echo "$pid" >> "$DFM_SRCDIR/met"; done; '
    f"{HOLD}; true"
)
"""As HOLD; leaves in `met` the bodies that ran before it and still do."""


def test_the_next_run_in_the_directory_of_a_killed_one_never_meets_its_tasks(project: Project) -> None:
    project.write_flow({"held": ALONE})
    with project.daemon():
        with running(project, "held") as process:
            begun(project)
            process.kill()
            process.wait()
            with running(project, "held") as again:
                begun(project, 2)
                let_go(project)
                assert result(again) == {"held": "succeeded"}
        assert (lines(project.directory / "met"), lines(project.directory / "done")) == ([], ["done"])


@pytest.mark.parametrize(("presses", "seconds"), [(1, 10), (2, 3)])
def test_ctrl_c_ends_a_run_whose_daemon_is_gone(project: Project, presses: int, seconds: float) -> None:
    project.write_flow({"a": HOLD})
    with project.daemon(), running(project, "a") as process:
        begun(project)
        kill_daemon(project)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert process.wait(seconds) == 130
        let_go(project)


def test_a_run_tells_that_its_daemon_is_gone(project: Project) -> None:
    project.write_flow({"a": HOLD})
    with project.daemon(), running(project, "a") as process:
        begun(project)
        kill_daemon(project)
        assert process.stderr is not None
        told = next(line for line in process.stderr if "is gone" in line)
        assert told == "dfm: the daemon is gone (the other end has closed); waits 60 s for a new one to start\n"
        let_go(project)
        project.dfm("daemon", "start")
        assert result(process) == {"a": "succeeded"}


def test_ctrl_c_stops_the_tasks_and_leaves_the_daemon(project: Project) -> None:
    project.write_flow({"held": HOLD, "a": "true"})
    with project.daemon():
        before = project.status()["pid"]
        with running(project, "held") as process:
            [pid] = begun(project)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 130
            assert is_gone(pid)
        assert lines(project.directory / "done") == []
        status = project.status()
        assert (status["pid"], status["clients"], status["tasks_count"]["running"]) == (before, [], 0)
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


# A daemon that dies.


def test_a_restarted_daemon_adopts_what_runs_and_the_run_gets_its_result(project: Project) -> None:
    project.write_flow({"held": HOLD, "after": {"run": "true", "needs": ["held"]}})
    with project.daemon(), running(project, "after") as process:
        begun(project)
        kill_daemon(project)
        assert project.dfm("daemon", "start").returncode == 0
        wait_until(lambda: project.status()["workers_count"]["busy"] == 1, "the worker to be adopted")
        let_go(project)
        assert result(process) == {"held": "succeeded", "after": "succeeded"}
        assert len(lines(project.directory / "begun")) == 1
        assert len(project.workers()) == 1


def test_a_result_that_came_while_no_daemon_was_there_is_delivered(project: Project) -> None:
    project.write_flow({"held": HOLD})
    with project.daemon(), running(project, "held") as process:
        begun(project)
        kill_daemon(project)
        let_go(project)
        wait_until(lambda: lines(project.directory / "done"), "the body to end")
        assert project.dfm("daemon", "start").returncode == 0
        assert result(process) == {"held": "succeeded"}
        assert len(lines(project.directory / "begun")) == 1


def test_a_daemon_that_finds_workers_but_no_count_of_daemons_goes_on_counting(project: Project) -> None:
    project.write_flow({"held": HOLD, "a": "true"})
    assert project.dfm("daemon", "start").returncode == 0
    with running(project, "held") as process:
        begun(project)
        kill_daemon(project)
        shutil.rmtree(project.state)
        project.write_settings(settings())
        with project.daemon():
            assert project.status()["epoch"] == 2
            assert project.verdicts("a", "--daemon", "--rundir", "other") == {"a": "succeeded"}
            names = [job["name"] for job in project.status()["jobs"]]
            assert len({name.rsplit("-", 3)[1] for name in names}) == len(names) == 2, names
            let_go(project)
            assert result(process) == {"held": "succeeded"}
    assert len(lines(project.directory / "begun")) == 1


def test_reap_ends_the_workers_of_a_daemon_that_does_not_come_back(project: Project) -> None:
    project.write_flow({"held": HOLD})
    with project.daemon(), running(project, "held") as process:
        [pid] = begun(project)
        kill_daemon(project)
        process.kill()
        process.wait()
        answer = project.dfm("daemon", "reap", "--runner", "local")
        assert answer.returncode == 0
        assert "ended: dfm-" in answer.stderr
        wait_until(lambda: is_gone(pid) and not project.workers(), "the worker and its task to be gone")


# Workers that die.


@pytest.fixture
def lost_host(project: Project, tmp_path: Path) -> Iterator[Project]:
    """Return a project whose daemon died with its host, seen from another host: its journal is not there."""
    quick = settings(min_workers=1, time_scale=0.02, lease_timeout="10m", heartbeat_interval="1m", idle_timeout="2h")
    project.write_settings(quick)
    project.write_flow({"a": "true"})
    assert project.dfm("daemon", "start").returncode == 0
    wait_until(lambda: project.status()["workers_count"]["idle"] == 1, "a warm worker")
    jobs = project.state / "jobs"
    wait_until(
        lambda: jobs.exists() and f"{project.workers()[0]}".encode() in jobs.read_bytes(), "a snapshot with its id"
    )
    kill_daemon(project)
    here = project.environ["DFM_STATE_DIR"]
    project.environ["DFM_STATE_DIR"] = str(tmp_path / "elsewhere")
    yield project
    project.environ["DFM_STATE_DIR"] = here


def test_a_daemon_on_another_host_takes_over_the_workers_of_the_one_that_is_lost(lost_host: Project) -> None:
    project = lost_host
    with project.daemon():
        wait_until(lambda: project.status()["workers_count"]["idle"] == 1, "the worker to come to the new daemon")
        assert "jobs of a daemon elsewhere are taken over" in project.daemon_log()
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
        assert not project.workers(), "none was started by the new daemon"
    assert not (project.state / "jobs").exists()


def test_reap_on_another_host_ends_the_jobs_of_a_daemon_that_is_lost(lost_host: Project) -> None:
    answer = lost_host.dfm("daemon", "reap", "--runner", "local")
    assert (answer.returncode, "ended: dfm-" in answer.stderr) == (0, True), answer.stderr
    assert not (lost_host.state / "jobs").exists()
    answer = lost_host.dfm("daemon", "reap", "--runner", "local")
    assert "nothing was left" in answer.stderr


def test_the_task_of_a_killed_worker_runs_on_another(project: Project) -> None:
    project.write_flow({"held": HOLD})
    with project.daemon(), running(project, "held") as process:
        [pid] = begun(project)
        [worker] = project.workers()
        os.kill(worker, signal.SIGKILL)
        second = begun(project, 2)[1]
        wait_until(lambda: is_gone(pid), "the guard of the dead worker to have killed its task")
        assert not is_gone(second)
        let_go(project)
        assert result(process) == {"held": "succeeded"}
        assert lines(project.directory / "done") == ["done"]


def test_a_task_that_kills_its_worker_three_times_is_lost_and_its_workers_are_named(project: Project) -> None:
    (project.directory / "kill.py").write_text(KILL_WORKER, encoding="utf-8")
    project.write_flow(
        {"poison": f'echo x >> "$DFM_SRCDIR/begun"; {sys.executable} "$DFM_SRCDIR/kill.py"; sleep 60', "a": "true"}
    )
    with project.daemon():
        answer = project.dfm("run", "--daemon", "poison")
        assert answer.returncode == 6
        told = answer.stdout + answer.stderr
        assert "3 workers were lost while they ran it, for no known cause" in told
        logs = [word.strip(",;()") for word in told.split() if word.strip(",;()").endswith(".log")]
        workers = [path for path in logs if "/workers/dfm-" in path]
        assert len(set(workers)) == 3
        assert all(Path(path).read_text(encoding="utf-8") for path in workers)
        assert told.count(socket.gethostname()) >= 3
        assert len(lines(project.directory / "begun")) == 3
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


def test_a_worker_that_is_stopped_beyond_its_lease_is_given_up_and_never_counts_again(project: Project) -> None:
    project.write_settings(settings(lease_timeout="20s"))
    project.write_flow({"held": HOLD + '; echo "$DFM_ATTEMPT" > attempt'})
    with project.daemon(), running(project, "held") as process:
        begun(project)
        [first] = project.workers()
        os.kill(first, signal.SIGSTOP)
        try:
            begun(project, 2)
            let_go(project)
            assert result(process) == {"held": "succeeded"}
            assert (project.rundir / "p.held" / "attempt").read_text(encoding="utf-8") == "2\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGCONT)
        wait_until(lambda: is_gone(str(first)), "the worker that was given up to leave")
        assert project.status()["counters"]["committed"] == 1


async def test_a_task_that_runs_longer_than_it_said_fails_and_its_worker_goes_on(
    project: Project, tmp_path: Path
) -> None:
    project.write_flow({"a": "true"})
    workspace = Workspace(tmp_path)
    limit = Resources(wall_seconds=1.0)
    with project.daemon():
        link = opened("local", workspace, environ=project.environ, project=str(project.directory), use=DaemonUse.ALWAYS)
        async with link as runner:
            slow = await runner.run(workspace.shell("sleep 1000", resources=limit))
            quick = await runner.run(workspace.shell("true", resources=limit))
    assert (slow.outcome, slow.cause) == (Outcome.FAILED, "walltime of 1 s exceeded")
    assert quick.outcome is Outcome.SUCCEEDED


def test_a_task_that_ran_out_of_memory_runs_again_in_the_next_class(project: Project) -> None:
    """The first worker has little memory, as one of class small has on a cluster; later ones have what they want."""
    limited = project.directory / "limited"
    script = (
        f'if mkdir {limited} 2>/dev/null; then ulimit -v 2000000; fi; exec {sys.executable} -m dfm.core.worker "$@"'
    )
    classes = {"small": {"memory": "1G", "next": "big"}, "big": {"memory": "8G"}}
    worker = {"worker_command": ["/bin/sh", "-c", script, "sh"]}
    project.write_settings({**settings(**worker), "resource_classes": classes})
    tag = {"std.ResourceTag": {"resource_class": "small", "may_grow": True}}
    body = "with open(ctxt.srcdir + '/tries', 'a') as tries:\n    print('tried', file=tries)\nbytearray(4 << 30)\n"
    project.write_flow({"glutton": {"shell": "pytask", "run": body, "tags": [tag]}})
    with project.daemon():
        assert project.verdicts("glutton", "--daemon") == {"glutton": "succeeded"}
        assert project.status()["counters"]["outgrown"] == 1
    assert lines(project.directory / "tries") == ["tried", "tried"]
    assert record(project, "glutton")["resource_class"] == "big"


def test_a_task_that_may_not_grow_fails_when_it_runs_out_of_memory(project: Project) -> None:
    script = f'ulimit -v 2000000; exec {sys.executable} -m dfm.core.worker "$@"'
    classes = {"small": {"memory": "1G", "next": "big"}, "big": {"memory": "8G"}}
    worker = {"worker_command": ["/bin/sh", "-c", script, "sh"]}
    project.write_settings({**settings(**worker), "resource_classes": classes})
    tag = {"std.ResourceTag": {"resource_class": "small"}}
    project.write_flow({"glutton": {"shell": "pytask", "run": "bytearray(4 << 30)\n", "tags": [tag]}})
    with project.daemon():
        assert project.verdicts("glutton", "--daemon") == {"glutton": "failed"}
    found = record(project, "glutton")
    assert found["cause"].startswith("out of memory: MemoryError")
    assert (found["attempt"], found["resource_class"]) == (1, "small")


def test_a_worker_without_work_leaves(project: Project) -> None:
    project.write_settings(settings(idle_timeout="10s"))
    project.write_flow({"a": "true"})
    with project.daemon():
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
        wait_until(lambda: not project.workers(), "the idle worker to leave")
        wait_until(lambda: project.status()["workers_count"]["total"] == 0, "the daemon to know")
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}


def test_workers_that_are_to_be_kept_are_there_before_a_task_comes(project: Project) -> None:
    project.write_settings(settings(min_workers=2))
    project.write_flow({"a": "true"})
    with project.daemon():
        wait_until(lambda: project.status()["workers_count"]["idle"] == 2, "two idle workers")
        assert len(project.workers()) == 2


def test_a_drained_stop_lets_what_runs_finish(project: Project) -> None:
    project.write_flow({"held": HOLD})
    with project.daemon(), running(project, "held") as process:
        begun(project)
        with project.started("daemon", "stop", "--drain") as stopping:
            wait_until(lambda: project.status()["workers"][0]["state"] == "draining", "the worker to drain")
            let_go(project)
            assert result(process) == {"held": "succeeded"}
            stopping.communicate(timeout=60)
            assert stopping.returncode == 0


# Why.


def test_a_pool_whose_links_must_be_encrypted_is_not_opened_by_a_python_that_cannot(project: Project) -> None:
    project.write_settings({"pool": {**QUICK_POOL, "require_encryption": True}})
    project.write_flow({"a": "true"})
    answer = project.dfm("daemon", "start")
    if can_tls():
        assert answer.returncode == 0
        assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
    else:
        assert answer.returncode == 7
        assert "runner.pool.require_encryption is set, and this Python cannot encrypt links" in answer.stderr


def test_a_secret_that_a_batch_system_repeats_is_in_no_log_and_no_answer(project: Project) -> None:
    bsub = project.directory / "bin" / "bsub"
    bsub.parent.mkdir()
    text = "Communication timeout"  # which is tried again; what names no reason that is known is refused for good
    script = f'#!/bin/sh\necho "key $LICENCE_TOKEN: $(cat {bsub}.text). Job not submitted." >&2\nexit 255\n'
    bsub.write_text(script, "ascii")
    bsub.chmod(0o755)
    bsub.with_suffix(".text").write_text(text, "ascii")
    project.environ |= {"PATH": f"{bsub.parent}:{project.environ['PATH']}", "LICENCE_TOKEN": "hunter2hunter2"}
    project.write_settings({"default": "lsf", **settings()})
    project.write_flow({"a": "true"})
    with project.daemon("--runner", "lsf"), running(project, "a") as process:
        wait_until(lambda: "key ***: Communi" in "".join(row["reason"] for row in project.why()), "the refusal")
        told = json.dumps([project.status(), project.why()])
        bsub.with_suffix(".text").write_text("No such queue", "ascii")
        told += "".join(process.communicate(timeout=60)) + project.daemon_log()
    assert "key ***: No such queue" in told
    assert "hunter2" not in told


def test_what_waits_for_a_worker_is_not_shown_as_running(project: Project) -> None:
    held_up = ["sh", "-c", 'until [ -e may-come ]; do sleep 0.05; done; exec "$@"', "sh"]
    worker = [*held_up, sys.executable, "-m", "dfm.core.worker"]
    project.write_settings(settings(max_workers=1, worker_command=worker))
    project.write_flow({"held": HOLD, "next": HOLD, "both": {"run": "true", "needs": ["held", "next"]}})
    with project.daemon(), on_terminal(project, "run", "both", "--daemon", "--ui", "progress") as shown:
        wait_until(lambda: "[0/3 0 running, 2 waiting 0:0" in shown(), "both to wait")
        wait_until(lambda: "] a worker job is on its way, " in shown(), "what they wait for")
        (project.directory / "may-come").touch()
        wait_until(lambda: "[0/3 1 running, 1 waiting 0:" in shown(), "one of them to run")
        let_go(project)
        wait_until(lambda: "3 ok in" in shown(), "the end")


@contextlib.contextmanager
def on_terminal(project: Project, *words: str) -> Iterator[Callable[[], str]]:
    """Have a `dfm` in the block that writes to a terminal; gives what it has written so far."""
    written = bytearray()
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 200))

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO, once the terminal has no other end
            while data := os.read(master, 4096):
                written.extend(data)

    argv = [str(Path(sys.executable).parent / "dfm"), *words]
    environ = {**project.environ, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(argv, cwd=project.directory, env=environ, stdin=subprocess.DEVNULL, stdout=slave) as process:
        os.close(slave)
        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield lambda: written.decode("utf-8", "replace")
        finally:
            process.terminate()
            process.wait()
            reader.join()
            os.close(master)


def test_why_pending_tells_where_each_task_stands(project: Project) -> None:
    project.write_settings(settings(max_workers=1))
    project.write_flow({"held": HOLD, "next": "true", "both": {"run": "true", "needs": ["held", "next"]}})
    with project.daemon(), running(project, "both") as process:
        begun(project)
        wait_until(lambda: len(project.why()) == 2, "both tasks to be there")
        rows = {row["task"].removeprefix("p."): row for row in project.why()}
        states = sorted(row["state"] for row in rows.values())
        assert states in (["queued", "running"], ["running", "running"])
        assert all(row["reason"] and row["checked_again_in_seconds"] >= 0 for row in rows.values())
        assert rows["held"]["host"] == socket.gethostname()
        text = project.dfm("why", "pending", "held").stdout
        assert text.startswith(f"p.held  running on {socket.gethostname()} for 0:0")
        assert "p.next" not in text
        let_go(project)
        assert result(process)["both"] == "succeeded"
        assert project.dfm("why", "pending").stdout == "no unfinished task\n"
