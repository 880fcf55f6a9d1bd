"""What each task of a run gets of its machine, by the settings; what they do not have is told before anything runs.

Each distinct request is settled once, however many tasks make it.
"""

from collections.abc import Callable, Iterable, Sequence

from dfm.api.errors import FlowError, SourceLocation
from dfm.api.runner import Resources
from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.source import Node as SourceNode
from dfm.core.graph.node import Kind, Node
from dfm.core.graph.resources import where_class_is_named

_NAMES_SHOWN = 3


class Grants:
    """Settles what tasks ask for.

    Args:
        resolve: by the settings; raises FlowError for a resource class that they do not have.
    """

    def __init__(self, resolve: Callable[[Resources], Resources]) -> None:
        self._resolve = resolve
        self._settled: dict[Resources, Resources | FlowError] = {}

    def __call__(self, node: Node) -> Resources:
        """Return what a task gets.

        Raises:
            FlowInvalid: its tag names a class that the settings do not have.
        """
        found = self._settle(node.resources)
        if isinstance(found, Resources):
            return found
        diagnostics = Diagnostics()
        _tell(diagnostics, [node], found)
        diagnostics.raise_if_errors()
        raise AssertionError("a fault was told")

    def check(self, nodes: Iterable[Node]) -> None:
        """Hold what all nodes that may run ask for against the settings.

        Raises:
            FlowInvalid: tags name classes that the settings do not have; each is told once.
        """
        refused: dict[tuple[Resources, SourceLocation], list[Node]] = {}
        for node in nodes:
            if node.resources.resource_class is None or node.task.script is None or node.kind is Kind.DISABLED:
                continue
            if isinstance(self._settle(node.resources), FlowError):
                refused.setdefault((node.resources, _place(node).location), []).append(node)
        diagnostics = Diagnostics()
        for (asked, _), alike in refused.items():
            error = self._settle(asked)
            assert isinstance(error, FlowError), "it was refused before"
            _tell(diagnostics, alike, error)
        diagnostics.raise_if_errors()

    def _settle(self, asked: Resources) -> Resources | FlowError:
        found = self._settled.get(asked)
        if found is None:
            try:
                found = self._resolve(asked)
            except FlowError as error:
                found = error
            self._settled[asked] = found
        return found


def _place(node: Node) -> SourceNode:
    place = where_class_is_named(node.task)
    assert place is not None, "what names no class is never refused"
    return place


def _tell(diagnostics: Diagnostics, nodes: Sequence[Node], error: FlowError) -> None:
    """Tell why nodes are refused that name the same class at the same place."""
    names = ", ".join(node.name for node in nodes[:_NAMES_SHOWN])
    others = f" and {len(nodes) - _NAMES_SHOWN} more" if len(nodes) > _NAMES_SHOWN else ""
    asking = f"task {names} asks" if len(nodes) == 1 else f"tasks {names}{others} ask"
    message = f"{error.message}, which {asking} for"
    diagnostics.error("unknown-resource-class", message, _place(nodes[0]), hint=error.hint)
