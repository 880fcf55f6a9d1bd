"""Types with the fields they inherit, and tags, which are instances of some of them.

Each type is made once, after the one it `uses`; chains of any length, without recursion. A type that uses itself is
told and inherits nothing there.
"""

from collections.abc import Iterable, Mapping

from dfm.core.flow.diagnostics import did_you_mean
from dfm.core.flow.loaded import LoadedPackage, Place
from dfm.core.flow.model import Assignment, ListOperation, ParameterType, Tag, Text, Type
from dfm.core.flow.resolve_names import Names
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar, to_plain
from dfm.core.flow.values import coerce

TAG = "std.Tag"
RESOURCE_TAG = "std.ResourceTag"
"""Its fields are read as amounts when the graph is built."""


class TypeResolver:
    """Makes the types that are asked for, and the tags of whatever has some."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._diagnostics = names.diagnostics
        self._made: dict[str, Type] = {}

    def type(self, name: str) -> Type:
        """Return the type of this full name."""
        pending = [name]
        seen = {name}
        while (base := self._base(pending[-1])) is not None and base not in self._made:
            if base in seen:
                at = self._names.types[base][1].definition.at
                self._diagnostics.error("uses-cycle", f"type {base!r} uses itself", at)
                break
            seen.add(base)
            pending.append(base)
        for link in reversed(pending):
            if link not in self._made:
                self._made[link] = self._make(link)
        return self._made[name]

    def tags(self, nodes: Iterable[Node], package: LoadedPackage, place: Place) -> tuple[Tag, ...]:
        """Return the tags that are written somewhere, without those that have a fault."""
        found = []
        for node in nodes:
            tag = self._tag(node, package, place)
            if tag is not None:
                found.append(tag)
        return tuple(found)

    def _base(self, name: str) -> str | None:
        package, item = self._names.types[name]
        uses = item.definition.uses
        return None if uses is None else self._names.find(uses.value, package, item.place, self._names.types)

    def _make(self, name: str) -> Type:
        package, item = self._names.types[name]
        definition = item.definition
        base_name = self._base(name)
        base = None if base_name is None else self._made.get(base_name)
        if definition.uses is not None and base_name is None:
            self._names.refuse("type", definition.uses, package, item.place, self._names.types)
        own = tuple(field.in_scope(package.scope) for field in definition.fields)
        return Type(
            name=name,
            bases=() if base is None else (base.name, *base.bases),
            fields=own if base is None else (*base.fields, *own),
            desc=definition.desc,
            doc=definition.doc,
            location=definition.at.location,
            tags=self.tags(definition.tags, package, item.place),
        )

    def _tag(self, node: Node, package: LoadedPackage, place: Place) -> Tag | None:
        fields: Mapping[str, Node] = {}
        if isinstance(node, MappingNode) and len(node.entries) == 1:
            wanted, entry = next(iter(node.entries.items()))
            if isinstance(entry.value, MappingNode):
                fields = {name: item.value for name, item in entry.value.entries.items()}
            elif not (isinstance(entry.value, Scalar) and entry.value.value is None):
                self._diagnostics.error("wrong-type", f"the fields of the tag {wanted!r} are a mapping", entry.value)
        elif isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
            wanted = node.value
        else:
            self._diagnostics.error(
                "wrong-type", "a tag is the name of a type, or a mapping of one such name to fields", node
            )
            return None
        name = self._names.find(wanted, package, place, self._names.types)
        if name is None:
            self._names.refuse("type", Text(wanted, node), package, place, self._names.types)
            return None
        kind = self.type(name)
        if TAG not in (kind.name, *kind.bases):
            self._diagnostics.error("not-a-tag", f"type {name!r} does not derive from {TAG}", node)
            return None
        own = self._given_fields(kind, fields, package)
        return Tag(type=name, bases=kind.bases, fields=(*kind.fields, *own), location=node.location)

    def _given_fields(self, kind: Type, fields: Mapping[str, Node], package: LoadedPackage) -> list[Assignment]:
        known = {field.name: field for field in kind.fields}
        own = []
        for field, value in fields.items():
            if field not in known:
                hint = did_you_mean(field, known) or f"it has: {', '.join(known) or 'none'}"
                message = f"tag {kind.name!r} has no field {field!r}"
                self._diagnostics.error("unknown-parameter", message, value, hint=hint)
                continue
            if RESOURCE_TAG not in (kind.name, *kind.bases):
                self._refuse_wrong_value(f"field {field!r} of the tag", value, known[field].type)
            own.append(
                Assignment(
                    name=field,
                    type=None,
                    operation=ListOperation.SET,
                    node=value,
                    doc="",
                    scope=package.scope,
                    at=value,
                )
            )
        return own

    def _refuse_wrong_value(self, what: str, node: Node, kind: ParameterType | None) -> None:
        """Tell that a value without expressions cannot be of its type; others are only known later."""
        if isinstance(node, Scalar) and "${{" in node.text:
            return
        try:
            coerce(to_plain(node), kind)
        except ValueError as error:
            self._diagnostics.error("wrong-type", f"{what}: {error}", node)
