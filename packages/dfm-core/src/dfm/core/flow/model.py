"""The checked, immutable model of a flow: packages, tasks, types and their parameters.

A Task is a definition. What it inherits through `uses` is already merged into it: parameters in order of evaluation,
needs, body, data-flow rules. Values may still hold `${{ }}`; the graph evaluates them for each node that it makes.

Its parts are msgspec's for the reason that the nodes of a file are (`dfm.core.flow.source`), and made by position when
they come from the cache: fields that may be left out stand last.
"""

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from dfm.api.errors import SourceLocation
from dfm.core.expr.nodes import Expression
from dfm.core.flow.diagnostics import Diagnostic
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Place, Placed, SourceFile

DEFAULT_SHELL = "bash"
"""What runs a `run` that names no shell."""
PYTHON_SHELL = "pytask"
BUILTIN_SHELL = "builtin"
"""Of the standard library alone: `run` names what DFM does itself."""


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
    PATH_APPEND = "path-append"
    PATH_PREPEND = "path-prepend"

    @property
    def is_path(self) -> bool:
        """Whether it joins search paths, texts with the path separator between their parts."""
        return self in (ListOperation.PATH_APPEND, ListOperation.PATH_PREPEND)

    def applied(self, value: object, given: object) -> object:
        """Return what becomes of `value`.

        Raises:
            ValueError: the two cannot be joined.
        """
        if self is ListOperation.SET:
            return given
        is_after = self in (ListOperation.APPEND, ListOperation.PATH_APPEND)
        if isinstance(value, list):
            items = given if isinstance(given, list) else [given]
            return [*value, *items] if is_after else [*items, *value]
        if not self.is_path:
            raise ValueError(f"`{self.value}` needs a list, and it is none")
        parts = [str(part) for part in (given if isinstance(given, list) else [given])]
        before = [str(value)] if value else []
        return os.pathsep.join([*before, *parts] if is_after else [*parts, *before])


class _Part(msgspec.Struct, frozen=True, gc=False):
    """What the model is made of."""


class Assignment(_Part, frozen=True):
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
    at: Placed


@dataclass(slots=True, eq=False)
class PackageScope:
    """What names mean inside one package: its parameters, settled, and the packages it can name.

    Filled in while the package is loaded, not touched afterwards.

    Attributes:
        imports: by name and by alias.
        filters: of its own.
        loaded: every package there is, by name; a package need not be imported to be named in full.
    """

    package: str
    srcdir: str
    params: dict[str, object] = field(default_factory=dict)
    imports: "dict[str, PackageScope]" = field(default_factory=dict)
    filters: "dict[str, Filter]" = field(default_factory=dict)
    loaded: "dict[str, PackageScope]" = field(default_factory=dict, repr=False)


class Filter(_Part, frozen=True):
    """A filter of a package, for expressions.

    Attributes:
        parameters: names of its arguments.
        expression: over `input`; None where a program does the work.
        users: names of packages that may use it besides its own; None lets all.
    """

    name: str
    package: str
    parameters: tuple[str, ...]
    expression: Expression | None
    program: str | None
    shell: str
    users: frozenset[str] | None
    location: SourceLocation
    desc: str = ""
    doc: str = ""


class Passthrough(enum.Enum):
    """Which incoming items a task hands on."""

    ALL = "all"
    UNUSED = "unused"
    NONE = "none"


class Patterns(_Part, frozen=True):
    """Item fields and the values they must have, which may hold `${{ }}`: an item is meant when one pattern matches."""

    patterns: tuple[MappingNode, ...]


class Consumes(enum.Enum):
    """Which incoming items a task sees, where it is no list of patterns."""

    ALL = "all"
    NONE = "none"


class Text(_Part, frozen=True):
    """A string of the flow file together with its place, for `${{ }}` in it and for faults found later."""

    value: str
    node: Node

    @property
    def location(self) -> SourceLocation:
        """Where the string starts."""
        return self.node.location


class Need(_Part, frozen=True):
    """One entry of `needs`, resolved.

    Attributes:
        width: columns that the name covers where it is written.
        target: fully qualified name of a task of a package; None where a sub-task names one of its siblings.
        sibling: leaf name of a sub-task of the same compound task, or of one that encloses it.
        is_needs_of: all that the task needs is meant, not the task itself.
    """

    file: SourceFile
    line: int
    column: int
    width: int
    target: str | None = None
    sibling: str | None = None
    is_needs_of: bool = False

    @property
    def place(self) -> Place:
        """Where the name is written."""
        return Place(self.file, self.line, self.column, self.width)


class Script(_Part, frozen=True):
    """A `run` with its shell, and where it was declared: relative file names in it start from `srcdir`."""

    text: Text
    shell: str
    srcdir: str
    scope: PackageScope

    @property
    def is_run_tasks(self) -> bool:
        """Whether it is that of `std.RunTasks`, whose work is to run other tasks."""
        return self.shell == BUILTIN_SHELL and self.text.value == "RunTasks"


class Matrix(_Part, frozen=True):
    """`strategy: matrix`: one copy of the body for each combination of values, in order of the keys."""

    axes: Mapping[str, Node]
    location: SourceLocation


