"""Processes that jobs of a cluster left: job steps and what they started, found by what they have open or inherited."""

import os
import signal
from collections.abc import Iterator

from dfm.testing.slurm_cluster.daemon import end

MAX_PASSES = 10


def end_leftovers(slurm_conf: str, logs: str, run: str) -> None:
    """Kill what belongs to jobs of the cluster, except this process and its ancestors.

    Args:
        slurm_conf: path of the cluster's configuration, which each job has in its environment.
        logs: directory of logs, one of which each job step has open.
        run: directory of spools, in which each job step has a socket.
    """
    spared = set(_ancestors(os.getpid()))
    for _ in range(MAX_PASSES):  # what forks while it is looked for is found the next time
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        found = [pid for pid in pids if _is_of_job(pid, slurm_conf) or _is_job_step(pid, logs, run)]
        for pid in found:
            if pid not in spared:
                end(pid, signal.SIGKILL, 5.0)
        if spared.issuperset(found):
            return


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])


def _is_of_job(pid: int, slurm_conf: str) -> bool:
    variables = _read(pid, "environ").split(b"\0")
    return f"SLURM_CONF={slurm_conf}".encode() in variables and any(
        variable.startswith(b"SLURM_JOB_ID=") for variable in variables
    )


def _is_job_step(pid: int, logs: str, run: str) -> bool:
    return _read(pid, "comm").startswith(b"slurmstepd") and any(
        path.startswith((logs + os.sep, run + os.sep)) for path in _open_files(pid)
    )


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _open_files(pid: int) -> Iterator[str]:
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{name}")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
