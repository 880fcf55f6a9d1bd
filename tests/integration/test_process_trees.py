"""Process trees: every end is told, and nothing of a body outlives it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from dfm.core.execute.process import Ended, ForkedCall, Launch, ProcessTrees, StartError, token_holders

Trees = ProcessTrees


@pytest.fixture
def output(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
async def trees() -> AsyncIterator[ProcessTrees]:
    async with ProcessTrees(f"run-{os.getpid()}", grace=0.3) as opened:
        yield opened


@pytest.fixture
def sh(tmp_path: Path, output: int) -> Callable[[str], Launch]:
    def launch(script: str) -> Launch:
        return Launch(
            argv=["/bin/sh", "-c", script], cwd=str(tmp_path), env=dict(os.environ), output=output, token=f"{tmp_path}"
        )

    return launch


def children() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[1]) == os.getpid():
                found.add(int(entry.name))
    return found


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  (a process has no event for it)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "status", "number"),
    [("exit 0", 0, None), ("exit 3", 3, None), ("kill -SEGV $$", 139, 11), ("kill -KILL $$", 137, 9)],
)
async def test_every_end_is_told(
    trees: Trees, sh: Callable[[str], Launch], script: str, status: int, number: int | None
) -> None:
    ended = await trees.run(sh(script))
    assert (ended.status, ended.signal) == (status, number)


async def test_time_and_memory_are_those_of_the_body(trees: Trees, tmp_path: Path, output: int) -> None:
    burn = "x = bytearray(60_000_000); s = sum(range(3_000_000))"
    ended = await trees.run(
        Launch(argv=[sys.executable, "-S", "-c", burn], cwd=str(tmp_path), env={}, output=output, token="t")
    )
    assert ended.max_rss_bytes > 60_000_000
    assert 0 < ended.cpu_seconds < 60


@pytest.mark.parametrize(("argv", "status"), [(["/no/such/program"], 127), (["/etc/passwd"], 126)])
async def test_what_cannot_start_says_why(
    trees: Trees, tmp_path: Path, output: int, argv: list[str], status: int
) -> None:
    with pytest.raises(StartError) as caught:
        await trees.run(Launch(argv=argv, cwd=str(tmp_path), env={}, output=output, token="t"))
    assert caught.value.status == status
    assert argv[0] in str(caught.value)


async def test_a_working_directory_that_is_gone_is_named(trees: Trees, tmp_path: Path, output: int) -> None:
    with pytest.raises(StartError, match=r"the directory .* does not exist"):
        await trees.run(Launch(argv=["/bin/true"], cwd=str(tmp_path / "gone"), env={}, output=output, token="t"))


async def test_stdin_is_empty_and_the_body_leads_its_own_session(
    trees: Trees, sh: Callable[[str], Launch], tmp_path: Path
) -> None:
    await trees.run(sh("cat; read pid comm state ppid pgrp sid rest < /proc/$$/stat; echo $sid > sid; echo $$ > pid"))
    assert (tmp_path / "sid").read_text(encoding="utf-8").split() == (tmp_path / "pid").read_text(
        encoding="utf-8"
    ).split()


async def test_a_daemon_that_left_the_session_and_ignores_signals_is_gone_after_a_failure(
    trees: Trees, sh: Callable[[str], Launch], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "up")
    ended = await trees.run(
        sh(
            "setsid sh -c 'trap \"\" TERM HUP INT; (nohup sleep 1000 & echo $! > pid; echo > up; wait)' & read x < up; exit 1"
        )
    )
    assert ended.status == 1
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    assert not Path(f"/proc/{pid}").exists()


async def test_a_daemon_of_a_good_task_is_gone_when_the_run_ends(sh: Callable[[str], Launch], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    before = children()
    async with ProcessTrees("run-d") as trees:
        await trees.run(sh("env -i setsid sh -c 'echo $$ > pid; echo > up; sleep 1000' & read x < up; exit 0"))
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    assert not Path(f"/proc/{pid}").exists()
    assert children() == before


async def test_cancelling_ends_a_body_that_ignores_sigterm(
    trees: Trees, sh: Callable[[str], Launch], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "up")
    task = asyncio.ensure_future(trees.run(sh("trap '' TERM; echo $$ > pid; echo > up; while :; do sleep 1000; done")))  # noqa: TID251
    await asyncio.to_thread((tmp_path / "up").read_text)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text(encoding='utf-8'))}").exists()


async def test_what_is_held_does_nothing_until_it_goes_on_and_nothing_begins(
    trees: Trees, sh: Callable[[str], Launch], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "up")
    script = "setsid sh -c 'echo $$ > left; exec sleep 1000' & until test -s left; do :; done; echo $$ > pid; echo > up"
    first = asyncio.ensure_future(trees.run(sh(f"{script}; until test -e go; do :; done; exit 3")))  # noqa: TID251
    await asyncio.to_thread((tmp_path / "up").read_text)
    pids = [int((tmp_path / name).read_text(encoding="utf-8")) for name in ("pid", "left")]
    trees.hold()
    second = asyncio.ensure_future(trees.may_start())  # noqa: TID251
    (tmp_path / "go").touch()
    await until(lambda: [state_of(pid) for pid in pids] == ["T", "T"])
    assert not first.done()
    assert not second.done()
    trees.go_on()
    assert (await first).status == 3
    await second


async def test_what_is_held_and_cancelled_is_killed_without_another_step(
    trees: Trees, sh: Callable[[str], Launch], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "up")
    script = "trap 'echo > cleaned; exit' TERM; echo $$ > pid; echo > up; while :; do sleep 0.01; done"
    task = asyncio.ensure_future(trees.run(sh(script)))  # noqa: TID251
    await asyncio.to_thread((tmp_path / "up").read_text)
    trees.hold()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert state_of(int((tmp_path / "pid").read_text(encoding="utf-8"))) == ""
    assert not (tmp_path / "cleaned").exists()


async def test_a_thousand_short_bodies_are_all_told_right_and_leave_no_descriptor(
    trees: Trees, sh: Callable[[str], Launch]
) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def some(first: int) -> list[Ended]:
        return [await trees.run(sh(f"exit {number % 7}")) for number in range(first, 1000, 8)]

    found = await asyncio.gather(*(some(first) for first in range(8)))
    for first, row in enumerate(found):
        assert [ended.status for ended in row] == [number % 7 for number in range(first, 1000, 8)]
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_forked_call_is_isolated(trees: Trees, tmp_path: Path, output: int) -> None:
    def body() -> int:
        os.environ["LEAK"] = "1"
        os.chdir("/")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        print("said", os.environ["MINE"])
        return 5

    ended = await trees.call(ForkedCall(function=body, cwd=str(tmp_path), env={"MINE": "x"}, output=output, token="t"))
    assert ended.status == 5
    assert (tmp_path / "log").read_text(encoding="utf-8") == "said x\n"
    assert "LEAK" not in os.environ
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


async def test_an_exception_in_a_forked_call_is_status_1_with_a_traceback(
    trees: Trees, tmp_path: Path, output: int
) -> None:
    def body() -> int:
        raise ValueError("no good")

    ended = await trees.call(ForkedCall(function=body, cwd=str(tmp_path), env={}, output=output, token="t"))
    assert ended.status == 1
    assert "ValueError: no good" in (tmp_path / "log").read_text(encoding="utf-8")


HOST = """
import asyncio, os, sys
from dfm.core.execute.guard import start_guard
from dfm.core.execute.process import Launch, ProcessTrees
guard = start_guard("token-of-" + sys.argv[1], [])
async def main():
    async with ProcessTrees("token-of-" + sys.argv[1]) as trees:
        output = os.open(os.devnull, os.O_WRONLY)
        await trees.run(Launch(argv=["/bin/sh", "-c", sys.argv[2]], cwd=".", env=dict(os.environ), output=output, token="a"))
asyncio.run(main())
guard.dismiss()
"""


def test_the_guard_kills_what_a_killed_run_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    script = "setsid sh -c 'sleep 1000 & sleep 1000' & echo > up; sleep 1000"
    host = subprocess.Popen([sys.executable, "-c", HOST, str(tmp_path), script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert (tmp_path / "up").read_text(encoding="utf-8") == "\n"
    assert token_holders("DFM_RUN_TOKEN", f"token-of-{tmp_path}")
    host.kill()
    host.communicate(timeout=20)
    for _ in range(1000):
        if not token_holders("DFM_RUN_TOKEN", f"token-of-{tmp_path}"):
            break
        os.sched_yield()
    else:
        pytest.fail("the guard left processes behind")


def test_a_dismissed_guard_is_gone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOST, str(tmp_path), "exit 0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
