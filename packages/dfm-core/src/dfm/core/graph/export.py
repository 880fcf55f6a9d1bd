"""The graph as text for other programs: Graphviz dot, Mermaid, JSON.

The nodes of a compound task stand in a cluster of its name. What `control` and `generate` will do is only known when
their turn comes: they are drawn as what they are, the sub-tasks they may run dashed, and nothing is evaluated for them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dfm.core.flow.model import Branch, Control, ControlKind, Task
from dfm.core.flow.source import Node as SourceNode
from dfm.core.flow.source import to_plain
from dfm.core.flow.values import Deferred
from dfm.core.graph.node import Graph, Kind, Node

JSON_SCHEMA = "dfm-graph/1"
_LONGEST_VALUE = 60


@dataclass(slots=True, eq=False)
class _Cluster:
    """A compound task with the nodes and clusters inside it; the outermost one is the graph itself."""

    name: str
    nodes: list[Node] = field(default_factory=list)
    inner: "list[_Cluster]" = field(default_factory=list)


def to_dot(graph: Graph, *, show_params: bool = False) -> str:
    """Return the graph in the dot language; an arrow points from a task to what needs it."""
    lines = ["digraph dfm {", "  rankdir=LR;", "  node [shape=box];"]
    lines += _dot_cluster(_clusters(graph), show_params=show_params)
    lines += [f"  n{need} -> n{index};" for need, index in _edges(graph)]
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: Graph, *, show_params: bool = False) -> str:
    """Return the graph as a Mermaid flowchart."""
    lines = ["flowchart LR", *_mermaid_cluster(_clusters(graph), show_params=show_params)]
    lines += [f"  n{need} --> n{index}" for need, index in _edges(graph)]
    return "\n".join([*lines, ""])


def to_mapping(graph: Graph) -> dict[str, object]:
    """Return the graph as JSON-like values."""
    homes = _homes(graph)
    return {
        "schema": JSON_SCHEMA,
        "targets": [graph.nodes[index].name for index in graph.targets],
        "nodes": [_node(graph, node, homes.get(node.index)) for node in graph.nodes],
    }


def shown_condition(node: SourceNode | None) -> str:
    """Return a condition or a number as it is written, without the signs around an expression."""
    value = "" if node is None else to_plain(node)
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.strip()
    return text[3:-2].strip() if text.startswith("${{") and text.endswith("}}") and text.count("${{") == 1 else text


def _node(graph: Graph, node: Node, home: Node | None) -> dict[str, object]:
    control, generator = (node.task.control, node.task.generator) if _decides(node) else (None, None)
    return {
        "name": node.name,
        "task": node.task.name,
        "kind": node.kind.value,
        "compound": None if home is None else home.name,
        "needs": [graph.nodes[need].name for need in node.needs],
        "rundir": node.rundir,
        "params": {name: _value(value) for name, value in node.params.items()},
        "control": None if control is None else _control(control),
        "generate": None if generator is None else {"shell": generator.shell, "run": generator.text.value},
    }


def _value(value: object) -> object:
    if isinstance(value, Deferred):
        return {"deferred": to_plain(value.node)}
    return value if isinstance(value, str | int | float | list | dict | None) else str(value)


def _control(control: Control) -> dict[str, object]:
    return {
        "type": str(control.kind),
        "condition": None if control.condition is None else shown_condition(control.condition),
        "limit": None if control.limit is None else shown_condition(control.limit),
        "branches": [_branch(branch) for branch in control.branches],
    }


def _branch(branch: Branch) -> dict[str, object]:
    return {
        "when": None if branch.condition is None else shown_condition(branch.condition),
        "tasks": [task.name for task in branch.body],
    }


def _edges(graph: Graph) -> Iterator[tuple[int, int]]:
    for node in graph.nodes:
        for need in node.needs:
            yield need, node.index


def _homes(graph: Graph) -> dict[int, Node]:
    """Return for each node the compound task it is a part of, where it is one."""
    compounds = {node.name: node for node in graph.nodes if _is_compound(node)}
    members = {node.name: {id(sub) for sub in node.task.sub_tasks} for node in compounds.values()}
    found: dict[int, Node] = {}
    for node in graph.nodes:
        if node.kind is Kind.ENTRY:
            own = compounds.get(node.name.removesuffix(".in"))
        else:
            own = next((c for c in _around(node, compounds) if id(node.task) in members[c.name]), None)
            own = own or next((c for c in _around(node, compounds) if c.task is node.task), None)
        if own is not None and own is not node:
            found[node.index] = own
    return found


def _around(node: Node, compounds: Mapping[str, Node]) -> Iterator[Node]:
    """Yield the compound tasks that the node's name begins with, the nearest first."""
    name = node.name
    for end in range(len(name) - 1, 0, -1):
        if name[end] in "._~" and name[:end] in compounds:
            yield compounds[name[:end]]


def _is_compound(node: Node) -> bool:
    return node.kind not in (Kind.TASK, Kind.ENTRY, Kind.DISABLED) or _decides(node)


def _decides(node: Node) -> bool:
    """Whether the node settles what its sub-tasks are when its turn comes."""
    is_late = node.task.control is not None or node.task.generator is not None
    return is_late and node.kind not in (Kind.ENTRY, Kind.DISABLED)


