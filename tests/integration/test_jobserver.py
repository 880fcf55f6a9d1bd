"""Real makes and ninjas under our jobserver, and we under theirs."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from dfm.core.jobserver.choose import token_source
from dfm.core.jobserver.owner import TokenServer, left_directories, stale_directories
from dfm.core.jobserver.tokens import Lease, TokenSource

RECIPE = """\
# recipe.sh COUNTER NAME: be one of those that run, for a while.
me=$(mktemp -d "$1/XXXXXX")
ls "$1" | wc -l >> "$1.peaks"
sleep 0.03
ls "$1" | wc -l >> "$1.peaks"
rmdir "$me"
"""
MAKEFILE = "all: $(addprefix t,1 2 3 4 5 6 7 8)\nt%:\n\t@sh recipe.sh $(CURDIR)/counter $@\n"
SUB_MAKEFILE = "all:\n\t@$(MAKE) -f Makefile all\n"
NINJA = "rule r\n  command = sh recipe.sh $$PWD/counter $out\n" + "".join(f"build n{n}: r\n" for n in range(8))


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    for name, text in (("recipe.sh", RECIPE), ("Makefile", MAKEFILE), ("sub.mk", SUB_MAKEFILE), ("build.ninja", NINJA)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "counter").mkdir()
    return tmp_path


@pytest.fixture
def tools(environ: dict[str, str]) -> dict[str, str]:
    """An environment in which the ninja beside this interpreter is found first."""
    return environ | {"PATH": f"{Path(sys.executable).parent}:{environ['PATH']}"}


def peaks(yard: Path) -> list[int]:
    return [int(line) for line in (yard / "counter.peaks").read_text(encoding="utf-8").split()]


async def body(lease: Lease, argv: Sequence[str], cwd: Path, environ: dict[str, str]) -> "asyncio.subprocess.Process":
    return await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env={**environ, **lease.environment},
        pass_fds=lease.pass_fds,
        start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def run_all(
    source: TokenSource, commands: Sequence[Sequence[str]], cwd: Path, environ: dict[str, str]
) -> list[int]:
    async def one(argv: Sequence[str]) -> int:
        lease = await source.acquire()
        process = await body(lease, argv, cwd, environ)
        status = await process.wait()
        source.release(lease, is_clean=status == 0)
        return status

    return list(await asyncio.gather(*(one(argv) for argv in commands)))


@needs_make
@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize(
    "commands",
    [
        [["make", "all"]],
        [["ninja"]],
        [["make", "-f", "sub.mk"]],
        [["make", "all"], ["ninja"], ["make", "-f", "sub.mk"]],
    ],
)
async def test_makes_and_ninjas_never_exceed_the_jobs_and_use_them(
    yard: Path, tools: dict[str, str], jobs: int, commands: list[list[str]]
) -> None:
    async with TokenServer(jobs) as server:
        assert set(await run_all(server, commands, yard, tools)) == {0}
        assert max(peaks(yard)) <= jobs
        assert max(peaks(yard)) > 1 or jobs == 1
        assert server._current.tokens() == jobs


async def lines_of(fd: int, count: int) -> None:
    """Wait until `count` lines have come through a FIFO."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        async with asyncio.timeout(20):
            while count > 0:
                await readable.wait()
                readable.clear()
                with contextlib.suppress(BlockingIOError):
                    count -= os.read(fd, 4096).count(b"\n")
    finally:
        loop.remove_reader(fd)


@needs_make
@pytest.mark.parametrize("recipes", [1, 2, 3])
async def test_tokens_of_a_killed_make_come_back(yard: Path, tools: dict[str, str], recipes: int) -> None:
    (yard / "kill.mk").write_text("all: a b c\na b c:\n\t@echo $@ > go; sleep 1000\n", encoding="utf-8")
    os.mkfifo(yard / "go")
    fd = os.open(yard / "go", os.O_RDWR | os.O_NONBLOCK)
    async with TokenServer(4) as server:
        for _ in range(5):
            other = await server.acquire()
            lease = await server.acquire()
            process = await body(lease, ["make", "-f", "kill.mk"], yard, tools)
            await lines_of(fd, recipes)
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            server.release(lease, is_clean=False)
            newer = await server.acquire()
            server.release(other, is_clean=True)
            assert server._current.tokens() == 3
            server.release(newer, is_clean=True)
            assert server._current.tokens() == 4
    os.close(fd)


