"""One attempt on this host: exactly what the local runner does, and what came of it as a message."""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable

from dfm.api.errors import DfmError, InfrastructureError
from dfm.api.runner import Answer, Outcome, Question, TaskRequest, TaskResult
from dfm.core.execute.body import BodyRunner
from dfm.core.execute.process import ProcessTrees
from dfm.core.execute.staging import write_bin_dir
from dfm.core.jobserver.lending import Lending
from dfm.core.jobserver.tokens import Lease, TokenSource
from dfm.core.wire.codec import decode_request, decode_talk, encode_result, encode_talk
from dfm.core.wire.messages import Result, Run
from dfm.core.worker.fitness import out_of_memory_kills

_MEMORY_ERROR = "MemoryError"

AskRun = Callable[[int, bytes], Awaitable[bytes]]
"""Takes an attempt and the question of its body to the run, and waits for the answer."""


class AttemptRunner:
    """Runs attempts, each holding a slot and a token of this worker's jobserver, but while it waits for an answer.

    Args:
        trees: entered.
        tokens: entered; as many as the worker has cores.
        host: for results of attempts that never started.
        slots: how many bodies may work at once.
        ask: takes questions to the run.
    """

    def __init__(self, trees: ProcessTrees, tokens: TokenSource, host: str, slots: int, ask: AskRun) -> None:
        self._trees = trees
        self._places = _Places(tokens, slots)
        self._host = host
        self._ask = ask
        self._bodies: dict[str, BodyRunner] = {}

    async def run(self, run: Run, environment: dict[str, str] | None) -> Result:
        """Run an attempt to its end; cancelled, it kills all of it before CancelledError goes on."""
        if environment is None:
            return self.unable(run.attempt, f"the environment {run.environment} was never sent")
        try:
            result, has_kills = await self._run_body(run, environment)
        except InfrastructureError as error:
            return self.unable(run.attempt, str(error))
        except DfmError as error:
            return self.failed(run.attempt, str(error))
        is_out_of_memory = result.outcome is Outcome.FAILED and (
            has_kills or (result.cause or "").startswith(_MEMORY_ERROR)
        )
        if is_out_of_memory:
            result = dataclasses.replace(result, cause=f"out of memory: {result.cause}")
        return _message(run.attempt, result, is_out_of_memory=is_out_of_memory)

    async def _run_body(self, run: Run, environment: dict[str, str]) -> tuple[TaskResult, bool]:
        """Return the result, and whether the kernel has killed something of this worker for memory meanwhile."""
        request = self._request(run, environment)
        place = Lending(self._places, await self._places.acquire())
        is_clean = False
        kills = out_of_memory_kills()

        async def serve(question: Question) -> Answer:
            async with place.lent():
                return decode_talk(await self._ask(run.attempt, encode_talk(question)))

        try:
            await self._trees.may_start()
            result = await self._body(request.root_rundir).run(request, place.lease, serve)
            is_clean = result.outcome is Outcome.SUCCEEDED
        finally:
            place.release(is_clean=is_clean)
        return result, out_of_memory_kills() > kills

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


class _Places:
    """A slot of the worker and a token of its jobserver together, for there may be more tokens than slots."""

    def __init__(self, tokens: TokenSource, slots: int) -> None:
        self._tokens = tokens
        self._slots = asyncio.Semaphore(slots)

    async def acquire(self) -> Lease:
        await self._slots.acquire()
        try:
            return await self._tokens.acquire()
        except BaseException:
            self._slots.release()
            raise

    def release(self, lease: Lease, *, is_clean: bool) -> None:
        self._tokens.release(lease, is_clean=is_clean)
        self._slots.release()


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
