"""What a flow names and could not take in: a file that cannot be read or parsed, a package that is not there.

A name that may be defined there is not told as missing: its only fault is the one that has been told. Whether it may
be is seen in the text that was not taken in, which need not parse for that: a name whose last word is nowhere in it is
a fault of its own. A text that nobody can see may define all that nothing else could, but for a name that is nearly the
name of something else.
"""

import enum
import re
from collections.abc import Container, Iterable, Iterator

from msgspec import Struct

from dfm.core.flow.asked import read

_WORD = r"[\w-]+"
_NAME = r"""\bname["']?\s*[:=]\s*["']?([\w.-]+)"""
_MORE = "fragments"


class Kind(enum.Enum):
    """What the package that names it would have of it."""

    PART = enum.auto()
    BASE = enum.auto()
    IMPORT = enum.auto()


class Lost(Struct, frozen=True):
    """One thing that was not taken in.

    Attributes:
        holder: the package that names it.
        names: what the package that it is may be called; empty where nobody knows.
        words: of its text, None where there is none or where it leads to further files.
    """

    kind: Kind
    holder: str
    names: frozenset[str]
    words: frozenset[str] | None


class Losses:
    """All that was not taken in; for each there is a fault that says so."""

    def __init__(self) -> None:
        self._lost: list[Lost] = []
        self._parameters: set[str] = set()

    def add_part(self, package: str, path: str | None) -> None:
        """Add a fragment of a package; the path is None where there is no file."""
        self._lost.append(Lost(Kind.PART, package, frozenset(), _words(_text(path))))

    def add_base(self, package: str) -> None:
        """Add what a package starts from."""
        self._lost.append(Lost(Kind.BASE, package, frozenset(), None))

    def add_package(self, holder: str, names: Iterable[str | None], path: str | None) -> None:
        """Add a package that `holder` imports, with what it may be called."""
        text = _text(path)
        found = None if text is None else re.search(_NAME, text)
        known = {name for name in names if name} | ({found[1]} if found else set())
        self._lost.append(Lost(Kind.IMPORT, holder, frozenset(known), _words(text)))

    def add_map(self, path: str | None) -> None:
        """Add a package map, which may lead to any package."""
        self._lost.append(Lost(Kind.IMPORT, "", frozenset(), _words(_text(path))))

    def add_parameter(self, name: str) -> None:
        """Add a parameter that has no value, since what gives it one has a fault."""
        self._parameters.add(name)

    def may_define(self, wanted: str, asking: str, packages: Container[str], *, is_near: bool) -> bool:
        """Whether a task or type may be there.

        Args:
            wanted: its name, with no alias in it.
            asking: the package that names it.
            packages: those that were taken in.
            is_near: whether there is something whose name is nearly the same.
        """
        owner = next((name for name in _beginnings(wanted) if name in packages), None)
        return any(_may_define(lost, wanted, asking, owner, is_near=is_near) for lost in self._lost)

    def may_be_package(self, name: str, *, is_near: bool) -> bool:
        """Whether a package of this name may be among them."""
        return any(
            name in lost.names
            or (_is_hidden(lost) and lost.kind is not Kind.BASE and not is_near)
            or name in (lost.words or ())
            for lost in self._lost
        )

    def may_be_named(self, word: str, *, is_near: bool) -> bool:
        """Whether a name in an expression, or a parameter, or a configuration, may be there."""
        return word in self._parameters or any(
            word in (name.partition(".")[0] for name in lost.names)
            or (_is_hidden(lost) and not is_near)
            or word in (lost.words or ())
            for lost in self._lost
        )


def _may_define(lost: Lost, wanted: str, asking: str, owner: str | None, *, is_near: bool) -> bool:
    first, leaf = wanted.partition(".")[0], wanted.rpartition(".")[2]
    if any(wanted.startswith(f"{name}.") for name in lost.names):
        return lost.words is None or leaf in lost.words
    is_own = lost.kind is not Kind.IMPORT and (owner or asking) == lost.holder
    if owner is not None and not is_own:
        return False
    is_dotted = owner is None and first != wanted
    if lost.words is None:
        is_possible = lost.kind is not Kind.BASE if is_dotted else is_own
        return _is_hidden(lost) and is_possible and not is_near
    return (is_dotted and first in lost.words) or (leaf in lost.words and (is_own or asking == lost.holder))


def _is_hidden(lost: Lost) -> bool:
    """Whether nothing is known of it."""
    return lost.words is None and not lost.names


def _beginnings(dotted: str) -> Iterator[str]:
    """Yield the names that a dotted name begins with, longest first."""
    words = dotted.split(".")
    return (".".join(words[:count]) for count in range(len(words) - 1, 0, -1))


def _text(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return read(path).decode("utf-8", "replace")
    except OSError:
        return None


def _words(text: str | None) -> frozenset[str] | None:
    words = frozenset() if text is None else frozenset(re.findall(_WORD, text))
    return None if text is None or _MORE in words else words
