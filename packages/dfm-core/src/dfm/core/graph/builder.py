"""Makes the nodes of tasks, and the edges between them: all at once before a run, and a few at a time while it goes.

A task that runs something is one node. A compound task is an entry, its sub-tasks (once per matrix cell) and a
collector. Where the sub-tasks depend on what only the run knows, it is an entry and an unfolding node, and the
sub-tasks are made when its turn comes; what they need of other tasks is in the graph from the beginning.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.template import parse_template
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.model import CacheRule, Flow, Need, Patterns, Task
from dfm.core.flow.source import Node as SourceNode
from dfm.core.flow.source import inside
from dfm.core.flow.values import Deferred, StillWaiting, ValueFault, evaluate, is_deferred, is_true
from dfm.core.graph.cells import Cell, cells_of
from dfm.core.graph.foresight import refuse_unknown_names
from dfm.core.graph.layout import Layout, LeafNames, directory_of
from dfm.core.graph.names import Enclosure, NodeNames, World
from dfm.core.graph.node import ENTRY_SUFFIX, NO_PARAMS, Guard, Kind, Node, joined
from dfm.core.graph.parameters import Parameters
from dfm.core.graph.resources import resources_of

_LEAF = re.compile(r"(?!\.)[A-Za-z0-9_.~-]{1,200}\Z")

LEAF_RULE = "letters, digits, `_`, `-`, `~` and single inner dots, 200 characters at most"

Given = Mapping[str, tuple[object, str]]
"""Values of parameters that somebody else than the flow sets, with who set each."""
TaskOverrides = Mapping[str, Given]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What expressions see of the world: the environment and the directories of this run."""

    environ: Mapping[str, str]
    root_rundir: str
    layout: Layout = Layout.LEGACY


@dataclass(slots=True)
class Instance:
    """A compound task being filled: its sub-tasks by leaf name, and what lies around it.

    Attributes:
        entry: the node that hands on what the compound task receives; None where it hands nothing on.
        always_runs: of all sub-tasks.
        cache: of the sub-tasks that do not say otherwise.
        cell: values of the matrix cell, or of the iteration.
    """

    around: "Instance | None"
    names: NodeNames
    entry: int | None
    guard: Guard | None
    cell: Mapping[str, object] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    always_runs: bool = False
    cache: CacheRule | None = None
    _enclosure: Enclosure | None = field(default=None, init=False)

    @property
    def enclosure(self) -> Enclosure:
        """What its sub-tasks see around them."""
        if self._enclosure is None:
            self._enclosure = Enclosure(self.names.world, self.names, self.cell)
        return self._enclosure


@dataclass(slots=True)
class Members:
    """The sub-tasks that were made: all of them, and those whose items go to the outside."""

    all: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)

    def add(self, other: "Members") -> None:
        """Take in those of another cell."""
        self.all += other.all
        self.last += other.last


