"""A real worker process against a small daemon: what it runs, what it survives, and that it never outstays."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from dfm.api.runner import Body, Outcome, PythonBody, PythonSource, ShellBody, TaskRequest, TaskResult
from dfm.core.execute.process import RUN_TOKEN, token_holders
from dfm.core.wire.access import Access, Root, access_directory, new_key, plant_probe, write_access
from dfm.core.wire.channel import Channel, Listener, listen_tcp, own_identity
from dfm.core.wire.codec import decode_result, encode_request
from dfm.core.wire.environment import environment_message
from dfm.core.wire.exchange import Decoder, decode_from_worker
from dfm.core.wire.handshake import slot_key
from dfm.core.wire.messages import (
    Ack,
    Beat,
    CancelAttempt,
    Drain,
    Exit,
    Hello,
    Leaving,
    Message,
    Result,
    Run,
    Started,
    Vacating,
    Welcome,
)

DAEMON_ID = b"d" * 16
PATIENCE = 30.0
Kind = TypeVar("Kind", bound=Message)


class Link:
    """The daemon's end of one link: everything the worker said, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.said: list[Message] = []
        self.closed: str | None = None
        self._news = asyncio.Event()

    @property
    def decoder(self) -> Decoder:
        return decode_from_worker

    def on_messages(self, messages: list[Message]) -> None:
        self.said += messages
        self._news.set()

    def on_closed(self, reason: str) -> None:
        self.closed = reason
        self._news.set()

    async def heard(self, kind: type[Kind], matches: Callable[[Kind], bool] = lambda _: True) -> Kind:
        async with asyncio.timeout(PATIENCE):
            while True:
                for message in self.said:
                    if isinstance(message, kind) and matches(message):
                        return message
                self._news.clear()
                await self._news.wait()

    async def is_closed(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.closed is None:
                self._news.clear()
                await self._news.wait()


class Daemon:
    """Just enough of a daemon: it listens, and says what a test wants."""

    def __init__(self, project: Path, roots: tuple[Root, ...] = ()) -> None:
        self.project = project
        self.directory = access_directory(str(project), str(project / "access"))
        self.key = new_key()
        self.port = 0
        self.path = ""
        self.roots = roots
        self.links: list[Link] = []
        self.processes: list[asyncio.subprocess.Process] = []
        self._news = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        sockets = listen_tcp(["127.0.0.1"], self.port)
        self.port = sockets[0].getsockname()[1]
        listener = Listener(sockets, self._accept, own_identity("test"), self._key_of, DAEMON_ID)
        self._serving = asyncio.get_running_loop().create_task(listener.run())
        self.path = write_access(self.directory, self.access())

    async def stop(self) -> None:
        assert self._serving is not None
        self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving
        for link in self.links:
            link.channel.abort("the daemon stops")

    def access(self, key: bytes | None = None) -> Access:
        return Access(
            project=self.project.name + str(os.getpid()),
            epoch=1,
            daemon_id=DAEMON_ID,
            addresses=("127.0.0.1",),
            port=self.port,
            key=key or self.key,
            roots=self.roots,
        )

    def _key_of(self, slot: str) -> bytes | None:
        return slot_key(self.key, slot) if slot.startswith("s") else None

    def _accept(self, channel: Channel) -> Link:
        link = Link(channel)
        self.links.append(link)
        self._news.set()
        return link

    async def worker(
        self, *words: str, slot: str = "s1", cwd: Path | None = None, first: str = "", **env: str
    ) -> asyncio.subprocess.Process:
        """Start a worker, in a shell that has done `first`."""
        log = self.project / "worker.log"
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f'{first or ":"} && exec "$@"', "sh",
            sys.executable, "-m", "dfm.core.worker", "--access", self.path, "--slot", slot, "--log", str(log), *words,
            env=_environ() | env, cwd=cwd or self.project, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def link(self, number: int = 0) -> Link:
        async with asyncio.timeout(PATIENCE):
            while len(self.links) <= number:
                self._news.clear()
                await self._news.wait()
        return self.links[number]

    def log(self) -> str:
        path = self.project / "worker.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def _environ() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DFM_", "MAKE", "MFLAGS", "SLURM", "LSB"))
    }


