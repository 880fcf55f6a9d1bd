"""Starts a daemon in the background, and waits until it says that it is ready, or why it cannot be.

The daemon is this very program with `--foreground` and a pipe: one way to be a daemon, whoever watches it. What it
prints goes to its log in the project.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from dfm.api.errors import DfmError, ExitCode, InfrastructureError, RunnerError
from dfm.core.daemon.endpoint import Discovery, Endpoint

READY_SECONDS = 60.0


def start_in_background(endpoint: Endpoint, words: Sequence[str]) -> Discovery:
    """Start `dfm daemon start --foreground` with these words and return where the daemon is.

    Raises:
        DfmError: it did not start; the error is the daemon's own, or tells where its log is.
    """
    endpoint.make_directory()
    log = _opened_log(endpoint.log_path)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "dfm.core",
                    "daemon",
                    "start",
                    "--foreground",
                    "--ready-fd",
                    str(writing),
                    *words,
                ],
                cwd=endpoint.project,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(writing)
        return _answer(process, reading, endpoint)
    finally:
        os.close(reading)


def _opened_log(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InfrastructureError(f"cannot write the daemon's log {path}: {error.strerror}") from error


def say_ready(fd: int, discovery: Discovery) -> None:
    """Tell whoever started this daemon that it is there."""
    _say(fd, {"ready": asdict(discovery)})


def say_failed(fd: int, error: DfmError) -> None:
    """Tell whoever started this daemon why it is not."""
    _say(fd, {"error": str(error), "hint": error.hint, "exit_code": int(error.exit_code)})


def _say(fd: int, content: object) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(content).encode())
        os.close(fd)


def _answer(process: "subprocess.Popen[bytes]", reading: int, endpoint: Endpoint) -> Discovery:
    text = _read_all(reading, READY_SECONDS)
    if text is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise RunnerError(f"the daemon was not ready after {READY_SECONDS:g} s", hint=f"its log is {endpoint.log_path}")
    if not text:
        status = process.wait()
        raise RunnerError(f"the daemon ended at once (status {status})", hint=f"its log is {endpoint.log_path}")
    content = json.loads(text)
    if "error" in content:
        process.wait()
        raise _CannotStartError(content)
    process.returncode = 0  # it goes on by itself; Popen must not warn
    return Discovery(**content["ready"])


class _CannotStartError(RunnerError):
    """The daemon's own words, with its own exit status."""

    def __init__(self, content: dict[str, object]) -> None:
        hint = content["hint"]
        super().__init__(str(content["error"]), hint=None if hint is None else str(hint))
        self.exit_code = ExitCode(int(str(content["exit_code"])))


def _read_all(fd: int, seconds: float) -> bytes | None:
    """Read until the other end is closed; None where that takes longer."""
    deadline, found = time.monotonic() + seconds, b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        chunk = os.read(fd, 65536)
        if not chunk:
            return found
        found += chunk
    return None
