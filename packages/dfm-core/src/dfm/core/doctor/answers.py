"""Runs one command of a probe for its answer: own process group, time-out, bounded output, nothing left running."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from typing import IO

from dfm.api.batch import Command, CommandOutput

MAX_OUTPUT_BYTES = 1 << 20
NOT_EXECUTABLE, NOT_FOUND = 126, 127


def answer_to(command: Command, environ: Mapping[str, str]) -> CommandOutput:
    """Run the command and return what came of it; one that cannot be started has an answer too."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command.argv,
                env=environment_of(command, environ),
                stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            return CommandOutput(status=status, stdout="", stderr=f"{command.argv[0]}: {error.strerror}")
        is_timed_out = False
        try:
            process.communicate(
                None if command.stdin is None else command.stdin.encode("utf-8"), timeout=command.timeout_seconds
            )
        except subprocess.TimeoutExpired:
            is_timed_out = True
        finally:
            _end(process)
        status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return CommandOutput(status=status, stdout=_text(out), stderr=_text(err), is_timed_out=is_timed_out)


def environment_of(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the command: ours, less what it removes, and what it sets; messages in English."""
    kept = {name: value for name, value in environ.items() if name in command.keep_env or not _is_unset(name, command)}
    return {**kept, "LC_ALL": "C", **command.set_env}


def _is_unset(name: str, command: Command) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in command.unset_env
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of the command's group: all of it after a time-out, else what it left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace")