async def test_a_cancelled_wait_loses_no_token() -> None:
    async with TokenServer(1) as server:
        lease = await server.acquire()
        waiting = [asyncio.ensure_future(server.acquire()) for _ in range(3)]  # noqa: TID251
        await asyncio.sleep(0)
        waiting[0].cancel()
        server.release(lease, is_clean=True)
        second = await waiting[1]
        waiting[2].cancel()
        server.release(second, is_clean=True)
        await asyncio.gather(*waiting, return_exceptions=True)
        assert server._current.tokens() == 1


async def test_those_who_wait_are_served_in_their_order() -> None:
    order: list[int] = []
    async with TokenServer(1) as server:
        first = await server.acquire()

        async def wait(number: int) -> None:
            lease = await server.acquire()
            order.append(number)
            server.release(lease, is_clean=True)

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(wait(number))
            await asyncio.sleep(0)
            server.release(first, is_clean=True)
    assert order == [0, 1, 2, 3, 4]


async def test_the_server_leaves_no_file_and_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with TokenServer(2, directory=str(tmp_path)):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


CLIENT = """
import asyncio, os, sys
from dfm.core.jobserver.choose import token_source
source, notice = token_source(None, os.environ, 8)
async def main():
    async with source:
        async def one():
            lease = await source.acquire()
            process = await asyncio.create_subprocess_exec("sh", "recipe.sh", os.getcwd() + "/counter", "x")
            await process.wait()
            source.release(lease, is_clean=True)
        await asyncio.gather(*(one() for _ in range(8)))
asyncio.run(main())
print(type(source).__name__, notice)
"""


@needs_make
def test_we_are_a_client_of_the_make_that_started_us(yard: Path, tools: dict[str, str]) -> None:
    (yard / "client.py").write_text(CLIENT, encoding="utf-8")
    (yard / "outer.mk").write_text(f"all: a b\na b:\n\t+@{sys.executable} client.py\n", encoding="utf-8")
    done = subprocess.run(
        ["make", "-j3", "-f", "outer.mk"], cwd=yard, env=tools, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split("\n")[:2] == ["TokenClient None"] * 2
    assert 1 < max(peaks(yard)) <= 3


async def test_a_client_of_a_fifo_gives_back_what_it_took(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"xy")
    source, notice = token_source(None, {"MAKEFLAGS": f" -j3 --jobserver-auth=fifo:{path}"}, 8)
    async with source:
        leases = [await source.acquire() for _ in range(3)]
        assert sorted(lease.token for lease in leases) == [b"", b"x", b"y"]
        source.release(leases[1], is_clean=True)
    assert (notice, sorted(os.read(fd, 9))) == (None, sorted(b"xy"))
    os.close(fd)


def test_an_unreachable_parent_means_one_thing_at_a_time_and_a_word_about_it() -> None:
    source, notice = token_source(None, {"MAKEFLAGS": " -j3 --jobserver-auth=fifo:/nowhere"}, 8)
    assert source.limit == 1
    assert notice is not None
    assert "cannot be opened" in notice


def test_our_own_j_overrules_a_parent_with_a_word_about_it() -> None:
    source, notice = token_source(5, {"MAKEFLAGS": " -j3 --jobserver-auth=3,4"}, 8)
    assert source.limit == 5
    assert notice is not None
    assert "-j5 given" in notice


@pytest.mark.parametrize("name", ["run-1", "worker-1-44[3]"])
async def test_what_a_killed_server_leaves_is_found_by_its_name(name: str) -> None:
    name = f"{name}-{os.getpid()}"
    async with TokenServer(1, name=name):
        assert len(left_directories(name)) == 1
    assert left_directories(name) == []


async def test_what_a_killed_server_left_is_stale_once_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, fifo in (("killed", "1"), ("empty", "")):
        (tmp_path / f"dfm-jobs-{name}-x").mkdir()
        if fifo:
            os.mkfifo(tmp_path / f"dfm-jobs-{name}-x" / fifo)
    async with TokenServer(2, name="alive"):
        assert stale_directories() == [], "they may be about to be opened"
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        stale = sorted(os.path.basename(path) for path in stale_directories())
        assert stale == ["dfm-jobs-empty-x", "dfm-jobs-killed-x"]
