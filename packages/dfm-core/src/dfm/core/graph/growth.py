"""More nodes for a graph that runs: the sub-tasks of what unfolds, and the tasks that Python code asks for.

What is made is complete when it is returned: evaluated, connected, without circles. What cannot be made leaves nothing
behind. Nodes are only ever added at the end, and need what is there or what comes with them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import (
    DEFAULT_SHELL,
    Assignment,
    Consumes,
    ListOperation,
    Passthrough,
    Script,
    Task,
    Text,
)
from dfm.core.flow.source import Scalar
from dfm.core.graph.builder import LEAF_RULE, Builder, Given, Instance, Members, is_leaf_name
from dfm.core.graph.cells import cells_of
from dfm.core.graph.names import NodeNames
from dfm.core.graph.node import Guard, Kind, Node, joined

MAX_TASKS = 100_000
"""Tasks that one call may ask for; more is a loop that does not end."""


@dataclass(frozen=True, slots=True)
class Grown:
    """New nodes of the graph.

    Attributes:
        nodes: in the order of their indices, which follow those that were there.
        members: those that a person would count, the sub-tasks themselves.
        last: those whose items go on.
    """

    nodes: Sequence[Node]
    members: tuple[int, ...]
    last: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task that somebody wants to be run now.

    Attributes:
        type: the task it is made of, by its name in the flow; empty where it only has its own script.
        name: its own, inside the task that asks for it.
        params: values of its parameters.
        needs: names of others of the same call, or of tasks of the graph.
        run: its own script, in place of that of the task it is made of.
    """

    type: str
    name: str
    params: Mapping[str, object]
    needs: Sequence[str] = ()
    run: str | None = None
    shell: str = DEFAULT_SHELL


