"""Faults of a flow, collected while it is read, and how they are shown to a person."""

import enum
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from dfm.api.errors import FlowError, SourceLocation
from dfm.core.flow.source import KeyMark, Mapping, Place, Scalar
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.suggest import did_you_mean, is_suggestion

if TYPE_CHECKING:
    from dfm.core.flow.lost import Losses

At = KeyMark | Place | Scalar | SequenceNode | Mapping | SourceLocation | None
_MOST_SHOWN = 100


class Level(enum.StrEnum):
    """Whether the flow can be used all the same."""

    ERROR = "error"
    WARNING = "warning"


class Diagnostic(Struct, frozen=True):
    """One fault.

    Attributes:
        code: kebab-case name of the kind of fault.
        excerpt: the line of the file, None where it is not known.
        width: columns to underline in it.
    """

    level: Level
    code: str
    message: str
    location: SourceLocation | None = None
    hint: str | None = None
    excerpt: str | None = None
    width: int = 1


class FlowInvalid(FlowError):  # noqa: N818  (what is raised is a verdict on a flow, and it holds the errors)
    """A flow with faults; its text shows all of them.

    Attributes:
        diagnostics: the faults.
        warnings: what was noticed besides.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic], warnings: Sequence[Diagnostic] = ()) -> None:
        super().__init__(f"{len(diagnostics)} faults")
        self.diagnostics = diagnostics
        self.warnings = warnings

    def __str__(self) -> str:
        shown = [render(item) for item in self.diagnostics[:_MOST_SHOWN]]
        if len(self.diagnostics) > _MOST_SHOWN:
            shown.append(f"and {len(self.diagnostics) - _MOST_SHOWN} more")
        return "\n".join(shown)


class Diagnostics:
    """Collects faults."""

    def __init__(self) -> None:
        self._items: dict[Diagnostic, None] = {}
        self._files: dict[str, int] = {}

    @cached_property
    def lost(self) -> "Losses":
        """What was not taken in: names that it may define are no faults of their own."""
        from dfm.core.flow.lost import Losses  # noqa: PLC0415  (only a flow with faults needs it)

        return Losses()

    def error(self, code: str, message: str, at: At, *, hint: str | None = None) -> None:
        """Add a fault for which the flow cannot be used."""
        self._add(Level.ERROR, code, message, at, hint)

    def warning(self, code: str, message: str, at: At, *, hint: str | None = None) -> None:
        """Add a fault that a person should know of."""
        self._add(Level.WARNING, code, message, at, hint)

    def has(self, code: str) -> bool:
        """Whether a fault of this kind was found."""
        return any(item.code == code for item in self._items)

    @property
    def errors(self) -> list[Diagnostic]:
        """The errors, by file in the order in which files were met, line and column."""
        return self._sorted(Level.ERROR)

    @property
    def warnings(self) -> list[Diagnostic]:
        """The warnings, in the same order."""
        return self._sorted(Level.WARNING)

    def raise_if_errors(self) -> None:
        """Raise all errors there are.

        Raises:
            FlowInvalid: there is at least one.
        """
        errors = self.errors if self._items else []
        if errors:
            raise FlowInvalid(errors, self.warnings)

    def _add(self, level: Level, code: str, message: str, at: At, hint: str | None) -> None:
        location, excerpt, width = None, None, 1
        if isinstance(at, SourceLocation):
            location = at
        elif at is not None:
            location, excerpt = at.location, at.file.line(at.line)
            width = max(1, min(at.width, len(excerpt) - at.column + 1))
        if location is not None:
            self._files.setdefault(location.file, len(self._files))
        self._items[Diagnostic(level, code, message, location, hint, excerpt, width)] = None

    def _sorted(self, level: Level) -> list[Diagnostic]:
        def order(item: Diagnostic) -> tuple[int, int, int]:
            where = item.location
            return (-1, 0, 0) if where is None else (self._files[where.file], where.line, where.column)

        return sorted((item for item in self._items if item.level is level), key=order)


def render(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """Return the fault as a compiler would show it: place, message, the line with the spot underlined, a hint."""
    where = f"{diagnostic.location}: " if diagnostic.location else ""
    level = f"\x1b[1;31m{diagnostic.level}\x1b[0m" if colour else str(diagnostic.level)
    lines = [f"{where}{level}: {diagnostic.message} [{diagnostic.code}]"]
    if diagnostic.excerpt and diagnostic.excerpt.strip() and diagnostic.location is not None:
        lines += _excerpt(diagnostic.excerpt, diagnostic.location, diagnostic.width)
    if diagnostic.hint:
        lines.append(f"  hint: {diagnostic.hint}")
    return "\n".join(lines)


def _excerpt(text: str, location: SourceLocation, width: int) -> list[str]:
    start = max(0, location.column - 60)
    shown = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text[start : start + 120])
    number = f"{location.line:>5}"
    caret = " " * (location.column - 1 - start) + "^" * min(width, max(1, 120 - (location.column - 1 - start)))
    return [f"{number} | {shown}", f"{' ' * len(number)} | {caret}"]


__all__ = ["At", "Diagnostic", "Diagnostics", "FlowInvalid", "Level", "did_you_mean", "is_suggestion", "render"]
