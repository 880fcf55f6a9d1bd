"""A worker whose cable is pulled: nothing says so, and yet its task runs elsewhere within the lease, and counts once.

The cable is a proxy that lets nothing pass, or, where we may make one, a network of its own whose link goes down.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.integration.held import begun, is_gone, lines

from dfm.testing.fault_proxy import FaultProxy
from dfm.testing.project import QUICK_POOL, Project, wait_until

LEASE_SECONDS = 3.0
LIMIT_SECONDS = 16.0
"""The lease and what a busy machine needs for a worker; TCP itself would notice after 20 s."""
HELD = (
    'echo $$ >> "$DFM_SRCDIR/begun"; '
    'for i in $(seq 1200); do [ -e "$DFM_SRCDIR/go$DFM_ATTEMPT" ] && break; sleep 0.05; done; '
    'echo "$DFM_ATTEMPT" > attempt'
)
"""Attempt n waits for `go<n>` in the project."""
FIRST_BY_PROXY = """\
own="${{DFM_STATE_DIR%/private/state}}/first"
if mkdir -m 700 "$own" 2>/dev/null; then
  (umask 077; sed 's/"port": *[0-9]*/"port": {port}/' "$2" >"$own/access.json")
  shift 2
  set -- --access "$own/access.json" "$@"
fi
exec {python} -m dfm.core.worker "$@"
"""
FIRST_IN_NAMESPACE = """\
if mkdir "$DFM_STATE_DIR/first" 2>/dev/null; then
  exec ip netns exec {name} {python} -m dfm.core.worker "$@"
fi
exec {python} -m dfm.core.worker "$@"
"""


def write_script(project: Project, text: str) -> None:
    (project.directory / "worker.sh").write_text(text, encoding="utf-8")


def prepare(project: Project, **pool: object) -> None:
    project.write_flow({"held": HELD})
    command = ["/bin/sh", str(project.directory / "worker.sh")]
    lease = f"{LEASE_SECONDS / 0.1:g}s"
    project.write_settings({"pool": {**QUICK_POOL, "lease_timeout": lease, "worker_command": command, **pool}})


def port_of(project: Project) -> int:
    [access] = project.private.rglob("access.json")
    return int(json.loads(access.read_text(encoding="utf-8"))["port"])


def let_go(project: Project, attempt: int) -> None:
    (project.directory / f"go{attempt}").touch()


def first_worker(project: Project) -> int:
    [pid] = project.workers()
    return pid


def assert_second_counts(project: Project, run: "subprocess.Popen[str]") -> None:
    let_go(project, 2)
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stdout + stderr
    assert (project.rundir / "p.held" / "attempt").read_text(encoding="utf-8") == "2\n"
    counters = project.status()["counters"]
    assert (counters["committed"], counters["lost_attempts"]) == (1, 1)


@pytest.fixture
def proxied(project: Project) -> Iterator[FaultProxy]:
    """A daemon whose first worker comes through a proxy."""
    prepare(project)
    with project.daemon(), FaultProxy("127.0.0.1", port_of(project)) as proxy:
        write_script(project, FIRST_BY_PROXY.format(port=proxy.port, python=sys.executable))
        yield proxy


def test_the_task_of_a_silent_worker_runs_elsewhere_within_the_lease(project: Project, proxied: FaultProxy) -> None:
    with project.started("run", "--daemon", "held") as run:
        [body] = begun(project)
        worker = first_worker(project)
        proxied.stall()
        stalled = time.monotonic()
        begun(project, 2)
        assert time.monotonic() - stalled < LIMIT_SECONDS
        wait_until(lambda: is_gone(body), "the silent worker to stop what it runs")
        assert_second_counts(project, run)
        proxied.heal()
        wait_until(lambda: is_gone(str(worker)), "the worker that was given up to leave")


def test_what_ended_behind_a_pulled_cable_is_dropped_when_it_is_told_at_last(
    project: Project, proxied: FaultProxy
) -> None:
    with project.started("run", "--daemon", "held") as run:
        begun(project)
        worker = first_worker(project)
        proxied.stall()
        let_go(project, 1)
        wait_until(lambda: lines(project.rundir / "p.held" / "attempt") == ["1"], "the first attempt to end")
        begun(project, 2)
        proxied.heal()
        wait_until(lambda: is_gone(str(worker)), "the worker that was given up to leave")
        assert_second_counts(project, run)


def test_a_cable_that_is_back_in_time_costs_nothing(project: Project, proxied: FaultProxy) -> None:
    with project.started("run", "--daemon", "held") as run:
        begun(project)
        proxied.reset()
        wait_until(lambda: proxied.connections == 1, "the worker to come again")
        let_go(project, 1)
        stdout, stderr = run.communicate(timeout=60)
        assert run.returncode == 0, stdout + stderr
        counters = project.status()["counters"]
        assert (len(lines(project.directory / "begun")), counters["lost_attempts"]) == (1, 0)


# A real link.


def ip(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def link() -> Iterator[tuple[str, str]]:
    """A network namespace with one link to it: its name, and the address of this side."""
    number = os.getpid() % 16384
    name, here, there = f"dfmtest{number}", f"dfmh{number}", f"dfmt{number}"
    net = f"10.213.{number // 64}.{number % 64 * 4}"
    base, last = net.rsplit(".", 1)
    mine, its = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"
    if shutil.which("ip") is None:
        pytest.skip("no network namespace can be made here: the program `ip` is absent")
    made = ip("netns", "add", name)
    if made.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        for words in (
            f"link add {here} type veth peer name {there} netns {name}",
            f"addr add {mine}/30 dev {here}",
            f"link set {here} up",
            f"-n {name} addr add {its}/30 dev {there}",
            f"-n {name} link set {there} up",
            f"-n {name} link set lo up",
        ):
            done = ip(*words.split())
            if done.returncode != 0:
                pytest.skip(f"no network can be made here: ip {words}: {done.stderr.strip()}")
        yield here, mine
    finally:
        ip("netns", "del", name)


def test_the_task_of_a_worker_whose_network_is_down_runs_elsewhere(project: Project, link: tuple[str, str]) -> None:
    interface, address = link
    name = interface.replace("dfmh", "dfmtest")
    prepare(project, addresses=[address, "127.0.0.1"])
    write_script(project, FIRST_IN_NAMESPACE.format(name=name, python=sys.executable))
    with project.daemon(), project.started("run", "--daemon", "held") as run:
        [body] = begun(project)
        worker = first_worker(project)
        assert ip("link", "set", interface, "down").returncode == 0
        # The address went with the link: what comes next finds it at another place of this host.
        assert ip("addr", "add", f"{address}/32", "dev", "lo").returncode == 0
        try:
            down = time.monotonic()
            begun(project, 2)
            assert time.monotonic() - down < LIMIT_SECONDS
            wait_until(lambda: is_gone(body), "the cut off worker to stop what it runs")
            assert_second_counts(project, run)
        finally:
            ip("addr", "del", f"{address}/32", "dev", "lo")
        assert ip("link", "set", interface, "up").returncode == 0
        wait_until(lambda: is_gone(str(worker)), "the worker that was given up to leave")
