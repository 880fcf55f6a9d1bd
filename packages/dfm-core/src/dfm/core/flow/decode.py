"""From the nodes of one flow file to definitions, key by key, with every fault collected.

A definition says what one file says, nothing is looked up or inherited yet.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfm.core.flow import schema
from dfm.core.flow.decode_parameters import assignments, declarations
from dfm.core.flow.decode_task import decode_task
from dfm.core.flow.definitions import (
    ConfigDefinition,
    ExtensionDefinition,
    FileDefinition,
    FilterDefinition,
    ImportDefinition,
    OverrideDefinition,
    TaskDefinition,
    TypeDefinition,
)
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.keys import KeyReader, is_null, kind_of, text_of
from dfm.core.flow.model import Text
from dfm.core.flow.source import Entry, KeyMark, Node, Scalar, place_of
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Sequence as SequenceNode

_PACKAGE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")
_FILTER_NAME = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One line of a package map: the name of a package, and where its flow file is, as it is written."""

    name: str
    path: Text


def decode_file(root: Node, diagnostics: Diagnostics) -> FileDefinition | None:
    """Return what the file says, or None where it is neither a package nor a fragment."""
    if not isinstance(root, MappingNode):
        diagnostics.error("not-a-flow", f"a flow file is a mapping, not {kind_of(root)}", root)
        return None
    found = [name for name in ("package", "fragment") if name in root.entries]
    unknown = [entry.key for name, entry in root.entries.items() if name not in ("package", "fragment")]
    if not found and unknown and unknown[0].text in schema.PACKAGE:
        message = "the file has neither `package:` nor `fragment:` at its top level; it needs one of them"
        hint = f"`{unknown[0].text}` and the other keys of a package stand below `package:`, indented"
        diagnostics.error("not-a-flow", message, root, hint=_below("package", unknown[0]) or hint)
        return None
    for key in unknown:
        meant = did_you_mean(key.text, ("package", "fragment"))
        if meant is None and found and key.text in schema.PACKAGE:
            meant = _below(found[0], key) or f"indent it: it is a key of `{found[0]}:`"
        diagnostics.error("unknown-key", f"unknown top-level key {key.text!r}", key, hint=meant)
        if meant is not None and not found:
            return None
    if len(found) != 1:
        problem = "both `package:` and `fragment:`" if found else "neither `package:` nor `fragment:`"
        diagnostics.error("not-a-flow", f"the file has {problem} at its top level; it needs one of them", root)
        return None
    value = root.entries[found[0]].value
    table = schema.PACKAGE if found[0] == "package" else schema.FRAGMENT
    reader = KeyReader.open(value, table, found[0], diagnostics)
    return None if reader is None else _file(reader, is_fragment=found[0] == "fragment")


def _below(outer: str, key: KeyMark) -> str | None:
    """Return how a key of the package is written in TOML; None in YAML."""
    return f"write `{outer}.{key.text}`" if key.file.path.endswith(".toml") else None


def decode_package_map(root: Node, diagnostics: Diagnostics) -> Sequence[MapEntry]:
    """Return the lines of a package map file: `package-map: {packages: [{name, path}]}`."""
    if not isinstance(root, MappingNode) or list(root.entries) != ["package-map"]:
        diagnostics.error("not-a-package-map", "a package map is a mapping with the one key `package-map`", root)
        return ()
    value = root.entries["package-map"].value
    reader = KeyReader.open(value, schema.PACKAGE_MAP, "package map", diagnostics)
    return () if reader is None else reader.each("packages", _map_entry)


def _map_entry(node: Node, diagnostics: Diagnostics) -> MapEntry | None:
    reader = KeyReader.open(node, schema.PACKAGE_MAP_ENTRY, "package of the map", diagnostics)
    if reader is None:
        return None
    name, path = reader.required_word("name"), reader.text("path")
    if path is None and "path" not in reader.node.entries:
        diagnostics.error("missing-key", "the package of the map has no `path`", node)
    return None if name is None or path is None else MapEntry(name, path)