def welcome(**changes: object) -> Welcome:
    terms: dict[str, object] = {
        "epoch": 1,
        "heartbeat_seconds": 0.2,
        "silence_seconds": 60.0,
        "idle_seconds": 60.0,
        "lost_seconds": 60.0,
        "kill_grace_seconds": 0.3,
        "margin_seconds": 10.0,
    }
    return Welcome(**(terms | changes))  # type: ignore[arg-type]  # a test's own words


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path)
    await made.start()
    yield made
    await made.stop()
    for process in made.processes:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
    token = f"dfm-worker/{made.access().project}/s1"
    for pid in token_holders(RUN_TOKEN, token):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[[Body], TaskRequest]:
    def make(body: Body, **env: str) -> TaskRequest:
        rundir = tmp_path / "rundir"
        rundir.mkdir(exist_ok=True)
        return TaskRequest(
            run_id="run", task="task", attempt=1, rundir=str(rundir), srcdir=str(tmp_path), root_pkgdir=str(tmp_path),
            root_rundir=str(rundir), artefact="task", body=body, params={}, inputs=[], memento=None,
            env={"PATH": os.environ["PATH"], **env},
        )  # fmt: skip

    return make


RequestOf = Callable[[Body], TaskRequest]


def run_of(request: TaskRequest, attempt: int = 1, wall_seconds: float | None = None) -> Run:
    return Run(attempt=attempt, number=1, task=request.task, spec=encode_request(request), wall_seconds=wall_seconds)


async def ready(daemon: Daemon, *words: str, number: int = 0, **changes: object) -> Link:
    await daemon.worker(*words)
    link = await daemon.link(number)
    await link.heard(Hello)
    link.channel.send(welcome(**changes))
    return link


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  (files and processes have no event to wait for)
            await asyncio.sleep(0.02)


def outcome(result: Result) -> TaskResult:
    return decode_result(result.body)


def is_alive(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return words[0] not in ("Z", "X")


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


async def test_worker_says_what_slurm_calls_its_job_and_its_node_and_which_life_of_the_job_this_is(
    daemon: Daemon,
) -> None:
    await daemon.worker(SLURM_JOB_ID="7", SLURM_RESTART_COUNT="2", SLURMD_NODENAME="n7")
    hello = await (await daemon.link()).heard(Hello)
    assert (hello.job_id, hello.host, hello.restarts) == ("7", "n7", 2)


async def test_script_runs_and_its_result_is_kept_until_it_is_acknowledged(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("echo hello; dfm-out fileset a *.txt; echo x > a.txt; exit 3")), 7))
    assert (await link.heard(Started)).attempt == 7
    result = await link.heard(Result)
    told = outcome(result)
    assert (result.attempt, result.outcome, told.outcome, told.status) == (7, "failed", Outcome.FAILED, 3)
    assert told.seconds > 0
    assert told.max_rss_bytes > 0
    kept = list(Path(daemon.directory).rglob("*.result"))
    assert [path.name for path in kept] == ["7.result"]
    link.channel.send(Ack(attempt=7), Drain())
    assert (await link.heard(Leaving)).reason == "drained"
    assert await daemon.processes[0].wait() == 0
    assert list(Path(daemon.directory).rglob("*.result")) == []
    assert "hello" in (tmp_path / "rundir" / "task.log").read_text(encoding="utf-8")


async def test_python_body_runs_in_a_child_with_the_environment_that_was_sent(
    daemon: Daemon, request_of: RequestOf
) -> None:
    link = await ready(daemon)
    request = request_of(PythonBody(PythonSource.INLINE, "import os\nctxt.info(os.environ['COLOUR'])"))
    base = {**request.env, "COLOUR": "blue\udcff"}
    message = environment_message(base)
    sent = TaskRequest(**{name: getattr(request, name) for name in request.__dataclass_fields__} | {"env": base})
    spec = encode_request(sent, base)
    link.channel.send(message, Run(attempt=1, number=1, task="t", spec=spec, environment=message.digest))
    told = outcome(await link.heard(Result))
    assert (told.outcome, [marker.msg for marker in told.markers]) == (Outcome.SUCCEEDED, ["blue\udcff"])


