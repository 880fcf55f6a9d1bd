"""What is odd about a flow that can run all the same: tasks that nothing uses, and items that nobody takes in.

Both are guesses at what a person meant, so they are warnings, and where the flow does not say enough nothing is said.
"""

from collections.abc import Iterator, Mapping, Sequence

from dfm.core.flow.diagnostics import Diagnostic, Level
from dfm.core.flow.model import Consumes, Flow, Passthrough, Task, Visibility
from dfm.core.graph.node import Graph, Kind, Node

Pattern = Mapping[str, object]
_OFFERED = frozenset({Visibility.ROOT, Visibility.EXPORT})


def unused_tasks(flow: Flow) -> list[Diagnostic]:
    """Return a warning for each task of the root package that no offered task leads to.

    A package that offers no task by `root` or `export` offers all of them.
    """
    own = flow.root.tasks
    pending = [task for task in own.values() if task.visibility & _OFFERED]
    if not pending:
        return []
    used: set[str] = {task.name for task in pending}
    pending += flow.overrides.values()
    while pending:
        task = pending.pop()
        for name in _named_by(task):
            if name in flow.tasks and name not in used:
                used.add(name)
                pending.append(flow.tasks[name])
    return [
        Diagnostic(
            Level.WARNING,
            "unused-task",
            f"no task of scope root or export needs {name!r}",
            task.location,
            hint="name it with `root:` if it is to be run by itself",
        )
        for name, task in own.items()
        if name not in used
    ]


def _named_by(task: Task) -> Iterator[str]:
    stack = [task]
    while stack:
        current = stack.pop()
        yield from current.bases
        yield from (need.target for need in current.needs if need.target is not None)
        stack.extend(current.sub_tasks)


def untaken_items(graph: Graph) -> list[Diagnostic]:
    """Return a warning for each task whose `consumes` matches nothing of what its needs say they produce."""
    leaving: dict[int, Sequence[Pattern] | None] = {}
    found = []
    for index in _in_order(graph):
        node = graph.nodes[index]
        given = _joined([leaving[need] for need in node.needs])
        if given and _is_picky(node) and not any(_may_be_taken(item, node) for item in given):
            found.append(_untaken(node, given))
        leaving[index] = _leaving(node, given)
    return list(dict.fromkeys(found))


def _in_order(graph: Graph) -> list[int]:
    """Return the nodes, each after what it needs."""
    dependents = graph.dependents()
    open_needs = [len(set(node.needs)) for node in graph.nodes]
    ready = [node.index for node in graph.nodes if not node.needs]
    for index in ready:
        for following in dependents[index]:
            open_needs[following] -= 1
            if open_needs[following] == 0:
                ready.append(following)
    return ready


def _joined(parts: Sequence[Sequence[Pattern] | None]) -> list[Pattern] | None:
    """Return all items, None where one part is not known."""
    known = [part for part in parts if part is not None]
    return [item for part in known for item in part] if len(known) == len(parts) else None


def _is_picky(node: Node) -> bool:
    return node.kind is Kind.TASK and not isinstance(node.consumes, Consumes)


def _may_be_taken(item: Pattern, node: Node) -> bool:
    """Whether an item with these fields, and perhaps others, may be one that the node takes in."""
    match node.consumes:
        case Consumes.ALL:
            return True
        case Consumes.NONE:
            return False
        case patterns:
            return any(all(key not in item or item[key] == value for key, value in p.items()) for p in patterns)


def _leaving(node: Node, given: Sequence[Pattern] | None) -> Sequence[Pattern] | None:
    """Return what the node hands on, as far as it is declared; None where it is not."""
    if node.kind in (Kind.ENTRY, Kind.COLLECTOR):
        return given
    if node.kind is not Kind.TASK or given is None:
        return None
    own: Sequence[Pattern] = node.produces
    if not own and node.task.emits is not None:
        own = [{"type": node.task.emits}]
    elif not own and node.task.script is not None:
        return None
    if node.passthrough is Passthrough.NONE:
        return own
    return [*given, *own]


def _untaken(node: Node, given: Sequence[Pattern]) -> Diagnostic:
    assert not isinstance(node.consumes, Consumes)
    return Diagnostic(
        Level.WARNING,
        "nothing-to-consume",
        f"task {node.name!r} consumes {_shown(node.consumes)}, and what it needs produces {_shown(given)}",
        node.task.location,
    )


def _shown(patterns: Sequence[Pattern]) -> str:
    words = dict.fromkeys(", ".join(f"{key}={value}" for key, value in pattern.items()) for pattern in patterns)
    return " or ".join(words) or "nothing"
