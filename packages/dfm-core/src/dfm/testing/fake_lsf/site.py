"""FAKE_LSF_DIR as a whole: laying it out, starting and stopping mbatchd, ending everything that jobs began."""

import contextlib
import fcntl
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time

from dfm.testing.fake_lsf import client, config, connection, jobs, processes, texts
from dfm.testing.fake_lsf.commands import NAMES
from dfm.testing.fake_lsf.config import ClusterConfig
from dfm.testing.fake_lsf.jobs import ENDED, Job
from dfm.testing.fake_lsf.mbatchd import LOCK
from dfm.testing.fake_lsf.processes import Process

START_SECONDS = 30.0
END_SECONDS = 10.0
FOLDERS = ("bin", "jobs", "runs", "mail", "home")


class FakeLsfError(RuntimeError):
    """The fake itself failed, or was left behind by what ran on it."""


def lay_out(directory: str, cluster: ClusterConfig) -> None:
    """Make a new FAKE_LSF_DIR, private to the user.

    Raises:
        FakeLsfError: there is something already.
        config.ConfigError: the cluster cannot be.
    """
    config.check(cluster)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if os.listdir(directory):
        raise FakeLsfError(f"{directory} is not empty")
    os.chmod(directory, 0o700)
    for folder in FOLDERS:
        os.mkdir(os.path.join(directory, folder), mode=0o700)
    config.save(cluster, directory)
    retry = cluster.seconds(cluster.params.daemon_retry)
    with open(os.path.join(directory, "client.conf"), "w", encoding="utf-8") as stream:
        answers = (texts.DAEMON_NOT_RESPONDING, texts.CONNECTION_REFUSED, texts.LIBRARY_CALL_FAILED)
        stream.write("\n".join((str(retry), *answers, "")))
    for name in (*NAMES, "fakelsf"):
        if name != "lsid" or cluster.params.lsid_exists:
            _write_command(directory, name)


def _write_command(directory: str, name: str) -> None:
    python = os.path.realpath(sys.executable)
    words = [python, "-I", "-S", os.path.abspath(client.__file__), directory, name]
    descriptor = os.open(os.path.join(directory, "bin", name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')


def start(directory: str, unknown_seconds: float = 0) -> None:
    """Start mbatchd, and wait until it listens.

    Raises:
        FakeLsfError: it did not come up; its log says why.
    """
    read, write = os.pipe()
    with open(os.path.join(directory, "mbatchd.log"), "ab") as log:
        words = [sys.executable, "-m", "dfm.testing.fake_lsf", "mbatchd", directory, str(write), str(unknown_seconds)]
        daemon = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[write], start_new_session=True
        )
    os.close(write)
    ready, _, _ = select.select([read], [], [], START_SECONDS)
    answer = os.read(read, 100) if ready else b""
    os.close(read)
    if not answer:
        daemon.kill()
        daemon.wait()
        raise FakeLsfError(f"mbatchd did not start:\n{_tail(directory)}")
    daemon.returncode = 0  # it goes on without us; `stop` waits for it by its lock


def _tail(directory: str) -> str:
    with open(os.path.join(directory, "mbatchd.log"), encoding="utf-8", errors="replace") as stream:
        return stream.read()[-2000:]


def mbatchd_pid(directory: str) -> int:
    """Return the pid of the mbatchd that runs, 0 for none."""
    try:
        lock = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(lock, 32) or 0)
    finally:
        os.close(lock)
    return 0


def stop(directory: str) -> None:
    """Stop mbatchd; jobs go on."""
    pid = mbatchd_pid(directory)
    if not pid:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if processes.wait_for_end(pid, END_SECONDS):
            break
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def leaks(directory: str, seconds: float = 2.0) -> list[str]:
    """Return the processes that outlived their job, a line each; those that are about to end get some time for it.

    Processes that LSF itself leaves behind (`bkill -r`, a lost host) do not count.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = _leaked(directory)
        if not found or time.monotonic() >= deadline:
            return [_described(job, process) for job, process in found]
        processes.wait_for_end(found[0][1].pid, deadline - time.monotonic())


def _leaked(directory: str) -> list[tuple[Job, Process]]:
    known = {job.serial: job for job in jobs.load_all(directory)}
    found: list[tuple[Job, Process]] = []
    for start_, members in processes.marked(directory).items():
        serial, _, count = start_.partition(".")
        job = known[int(serial)]
        if job.state in ENDED or int(count) != job.start_count:
            found += [(job, each) for each in members if each.session not in job.abandoned_pids]
    return found


def _described(job: Job, process: Process) -> str:
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as stream:
            words = stream.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        words = "?"
    return f"process {process.pid} of job {job.label} <{job.name}>, which is {job.state}: {words}"


def end_everything(directory: str) -> None:
    """Stop mbatchd, kill all that jobs began, and wait until their supervisors are gone.

    Raises:
        FakeLsfError: a process cannot be killed.
    """
    stop(directory)
    deadline = time.monotonic() + END_SECONDS
    while members := [each for found in processes.marked(directory).values() for each in found]:
        processes.send(members, signal.SIGKILL)
        if not processes.wait_for_end(members[0].pid, deadline - time.monotonic()):
            raise FakeLsfError(f"processes {', '.join(str(each.pid) for each in members)} do not end")
    for job in jobs.load_all(directory):
        if job.supervisor and not processes.wait_for_end(job.supervisor, deadline - time.monotonic()):
            raise FakeLsfError(f"supervisor {job.supervisor} of job {job.label} does not end")


def remove(directory: str) -> None:
    """Remove FAKE_LSF_DIR."""
    shutil.rmtree(directory)


def control(directory: str, *words: str, seconds: float = 30.0) -> str:
    """Do what `fakelsf WORD...` does, and return its output."""
    return connection.ask(directory, list(words), seconds)
