"""Which node next: each node and each edge of the graph is looked at once.

A node is ready when the last of its needs has ended well. Ready nodes are taken in the order in which they became
ready. What can be settled without a runner (up to date, disabled, a built-in task) is settled at once; the rest is
handed to the runner, never more than it wants at a time. Whatever happens, every node gets exactly one verdict.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dfm.api.events import EventSink, TaskFinished, Verdict
from dfm.api.items import Item
from dfm.core.graph.node import Graph, Node
from dfm.core.schedule.lifecycle import Ended, Lifecycle, Pending
from dfm.core.schedule.policy import FailurePolicy

_SETTLED_BEFORE_YIELD = 64
"""Nodes settled in a row before the event loop gets its turn, so that signals and ended children are seen."""


@dataclass(slots=True)
class RunOutcome:
    """How a run went: one verdict for each node, by index."""

    verdicts: list[Verdict | None]
    is_stopped: bool = False

    def counts(self, graph: Graph) -> dict[Verdict, int]:
        """Return how many visible nodes ended each way; verdicts that did not occur are left out."""
        found = Counter(
            verdict
            for node, verdict in zip(graph.nodes, self.verdicts, strict=True)
            if verdict is not None and node.is_visible
        )
        return dict(found)


@dataclass(slots=True)
class Scheduler:
    """Brings every node of one graph to its end."""

    graph: Graph
    lifecycle: Lifecycle
    max_in_flight: int
    policy: FailurePolicy
    sink: EventSink
    _dependents: Sequence[Sequence[int]] = field(init=False)
    _unmet: list[int] = field(init=False)
    _ready: deque[int] = field(init=False)
    _outputs: list[Sequence[Item]] = field(init=False)
    _changed: list[bool] = field(init=False)
    _outcome: RunOutcome = field(init=False)
    _failures: int = 0
    _running: "dict[asyncio.Task[None], Node]" = field(default_factory=dict)
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        nodes = self.graph.nodes
        self._dependents = self.graph.dependents()
        self._unmet = [len(set(node.needs)) for node in nodes]
        self._ready = deque(node.index for node in nodes if not node.needs)
        self._outputs = [()] * len(nodes)
        self._changed = [False] * len(nodes)
        self._outcome = RunOutcome([None] * len(nodes))

    async def run(self) -> RunOutcome:
        """Run the graph to its end and return every node's verdict.

        Cancelling it cancels what runs; what had not started is told as not run, and CancelledError goes on.

        Raises:
            ExceptionGroup: holding the InfrastructureError for which the run cannot go on.
        """
        try:
            async with asyncio.TaskGroup() as group:
                await self._drive(group)
        finally:
            self._settle_rest()
        return self._outcome

    def cancel_again(self) -> None:
        """Tell what is being stopped that there is no more patience: it is killed at once."""
        for task in self._running:
            task.cancel()

    @property
    def outcome(self) -> RunOutcome:
        """The verdicts so far."""
        return self._outcome

    async def _drive(self, group: asyncio.TaskGroup) -> None:
        settled = 0
        while True:
            while self._ready and len(self._running) < self.max_in_flight and not self._is_closed():
                step = self._prepare(self.graph.nodes[self._ready.popleft()])
                if step is not None:
                    self._start(group, *step)
                settled += 1
                if settled % _SETTLED_BEFORE_YIELD == 0:
                    await asyncio.sleep(0)
            if not self._running:
                return
            self._awake.clear()
            await self._awake.wait()

    def _is_closed(self) -> bool:
        return self.policy.is_exhausted(self._failures)

    def _prepare(self, node: Node) -> "tuple[Node, Pending] | None":
        step = self.lifecycle.prepare(
            node,
            [self._outputs[need] for need in node.needs],
            is_input_changed=any(self._changed[need] for need in node.needs),
        )
        if isinstance(step, Ended):
            self._finish(node, step)
            return None
        return node, step

    def _start(self, group: asyncio.TaskGroup, node: Node, pending: Pending) -> None:
        task = group.create_task(self._execute(node, pending))
        self._running[task] = node
        task.add_done_callback(self._stopped)

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task, None)
        self._awake.set()

    async def _execute(self, node: Node, pending: Pending) -> None:
        try:
            ended = await self.lifecycle.execute(node, pending)
        except asyncio.CancelledError:
            self._finish(node, Ended(Verdict.CANCELLED, cause="the run was stopped"))
            raise
        self._finish(node, ended)

    def _finish(self, node: Node, ended: Ended) -> None:
        assert self._outcome.verdicts[node.index] is None, node.name
        self._outcome.verdicts[node.index] = ended.verdict
        self._outputs[node.index] = ended.outputs
        self._changed[node.index] = ended.is_changed
        self.sink.emit(self.lifecycle.event(node, ended))
        if ended.verdict.is_good:
            self._release(node)
            return
        if ended.verdict in (Verdict.FAILED, Verdict.LOST):
            self._failures += 1
        if ended.verdict is not Verdict.CANCELLED:
            self._block(node)

    def _release(self, node: Node) -> None:
        for index in self._dependents[node.index]:
            self._unmet[index] -= 1
            if self._unmet[index] == 0 and self._outcome.verdicts[index] is None:
                self._ready.append(index)

    def _block(self, node: Node) -> None:
        """Give all that needs the node, near and far, its verdict: it will not run."""
        pending = [(index, node.name) for index in self._dependents[node.index]]
        while pending:
            index, culprit = pending.pop()
            if self._outcome.verdicts[index] is not None:
                continue
            self._outcome.verdicts[index] = Verdict.BLOCKED
            blocked = self.graph.nodes[index]
            self.sink.emit(
                TaskFinished(
                    task=blocked.name,
                    verdict=Verdict.BLOCKED,
                    is_visible=blocked.is_visible,
                    cause=f"needs {culprit}",
                )
            )
            pending += [(further, culprit) for further in self._dependents[index]]

    def _settle_rest(self) -> None:
        for node in self.graph.nodes:
            if self._outcome.verdicts[node.index] is None:
                self._outcome.verdicts[node.index] = Verdict.NOT_RUN
                self._outcome.is_stopped = True
                self.sink.emit(
                    TaskFinished(
                        task=node.name,
                        verdict=Verdict.NOT_RUN,
                        is_visible=node.is_visible,
                        cause="the run ended before it",
                    )
                )
