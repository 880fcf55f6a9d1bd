"""Processes of this machine: who belongs to a job, what they use, and signals to all of them."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
JOB_VARIABLE = "FAKE_LSF_JOB"


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc; zombies are not listed, for nothing of them is left to end."""

    pid: int
    parent: int
    session: int
    resident_bytes: int
    cpu_seconds: float


def all_processes() -> Iterator[Process]:
    """Yield the processes of this machine that can be read."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _read(int(name))
            if process is not None:
                yield process


def of_session(session: int) -> list[Process]:
    """Return the processes of a job's session."""
    return [process for process in all_processes() if process.session == session]


def marked(directory: str) -> dict[str, list[Process]]:
    """Return all processes that jobs of a cluster began, wherever they went since, by start (`<serial>.<n>`)."""
    found: dict[str, list[Process]] = {}
    for process in all_processes():
        place, _, start = mark_of(process.pid).rpartition(":")
        if place == directory:
            found.setdefault(start, []).append(process)
    return found


def with_descendants(processes: list[Process]) -> list[Process]:
    """Return the processes and all that they, and theirs, have begun and that are still below them."""
    children: dict[int, list[Process]] = {}
    for process in all_processes():
        children.setdefault(process.parent, []).append(process)
    found = {process.pid: process for process in processes}
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child.pid not in found:
                found[child.pid] = child
                waiting.append(child.pid)
    return list(found.values())


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    return pid > 0 and _read(pid) is not None


def send(processes: list[Process], number: int) -> None:
    """Send a signal to each process that still exists."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def kill_session(session: int) -> None:
    """Kill all processes of a session, and those that they start meanwhile."""
    for _ in range(5):
        found = of_session(session)
        if not found:
            return
        send(found, signal.SIGKILL)


def mark_of(pid: int) -> str:
    """Return `<FAKE_LSF_DIR>:<serial>.<n>` of a process that a job began, else nothing."""
    prefix = f"{JOB_VARIABLE}=".encode()
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            found = [each for each in stream.read().split(b"\0") if each.startswith(prefix)]
    except OSError:
        return ""
    return os.fsdecode(found[0][len(prefix) :]) if found else ""


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait until a process is gone or a zombie; tell whether it is."""
    if not is_alive(pid):
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], max(0.0, seconds))[0])
    finally:
        os.close(descriptor)


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in {b"Z", b"X"}:
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        resident_bytes=int(fields[21]) * PAGE_BYTES,
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND,
    )
