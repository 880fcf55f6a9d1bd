"""Whether this host can do work for the project, and what its memory says.

Sources: cgroups(7); Documentation/admin-guide/cgroup-v2.rst (memory.events), cgroup-v1/memory.rst (memory.oom_control).
"""

import os
from collections.abc import Sequence

from dfm.core.wire.access import Root

_PROBE_BYTES = 4096


def unfit_reason(directory: str | None, roots: Sequence[Root]) -> str:
    """Return why this host must not be given work; empty where it may.

    Args:
        directory: in which the process must have been started, None for any.
        roots: that must hold here what the daemon has written into them.
    """
    if directory is not None:
        reason = _wrong_directory(directory)
        if reason:
            return reason
    for root in roots:
        reason = _wrong_root(root)
        if reason:
            return reason
    return ""


def out_of_memory_kills() -> int:
    """Return how often the kernel has killed a process of our control group for memory; 0 where it does not say."""
    return sum(_counter(path) for path in _counter_files())


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_bytes(directory: str) -> int:
    """Return how much may still be written below a directory, -1 where that cannot be told."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return -1
    return status.f_bavail * status.f_frsize


def _wrong_directory(directory: str) -> str:
    try:
        wanted, present = os.stat(directory), os.stat(".")
    except OSError as error:
        return f"the directory {directory} cannot be entered: {error.strerror}"
    if (wanted.st_dev, wanted.st_ino) != (present.st_dev, present.st_ino):
        return f"started in {os.getcwd()} and not in {directory}"
    return ""


def _wrong_root(root: Root) -> str:
    path = os.path.join(root.directory, root.probe)
    try:
        with open(path, "rb") as file:
            content = file.read(_PROBE_BYTES)
    except OSError as error:
        return f"{root.directory} is not the daemon's: {path}: {error.strerror}"
    if content != root.content.encode():
        return f"{root.directory} is not the daemon's: {path} holds something else"
    if not os.access(root.directory, os.W_OK | os.X_OK):
        return f"{root.directory} cannot be written"
    return ""


def _counter_files() -> list[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found: list[str] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found.append(f"/sys/fs/cgroup{path}/memory.events")
        elif "memory" in controllers.split(","):
            found += [f"/sys/fs/cgroup/memory{path}/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"]
    return found


def _counter(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except OSError:
        pass
    return 0
