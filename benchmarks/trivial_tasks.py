"""Trivial shell tasks, cold and with nothing to do: DFM beside ninja and make, as ratios in one run."""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SCRIPTS = Path(sys.executable).parent


def write_projects(directory: Path, tasks: int) -> None:
    """Write the same work for each tool: `tasks` commands that create one file each."""
    names = [f"t{number}" for number in range(tasks)]
    flow = "".join(f"  - {{name: {name}, shell: sh, run: touch out}}\n" for name in names)
    ninja = "".join(f"build out/{name}: r\n" for name in names)
    for tool, file, text in (
        ("dfm", "flow.yaml", f"package:\n  name: p\n  tasks:\n{flow}  - {{name: all, needs: [{', '.join(names)}]}}\n"),
        ("ninja", "build.ninja", f"rule r\n  command = touch $out\n{ninja}"),
        ("make", "Makefile", f"all: {' '.join(f'out/{name}' for name in names)}\nout/%:\n\t@touch $@ ;\n"),
    ):
        (directory / tool / "out").mkdir(parents=True)
        (directory / tool / file).write_text(text, encoding="utf-8")


def spawn_rate(count: int = 500) -> float:
    """Return how many processes a second this machine starts and reaps, one after the other."""
    started = time.monotonic()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return count / (time.monotonic() - started)


def clear(directory: Path) -> None:
    """Forget what was built."""
    shutil.rmtree(directory / "rundir", ignore_errors=True)
    for name in (".ninja_log", ".ninja_deps"):
        (directory / name).unlink(missing_ok=True)
    for path in (directory / "out").iterdir():
        path.unlink()


def seconds(argv: list[str], directory: Path) -> float:
    """Return how long a command takes; it must succeed."""
    environ = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    started = time.monotonic()
    subprocess.run(argv, cwd=directory, env=environ, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def measure(commands: Mapping[str, list[str]], root: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each tool, cold and with nothing to do; the tools take turns."""
    cold: dict[str, list[float]] = {tool: [] for tool in commands}
    again: dict[str, list[float]] = {tool: [] for tool in commands}
    for _ in range(rounds):
        for tool, argv in commands.items():
            clear(root / tool)
            cold[tool].append(seconds(argv, root / tool))
            again[tool].append(seconds(argv, root / tool))
    return {tool: (statistics.median(cold[tool]), statistics.median(again[tool])) for tool in commands}


def startup(rounds: int) -> dict[str, float]:
    """Return the least seconds of a few commands that do nothing."""
    dfm = str(SCRIPTS / "dfm")
    cases: dict[str, Callable[[], list[str]]] = {
        "python -c pass": lambda: [sys.executable, "-c", "pass"],
        "dfm --version": lambda: [dfm, "--version"],
        "dfm --help": lambda: [dfm, "--help"],
    }
    return {name: min(seconds(argv(), Path.cwd()) for _ in range(3 * rounds)) for name, argv in cases.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    jobs = f"-j{arguments.jobs}"
    ninja = shutil.which("ninja", path=f"{SCRIPTS}:{os.environ['PATH']}")
    commands = {"dfm": [str(SCRIPTS / "dfm"), "run", "all", jobs, "-q"]}
    commands |= {"ninja": [ninja, jobs, "--quiet"]} if ninja else {}
    commands |= {"make": ["make", jobs, "-s"]} if shutil.which("make") else {}
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {arguments.tasks} tasks, {jobs}, "
        f"median of {arguments.rounds}; calibration: {spawn_rate():.0f} posix_spawn/s\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        write_projects(Path(directory), arguments.tasks)
        results = measure(commands, Path(directory), arguments.rounds)
    base = results.get("ninja") or results["dfm"]
    print("| tool | cold | x ninja | nothing to do | x ninja |\n|---|---|---|---|---|")
    for tool, (cold, again) in results.items():
        print(f"| {tool} | {cold:.2f} s | {cold / base[0]:.2f} | {again:.3f} s | {again / base[1]:.1f} |")
    print("\n| start-up | least |\n|---|---|")
    for name, least in startup(arguments.rounds).items():
        print(f"| {name} | {least * 1000:.0f} ms |")


if __name__ == "__main__":
    main()