@pytest.fixture
def cramped() -> Iterator[str]:
    """Return a shell command that enters a control group with 64 MiB of memory."""
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    paths = {name: path for line in lines for name, path in [line.split(":", 2)[1:]]}
    group = Path(f"/sys/fs/cgroup/memory{paths.get('memory', '')}/dfm-test-{os.getpid()}-{time.monotonic_ns()}")
    limit = group / "memory.limit_in_bytes"
    if "memory" not in paths:
        group = Path(f"/sys/fs/cgroup{paths.get('', '')}/{group.name}")
        limit = group / "memory.max"
    try:
        group.mkdir()
        limit.write_text(f"{64 << 20}", encoding="ascii")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield f"echo $$ > {group}/cgroup.procs"
    end = time.monotonic() + PATIENCE
    while (group / "cgroup.procs").read_text(encoding="ascii") and time.monotonic() < end:
        time.sleep(0.02)
    group.rmdir()


async def test_task_that_the_kernel_kills_for_memory_is_told_as_such_and_its_worker_goes_on(
    cramped: str, daemon: Daemon, request_of: RequestOf
) -> None:
    await daemon.worker(first=cramped)
    link = await daemon.link()
    await link.heard(Hello)
    link.channel.send(welcome())
    glutton = f"{sys.executable} -c 'bytearray(300 << 20)'"
    link.channel.send(run_of(request_of(ShellBody(f"exec {glutton}"))), run_of(request_of(ShellBody("exit 9")), 2))
    killed = await link.heard(Result, lambda result: result.attempt == 1)
    told = outcome(killed)
    assert (killed.is_out_of_memory, told.outcome, told.status) == (True, Outcome.FAILED, 137)
    assert told.cause == "out of memory: killed by signal 9 (SIGKILL)"
    assert not (await link.heard(Result, lambda result: result.attempt == 2)).is_out_of_memory


async def test_python_body_that_a_limit_keeps_from_memory_is_told_as_such(
    daemon: Daemon, request_of: RequestOf
) -> None:
    await daemon.worker(first="ulimit -v 2000000")
    link = await daemon.link()
    await link.heard(Hello)
    link.channel.send(welcome(), run_of(request_of(PythonBody(PythonSource.INLINE, "bytearray(4 << 30)"))))
    result = await link.heard(Result)
    assert (result.is_out_of_memory, result.outcome) == (True, "failed")
    assert (outcome(result).cause or "").startswith("out of memory: MemoryError")


async def test_cancelled_attempt_is_dead_with_all_that_left_its_session(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    link = await ready(daemon)
    script = "setsid sh -c 'trap \"\" TERM; echo $$ > far.part; mv far.part far; while :; do sleep 1; done' & sleep 600"
    link.channel.send(run_of(request_of(ShellBody(script))))
    far = tmp_path / "rundir" / "far"
    await until(far.exists)
    pid = int(far.read_text(encoding="utf-8"))
    link.channel.send(CancelAttempt(attempt=1))
    assert (await link.heard(Result)).outcome == "lost"
    await until(lambda: not is_alive(pid))


async def test_attempt_that_is_cancelled_before_it_begins_ends_all_the_same(
    daemon: Daemon, request_of: RequestOf
) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("sleep 600"))), CancelAttempt(attempt=1))
    assert (await link.heard(Result)).outcome == "lost"
    link.channel.send(Ack(attempt=1), Drain())
    assert (await link.heard(Leaving)).reason == "drained"


async def test_attempt_beyond_its_walltime_fails_and_says_so(daemon: Daemon, request_of: RequestOf) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("sleep 600")), wall_seconds=0.2))
    told = outcome(await link.heard(Result))
    assert (told.outcome, told.cause) == (Outcome.FAILED, "walltime of 0.2 s exceeded")


