"""Measuring commands: wall time, CPU time of the whole tree, peak memory; and what this machine can do at all."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command cost.

    Attributes:
        cpu: seconds of user and system time, children that were waited for included.
        peak: bytes of the largest process of the tree.
    """

    wall: float
    cpu: float
    peak: int


def cost(argv: Sequence[str], directory: Path, output: IO[str] | None = None, flows: Path | None = None) -> Cost:
    """Run a command that must succeed and return what it cost.

    Args:
        argv: the command.
        directory: where it runs.
        output: takes what it prints.
        flows: where dfm keeps loaded flows; None beside the project.
    """
    environ = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    environ["DFM_FLOW_CACHE"] = str(flows or directory / ".flows")
    started = time.monotonic()
    process = subprocess.Popen(
        argv, cwd=directory, env=environ, stdout=output or subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {process.returncode}: {said.decode(errors='replace')[-500:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def interleaved(cases: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """Return the median cost of each case; the cases take turns, so that a slow minute hits all of them."""
    seen: dict[str, list[Cost]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            seen[name].append(case())
    return {name: median(costs) for name, costs in seen.items()}


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each part."""
    return Cost(
        statistics.median(c.wall for c in costs),
        statistics.median(c.cpu for c in costs),
        max(c.peak for c in costs),
    )


def spawn_rate(count: int = 500) -> float:
    """Return how many processes a second this machine starts and reaps, one after the other."""
    started = time.monotonic()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return count / (time.monotonic() - started)


def machine() -> str:
    """Return what this machine is, in a line."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown CPU")
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}, load {load}"


def file_system(directory: Path) -> str:
    """Return the kind of the file system that a directory lies on, and where that is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    place = directory.resolve()
    above = [(words[1], words[2]) for words in mounts if place.is_relative_to(words[1])]
    where, kind = max(above, key=lambda mount: len(mount[0]))
    return f"{kind} ({where})"


_UNWANTED = ("MAKEFLAGS", "PYTHONDONTWRITEBYTECODE", "DV_FLOW_CACHE")
"""What would make one tool work in another way than a person's: a jobserver, no byte code, a cache."""
