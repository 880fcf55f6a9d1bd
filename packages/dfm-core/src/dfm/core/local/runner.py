"""The local runner: bodies on this machine, each holding one token of the jobserver while it runs.

`-j N` is exact: N tokens exist, a body costs one, and a `make` or `ninja` in a body draws its further jobs from the
rest.
"""

import os
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from dfm.api.runner import Answer, Outcome, Question, Runner, RunnerContext, TaskRequest, TaskResult
from dfm.core.execute.body import BodyRunner
from dfm.core.execute.process import ProcessTrees
from dfm.core.execute.staging import write_bin_dir
from dfm.core.jobserver.choose import token_source
from dfm.core.jobserver.lending import Lending

_CLIENT_IN_FLIGHT = 256
"""Requests taken at once under somebody else's jobserver, whose size we cannot know; most of them wait for a token."""


class LocalRunner(Runner):
    """Runs task requests on this machine."""

    def __init__(self, context: RunnerContext, *, kill_grace: float) -> None:
        self._context = context
        self._trees = ProcessTrees(run_token=context.run_id, grace=kill_grace)
        self._tokens, notice = token_source(context.jobs, os.environ, default_jobs=_usable_cpus(), name=context.run_id)
        self._body: BodyRunner | None = None
        self._stack = AsyncExitStack()
        if notice is not None:
            context.notice(notice)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._tokens)
        await self._stack.enter_async_context(self._trees)
        self._body = BodyRunner(self._trees, write_bin_dir(self._context.root_rundir))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def max_in_flight(self) -> int:
        """As many bodies as there are tokens; more would only wait."""
        return self._tokens.limit or _CLIENT_IN_FLIGHT

    async def run(self, request: TaskRequest) -> TaskResult:
        """Run one task under one token."""
        assert self._body is not None, "the runner is entered before its first request"
        slot = Lending(self._tokens, await self._tokens.acquire())
        is_clean = False

        async def serve(question: Question) -> Answer:
            async with slot.lent():
                return await self._context.ask(request.task, question)

        try:
            result = await self._body.run(request, slot.lease, serve)
            is_clean = result.outcome is Outcome.SUCCEEDED
        finally:
            slot.release(is_clean=is_clean)
        return result


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0))
