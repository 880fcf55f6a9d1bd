"""TOML to nodes. tomllib gives no places, so the place of a key is the line where its name is first set.

The search goes forward from the place of the table around it; where it finds nothing, the table's own place stands in.
"""

import re
import tomllib
from collections.abc import Mapping as AnyMapping

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.source import Entry, KeyMark, Mapping, Node, Place, Scalar, Sequence, SourceFile

_WHERE = re.compile(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)\Z")


def read_toml(file: SourceFile, diagnostics: Diagnostics) -> Node | None:
    """Return the file's content, or None where it does not parse."""
    try:
        content = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        found = _WHERE.match(str(error))
        place = Place(file, int(found["line"]), int(found["column"])) if found else _end_of(file)
        diagnostics.error("toml-syntax", f"not TOML: {found['what'] if found else error}", place)
        return None
    return _Placer(file).node(content, 1, 1)


class _Placer:
    """Gives values the places where their keys are set; each line is used by the first key that fits."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._lines = file.text.splitlines()

    def node(self, value: object, line: int, column: int) -> Node:
        match value:
            case AnyMapping():
                return self._mapping(value, line, column)
            case list():
                items = []
                for item in value:
                    items.append(self.node(item, line, column))
                    line = max(line, _last_line(items[-1]))
                return Sequence(self._file, items[0].line if items else line, column, items)
            case None | bool() | int() | float() | str():
                return Scalar(
                    self._file,
                    line,
                    column,
                    value,
                    _written(value),
                    '"' if isinstance(value, str) else "",
                )
            case _:
                return Scalar(self._file, line, column, str(value), str(value), '"')

    def _mapping(self, value: AnyMapping[str, object], line: int, column: int) -> Mapping:
        node = Mapping(self._file, line, column)
        for name, inner in value.items():
            at_line, at_column = self._find(name, line) or (line, column)
            key = KeyMark(self._file, at_line, at_column, name)
            node.entries[name] = Entry(key, self.node(inner, at_line, at_column))
        return node

    def _find(self, name: str, start: int) -> tuple[int, int] | None:
        word = re.escape(name)
        pattern = re.compile(rf"(?:^|[\s{{,.\[])(?P<key>\"?{word}\"?)\s*(?:=|\.|\])")
        for number in range(start, len(self._lines) + 1):
            found = pattern.search(self._lines[number - 1])
            if found is not None:
                return number, found.start("key") + 1
        return None


def _end_of(file: SourceFile) -> Place:
    """Return the place of what tomllib calls the end of the document."""
    lines = file.text.rstrip("\n").split("\n")
    return Place(file, len(lines), max(1, len(lines[-1])))


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _last_line(node: Node) -> int:
    match node:
        case Mapping():
            return max((_last_line(entry.value) for entry in node.entries.values()), default=node.line)
        case Sequence():
            return max((_last_line(item) for item in node.items), default=node.line)
        case _:
            return node.line
