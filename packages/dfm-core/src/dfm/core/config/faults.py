"""Faults of settings: all of those that files have, at once; those of the command line as wrong use."""

from collections.abc import Sequence

from dfm.api.errors import DfmError, FlowError, SourceLocation, UsageError
from dfm.core.config.layers import Origin


class ConfigInvalid(FlowError):  # noqa: N818  (named as FlowInvalid is: it says what the settings are)
    """Settings files have faults; `faults` holds each, with its place and what to do."""

    def __init__(self, faults: Sequence[FlowError]) -> None:
        first = faults[0]
        super().__init__(first.message, hint=first.hint, location=first.location)
        self.faults = tuple(faults)


def invalid(message: str, location: SourceLocation | None, hint: str | None = None) -> ConfigInvalid:
    """Return one fault of a file as what is raised for it."""
    return ConfigInvalid([FlowError(message, hint=hint, location=location)])


class Faults:
    """Collects the faults of files; a fault of the command line or of a variable is raised at once."""

    def __init__(self) -> None:
        self._found: list[FlowError] = []

    @property
    def found(self) -> tuple[FlowError, ...]:
        """The faults so far, in order of their places."""
        return tuple(sorted(self._found, key=_place))

    def add(self, origin: Origin, message: str, hint: str | None = None, at: SourceLocation | None = None) -> None:
        """Take in a fault of a value.

        Raises:
            UsageError: the value does not come from a file.
        """
        location = at or origin.location
        if location is None:
            raise UsageError(f"{message} (set by {origin.text})", hint=hint)
        self.add_error(FlowError(message, hint=hint, location=location))

    def add_error(self, error: FlowError) -> None:
        """Take in a fault; the same one told twice counts once."""
        if all(str(error) != str(known) for known in self._found):
            self._found.append(error)

    def raise_if_any(self) -> None:
        """Raise what was found.

        Raises:
            ConfigInvalid: something was.
        """
        if self._found:
            raise ConfigInvalid(self.found)


def _place(error: DfmError) -> tuple[str, int, int]:
    where = error.location
    return ("", 0, 0) if where is None else (where.file, where.line, where.column)
