"""One mapping of a flow file, read key by key against the table of the keys it may have.

A fault costs the one value it is in: the rest of the file is still read, so that a person sees all faults at once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from dfm.core.flow import schema
from dfm.core.flow.diagnostics import Diagnostics, did_you_mean
from dfm.core.flow.model import Text
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Scalar
from dfm.core.flow.source import Sequence as SequenceNode

T = TypeVar("T")


class KeyReader:
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
    def open(
        cls, node: Node, table: Mapping[str, schema.Key], what: str, diagnostics: Diagnostics
    ) -> "KeyReader | None":
        if not isinstance(node, MappingNode):
            owner = what if what.startswith("`") else f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
            diagnostics.error("wrong-type", f"{owner} is a mapping, not {kind_of(node)}", node)
            return None
        reader = cls(node, table, what, diagnostics)
        reader.check_keys()
        return reader

    def check_keys(self) -> None:
        for name, entry in self.node.entries.items():
            if name not in self.table:
                self.diagnostics.error(
                    "unknown-key",
                    f"unknown key {name!r} in {self._owner()}",
                    entry.key,
                    hint=did_you_mean(name, self.table),
                )

    def fault(self, key: str, code: str, message: str, *, hint: str | None = None) -> None:
        entry = self.node.entries.get(key)
        self.diagnostics.error(code, message, self.node if entry is None else entry.value, hint=hint)

    def wrong(self, key: str, wanted: str, *, hint: str | None = None) -> None:
        value = self.node.entries[key].value
        message = f"`{key}` in {self._owner()} is {wanted}, not {kind_of(value)}"
        self.diagnostics.error("wrong-type", message, value, hint=hint)

    def text(self, key: str) -> Text | None:
        entry = self.node.entries.get(key)
        if entry is None:
            return None
        text = text_of(entry.value)
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

    def items(self, key: str) -> Sequence[Node]:
        entry = self.node.entries.get(key)
        if entry is None or is_null(entry.value):
            return ()
        return entry.value.items if isinstance(entry.value, SequenceNode) else (entry.value,)

    def texts(self, key: str) -> Sequence[Text]:
        items = self.items(key)
        if not items:
            return ()
        found = []
        for item in items:
            text = text_of(item)
            if text is None or not text.value:
                self.diagnostics.error(
                    "wrong-type",
                    f"`{key}` in {self._owner()} is a list of names, not of {kind_of(item)}",
                    item,
                )
            else:
                found.append(text)
        return found

    def mappings(self, key: str) -> Sequence[MappingNode]:
        items = self.items(key)
        if not items:
            return ()
        found = []
        for item in items:
            if isinstance(item, MappingNode):
                found.append(item)
            else:
                self.diagnostics.error(
                    "wrong-type",
                    f"`{key}` in {self._owner()} is a list of mappings, not of {kind_of(item)}",
                    item,
                )
        return found

    def each(self, key: str, decode: Callable[[Node, Diagnostics], T | None]) -> Sequence[T]:
        entry = self.node.entries.get(key)
        if entry is None or is_null(entry.value):
            return ()
        if not isinstance(entry.value, SequenceNode):
            self.wrong(key, "a list", hint=_item_hint(key, entry.value))
            return ()
        decoded = (decode(item, self.diagnostics) for item in entry.value.items)
        return [item for item in decoded if item is not None]

    def flag(self, key: str) -> bool | None:
        """Return a boolean, None where it is not given."""
        entry = self.node.entries.get(key)
        if entry is None:
            return None
        if isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool):
            return entry.value.value
        self.wrong(key, "true or false")
        return None

    def whole_number(self, key: str) -> int | None:
        """Return an integer, None where it is not given."""
        entry = self.node.entries.get(key)
        if entry is None:
            return None
        value = entry.value.value if isinstance(entry.value, Scalar) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.wrong(key, "a whole number")
        return None

    def value(self, key: str) -> Node | None:
        """Return a value as it is written, None where it is not given."""
        entry = self.node.entries.get(key)
        return None if entry is None else entry.value

    def _owner(self) -> str:
        name = self.node.entries.get("name")
        if self.what in ("task", "package", "fragment", "type") and name and isinstance(name.value, Scalar):
            return f"{self.what} {name.value.text!r}"
        return self.what


def _item_hint(key: str, value: Node) -> str | None:
    """Return how an item is written where a mapping stands in the place of a list."""
    if not isinstance(value, MappingNode):
        return None
    if value.file.path.endswith(".toml"):
        return f"the header of each item has double brackets: `[[package.{key}]]`"
    return f"each item of `{key}` begins with `- `, as in `- name: ...`"


def text_of(node: Node) -> Text | None:
    """Return a scalar as text; numbers and booleans as they are written, but not null."""
    if isinstance(node, Scalar) and node.value is not None:
        return Text(node.value if isinstance(node.value, str) else node.text, node)
    return None


def is_null(node: Node) -> bool:
    """Whether a key has nothing behind it."""
    return isinstance(node, Scalar) and node.value is None


def kind_of(node: Node) -> str:
    """Return what a value is, for a person."""
    match node:
        case MappingNode():
            return "a mapping"
        case SequenceNode():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return f"the boolean {node.text}"
        case Scalar(value=int() | float()):
            return f"the number {node.text}"
        case _:
            return "a string"
