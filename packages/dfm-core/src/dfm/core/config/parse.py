"""The text of a settings file to nodes with their places: YAML 1.1 events, three tags of our own, nothing guessed."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from dfm.api.errors import SourceLocation
from dfm.core.config.faults import ConfigInvalid, invalid
from dfm.core.config.nodes import Entry, Listing, Node, Scalar, Style, Table, Tag
from dfm.core.suggest import did_you_mean

Untyped: TypeAlias = Any
"""PyYAML's events and marks have no types."""

MAX_DEPTH = 16
"""Nesting of lists and mappings; settings need five."""
MAX_NODES = 100_000
"""Nodes of a file, those that aliases repeat included."""
_TAG = "tag:yaml.org,2002:"


def parse_text(text: str, shown: str) -> Node:
    """Return the one document of a text.

    Raises:
        ConfigInvalid: it is not YAML that we take.
    """
    loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        return _Reader(shown, yaml.parse(text, Loader=loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = SourceLocation(shown, *((1, 1) if mark is None else (mark.line + 1, mark.column + 1)))
        raise invalid(f"not YAML: {error.problem or error.context}", location, _tab_hint(text, location)) from None
    except yaml.YAMLError as error:
        raise invalid(f"not YAML: {str(error).splitlines()[0]}", SourceLocation(shown, 1, 1)) from None


class _Reader:
    """Makes nodes of events; nesting and size are bounded."""

    def __init__(self, shown: str, events: Iterator[Untyped]) -> None:
        self._shown = shown
        self._events = events
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def document(self) -> Node:
        node: Node = Scalar(SourceLocation(self._shown, 1, 1), "")
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._fault("the file has more than one document", event)
                node = self._node(next(self._events), 0)
        return node

    def _node(self, event: Untyped, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._fault(f"lists and mappings are nested more than {MAX_DEPTH} deep", event)
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        before = self._count
        self._spend(1, event)
        match event:
            case yaml.ScalarEvent():
                node: Node = self._scalar(event)
            case yaml.SequenceStartEvent():
                node = self._listing(event, depth)
            case _:
                node = self._table(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _scalar(self, event: Untyped) -> Scalar:
        tag = self._tag(event, (Tag.LOCK, Tag.MAX), ("str", "int", "float", "bool", "null"))
        is_plain = event.style in (None, "", "plain") and event.tag not in ("!", f"{_TAG}str")
        return Scalar(self._at(event), event.value, Style.PLAIN if is_plain else Style.QUOTED, tag)

    def _listing(self, event: Untyped, depth: int) -> Listing:
        tag = self._tag(event, (Tag.LOCK, Tag.REPLACE), ("seq",))
        items = []
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(following, depth + 1))
        return Listing(self._at(event), tuple(items), tag)

    def _table(self, event: Untyped, depth: int) -> Table:
        tag = self._tag(event, (Tag.LOCK, Tag.REPLACE), ("map",))
        entries: dict[str, Entry] = {}
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self._fault("a key must be a plain word", key)
            if key.value in entries:
                first = entries[key.value].location.line
                raise self._fault(f"the key {key.value!r} stands twice; the first is in line {first}", key)
            value = self._node(next(self._events), depth + 1)
            entries[key.value] = Entry(key.value, self._at(key), value)
        return Table(self._at(event), tuple(entries.values()), tag)

    def _aliased(self, event: Untyped) -> Node:
        if event.anchor not in self._anchors:
            raise self._fault(f"there is no anchor {event.anchor!r} before this", event)
        node, size = self._anchors[event.anchor]
        self._spend(size, event)
        return node

    def _tag(self, event: Untyped, ours: tuple[Tag, ...], standard: tuple[str, ...]) -> Tag:
        if event.tag in (None, "!", *(_TAG + name for name in standard)):
            return Tag.NONE
        for tag in ours:
            if event.tag == tag:
                return tag
        shown = event.tag.replace(_TAG, "!!")
        known = [tag.value for tag in Tag if tag]
        if shown in known:
            raise self._fault(f"{shown} does not fit here", event, "!max goes with an amount, !replace with a list")
        hint = did_you_mean(shown, known) or f"known are {', '.join(known)}"
        raise self._fault(f"unknown tag {shown!r}", event, hint)

    def _spend(self, count: int, event: Untyped) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise self._fault(f"the file holds more than {MAX_NODES} values", event)

    def _at(self, event: Untyped) -> SourceLocation:
        mark = event.start_mark
        return SourceLocation(self._shown, mark.line + 1, mark.column + 1)

    def _fault(self, message: str, event: Untyped, hint: str | None = None) -> ConfigInvalid:
        return invalid(message, self._at(event), hint)


def _tab_hint(text: str, location: SourceLocation) -> str | None:
    lines = text.splitlines()
    line = lines[location.line - 1] if location.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    return "indent with spaces, not with tabs" if "\t" in indent else None
