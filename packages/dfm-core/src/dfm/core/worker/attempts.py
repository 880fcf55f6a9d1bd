"""One attempt on this host: exactly what the local runner does, and what came of it as a message."""

import dataclasses
import os

from dfm.api.errors import DfmError, InfrastructureError
from dfm.api.runner import Outcome, TaskRequest, TaskResult
from dfm.core.execute.body import BodyRunner
from dfm.core.execute.process import ProcessTrees
from dfm.core.execute.staging import write_bin_dir
from dfm.core.jobserver.tokens import TokenSource
from dfm.core.wire.codec import decode_request, encode_result
from dfm.core.wire.messages import Result, Run
from dfm.core.worker.fitness import out_of_memory_kills

_MEMORY_ERROR = "MemoryError"


class AttemptRunner:
    """Runs attempts, each holding a token of this worker's jobserver.

    Args:
        trees: entered.
        tokens: entered; as many as the worker has cores.
        host: for results of attempts that never started.
    """

    def __init__(self, trees: ProcessTrees, tokens: TokenSource, host: str) -> None:
        self._trees = trees
        self._tokens = tokens
        self._host = host
        self._bodies: dict[str, BodyRunner] = {}

    async def run(self, run: Run, environment: dict[str, str] | None) -> Result:
        """Run an attempt to its end; cancelled, it kills all of it before CancelledError goes on."""
        if environment is None:
            return self.unable(run.attempt, f"the environment {run.environment} was never sent")
        kills = out_of_memory_kills()
        try:
            result = await self._run_body(run, environment)
        except InfrastructureError as error:
            return self.unable(run.attempt, str(error))
        except DfmError as error:
            return self.failed(run.attempt, str(error))
        is_out_of_memory = result.outcome is Outcome.FAILED and (
            out_of_memory_kills() > kills or (result.cause or "").startswith(_MEMORY_ERROR)
        )
        if is_out_of_memory:
            result = dataclasses.replace(result, cause=f"out of memory: {result.cause}")
        return _message(run.attempt, result, is_out_of_memory=is_out_of_memory)

    async def _run_body(self, run: Run, environment: dict[str, str]) -> TaskResult:
        request = self._request(run, environment)
        lease = await self._tokens.acquire()
        is_clean = False
        try:
            result = await self._body(request.root_rundir).run(request, lease)
            is_clean = result.outcome is Outcome.SUCCEEDED
        finally:
            self._tokens.release(lease, is_clean=is_clean)
        return result

    def _request(self, run: Run, environment: dict[str, str]) -> TaskRequest:
        request = decode_request(run.spec, environment)
        request = dataclasses.replace(request, attempt=request.attempt + run.number - 1)
        if not os.path.isdir(request.rundir):
            raise InfrastructureError(f"the directory {request.rundir} is not there on {self._host}")
        return request

    def failed(self, attempt: int, cause: str) -> Result:
        """Return the result of an attempt that failed without a body's own words."""
        return _message(attempt, TaskResult(outcome=Outcome.FAILED, cause=cause, status=1, host=self._host))

    def unable(self, attempt: int, cause: str) -> Result:
        """Return the result of an attempt that this host could not run."""
        result = TaskResult(outcome=Outcome.LOST, cause=cause, status=1, host=self._host)
        return _message(attempt, result, is_infrastructure=True)

    def _body(self, root_rundir: str) -> BodyRunner:
        body = self._bodies.get(root_rundir)
        if body is None:
            body = self._bodies[root_rundir] = BodyRunner(self._trees, write_bin_dir(root_rundir))
        return body


def _message(
    attempt: int, result: TaskResult, *, is_out_of_memory: bool = False, is_infrastructure: bool = False
) -> Result:
    return Result(
        attempt=attempt,
        outcome=str(result.outcome),
        body=encode_result(result),
        is_out_of_memory=is_out_of_memory,
        is_infrastructure=is_infrastructure,
    )
