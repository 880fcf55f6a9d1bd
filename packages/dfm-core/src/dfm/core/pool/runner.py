"""The runner that hands its tasks to a pool: one in this process, or the one of a daemon. It cannot tell which.

A task is submitted under a ticket of this run and waited for without a time-out: the pool promises that every task
ends, as lost if need be. When `run` is cancelled it waits until the pool says that nothing of the task is left, but no
longer than CANCEL_SECONDS: then the worker cannot be reached, and its lease ends the task.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from dfm.api.errors import RunnerError
from dfm.api.events import Progress, RunnerWaits, TaskMoved
from dfm.api.runner import Ask, Outcome, Resources, Runner, TaskRequest, TaskResult, nobody_asks
from dfm.core.crashpoint import crash_point
from dfm.core.pool.questions import QuestionsOfTask
from dfm.core.runfacts import Tell, nobody_listens
from dfm.core.wire.codec import decode_result, encode_request
from dfm.core.wire.environment import environment_message
from dfm.core.wire.messages import (
    Asked,
    CancelTask,
    Close,
    Done,
    FromClient,
    InFlight,
    Notice,
    Opened,
    PoolWaits,
    Received,
    Shape,
    Submit,
    TaskState,
    ToClient,
)

CANCEL_SECONDS = 30.0
_FIRST_IN_FLIGHT = 64

_log = logging.getLogger(__name__)


class PoolLink(Protocol):
    """The way to a pool. Entering it opens the run; leaving it closes the run and ends what is left of it."""

    async def __aenter__(self) -> Self:
        """Open the run; `Opened` has come when this returns."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the run."""

    def send(self, message: FromClient) -> None:
        """Say something to the pool."""


Connect = Callable[[Callable[[ToClient], None], Callable[[str], None]], PoolLink]
"""Makes a link from what hears the pool and what is told that the link is broken for good."""


class Traces(Struct, frozen=True):
    """What is done before the first task is handed to the pool, and when nothing of the run is there any more."""

    leave: Callable[[], None]
    remove: Callable[[], None]