async def test_missing_run_directory_is_the_host_s_fault(daemon: Daemon, request_of: RequestOf, tmp_path: Path) -> None:
    link = await ready(daemon)
    run = run_of(request_of(ShellBody("true")))
    (tmp_path / "rundir").rmdir()
    link.channel.send(run)
    result = await link.heard(Result)
    assert (result.outcome, result.is_infrastructure) == ("lost", True)


async def test_fifty_megabytes_of_memento_and_a_large_log_travel_or_stay(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    link = await ready(daemon)
    text = "return TaskOutput(memento='x' * 50_000_000)"
    inline = f"import sys\nfrom dfm.api.task import TaskOutput\nfor _ in range(200): sys.stdout.write('y' * 1_000_000)\n{text}"
    link.channel.send(run_of(request_of(PythonBody(PythonSource.INLINE, inline))))
    told = outcome(await link.heard(Result))
    assert told.outcome is Outcome.SUCCEEDED, told.cause
    assert len(told.memento) == 50_000_000
    assert (tmp_path / "rundir" / "task.log").stat().st_size == 200_000_000


async def test_make_inside_a_task_gets_the_worker_s_tokens(daemon: Daemon, request_of: RequestOf) -> None:
    link = await ready(daemon, "--cores", "3")
    inline = "import os\nctxt.info(os.environ['MAKEFLAGS'])"
    link.channel.send(run_of(request_of(PythonBody(PythonSource.INLINE, inline))))
    told = outcome(await link.heard(Result))
    assert "-j3" in told.markers[0].msg


async def test_result_that_was_not_acknowledged_is_told_again_by_the_next_life_of_the_slot(
    daemon: Daemon, request_of: RequestOf
) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("true")), 5))
    first = await link.heard(Result)
    daemon.processes[0].kill()
    await daemon.processes[0].wait()
    await link.is_closed()
    await daemon.worker()
    second = await daemon.link(1)
    assert (await second.heard(Hello)).finished == [5]
    second.channel.send(welcome())
    assert await second.heard(Result) == first


async def test_result_survives_a_death_between_its_end_and_its_telling(daemon: Daemon, request_of: RequestOf) -> None:
    process = await daemon.worker(DFM_CRASHPOINT="worker.result_kept", DFM_CRASHPOINT_ARMED="yes")
    link = await daemon.link()
    await link.heard(Hello)
    link.channel.send(welcome(), run_of(request_of(ShellBody("true")), 5))
    assert await process.wait() == -signal.SIGKILL
    await link.is_closed()
    assert [message for message in link.said if isinstance(message, Result)] == []
    await daemon.worker()
    second = await daemon.link(1)
    assert (await second.heard(Hello)).finished == [5]
    second.channel.send(welcome())
    assert (await second.heard(Result)).outcome == "succeeded"


async def test_next_life_of_a_slot_kills_what_the_killed_one_left(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("setsid sh -c 'echo $$ > p; mv p far; exec sleep 600' & wait"))))
    far = tmp_path / "rundir" / "far"
    await until(far.exists)
    pid = int(far.read_text(encoding="utf-8"))
    daemon.processes[0].kill()
    await daemon.processes[0].wait()
    await daemon.worker()
    await (await daemon.link(1)).heard(Hello)
    await until(lambda: not is_alive(pid))


async def test_running_attempt_survives_a_reconnection(daemon: Daemon, request_of: RequestOf, tmp_path: Path) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("echo > begun; until test -e go; do sleep 0.05; done"))))
    await until((tmp_path / "rundir" / "begun").exists)
    await daemon.stop()
    await daemon.start()
    second = await daemon.link(1)
    assert (await second.heard(Hello)).running == [1]
    second.channel.send(welcome(keep=[1]))
    (tmp_path / "rundir" / "go").touch()
    assert (await second.heard(Result)).outcome == "succeeded"


async def test_attempt_that_is_not_kept_at_the_reconnection_is_killed(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("echo $$ > p; mv p begun; exec sleep 600"))))
    begun = tmp_path / "rundir" / "begun"
    await until(begun.exists)
    pid = int(begun.read_text(encoding="utf-8"))
    link.channel.abort("cut")
    second = await daemon.link(1)
    await second.heard(Hello)
    second.channel.send(welcome())
    await until(lambda: not is_alive(pid))
    second.channel.send(Drain())
    assert (await second.heard(Leaving)).reason == "drained"
    assert [message for message in second.said if isinstance(message, Result)] == []


