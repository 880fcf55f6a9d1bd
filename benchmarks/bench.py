"""All rows of the table: DFM beside its peers, on the same work, in turns, and what became of each target.

`RESULTS.md` is written where `--write` says so. Seconds on a busy machine say little: the ratios say more, and those of
CPU time more than those of wall time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from measuring import SCRIPTS, Cost, cost, file_system, interleaved, machine, median, spawn_rate
from projects import SHAPES, TOOLS, Project, dfm_flow, put_away

HERE = Path(__file__).parent
DFM = str(SCRIPTS / "dfm")
KNOWN = "dfm, flow known"
PEERS = {"ninja": "ninja", "doit": "doit", "snakemake": "snakemake", "hyperqueue": "hyperqueue"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    tasks: tuple[int, ...]
    messages: int
    graph: int
    dispatched: int
    workers: int
    crowd: int
    probes: int
    true: int
    calls: int
    rounds: int


FULL = Sizes((1_000, 10_000), 10_000, 100_000, 100_000, 200, 1_000, 300, 10_000, 30, 3)
QUICK = Sizes((1_000,), 2_000, 20_000, 5_000, 50, 200, 100, 1_000, 15, 3)
SMOKE = Sizes((10,), 20, 50, 40, 3, 6, 5, 20, 2, 1)
SIZES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table of targets; smaller is better unless `is_rate`."""

    what: str
    found: float
    target: float
    stretch: float
    unit: str
    is_rate: bool = False

    @property
    def line(self) -> str:
        """The line, with what is missing."""
        missing = self.target / self.found if self.is_rate else self.found / self.target
        better = self.found >= self.stretch if self.is_rate else self.found <= self.stretch
        verdict = "stretch reached" if better else "reached" if missing <= 1 else f"missed, {missing:.2f} times off"
        shown = [f"{value:,.4g} {self.unit}".strip() for value in (self.found, self.target, self.stretch)]
        return f"| {self.what} | {shown[0]} | {shown[1]} | {shown[2]} | {verdict} |"