@dataclass(slots=True)
class Builder:
    """Nodes and edges of one graph.

    Attributes:
        outputs: of each task of a package that is in the graph, the node that has its items.
        by_name: every node.
        unfolding: what lies around and in an unfolding node.
    """

    flow: Flow
    surroundings: Surroundings
    overrides: TaskOverrides
    diagnostics: Diagnostics
    nodes: list[Node] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    by_name: dict[str, int] = field(default_factory=dict)
    unfolding: dict[Node, Instance] = field(default_factory=dict)
    _wanting: list[tuple[int, Sequence[Need], Instance | None]] = field(default_factory=list)
    _enclosure: Enclosure | None = field(default=None, init=False)
    _leaf_names: LeafNames | None = field(default=None, init=False)

    def needed(self, targets: Iterable[str]) -> list[str]:
        """Return the tasks of packages that must come into the graph, each after what leads to it."""
        found: dict[str, None] = dict.fromkeys(targets)
        pending = list(found)
        while pending:
            for name in self.external([self.task(pending.pop())]):
                if name not in found and name not in self.outputs:
                    found[name] = None
                    pending.append(name)
        return list(found)

    def external(self, tasks: Sequence[Task]) -> Iterator[str]:
        """Yield the tasks of packages that these tasks and all their sub-tasks need."""
        stack = list(tasks)
        while stack:
            task = stack.pop()
            stack.extend(task.sub_tasks)
            yield from self.own_external(task)

    def own_external(self, task: Task) -> Iterator[str]:
        """Yield the tasks of packages that a task itself needs."""
        for need in task.needs:
            if need.is_needs_of:
                yield from self._expanded(need, set())
            elif need.target is not None:
                yield need.target

    def task(self, name: str) -> Task:
        """Return the task of a package, or the one that was put in its place."""
        return self.flow.overrides.get(name) or self.flow.tasks[name]

    def instantiate(
        self, task: Task, name: str, around: Instance | None, rundir: str, given: Given | None = None
    ) -> int:
        """Make the nodes of one task and return the one that has its outputs."""
        task = self.flow.overrides.get(task.name, task)
        if task.is_template:
            self.diagnostics.error(
                "template",
                f"task {task.name!r} is a template; it is there to be used by other tasks, and does not run itself",
                task.location,
            )
        if task.is_compound:
            return self._compound(task, name, around, rundir, given)
        return self._leaf(task, name, around, rundir, given)

    def connect(self) -> None:
        """Turn needs into edges."""
        for index, needs, instance in self._wanting:
            edges = dict.fromkeys(self.nodes[index].needs)
            for need in needs:
                if need.target is not None and not need.is_needs_of:
                    edges[self.outputs[need.target]] = None
                else:
                    edges.update(dict.fromkeys(self._edges(need, instance)))
            self.nodes[index].needs = tuple(edges)
        self._wanting.clear()

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Take new indices for all that is known by index; what has none any more is forgotten."""
        self.outputs = {name: numbers[index] for name, index in self.outputs.items() if index in numbers}
        self.by_name = {name: numbers[index] for name, index in self.by_name.items() if index in numbers}
        for node in list(self.unfolding):
            if node.index >= len(self.nodes) or self.nodes[node.index] is not node:
                del self.unfolding[node]
        seen: set[int] = set()
        for instance in self.unfolding.values():
            _renumber(instance, numbers, seen)

    def forget(self, start: int) -> None:
        """Take back the nodes from this index on, which were added last."""
        for node in self.nodes[start:]:
            self.unfolding.pop(node, None)
        del self.nodes[start:]
        self._wanting.clear()
        self.outputs = {name: index for name, index in self.outputs.items() if index < start}
        self.by_name = {name: index for name, index in self.by_name.items() if index < start}

    def fill(
        self, task: Task, body: Sequence[Task], name: str, instance: Instance, rundir: str, suffix: str
    ) -> Members:
        """Make the sub-tasks of one cell or iteration."""
        if not body:
            copy = self._copy(task, f"{name}{suffix}", instance, rundir)
            return Members([copy], [copy])
        made, needed = Members(), set[str]()
        before: tuple[str, int] | None = None
        for sub in body:
            leaf = self._leaf_name(sub, instance)
            if leaf is None or sub.is_template:
                continue
            first = len(self.nodes)
            full = f"{name}.{leaf}" if leaf != sub.leaf else f"{name}.{leaf}{suffix}"
            output = self.instantiate(sub, full, instance, rundir)
            if task.is_chain and before is not None:
                self._chain(self.nodes[first], instance, before[1])
                needed.add(before[0])
            before = (sub.leaf, output)
            instance.members[sub.leaf] = output
            made.all.append(output)
            needed.update(need.sibling for need in sub.needs if need.sibling is not None and not need.is_needs_of)
        made.last = [index for leaf, index in instance.members.items() if leaf not in needed]
        return made

    def cells(
        self, task: Task, body: Sequence[Task], name: str, outer: Instance, rundir: str, cells: Sequence[Cell]
    ) -> Members:
        """Make the sub-tasks of every cell of a matrix."""
        made, before = Members(), list[int]()
        for cell in cells:
            instance = dataclasses.replace(outer, cell={**outer.cell, **cell.values}, members={})
            first = len(self.nodes)
            more = self.fill(task, body, name, instance, rundir, cell.suffix)
            if task.is_chain and not body and before:
                self.nodes[first].needs = tuple(before)
                made.last.clear()
            before = more.last
            made.add(more)
        return made

    def _leaf(self, task: Task, name: str, around: Instance | None, rundir: str, given: Given | None) -> int:
        node, names = self._node(task, name, around, rundir, given)
        if self._is_enabled(node, names):
            self._evaluate(node, names)
            if task.needs:
                self._wanting.append((node.index, task.needs, around))
        else:
            self._disable(node, names)
        return self._register(node, around)

    def _compound(self, task: Task, name: str, around: Instance | None, rundir: str, given: Given | None) -> int:
        entry, names = self._node(task, name, around, rundir, given)
        if not self._is_enabled(entry, names):
            self._disable(entry, names)
            return self._register(entry, around)
        entry.kind, entry.name = Kind.ENTRY, f"{name}{ENTRY_SUFFIX}"
        self._evaluate_params(entry, names)
        self._evaluate_rules(entry, names)
        self._wanting.append((entry.index, task.needs, around))
        guard = entry.guard
        if task.max_failures is not None or task.on_error is not None:
            limit = task.max_failures if task.max_failures is not None and task.max_failures > 0 else None
            guard = Guard(name, limit, entry.guard)
        instance = Instance(around, names, entry.index, guard, always_runs=entry.always_runs, cache=entry.cache)
        if self._unfolds(entry):
            return self._unfolding(entry, name, instance)
        cells = cells_of(task, names, self.diagnostics)
        members = self.cells(task, task.body, name, instance, entry.rundir, cells)
        return self._collector(entry, name, instance, members)

    def _collector(self, entry: Node, name: str, instance: Instance, members: Members) -> int:
        node = self._end(entry, name, Kind.COLLECTOR)
        last = tuple(members.last) or (entry.index,)
        node.needs = last
        if instance.guard is not entry.guard:
            node.opens = instance.guard
            node.needs = joined(last, members.all)
            node.sources = last
        return self._register(node, instance.around)

    def _unfolding(self, entry: Node, name: str, instance: Instance) -> int:
        node = self._end(entry, name, Kind.UNFOLDING)
        node.needs = node.sources = (entry.index,)
        node.condition, entry.condition = entry.condition, None
        node.opens = instance.guard if instance.guard is not entry.guard else None
        inner = [
            replace(need, target=name, sibling=None, is_needs_of=False)
            for task in entry.task.sub_tasks
            for need, name in self._needs(task)
        ]
        self._wanting.append((node.index, inner, instance.around))
        self.unfolding[node] = instance
        refuse_unknown_names(entry.task, instance.names, self.diagnostics)
        return self._register(node, instance.around)

    def _needs(self, task: Task) -> Iterator[tuple[Need, str]]:
        stack = [task]
        while stack:
            current = stack.pop()
            stack.extend(current.sub_tasks)
            for need in current.needs:
                for name in self._expanded(need, set()):
                    yield need, name

    def _end(self, entry: Node, name: str, kind: Kind) -> Node:
        """Make the node under the compound task's own name."""
        node = Node(
            index=len(self.nodes),
            name=name,
            task=entry.task,
            kind=kind,
            rundir=entry.rundir,
            enclosure=entry.enclosure,
            params=entry.params,
            entry=entry.index,
            guard=entry.guard,
            resources=entry.resources,
            always_runs=entry.always_runs,
            passthrough=entry.passthrough,
            consumes=entry.consumes,
        )
        self.nodes.append(node)
        return node

    def _unfolds(self, entry: Node) -> bool:
        """Whether the sub-tasks of a compound task depend on what only the run knows."""
        task = entry.task
        axes = () if task.matrix is None else task.matrix.axes.values()
        return (
            task.control is not None
            or task.generator is not None
            or entry.condition is not None
            or any(isinstance(value, Deferred) for value in entry.params.values())
            or any(is_deferred(axis, task.package) for axis in axes)
        )

    def _leaf_name(self, sub: Task, instance: Instance) -> str | None:
        """Return the own name of a sub-task, which may hold expressions; they make it unique in its cell."""
        if "${{" not in sub.leaf:
            return sub.leaf
        try:
            leaf = parse_template(sub.leaf).evaluate_text(_inside(instance))
        except ExpressionError as error:
            self.diagnostics.error("bad-expression", error.message, sub.location, hint=error.hint)
            return None
        if not is_leaf_name(leaf):
            self.diagnostics.error("bad-name", f"{leaf!r} cannot be the name of a task", sub.location, hint=LEAF_RULE)
            return None
        return leaf

    def _chain(self, node: Node, instance: Instance, before: int) -> None:
        """Let a sub-task of a chain follow the one before."""
        without = tuple(need for need in node.needs if need != instance.entry)
        node.needs = joined(without, [before])

    def _copy(self, task: Task, name: str, instance: Instance, rundir: str) -> int:
        """Make one copy of a task that has a matrix and no body."""
        node, names = self._node(task, name, instance, rundir, None)
        self._evaluate(node, names)
        node.needs = () if instance.entry is None else (instance.entry,)
        return self._register(node, instance)

    def _node(
        self, task: Task, name: str, around: Instance | None, rundir: str, given: Given | None
    ) -> tuple[Node, NodeNames]:
        """Make a node, and what its expressions see as long as its parameters are not evaluated."""
        enclosure = self._outermost() if around is None else around.enclosure
        own_rundir = rundir if task.inherits_rundir else os.path.join(rundir, self._directory(name, around, rundir))
        names = enclosure.names(task, name, own_rundir, NO_PARAMS)
        if task.assignments:
            overrides = {**self.overrides.get(task.name, {}), **(given or {})}
            parameters = Parameters(task.assignments, overrides, self.diagnostics)
            names.own, parameters.scope = parameters, names.seen_from
        node = Node(
            index=len(self.nodes),
            name=name,
            task=task,
            kind=Kind.TASK,
            rundir=own_rundir,
            enclosure=enclosure,
            params=NO_PARAMS,
            guard=None if around is None else around.guard,
            always_runs=task.always_runs or (around is not None and around.always_runs),
            cache=task.cache or (None if around is None else around.cache),
            resources=resources_of(task, names, self.diagnostics),
        )
        if around is not None and around.entry is not None and not any(need.sibling for need in task.needs):
            node.needs = (around.entry,)
        self.nodes.append(node)
        return node, names

    def _directory(self, name: str, around: Instance | None, rundir: str) -> str:
        if self.surroundings.layout is Layout.LEGACY:
            return directory_of(name)
        if around is not None:
            return LeafNames.of_sub_task(name, around.names.name, rundir)
        if self._leaf_names is None:
            self._leaf_names = LeafNames(self.flow)
        return self._leaf_names.of_task(name)

    def _outermost(self) -> Enclosure:
        if self._enclosure is None:
            root = self.flow.root
            surroundings = self.surroundings
            world = World(surroundings.environ, root.scope, root.file, surroundings.root_rundir, surroundings.layout)
            self._enclosure = Enclosure(world, None, {})
        return self._enclosure

    def _register(self, node: Node, around: Instance | None) -> int:
        if node.name in self.by_name:
            self.diagnostics.error(
                "duplicate-task",
                f"two tasks of the graph are named {node.name!r}",
                node.task.location,
            )
        self.by_name[node.name] = node.index
        if around is None:
            self.outputs.setdefault(node.name, node.index)
        return node.index

    def _is_enabled(self, node: Node, names: NodeNames) -> bool:
        condition = node.task.iff
        if condition is None:
            return True
        if is_deferred(condition, node.task.package):
            node.condition = condition
            return True
        try:
            return is_true(evaluate(condition, names, self.diagnostics))
        except StillWaiting:
            node.condition = condition
            return True
        except ValueFault:
            return True

    def _disable(self, node: Node, names: NodeNames) -> None:
        node.kind = Kind.DISABLED
        names.own = NO_PARAMS

    def _evaluate(self, node: Node, names: NodeNames) -> None:
        self._evaluate_params(node, names)
        self._evaluate_rules(node, names)
        node.text = self._script_text(node, names)

    def _evaluate_params(self, node: Node, names: NodeNames) -> None:
        """Evaluate all parameters; from here on, names and parameters no longer know of each other.

        They do where a parameter waits for the inputs: what needs it before is to be told so.
        """
        if isinstance(names.own, Parameters):
            node.params = names.own.all()
            if not any(isinstance(value, Deferred) for value in node.params.values()):
                names.own = node.params

    def _evaluate_rules(self, node: Node, names: NodeNames) -> None:
        task = node.task
        node.consumes = (
            self._patterns(task.consumes.patterns, names) if isinstance(task.consumes, Patterns) else task.consumes
        )
        node.passthrough = (
            self._patterns(task.passthrough.patterns, names)
            if isinstance(task.passthrough, Patterns)
            else task.passthrough
        )
        if task.produces:
            node.produces = self._patterns(task.produces, names)

    def _patterns(self, patterns: Iterable[SourceNode], names: NodeNames) -> list[dict[str, object]]:
        found = []
        for pattern in patterns:
            try:
                value = evaluate(pattern, names, self.diagnostics)
            except StillWaiting:
                self.diagnostics.error("bad-expression", "this cannot wait for the inputs of the task", pattern)
                continue
            except ValueFault:
                continue
            assert isinstance(value, dict)
            found.append(value)
        return found

    def _script_text(self, node: Node, names: NodeNames) -> str | None:
        script = node.task.script
        if script is None or "${{" not in script.text.value:
            return None if script is None else script.text.value
        try:
            template = parse_template(script.text.value)
            if is_deferred(script.text.node, script.scope) or _waits(node, template.names):
                return None
            return template.evaluate_text(names.seen_from(script.scope))
        except ExpressionError as error:
            self.diagnostics.error(
                "bad-expression",
                error.message,
                inside(script.text.node, error.offset, error.length),
                hint=error.hint,
            )
        except ValueFault:
            pass
        return None

    def _edges(self, need: Need, instance: Instance | None) -> Iterator[int]:
        if need.sibling is None:
            yield from (self.outputs[name] for name in self._expanded(need, set()))
            return
        around = instance
        while around is not None and need.sibling not in around.members:
            around = around.around
        if around is None:
            self.diagnostics.error(
                "unknown-task",
                f"the sub-task {need.sibling!r} is in another branch, and does not run together with this one",
                need.place,
            )
            return
        member = around.members[need.sibling]
        if not need.is_needs_of:
            yield member
            return
        for inner in self.nodes[member].task.needs:
            yield from self._edges(inner, around)

    def _expanded(self, need: Need, seen: set[str]) -> Iterator[str]:
        """Yield the tasks of packages a need means; `X.needs` means those that X needs."""
        if need.target is None or need.target in seen:
            return
        if not need.is_needs_of:
            yield need.target
            return
        seen.add(need.target)
        for inner in self.task(need.target).needs:
            yield from self._expanded(inner, seen)


def is_leaf_name(name: str) -> bool:
    """Whether a name that was made while the graph was built can be that of a task."""
    return _LEAF.match(name) is not None and ".." not in name and not name.endswith(".")


def _inside(instance: Instance) -> NodeNames:
    """Return the names that a sub-task sees of what is around it, without any of its own."""
    names = instance.names
    return replace(names, own={}, cell=instance.cell, around=names)


def _renumber(instance: Instance, numbers: Mapping[int, int], seen: set[int]) -> None:
    """Take new indices for an instance and for those around it, each once."""
    around: Instance | None = instance
    while around is not None and id(around) not in seen:
        seen.add(id(around))
        around.entry = None if around.entry is None else numbers.get(around.entry)
        around.members = {leaf: numbers[index] for leaf, index in around.members.items() if index in numbers}
        around = around.around


def _waits(node: Node, names: Iterable[str]) -> bool:
    """Whether the script uses a parameter that itself waits for the inputs."""
    waiting = {name for name, value in node.params.items() if isinstance(value, Deferred)}
    return bool(waiting) and not waiting.isdisjoint([*names, *(waiting if {"this", "params"} & set(names) else ())])
