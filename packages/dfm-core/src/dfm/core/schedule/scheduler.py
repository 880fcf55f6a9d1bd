"""Which node next: each node and each edge of the graph is looked at once.

A node is ready when the last of its needs has ended well; a node that collects the failures of its sub-tasks, when all
of them have ended. Ready nodes are taken in the order in which they became ready. What can be settled without a runner
(up to date, disabled, a built-in task) is settled at once; the rest is handed to the runner, never more than it wants
at a time. Nodes may come into being while the graph runs, always as a batch that somebody waits for. Whatever happens,
every node gets exactly one verdict.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from dfm.api.events import EventSink, TaskFinished, Verdict
from dfm.api.items import TASK_FAILURE, Item
from dfm.core.graph.growth import Grown, Growth
from dfm.core.graph.node import Graph, Guard, Node, add_dependent
from dfm.core.schedule.lifecycle import Ended, Lifecycle, Pending, Unfolding
from dfm.core.schedule.policy import FailurePolicy
from dfm.core.schedule.unfold import Batch, Unfolder

_SETTLED_BEFORE_YIELD = 64
"""Nodes settled in a row before the event loop gets its turn, so that signals and ended children are seen."""
_FAILURES = (Verdict.FAILED, Verdict.LOST, Verdict.REFUSED)


class RunOutcome(Struct):
    """How a run went: one verdict for each node, by index.

    Attributes:
        failures: those that no compound task has taken upon itself.
    """

    verdicts: list[Verdict | None]
    is_stopped: bool = False
    failures: Counter[Verdict] = field(default_factory=Counter)

    def counts(self, graph: Graph) -> dict[Verdict, int]:
        """Return how many visible nodes ended each way; verdicts that did not occur are left out."""
        found = Counter(
            verdict
            for node, verdict in zip(graph.nodes, self.verdicts, strict=True)
            if verdict is not None and node.is_visible
        )
        return dict(found)


class Scheduler:
    """Brings every node of one graph to its end."""

    def __init__(
        self,
        graph: Graph,
        lifecycle: Lifecycle,
        max_in_flight: int,
        policy: FailurePolicy,
        sink: EventSink,
        growth: Growth | None = None,
    ) -> None:
        nodes = graph.nodes
        self.graph = graph
        self.lifecycle = lifecycle
        self.max_in_flight = max_in_flight
        self.policy = policy
        self.sink = sink
        self.growth = growth
        self._dependents = graph.dependents()
        self._unmet = [len(set(node.needs)) for node in nodes]
        self._ready = deque(node.index for node in nodes if not node.needs)
        self._outputs: list[Sequence[Item]] = [()] * len(nodes)
        self._changed = [False] * len(nodes)
        self._outcome = RunOutcome([None] * len(nodes))
        self._marked: set[int] = set()
        self._failures = 0
        self._guarded: dict[Guard, list[Item]] = {}
        self._settled = 0
        self._group: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]] = set()
        self._unfolding: set[asyncio.Task[None]] = set()
        self._asking: dict[str, Node] = {}
        self._batch_of: dict[int, Batch] = {}
        self._open_batches: dict[Batch, None] = {}
        self._waiting: Counter[Node] = Counter()
        self._lending: set[Node] = set()
        self._awake = asyncio.Event()

    async def run(self) -> RunOutcome:
        """Run the graph to its end and return every node's verdict.

        Cancelling it cancels what runs; what had not started is told as not run, and CancelledError goes on.

        Raises:
            ExceptionGroup: holding the InfrastructureError for which the run cannot go on.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._drive()
        finally:
            self._settle_rest()
        return self._outcome

    def cancel_again(self) -> None:
        """Tell what is being stopped that there is no more patience: it is killed at once."""
        for task in [*self._running, *self._unfolding]:
            task.cancel()

    @property
    def outcome(self) -> RunOutcome:
        """The verdicts so far."""
        return self._outcome

    async def answer(self, task: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the body of a running task asks for; it holds no slot until it has its answer."""
        node = self._asking.get(task)
        if node is None or self.growth is None:
            return {"error": f"{task} does not run, and cannot ask for tasks"}
        return await Unfolder(self.lifecycle, self.growth, self).answer(node, question)

    async def run_batch(self, node: Node, grown: Grown) -> Batch:
        """Run new nodes of the graph to their end; the node that wants them waits meanwhile and holds no slot."""
        batch = Batch(grown, left=len(grown.nodes))
        self._admit(grown.nodes, batch)
        if batch.left == 0:
            return batch
        self._open_batches[batch] = None
        self._waiting[node] += 1
        if node.name in self._asking:
            self._lending.add(node)
        self._awake.set()
        try:
            await batch.done.wait()
        finally:
            self._waiting[node] -= 1
            if not self._waiting[node]:
                del self._waiting[node]
                self._lending.discard(node)
            self._open_batches.pop(batch, None)
            self._awake.set()
        if not node.has_body and not self._marked.isdisjoint(grown.last):
            self._marked.add(node.index)
        return batch

    def outputs(self, indices: Sequence[int]) -> list[Sequence[Item]]:
        """Return what nodes that have ended hand on."""
        return [self._outputs[index] for index in indices]

    def verdict(self, index: int) -> Verdict | None:
        """Return how a node ended."""
        return self._outcome.verdicts[index]

    def is_changed(self, indices: Sequence[int]) -> bool:
        """Return whether something that nodes hand on was made anew."""
        return any(self._changed[index] for index in indices)

    def failures(self, guard: Guard | None) -> list[Item]:
        """Return the failures that count in a compound task, as items."""
        return [] if guard is None else self._guarded.get(guard, [])

    async def _drive(self) -> None:
        while True:
            while self._has_room() and (taken := await self._next()) is not None:
                self._start(self._execute(*taken), self._running)
            if not self._running and not self._unfolding:
                return
            if self._is_stuck():
                self._break_deadlock()
                continue
            self._awake.clear()
            await self._awake.wait()

    def _has_room(self, *, for_one_of_us: bool = False) -> bool:
        """Whether one more may run; `for_one_of_us`: in the place of one that has ended and is counted still."""
        return len(self._running) - len(self._lending) - for_one_of_us < self.max_in_flight

    def _is_stuck(self) -> bool:
        """Whether all that goes on waits for nodes whose turn never comes."""
        return (
            not self._ready
            and len(self._waiting) == len(self._running) + len(self._unfolding)
            and all(batch.left for batch in self._open_batches)
        )

    async def _next(self) -> tuple[Node, Pending] | None:
        """Take ready nodes up to the first that wants the runner; None where there is none."""
        while self._ready:
            node = self.graph.nodes[self._ready.popleft()]
            pending = self._take(node)
            if pending is not None:
                return node, pending
            self._settled += 1
            if self._settled % _SETTLED_BEFORE_YIELD == 0:
                await asyncio.sleep(0)
        return None

    def _take(self, node: Node) -> Pending | None:
        """Settle a node, or begin to unfold it; what wants the runner comes back."""
        if self._outcome.verdicts[node.index] is not None:
            return None
        why = self._closed_by(node.guard)
        if why is not None:
            self._settle(node, Verdict.NOT_RUN, why)
            self._hold_back(node, Verdict.NOT_RUN, why)
            return None
        if node.is_tolerant and node.entry is not None and not self._is_good(node.entry):
            cause = f"needs {self.graph.nodes[node.entry].name.removesuffix('.in')}"
            self._settle(node, Verdict.BLOCKED, cause)
            self._hold_back(node, Verdict.BLOCKED, cause)
            return None
        step = self._prepare(node)
        match step:
            case Ended():
                self._finish(node, step)
            case Unfolding():
                self._start(self._unfold(node, step), self._unfolding)
            case Pending():
                return step
        return None

    def _closed_by(self, guard: Guard | None) -> str | None:
        """Return why no new node under this guard may start, None where it may."""
        if self.policy.is_exhausted(self._failures):
            return "the run ended before it"
        while guard is not None:
            failed = len(self._guarded.get(guard, ()))
            if guard.limit is not None and failed >= guard.limit:
                return f"{guard.name} starts nothing after {failed} {'failure' if failed == 1 else 'failures'}"
            guard = guard.around
        return None

    def _prepare(self, node: Node) -> Ended | Pending | Unfolding:
        if not node.needs and node.opens is None:
            return self.lifecycle.prepare(node, (), is_input_changed=False)
        received = [need for need in node.receives if self._is_good(need)]
        return self.lifecycle.prepare(
            node,
            [self._outputs[need] for need in received],
            is_input_changed=any(self._changed[need] for need in node.needs),
            marked_by=self._marked_by(node),
            failures=self.failures(node.opens),
            unmet=[self.graph.nodes[need].name for need in node.needs if not self._is_good(need)],
        )

    def _mark(self, node: Node, verdict: Verdict) -> None:
        """Note that what a node hands on counts as changed: it says so itself, or only hands on what counts so."""
        if not verdict.is_good or verdict is Verdict.DISABLED:
            return
        if node.always_runs or (not node.has_body and self._marked_by(node) is not None):
            self._marked.add(node.index)

    def _marked_by(self, node: Node) -> str | None:
        """Return the first of its needs whose items count as changed."""
        if not self._marked:
            return None
        found = next((need for need in node.needs if need in self._marked), None)
        return None if found is None else self.graph.nodes[found].name.removesuffix(".in")

    def _is_good(self, index: int) -> bool:
        verdict = self._outcome.verdicts[index]
        return verdict is not None and verdict.is_good

    def _start(self, work: "Coroutine[Any, Any, None]", kind: "set[asyncio.Task[None]]") -> None:
        task = self._group.create_task(work)
        kind.add(task)
        task.add_done_callback(self._stopped)

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._unfolding.discard(task)
        self._awake.set()

    async def _execute(self, node: Node, pending: Pending) -> None:
        """Execute a node, and in its place one after the other for as long as there is room and something is ready.

        A task of the event loop and three of its turns for each node would take longer than all that is decided of it.
        """
        task = asyncio.current_task()
        assert task is not None
        taken: tuple[Node, Pending] | None = (node, pending)
        while taken is not None:
            ended = await self._execute_one(*taken)
            if ended.verdict is Verdict.UP_TO_DATE:
                await asyncio.sleep(0)  # what comes from a cache waits for nothing, and may take its time
            if task.cancelling() or not self._has_room(for_one_of_us=True):
                return
            taken = await self._next()

    async def _execute_one(self, node: Node, pending: Pending) -> Ended:
        self._asking[node.name] = node
        try:
            ended = await self.lifecycle.execute(node, pending)
        except asyncio.CancelledError:
            self._finish(node, Ended(Verdict.CANCELLED, cause="the run was stopped"))
            raise
        finally:
            self._asking.pop(node.name, None)
        self._finish(node, ended)
        return ended

    async def _unfold(self, node: Node, step: Unfolding) -> None:
        assert self.growth is not None, "a graph with nodes that unfold comes with what makes them"
        try:
            ended = await Unfolder(self.lifecycle, self.growth, self).unfold(node, step)
        except asyncio.CancelledError:
            self._finish(node, Ended(Verdict.CANCELLED, cause="the run was stopped"))
            raise
        self._finish(node, ended)

    def _finish(self, node: Node, ended: Ended) -> None:
        assert self._outcome.verdicts[node.index] is None, node.name
        self._outcome.verdicts[node.index] = ended.verdict
        self._outputs[node.index] = ended.outputs or ()
        self._changed[node.index] = ended.is_changed
        self._mark(node, ended.verdict)
        self.sink.emit(self.lifecycle.event(node, ended))
        if ended.verdict in _FAILURES:
            self._count(node, ended)
        self._leave_batch(node, ended.verdict)
        if ended.verdict.is_good:
            self._release(node)
        elif ended.verdict is Verdict.BLOCKED:
            self._hold_back(node, Verdict.BLOCKED, ended.cause or f"needs {node.name}")
        elif ended.verdict is not Verdict.CANCELLED:
            self._hold_back(node, Verdict.BLOCKED, f"needs {node.name}")

    def _count(self, node: Node, ended: Ended) -> None:
        if node.guard is None:
            self._failures += 1
            self._outcome.failures[ended.verdict] += 1
            return
        result = ended.result
        markers = [] if result is None else [{"severity": str(m.severity), "msg": m.msg} for m in result.markers]
        self._guarded.setdefault(node.guard, []).append(
            {
                "type": TASK_FAILURE,
                "src": node.name,
                "seq": 0,
                "task_name": node.name,
                "status": 1 if result is None else result.status,
                "cause": ended.cause or "",
                "markers": markers,
            }
        )

    def _release(self, node: Node) -> None:
        for index in self._dependents[node.index]:
            self._count_down(index)

    def _count_down(self, index: int) -> None:
        self._unmet[index] -= 1
        if self._unmet[index] == 0 and self._outcome.verdicts[index] is None:
            self._ready.append(index)
            self._awake.set()

    def _hold_back(self, node: Node, verdict: Verdict, cause: str) -> None:
        """Give all that needs the node, near and far, its verdict: it will not run."""
        pending = list(self._dependents[node.index])
        while pending:
            index = pending.pop()
            held = self.graph.nodes[index]
            if self._outcome.verdicts[index] is not None:
                continue
            if held.is_tolerant:
                self._count_down(index)
                continue
            self._settle(held, verdict, cause)
            pending += self._dependents[index]

    def _settle(self, node: Node, verdict: Verdict, cause: str) -> None:
        """Give a node its verdict that was not looked at."""
        self._outcome.verdicts[node.index] = verdict
        self._outcome.is_stopped |= verdict is Verdict.NOT_RUN
        self.sink.emit(TaskFinished(task=node.name, verdict=verdict, is_visible=node.is_visible, cause=cause))
        self._leave_batch(node, verdict)

    def _admit(self, nodes: Sequence[Node], batch: Batch) -> None:
        """Take in new nodes; their needs are there already, or among them."""
        for node in nodes:
            assert node.index == len(self._dependents), node.name
            self._dependents.append(())
            self._outputs.append(())
            self._changed.append(False)
            self._unmet.append(0)
            self._outcome.verdicts.append(None)
            self._batch_of[node.index] = batch
        for node in nodes:
            needs = dict.fromkeys(node.needs)
            open_needs = [need for need in needs if self._outcome.verdicts[need] is None]
            for need in open_needs:
                add_dependent(self._dependents, need, (node.index,))
            self._unmet[node.index] = len(open_needs)
        for node in nodes:
            self._admit_one(node)

    def _admit_one(self, node: Node) -> None:
        if self._outcome.verdicts[node.index] is not None:
            return
        bad = next((n for n in node.needs if self.verdict(n) is not None and not self._is_good(n)), None)
        if bad is not None and not node.is_tolerant:
            cause = f"needs {self.graph.nodes[bad].name}"
            self._settle(node, Verdict.BLOCKED, cause)
            self._hold_back(node, Verdict.BLOCKED, cause)
        elif self._unmet[node.index] == 0:
            self._ready.append(node.index)

    def _leave_batch(self, node: Node, verdict: Verdict) -> None:
        batch = self._batch_of.pop(node.index, None)
        if batch is None:
            return
        batch.left -= 1
        if not verdict.is_good and (batch.culprit is None or verdict in _FAILURES):
            batch.culprit = batch.culprit if batch.has_failed else node.name
            batch.has_failed |= verdict in _FAILURES
        if batch.left == 0:
            batch.done.set()

    def _break_deadlock(self) -> None:
        """Settle the nodes of batches that wait for each other, or for whoever waits for them."""
        for batch in list(self._open_batches):
            for node in batch.grown.nodes:
                if self._outcome.verdicts[node.index] is None and batch.left > 0:
                    cause = "it needs a task that itself waits for this one"
                    self._settle(node, Verdict.BLOCKED, cause)
                    self._hold_back(node, Verdict.BLOCKED, cause)

    def _settle_rest(self) -> None:
        for node in self.graph.nodes:
            if node.index < len(self._outcome.verdicts) and self._outcome.verdicts[node.index] is None:
                self._settle(node, Verdict.NOT_RUN, "the run ended before it")
