"""A settings file as nodes with their places, before anybody knows what they mean.

Plain text stays text until it is known what the setting wants: `1:30` is no number in base 60 here. `!replace` on a
list or mapping starts anew, `!lock` forbids nearer layers to set what is below, `!max` on an amount is the most that
nearer layers may ask for.
"""

import enum
import re
from typing import TypeAlias

from msgspec import Struct

from dfm.api.errors import SourceLocation

_NULLS = ("", "~", "null", "Null", "NULL")
_SWITCH = re.compile(r"(?i:true|false|yes|no|on|off)\Z")
_NUMBER = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d+)([eE][-+]?\d+)?\Z|0x[0-9a-fA-F]+\Z")


class Tag(enum.StrEnum):
    """What a file says of a value beside the value."""

    NONE = ""
    REPLACE = "!replace"
    LOCK = "!lock"
    MAX = "!max"


class Style(enum.Enum):
    """How a single value is written."""

    PLAIN = enum.auto()
    QUOTED = enum.auto()
    WORD = enum.auto()
    """On the command line or in a variable, where all is text and means what the setting wants."""


class Scalar(Struct, frozen=True):
    """A single value, as it is written."""

    location: SourceLocation | None
    text: str
    style: Style = Style.PLAIN
    tag: Tag = Tag.NONE

    @property
    def is_null(self) -> bool:
        """Whether nothing is written: `key:` or `key: null`."""
        return self.style is Style.PLAIN and self.text in _NULLS

    @property
    def shown_kind(self) -> str:
        """What it is, for a message to a person."""
        if self.is_null:
            return "nothing"
        if self.style is Style.PLAIN and _SWITCH.match(self.text):
            return f"the switch {self.text}"
        return f"{self.text!r}"

    @property
    def is_switch(self) -> bool:
        """Whether YAML takes it for true or false."""
        return self.style is Style.PLAIN and _SWITCH.match(self.text) is not None

    @property
    def is_number(self) -> bool:
        """Whether YAML takes it for a number."""
        return self.style is Style.PLAIN and _NUMBER.match(self.text) is not None


class Listing(Struct, frozen=True):
    """A list."""

    location: SourceLocation | None
    items: tuple["Node", ...]
    tag: Tag = Tag.NONE
    shown_kind = "a list"


class Entry(Struct, frozen=True):
    """A key of a table, and its value."""

    key: str
    location: SourceLocation
    value: "Node"


class Table(Struct, frozen=True):
    """A mapping from text to values."""

    location: SourceLocation | None
    entries: tuple[Entry, ...]
    tag: Tag = Tag.NONE
    shown_kind = "a mapping"


Node: TypeAlias = Scalar | Listing | Table
