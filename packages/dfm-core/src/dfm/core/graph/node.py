"""The nodes of a graph: what is to be done, in which order, with which values."""

import enum
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from dfm.api.runner import Resources
from dfm.core.flow.model import CacheRule, Consumes, Passthrough, Task
from dfm.core.flow.source import Node as SourceNode
from dfm.core.graph.layout import Layout
from dfm.core.graph.names import Enclosure, NodeNames


class Kind(enum.Enum):
    """What happens when a node's turn comes."""

    TASK = "task"
    ENTRY = "entry"
    """Hands what a compound task receives to its sub-tasks."""
    COLLECTOR = "collector"
    """Hands on what the sub-tasks of a compound task made, under the compound's own name."""
    UNFOLDING = "unfolding"
    """A compound task whose sub-tasks are only known when its turn comes: `control` and `strategy: generate`."""
    DISABLED = "disabled"


class Guard(Struct, frozen=True, eq=False):
    """Failures that stay inside a compound task: they count there, not in the run.

    Attributes:
        limit: how many may fail before no more of its sub-tasks are started; None is no limit.
        around: of the compound task around it.
    """

    name: str
    limit: int | None
    around: "Guard | None"


ENTRY_SUFFIX = ".in"
NOTHING_ASKED = Resources(cores=0)
NO_PARAMS: Mapping[str, object] = {}


class Node(Struct, eq=False, kw_only=True, gc=False):
    """One thing to do.

    A large graph has very many: what most nodes do not have is one shared nothing, and what can be made when somebody
    asks (`names`) is not kept.

    Attributes:
        name: unique in the graph.
        needs: indices of the nodes that must end before, in the order of `needs`.
        sources: those of them whose items it receives, where that is not all.
        entry: of a collector, the node at which its compound task begins.
        opens: where failures of its sub-tasks count, if that is not outside of it.
        guard: where its failure counts; None is the run.
        params: evaluated; a value that waits for the inputs is a `Deferred`.
        text: the script with its expressions evaluated; None where there is no script or it waits for the inputs.
        enclosure: what lies around it.
        origin: the task in the flow for which it was made while the run went on; empty for what was there before.
        rundir: relative to the root run directory.
        condition: an `iff` that waits for the inputs.
        always_runs: `uptodate: false`, of the task or of a compound task around it.
        cache: the rule of the task, else of the compound task around it.
        consumes: evaluated; a sequence holds patterns.
    """

    index: int
    name: str
    task: Task
    kind: Kind
    rundir: str
    enclosure: Enclosure
    params: Mapping[str, object]
    origin: str = ""
    needs: tuple[int, ...] = ()
    sources: tuple[int, ...] | None = None
    entry: int | None = None
    opens: Guard | None = None
    guard: Guard | None = None
    text: str | None = None
    condition: SourceNode | None = None
    resources: Resources = NOTHING_ASKED
    always_runs: bool = False
    cache: CacheRule | None = None
    consumes: "Consumes | Sequence[Mapping[str, object]]" = Consumes.ALL
    passthrough: "Passthrough | Sequence[Mapping[str, object]]" = Passthrough.UNUSED
    produces: Sequence[Mapping[str, object]] = ()

    @property
    def names(self) -> NodeNames:
        """What `${{ }}` in it sees, for what is evaluated later."""
        name = self.name.removesuffix(ENTRY_SUFFIX) if self.kind is Kind.ENTRY else self.name
        return self.enclosure.names(self.task, name, self.rundir, self.params)

    @property
    def artefact(self) -> str:
        """What the names of DFM's files in its run directory begin with; empty where the directory is its alone."""
        is_alone = self.enclosure.world.layout is Layout.LEAF and not self.task.inherits_rundir
        return "" if is_alone else self.name

    @property
    def is_visible(self) -> bool:
        """Whether a person wrote the node: the inner nodes of a compound task are not shown."""
        return self.kind is not Kind.ENTRY

    @property
    def makes_tasks(self) -> bool:
        """Whether more tasks may come into being while it runs."""
        return self.kind is Kind.UNFOLDING or (self.kind is Kind.TASK and self.task.may_make_tasks)

    @property
    def has_body(self) -> bool:
        """Whether it runs something of its own, whose result is held against that of its last run."""
        return self.kind is Kind.TASK and self.task.script is not None

    @property
    def is_tolerant(self) -> bool:
        """Whether its turn comes when all that it needs has ended, well or not."""
        return self.opens is not None and self.kind is Kind.COLLECTOR

    @property
    def receives(self) -> tuple[int, ...]:
        """The nodes whose items it receives, in order."""
        return self.needs if self.sources is None else self.sources

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Take new indices for itself and for all nodes that it names."""
        self.index = numbers[self.index]
        self.needs = tuple(numbers[need] for need in self.needs)
        self.sources = None if self.sources is None else tuple(numbers[need] for need in self.sources)
        self.entry = None if self.entry is None else numbers[self.entry]


class Graph(Struct, frozen=True, eq=False):
    """A directed acyclic graph; `nodes[i].index == i`. Nodes are added to its end while it runs, and never removed.

    Attributes:
        targets: indices of the nodes that were asked for.
    """

    nodes: list[Node]
    targets: Sequence[int]

    def dependents(self) -> list[Sequence[int]]:
        """Return for each node the nodes that need it, each once."""
        result: list[Sequence[int]] = [()] * len(self.nodes)
        for node in self.nodes:
            alone = (node.index,)
            for need in dict.fromkeys(node.needs):
                add_dependent(result, need, alone)
        return result


def add_dependent(dependents: list[Sequence[int]], need: int, alone: tuple[int]) -> None:
    """Take in that a node is needed by one more; those that only one node needs share its tuple."""
    before = dependents[need]
    if isinstance(before, list):
        before += alone
    else:
        dependents[need] = [*before, *alone] if before else alone


def joined(indices: Iterable[int], more: Iterable[int]) -> tuple[int, ...]:
    """Return the indices of both, each once, in order."""
    return tuple(dict.fromkeys([*indices, *more]))
