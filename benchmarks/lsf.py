"""Runs on the fake LSF: how many submissions many tasks cost, how long the first start takes, and a warm one.

The fake has real processes and a scheduler that looks every tenth of a second here; what it takes to start a job is
measured and taken off. Trust the counts; the milliseconds are of this machine at that moment.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path

from dfm.api.runner import ShellBody
from dfm.core.pooled import DaemonUse
from dfm.testing.fake_lsf import FakeLsf
from dfm.testing.opening import opened
from dfm.testing.project import Project
from dfm.testing.tasks import Workspace

SPEED = 100
STAMP = "date +%s%N > started"


def new_project(parent: Path, name: str, lsf: FakeLsf) -> Project:
    """Return a project whose runner is the fake LSF, with two workers at most."""
    directory = parent / name
    directory.mkdir()
    project = Project(directory)
    project.environ["PATH"] = lsf.environ["PATH"]
    project.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed DFM has its byte code
    pool = {"max_workers": 2, "addresses": ["127.0.0.1"]}
    limits = {"walltime": None}  # an hour of LSF's is over in 36 s here
    project.write_settings({"default": "lsf", "pool": pool, "defaults": limits})
    return project


def submissions(lsf: FakeLsf) -> int:
    """Return how many jobs were submitted so far."""
    return sum(call.argv != ("-V",) for call in lsf.invocations("bsub"))


def many_tasks(parent: Path, lsf: FakeLsf, count: int, milliseconds: int) -> tuple[int, float]:
    """Run many short tasks on two pilots; return the number of bsub calls and the seconds it took."""
    project = new_project(parent, "many", lsf)
    names = [f"t{number}" for number in range(count)]
    tasks: dict[str, object] = {name: {"run": f"sleep {milliseconds / 1000:g}", "shell": "sh"} for name in names}
    project.write_flow({**tasks, "all": {"run": "true", "needs": names}})  # type: ignore[dict-item]
    before, started = submissions(lsf), time.monotonic()
    answer = project.dfm("run", "all", "-q", timeout=1800)
    assert answer.returncode == 0, answer.stderr
    return submissions(lsf) - before, time.monotonic() - started


def first_start(parent: Path, lsf: FakeLsf, number: int) -> tuple[float, float, float]:
    """Return seconds from `dfm run` to the first task's start, those LSF took, and those of `dfm --version`."""
    project = new_project(parent, f"first{number}", lsf)
    project.write_flow({"a": {"run": STAMP, "shell": "sh"}})
    began = time.time_ns()
    project.dfm("--version")
    version = (time.time_ns() - began) / 1e9
    began = time.time_ns()
    answer = project.dfm("run", "a")
    assert answer.returncode == 0, answer.stderr
    at = int((project.rundir / "p.a" / "started").read_text(encoding="utf-8"))
    job = lsf.jobs()[-1]
    return (at - began) / 1e9, job.started_at - job.submitted_at, version


async def warm_starts(parent: Path, lsf: FakeLsf, count: int) -> list[float]:
    """Return the milliseconds from submission to start of single tasks on a daemon with an idle worker."""
    project = new_project(parent, "warm", lsf)
    project.write_flow({"a": "true"})
    workspace = Workspace(project.directory)
    found = []
    with project.daemon("--runner", "lsf"):
        link = opened(
            "lsf",
            workspace,
            environ=project.environ,
            project=str(project.directory),
            use=DaemonUse.ALWAYS,
            run_id=uuid.uuid4().hex,
        )
        async with link as runner:
            await runner.run(workspace.shell("true"))
            for _ in range(count):
                request = workspace.request(ShellBody(STAMP, "sh"))
                began = time.time_ns()
                await runner.run(request)
                at = int((Path(request.rundir) / "started").read_text(encoding="utf-8"))
                found.append((at - began) / 1e6)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--milliseconds", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dfm-bench-") as name, FakeLsf(name, speed=SPEED) as lsf:
        parent = Path(name)
        os.environ["PATH"] = lsf.environ["PATH"]
        firsts = [first_start(parent, lsf, number) for number in range(arguments.rounds)]
        warm = sorted(asyncio.run(warm_starts(parent, lsf, arguments.warm)))
        calls, seconds = many_tasks(parent, lsf, arguments.tasks, arguments.milliseconds)
    ours = statistics.median(total - scheduler for total, scheduler, _ in firsts)
    version = statistics.median(version for _, _, version in firsts)
    ideal = arguments.tasks * arguments.milliseconds / 1000 / 2
    rows = [
        (f"{arguments.tasks} tasks of {arguments.milliseconds} ms on two pilots: bsub calls", f"{calls}", "at most 4"),
        (f"  seconds (the bodies alone take {ideal:g} s)", f"{seconds:.1f}", ""),
        ("`dfm run` to first start, less LSF's own delay, median", f"{ours:.2f} s", "under 0.5 s"),
        ("  of which `dfm --version` alone, the start of the program", f"{version:.2f} s", ""),
        ("warm daemon, submission to start, p50", f"{statistics.median(warm):.1f} ms", "under 20 ms"),
        ("warm daemon, submission to start, p99", f"{warm[int(len(warm) * 0.99)]:.1f} ms", ""),
    ]
    width = max(len(row[0]) for row in rows)
    for what, value, wanted in rows:
        print(f"{what:<{width}}  {value:>9}  {wanted}".rstrip())
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
