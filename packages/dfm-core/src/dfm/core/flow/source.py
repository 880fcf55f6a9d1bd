"""The nodes of a flow file: plain values with their places.

A node knows its file, line and column (counted from 1) and how many columns it covers, so that a fault found long after
reading can still be shown in the text.

A large flow has a million of them, and so they are msgspec's: made at a fraction of a data class's cost, smaller, and
of no concern to the garbage collector, since no node leads back to itself.
"""

import os
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from msgspec import Struct, field

from dfm.api.errors import SourceLocation

LONG_QUOTES = ('"""', "'''")
"""Around strings of TOML that go over several lines."""
MAX_DEPTH = 64
"""Nesting of lists and mappings; the deepest flow a person wrote so far has 14."""
TOO_DEEP = f"lists and mappings are nested more than {MAX_DEPTH} deep"


@dataclass(slots=True, eq=False)
class SourceFile:
    """One file that was read.

    Attributes:
        path: absolute.
        shown: how it is named to a person: relative to the current directory where that is shorter.
        has_newlines_only: whether no other character than a newline ends a line; of YAML's there are more.
    """

    path: str
    text: str
    shown: str = ""
    has_newlines_only: bool = False
    _lines: list[str] | None = None

    def __post_init__(self) -> None:
        relative = os.path.relpath(self.path)
        self.shown = relative if len(relative) < len(self.path) else self.path

    def line(self, number: int) -> str:
        """Return a line, counted from 1, without its end; empty where there is none."""
        if self._lines is None:
            self._lines = self.text.split("\n") if self.has_newlines_only else self.text.splitlines()
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


class Placed(Struct, eq=False, gc=False):
    """Whatever stands somewhere in a file."""

    file: SourceFile
    line: int
    column: int

    @property
    def location(self) -> SourceLocation:
        """File, line and column as they are told to a person."""
        return SourceLocation(self.file.shown, self.line, self.column)


class Place(Placed):
    """A stretch of one line of a file."""

    width: int = 1


class KeyMark(Placed):
    """A key of a mapping, with its place."""

    text: str

    @property
    def width(self) -> int:
        """Columns that the key covers."""
        return max(1, len(self.text))


class Scalar(Placed):
    """A single value.

    Attributes:
        value: what it means.
        text: what is written, without quotes; the value may have `${{ }}` around it that is not written.
        style: `"`, `'`, `|`, `>`, those of TOML's long strings, or empty for a plain scalar.
    """

    value: bool | int | float | str | None
    text: str
    style: str = ""

    @property
    def is_quoted(self) -> bool:
        """Whether it is text because it was written so."""
        return bool(self.style)

    @property
    def width(self) -> int:
        """Columns that its first line covers."""
        if self.style in ("|", ">"):
            return 1
        if self.style in LONG_QUOTES and "\n" in self.text:
            return len(self.style)
        return max(1, len(self.text.partition("\n")[0]) + 2 * len(self.style))


class Sequence(Placed):
    """A list."""

    items: "list[Node]" = field(default_factory=list)
    width = 1


class Entry(Struct, eq=False, gc=False):
    """A key with its value."""

    key: KeyMark
    value: "Node"


class Mapping(Placed):
    """A mapping from text to values, in the order of the file."""

    entries: dict[str, Entry] = field(default_factory=dict)
    width = 1


Node: TypeAlias = Scalar | Sequence | Mapping


def to_plain(node: Node) -> Any:  # noqa: ANN401  (JSON-like)
    """Return the value of a node without its places."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [to_plain(item) for item in node.items]
        case Mapping():
            return {name: to_plain(entry.value) for name, entry in node.entries.items()}


def place_of(at: Placed) -> Place:
    """Return where something starts, which keeps nothing of it alive."""
    return Place(at.file, at.line, at.column)


def inside(node: Node | Place, offset: int, length: int) -> Place:
    """Return the place of a stretch of a scalar's text.

    Exact for what is plain or quoted on one line, for literal blocks and for all strings of TOML; else the start of the
    node.
    """
    start = Place(node.file, node.line, node.column, node.width)
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return start
    if node.value != node.text:  # what stands around the text is not written
        offset = min(offset - node.value.find(node.text), len(node.text.rstrip()))
    if offset < 0 or node.style == ">":
        return start
    if node.style == "|":
        return _inside_block(node, offset, length)
    if node.style:
        return _inside_quotes(node, offset, length) or start
    if node.file.line(node.line).startswith(node.text, node.column - 1):
        return Place(node.file, node.line, node.column + offset, max(1, length))
    return start


def _inside_block(node: Scalar, offset: int, length: int) -> Place:
    before = node.text[:offset]
    line = node.line + 1 + before.count("\n")
    within = offset - (before.rfind("\n") + 1)
    content = node.text.split("\n")[before.count("\n")]
    indent = node.file.line(line).find(content) if content else 0
    return Place(node.file, line, max(indent, 0) + within + 1, max(1, length))


def _inside_quotes(node: Scalar, offset: int, length: int) -> Place | None:
    """Return the place; None where it is in a further line of a text that YAML folds."""
    from dfm.core.flow.quoted import written_at  # noqa: PLC0415  (only faults need it)

    written, start = node.file.line(node.line), node.column - 1
    if node.style in LONG_QUOTES:
        written, start = node.file.text, start + _line_start(node.file.text, node.line)
    found = list(islice(written_at(written, start, node.style), offset, offset + length + 1))
    if not found:
        return None
    line = node.line + written.count("\n", start, found[0])
    return Place(node.file, line, found[0] - written.rfind("\n", 0, found[0]), max(1, found[-1] - found[0]))


def _line_start(text: str, line: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.index("\n", start) + 1
    return start
