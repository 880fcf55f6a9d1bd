"""What becomes of a node whose sub-tasks are only known when its turn comes.

`control` chooses a branch, or runs its body again and again with a state that the items of each iteration change;
`strategy: generate` lets code say which tasks there are; `std.RunTasks` and Python tasks ask for tasks by name. Each is
written as it reads: make the nodes, have them run, look at what came of it.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from dfm.api.events import Verdict
from dfm.api.items import ENV, TASK_FAILURE, Item
from dfm.api.runner import Outcome, TaskResult
from dfm.core.flow.diagnostics import Diagnostics, FlowInvalid
from dfm.core.flow.model import Branch, Control, ControlKind, ParameterType, Script
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node as SourceNode
from dfm.core.flow.values import coerce, evaluate, evaluate_text, is_true
from dfm.core.graph import dataflow
from dfm.core.graph.growth import Grown, Growth, TaskSpec
from dfm.core.graph.names import NodeNames
from dfm.core.graph.node import Guard, Node
from dfm.core.graph.parameters import Parameters
from dfm.core.schedule.lifecycle import Ended, Lifecycle, Pending, Unfolding
from dfm.core.schedule.specs import SpecError, specs_from_items, specs_from_text, specs_of

MAX_ITERATIONS = 100_000
_BREAK = "_break"
_NOT_DATA = frozenset({"type", "src", "seq"})


class Batch(Struct, eq=False):
    """Nodes that came into being together, and how it goes with them.

    Attributes:
        left: how many have no verdict yet.
        culprit: the first that failed, else the first that did not end well.
    """

    grown: Grown
    left: int
    culprit: str | None = None
    has_failed: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Host(Protocol):
    """Runs nodes."""

    async def run_batch(self, node: Node, grown: Grown) -> Batch:
        """Run new nodes of the graph to their end, while the node that wants them waits."""

    def outputs(self, indices: Sequence[int]) -> list[Sequence[Item]]:
        """Return what nodes that have ended hand on."""

    def verdict(self, index: int) -> Verdict | None:
        """Return how a node ended."""

    def is_changed(self, indices: Sequence[int]) -> bool:
        """Return whether something that nodes hand on was made anew."""

    def failures(self, guard: Guard | None) -> list[Item]:
        """Return the failures that count in a compound task, as items."""


class _Stopped(Exception):  # noqa: N818  (no error of ours: a sub-task did not end well)
    """A sub-task did not end well; the rest is not run."""

    def __init__(self, culprit: str) -> None:
        super().__init__(culprit)
        self.culprit = culprit


class _GeneratorFailedError(Exception):
    """The code that makes sub-tasks ended badly."""

    def __init__(self, result: TaskResult) -> None:
        super().__init__(f"its generator failed: {result.cause}")
        self.result = result


class _Endless(Exception):  # noqa: N818  (a person's loop)
    """A loop did not end."""


class Unfolder(Struct, eq=False):
    """Makes and runs the sub-tasks of a node.

    Attributes:
        is_changed: whether one of them, or what they receive, was made anew.
    """

    lifecycle: Lifecycle
    growth: Growth
    host: Host
    is_changed: bool = False

    async def unfold(self, node: Node, step: Unfolding) -> Ended:
        """Bring an unfolding node to its end."""
        self.is_changed = step.is_input_changed
        try:
            items = await self._items(node, step)
        except _Stopped as stopped:
            return await self._collected(node, step, [], stopped.culprit)
        except _GeneratorFailedError as failed:
            log = self.lifecycle.log(node)
            return Ended(Verdict.FAILED, cause=str(failed), is_changed=True, result=failed.result, log=log)
        except (FlowInvalid, SpecError, _Endless) as error:
            return Ended(Verdict.FAILED, cause=str(error), is_changed=True)
        return await self._collected(node, step, items, None)

    async def answer(self, node: Node, question: Mapping[str, Any]) -> dict[str, Any]:
        """Run the tasks that the body of a task asks for, and return how each ended.

        Args:
            node: whose body asks.
            question: `tasks`, a list of mappings with `type`, `name`, `params` and `needs`; `max_failures`.
        """
        limit = question.get("max_failures")
        guard = None if limit is None else Guard(f"{node.name}", limit if limit > 0 else None, node.guard)
        try:
            specs = specs_of(question.get("tasks", []), node.name)
            grown = self.growth.tasks(node, specs, guard or node.guard, node.params)
        except (FlowInvalid, SpecError) as error:
            return {"error": str(error)}
        self.lifecycle.makers.add(node)
        await self.host.run_batch(node, grown)
        results = []
        for spec, index in zip(specs, grown.members, strict=True):
            verdict = self.host.verdict(index)
            is_good = verdict is not None and verdict.is_good
            outputs = self.host.outputs([index])[0] if is_good else []
            results.append(
                {"name": spec.name, "verdict": str(verdict), "status": 0 if is_good else 1, "output": list(outputs)}
            )
        return {"results": results}

    async def _items(self, node: Node, step: Unfolding) -> list[Item]:
        task = node.task
        if step.call is not None:
            seconds = float(str(step.params.get("timeout") or 0))
            try:
                async with asyncio.timeout(seconds if seconds > 0 else None):
                    made = await self._run_specs(node, step, specs_from_items(step.items, node.name))
            except TimeoutError:
                raise SpecError(f"its tasks did not end within {seconds:g} seconds") from None
            return [*step.call.passed_on, *made]
        if task.control is not None:
            return await _Controlled(self, node, step, task.control).items()
        if task.generator is not None:
            return await self._run_specs(node, step, await self._generated(node, step, task.generator))
        known = self.lifecycle.names(node, step.params, step.items)
        return await self.run(node, self.growth.body(node, task.body, known, {}), step.items)

    async def run(self, node: Node, grown: Grown, otherwise: Sequence[Item]) -> list[Item]:
        """Run new nodes and return what the last of them hand on; where there are none, `otherwise`.

        Raises:
            _Stopped: one of them did not end well.
        """
        batch = await self.host.run_batch(node, grown)
        self.is_changed |= self.host.is_changed(grown.members)
        if batch.culprit is not None:
            raise _Stopped(batch.culprit)
        return dataflow.gather(self.host.outputs(grown.last)) if grown.nodes else list(otherwise)

    async def _run_specs(self, node: Node, step: Unfolding, specs: Sequence[TaskSpec]) -> list[Item]:
        guard = node.opens or node.guard
        return await self.run(node, self.growth.tasks(node, specs, guard, step.params), ())

    async def _generated(self, node: Node, step: Unfolding, script: Script) -> list[TaskSpec]:
        names = self.lifecycle.names(node, step.params, step.items).seen_from(script.scope)
        diagnostics = Diagnostics()
        text = script.text.value
        try:
            if "${{" in text:
                text = evaluate_text(text, script.text.node, names, diagnostics)
        finally:
            diagnostics.raise_if_errors()
        result, printed = await self.lifecycle.generate(node, step, script, text)
        if result.outcome is not Outcome.SUCCEEDED:
            raise _GeneratorFailedError(result)
        if script.shell == "pytask":
            return specs_from_items(result.outputs, node.name)
        return specs_from_text(printed, node.name)

    async def _collected(self, node: Node, step: Unfolding, items: Sequence[Item], culprit: str | None) -> Ended:
        if culprit is not None and node.opens is None:
            return Ended(Verdict.BLOCKED, cause=f"needs {culprit}", is_changed=True)
        unmet = [] if culprit is None else [culprit]
        end = self.lifecycle.collect(
            node,
            step.params,
            items,
            self.host.failures(node.opens),
            unmet,
            is_input_changed=self.is_changed,
        )
        return await self.lifecycle.execute(node, end) if isinstance(end, Pending) else end


class _Controlled(Struct):
    """One node with a `control`, from its first condition to its last iteration."""

    unfolder: Unfolder
    node: Node
    step: Unfolding
    control: Control
    state: dict[str, object] = field(default_factory=dict)

    async def items(self) -> list[Item]:
        if self.control.kind.is_loop:
            return await self._loop()
        values = self._values({})
        for branch in self.control.branches:
            if branch.condition is None or self._holds(branch.condition, values):
                return await self._run(branch, values, "")
        return list(self.step.items)

    async def _loop(self) -> list[Item]:
        kind, condition = self.control.kind, self.control.condition
        limit = self._limit()
        self.state = self._first_state()
        items: list[Item] = list(self.step.items)
        iteration = 0
        while True:
            values = self._values({"state": dict(self.state), "_iter": iteration, "_max_iter": limit})
            if kind is ControlKind.WHILE:
                assert condition is not None, "resolve has checked that a loop has what it needs"
                if not self._holds(condition, values):
                    return items
            if iteration >= limit:
                if kind is ControlKind.REPEAT:
                    return items
                raise _Endless(self._endless(limit))
            items = await self._run(self.control.branches[0], values, f"_{iteration}")
            is_broken = self._take(items)
            if is_broken or (kind is not ControlKind.WHILE and self._is_reached(condition, iteration, limit)):
                return items
            iteration += 1

    async def _run(self, branch: Branch, values: Mapping[str, object], suffix: str) -> list[Item]:
        known = self.unfolder.lifecycle.names(self.node, self.step.params, self.step.items)
        grown = self.unfolder.growth.body(self.node, branch.body, known, values, suffix)
        return await self.unfolder.run(self.node, grown, self.step.items)

    def _is_reached(self, condition: SourceNode | None, iteration: int, limit: int) -> bool:
        if condition is None:
            return False
        values = {"state": dict(self.state), "_iter": iteration, "_max_iter": limit}
        return self._holds(condition, self._values(values))

    def _endless(self, limit: int) -> str:
        word = "`cond` still holds" if self.control.kind is ControlKind.WHILE else "`until` still does not hold"
        shown = ", ".join(f"{name}={value!r}" for name, value in self.state.items())
        return f"the loop does not end: {word} after {limit} iterations ({shown or 'it has no state'})"

    def _values(self, values: Mapping[str, object]) -> dict[str, object]:
        return {"in": _fields(self.step.items), **values}

    def _holds(self, condition: SourceNode, values: Mapping[str, object]) -> bool:
        return is_true(self._evaluated(condition, values))

    def _evaluated(self, value: SourceNode, values: Mapping[str, object]) -> object:
        """Return a value of the control block.

        Raises:
            FlowInvalid: it cannot be evaluated.
        """
        diagnostics = Diagnostics()
        try:
            return evaluate(value, self._names(values), diagnostics)
        finally:
            diagnostics.raise_if_errors()

    def _names(self, values: Mapping[str, object]) -> NodeNames:
        names = self.unfolder.lifecycle.names(self.node, self.step.params, self.step.items)
        return replace(names, cell={**names.cell, **values})

    def _limit(self) -> int:
        written = self.control.limit
        assert written is not None, "resolve has checked that a loop has what it needs"
        value = self._evaluated(written, self._values({}))
        try:
            limit = coerce(value, ParameterType.INT)
        except ValueError as error:
            raise _at(written, f"how often a loop runs: {error}") from None
        assert isinstance(limit, int)
        if not 0 <= limit <= MAX_ITERATIONS:
            raise _at(written, f"a loop runs between 0 and {MAX_ITERATIONS:,} times, not {limit:,}")
        return limit

    def _first_state(self) -> dict[str, object]:
        diagnostics = Diagnostics()
        fields = Parameters(self.control.state, {}, diagnostics)
        fields.scope = self._names(self._values({})).seen_from
        state = fields.all()
        diagnostics.raise_if_errors()
        if self.control.init is not None:
            given = self._evaluated(self.control.init, self._values({}))
            assert isinstance(given, dict)
            state |= given
        return state

    def _take(self, items: Sequence[Item]) -> bool:
        """Take what an iteration made into the state; return whether it says that the loop shall end."""
        own = [item for item in items if str(item.get("src", "")).startswith(f"{self.node.name}.")]
        fields = _fields(own)
        is_broken = is_true(fields.pop(_BREAK, False))
        self.state |= dict(self._fed_back(fields, own))
        return is_broken

    def _fed_back(self, fields: Mapping[str, object], own: Sequence[Item]) -> Iterator[tuple[str, object]]:
        feedback = self.control.feedback
        if feedback is None:
            yield from fields.items()
            return
        values = self._values({"state": dict(self.state), "out": fields, "outputs": list(own)})
        wanted = self._evaluated(feedback, values)
        if isinstance(feedback, MappingNode) and isinstance(wanted, dict):
            yield from wanted.items()
            return
        names = wanted if isinstance(wanted, list) else [wanted]
        for name in names:
            if name in fields:
                yield str(name), fields[str(name)]


def _fields(items: Sequence[Item]) -> dict[str, object]:
    """Return the fields of all items as one mapping; of two of a name, that of the later item."""
    found: dict[str, object] = {}
    for item in items:
        if item.get("type") not in (ENV, TASK_FAILURE):
            found |= {name: value for name, value in item.items() if name not in _NOT_DATA}
    return found


def _at(node: SourceNode, message: str) -> FlowInvalid:
    diagnostics = Diagnostics()
    diagnostics.error("bad-value", message, node)
    try:
        diagnostics.raise_if_errors()
    except FlowInvalid as error:
        return error
    raise AssertionError
