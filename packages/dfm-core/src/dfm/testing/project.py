"""A project as a person has it: a flow, settings, the installed `dfm`, and perhaps a daemon; all in one directory.

project = Project(tmp_path, environ)
project.write_settings({"default": "lsf", "pool": QUICK_POOL})
project.write_flow({"a": "echo a"})
with project.daemon():
assert project.dfm("run", "a").returncode == 0
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dfm.core.daemon.client import ask_daemon
from dfm.core.daemon.endpoint import Endpoint
from dfm.core.wire.messages import Ask

WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.05
_STEERING = ("DFM_", "MAKE", "MFLAGS", "GNUMAKEFLAGS", "CI", "GITHUB_", "NO_COLOR", "FORCE_COLOR", "LSB_", "SLURM_")

QUICK_POOL: Mapping[str, object] = {
    "time_scale": 0.1,
    "max_workers": 2,
    "start_timeout": "10m",
    "lease_timeout": "2m",
    "addresses": ["127.0.0.1"],
}
"""Settings of a pool for tests: times ten times as short, but for those that a busy machine would exceed."""

Answer = subprocess.CompletedProcess[str]


@dataclass(slots=True)
class Project:
    """A project directory, with places of its own for all that DFM keeps elsewhere.

    Attributes:
        directory: absolute and existing; the root flow file lies in it.
        base: environment of its commands; None is that of this process, without what steers DFM or make.
    """

    directory: Path
    base: Mapping[str, str] | None = None
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        given = os.environ if self.base is None else self.base
        kept = {name: value for name, value in given.items() if not name.startswith(_STEERING)}
        private = self.directory / "private"
        private.mkdir(mode=0o700, exist_ok=True)
        self.environ = kept | {
            "DFM_STATE_DIR": str(private / "state"),
            "DFM_ACCESS_DIR": str(private / "access"),
            "XDG_CONFIG_HOME": str(private / "config"),
        }

    @property
    def rundir(self) -> Path:
        """Where its tasks run."""
        return self.directory / "rundir"

    @property
    def state(self) -> Path:
        """What its daemon keeps with it."""
        return self.directory / ".dfm"

    @property
    def private(self) -> Path:
        """Journals and keys."""
        return self.directory / "private"

    def write_settings(self, runner: Mapping[str, object]) -> None:
        """Write what lies below `runner:` in the project's configuration."""
        self.state.mkdir(mode=0o700, exist_ok=True)
        (self.state / "config.yaml").write_text(yaml.safe_dump({"runner": dict(runner)}), encoding="utf-8")

    def write_flow(self, tasks: "Mapping[str, str | Mapping[str, object]]") -> None:
        """Write a flow of package `p`: to each name its script, or its keys."""
        rows = [{"name": name, **({"run": keys} if isinstance(keys, str) else keys)} for name, keys in tasks.items()]
        flow = {"package": {"name": "p", "tasks": [{"uptodate": False, "shell": "bash", **row} for row in rows]}}
        (self.directory / "flow.yaml").write_text(yaml.safe_dump(flow, sort_keys=False), encoding="utf-8")

    def dfm(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 120.0) -> Answer:
        """Call `dfm` and return what it answers."""
        with self.started(*words, env=env) as process:
            stdout, stderr = process.communicate(timeout=timeout)
        return Answer(process.args, process.returncode, stdout, stderr)

    @contextlib.contextmanager
    def started(self, *words: str, env: Mapping[str, str] | None = None) -> "Iterator[subprocess.Popen[str]]":
        """Start `dfm` in a group of its own; it is killed if it still runs at the end of the block."""
        argv = [str(Path(sys.executable).parent / "dfm"), *words]
        with subprocess.Popen(
            argv,
            cwd=self.directory,
            env={**self.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def verdicts(self, *words: str, **rest: Any) -> dict[str, str]:  # noqa: ANN401  (of `dfm`)
        """Run tasks with `--json` and return how each ended, by its name in the package."""
        return verdicts(self.dfm("run", "--json", *words, **rest))

    @contextlib.contextmanager
    def daemon(self, *words: str) -> Iterator[None]:
        """Have a daemon in the block."""
        answer = self.dfm("daemon", "start", *words)
        assert answer.returncode == 0, answer.stderr + self.daemon_log()
        try:
            yield
        finally:
            self.dfm("daemon", "stop")

    def status(self) -> dict[str, Any]:
        """Return what the daemon tells of itself, as `dfm daemon status --json` does, without starting a process.

        Raises:
            RunnerError: no daemon answers.
        """
        return asyncio.run(ask_daemon(Endpoint(str(self.directory)), Ask(verb="status")))

    def why(self, task: str = "") -> list[dict[str, Any]]:
        """Return what the daemon tells of unfinished tasks, as `dfm why pending --json` does."""
        found = asyncio.run(ask_daemon(Endpoint(str(self.directory)), Ask(verb="why", task=task)))["tasks"]
        assert isinstance(found, list)
        return found

    def daemon_log(self) -> str:
        """Return what the daemon has said so far."""
        path = self.state / "daemon.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def processes(self) -> list[int]:
        """Return the living processes whose environment shows that they belong to this project."""
        mark = f"DFM_STATE_DIR={self.environ['DFM_STATE_DIR']}".encode()
        return [pid for pid in _pids() if mark in _environ_of(pid)]

    def workers(self) -> list[int]:
        """Return the worker processes of this project, without the guards that they start."""
        found = [pid for pid in self.processes() if b"dfm.core.worker" in _words_of(pid)]
        return [pid for pid in found if _parent_of(pid) not in found]


def verdicts(answer: Answer) -> dict[str, str]:
    """Return how each task ended, from what `dfm run --json` answers."""
    tasks = json.loads(answer.stdout)["tasks"]
    return {task["task"].removeprefix("p."): task["verdict"] for task in tasks}


def wait_until(holds: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(LOOK_SECONDS)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _environ_of(pid: int) -> Sequence[bytes]:
    return _split(f"/proc/{pid}/environ")


def _words_of(pid: int) -> Sequence[bytes]:
    return _split(f"/proc/{pid}/cmdline")


def _split(path: str) -> Sequence[bytes]:
    """Return the words of a file of /proc; none where the process is gone, a zombie, or somebody else's."""
    try:
        with open(path, "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []
