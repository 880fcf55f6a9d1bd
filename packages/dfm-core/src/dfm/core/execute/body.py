"""One task request on this host: the body staged, run in a process group of its own, and its results harvested.

The log is the body's own stdout and stderr; DFM never reads it while it grows, so its size and the length of its lines
cost nothing.
"""

import contextlib
import functools
import os
import signal
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from dfm.api.errors import InfrastructureError
from dfm.api.runner import (
    Answer,
    BuiltinBody,
    CommandRecord,
    Outcome,
    PythonBody,
    Question,
    ShellBody,
    TaskRequest,
    TaskResult,
    log_name,
)
from dfm.api.task import Marker, Severity
from dfm.core.crashpoint import crash_point
from dfm.core.execute.harvest import Harvest, harvest_python, harvest_script
from dfm.core.execute.process import Ended, ForkedCall, Launch, ProcessTrees, StartError
from dfm.core.execute.questions import QuestionDesk, Serve
from dfm.core.execute.staging import ShellNotFoundError, own_prefix, stage_shell
from dfm.core.jobserver.tokens import Lease

COMMAND_NOT_FOUND = 127


class BodyRunner(Struct):
    """Runs bodies of this run.

    Attributes:
        bin_dir: directory that goes first on the PATH of scripts; holds `dfm-out`.
    """

    trees: ProcessTrees
    bin_dir: str

    async def run(self, request: TaskRequest, lease: Lease, serve: Serve | None = None) -> TaskResult:
        """Run the request's body to its end and return what came of it.

        Cancelling kills the body's whole process tree before CancelledError goes on.

        Args:
            request: what to run.
            lease: the right to run it.
            serve: answers what the body asks of the run; None refuses every question.

        Raises:
            InfrastructureError: the log or the staged files cannot be written.
        """
        output = _open_log(request)
        try:
            match request.body:
                case ShellBody():
                    return await self._run_script(request, lease, output)
                case PythonBody():
                    return await self._run_python(request, lease, output, serve or _refuse)
                case BuiltinBody(name):
                    raise AssertionError(f"the built-in task {name} never reaches a runner")
        finally:
            os.close(output)

    async def _run_script(self, request: TaskRequest, lease: Lease, output: int) -> TaskResult:
        started_at = _now()
        try:
            staged = stage_shell(request, bin_dir=self.bin_dir)
        except ShellNotFoundError as error:
            return _not_started(str(error), COMMAND_NOT_FOUND, started_at)
        crash_point("execute.staged")
        launch = Launch(
            argv=staged.argv,
            cwd=request.rundir,
            env={**staged.env, **lease.environment},
            output=output,
            pass_fds=lease.pass_fds,
            token=_token(request),
        )
        try:
            ended = await self.trees.run(launch)
        except StartError as error:
            return _not_started(str(error), error.status, started_at)
        crash_point("execute.body_ended")
        harvest = harvest_script(request, staged)
        crash_point("execute.harvested")
        commands = [CommandRecord(_shown(request.body), ended.status)]
        return _result(ended, harvest, ended.status, commands, started_at)

    async def _run_python(self, request: TaskRequest, lease: Lease, output: int, serve: Serve) -> TaskResult:
        started_at = _now()
        result_path = own_prefix(request) + "result.json"
        try:
            async with QuestionDesk(serve) as desk:
                call = ForkedCall(
                    function=_python_body(request, result_path, desk.child_fd),
                    cwd=request.rundir,
                    env={**request.env, **lease.environment},
                    output=output,
                    pass_fds=(*lease.pass_fds, desk.child_fd),
                    token=_token(request),
                )
                ended = await self.trees.call(call)
        except StartError as error:
            return _not_started(str(error), error.status, started_at)
        crash_point("execute.body_ended")
        harvest = harvest_python(result_path, request.rundir)
        crash_point("execute.harvested")
        status = ended.status or harvest.status
        return _result(ended, harvest, status, harvest.commands, started_at)


def _open_log(request: TaskRequest) -> int:
    """Return a descriptor of an empty log; an earlier attempt that may still run keeps a file without a name."""
    path = os.path.join(request.rundir, log_name(request.artefact))
    try:
        if request.attempt > 1:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InfrastructureError(f"cannot write the log {path}: {error.strerror}") from error


async def _refuse(question: Question) -> Answer:
    return {"error": f"a task cannot ask for {question.get('ask', 'anything')} here"}


def _python_body(request: TaskRequest, result_path: str, question_fd: int) -> Callable[[], int]:
    def run() -> int:
        from dfm.core.execute.python_child import run_python_body  # noqa: PLC0415  (only the child needs it)

        return run_python_body(request, result_path, question_fd)

    return run


def _result(
    ended: Ended, harvest: Harvest, status: int, commands: Sequence[CommandRecord], started_at: str
) -> TaskResult:
    cause = _cause(ended, harvest, status)
    problems = [Marker(Severity.ERROR, problem) for problem in harvest.problems]
    return TaskResult(
        outcome=Outcome.SUCCEEDED if cause is None else Outcome.FAILED,
        cause=cause,
        status=status or (0 if cause is None else 1),
        changed=harvest.changed,
        outputs=harvest.outputs,
        memento=harvest.memento,
        markers=[*harvest.markers, *problems],
        commands=commands,
        host=_host(),
        started_at=started_at,
        seconds=ended.seconds,
        cpu_seconds=ended.cpu_seconds,
        max_rss_bytes=ended.max_rss_bytes,
    )


def _cause(ended: Ended, harvest: Harvest, status: int) -> str | None:
    if ended.signal is not None:
        return f"killed by signal {ended.signal} ({_signal_name(ended.signal)})"
    if harvest.error is not None:
        return harvest.error
    if status != 0:
        return f"exit status {status}"
    return harvest.problems[0] if harvest.problems else None


def _not_started(cause: str, status: int, started_at: str) -> TaskResult:
    return TaskResult(
        outcome=Outcome.FAILED,
        cause=cause,
        status=status,
        markers=[Marker(Severity.ERROR, cause)],
        host=_host(),
        started_at=started_at,
    )


@functools.cache
def _host() -> str:
    return socket.gethostname()


def _token(request: TaskRequest) -> str:
    return f"{request.run_id}/{request.attempt}/{request.task}"


def _shown(body: object) -> str:
    assert isinstance(body, ShellBody)
    return body.text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
