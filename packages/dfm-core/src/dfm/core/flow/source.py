"""The nodes of a flow file: plain values with their places.

A node knows its file, line and column (counted from 1) and how many columns it covers, so that a fault found long after
reading can still be shown in the text.
"""

import os
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dfm.api.errors import SourceLocation


@dataclass(slots=True, eq=False)
class SourceFile:
    """One file that was read.

    Attributes:
        path: absolute.
        shown: how it is named to a person: relative to the current directory where that is shorter.
    """

    path: str
    text: str
    shown: str = ""
    _lines: list[str] | None = None

    def __post_init__(self) -> None:
        relative = os.path.relpath(self.path)
        self.shown = relative if len(relative) < len(self.path) else self.path

    def line(self, number: int) -> str:
        """Return a line, counted from 1, without its end; empty where there is none."""
        if self._lines is None:
            self._lines = self.text.splitlines()
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one line of a file."""

    file: SourceFile
    line: int
    column: int
    width: int = 1

    @property
    def location(self) -> SourceLocation:
        """File, line and column as they are told to a person."""
        return SourceLocation(self.file.shown, self.line, self.column)


@dataclass(slots=True, eq=False)
class KeyMark:
    """A key of a mapping, with its place."""

    file: SourceFile
    line: int
    column: int
    text: str

    @property
    def width(self) -> int:
        """Columns that the key covers."""
        return max(1, len(self.text))

    @property
    def location(self) -> SourceLocation:
        """File, line and column as they are told to a person."""
        return SourceLocation(self.file.shown, self.line, self.column)


@dataclass(slots=True, eq=False)
class _Placed:
    file: SourceFile
    line: int
    column: int

    @property
    def location(self) -> SourceLocation:
        """File, line and column as they are told to a person."""
        return SourceLocation(self.file.shown, self.line, self.column)


@dataclass(slots=True, eq=False)
class Scalar(_Placed):
    """A single value.

    Attributes:
        value: what it means.
        text: what is written, without quotes; the value may have `${{ }}` around it that is not written.
        style: `"`, `'`, `|`, `>`, or empty for a plain scalar.
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
        quotes = 2 if self.style else 0
        return max(1, len(self.text.partition("\n")[0]) + quotes)


@dataclass(slots=True, eq=False)
class Sequence(_Placed):
    """A list."""

    items: "list[Node]" = field(default_factory=list)
    width = 1


@dataclass(slots=True, eq=False)
class Entry:
    """A key with its value."""

    key: KeyMark
    value: "Node"


@dataclass(slots=True, eq=False)
class Mapping(_Placed):
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


def inside(node: Node, offset: int, length: int) -> Place:
    """Return the place of a stretch of a scalar's text.

    Exact for plain and quoted scalars of one line and for literal blocks; else the start of the node.
    """
    start = Place(node.file, node.line, node.column, node.width)
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return start
    if node.style == "|":
        return _inside_block(node, offset, length)
    if "\n" in node.text or node.style == ">":
        return start
    first = node.column + (1 if node.style else 0)
    line = node.file.line(node.line)
    for written in (node.value, node.text):
        added = node.value.find(written)
        if added >= 0 and line[first - 1 : first - 1 + len(written)] == written:
            return Place(node.file, node.line, first + offset - added, max(1, length))
    return start


def _inside_block(node: Scalar, offset: int, length: int) -> Place:
    assert isinstance(node.value, str)
    before = node.value[:offset]
    line = node.line + 1 + before.count("\n")
    within = offset - (before.rfind("\n") + 1)
    content = node.value.splitlines()[before.count("\n")] if node.value else ""
    indent = node.file.line(line).find(content) if content else 0
    return Place(node.file, line, max(indent, 0) + within + 1, max(1, length))
