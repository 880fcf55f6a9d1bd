"""The graph as text for other programs: Graphviz dot, Mermaid, JSON."""

from collections.abc import Iterator

from dfm.core.graph.node import Graph, Kind, Node

JSON_SCHEMA = "dfm-graph/1"


def to_dot(graph: Graph) -> str:
    """Return the graph in the dot language; an arrow points from a task to what needs it."""
    lines = ["digraph dfm {", "  rankdir=LR;", "  node [shape=box];"]
    lines += [f"  n{node.index} [label={_quoted(node.name)}{_dot_style(node)}];" for node in graph.nodes]
    lines += [f"  n{need} -> n{index};" for need, index in _edges(graph)]
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for node in graph.nodes:
        label = node.name.replace('"', "#quot;")
        lines.append(f'  n{node.index}(["{label}"])' if _is_inner(node) else f'  n{node.index}["{label}"]')
    lines += [f"  n{need} --> n{index}" for need, index in _edges(graph)]
    return "\n".join([*lines, ""])


def to_mapping(graph: Graph) -> dict[str, object]:
    """Return the graph as JSON-like values."""
    return {
        "schema": JSON_SCHEMA,
        "targets": [graph.nodes[index].name for index in graph.targets],
        "nodes": [_node(graph, node) for node in graph.nodes],
    }


def _node(graph: Graph, node: Node) -> dict[str, object]:
    return {
        "name": node.name,
        "task": node.task.name,
        "kind": node.kind.value,
        "needs": [graph.nodes[need].name for need in node.needs],
        "rundir": node.rundir,
        "params": {
            name: value if isinstance(value, str | int | float | list | dict | None) else None
            for name, value in node.params.items()
        },
    }


def _edges(graph: Graph) -> Iterator[tuple[int, int]]:
    for node in graph.nodes:
        for need in node.needs:
            yield need, node.index


def _dot_style(node: Node) -> str:
    if node.kind is Kind.DISABLED:
        return ", style=dashed"
    return ", shape=ellipse" if _is_inner(node) else ""


def _is_inner(node: Node) -> bool:
    return node.kind in (Kind.ENTRY, Kind.COLLECTOR)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
