"""The local runner: bodies on this machine, each holding one token of the jobserver while it runs.

`-j N` is exact: N tokens exist, a body costs one, and a `make` or `ninja` in a body draws its further jobs from the
rest.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from dfm.api.runner import Answer, Outcome, Question, Runner, RunnerContext, TaskRequest, TaskResult
from dfm.core.execute.body import BodyRunner
from dfm.core.execute.process import ProcessTrees
from dfm.core.execute.staging import write_bin_dir
from dfm.core.jobserver.choose import token_source
from dfm.core.jobserver.tokens import Lease, TokenSource

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
        slot = _Slot(self._tokens, await self._tokens.acquire())
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


class _Slot:
    """The token of one body, which others may have while the body waits for an answer of the run."""

    def __init__(self, tokens: TokenSource, lease: Lease) -> None:
        self._tokens = tokens
        self._waiting = 0
        self._held: Lease | None = lease
        self._is_over = False
        self.lease = lease

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Give the token away; take one again when the last of the body's questions is answered."""
        self._waiting += 1
        if self._held is not None:
            self._tokens.release(self._held, is_clean=True)
            self._held = None
        try:
            yield
        finally:
            self._waiting -= 1
        if self._waiting == 0 and not self._is_over:
            self._held = await self._tokens.acquire()
            self._end_if_over()

    def _end_if_over(self) -> None:
        """Give back what came too late: the body ended while its token was waited for."""
        if self._is_over:
            self.release(is_clean=True)

    def release(self, *, is_clean: bool) -> None:
        """Give the token back for good."""
        self._is_over = True
        if self._held is not None:
            self._tokens.release(self._held, is_clean=is_clean)
            self._held = None


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0))