async def test_thawed_worker_asks_anew_before_it_tells_a_result(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    link = await ready(daemon, silence_seconds=1.5)
    beating = asyncio.get_running_loop().create_task(_beat(link))
    link.channel.send(run_of(request_of(ShellBody("echo > begun; until test -e go; do sleep 0.05; done"))))
    await until((tmp_path / "rundir" / "begun").exists)
    process = daemon.processes[0]
    process.send_signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    (tmp_path / "rundir" / "go").touch()
    await until(lambda: time.monotonic() - frozen_at > 2.5)
    process.send_signal(signal.SIGCONT)
    second = await daemon.link(1)
    await second.heard(Hello)
    beating.cancel()
    assert [message for message in link.said if isinstance(message, Result)] == []
    second.channel.send(welcome(keep=[1], silence_seconds=60.0))
    assert (await second.heard(Result)).outcome == "succeeded"


@pytest.mark.parametrize("point", ["worker.assigned", "worker.starting", "execute.staged"])
async def test_attempt_that_was_frozen_before_it_began_and_is_not_wanted_writes_nothing(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path, point: str
) -> None:
    process = await daemon.worker(DFM_CRASHPOINT=point, DFM_CRASHPOINT_ARMED="stop")
    link = await daemon.link()
    await link.heard(Hello)
    link.channel.send(welcome(silence_seconds=1.5))
    beating = asyncio.get_running_loop().create_task(_beat(link))
    link.channel.send(run_of(request_of(ShellBody("echo > begun; sleep 600"))))
    await until(lambda: is_stopped(process.pid))
    frozen_at = time.monotonic()
    await until(lambda: time.monotonic() - frozen_at > 2.0)
    process.send_signal(signal.SIGCONT)
    second = await daemon.link(1)
    await second.heard(Hello)
    beating.cancel()
    second.channel.send(welcome(silence_seconds=60.0))
    second.channel.send(Drain())
    assert (await second.heard(Leaving)).reason == "drained"
    assert not (tmp_path / "rundir" / "begun").exists()


async def _beat(link: Link) -> None:
    while True:
        link.channel.send(Beat())
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
async def test_signal_makes_the_worker_vacate_and_kill_its_tree(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path, number: signal.Signals
) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("trap '' TERM; echo $$ > p; mv p begun; sleep 600; sleep 600"))))
    begun = tmp_path / "rundir" / "begun"
    await until(begun.exists)
    daemon.processes[0].send_signal(number)
    vacating = await link.heard(Vacating)
    reason = "preempted" if number in (signal.SIGUSR1, signal.SIGUSR2) else "signal"
    assert (vacating.reason, vacating.dropped) == (reason, [1])
    assert await daemon.processes[0].wait() == 143
    assert not is_alive(int(begun.read_text(encoding="utf-8")))


async def test_signal_to_all_processes_of_a_batch_job_fails_no_attempt(
    daemon: Daemon, request_of: RequestOf, tmp_path: Path
) -> None:
    worker = await daemon.worker(SLURM_JOB_ID="7")
    link = await daemon.link(0)
    await link.heard(Hello)
    link.channel.send(welcome(), run_of(request_of(ShellBody("echo $$ > p; mv p begun; exec sleep 600"))))
    begun = tmp_path / "rundir" / "begun"
    await until(begun.exists)
    os.kill(int(begun.read_text(encoding="utf-8")), signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    assert (await link.heard(Vacating)).dropped == [1]
    assert await worker.wait() == 143
    assert [message for message in link.said if isinstance(message, Result)] == []


async def test_idle_worker_leaves(daemon: Daemon) -> None:
    link = await ready(daemon, idle_seconds=0.2)
    assert (await link.heard(Leaving)).reason == "idle"
    assert await daemon.processes[0].wait() == 0


async def test_worker_leaves_when_its_daemon_is_lost(daemon: Daemon, request_of: RequestOf, tmp_path: Path) -> None:
    link = await ready(daemon, lost_seconds=1.0)
    link.channel.send(run_of(request_of(ShellBody("echo $$ > p; mv p begun; exec sleep 600"))))
    begun = tmp_path / "rundir" / "begun"
    await until(begun.exists)
    await daemon.stop()
    assert await daemon.processes[0].wait() == 7
    assert not is_alive(int(begun.read_text(encoding="utf-8")))


async def test_exit_kills_at_once(daemon: Daemon, request_of: RequestOf, tmp_path: Path) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("echo > begun; sleep 600"))))
    await until((tmp_path / "rundir" / "begun").exists)
    link.channel.send(Exit(why="another life of the slot has taken over"))
    assert await daemon.processes[0].wait() == 0
    assert "another life of the slot has taken over" in daemon.log()


