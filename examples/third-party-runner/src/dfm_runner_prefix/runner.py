"""Runs each task as one command: the prefix, and the command that DFM lends for the task."""

import asyncio
import os
import signal
from types import TracebackType
from typing import Self

from dfm.api.errors import RunnerError
from dfm.api.runner import Runner, RunnerContext, TaskRequest, TaskResult


class PrefixRunner(Runner):
    """A runner with as many slots as `-j` says, or as this machine has CPUs."""

    def __init__(self, context: RunnerContext, prefix: tuple[str, ...], stop_seconds: float) -> None:
        self._context = context
        self._prefix = prefix
        self._stop_seconds = stop_seconds
        self._slot_count = context.jobs or len(os.sched_getaffinity(0))
        self._slots = asyncio.Semaphore(self._slot_count)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Every task has ended: `run` returns or raises only then."""

    @property
    def max_in_flight(self) -> int:
        """As many tasks as there are slots; more would only wait."""
        return self._slot_count

    async def run(self, request: TaskRequest) -> TaskResult:
        """Run one task, once there is a slot."""
        async with self._slots:
            command = self._context.task_command(request)
            try:
                status = await self._call([*self._prefix, *command.argv])
            except BaseException:
                command.discard()
                raise
            return command.result(status)

    async def _call(self, argv: list[str]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise RunnerError(
                f"cannot start {argv[0]}: {error.strerror}", hint="dfm doctor --runner prefix looks for it"
            ) from error
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                await self._stop(process)

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        """Stop the command, and with it the task: SIGTERM, and once more where we are cancelled once more."""
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except asyncio.CancelledError:
            await self._stop(process)
            raise
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