class ControlKind(enum.StrEnum):
    """What `control` does with the body."""

    IF = "if"
    MATCH = "match"
    WHILE = "while"
    DO_WHILE = "do-while"
    REPEAT = "repeat"

    @property
    def is_loop(self) -> bool:
        """Whether the body may run more than once."""
        return self not in (ControlKind.IF, ControlKind.MATCH)


class Branch(_Part, frozen=True):
    """Sub-tasks, and the condition under which they run; None is always."""

    condition: Node | None
    body: "tuple[Task, ...]"


class Control(_Part, frozen=True):
    """Sub-tasks that run under conditions or again and again, decided when the task's turn comes.

    Attributes:
        branches: of `if` and `match`, the first one that holds runs; a loop has one.
        condition: of a loop: `while` goes on as long as it holds, the others end once it holds.
        limit: how often a loop runs at most.
        state: the values a loop begins with: fields of a type, then those written out.
        feedback: which fields of the items an iteration makes go into the state; None is all of them.
    """

    kind: ControlKind
    branches: tuple[Branch, ...]
    condition: Node | None
    limit: Node | None
    state: tuple[Assignment, ...]
    init: MappingNode | None
    feedback: Node | None
    location: SourceLocation


class CacheRule(_Part, frozen=True):
    """Whether results of a task are kept for other run directories.

    Attributes:
        hash: more values that decide about a result.
        compression: `no`, `gzip` or `bzip2`.
    """

    is_enabled: bool
    hash: tuple[Node, ...] = ()
    compression: str = "no"


class Tag(_Part, frozen=True):
    """A tag on a package, a task or a type: an instance of a type that derives from `std.Tag`."""

    type: str
    bases: tuple[str, ...]
    fields: tuple[Assignment, ...]
    location: SourceLocation


class Type(_Part, frozen=True):
    """A type of data items; `fields` are merged along `uses`, base first."""

    name: str
    bases: tuple[str, ...]
    fields: tuple[Assignment, ...]
    doc: str
    location: SourceLocation
    desc: str = ""
    tags: tuple[Tag, ...] = ()


class Task(_Part, frozen=True, eq=False):
    """One task definition with all that it inherits.

    Attributes:
        name: fully qualified: `package.task`, `package.compound.leaf`.
        assignments: what was said about its parameters, base first, in order of evaluation.
        needs: its own after those it inherits.
        body: sub-tasks of a compound task.
        is_chain: each of them needs the one before.
        generator: code that makes the sub-tasks when the task's turn comes.
        max_failures: how many sub-tasks may fail before no more are started; 0 and less is no limit, None is the
            rule of the run.
        on_error: function that says what becomes of the task when its sub-tasks have ended.
        is_template: only meant to be inherited from.
        emits: fully qualified type of the one item it makes, for a task that `uses` a type.
        tools: commands whose identity counts for being up to date.
        environment: names of environment variables whose values count for being up to date.
        always_runs: `uptodate: false`.
        uptodate: a function that decides whether the last result stands.
    """

    name: str
    leaf: str
    package: PackageScope
    at: Placed
    srcdir: str
    visibility: frozenset[Visibility]
    bases: tuple[str, ...]
    assignments: tuple[Assignment, ...]
    needs: tuple[Need, ...]
    script: Script | None
    body: "tuple[Task, ...]"
    matrix: Matrix | None
    is_chain: bool
    generator: Script | None
    control: Control | None
    max_failures: int | None
    on_error: Script | None
    is_template: bool
    emits: str | None
    consumes: Consumes | Patterns
    passthrough: Passthrough | Patterns
    produces: tuple[MappingNode, ...]
    iff: Node | None
    inherits_rundir: bool
    tools: tuple[str, ...]
    environment: tuple[str, ...]
    always_runs: bool
    uptodate: Script | None
    cache: CacheRule | None
    tags: tuple[Tag, ...]
    desc: str
    doc: str

    @property
    def location(self) -> SourceLocation:
        """Where it stands in its file."""
        return self.at.location

    @property
    def is_compound(self) -> bool:
        """Whether it has sub-tasks, now or once its turn comes."""
        return bool(self.body) or self.matrix is not None or self.control is not None or self.generator is not None

    @property
    def may_make_tasks(self) -> bool:
        """Whether what it runs may ask for other tasks."""
        script = self.script
        return script is not None and (script.shell == PYTHON_SHELL or script.is_run_tasks)

    @property
    def sub_tasks(self) -> "Iterator[Task]":
        """All sub-tasks that may run, in whichever branch."""
        yield from self.body
        for branch in () if self.control is None else self.control.branches:
            yield from branch.body

    @property
    def is_root(self) -> bool:
        """Whether `dfm run` without a task offers it."""
        return Visibility.ROOT in self.visibility


class Package(_Part, frozen=True, eq=False):
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
    doc: str = ""
    tags: tuple[Tag, ...] = ()
    configs: tuple[str, ...] = ()


class Flow(_Part, frozen=True, eq=False):
    """A root package with every package it reaches; `tasks` holds all of them by fully qualified name.

    Attributes:
        overrides: tasks that are replaced wherever they occur, by fully qualified name.
    """

    root: Package
    packages: Mapping[str, Package]
    tasks: Mapping[str, Task]
    types: Mapping[str, Type]
    files: Sequence[str]
    warnings: Sequence[Diagnostic] = ()
    overrides: Mapping[str, Task] = msgspec.field(default_factory=dict)
