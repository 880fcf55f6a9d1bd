"""YAML 1.1 to nodes with places, built straight from libyaml's events.

Plain scalars mean what PyYAML's SafeLoader makes of them, with two exceptions: `1:30` is text, since it is a time to
everybody who writes it here, and dates are text. Nothing is recursive and aliases share their nodes, so that hostile
files are refused in the time it takes to read them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import yaml

from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.source import MAX_DEPTH, TOO_DEEP, Entry, KeyMark, Mapping, Node, Place, Scalar, Sequence, SourceFile

Untyped: TypeAlias = Any
"""PyYAML's events and marks have no types."""

_ALIAS_FACTOR = 20
_ALIAS_SLACK = 10_000

_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+|[1-9][0-9_]*|0)\Z")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?\Z")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_TAG = "tag:yaml.org,2002:"


def read_yaml(file: SourceFile, diagnostics: Diagnostics) -> Node | None:
    """Return the file's one document, or None where it has faults that leave nothing to read."""
    builder = _Builder(file, diagnostics)
    try:
        if not builder.read():
            return None
    except yaml.MarkedYAMLError as error:
        _report(error, file, diagnostics)
        return None
    except yaml.YAMLError as error:
        diagnostics.error("yaml-syntax", str(error).splitlines()[0], Place(file, 1, 1))
        return None
    if builder.root is None:
        diagnostics.error("empty-file", "the file is empty", Place(file, 1, 1))
    return builder.root