def _clusters(graph: Graph) -> _Cluster:
    homes = _homes(graph)
    outermost = _Cluster("")
    clusters = {node.index: _Cluster(node.name) for node in graph.nodes if _is_compound(node)}
    for node in graph.nodes:
        home = homes.get(node.index)
        around = outermost if home is None else clusters[home.index]
        own = clusters.get(node.index)
        if own is not None:
            around.inner.append(own)
        (own or around).nodes.append(node)
    return outermost


def _label(node: Node, *, show_params: bool) -> list[str]:
    lines = [node.name, *(_note(node) if _decides(node) else ())]
    if show_params and not _is_inner(node):
        lines += [f"{name} = {_short(value)}" for name, value in node.params.items()]
    return lines


def _note(node: Node) -> Iterable[str]:
    control, generator = node.task.control, node.task.generator
    if generator is not None:
        yield f"generate ({generator.shell})"
    if control is None:
        return
    limit = "" if control.limit is None else f", at most {shown_condition(control.limit)}"
    condition = control.condition or (control.branches[0].condition if control.kind is ControlKind.IF else None)
    word = "until" if control.kind in (ControlKind.DO_WHILE, ControlKind.REPEAT) else ""
    shown = "" if condition is None else shown_condition(condition)
    yield " ".join(part for part in (str(control.kind), word if shown else "", shown) if part) + limit


def _short(value: object) -> str:
    shown = _value(value)
    text = shown if isinstance(shown, str) else json.dumps(shown, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _possible(graph_names: Iterable[Node], node: Node) -> list[tuple[str, Task]]:
    """Return the sub-tasks that may run and have no nodes yet, with the branch that runs them."""
    known = {other.task.name for other in graph_names}
    control = node.task.control
    branches = () if control is None else control.branches
    found = [("" if b.condition is None else shown_condition(b.condition), sub) for b in branches for sub in b.body]
    found += [("", sub) for sub in node.task.body]
    return [(when, sub) for when, sub in dict.fromkeys(found) if sub.name not in known]


def _dot_cluster(cluster: _Cluster, *, show_params: bool) -> list[str]:
    """Return the lines of a cluster; the clusters inside it are written without recursion."""
    return _written(cluster, _dot_open, _dot_close, lambda node: _dot_node(node, show_params=show_params), _dot_later)


def _dot_open(cluster: _Cluster) -> list[str]:
    index = cluster.nodes[0].index
    return [f"  subgraph cluster_{index} {{", f"    label={_quoted(cluster.name)};", "    style=rounded;"]


def _dot_close() -> str:
    return "  }"


def _dot_node(node: Node, *, show_params: bool) -> str:
    label = _quoted("\n".join(_label(node, show_params=show_params)))
    return f"  n{node.index} [label={label}{_dot_style(node)}];"


def _dot_later(identity: str, owner: Node, when: str, task: Task) -> list[str]:
    edge = f"  n{owner.index} -> {identity} [style=dashed{f', label={_quoted(when)}' if when else ''}];"
    return [f"  {identity} [label={_quoted(task.leaf)}, style=dashed];", edge]


def _mermaid_cluster(cluster: _Cluster, *, show_params: bool) -> list[str]:
    return _written(
        cluster,
        _mermaid_open,
        lambda: "  end",
        lambda node: _mermaid_node(node, show_params=show_params),
        _mermaid_later,
    )


def _mermaid_open(cluster: _Cluster) -> list[str]:
    return [f'  subgraph c{cluster.nodes[0].index}["{_escaped(cluster.name)}"]']


def _mermaid_node(node: Node, *, show_params: bool) -> str:
    label = "<br/>".join(_escaped(line) for line in _label(node, show_params=show_params))
    if _decides(node):
        return f'  n{node.index}{{{{"{label}"}}}}'
    return f'  n{node.index}(["{label}"])' if _is_inner(node) else f'  n{node.index}["{label}"]'


def _mermaid_later(identity: str, owner: Node, when: str, task: Task) -> list[str]:
    label = f'|"{_escaped(when)}"|' if when else ""
    return [f'  {identity}["{_escaped(task.leaf)}"]', f"  n{owner.index} -.->{label} {identity}"]


def _escaped(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _written(
    outermost: _Cluster,
    opening: Callable[[_Cluster], list[str]],
    closing: Callable[[], str],
    node_line: Callable[[Node], str],
    later: Callable[[str, Node, str, Task], list[str]],
) -> list[str]:
    """Return the lines of all nodes, each in the brackets of its cluster, however deep clusters are nested."""
    lines: list[str] = []
    pending: list[_Cluster | None] = [outermost]
    while pending:
        cluster = pending.pop()
        if cluster is None:
            lines.append(closing())
            continue
        if cluster is not outermost:
            lines += opening(cluster)
            pending.append(None)
        lines += [node_line(node) for node in cluster.nodes]
        for owner in cluster.nodes:
            if _decides(owner):
                inside = [*cluster.nodes, *(node for inner in cluster.inner for node in inner.nodes)]
                for number, (when, task) in enumerate(_possible(inside, owner)):
                    lines += later(f"n{owner.index}_{number}", owner, when, task)
        pending += reversed(cluster.inner)
    return lines


def _dot_style(node: Node) -> str:
    if node.kind is Kind.DISABLED:
        return ", style=dashed"
    if _decides(node):
        return ", shape=diamond" if node.task.control is not None else ", shape=component"
    return ", shape=ellipse" if _is_inner(node) else ""


def _is_inner(node: Node) -> bool:
    return node.kind in (Kind.ENTRY, Kind.COLLECTOR)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
