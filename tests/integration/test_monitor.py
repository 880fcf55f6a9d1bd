"""The monitor in a real terminal: what it shows of a daemon at work, its keys, and that leaving it harms nobody."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.held import HOLD, begun, let_go

from dfm.testing.project import Project, wait_until

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux, a terminal without a screen, is absent")


class Terminal:
    """A terminal of tmux, on a server of its own, in which one command runs."""

    def __init__(self, project: Project, number: int, *words: str) -> None:
        self._socket = str(project.directory / f"tmux{number}")
        given = {name: value for name, value in project.environ.items() if name not in ("COLUMNS", "LINES")}
        self._environ = {**given, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self._status = project.directory / f"status{number}"
        command = shlex.join([str(Path(sys.executable).parent / "dfm"), *words])
        status = shlex.quote(str(self._status))
        self._tmux(
            "-f", os.devnull, "new-session", "-d", "-x", "120", "-y", "40", "-c", str(project.directory),
            f"{command}; echo $? >{status}",
        )  # fmt: skip

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], env=self._environ, capture_output=True, text=True, check=True
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def shows(self, *texts: str) -> str:
        """Wait until all of these stand on the screen, and return it."""
        found = [""]

        def is_so() -> bool:
            found[0] = self.screen
            return all(text in found[0] for text in texts)

        try:
            wait_until(is_so, f"{texts} on the screen")
        except TimeoutError:
            raise AssertionError(f"{texts} are not all on the screen:\n{found[0]}") from None
        return found[0]

    def lacks(self, text: str) -> None:
        try:
            wait_until(lambda: text not in self.screen, f"{text} to leave the screen")
        except TimeoutError:
            raise AssertionError(f"{text} does not leave the screen:\n{self.screen}") from None

    def exit_status(self) -> int:
        wait_until(lambda: self._status.exists() and self._status.read_text(encoding="utf-8"), "the command to end")
        return int(self._status.read_text(encoding="utf-8"))

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, check=False)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(project: Project) -> Iterator[Open]:
    """Open terminals in which `dfm` runs with these words; they are closed at the end."""
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(project, len(opened), *words))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def order_on(screen: str, *names: str) -> list[str]:
    """Return the names in the order in which their rows stand on the screen."""
    return sorted(names, key=lambda name: screen.index(f"p.{name}"))


def test_the_monitor_shows_what_runs_sorts_filters_and_leaves_the_daemon_alone(
    project: Project, terminal: Open
) -> None:
    tasks = dict.fromkeys(("zebra", "adder"), HOLD)
    project.write_flow({**tasks, "both": {"run": "true", "needs": list(tasks)}, "a": "true"})
    top = terminal("daemon", "start", "--runner", "local", "--monitor")
    top.shows("local daemon of", "0 running")
    before = project.status()["pid"]
    with project.started("run", "zebra", "--daemon") as first:
        begun(project)
        with project.started("run", "adder", "--daemon", "--rundir", "other") as second:
            begun(project, 2)
            worker = project.status()["workers"][0]
            screen = top.shows("p.zebra", "p.adder", "2 running", "workers 2: 2 busy", worker["slot"], worker["host"])
            assert re.search(r"p\.zebra +s-\S+ +\S+ +\d:\d\d", screen), "worker, host and elapsed time in its row"
            assert order_on(screen, "adder", "zebra") == ["zebra", "adder"], "longest first"
            top.press("n")
            wait_until(lambda: order_on(top.screen, "adder", "zebra") == ["adder", "zebra"], "the order by name")
            top.press("e")
            wait_until(lambda: order_on(top.screen, "adder", "zebra") == ["zebra", "adder"], "the order by time")
            top.press("/", "a", "d", "d", "Enter")
            top.lacks("p.zebra")
            top.shows("p.adder")
            top.press("Escape")
            top.shows("p.adder", "p.zebra")
            let_go(project)
            assert (first.wait(60), second.wait(60)) == (0, 0)
    top.shows("0 running", "2 done", "succeeded")
    top.press("q")
    assert top.exit_status() == 0
    again = terminal("daemon", "monitor")
    again.shows("local daemon of", "2 done")
    again.press("C-c")
    assert again.exit_status() == 0
    assert project.status()["pid"] == before
    assert project.verdicts("a", "--daemon") == {"a": "succeeded"}
