"""What the files of a flow say, one by one: nothing is looked up or inherited yet."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from dfm.core.flow.model import (
    Assignment,
    CacheRule,
    Consumes,
    ControlKind,
    ListOperation,
    PackageScope,
    ParameterType,
    Passthrough,
    Text,
    Visibility,
)
from dfm.core.flow.source import KeyMark, Node, Place
from dfm.core.flow.source import Mapping as MappingNode


class AssignmentDefinition(Struct, kw_only=True):
    """One statement about one parameter; a declaration may make several."""

    name: str
    key: KeyMark
    type: ParameterType | None = None
    operation: ListOperation = ListOperation.SET
    node: Node | None = None
    doc: str = ""

    def in_scope(self, scope: PackageScope) -> Assignment:
        """Return the statement with the names that its value sees."""
        return Assignment(
            name=self.name,
            type=self.type,
            operation=self.operation,
            node=self.node,
            doc=self.doc,
            scope=scope,
            at=self.key,
        )


class CaseDefinition(Struct, kw_only=True):
    """One branch: the body and the condition under which it is taken, None for one that is always."""

    condition: Node | None
    body: "Sequence[TaskDefinition]"


class ControlDefinition(Struct, kw_only=True):
    """What `control` says; the body of a loop, and of `if` where it holds, is that of the task."""

    kind: ControlKind
    at: Node
    condition: Node | None = None
    cases: Sequence[CaseDefinition] = ()
    limit: Node | None = None
    state_type: Text | None = None
    init: MappingNode | None = None
    feedback: Node | None = None


class TaskDefinition(Struct, kw_only=True):
    """What a file says about one task.

    Attributes:
        override: the task of the base package, or of the package a configuration varies, that this one replaces.
        uptodate: a function that decides whether the last result stands.
        generate: code that makes the sub-tasks, with the shell that runs it.
    """

    name: str
    at: Place
    visibility: frozenset[Visibility] = frozenset()
    override: Text | None = None
    uses: Text | None = None
    needs: Sequence[Text] = ()
    feeds: Sequence[Text] = ()
    assignments: Sequence[AssignmentDefinition] = ()
    consumes: Consumes | Sequence[MappingNode] | None = None
    passthrough: Passthrough | Sequence[MappingNode] | None = None
    produces: Sequence[MappingNode] = ()
    run: Text | None = None
    shell: str | None = None
    body: "Sequence[TaskDefinition]" = ()
    matrix: MappingNode | None = None
    is_chain: bool = False
    generate: tuple[Text, str] | None = None
    control: ControlDefinition | None = None
    max_failures: int | None = None
    on_error: Text | None = None
    is_template: bool = False
    inherits_rundir: bool = False
    iff: Node | None = None
    always_runs: bool | None = None
    uptodate: Text | None = None
    cache: CacheRule | None = None
    tags: Sequence[Node] = ()
    tools: Sequence[str] = ()
    environment: Sequence[str] = ()
    desc: str = ""
    doc: str = ""

    @property
    def bodies(self) -> "Iterator[Sequence[TaskDefinition]]":
        """The bodies of the task, one for each branch."""
        yield self.body
        for case in () if self.control is None else self.control.cases:
            yield case.body

    @property
    def expressions(self) -> list[Node]:
        """Its values that may hold expressions and are not evaluated while it is resolved."""
        nodes = [item.node for item in self.assignments if item.node is not None]
        nodes += [] if self.iff is None else [self.iff]
        nodes += [] if self.run is None else [self.run.node]
        nodes += self.produces
        nodes += () if self.cache is None else self.cache.hash
        control = self.control
        if control is not None:
            given = [control.condition, control.limit, control.init, control.feedback]
            given += [case.condition for case in control.cases]
            nodes += [node for node in given if node is not None]
        return nodes


class TypeDefinition(Struct, kw_only=True):
    """What a file says about one type."""

    name: str
    at: Place
    uses: Text | None = None
    fields: Sequence[AssignmentDefinition] = ()
    tags: Sequence[Node] = ()
    desc: str = ""
    doc: str = ""


class ImportDefinition(Struct, kw_only=True):
    """One entry of `imports`.

    Attributes:
        wanted: a name or a path; None where `path` alone says where the package is.
    """

    at: Node
    wanted: Text | None = None
    path: Text | None = None
    alias: Text | None = None
    assignments: Sequence[AssignmentDefinition] = ()
    config: Text | None = None


class FilterDefinition(Struct, kw_only=True):
    """One entry of `filters`: an expression, or a program with its shell.

    Attributes:
        users: names of packages that may use it besides its own; None lets all.
    """

    name: str
    at: Node
    parameters: Sequence[str]
    expression: Text | None = None
    program: Text | None = None
    shell: str = "bash"
    users: frozenset[str] | None = frozenset()
    desc: str = ""
    doc: str = ""


class OverrideDefinition(Struct, kw_only=True):
    """One task (or all those of one package) to be replaced, by what is named or by a task written out."""

    target: Text
    is_package: bool = False
    replacement: "Text | TaskDefinition"


class ExtensionDefinition(Struct, kw_only=True):
    """One entry of `extensions` in a configuration."""

    task: Text
    assignments: Sequence[AssignmentDefinition]
    needs: Sequence[Text]
    uses: Text | None = None


class ConfigDefinition(Struct, kw_only=True):
    """One entry of `configs`."""

    name: str
    at: Place
    uses: Text | None
    assignments: Sequence[AssignmentDefinition]
    overrides: Sequence[OverrideDefinition]
    extensions: Sequence[ExtensionDefinition]
    imports: Sequence[ImportDefinition]
    fragments: Sequence[Text]
    tasks: Sequence[TaskDefinition]
    types: Sequence[TypeDefinition]
    desc: str = ""
    doc: str = ""


class FileDefinition(Struct, kw_only=True):
    """What one flow file says: a package, or a fragment of one.

    Attributes:
        at: its name, else all of it.
    """

    is_fragment: bool
    name: str
    at: Place
    desc: str = ""
    doc: str = ""
    uses: Text | None = None
    package_maps: Sequence[Text] = ()
    assignments: Sequence[AssignmentDefinition] = ()
    imports: Sequence[ImportDefinition] = ()
    fragments: Sequence[Text] = ()
    tasks: "Sequence[TaskDefinition]" = ()
    types: Sequence[TypeDefinition] = ()
    filters: Sequence[FilterDefinition] = ()
    overrides: Sequence[OverrideDefinition] = ()
    configs: Sequence[ConfigDefinition] = ()
    tags: Sequence[Node] = ()
