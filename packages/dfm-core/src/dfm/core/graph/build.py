"""From the model and the tasks asked for to the graph.

Three steps, each linear: which tasks of packages are needed at all; the nodes of each, a compound task giving an entry,
its sub-tasks (once per matrix cell) and a collector; the edges between them. What is disabled needs nothing, and what
no target needs is left out.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dfm.api.errors import UsageError
from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.template import parse_template
from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import Assignment, Flow, Need, Patterns, Task
from dfm.core.flow.source import Node as SourceNode
from dfm.core.flow.source import inside
from dfm.core.flow.values import Deferred, ValueFault, evaluate, is_deferred, is_true
from dfm.core.graph.names import NodeNames
from dfm.core.graph.node import Graph, Kind, Node
from dfm.core.graph.parameters import Parameters
from dfm.core.graph.select import Selection

MAX_CELLS = 100_000
"""Combinations of one matrix; more is a slip of the pen that would fill the disk with directories."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.~-]")

TaskOverrides = Mapping[str, Mapping[str, tuple[object, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What expressions see of the world: the environment and the directories of this run."""

    environ: Mapping[str, str]
    root_rundir: str


def build_graph(
    flow: Flow, targets: Sequence[Selection], surroundings: Surroundings, overrides: TaskOverrides
) -> Graph:
    """Return the graph of all that the targets need.

    Raises:
        FlowInvalid: values cannot be evaluated, or sub-tasks need each other in a circle.
        UsageError: a target names a node that does not exist inside its compound task.
    """
    diagnostics = Diagnostics()
    builder = _Builder(flow, surroundings, overrides, diagnostics)
    for name in builder.needed(target.task for target in targets):
        builder.instantiate(flow.tasks[name], name, None, "")
    diagnostics.raise_if_errors()
    builder.connect()
    diagnostics.raise_if_errors()
    return _pruned(builder.nodes, [builder.target(target) for target in targets], diagnostics)


@dataclass(slots=True)
class _Instance:
    """A compound task being filled: its sub-tasks by leaf name, and what lies around it."""

    around: "_Instance | None"
    names: NodeNames
    entry: int
    collector: int
    cell: Mapping[str, object] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Builder:
    flow: Flow
    surroundings: Surroundings
    overrides: TaskOverrides
    diagnostics: Diagnostics
    nodes: list[Node] = field(default_factory=list)
    _outputs: dict[str, int] = field(default_factory=dict)
    _by_name: dict[str, int] = field(default_factory=dict)
    _wanting: list[tuple[int, Sequence[Need], _Instance | None]] = field(default_factory=list)

    def needed(self, targets: Iterable[str]) -> list[str]:
        """Return the tasks of packages that must be in the graph, each after what leads to it."""
        found: dict[str, None] = dict.fromkeys(targets)
        pending = list(found)
        while pending:
            stack = [self.flow.tasks[pending.pop()]]
            while stack:
                task = stack.pop()
                stack.extend(task.body)
                for need in task.needs:
                    for name in self._expanded(need, set()):
                        if name not in found:
                            found[name] = None
                            pending.append(name)
        return list(found)

    def instantiate(self, task: Task, name: str, around: _Instance | None, rundir: str) -> int:
        """Make the nodes of one task and return the one that has its outputs."""
        if not task.body and task.matrix is None:
            return self._leaf(task, name, around, rundir)
        return self._compound(task, name, around, rundir)

    def connect(self) -> None:
        """Turn needs into edges."""
        for index, needs, instance in self._wanting:
            edges = dict.fromkeys(self.nodes[index].needs)
            for need in needs:
                edges.update(dict.fromkeys(self._edges(need, instance)))
            self.nodes[index].needs = tuple(edges)

    def target(self, target: Selection) -> int:
        """Return the node a target means."""
        if target.node is None:
            return self._outputs[target.task]
        if target.node not in self._by_name:
            raise UsageError(f"there is no task {target.node!r}", hint=did_you_mean(target.node, self._by_name))
        return self._by_name[target.node]

    def _leaf(self, task: Task, name: str, around: _Instance | None, rundir: str) -> int:
        node, parameters = self._node(task, name, around, rundir)
        if not self._is_enabled(node):
            node.kind = Kind.DISABLED
            return self._register(node, around)
        node.params = parameters.all()
        self._evaluate_rules(node)
        node.text = self._script_text(node)
        self._wanting.append((node.index, task.needs, around))
        return self._register(node, around)

    def _compound(self, task: Task, name: str, around: _Instance | None, rundir: str) -> int:
        entry, parameters = self._node(task, f"{name}.in", around, rundir, directory=name)
        if not self._is_enabled(entry):
            entry.kind, entry.name = Kind.DISABLED, name
            return self._register(entry, around)
        entry.kind = Kind.ENTRY
        entry.params = parameters.all()
        self._evaluate_rules(entry)
        self._wanting.append((entry.index, task.needs, around))
        cells = self._cells(task, entry)
        members: list[int] = []
        for suffix, cell in cells:
            instance = _Instance(around, entry.names, entry.index, -1, cell)
            members += self._members(task, name, instance, entry.rundir, suffix)
        collector = Node(
            index=len(self.nodes),
            name=name,
            task=task,
            kind=Kind.COLLECTOR,
            rundir=entry.rundir,
            names=entry.names,
            params=entry.params,
            needs=tuple(members) or (entry.index,),
            passthrough=entry.passthrough,
            consumes=entry.consumes,
        )
        self.nodes.append(collector)
        return self._register(collector, around)

    def _members(self, task: Task, name: str, instance: _Instance, rundir: str, suffix: str) -> list[int]:
        """Make the sub-tasks of one cell; return those that no sibling needs."""
        if not task.body:
            return [self._copy(task, f"{name}{suffix}", instance, rundir)]
        needed: set[str] = set()
        for sub in task.body:
            output = self.instantiate(sub, f"{name}.{sub.leaf}{suffix}", instance, rundir)
            instance.members[sub.leaf] = output
            needed.update(need.sibling for need in sub.needs if need.sibling is not None)
        return [instance.members[sub.leaf] for sub in task.body if sub.leaf not in needed]

    def _copy(self, task: Task, name: str, instance: _Instance, rundir: str) -> int:
        """Make one copy of a task that has a matrix and no body."""
        node, parameters = self._node(task, name, instance, rundir)
        node.params = parameters.all()
        self._evaluate_rules(node)
        node.text = self._script_text(node)
        node.needs = (instance.entry,)
        return self._register(node, None)

    def _node(
        self,
        task: Task,
        name: str,
        around: _Instance | None,
        rundir: str,
        directory: str | None = None,
    ) -> tuple[Node, Parameters]:
        parameters = Parameters(task.assignments, self.overrides.get(task.name, {}), self.diagnostics)
        own_rundir = rundir if task.inherits_rundir else os.path.join(rundir, _UNSAFE.sub("_", directory or name))
        names = NodeNames(
            own=parameters.value,
            own_names=parameters.names,
            cell={} if around is None else around.cell,
            around=None if around is None else around.names,
            package=task.package,
            root=self.flow.root.scope,
            always={
                "env": self.surroundings.environ,
                "name": directory or name,
                "root": self.flow.root.file,
                "rootdir": self.flow.root.srcdir,
                "srcdir": task.srcdir,
                "rundir": os.path.join(self.surroundings.root_rundir, own_rundir).rstrip("/"),
            },
        )
        parameters.scope = names.seen_from
        node = Node(
            index=len(self.nodes),
            name=name,
            task=task,
            kind=Kind.TASK,
            rundir=own_rundir,
            names=names,
        )
        if around is not None and not any(need.sibling for need in task.needs):
            node.needs = (around.entry,)
        self.nodes.append(node)
        return node, parameters

    def _register(self, node: Node, around: _Instance | None) -> int:
        if node.name in self._by_name:
            self.diagnostics.error(
                "duplicate-task",
                f"two tasks of the graph are named {node.name!r}",
                node.task.location,
            )
        self._by_name[node.name] = node.index
        if around is None:
            self._outputs.setdefault(node.name, node.index)
        return node.index

    def _is_enabled(self, node: Node) -> bool:
        condition = node.task.iff
        if condition is None:
            return True
        if is_deferred(condition, node.task.package):
            node.condition = condition
            return True
        try:
            return is_true(evaluate(condition, node.names, self.diagnostics))
        except ValueFault:
            return True

    def _evaluate_rules(self, node: Node) -> None:
        task = node.task
        node.consumes = (
            self._patterns(task.consumes.patterns, node) if isinstance(task.consumes, Patterns) else task.consumes
        )
        node.passthrough = (
            self._patterns(task.passthrough.patterns, node)
            if isinstance(task.passthrough, Patterns)
            else task.passthrough
        )
        if task.produces:
            node.produces = self._patterns(task.produces, node)

    def _patterns(self, patterns: Iterable[SourceNode], node: Node) -> list[dict[str, object]]:
        found = []
        for pattern in patterns:
            try:
                value = evaluate(pattern, node.names, self.diagnostics)
            except ValueFault:
                continue
            assert isinstance(value, dict)
            found.append(value)
        return found

    def _script_text(self, node: Node) -> str | None:
        script = node.task.script
        if script is None or "${{" not in script.text.value:
            return None if script is None else script.text.value
        try:
            template = parse_template(script.text.value)
            if is_deferred(script.text.node, script.scope) or _waits(node, template.names):
                return None
            return template.evaluate_text(node.names.seen_from(script.scope))
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

    def _cells(self, task: Task, entry: Node) -> list[tuple[str, Mapping[str, object]]]:
        if task.matrix is None:
            return [("", {})]
        axes: dict[str, list[object]] = {}
        for name, node in task.matrix.axes.items():
            try:
                value = evaluate(node, entry.names, self.diagnostics)
            except ValueFault:
                return []
            if not isinstance(value, list):
                self.diagnostics.error("wrong-type", f"the axis {name!r} of the matrix is not a list", node)
                return []
            axes[name] = value
        count = 1
        for values in axes.values():
            count *= len(values)
        if count > MAX_CELLS:
            self.diagnostics.error(
                "matrix-too-large",
                f"the matrix of {task.name!r} has {count:,} cells; {MAX_CELLS:,} is the limit",
                next(iter(task.matrix.axes.values())),
            )
            return []
        return [
            ("".join(f"_{i}" for i in indices), dict(zip(axes, values, strict=True)))
            for indices, values in zip(_indices(axes.values()), itertools.product(*axes.values()), strict=True)
        ]

    def _edges(self, need: Need, instance: _Instance | None) -> Iterator[int]:
        if need.sibling is None:
            yield from (self._outputs[name] for name in self._expanded(need, set()))
            return
        around = instance
        while around is not None and need.sibling not in around.members:
            around = around.around
        assert around is not None, "resolve has checked the names of siblings"
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
        for inner in self.flow.tasks[need.target].needs:
            yield from self._expanded(inner, seen)


def own_parameter_types(assignments: Iterable[Assignment]) -> dict[str, str]:
    """Return the declared type of each parameter, "" where none is declared."""
    kinds: dict[str, str] = {}
    for assignment in assignments:
        kinds[assignment.name] = str(assignment.type) if assignment.type else kinds.get(assignment.name, "")
    return kinds


def _waits(node: Node, names: Iterable[str]) -> bool:
    """Whether the script uses a parameter that itself waits for the inputs."""
    waiting = {name for name, value in node.params.items() if isinstance(value, Deferred)}
    return bool(waiting) and not waiting.isdisjoint([*names, *(waiting if {"this", "params"} & set(names) else ())])


def _indices(axes: Iterable[Sequence[object]]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(len(axis)) for axis in axes))


def _pruned(nodes: list[Node], targets: list[int], diagnostics: Diagnostics) -> Graph:
    """Return the graph of what the targets need, in the order in which the nodes were made."""
    kept: set[int] = set()
    pending = list(targets)
    while pending:
        index = pending.pop()
        if index not in kept:
            kept.add(index)
            pending.extend(nodes[index].needs)
    cycle = find_cycle(sorted(kept), lambda index: nodes[index].needs)
    if cycle is not None:
        path = " -> ".join(nodes[index].name for index in reversed(cycle))
        diagnostics.error("cycle", f"the needs go round in a circle: {path}", nodes[cycle[0]].task.location)
        diagnostics.raise_if_errors()
    renumbered = {old: new for new, old in enumerate(sorted(kept))}
    result = [nodes[old] for old in renumbered]
    for node in result:
        node.index = renumbered[node.index]
        node.needs = tuple(renumbered[need] for need in node.needs)
    return Graph(nodes=result, targets=[renumbered[target] for target in targets])