def _file(reader: KeyReader, *, is_fragment: bool) -> FileDefinition:
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
        at=place_of(reader.node.entries["name"].value if name else reader.node),
        desc=reader.string("desc"),
        doc=reader.string("doc"),
        uses=None if is_fragment else reader.text("uses"),
        package_maps=() if is_fragment else reader.texts("package-map"),
        assignments=declarations(reader, what, "parameter of the package"),
        imports=reader.each("imports", _import),
        fragments=reader.texts("fragments"),
        tasks=reader.each("tasks", decode_task),
        types=reader.each("types", _type),
        filters=reader.each("filters", _filter),
        overrides=() if is_fragment else _overrides(reader),
        configs=reader.each("configs", _config),
        tags=() if is_fragment else reader.items("tags"),
    )


def _type(node: Node, diagnostics: Diagnostics) -> TypeDefinition | None:
    reader = KeyReader.open(node, schema.TYPE, "type", diagnostics)
    name = None if reader is None else reader.required_word("name")
    if reader is None or name is None:
        return None
    reader.what = f"type {name!r}"
    return TypeDefinition(
        name=name,
        at=place_of(reader.node),
        uses=reader.text("uses"),
        fields=declarations(reader, reader.what, "field of the type", may_assign="uses" in reader.node.entries),
        tags=reader.items("tags"),
        desc=reader.string("desc"),
        doc=reader.string("doc"),
    )


def _import(node: Node, diagnostics: Diagnostics) -> ImportDefinition | None:
    if isinstance(node, Scalar):
        text = text_of(node)
        if text is None or not text.value:
            diagnostics.error("wrong-type", f"an import is a name, a path or a mapping, not {kind_of(node)}", node)
            return None
        return ImportDefinition(at=node, wanted=text)
    reader = KeyReader.open(node, schema.IMPORT, "import", diagnostics)
    if reader is None:
        return None
    wanted, path = reader.text("name"), reader.text("from")
    alias = reader.word("as")
    if alias is not None and not _PACKAGE_NAME.match(alias):
        reader.fault("as", "bad-name", f"{alias!r} cannot be the alias of a package")
    if wanted is None and path is None:
        if not reader.node.entries.keys() & {"name", "from"}:
            diagnostics.error("missing-key", "the import has neither `from` nor `name`", node)
        return None
    return ImportDefinition(
        at=node,
        wanted=wanted,
        path=path,
        alias=None if alias is None else reader.text("as"),
        assignments=assignments(reader),
        config=reader.text("config"),
    )


def _filter(node: Node, diagnostics: Diagnostics) -> FilterDefinition | None:
    reader = KeyReader.open(node, schema.FILTER, "filter", diagnostics)
    if reader is None:
        return None
    name, is_local = _filter_name(reader)
    if name is None:
        return None
    reader.what = f"filter {name!r}"
    expression, program = reader.text("expr"), reader.text("run")
    if not reader.node.entries.keys() & {"expr", "run"} or (expression is not None and program is not None):
        diagnostics.error("bad-filter", f"{reader.what} needs one of `expr` and `run`", node)
        return None
    return FilterDefinition(
        name=name,
        at=node,
        parameters=[text.value for text in reader.texts("with")],
        expression=expression,
        program=program,
        shell=reader.word("shell") or "bash",
        users=_filter_users(reader, is_local=is_local),
        desc=reader.string("desc"),
        doc=reader.string("doc"),
    )


def _filter_name(reader: KeyReader) -> tuple[str | None, bool]:
    """Return the name, and whether it is for its own package only: `local: true`, or `local: NAME`."""
    local = reader.value("local")
    says_flag = isinstance(local, Scalar) and isinstance(local.value, bool)
    is_local = bool(reader.flag("local")) if says_flag else reader.word("local") is not None
    key = "local" if local is not None and not says_flag and "name" not in reader.node.entries else "name"
    name = reader.required_word(key)
    if name is not None and not _FILTER_NAME.match(name):
        reader.fault(key, "bad-name", f"{name!r} cannot be the name of a filter")
        return None, is_local
    return name, is_local


