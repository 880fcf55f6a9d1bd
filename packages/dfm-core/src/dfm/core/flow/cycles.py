"""Finding a cycle in a directed graph, linear in nodes and edges and without recursion."""

from collections.abc import Callable, Iterable
from typing import TypeVar

N = TypeVar("N")


def find_cycle(nodes: Iterable[N], successors: Callable[[N], Iterable[N]]) -> list[N] | None:
    """Return the nodes of one cycle, its first node again at the end, or None where there is none."""
    finished: set[N] = set()
    for start in nodes:
        if start in finished:
            continue
        path: dict[N, None] = {start: None}
        stack = [(start, iter(successors(start)))]
        while stack:
            node, rest = stack[-1]
            for following in rest:
                if following in path:
                    members = list(path)
                    return [*members[members.index(following) :], following]
                if following not in finished:
                    path[following] = None
                    stack.append((following, iter(successors(following))))
                    break
            else:
                stack.pop()
                path.pop(node)
                finished.add(node)
    return None
