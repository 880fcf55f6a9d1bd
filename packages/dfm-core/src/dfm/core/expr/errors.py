"""Faults of an expression, with the stretch of the text they stand in."""

from collections.abc import Iterable


class ExpressionError(Exception):
    """An expression that cannot be read or evaluated.

    Attributes:
        offset: into the whole text of the template, from 0.
        length: characters that the fault covers.
        hint: what to do, or None.
        missing: the name that means nothing, where that is what is wrong.
    """

    def __init__(
        self, message: str, offset: int = 0, length: int = 1, hint: str | None = None, missing: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.hint = hint
        self.missing = missing


class UnknownNameError(Exception):
    """A scope was asked for a name that it does not have; it carries those it has."""

    def __init__(self, name: str, candidates: Iterable[str]) -> None:
        super().__init__(name)
        self.name = name
        self.candidates = tuple(candidates)
