"""From the nodes of one flow file to definitions, key by key, with every fault collected.

A definition says what one file says, nothing is looked up or inherited yet. A fault costs the one value it is in: the
rest of the file is still read, so that a person sees all faults at once.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from dfm.core.flow import schema
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import (
    Consumes,
    ListOperation,
    ParameterType,
    Passthrough,
    Text,
    Visibility,
)
from dfm.core.flow.source import KeyMark, Node, Scalar, Sequence
from dfm.core.flow.source import Mapping as MappingNode

T = TypeVar("T")

_PACKAGE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")
_TASK_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}\Z")
_DECLARATION_KEYS = frozenset({"type", "value", "append", "prepend", "path-append", "path-prepend"})
_NAME_KEYS = ("name", "root", "export", "local")


@dataclass(slots=True, kw_only=True)
class AssignmentDefinition:
    """What a file says about one parameter."""

    name: str
    key: KeyMark
    type: ParameterType | None = None
    operation: ListOperation = ListOperation.SET
    node: Node | None = None
    doc: str = ""


@dataclass(slots=True, kw_only=True)
class TaskDefinition:
    """What a file says about one task."""

    name: str
    at: Node
    visibility: frozenset[Visibility] = frozenset()
    uses: Text | None = None
    needs: list[Text] = field(default_factory=list)
    feeds: list[Text] = field(default_factory=list)
    assignments: list[AssignmentDefinition] = field(default_factory=list)
    consumes: "Consumes | list[MappingNode] | None" = None
    passthrough: "Passthrough | list[MappingNode] | None" = None
    produces: list[MappingNode] = field(default_factory=list)
    run: Text | None = None
    shell: str | None = None
    body: "list[TaskDefinition]" = field(default_factory=list)
    matrix: MappingNode | None = None
    inherits_rundir: bool = False
    iff: Node | None = None
    always_runs: bool | None = None
    tags: list[Node] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    desc: str = ""
    doc: str = ""


@dataclass(slots=True, kw_only=True)
class TypeDefinition:
    """What a file says about one type."""

    name: str
    at: Node
    uses: Text | None = None
    fields: list[AssignmentDefinition] = field(default_factory=list)
    doc: str = ""


@dataclass(slots=True, kw_only=True)
class ImportDefinition:
    """One entry of `imports`."""

    path: Text
    name: str | None = None
    alias: str | None = None


@dataclass(slots=True, kw_only=True)
class ExtensionDefinition:
    """One entry of `extensions` in a configuration."""

    task: Text
    assignments: list[AssignmentDefinition]
    needs: list[Text]


@dataclass(slots=True, kw_only=True)
class ConfigDefinition:
    """One entry of `configs`."""

    name: str
    at: Node
    uses: Text | None
    assignments: list[AssignmentDefinition]
    extensions: list[ExtensionDefinition]
    desc: str


@dataclass(slots=True, kw_only=True)
class FileDefinition:
    """What one flow file says: a package, or a fragment of one."""

    is_fragment: bool
    name: str
    at: Node
    desc: str = ""
    assignments: list[AssignmentDefinition] = field(default_factory=list)
    imports: list[ImportDefinition] = field(default_factory=list)
    fragments: list[Text] = field(default_factory=list)
    tasks: list[TaskDefinition] = field(default_factory=list)
    types: list[TypeDefinition] = field(default_factory=list)
    configs: list[ConfigDefinition] = field(default_factory=list)


def decode_file(root: Node, diagnostics: Diagnostics) -> FileDefinition | None:
    """Return what the file says, or None where it is neither a package nor a fragment."""
    if not isinstance(root, MappingNode):
        diagnostics.error("not-a-flow", f"a flow file is a mapping, not {_kind(root)}", root)
        return None
    found = [name for name in ("package", "fragment") if name in root.entries]
    for name, entry in root.entries.items():
        if name not in ("package", "fragment"):
            hint = did_you_mean(name, ("package", "fragment"))
            diagnostics.error("unknown-key", f"unknown top-level key {name!r}", entry.key, hint=hint)
    if len(found) != 1:
        problem = "both `package:` and `fragment:`" if found else "neither `package:` nor `fragment:`"
        diagnostics.error("not-a-flow", f"the file has {problem} at its top level; it needs one of them", root)
        return None
    value = root.entries[found[0]].value
    table = schema.PACKAGE if found[0] == "package" else schema.FRAGMENT
    reader = _Reader.open(value, table, found[0], diagnostics)
    return None if reader is None else _file(reader, is_fragment=found[0] == "fragment")


def _file(reader: "_Reader", *, is_fragment: bool) -> FileDefinition:
    what = "fragment" if is_fragment else "package"
    name = reader.word("name") or ""
    if name and not _PACKAGE_NAME.match(name):
        reader.fault("name", "bad-name", f"{name!r} cannot be the name of a {what}")
        name = ""
    if not name and not is_fragment and "name" not in reader.node.entries:
        reader.diagnostics.error("missing-key", "the package has no `name`", reader.node)
    return FileDefinition(
        is_fragment=is_fragment,
        name=name,
        at=reader.node,
        desc=reader.string("desc"),
        assignments=[] if is_fragment else _declarations(reader, what, "parameter of the package"),
        imports=reader.each("imports", _import),
        fragments=reader.texts("fragments"),
        tasks=reader.each("tasks", _task),
        types=reader.each("types", _type),
        configs=[] if is_fragment else reader.each("configs", _config),
    )


def _task(node: Node, diagnostics: Diagnostics) -> TaskDefinition | None:
    reader = _Reader.open(node, schema.TASK, "task", diagnostics)
    if reader is None:
        return None
    name, marker = _task_name(reader)
    if name is None:
        return None
    reader.what = f"task {name!r}"
    run, shell = _script(reader)
    strategy = _strategy(reader)
    body = [key for key in ("body", "tasks") if key in reader.node.entries]
    if len(body) > 1:
        reader.fault(
            "tasks",
            "two-bodies",
            f"{reader.what} has both `body` and `tasks`; they are the same key",
        )
    sub_tasks = reader.each(body[0], _task) if body else []
    if strategy is not None:
        sub_tasks += strategy.each("body", _task)
    if run is not None and sub_tasks:
        reader.fault(
            "pytask" if shell == "pytask" and "run" not in reader.node.entries else "run",
            "run-and-body",
            f"{reader.what} has both `run` and a body; a compound task runs nothing itself",
        )
    return TaskDefinition(
        name=name,
        at=reader.node,
        visibility=_visibility(reader, marker),
        uses=reader.text("uses"),
        needs=reader.texts("needs"),
        feeds=reader.texts("feeds"),
        assignments=_assignments(reader),
        consumes=_consumes(reader),
        passthrough=_passthrough(reader),
        produces=reader.mappings("produces"),
        run=run,
        shell=shell,
        body=sub_tasks,
        matrix=None if strategy is None else _axes(strategy),
        inherits_rundir=reader.choice("rundir", ("unique", "inherit")) == "inherit",
        iff=_condition(reader),
        always_runs=_always_runs(reader),
        tags=reader.items("tags"),
        tools=[text.value for text in reader.texts("tools")],
        environment=[text.value for text in reader.texts("env")],
        desc=reader.string("desc"),
        doc=reader.string("doc"),
    )


def _task_name(reader: "_Reader") -> tuple[str | None, Visibility | None]:
    given = [key for key in _NAME_KEYS if key in reader.node.entries]
    if "override" in reader.node.entries:
        return None, None
    if not given:
        reader.diagnostics.error(
            "missing-key",
            "the task has no `name`",
            reader.node,
            hint="one of `name`, `root`, `export`, `local` names a task",
        )
        return None, None
    if len(given) > 1:
        reader.fault(given[1], "two-names", f"the task is named by both `{given[0]}` and `{given[1]}`")
    name = reader.word(given[0])
    if name is None:
        return None, None
    if not _TASK_NAME.match(name) or ".." in name or name[0] == "-" or name[-1] == ".":
        reader.fault(
            given[0],
            "bad-name",
            f"{name!r} cannot be the name of a task",
            hint="letters, digits, `_`, `-` and single inner dots, 128 characters at most",
        )
        return None, None
    return name, None if given[0] == "name" else Visibility(given[0])


def _visibility(reader: "_Reader", marker: Visibility | None) -> frozenset[Visibility]:
    allowed = [str(v) for v in (Visibility.ROOT, Visibility.EXPORT, Visibility.LOCAL)]
    words: set[Visibility] = set() if marker is None else {marker}
    for text in reader.texts("scope"):
        if text.value in allowed:
            words.add(Visibility(text.value))
        else:
            reader.diagnostics.error(
                "bad-value",
                f"`scope` cannot be {text.value!r}",
                text.node,
                hint=did_you_mean(text.value, allowed) or f"one of {', '.join(allowed)}",
            )
    return frozenset(words or {Visibility.PACKAGE})


def _script(reader: "_Reader") -> tuple[Text | None, str | None]:
    run, shell, pytask = reader.text("run"), reader.word("shell"), reader.text("pytask")
    if pytask is None:
        if shell is not None and run is None and "run" not in reader.node.entries and "uses" not in reader.node.entries:
            reader.fault("shell", "shell-without-run", f"{reader.what} has a `shell` but nothing to `run`")
        return run, shell
    if run is not None:
        reader.fault("pytask", "run-and-pytask", f"{reader.what} has both `run` and `pytask`")
    if shell not in (None, "pytask"):
        reader.fault("shell", "shell-and-pytask", f"{reader.what} has `pytask` and the shell {shell!r}")
    return pytask, "pytask"


def _strategy(reader: "_Reader") -> "_Reader | None":
    entry = reader.node.entries.get("strategy")
    if entry is None:
        return None
    strategy = _Reader.open(entry.value, schema.STRATEGY, f"`strategy` of {reader.what}", reader.diagnostics)
    if strategy is not None and "matrix" not in strategy.node.entries:
        keys = {"generate", "chain"} & strategy.node.entries.keys()
        if not keys:
            reader.fault("strategy", "missing-key", f"the strategy of {reader.what} has no `matrix`")
    return strategy


def _axes(strategy: "_Reader") -> MappingNode | None:
    entry = strategy.node.entries.get("matrix")
    if entry is None:
        return None
    if not isinstance(entry.value, MappingNode):
        strategy.wrong("matrix", "a mapping of names to lists")
        return None
    if not entry.value.entries:
        strategy.fault("matrix", "empty-matrix", "the matrix has no axes")
    return entry.value


def _condition(reader: "_Reader") -> Node | None:
    entry = reader.node.entries.get("iff")
    if entry is None:
        return None
    if isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool | str | int):
        return entry.value
    reader.wrong("iff", "true, false or an expression")
    return None


def _always_runs(reader: "_Reader") -> bool | None:
    entry = reader.node.entries.get("uptodate")
    if entry is None:
        return None
    if isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool):
        return not entry.value.value
    if isinstance(entry.value, Scalar) and isinstance(entry.value.value, str):
        reader.fault(
            "uptodate",
            "not-supported",
            "a function in `uptodate` is not supported by this version of DFM",
        )
    else:
        reader.wrong("uptodate", "false")
    return None


def _consumes(reader: "_Reader") -> "Consumes | list[MappingNode] | None":
    entry = reader.node.entries.get("consumes")
    if entry is None or isinstance(entry.value, Sequence | MappingNode):
        return None if entry is None else reader.mappings("consumes")
    word = reader.choice("consumes", ("none", "all"))
    return None if word is None else Consumes(word)


def _passthrough(reader: "_Reader") -> "Passthrough | list[MappingNode] | None":
    entry = reader.node.entries.get("passthrough")
    if entry is None or isinstance(entry.value, Sequence | MappingNode):
        return None if entry is None else reader.mappings("passthrough")
    word = reader.choice("passthrough", ("none", "all", "unused"))
    return None if word is None else Passthrough(word)


def _type(node: Node, diagnostics: Diagnostics) -> TypeDefinition | None:
    reader = _Reader.open(node, schema.TYPE, "type", diagnostics)
    name = None if reader is None else reader.required_word("name")
    if reader is None or name is None:
        return None
    reader.what = f"type {name!r}"
    return TypeDefinition(
        name=name,
        at=reader.node,
        uses=reader.text("uses"),
        fields=_declarations(reader, reader.what, "field of the type", may_assign="uses" in reader.node.entries),
        doc=reader.string("doc"),
    )


def _import(node: Node, diagnostics: Diagnostics) -> ImportDefinition | None:
    if isinstance(node, Scalar):
        text = _text(node)
        if text is None:
            diagnostics.error("wrong-type", f"an import is a path or a mapping, not {_kind(node)}", node)
        return None if text is None else ImportDefinition(path=text)
    reader = _Reader.open(node, schema.IMPORT, "import", diagnostics)
    if reader is None:
        return None
    path = reader.text("from") or reader.text("name")
    if path is None:
        diagnostics.error("missing-key", "the import has neither `from` nor `name`", node)
        return None
    return ImportDefinition(path=path, name=reader.word("name"), alias=reader.word("as"))


def _config(node: Node, diagnostics: Diagnostics) -> ConfigDefinition | None:
    reader = _Reader.open(node, schema.CONFIG, "configuration", diagnostics)
    name = None if reader is None else reader.required_word("name")
    if reader is None or name is None:
        return None
    reader.what = f"configuration {name!r}"
    return ConfigDefinition(
        name=name,
        at=reader.node,
        uses=reader.text("uses"),
        assignments=_assignments(reader),
        extensions=reader.each("extensions", _extension),
        desc=reader.string("desc"),
    )


def _extension(node: Node, diagnostics: Diagnostics) -> ExtensionDefinition | None:
    reader = _Reader.open(node, schema.EXTENSION, "extension", diagnostics)
    task = None if reader is None else reader.text("task")
    if reader is None:
        return None
    if task is None:
        diagnostics.error("missing-key", "the extension names no `task`", node)
        return None
    return ExtensionDefinition(task=task, assignments=_assignments(reader), needs=reader.texts("needs"))


def _declarations(reader: "_Reader", owner: str, what: str, *, may_assign: bool = False) -> list[AssignmentDefinition]:
    assignments = _assignments(reader)
    for assignment in assignments:
        if assignment.type is None and not may_assign:
            reader.diagnostics.error(
                "missing-type",
                f"{assignment.name!r} is a {what} and needs a declaration with a `type`",
                assignment.key,
                hint=f"write `{assignment.name}: {{type: str, value: ...}}` in {owner}",
            )
    return assignments


def _assignments(reader: "_Reader") -> list[AssignmentDefinition]:
    entry = reader.node.entries.get("with")
    if entry is None or _is_null(entry.value):
        return []
    if not isinstance(entry.value, MappingNode):
        reader.wrong("with", "a mapping of parameters")
        return []
    found = []
    for name, parameter in entry.value.entries.items():
        value = parameter.value
        if isinstance(value, MappingNode) and _DECLARATION_KEYS & value.entries.keys():
            found.append(_declaration(name, parameter.key, value, reader.diagnostics))
        else:
            found.append(AssignmentDefinition(name=name, key=parameter.key, node=value))
    return found


def _declaration(name: str, key: KeyMark, node: MappingNode, diagnostics: Diagnostics) -> AssignmentDefinition:
    reader = _Reader(node, schema.DECLARATION, f"parameter {name!r}", diagnostics)
    reader.check_keys()
    result = AssignmentDefinition(name=name, key=key, doc=reader.string("doc") or reader.string("desc"))
    entry = node.entries.get("type")
    if entry is not None:
        result.type = _parameter_type(entry.value, reader)
    given = [word for word in ("value", "append", "prepend") if word in node.entries]
    if len(given) > 1:
        reader.fault(given[1], "two-values", f"parameter {name!r} has both `{given[0]}` and `{given[1]}`")
    if given:
        result.node = node.entries[given[0]].value
        result.operation = ListOperation(given[0]) if given[0] != "value" else ListOperation.SET
    return result


def _parameter_type(node: Node, reader: "_Reader") -> ParameterType | None:
    if isinstance(node, MappingNode) and len(node.entries) == 1:
        outer = next(iter(node.entries))
        if outer in ("list", "map"):
            return ParameterType(outer)
    names = [str(kind) for kind in ParameterType]
    if isinstance(node, Scalar) and node.text in names:
        return ParameterType(node.text)
    shown = node.text if isinstance(node, Scalar) else _kind(node)
    reader.diagnostics.error(
        "unknown-type",
        f"unknown parameter type {shown!r}",
        node,
        hint=did_you_mean(shown, names) or f"one of {', '.join(names)}",
    )
    return None


class _Reader:
    """One mapping of the file, read key by key against its table of known keys."""

    def __init__(
        self,
        node: MappingNode,
        table: Mapping[str, schema.Key],
        what: str,
        diagnostics: Diagnostics,
    ) -> None:
        self.node = node
        self.table = table
        self.what = what
        self.diagnostics = diagnostics

    @classmethod
    def open(cls, node: Node, table: Mapping[str, schema.Key], what: str, diagnostics: Diagnostics) -> "_Reader | None":
        if not isinstance(node, MappingNode):
            diagnostics.error("wrong-type", f"a {what.removeprefix('`')} is a mapping, not {_kind(node)}", node)
            return None
        reader = cls(node, table, what, diagnostics)
        reader.check_keys()
        return reader

    def check_keys(self) -> None:
        for name, entry in self.node.entries.items():
            key = self.table.get(name)
            if key is None:
                self.diagnostics.error(
                    "unknown-key",
                    f"unknown key {name!r} in {self._owner()}",
                    entry.key,
                    hint=did_you_mean(name, schema.supported(self.table)),
                )
            elif not key.is_supported:
                self.diagnostics.error(
                    "not-supported",
                    f"`{name}` in {self._owner()} is not supported by this version of DFM",
                    entry.key,
                )

    def fault(self, key: str, code: str, message: str, *, hint: str | None = None) -> None:
        entry = self.node.entries.get(key)
        self.diagnostics.error(code, message, self.node if entry is None else entry.value, hint=hint)

    def wrong(self, key: str, wanted: str) -> None:
        value = self.node.entries[key].value
        self.diagnostics.error("wrong-type", f"`{key}` in {self._owner()} is {wanted}, not {_kind(value)}", value)

    def text(self, key: str) -> Text | None:
        entry = self.node.entries.get(key)
        if entry is None:
            return None
        text = _text(entry.value)
        if text is None:
            self.wrong(key, "a string")
        return text

    def string(self, key: str) -> str:
        text = self.text(key)
        return "" if text is None else text.value

    def word(self, key: str) -> str | None:
        text = self.text(key)
        if text is not None and not text.value:
            self.fault(key, "empty", f"`{key}` in {self._owner()} is empty")
            return None
        return None if text is None else text.value

    def required_word(self, key: str) -> str | None:
        if key not in self.node.entries:
            self.diagnostics.error("missing-key", f"the {self.what} has no `{key}`", self.node)
            return None
        return self.word(key)

    def choice(self, key: str, words: tuple[str, ...]) -> str | None:
        text = self.text(key)
        if text is None or text.value in words:
            return None if text is None else text.value
        hint = did_you_mean(text.value, words) or f"one of {', '.join(words)}"
        self.diagnostics.error(
            "bad-value",
            f"`{key}` in {self._owner()} cannot be {text.value!r}",
            text.node,
            hint=hint,
        )
        return None

    def items(self, key: str) -> list[Node]:
        entry = self.node.entries.get(key)
        if entry is None or _is_null(entry.value):
            return []
        return list(entry.value.items) if isinstance(entry.value, Sequence) else [entry.value]

    def texts(self, key: str) -> list[Text]:
        found = []
        for item in self.items(key):
            text = _text(item)
            if text is None or not text.value:
                self.diagnostics.error(
                    "wrong-type",
                    f"`{key}` in {self._owner()} is a list of names, not of {_kind(item)}",
                    item,
                )
            else:
                found.append(text)
        return found

    def mappings(self, key: str) -> list[MappingNode]:
        found = []
        for item in self.items(key):
            if isinstance(item, MappingNode):
                found.append(item)
            else:
                self.diagnostics.error(
                    "wrong-type",
                    f"`{key}` in {self._owner()} is a list of mappings, not of {_kind(item)}",
                    item,
                )
        return found

    def each(self, key: str, decode: Callable[[Node, Diagnostics], T | None]) -> list[T]:
        entry = self.node.entries.get(key)
        if entry is None or _is_null(entry.value):
            return []
        if not isinstance(entry.value, Sequence):
            self.wrong(key, "a list")
            return []
        decoded = (decode(item, self.diagnostics) for item in entry.value.items)
        return [item for item in decoded if item is not None]

    def _owner(self) -> str:
        name = self.node.entries.get("name")
        if self.what in ("task", "package", "fragment", "type") and name and isinstance(name.value, Scalar):
            return f"{self.what} {name.value.text!r}"
        return self.what


def _text(node: Node) -> Text | None:
    """Return a scalar as text; numbers and booleans as they are written, but not null."""
    if isinstance(node, Scalar) and node.value is not None:
        return Text(node.value if isinstance(node.value, str) else node.text, node)
    return None


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _kind(node: Node) -> str:
    match node:
        case MappingNode():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return f"the boolean {node.text}"
        case Scalar(value=int() | float()):
            return f"the number {node.text}"
        case _:
            return "a string"
