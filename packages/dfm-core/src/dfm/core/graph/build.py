"""From the model and the tasks asked for to the graph.

Three steps, each linear: which tasks of packages are needed at all; the nodes of each; the edges between them. What is
disabled needs nothing, and what no target needs is left out.
"""

from collections.abc import Iterable, Sequence

from dfm.api.errors import UsageError
from dfm.core.flow.cycles import find_cycle
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import Assignment, Flow
from dfm.core.graph.builder import Builder, Surroundings, TaskOverrides
from dfm.core.graph.growth import Growth
from dfm.core.graph.node import Graph, Node
from dfm.core.graph.select import Selection

__all__ = ["Surroundings", "TaskOverrides", "build_graph", "build_growing", "own_parameter_types"]


def build_graph(
    flow: Flow, targets: Sequence[Selection], surroundings: Surroundings, overrides: TaskOverrides
) -> Graph:
    """Return the graph of all that the targets need.

    Raises:
        FlowInvalid: values cannot be evaluated, or sub-tasks need each other in a circle.
        UsageError: a target names a node that does not exist inside its compound task.
    """
    return build_growing(flow, targets, surroundings, overrides)[0]


def build_growing(
    flow: Flow, targets: Sequence[Selection], surroundings: Surroundings, overrides: TaskOverrides
) -> tuple[Graph, Growth]:
    """Return the graph, and what makes more nodes of it while it runs.

    Raises:
        FlowInvalid: as for `build_graph`.
        UsageError: as for `build_graph`.
    """
    diagnostics = Diagnostics()
    builder = Builder(flow, surroundings, overrides, diagnostics)
    for name in builder.needed(target.task for target in targets):
        builder.instantiate(builder.task(name), name, None, "")
    diagnostics.raise_if_errors()
    builder.connect()
    diagnostics.raise_if_errors()
    graph = _pruned(builder, [_target(builder, target) for target in targets])
    return graph, Growth(builder)


def _target(builder: Builder, target: Selection) -> int:
    """Return the node a target means."""
    if target.node is None:
        return builder.outputs[target.task]
    if target.node not in builder.by_name:
        maker = _maker(builder, target.node)
        if maker is not None:
            raise UsageError(
                f"there is no task {target.node!r} in the flow; {maker.name!r} may make it while it runs",
                hint=f"`dfm run {maker.name}` runs it where it is made and is not up to date",
            )
        raise UsageError(f"there is no task {target.node!r}", hint=did_you_mean(target.node, builder.by_name))
    return builder.by_name[target.node]


def _maker(builder: Builder, name: str) -> Node | None:
    """Return the innermost node that may make a task of this name while it runs."""
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        index = builder.by_name.get(".".join(words[:count]))
        if index is not None:
            node = builder.nodes[index]
            return node if node.makes_tasks else None
    return None


def own_parameter_types(assignments: Iterable[Assignment]) -> dict[str, str]:
    """Return the declared type of each parameter, "" where none is declared."""
    kinds: dict[str, str] = {}
    for assignment in assignments:
        kinds[assignment.name] = str(assignment.type) if assignment.type else kinds.get(assignment.name, "")
    return kinds


def _pruned(builder: Builder, targets: list[int]) -> Graph:
    """Return the graph of what the targets need, in the order in which the nodes were made."""
    nodes, diagnostics = builder.nodes, builder.diagnostics
    kept: set[int] = set()
    pending = list(targets)
    while pending:
        index = pending.pop()
        if index not in kept:
            kept.add(index)
            pending.extend(nodes[index].needs)
            pending.extend(() if (entry := nodes[index].entry) is None else (entry,))
    cycle = find_cycle(sorted(kept), lambda index: nodes[index].needs)
    if cycle is not None:
        path = " -> ".join(nodes[index].name for index in reversed(cycle))
        diagnostics.error("cycle", f"the needs go round in a circle: {path}", nodes[cycle[0]].task.location)
        diagnostics.raise_if_errors()
    if len(kept) == len(nodes):
        return Graph(nodes=nodes, targets=targets)
    numbers = {old: new for new, old in enumerate(sorted(kept))}
    builder.nodes = [nodes[old] for old in numbers]
    for node in builder.nodes:
        node.renumber(numbers)
    builder.renumber(numbers)
    return Graph(nodes=builder.nodes, targets=[numbers[target] for target in targets])
