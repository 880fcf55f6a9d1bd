"""Parameters of a flow file: declarations and assignments under `with`."""

from collections.abc import Iterator, Sequence

from dfm.core.flow import schema
from dfm.core.flow.definitions import AssignmentDefinition
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.keys import KeyReader, is_null, kind_of
from dfm.core.flow.model import ListOperation, ParameterType
from dfm.core.flow.source import KeyMark, Node, Scalar
from dfm.core.flow.source import Mapping as MappingNode


def declarations(
    reader: "KeyReader", owner: str, what: str, *, may_assign: bool = False
) -> Sequence[AssignmentDefinition]:
    """Return the parameters a mapping declares under `with`; a value without a type is a fault."""
    found = assignments(reader)
    for assignment in found:
        if assignment.type is None and not may_assign and not _says_type(reader, assignment.name):
            reader.diagnostics.error(
                "missing-type",
                f"{assignment.name!r} is a {what} and needs a declaration with a `type`",
                assignment.key,
                hint=f"write `{assignment.name}: {{type: str, value: ...}}` in {owner}",
            )
    return found


def _says_type(reader: KeyReader, name: str) -> bool:
    """Whether a declaration has a type, be it one that does not exist."""
    parameters = reader.node.entries["with"].value
    assert isinstance(parameters, MappingNode)
    value = parameters.entries[name].value
    return isinstance(value, MappingNode) and "type" in value.entries


def assignments(reader: KeyReader) -> Sequence[AssignmentDefinition]:
    """Return what a mapping says about parameters under `with`."""
    entry = reader.node.entries.get("with")
    if entry is None or is_null(entry.value):
        return ()
    if not isinstance(entry.value, MappingNode):
        reader.wrong("with", "a mapping of parameters")
        return ()
    found: list[AssignmentDefinition] = []
    for name, parameter in entry.value.entries.items():
        value = parameter.value
        if isinstance(value, MappingNode) and schema.DECLARATION_KEYS & value.entries.keys():
            found.extend(_declaration(name, parameter.key, value, reader.diagnostics))
        else:
            found.append(AssignmentDefinition(name=name, key=parameter.key, node=value))
    return found


def _declaration(
    name: str, key: KeyMark, node: MappingNode, diagnostics: Diagnostics
) -> Iterator[AssignmentDefinition]:
    """Yield what a declaration says: the value first, then what is put before and behind it."""
    reader = KeyReader(node, schema.DECLARATION, f"parameter {name!r}", diagnostics)
    reader.check_keys()
    doc = reader.string("doc") or reader.string("desc")
    entry = node.entries.get("type")
    kind = None if entry is None else _parameter_type(entry.value, reader)
    given = [word for word in schema.OPERATIONS if word in node.entries]
    if "value" in given or not given:
        yield AssignmentDefinition(name=name, key=key, type=kind, node=reader.value("value"), doc=doc)
    for word in given:
        if word == "value":
            continue
        yield AssignmentDefinition(
            name=name, key=key, type=kind, operation=ListOperation(word), node=reader.value(word), doc=doc
        )


def _parameter_type(node: Node, reader: "KeyReader") -> ParameterType | None:
    if isinstance(node, MappingNode) and len(node.entries) == 1:
        outer = next(iter(node.entries))
        if outer in ("list", "map"):
            return ParameterType(outer)
    names = [str(kind) for kind in ParameterType]
    if isinstance(node, Scalar) and node.text in names:
        return ParameterType(node.text)
    shown = node.text if isinstance(node, Scalar) else kind_of(node)
    reader.diagnostics.error(
        "unknown-type",
        f"unknown parameter type {shown!r}",
        node,
        hint=did_you_mean(shown, names) or f"one of {', '.join(names)}",
    )
    return None