class Report:
    """What was measured, as Markdown; each line is printed as it comes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.targets: list[Target] = []

    def say(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)
        print(text, flush=True)

    def costs(self, title: str, costs: Mapping[str, Cost], base: str) -> None:
        """Add a table of costs with ratios to one of them."""
        against = costs.get(base) or next(iter(costs.values()))
        self.say(f"\n### {title}\n\n| | wall s | CPU s | x wall | x CPU | peak MiB |\n|---|---|---|---|---|---|")
        for name, one in costs.items():
            walls, cpus = one.wall / against.wall, one.cpu / max(against.cpu, 0.001)
            peak = one.peak / 2**20
            self.say(f"| {name} | {one.wall:.3f} | {one.cpu:.3f} | {walls:.2f} | {cpus:.2f} | {peak:.0f} |")


def shell_tasks(report: Report, sizes: Sizes, root: Path) -> None:
    """Trivial shell tasks, cold and with nothing to do."""
    cold_of: dict[int, float] = {}
    again_of: dict[int, float] = {}
    for count in sizes.tasks:
        made = [Project.make(tool, root, count) for tool in TOOLS if count <= tool.largest]
        projects = {project.tool.name: project for project in made if project is not None}
        fast = {name: project for name, project in projects.items() if not project.tool.is_slow}
        cases = {name: project.cold for name, project in fast.items()}
        cold = interleaved({**cases, KNOWN: projects["dfm"].cold_but_read}, sizes.rounds)
        again = interleaved({name: project.again for name, project in fast.items()}, sizes.rounds)
        for name in projects.keys() - fast.keys():
            cold[name], again[name] = projects[name].cold(), projects[name].again()
        report.costs(f"{count:,} trivial shell tasks, cold, -j2", cold, "ninja")
        report.costs(f"{count:,} trivial shell tasks, nothing to do", again, "ninja")
        cold_of[count], again_of[count] = cold["dfm"].cpu, again["dfm"].cpu
        if "ninja" in cold:
            ratio = cold["dfm"].wall / cold["ninja"].wall
            report.targets.append(Target(f"{count:,} shell tasks, cold", ratio, 1.5, 1.2, "x ninja"))
            ratio = cold[KNOWN].wall / cold["ninja"].wall
            report.targets.append(Target(f"{count:,} shell tasks, cold, flow known", ratio, 1.5, 1.2, "x ninja"))
        if "ninja" in again and count == max(sizes.tasks):
            ratio = again["dfm"].wall / again["ninja"].wall
            report.targets.append(Target(f"{count:,} shell tasks, nothing to do", ratio, 12, 6, "x ninja"))
        if "doit" in again and count == max(sizes.tasks):
            ratio = again["dfm"].wall / again["doit"].wall
            report.targets.append(Target(f"{count:,} shell tasks, nothing to do", ratio, 1, 0.5, "x doit"))
    least, most = min(sizes.tasks), max(sizes.tasks)
    for what, seconds in (("cold", cold_of), ("nothing to do", again_of)):
        if least != most:
            growth = (seconds[most] / most) / (seconds[least] / least)
            report.targets.append(
                Target(f"growth of CPU per task, {least:,} to {most:,}, {what}", growth, 1.2, 1.05, "x")
            )


def python_tasks(report: Report, sizes: Sizes, root: Path) -> None:
    """Tasks that run inside the process."""
    directory = root / "messages"
    directory.mkdir()
    (directory / "flow.yaml").write_text(dfm_flow(sizes.messages, "uses: std.Message, with: {msg: hello}"))
    costs = interleaved({"dfm": partial(_fresh, directory, [DFM, "run", "all", "-j2", "-q"])}, sizes.rounds)
    report.costs(f"{sizes.messages:,} in-process tasks (std.Message), cold", costs, "dfm")
    seconds = costs["dfm"].wall * 10_000 / sizes.messages
    report.targets.append(Target("10,000 in-process tasks", seconds, 4, 2, "s"))


def large_graph(report: Report, sizes: Sizes, root: Path) -> None:
    """Load and plan a large flow, cold and again, with its peak memory; and a small one, for the growth."""
    costs = {}
    for count in (max(10, sizes.graph // 100), sizes.graph):
        directory = root / f"graph-{count}"
        directory.mkdir()
        (directory / "flow.yaml").write_text(dfm_flow(count))
        plan = [sys.executable, str(HERE / "plan_only.py"), "all"]
        costs[f"{count:,} tasks, first start"] = cost(plan, directory)
        costs[f"{count:,} tasks, second start"] = median([cost(plan, directory) for _ in range(sizes.rounds)])
    report.costs("load and plan", costs, next(iter(costs)))
    large = {name: one for name, one in costs.items() if name.startswith(f"{sizes.graph:,} ")}
    first, second = large.values()
    scale = 100_000 / sizes.graph
    for what, found, target, stretch, unit in (
        ("100,000 tasks, load and plan, first start", first.wall * scale, 12, 6, "s"),
        ("100,000 tasks, load and plan, second start", second.wall * scale, 3, 1.5, "s"),
        ("100,000 tasks, load and plan, peak memory", first.peak * scale / 1e6, 400, 200, "MB"),
    ):
        report.targets.append(Target(what, found, target, stretch, unit))


@dataclass(frozen=True, slots=True)
class Plan:
    """What it cost to load a flow and to plan it.

    Attributes:
        load: seconds of CPU, start-up not counted.
        graph: the same.
        peak: bytes.
    """

    load: float
    graph: float
    peak: int


def _plan(directory: Path) -> Plan:
    with (directory / "said").open("w") as output:
        whole = cost([sys.executable, str(HERE / "plan_only.py"), "all"], directory, output)
    said = json.loads((directory / "said").read_text())
    return Plan(said["load"], said["graph"], whole.peak)


def shapes(report: Report, sizes: Sizes, root: Path) -> None:
    """Large flows of several shapes: what loading and planning cost, first and again, and how that grows."""
    report.say("\n### load and plan by shape: seconds of CPU without start-up, peak memory\n")
    report.say("| | load first | graph | peak MiB | load again | graph | peak MiB | load, first / again |")
    report.say("|---|---|---|---|---|---|---|---|")
    for shape, write in SHAPES.items():
        whole: dict[int, float] = {}
        for count in (max(10, sizes.graph // 10), sizes.graph):
            directory = root / f"{shape.replace(' ', '-')}-{count}"
            directory.mkdir()
            write(directory, count)
            first = _plan(directory)
            again = min((_plan(directory) for _ in range(sizes.rounds)), key=lambda one: one.load + one.graph)
            cells = [
                cell
                for one in (first, again)
                for cell in (f"{one.load:.3f}", f"{one.graph:.3f}", f"{one.peak / 2**20:.0f}")
            ]
            ratio = first.load / again.load
            report.say(f"| {shape}, {count:,} | {' | '.join(cells)} | {ratio:.1f} |")
            whole[count] = (first.load + first.graph) / count
        least, most = whole
        what = f"growth of CPU per task, {least:,} to {most:,}, load and plan, {shape}"
        report.targets.append(Target(what, whole[most] / whole[least], 1.2, 1.05, "x"))
        if shape == "flat":
            what = f"{most:,} tasks, second load in parts of the first"
            report.targets.append(Target(what, again.load / first.load, 0.1, 0.05, "x"))


def memory(report: Report, sizes: Sizes, root: Path) -> None:
    """What each task costs a run in memory, and how time grows with the number of tasks."""
    costs: dict[str, Cost] = {}
    small, large = max(10, sizes.graph // 100), sizes.graph
    for count in (small, large):
        directory = root / f"memory-{count}"
        directory.mkdir()
        (directory / "flow.yaml").write_text(dfm_flow(count, "uses: std.Message, with: {msg: hello}"))
        run = [DFM, "run", "all", "-j2", "-q"]
        costs[f"{count:,} tasks, cold"] = _fresh(directory, run)
        costs[f"{count:,} tasks, nothing to do"] = cost(run, directory)
    report.costs("in-process tasks (std.Message), by their number", costs, next(iter(costs)))
    for what in ("cold", "nothing to do"):
        few, many = costs[f"{small:,} tasks, {what}"], costs[f"{large:,} tasks, {what}"]
        each = (many.peak - few.peak) / (large - small) / 1000
        report.targets.append(Target(f"memory of `dfm run` for each task up to {large:,}, {what}", each, 4, 2, "KB"))
        growth = (many.cpu / large) / (few.cpu / small)
        report.targets.append(
            Target(f"growth of CPU per in-process task, {small:,} to {large:,}, {what}", growth, 1.2, 1.05, "x")
        )


def start_up(report: Report, sizes: Sizes, root: Path) -> None:
    """Commands that do nothing, and one `dfm-out`."""
    out = next(HERE.parent.glob("packages/dfm-core/src/dfm/core/execute/dfm_out.py"))
    item = ["item", "--type", "std.DataItem"]
    cases = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "dfm --version": [DFM, "--version"],
        "dfm --help": [DFM, "--help"],
        "python -I -S -c pass": [sys.executable, "-I", "-S", "-c", "pass"],
        "dfm-out": ["/usr/bin/env", f"DFM_OUTPUT={root / 'out.jsonl'}", sys.executable, "-I", "-S", str(out), *item],
    }
    costs = interleaved({name: partial(_least, argv, root) for name, argv in cases.items()}, sizes.calls)
    report.costs("start-up", costs, "python -c pass")
    bare, isolated = costs["python -c pass"].wall, costs["python -I -S -c pass"].wall
    for name, base, target, stretch in (
        ("dfm --version", bare, 60, 35),
        ("dfm --help", bare, 60, 35),
        ("dfm-out", isolated, 15, 5),
    ):
        over = max(0.1, (costs[name].wall - base) * 1000)
        report.targets.append(Target(f"{name} over bare Python", over, target, stretch, "ms"))


def pool(report: Report, sizes: Sizes, root: Path) -> None:
    """The pool with many workers, and with very many."""
    found = _pool(sizes.dispatched, sizes.workers, sizes.probes, root)
    crowd = _pool(10 * sizes.crowd, sizes.crowd, sizes.probes, root)
    report.say("\n### the pool over TCP, with authentication and journal\n\n| | | |\n|---|---|---|")
    for name, value in found.items():
        report.say(f"| {name} | {value:,.4g} | {crowd[name]:,.4g} |")
    rate, per_cpu = found["dispatch_per_second"], found["dispatch_per_cpu_second"]
    what = f"dispatched and committed with {sizes.workers} workers"
    report.targets.append(Target(what, rate, 3_000, 6_000, "/s", is_rate=True))
    what += ", in a second of CPU, workers included"
    report.targets.append(Target(what, per_cpu, 3_000, 6_000, "/s", is_rate=True))
    report.targets.append(Target("warm pool, submit to start, p50", found["latency_p50_ms"], 5, 2.5, "ms"))
    report.targets.append(Target("warm pool, submit to start, p99", found["latency_p99_ms"], 20, 10, "ms"))
    what = f"peak memory after {sizes.dispatched:,} tasks, client and workers included"
    report.targets.append(Target(what, found["peak_mib"], 150, 75, "MiB"))
    report.targets.append(Target(f"{sizes.crowd:,} workers connect", crowd["connect_seconds"], 5, 2.5, "s"))


def _pool(tasks: int, workers: int, probes: int, root: Path) -> dict[str, float]:
    words = ["--tasks", str(tasks), "--workers", str(workers), "--probes", str(probes)]
    output = subprocess.run(
        [sys.executable, str(HERE / "pool_bench.py"), *words], cwd=root, check=True, capture_output=True, text=True
    )
    return cast("dict[str, float]", json.loads(output.stdout))


def true_through_daemon(report: Report, sizes: Sizes, root: Path) -> None:
    """`true` many times through a daemon with two local slots, beside HyperQueue."""
    directory = root / "true"
    directory.mkdir()
    (directory / "flow.yaml").write_text(dfm_flow(sizes.true, "shell: sh, run: 'true'"))
    subprocess.run(
        [DFM, "daemon", "start", "--runner", "local", "--pool-size", "2"],
        cwd=directory,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        run = [DFM, "run", "all", "-q", "--daemon"]
        costs = {"dfm --daemon": median([_fresh(directory, run) for _ in range(min(2, sizes.rounds))])}
    finally:
        subprocess.run([DFM, "daemon", "stop"], cwd=directory, check=True, stderr=subprocess.DEVNULL)
    peer = _hyperqueue(sizes.true, root)
    if peer is not None:
        costs["hyperqueue"] = peer
    report.costs(f"{sizes.true:,} `true` through a daemon, two slots", costs, "hyperqueue")
    if "hyperqueue" in costs:
        ratio = costs["hyperqueue"].wall / costs["dfm --daemon"].wall
        report.targets.append(
            Target(f"{sizes.true:,} `true` through the daemon", ratio, 1, 1.5, "x HyperQueue", is_rate=True)
        )


def _hyperqueue(count: int, root: Path) -> Cost | None:
    """Return what HyperQueue takes from submitting to the last end; its start is not counted, nor is our daemon's."""
    if find_spec("hyperqueue") is None:
        return None
    argv = [sys.executable, str(HERE / "hyperqueue_bench.py"), str(count)]
    with (root / "hyperqueue").open("w") as output:
        whole = cost(argv, root, output)
    return replace(whole, wall=float((root / "hyperqueue").read_text().split()[-1]))