async def test_worker_near_its_limit_takes_nothing_that_does_not_fit(daemon: Daemon, request_of: RequestOf) -> None:
    link = await ready(daemon, "--lives", "1000", margin_seconds=100.0)
    link.channel.send(run_of(request_of(ShellBody("true")), wall_seconds=950.0))
    vacating = await link.heard(Vacating)
    assert (vacating.reason, vacating.dropped) == ("walltime", [1])
    assert await daemon.processes[0].wait() == 0


async def test_worker_in_another_directory_says_that_it_is_unfit(daemon: Daemon, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await daemon.worker("--directory", str(tmp_path), cwd=elsewhere)
    link = await daemon.link()
    assert (await link.heard(Hello)).unfit == f"started in {elsewhere} and not in {tmp_path}"
    link.channel.send(welcome())
    assert (await link.heard(Leaving)).reason.startswith("unfit: ")
    assert await daemon.processes[0].wait() == 6


async def test_worker_that_sees_other_files_than_the_daemon_is_unfit(daemon: Daemon, tmp_path: Path) -> None:
    root = plant_probe(str(tmp_path))
    daemon.roots = (Root(directory=root.directory, probe=root.probe, content="something else"),)
    write_access(daemon.directory, daemon.access())
    await daemon.worker()
    assert "holds something else" in (await (await daemon.link()).heard(Hello)).unfit


async def test_worker_with_the_right_files_is_fit(daemon: Daemon, tmp_path: Path) -> None:
    daemon.roots = (plant_probe(str(tmp_path)),)
    write_access(daemon.directory, daemon.access())
    await daemon.worker("--directory", str(tmp_path))
    assert (await (await daemon.link()).heard(Hello)).unfit == ""


async def test_worker_with_a_wrong_key_is_not_let_in_and_logs_every_address(daemon: Daemon) -> None:
    write_access(daemon.directory, daemon.access(new_key()))
    process = await daemon.worker()
    await until(lambda: "does not hold the key" in daemon.log())
    assert "trying 127.0.0.1" in daemon.log()
    assert daemon.links == []
    process.terminate()
    assert await process.wait() == 143


async def test_key_is_in_no_argv_environment_or_log(daemon: Daemon, request_of: RequestOf, tmp_path: Path) -> None:
    link = await ready(daemon)
    link.channel.send(run_of(request_of(ShellBody("tr '\\0' '\\n' < /proc/$PPID/environ; echo > begun; sleep 600"))))
    await until((tmp_path / "rundir" / "begun").exists)
    words = [daemon.key, base64.b64encode(daemon.key), daemon.key.hex().encode()]
    words.append(base64.b64encode(slot_key(daemon.key, "s1")))
    places = [Path(f"/proc/{daemon.processes[0].pid}/{name}") for name in ("cmdline", "environ")]
    places += [path for path in tmp_path.rglob("*") if path.is_file() and path != Path(daemon.path)]
    assert [(place, word) for place in places for word in words if word in place.read_bytes()] == []


async def test_start_loads_nothing_that_only_other_commands_need() -> None:
    check = "import sys, dfm.core.worker.process; print(*sorted({'yaml', 'click', 'pluggy', 'dfm.core.flow', 'dfm.core.expr', 'dfm.core.config'} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", check, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.split() == []
