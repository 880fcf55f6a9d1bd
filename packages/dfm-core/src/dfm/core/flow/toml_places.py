"""The nodes of a TOML text with their places, without the values: tomllib tells values and no places.

The text must be one that tomllib has taken, so that nothing is refused here. A key stands where it is first set, a
table of a header at the bracket, an inline one at the brace, one that only dotted keys make at the first of these.
Source: TOML 1.0.0.
"""

import re
import tomllib

from dfm.core.flow.source import (
    LONG_QUOTES,
    MAX_DEPTH,
    Entry,
    KeyMark,
    Mapping,
    Node,
    Place,
    Scalar,
    Sequence,
    SourceFile,
)

_BLANKS = re.compile(r"[ \t]*")
_FILLER = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\]++|\\.)*+"'
    r"|'[^']*+'",
    re.DOTALL,
)
_WORD = re.compile(r"\d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}#]*|[^\s,\]}#]+")


class TooDeep(Exception):  # noqa: N818  (the text is valid; it is only too much)
    """Tables and arrays are nested deeper than we read.

    Attributes:
        place: the first one that is.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


def scan(file: SourceFile) -> Mapping:
    """Return the content of a TOML file, each scalar with the text that is written, quotes included, as its text.

    Raises:
        TooDeep: it is nested more than `MAX_DEPTH` deep.
    """
    return _Scanner(file).document()


class _Scanner:
    """Goes through the text once, from its beginning to its end."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._text = file.text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def document(self) -> Mapping:
        root = table = Mapping(self._file, 1, 1)
        depth = 1
        while self._skip(_FILLER):
            if self._text[self._at] == "[":
                table, depth = self._header(root)
            else:
                self._pair(table, depth)
        return root

    def _header(self, root: Mapping) -> tuple[Mapping, int]:
        """Take in `[a.b]` or `[[a.b]]`; return the table that it opens, and how deep that is."""
        place = self._place()
        is_item = self._text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        keys = self._keys(depth=1)
        self._at += 2 if is_item else 1
        outer = self._table_of(root, keys[:-1])
        last = keys[-1]
        if is_item:
            table = Mapping(self._file, *place)
            entry = outer.entries.setdefault(last.text, Entry(last, Sequence(self._file, *place)))
            assert isinstance(entry.value, Sequence)
            entry.value.items.append(table)
        else:
            table = self._table_of(outer, keys[-1:])
            table.line, table.column = place
        return table, 1 + len(keys)

    def _pair(self, table: Mapping, depth: int) -> None:
        keys = self._keys(depth)
        self._at += 1  # the equals sign
        self._skip(_BLANKS)
        last = keys[-1]
        self._table_of(table, keys[:-1]).entries[last.text] = Entry(last, self._value(depth + len(keys)))

    def _table_of(self, table: Mapping, keys: list[KeyMark]) -> Mapping:
        """Return the table that keys lead to, made where there is none; the last item stands for an array."""
        for key in keys:
            entry = table.entries.get(key.text)
            if entry is None:
                entry = table.entries[key.text] = Entry(key, Mapping(self._file, key.line, key.column))
            inner = entry.value.items[-1] if isinstance(entry.value, Sequence) else entry.value
            assert isinstance(inner, Mapping)
            table = inner
        return table

    def _keys(self, depth: int) -> list[KeyMark]:
        """Take in `a."b".c` with the blanks around it."""
        keys: list[KeyMark] = []
        while True:
            self._skip(_BLANKS)
            place = self._place()
            if depth + len(keys) > MAX_DEPTH:
                raise TooDeep(Place(self._file, *place))
            is_quoted = self._text[self._at] in "\"'"
            written = self._take(_STRING if is_quoted else _BARE)
            name = tomllib.loads(f"key = {written}")["key"] if is_quoted else written
            keys.append(KeyMark(self._file, *place, name))
            self._skip(_BLANKS)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, depth: int) -> Node:
        match self._text[self._at]:
            case "[":
                return self._array(depth)
            case "{":
                return self._inline_table(depth)
            case '"' | "'":
                return self._scalar(_STRING)
            case _:
                return self._scalar(_WORD)

    def _scalar(self, pattern: re.Pattern[str]) -> Scalar:
        place = self._place()
        written = self._take(pattern)
        style = "" if pattern is _WORD else written[:3] if written[:3] in LONG_QUOTES else written[0]
        return Scalar(self._file, *place, None, written, style)

    def _array(self, depth: int) -> Sequence:
        node = Sequence(self._file, *self._place())
        self._open(node, depth)
        while self._text[self._at] != "]":
            node.items.append(self._value(depth + 1))
            self._go_on()
        self._at += 1
        return node

    def _inline_table(self, depth: int) -> Mapping:
        node = Mapping(self._file, *self._place())
        self._open(node, depth)
        while self._text[self._at] != "}":
            self._pair(node, depth)
            self._go_on()
        self._at += 1
        return node

    def _open(self, node: Sequence | Mapping, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooDeep(Place(self._file, node.line, node.column))
        self._at += 1
        self._skip(_FILLER)

    def _go_on(self) -> None:
        """Go to the next item, or to the closing bracket."""
        self._skip(_FILLER)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_FILLER)

    def _place(self) -> tuple[int, int]:
        """Return line and column of where we are; only ever further on."""
        new = self._text.count("\n", self._counted, self._at)
        if new:
            self._line += new
            self._line_start = self._text.rindex("\n", self._counted, self._at) + 1
        self._counted = self._at
        return self._line, self._at - self._line_start + 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, "tomllib has taken this text"
        self._at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go over what does not count; return whether something is left."""
        self._take(pattern)
        return self._at < len(self._text)