def _filter_users(reader: KeyReader, *, is_local: bool) -> frozenset[str] | None:
    if reader.flag("export"):
        return None
    words = {text.value for text in reader.texts("scope")}
    if "export" in words:
        return None
    return frozenset() if is_local else frozenset(words - {"local"})


def _config(node: Node, diagnostics: Diagnostics) -> ConfigDefinition | None:
    reader = KeyReader.open(node, schema.CONFIG, "configuration", diagnostics)
    name = None if reader is None else reader.required_word("name")
    if reader is None or name is None:
        return None
    reader.what = f"configuration {name!r}"
    return ConfigDefinition(
        name=name,
        at=place_of(reader.node),
        uses=reader.text("uses"),
        assignments=assignments(reader),
        overrides=_overrides(reader),
        extensions=reader.each("extensions", _extension),
        imports=reader.each("imports", _import),
        fragments=reader.texts("fragments"),
        tasks=reader.each("tasks", decode_task),
        types=reader.each("types", _type),
        desc=reader.string("desc"),
        doc=reader.string("doc"),
    )


def _extension(node: Node, diagnostics: Diagnostics) -> ExtensionDefinition | None:
    reader = KeyReader.open(node, schema.EXTENSION, "extension", diagnostics)
    task = None if reader is None else reader.text("task")
    if reader is None:
        return None
    if task is None:
        if "task" not in reader.node.entries:
            diagnostics.error("missing-key", "the extension names no `task`", node)
        return None
    return ExtensionDefinition(
        task=task, assignments=assignments(reader), needs=reader.texts("needs"), uses=reader.text("uses")
    )


def _overrides(reader: KeyReader) -> Sequence[OverrideDefinition]:
    """Return what `overrides` replaces: a mapping of tasks, or a list of mappings."""
    value = reader.value("overrides")
    match value:
        case None:
            return ()
        case MappingNode():
            return list(_override_entries(value, reader.diagnostics))
        case SequenceNode():
            return reader.each("overrides", _override)
        case _ if is_null(value):
            return ()
        case _:
            reader.wrong("overrides", "a mapping of tasks or a list")
            return ()


def _override_entries(node: MappingNode, diagnostics: Diagnostics) -> Iterator[OverrideDefinition]:
    for name, entry in node.entries.items():
        replacement = _replacement(entry, name, diagnostics)
        if replacement is not None:
            yield OverrideDefinition(target=Text(name, _scalar(entry.key)), replacement=replacement)


def _override(node: Node, diagnostics: Diagnostics) -> OverrideDefinition | None:
    reader = KeyReader.open(node, schema.OVERRIDE, "override", diagnostics)
    if reader is None:
        return None
    given = [key for key in ("task", "override", "package") if key in reader.node.entries]
    if len(given) != 1 or "with" not in reader.node.entries:
        diagnostics.error("missing-key", "an override has one of `task` and `package`, and `with`", node)
        return None
    target = reader.text(given[0])
    if target is None:
        return None
    replacement = _replacement(reader.node.entries["with"], target.value, diagnostics)
    if replacement is None:
        return None
    if given[0] == "package" and not isinstance(replacement, Text):
        reader.wrong("with", "the name of a package")
        return None
    return OverrideDefinition(target=target, is_package=given[0] == "package", replacement=replacement)


def _replacement(entry: Entry, target: str, diagnostics: Diagnostics) -> Text | TaskDefinition | None:
    if isinstance(entry.value, MappingNode):
        return decode_task(entry.value, diagnostics, unnamed=target.rpartition(".")[2])
    text = text_of(entry.value)
    if text is None:
        diagnostics.error("wrong-type", f"a replacement is a name or a task, not {kind_of(entry.value)}", entry.value)
    return text


def _scalar(key: KeyMark) -> Scalar:
    return Scalar(key.file, key.line, key.column, key.text, key.text)
