"""The same work written for each tool, and the peers as far as this environment has them."""

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import SCRIPTS, Cost, cost

_numbers = itertools.count()


def put_away(path: Path) -> None:
    """Give a file or directory that may be there another name.

    It is not removed: ext4 makes new files slowly for minutes after many were removed, and of those who are compared
    one makes more files than another.
    """
    if path.exists():
        path.rename(path.with_name(f"{path.name}.{next(_numbers)}.old"))


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool with its way of running `count` commands that create one file each.

    Attributes:
        largest: more tasks than this take it minutes.
        leaves: what to put away for a cold start.
        is_slow: it is measured once, not in turns.
    """

    name: str
    program: str
    file: str
    write: Callable[[int], str]
    argv: tuple[str, ...]
    leaves: tuple[str, ...] = ()
    largest: int = 1_000_000
    is_slow: bool = False

    def path(self) -> str | None:
        """Where it is: beside this Python first."""
        return shutil.which(self.program, path=str(SCRIPTS)) or shutil.which(self.program)


def _names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def dfm_flow(count: int, body: str = "shell: sh, run: touch out") -> str:
    """Return a flow of `count` tasks with one body, and a task that needs them all."""
    tasks = "".join(f"  - {{name: {name}, {body}}}\n" for name in _names(count))
    return f"package:\n  name: p\n  tasks:\n{tasks}  - {{name: all, needs: [{', '.join(_names(count))}]}}\n"


def write_flat(directory: Path, count: int) -> None:
    """Write a flow whose tasks need nothing but the last one, which needs all."""
    (directory / "flow.yaml").write_text(dfm_flow(count))


def write_chained(directory: Path, count: int) -> None:
    """Write a flow in which each task needs the one before."""
    names = _names(count)
    tasks = "".join(
        f"  - {{name: {name}, needs: [{before}], shell: sh, run: touch out}}\n"
        for before, name in zip(names, [*names[1:], "all"], strict=True)
    )
    first = f"  - {{name: {names[0]}, shell: sh, run: touch out}}\n"
    (directory / "flow.yaml").write_text(f"package:\n  name: p\n  tasks:\n{first}{tasks}")


def write_matrix(directory: Path, count: int) -> None:
    """Write a flow of one task with so many cells, whose script names both axes."""
    rows = max(1, count // 100)
    axes = f"{{row: {list(range(rows))}, column: {list(range(count // rows))}}}"
    cell = '{name: cell, shell: sh, run: "echo ${{ row }} ${{ column }}"}'
    task = f"  - name: all\n    strategy: {{matrix: {axes}}}\n    body: [{cell}]\n"
    (directory / "flow.yaml").write_text(f"package:\n  name: p\n  tasks:\n{task}")


def write_fragments(directory: Path, count: int, fragments: int = 200) -> None:
    """Write a flow whose tasks are spread evenly over fragments, each in a directory of its own."""
    names = _names(count)
    fragments = min(fragments, count)
    for number in range(fragments):
        part = directory / "parts" / f"part{number}"
        part.mkdir(parents=True)
        tasks = "".join(f"  - {{name: {name}, shell: sh, run: touch out}}\n" for name in names[number::fragments])
        (part / "flow.yaml").write_text(f"fragment:\n  tasks:\n{tasks}")
    root = f"package:\n  name: p\n  fragments: [parts]\n  tasks: [{{name: all, needs: [{', '.join(names)}]}}]\n"
    (directory / "flow.yaml").write_text(root)


SHAPES = {
    "flat": write_flat,
    "chained": write_chained,
    "matrix": write_matrix,
    "200 fragments": write_fragments,
}
"""The shapes of large flows."""


def _ninja(count: int) -> str:
    builds = "".join(f"build out/{name}: r\n" for name in _names(count))
    return f"rule r\n  command = touch $out\n{builds}"


def _make(count: int) -> str:
    return f"all: {' '.join(f'out/{name}' for name in _names(count))}\nout/%:\n\t@touch $@ ;\n"


def _doit(count: int) -> str:
    return (
        "DOIT_CONFIG = {'dep_file': '.doit.db', 'verbosity': 0}\n"
        "def task_t():\n"
        f"    for i in range({count}):\n"
        "        yield {'name': f't{i}', 'actions': [f'touch out/t{i}'], 'targets': [f'out/t{i}'],\n"
        "               'file_dep': ['dodo.py']}\n"
    )


def _snakemake(count: int) -> str:
    return (
        f"rule all:\n    input: expand('out/t{{i}}', i=range({count}))\n"
        "rule one:\n    output: 'out/t{i}'\n    shell: 'touch {output}'\n"
    )


def _dv_flow(count: int) -> str:
    return dfm_flow(count, "shell: bash, run: touch out")


FLOWS = ".flows"
"""Where dfm keeps what it has read of flows."""
TOOLS = (
    Tool("dfm", "dfm", "flow.yaml", dfm_flow, ("run", "all", "-j2", "-q"), ("rundir", FLOWS)),
    Tool("ninja", "ninja", "build.ninja", _ninja, ("-j2", "--quiet"), (".ninja_log", ".ninja_deps")),
    Tool("make", "make", "Makefile", _make, ("-j2", "-s")),
    Tool("doit", "doit", "dodo.py", _doit, ("-n2", "-P", "process"), (".doit.db", ".doit.db.db"), 10_000),
    Tool(
        "snakemake",
        "snakemake",
        "Snakefile",
        _snakemake,
        ("-c2", "--quiet", "all"),
        (".snakemake",),
        1_000,
        is_slow=True,
    ),
    Tool(
        "dv-flow-mgr",
        os.environ.get("DFM_BENCH_DV_FLOW", ""),  # its command is called `dfm` too, so it is installed apart
        "flow.yaml",
        _dv_flow,
        ("run", "all", "-j2"),
        ("rundir",),
        1_000,
        is_slow=True,
    ),
)
"""For trivial shell tasks; the first one is measured against the second."""


@dataclass(frozen=True, slots=True)
class Project:
    """One tool's project in a directory."""

    tool: Tool
    directory: Path
    program: str

    @classmethod
    def make(cls, tool: Tool, root: Path, count: int) -> "Project | None":
        """Write it; None where the tool is not installed."""
        program = tool.path()
        if program is None:
            return None
        directory = root / f"{tool.name}-{count}"
        (directory / "out").mkdir(parents=True)
        (directory / tool.file).write_text(tool.write(count), encoding="utf-8")
        return cls(tool, directory, program)

    def cold(self, kept: Sequence[str] = ()) -> Cost:
        """Run with nothing built, and nothing left of earlier runs but what is `kept`."""
        for name in {"out", *self.tool.leaves}.difference(kept):
            put_away(self.directory / name)
        (self.directory / "out").mkdir()
        return self.again()

    def cold_but_read(self) -> Cost:
        """Run with nothing built, the flow known from a run before."""
        return self.cold(kept=[FLOWS])

    def again(self) -> Cost:
        """Run with all built, or as it is."""
        return cost([self.program, *self.tool.argv], self.directory, flows=self.directory / FLOWS)