def resolve_plain(text: str) -> bool | int | float | str | None:
    """Return what a plain scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "0123456789+-.":
        if _INT.match(text):
            return _to_int(text.replace("_", ""))
        if _FLOAT.match(text):
            return float(text.replace("_", ""))
    return text


class _Builder:
    """Builds nodes from events with an explicit stack."""

    def __init__(self, file: SourceFile, diagnostics: Diagnostics) -> None:
        self.file = file
        self.diagnostics = diagnostics
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._sizes: dict[int, int] = {}
        self._nodes = 0
        self._expanded = 0
        self._documents = 0
        self._last_line = 0
        self._texts: dict[str, str] = {}

    def read(self) -> bool:
        """Take in all events; return whether there is a document."""
        loader: Untyped = (yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)(self.file.text)
        take: dict[type, Callable[[Untyped], bool]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
            yaml.DocumentEndEvent: _pass_over,
            yaml.StreamStartEvent: _pass_over,
        }
        next_event = loader.get_event
        try:
            while (kind := type(event := next_event())) is not yaml.StreamEndEvent:
                if not take[kind](event):
                    return False
        finally:
            loader.dispose()
        return True

    def _document(self, event: Untyped) -> bool:
        self._documents += 1
        if self._documents > 1:
            self._fault("yaml-syntax", "the file has more than one document", event.start_mark)
        return self._documents == 1

    def _scalar(self, event: Untyped) -> bool:
        mark, text = event.start_mark, event.value
        style = event.style or ""
        style = "" if style == "plain" else style
        text = self._texts.setdefault(text, text)
        is_bare = event.tag is None and not style
        value = resolve_plain(text) if is_bare else self._meaning(event, text, style)
        node = Scalar(self.file, self._line(mark), mark.column + 1, value, text, style)
        return self._add(node, 1, event.anchor)

    def _line(self, mark: Untyped) -> int:
        """Return the line of a mark; all that stands in one line has the same number, not only an equal one."""
        line: int = mark.line + 1
        if line != self._last_line:
            self._last_line = line
        return self._last_line

    def _meaning(self, event: Untyped, text: str, style: str) -> bool | int | float | str | None:
        if event.tag is None or event.tag == "!":
            return text if style or event.tag == "!" else resolve_plain(text)
        kind = event.tag.removeprefix(_TAG)
        try:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool" if isinstance(_WORDS.get(text), bool):
                    return _WORDS[text]
                case "int":
                    return _to_int(text.replace("_", ""))
                case "float":
                    return float(text.replace("_", ""))
                case _:
                    pass
        except ValueError:
            pass
        shown = f"!!{kind}" if event.tag.startswith(_TAG) else event.tag
        known = kind in ("bool", "int", "float")
        self._fault(
            "unknown-tag",
            f"{text!r} is no {kind}" if known else f"unknown tag {shown!r}",
            event.start_mark,
        )
        return text

    def _open(self, event: Untyped) -> bool:
        mark = event.start_mark
        if len(self._stack) >= MAX_DEPTH:
            self._fault("too-deep", TOO_DEEP, mark)
            return False
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        expected = _TAG + ("map" if is_mapping else "seq")
        if event.tag not in (None, "!", expected):
            self._fault("unknown-tag", f"unknown tag {event.tag.replace(_TAG, '!!')!r}", mark)
        kind = Mapping if is_mapping else Sequence
        node = kind(self.file, self._line(mark), mark.column + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._stack.append(_Open(node))
        return True

    def _close(self, _event: Untyped) -> bool:
        opened = self._stack.pop()
        node = opened.node
        if isinstance(node, Mapping):
            for merged in opened.merges:
                self._merge(node, merged)
        self._sizes[id(node)] = opened.size
        return self._add(node, opened.size, None)

    def _alias(self, event: Untyped) -> bool:
        node = self._anchors.get(event.anchor)
        if node is None:
            hint = did_you_mean(event.anchor, self._anchors)
            self._fault("yaml-syntax", f"there is no anchor {event.anchor!r}", event.start_mark, hint)
            return False
        if any(opened.node is node for opened in self._stack):
            self._fault(
                "recursive-alias",
                f"the alias {event.anchor!r} stands inside what it means",
                event.start_mark,
            )
            return False
        size = self._sizes.get(id(node), 1)
        self._expanded += size
        if self._expanded > _ALIAS_FACTOR * self._nodes + _ALIAS_SLACK:
            self._fault("alias-bomb", "the aliases expand to far more than the file holds", event.start_mark)
            return False
        return self._add(node, size, None, event.start_mark)

    def _add(self, node: Node, size: int, anchor: str | None, mark: Untyped = None) -> bool:
        self._nodes += 1
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return True
        top = self._stack[-1]
        top.size += size
        if isinstance(top.node, Sequence):
            top.node.items.append(node)
        elif top.key is None:
            return self._key(top, node, mark)
        else:
            self._entry(top, top.node, top.key, node)
        return True

    def _key(self, top: "_Open", node: Node, mark: Untyped) -> bool:
        if not isinstance(node, Scalar):
            place = Place(self.file, node.line, node.column)
            hint = None
            if isinstance(node, Mapping):
                hint = 'braces are a mapping in YAML; put quotes around a value that holds `{{`, as in "${{ name }}"'
            self._fault_at("yaml-syntax", "a key must be a plain word", place, hint)
            return False
        line, column = (node.line, node.column) if mark is None else (mark.line + 1, mark.column + 1)
        top.key = KeyMark(self.file, line, column, node.text)
        top.is_merge = node.text == "<<" and not node.style
        return True

    def _entry(self, top: "_Open", mapping: Mapping, key: KeyMark, node: Node) -> None:
        top.key = None
        if top.is_merge:
            top.merges.append((key, node))
            return
        first = mapping.entries.get(key.text)
        if first is not None:
            self._fault_at(
                "duplicate-key",
                f"the key {key.text!r} stands twice; the first is in line {first.key.line}",
                Place(self.file, key.line, key.column, key.width),
            )
            return
        mapping.entries[key.text] = Entry(key, node)

    def _merge(self, node: Mapping, merged: tuple[KeyMark, Node]) -> None:
        key, source = merged
        sources = source.items if isinstance(source, Sequence) else [source]
        for item in sources:
            if not isinstance(item, Mapping):
                self._fault_at(
                    "yaml-syntax",
                    "`<<` merges mappings only",
                    Place(self.file, key.line, key.column, 2),
                )
                continue
            for name, entry in item.entries.items():
                node.entries.setdefault(name, entry)

    def _fault(self, code: str, message: str, mark: Untyped, hint: str | None = None) -> None:
        self._fault_at(code, message, Place(self.file, mark.line + 1, mark.column + 1), hint)

    def _fault_at(self, code: str, message: str, place: Place, hint: str | None = None) -> None:
        self.diagnostics.error(code, message, place, hint=hint)


class _Open:
    """A list or mapping that is not closed yet."""

    __slots__ = ("is_merge", "key", "merges", "node", "size")

    def __init__(self, node: Mapping | Sequence) -> None:
        self.node = node
        self.key: KeyMark | None = None
        self.is_merge = False
        self.merges: list[tuple[KeyMark, Node]] = []
        self.size = 1


def _pass_over(_event: Untyped) -> bool:
    return True


def _to_int(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if digits.startswith("0") and len(digits) > 1 and digits[1].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _report(error: yaml.MarkedYAMLError, file: SourceFile, diagnostics: Diagnostics) -> None:
    from dfm.core.flow.syntax_hints import yaml_hint  # noqa: PLC0415  (only a fault needs it)

    mark = error.problem_mark or error.context_mark
    if error.problem and "nesting depth" in str(error.problem):  # libyaml's own limit, met while it looks ahead
        place = Place(file, 1, 1) if mark is None else Place(file, mark.line + 1, mark.column + 1)
        diagnostics.error("too-deep", TOO_DEEP, place)
        return
    if "quoted scalar" in str(error.context) or "expected ':'" in str(error.problem):
        mark = error.context_mark or mark  # what was not closed is in sight; where that was noticed may be far below
    message = " ".join(_parts(error))
    place = Place(file, 1, 1) if mark is None else Place(file, mark.line + 1, mark.column + 1)
    at = error.problem_mark or mark
    hint = None if at is None else yaml_hint(message, file.text.splitlines(), at.line + 1, at.column + 1)
    diagnostics.error("yaml-syntax", f"not YAML: {message}", place, hint=hint)


def _parts(error: yaml.MarkedYAMLError) -> Iterator[str]:
    if error.problem:
        yield str(error.problem)
    if error.context:
        where = "" if error.context_mark is None else f" that starts in line {error.context_mark.line + 1}"
        yield f"({error.context}{where})"