def _fresh(directory: Path, argv: list[str]) -> Cost:
    put_away(directory / "rundir")
    return cost(argv, directory)


def _least(argv: list[str], directory: Path) -> Cost:
    return min((cost(argv, directory) for _ in range(3)), key=lambda one: one.wall)


ROWS: Mapping[str, Callable[[Report, Sizes, Path], None]] = {
    "shell": shell_tasks,
    "python": python_tasks,
    "graph": large_graph,
    "shapes": shapes,
    "memory": memory,
    "start": start_up,
    "pool": pool,
    "true": true_through_daemon,
}


def _versions() -> Iterator[str]:
    yield f"dfm-core {version('dfm-core')}"
    for name, distribution in PEERS.items():
        try:
            yield f"{name} {version(distribution)}"
        except PackageNotFoundError:
            yield f"{name} absent"
    made = subprocess.run(["make", "--version"], check=False, capture_output=True, text=True)
    yield made.stdout.partition("\n")[0] or "make absent"
    yield "dv-flow-mgr " + ("beside" if os.environ.get("DFM_BENCH_DV_FLOW") else "absent")


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, check=False, capture_output=True, text=True
    )
    return said.stdout.strip() or "unknown"


def _memory() -> Path | None:
    place = Path("/dev/shm")  # noqa: S108  (what is made in it is a private directory)
    return place if place.is_dir() and os.access(place, os.W_OK | os.X_OK) else None


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--write", type=Path, help="file for the table; its part after the line `## Why` stays")
    parser.add_argument(
        "--on", type=Path, default=_memory(), help="directory for all files; /dev/shm where there is one"
    )
    chosen = parser.parse_args()
    report = Report()
    report.say(f"# Results\n\n{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}, size {chosen.size}.")
    report.say(f"\nMachine: {machine()}.\nVersions: {', '.join(_versions())}.")
    report.say(f"Files on {file_system(chosen.on or Path(tempfile.gettempdir()))}.")
    report.say(f"Calibration: {spawn_rate(50 if chosen.size == 'smoke' else 500):.0f} bare posix_spawn/s.")
    with tempfile.TemporaryDirectory(dir=chosen.on) as directory:
        for name in chosen.rows:
            ROWS[name](report, SIZES[chosen.size], Path(directory))
    report.say("\n## Targets\n\n| what | found | target | stretch | |\n|---|---|---|---|---|")
    for target in report.targets:
        report.say(target.line)
    if chosen.write is not None:
        kept = chosen.write.read_text(encoding="utf-8") if chosen.write.exists() else ""
        why = kept[kept.index("\n## Why") :] if "\n## Why" in kept else "\n"
        chosen.write.write_text("\n".join(report.lines) + "\n" + why, encoding="utf-8")


if __name__ == "__main__":
    main()
