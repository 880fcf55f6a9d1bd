"""The command that runs one request, and what came of it."""

import contextlib
import os
import sys

from dfm.api.errors import InfrastructureError
from dfm.api.runner import Outcome, TaskCommand, TaskRequest, TaskResult, hidden_prefix
from dfm.core.wire.codec import decode_result, encode_request
from dfm.core.wire.frame import ProtocolError


def task_command(request: TaskRequest) -> TaskCommand:
    """Write the request down, and return the command that runs it.

    Raises:
        InfrastructureError: it cannot be written.
    """
    prefix = os.path.join(request.rundir, hidden_prefix(request.artefact))
    request_path, result_path = f"{prefix}request", f"{prefix}answer"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(result_path)
    try:
        fd = os.open(request_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(encode_request(request))
    except OSError as error:
        raise InfrastructureError(f"cannot write {request_path}: {error.strerror}") from error

    def discard() -> None:
        for path in (request_path, result_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def result(status: int) -> TaskResult:
        try:
            return _result(result_path, status)
        finally:
            discard()

    argv = (sys.executable, "-P", "-m", "dfm.core.standalone", request_path, result_path)
    return TaskCommand(argv=argv, result=result, discard=discard)


def _result(path: str, status: int) -> TaskResult:
    try:
        with open(path, "rb") as file:
            return decode_result(file.read())
    except FileNotFoundError:
        cause = f"the command that runs the task ended with status {status} and left no result"
    except (OSError, ProtocolError) as error:
        cause = f"the result of the task cannot be read: {error}"
    return TaskResult(outcome=Outcome.LOST, cause=cause)
