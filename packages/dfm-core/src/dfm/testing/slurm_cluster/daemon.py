"""A process of the cluster that outlives the function that started it, and perhaps the program.

It is remembered in a file by its id *and its start time*, so that another process that got the same id later is never
taken for it.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence

STOP_SECONDS = 20.0


class Daemon:
    """One process, named, with its pid file and its log.

    Args:
        name: of its files.
        pids: directory of pid files.
        logs: directory of logs.
    """

    def __init__(self, name: str, *, pids: str, logs: str) -> None:
        self.name = name
        self._pid_file = os.path.join(pids, name)
        self._log = os.path.join(logs, f"{name}.out")
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it in a session of its own, so that Ctrl-C at the terminal does not reach it."""
        with open(self._log, "ab") as log:
            self._child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd="/", start_new_session=True
            )
        with open(self._pid_file, "w", encoding="ascii") as file:
            file.write(f"{self._child.pid} {start_ticks(self._child.pid)}\n")

    @property
    def pid(self) -> int | None:
        """Its process id; None where it does not run."""
        if self._child is not None and self._child.poll() is not None:
            return None
        try:
            with open(self._pid_file, encoding="ascii") as file:
                pid, ticks = (int(word) for word in file.read().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if start_ticks(pid) == ticks else None

    def tail(self) -> str:
        """Return the end of what it printed."""
        try:
            with open(self._log, encoding="utf-8", errors="replace") as file:
                return file.read()[-2000:].strip()
        except FileNotFoundError:
            return ""

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """End it, with SIGKILL where it does not end by itself, and wait until it is gone."""
        pid = self.pid
        if pid is not None:
            end(pid, first, STOP_SECONDS)
        if self._child is not None:
            self._child.wait(STOP_SECONDS)
            self._child = None
        if os.path.exists(self._pid_file):
            os.unlink(self._pid_file)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where there is none, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def end(pid: int, first: signal.Signals, seconds: float) -> None:
    """Send a signal, then SIGKILL after `seconds`, and wait until the process is gone; it may be another's child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (first, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, number)
            if _is_gone(descriptor, seconds):
                return
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _is_gone(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
