"""The checked, immutable model of a flow: packages, tasks, types and their parameters.

A Task is a definition. What it inherits through `uses` is already merged into it: parameters in order of evaluation,
needs, body, data-flow rules. Values may still hold `${{ }}`; the graph evaluates them for each node that it makes.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dfm.api.errors import SourceLocation
from dfm.core.flow.diagnostics import Diagnostic
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node


class Visibility(enum.StrEnum):
    """Who is meant to name a task."""

    ROOT = "root"
    EXPORT = "export"
    LOCAL = "local"
    PACKAGE = "package"


class ParameterType(enum.StrEnum):
    """The types a parameter may declare."""

    STR = "str"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    LIST = "list"
    MAP = "map"

    @property
    def empty(self) -> object:
        """The value of a declaration that gives none."""
        return _EMPTY[self]()


_EMPTY: Mapping[ParameterType, type] = {
    ParameterType.STR: str,
    ParameterType.INT: int,
    ParameterType.FLOAT: float,
    ParameterType.BOOL: bool,
    ParameterType.LIST: list,
    ParameterType.MAP: dict,
}


class ListOperation(enum.Enum):
    """What an assignment does to the value it inherits."""

    SET = "set"
    APPEND = "append"
    PREPEND = "prepend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One statement about a parameter: a declaration where `type` is given, else an assignment.

    Attributes:
        node: the value as written, with its place; None for a declaration without a value.
        scope: the package whose names the value's `${{ }}` see.
    """

    name: str
    type: ParameterType | None
    operation: ListOperation
    node: Node | None
    doc: str
    scope: "PackageScope"
    location: SourceLocation


@dataclass(slots=True, eq=False)
class PackageScope:
    """What names mean inside one package: its parameters, settled, and the packages it can name.

    Filled in while the package is loaded, not touched afterwards.
    """

    package: str
    srcdir: str
    params: dict[str, object] = field(default_factory=dict)
    imports: "dict[str, PackageScope]" = field(default_factory=dict)


class Passthrough(enum.Enum):
    """Which incoming items a task hands on."""

    ALL = "all"
    UNUSED = "unused"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Patterns:
    """Item fields and the values they must have, which may hold `${{ }}`: an item is meant when one pattern matches."""

    patterns: tuple[MappingNode, ...]


class Consumes(enum.Enum):
    """Which incoming items a task sees, where it is no list of patterns."""

    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Text:
    """A string of the flow file together with its place, for `${{ }}` in it and for faults found later."""

    value: str
    node: Node

    @property
    def location(self) -> SourceLocation:
        """Where the string starts."""
        return self.node.location


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One entry of `needs`, resolved.

    Attributes:
        target: fully qualified name of a task of a package; None where a sub-task names one of its siblings.
        sibling: leaf name of a sub-task of the same compound task, or of one that encloses it.
        is_needs_of: all that the task needs is meant, not the task itself.
    """

    text: Text
    target: str | None = None
    sibling: str | None = None
    is_needs_of: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A `run` with its shell, and where it was declared: relative file names in it start from `srcdir`."""

    text: Text
    shell: str
    srcdir: str
    scope: PackageScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """`strategy: matrix`: one copy of the body for each combination of values, in order of the keys."""

    axes: Mapping[str, Node]
    location: SourceLocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A type of data items; `fields` are merged along `uses`, base first."""

    name: str
    bases: tuple[str, ...]
    fields: tuple[Assignment, ...]
    doc: str
    location: SourceLocation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One task definition with all that it inherits.

    Attributes:
        name: fully qualified: `package.task`, `package.compound.leaf`.
        assignments: what was said about its parameters, base first, in order of evaluation.
        needs: its own after those it inherits.
        body: sub-tasks of a compound task.
        emits: fully qualified type of the one item it makes, for a task that `uses` a type.
        tools: commands whose identity counts for being up to date.
        environment: names of environment variables whose values count for being up to date.
        always_runs: `uptodate: false`.
    """

    name: str
    leaf: str
    package: PackageScope
    location: SourceLocation
    srcdir: str
    visibility: frozenset[Visibility]
    bases: tuple[str, ...]
    assignments: tuple[Assignment, ...]
    needs: tuple[Need, ...]
    script: Script | None
    body: "tuple[Task, ...]"
    matrix: Matrix | None
    emits: str | None
    consumes: Consumes | Patterns
    passthrough: Passthrough | Patterns
    produces: tuple[MappingNode, ...]
    iff: Node | None
    inherits_rundir: bool
    tools: tuple[str, ...]
    environment: tuple[str, ...]
    always_runs: bool
    tags: tuple[Node, ...]
    desc: str
    doc: str

    @property
    def is_root(self) -> bool:
        """Whether `dfm run` without a task offers it."""
        return Visibility.ROOT in self.visibility


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Package:
    """One loaded package.

    Attributes:
        tasks: by fully qualified name, in the order of the files.
        file: absolute path of its flow file.
        parameter_types: of its own parameters.
    """

    name: str
    desc: str
    file: str
    srcdir: str
    scope: PackageScope
    parameters: tuple[Assignment, ...]
    tasks: Mapping[str, Task]
    types: Mapping[str, Type]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flow:
    """A root package with every package it reaches; `tasks` holds all of them by fully qualified name."""

    root: Package
    packages: Mapping[str, Package]
    tasks: Mapping[str, Task]
    types: Mapping[str, Type]
    files: Sequence[str]
    warnings: Sequence[Diagnostic] = ()