class Growth:
    """Makes nodes while a graph runs."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def body(
        self,
        node: Node,
        body: Sequence[Task],
        known: NodeNames,
        values: Mapping[str, object],
        suffix: str = "",
    ) -> Grown:
        """Make the sub-tasks of an unfolding node.

        Args:
            node: whose turn has come.
            body: the sub-tasks of the branch that was chosen.
            known: what the node's expressions see, its inputs included.
            values: what the sub-tasks see besides, such as the state of a loop.
            suffix: what their names end in.

        Raises:
            FlowInvalid: something cannot be evaluated.
        """
        outer = self._builder.unfolding[node]
        names = known.knowing({})
        instance = dataclasses.replace(outer, names=names, cell=values, members={})

        def make(builder: Builder) -> Members:
            if node.task.matrix is None:
                return builder.fill(node.task, body, node.name, instance, node.rundir, suffix)
            cells = cells_of(node.task, known, builder.diagnostics)
            return builder.cells(node.task, body, node.name, instance, node.rundir, cells)

        return self._grow(node, make)

    def tasks(self, node: Node, specs: Sequence[TaskSpec], guard: Guard | None, params: Mapping[str, object]) -> Grown:
        """Make the tasks that a node asks for.

        Raises:
            FlowInvalid: one names what does not exist, or they need each other in a circle.
        """
        outer = self._builder.unfolding.get(node)
        names = node.names.with_own(params)
        instance = (
            Instance(None, names, None, guard)
            if outer is None
            else dataclasses.replace(outer, names=names, guard=guard, members={})
        )

        def make(builder: Builder) -> Members:
            if len(specs) > MAX_TASKS:
                builder.diagnostics.error(
                    "too-many-tasks", f"{node.name!r} asks for {len(specs):,} tasks at once", node.task.location
                )
                return Members()
            return self._make_tasks(node, specs, instance)

        return self._grow(node, make)

    def idle_overrides(self) -> list[tuple[str, str]]:
        """Return which task the command line sets a parameter of that is not in the graph, and by what option."""
        there = {node.task.name for node in self._builder.nodes}
        return [
            (task, option)
            for task, given in self._builder.overrides.items()
            if task not in there
            for _, option in given.values()
        ]

    def _grow(self, node: Node, make: Callable[[Builder], Members]) -> Grown:
        builder = self._builder
        builder.diagnostics = Diagnostics()
        start = len(builder.nodes)
        try:
            made = make(builder)
            builder.diagnostics.raise_if_errors()
            new_to_flow = builder.nodes[start:]
            self._add_external(start)
            builder.connect()
            new = builder.nodes[start:]
            self._refuse_cycles(start, new)
            builder.diagnostics.raise_if_errors()
        except BaseException:
            builder.forget(start)
            raise
        for made_node in new_to_flow:
            made_node.origin = node.origin or node.name
        return Grown(new, tuple(made.all), tuple(made.last))

    def _add_external(self, start: int) -> None:
        """Make the tasks of packages that the new ones need and that are not in the graph yet."""
        builder = self._builder
        wanted: dict[str, None] = {}
        for node in builder.nodes[start:]:
            is_unfolding = node.kind is Kind.UNFOLDING
            found = builder.external([node.task]) if is_unfolding else builder.own_external(node.task)
            wanted.update(dict.fromkeys(name for name in found if name not in builder.outputs))
        for name in builder.needed(wanted):
            builder.instantiate(builder.task(name), name, None, "")

    def _make_tasks(self, node: Node, specs: Sequence[TaskSpec], instance: Instance) -> Members:
        builder, made, needed = self._builder, Members(), set[str]()
        firsts = []
        for spec in specs:
            task = self._task(node, spec)
            if task is None:
                continue
            name = spec.name.removeprefix(f"{node.name}.")
            if not is_leaf_name(name):
                builder.diagnostics.error(
                    "bad-name", f"{node.name!r} asks for a task named {name!r}", node.task.location, hint=LEAF_RULE
                )
                continue
            given: Given = {key: (value, node.name) for key, value in spec.params.items()}
            self._refuse_unknown(node, task, spec)
            firsts.append((len(builder.nodes), spec))
            output = builder.instantiate(task, f"{node.name}.{name}", instance, node.rundir, given)
            instance.members[name] = output
            made.all.append(output)
        for index, spec in firsts:
            self._connect(node, builder.nodes[index], spec, instance, needed)
        made.last = [index for name, index in instance.members.items() if name not in needed]
        return made

    def _connect(self, caller: Node, node: Node, spec: TaskSpec, instance: Instance, needed: set[str]) -> None:
        edges = []
        for wanted in spec.needs:
            leaf = wanted.removeprefix(f"{caller.name}.")
            if leaf in instance.members:
                needed.add(leaf)
                edges.append(instance.members[leaf])
                continue
            found = self._in_graph(wanted)
            if found is None:
                self._builder.diagnostics.error(
                    "unknown-task",
                    f"{caller.name!r} asks for a task {spec.name!r} that needs {wanted!r}, and there is none",
                    caller.task.location,
                    hint=did_you_mean(wanted, [*instance.members, *self._builder.by_name]),
                )
            elif found == caller.index:
                self._builder.diagnostics.error(
                    "cycle", f"{spec.name!r} needs {wanted!r}, which waits for it", caller.task.location
                )
            else:
                edges.append(found)
        if edges:
            kept = tuple(need for need in node.needs if need != instance.entry)
            node.needs = joined(kept, edges)

    def _in_graph(self, name: str) -> int | None:
        builder = self._builder
        for candidate in (name, f"{builder.flow.root.name}.{name}"):
            if candidate in builder.by_name:
                return builder.by_name[candidate]
        return None

    def _task(self, node: Node, spec: TaskSpec) -> Task | None:
        """Return what a spec asks for: a task of the flow, perhaps with a script of its own, or a mere script."""
        task = self._find(node, spec) if spec.type else _bare(node.task, spec)
        if task is None or spec.run is None:
            return task
        if task.is_compound or task.emits is not None:
            self._builder.diagnostics.error(
                "run-and-body",
                f"{node.name!r} asks for a task {spec.name!r} with a `run`, and {task.name!r} runs no script",
                node.task.location,
            )
            return None
        asker = node.task.generator or node.task.script
        assert asker is not None, "only code asks for tasks"
        assert isinstance(asker.text.node, Scalar)
        text = Text(spec.run, replace(asker.text.node, value=spec.run, text=spec.run, style=""))
        script = Script(text=text, shell=spec.shell, srcdir=node.task.srcdir, scope=node.task.package)
        return replace(task, script=script, is_template=False)

    def _find(self, node: Node, spec: TaskSpec) -> Task | None:
        flow, scope = self._builder.flow, node.task.package
        alias, _, leaf = spec.type.rpartition(".")
        imported = scope.imports.get(alias)
        candidates = [f"{scope.package}.{spec.type}", f"{flow.root.name}.{spec.type}", spec.type]
        candidates += [] if imported is None else [f"{imported.package}.{leaf}"]
        for name in candidates:
            if name in flow.tasks:
                return flow.tasks[name]
        self._builder.diagnostics.error(
            "unknown-task",
            f"{node.name!r} asks for a task of type {spec.type!r}, and there is none",
            node.task.location,
            hint=did_you_mean(spec.type, flow.tasks),
        )
        return None

    def _refuse_unknown(self, node: Node, task: Task, spec: TaskSpec) -> None:
        known = dict.fromkeys(item.name for item in task.assignments)
        for name in spec.params:
            if name not in known:
                self._builder.diagnostics.error(
                    "unknown-parameter",
                    f"{node.name!r} asks for a task {spec.name!r} with a parameter {name!r};"
                    f" {task.name!r} has none of this name",
                    node.task.location,
                    hint=did_you_mean(name, known) or f"it has: {', '.join(known) or 'none'}",
                )

    def _refuse_cycles(self, start: int, new: Sequence[Node]) -> None:
        nodes = self._builder.nodes
        cycle = find_cycle(
            range(start, len(nodes)), lambda index: [need for need in nodes[index].needs if need >= start]
        )
        if cycle is not None:
            path = " -> ".join(nodes[index].name for index in reversed(cycle))
            self._builder.diagnostics.error("cycle", f"the needs go round in a circle: {path}", new[0].task.location)


def _bare(asker: Task, spec: TaskSpec) -> Task:
    """Return a task that has nothing but the parameters that a spec gives it."""
    assignments = [
        Assignment(
            name=name,
            type=None,
            operation=ListOperation.SET,
            node=None,
            doc="",
            scope=asker.package,
            at=asker.at,
        )
        for name in spec.params
    ]
    return Task(
        name=f"{asker.name}.{spec.name.removeprefix(f'{asker.name}.')}",
        leaf=spec.name,
        package=asker.package,
        at=asker.at,
        srcdir=asker.srcdir,
        visibility=asker.visibility,
        bases=(),
        assignments=tuple(assignments),
        needs=(),
        script=None,
        body=(),
        matrix=None,
        is_chain=False,
        generator=None,
        control=None,
        max_failures=None,
        on_error=None,
        is_template=False,
        emits=None,
        consumes=Consumes.ALL,
        passthrough=Passthrough.UNUSED,
        produces=(),
        iff=None,
        inherits_rundir=False,
        tools=(),
        environment=(),
        always_runs=False,
        uptodate=None,
        cache=None,
        tags=(),
        desc="",
        doc="",
    )
