"""One run of one graph inside one event loop: signals, the clock of reports, questions of bodies, the exit code."""

import asyncio
import signal
from types import TracebackType
from typing import Self

from dfm.api.errors import ExitCode
from dfm.api.events import EventSink, RunnerNotice, Verdict
from dfm.api.runner import Answer, Question, Runner, TaskRequest, TaskResult
from dfm.core.causes import first_cause
from dfm.core.crashpoint import crash_point
from dfm.core.flow.model import BUILTIN_SHELL
from dfm.core.graph.growth import Growth
from dfm.core.graph.node import Graph, Node
from dfm.core.record.store import RecordStore
from dfm.core.schedule.lifecycle import Lifecycle, Settings
from dfm.core.schedule.policy import FailurePolicy
from dfm.core.schedule.scheduler import Scheduler

_TICK_SECONDS = 0.2
"""How often reports are told that time passes: a clock on a status line that counts seconds needs no more."""
_STOP_SIGNALS = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.TERMINATED,
}


class Session:
    """One run of one graph inside one event loop, and what a signal does to it."""

    def __init__(
        self,
        graph: Graph,
        growth: Growth,
        settings: Settings,
        runner: Runner,
        sink: EventSink,
        policy: FailurePolicy,
    ) -> None:
        self._graph = graph
        self._growth = growth
        self._settings = settings
        self._runner = runner
        self._sink = sink
        self._policy = policy
        self._scheduler: Scheduler | None = None
        self._stopped_by: ExitCode | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Run to the end, or until a signal; return the exit code."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number, code in _STOP_SIGNALS.items():
            loop.add_signal_handler(number, self._stop, task, code)
        self._tick(loop)
        try:
            async with self._runner:
                crash_point("run.runner_open")
                store = RecordStore(self._settings.root_rundir, is_read_only=self._settings.is_dry)
                lifecycle = Lifecycle(self._settings, store, self._runner, self._sink)
                self._scheduler = Scheduler(
                    self._graph, lifecycle, self._runner.max_in_flight, self._policy, self._sink, self._growth
                )
                try:
                    await self._scheduler.run()
                finally:
                    store.save_index()
        except asyncio.CancelledError:
            if self._stopped_by is None:
                raise
            return self._stopped_by
        except ExceptionGroup as group:
            raise first_cause(group) from group
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)
        crash_point("run.finished")
        return self._exit_code()

    async def answer(self, task: str, question: Question) -> Answer:
        """Answer what the body of a running task asks."""
        if self._scheduler is None:
            return {"error": "nothing runs"}
        return await self._scheduler.answer(task, question)

    def counts(self) -> dict[Verdict, int]:
        """Return how many visible nodes ended each way."""
        return {} if self._scheduler is None else self._scheduler.outcome.counts(self._graph)

    def would_run(self) -> list[Node]:
        """Return the nodes that a dry run found to be given to the runner."""
        verdicts = self._scheduler.outcome.verdicts if self._scheduler is not None else []
        return [
            node
            for node, verdict in zip(self._graph.nodes, verdicts, strict=True)
            if verdict is Verdict.WOULD_RUN and node.task.script is not None and node.task.script.shell != BUILTIN_SHELL
        ]

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sink.tick()
        self._timer = loop.call_later(_TICK_SECONDS, self._tick, loop)

    def _stop(self, task: "asyncio.Task[int]", code: ExitCode) -> None:
        if self._stopped_by is None:
            self._stopped_by = code
            self._sink.emit(RunnerNotice(text="stopping; once more kills what still runs"))
            task.cancel()
        elif self._scheduler is not None:
            self._scheduler.cancel_again()

    def _exit_code(self) -> ExitCode:
        failures = self._scheduler.outcome.failures if self._scheduler is not None else {}
        if failures.get(Verdict.FAILED):
            return ExitCode.TASK_FAILED
        if failures.get(Verdict.REFUSED):
            return ExitCode.RUNNER_UNAVAILABLE
        if failures.get(Verdict.LOST):
            return ExitCode.INFRASTRUCTURE
        return ExitCode.OK


class Desk:
    """Takes questions of running bodies to the session, which begins after the runner is made."""

    def __init__(self) -> None:
        self.session: Session | None = None

    async def ask(self, task: str, question: Question) -> Answer:
        """Return the session's answer."""
        assert self.session is not None, "a body runs inside a session"
        return await self.session.answer(task, question)


class NoRunner(Runner):
    """The runner of a dry run: it opens nothing and is never asked."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    @property
    def max_in_flight(self) -> int:
        """One, so that the scheduler goes on."""
        return 1

    async def run(self, request: TaskRequest) -> TaskResult:
        raise AssertionError(f"a dry run does not run {request.task}")