class PooledRunner(Runner):
    """Runs task requests on the workers of a pool.

    Args:
        connect: makes the link.
        notice: shows one line to the person at the terminal.
        environment: of this run, filtered: what requests have in common.
        traces: tells the next run in the directory, should this one be killed.
        ask: takes questions of running bodies to the run.
        tell: is told how the tasks stand.
        jobs: most tasks in flight at once, whatever the pool takes; None leaves it to the pool.
    """

    def __init__(
        self,
        connect: Connect,
        notice: Callable[[str], None],
        environment: Mapping[str, str],
        traces: Traces,
        ask: Ask = nobody_asks,
        tell: Tell = nobody_listens,
        jobs: int | None = None,
    ) -> None:
        self._link = connect(self._hear, self._broken)
        self._notice = notice
        self._traces = traces
        self._is_something_left = False
        self.environment = environment
        self._environment = environment_message(environment)
        self._ask = ask
        self._tell = tell
        self._tasks: dict[int, str] = {}
        self._questions: dict[int, QuestionsOfTask] = {}
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self._last_ticket = 0
        self._in_flight = _FIRST_IN_FLIGHT
        self._jobs = jobs
        self._why_broken: str | None = None

    async def __aenter__(self) -> Self:
        self._traces.leave()
        try:
            await self._link.__aenter__()
        except BaseException:
            self._traces.remove()
            raise
        self._link.send(self._environment)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        crash_point("client.closing")
        self._link.send(Close())
        await self._link.__aexit__(kind, error, traceback)
        if not self._is_something_left:
            self._traces.remove()

    @property
    def max_in_flight(self) -> int:
        """As many as the pool wants at once, but no more than the run was told to have."""
        return self._in_flight if self._jobs is None else min(self._in_flight, self._jobs)

    async def run(self, request: TaskRequest) -> TaskResult:
        """Run one task on whichever worker the pool finds.

        Raises:
            RunnerError: the pool is gone.
        """
        if self._why_broken is not None:
            raise RunnerError(self._why_broken)
        self._last_ticket += 1
        ticket = self._last_ticket
        self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._tasks[ticket] = request.task
        self._tell(TaskMoved(task=request.task, progress=Progress.QUEUED))
        questions = self._questions[ticket] = self._questions_of(request.task, ticket)
        self._link.send(
            Submit(
                ticket=ticket,
                task=request.task,
                shape=shape_of(request.resources),
                larger=tuple(shape_of(larger) for larger in _growth(request.resources)),
                spec=encode_request(request, self.environment),
                environment=self._environment.digest,
                wall_seconds=request.resources.wall_seconds,
            )
        )
        crash_point("client.submit")
        try:
            done = await self._waiting[ticket]
        except asyncio.CancelledError:
            await self._cancel(ticket)
            raise
        finally:
            self._waiting.pop(ticket, None)
            del self._tasks[ticket]
            del self._questions[ticket]
            await questions.close()
        self._link.send(Received(ticket=ticket))
        crash_point("client.received")
        return _result(done)

    def _questions_of(self, task: str, ticket: int) -> QuestionsOfTask:
        return QuestionsOfTask(task, self._ask, self._link.send, lambda error: self._end_with(ticket, error))

    def _end_with(self, ticket: int, error: BaseException) -> None:
        future = self._waiting.get(ticket)
        if future is not None and not future.done():
            future.set_exception(error)

    async def _cancel(self, ticket: int) -> None:
        """Have a task stopped and wait until it is; a second cancellation kills it."""
        future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        is_urgent = False
        loop = asyncio.get_running_loop()
        until = loop.time() + CANCEL_SECONDS
        while not future.done() and self._why_broken is None and loop.time() < until:
            self._link.send(CancelTask(ticket=ticket, is_urgent=is_urgent))
            try:
                await asyncio.wait([future], timeout=until - loop.time())
            except asyncio.CancelledError:
                if is_urgent:
                    raise
                is_urgent = True
        if future.done() and not future.cancelled() and future.exception() is None:
            self._link.send(Received(ticket=ticket))
        else:
            self._is_something_left = True

    def _hear(self, message: ToClient) -> None:
        match message:
            case Done():
                future = self._waiting.get(message.ticket)
                if future is None:
                    self._link.send(Received(ticket=message.ticket))
                elif not future.done():
                    future.set_result(message)
            case Asked():
                questions = self._questions.get(message.ticket)
                if questions is not None:
                    questions.take(message)
            case TaskState(ticket=ticket):
                task = self._tasks.get(ticket)
                if task is not None:
                    progress = Progress(message.state)
                    self._tell(TaskMoved(task=task, progress=progress, reason=message.reason, host=message.host))
            case Notice(text=text):
                self._notice(text)
            case PoolWaits(text=text):
                self._tell(RunnerWaits(text=text))
            case Opened(in_flight=count) | InFlight(count=count):
                self._in_flight = count
            case _:
                pass

    def _broken(self, why: str) -> None:
        """Be told that the pool is gone: what waits for it cannot go on."""
        self._why_broken = why
        self._is_something_left = self._is_something_left or bool(self._tasks)
        for ticket in self._waiting:
            self._end_with(ticket, RunnerError(why))


def shape_of(resources: Resources) -> Shape:
    """Return what a task's resources ask of a worker."""
    return Shape(
        cores=resources.cores,
        memory_bytes=resources.memory_bytes,
        wall_seconds=resources.wall_seconds,
        queue=resources.queue,
        resource_class=resources.resource_class,
        resource_select=resources.resource_select,
    )


def _growth(resources: Resources) -> Iterator[Resources]:
    while resources.larger is not None:
        resources = resources.larger
        yield resources


def _result(done: Done) -> TaskResult:
    if not done.body:
        outcome = Outcome.REFUSED if done.outcome == Outcome.REFUSED else Outcome.LOST
        return TaskResult(outcome=outcome, cause=done.cause or "the pool lost it", status=1)
    return dataclasses.replace(decode_result(done.body), resource_class=done.resource_class)
