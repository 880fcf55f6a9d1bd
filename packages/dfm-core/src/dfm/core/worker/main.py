"""The worker as a process: its arguments, its log, its signals, its end.

It imports nothing of flows, of the command line or of YAML: a thousand of these start at once. Its log is its own,
written line by line from the first on: what the batch system keeps of its output comes too late.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from dfm.api.errors import DfmError
from dfm.core.__about__ import __version__
from dfm.core.execute.guard import start_guard
from dfm.core.wire.access import Access, read_access
from dfm.core.worker.process import Worker, WorkerPlace
from dfm.core.worker.session import Identity

EXIT_OK, EXIT_UNFIT = 0, 78
_SIGNALS = {
    signal.SIGTERM: "signal",
    signal.SIGINT: "signal",
    signal.SIGHUP: "signal",
    signal.SIGUSR1: "walltime",
    signal.SIGUSR2: "walltime",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Be a worker until there is no more need of one, and exit."""
    arguments = _parser().parse_args(argv)
    log = _Log(arguments.log)
    try:
        status = _run(arguments, log)
    except DfmError as error:
        log.write(f"cannot work: {error}")
        status = EXIT_UNFIT
    sys.stdout.flush()
    os._exit(status)  # nothing of ours is left; an interpreter that tidies up first may hang in somebody's thread


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dfm worker", description="Runs tasks for a DFM daemon; started by batch jobs."
    )
    parser.add_argument("--access", required=True, metavar="PATH", help="the file with the key and the addresses")
    parser.add_argument("--slot", required=True, metavar="ID", help="which of the daemon's workers this is")
    parser.add_argument("--log", metavar="FILE", help="where it writes what it does; default: its standard error")
    parser.add_argument("--directory", default="", metavar="DIR", help="where it must be able to work")
    parser.add_argument("--slots", type=int, default=1, metavar="N", help="tasks at once")
    parser.add_argument("--cores", type=int, default=1, metavar="N", help="tokens of its jobserver")
    parser.add_argument("--lives", type=float, metavar="SECONDS", help="until the batch system ends it")
    return parser


class _Log:
    """Lines with the time in front, each written at once."""

    def __init__(self, path: str | None) -> None:
        self._fd = 2
        if path is not None:
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, text: str) -> None:
        """Write one line; a full disk stops nobody."""
        line = f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n"
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode("utf-8", "backslashreplace"))


def _run(arguments: argparse.Namespace, log: _Log) -> int:
    host = socket.gethostname()
    log.write(
        f"dfm {__version__} worker {arguments.slot}, pid {os.getpid()} on {host}, "
        f"python {sys.version.split()[0]}, in {os.getcwd()}, job {_job_id() or 'none'}"
    )
    access = read_access(arguments.access)
    unfit = _unfit(arguments.directory, access)
    if unfit:
        log.write(f"unfit: {unfit}")
    incarnation = secrets.token_hex(8)
    identity = Identity(
        slot=arguments.slot,
        incarnation=incarnation,
        host=host,
        pid=os.getpid(),
        version=__version__,
        slots=max(1, arguments.slots),
        cores=max(1, arguments.cores, arguments.slots),
        job_id=_job_id(),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        unfit=unfit,
        ends_at=None if arguments.lives is None else time.clock_gettime(time.CLOCK_BOOTTIME) + arguments.lives,
    )
    run_token = f"worker-{arguments.slot}-{incarnation}"
    guard = start_guard(run_token, [])
    with tempfile.TemporaryDirectory(prefix="dfm-worker-") as scratch:
        place = WorkerPlace(access_path=arguments.access, scratch=scratch, run_token=run_token)
        worker = Worker(identity, place, log.write)
        try:
            reason = asyncio.run(_until_told(worker))
        finally:
            guard.dismiss()
    log.write(f"leaves: {reason}")
    return EXIT_UNFIT if unfit else EXIT_OK


async def _until_told(worker: Worker) -> str:
    loop = asyncio.get_running_loop()
    for number, reason in _SIGNALS.items():
        loop.add_signal_handler(number, worker.told, reason)
    return await worker.run()


def _job_id() -> str:
    """Return what the batch system calls this job, with the index of an array."""
    environ = os.environ
    if environ.get("LSB_JOBID"):
        index = environ.get("LSB_JOBINDEX", "0")
        return environ["LSB_JOBID"] if index in ("", "0") else f"{environ['LSB_JOBID']}[{index}]"
    return environ.get("SLURM_JOB_ID", "")


def _unfit(directory: str, access: Access) -> str:
    """Return why this host cannot do the work, empty where it can: it must see what the daemon sees."""
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            return f"the directory {directory} cannot be entered here: {error.strerror}"
    path, content = access.probe
    if not path:
        return ""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = file.read(4096)
    except OSError as error:
        return f"{path} cannot be read here: {error.strerror}; is the file system mounted?"
    return "" if found == content else f"{path} holds something else here: this is not the daemon's file system"
