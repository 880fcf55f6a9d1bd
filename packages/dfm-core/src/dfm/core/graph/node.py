"""The nodes of the graph, and the graph: what is to be done, in which order, with which values."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dfm.core.flow.model import Consumes, Passthrough, Task
from dfm.core.flow.source import Node as SourceNode
from dfm.core.graph.names import NodeNames


class Kind(enum.Enum):
    """What happens when a node's turn comes."""

    TASK = "task"
    ENTRY = "entry"
    """Hands what a compound task receives to its sub-tasks."""
    COLLECTOR = "collector"
    """Hands on what the sub-tasks of a compound task made, under the compound's own name."""
    DISABLED = "disabled"


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """One thing to do.

    Attributes:
        name: unique in the graph.
        needs: indices of the nodes that must end before, in the order of `needs`.
        params: evaluated; a value that waits for the inputs is a `Deferred`.
        text: the script with its expressions evaluated; None where there is no script or it waits for the inputs.
        names: what `${{ }}` sees, for what is evaluated later.
        rundir: relative to the root run directory.
        condition: an `iff` that waits for the inputs.
        consumes: evaluated; a sequence holds patterns.
    """

    index: int
    name: str
    task: Task
    kind: Kind
    rundir: str
    names: NodeNames
    params: dict[str, object] = field(default_factory=dict)
    needs: tuple[int, ...] = ()
    text: str | None = None
    condition: SourceNode | None = None
    consumes: "Consumes | Sequence[Mapping[str, object]]" = Consumes.ALL
    passthrough: "Passthrough | Sequence[Mapping[str, object]]" = Passthrough.UNUSED
    produces: Sequence[Mapping[str, object]] = ()

    @property
    def is_visible(self) -> bool:
        """Whether a person wrote the node: the inner nodes of a compound task are not shown."""
        return self.kind is not Kind.ENTRY


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A directed acyclic graph; `nodes[i].index == i`.

    Attributes:
        targets: indices of the nodes that were asked for.
    """

    nodes: Sequence[Node]
    targets: Sequence[int]

    def dependents(self) -> list[list[int]]:
        """Return for each node the nodes that need it, each once."""
        result: list[list[int]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for need in dict.fromkeys(node.needs):
                result[need].append(node.index)
        return result
