"""How a runner declares its options: one `option(...)` per field of a frozen dataclass.

One declaration gives the type, the default, the unit, how layers are merged, the documentation, the JSON Schema and the
check. A field's type is one of `str`, `int`, `float`, `bool`, each also `| None`, `tuple[str, ...]` for a list, and
`dict[str, str]` for a mapping. The decoded value is in base units: bytes, seconds.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

METADATA_KEY = "dfm.option"


class Unit(enum.StrEnum):
    """What the text of an option measures."""

    MEMORY = "memory"
    """Written `8G`; the field is an `int`, bytes."""
    DURATION = "duration"
    """Written `90m` or `1:30`; the field is a `float`, seconds."""
    ARGV = "argv"
    """A command: written as a list of words, or as one text that is split as a shell splits words; the field is a
    `tuple[str, ...]`. No shell ever sees it. A nearer layer replaces it whole."""


class Merge(enum.StrEnum):
    """What becomes of the values of several layers."""

    REPLACE = "replace"
    """The nearest layer wins."""
    ACCUMULATE = "accumulate"
    """Lists are joined in the order of layers; `!replace` on a list starts anew."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """What is known of one option beside its type and default.

    Attributes:
        doc: one or two sentences for the reference; begins lower case.
        choices: the only values allowed; empty allows all.
        minimum: smallest number allowed.
        maximum: greatest number allowed.
        aliases: other spellings of the key, such as `queue` for `partition`.
        check: returns what is wrong with a decoded value, None where nothing is.
        is_secret: never shown.
    """

    doc: str
    unit: Unit | None = None
    merge: Merge | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    aliases: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None
    is_secret: bool = False


def option(
    default: object = dataclasses.MISSING,
    *,
    doc: str,
    default_factory: Any = dataclasses.MISSING,  # noqa: ANN401  (dataclasses.field's own type)
    unit: Unit | None = None,
    merge: Merge | None = None,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    aliases: tuple[str, ...] = (),
    check: Callable[[Any], str | None] | None = None,
    is_secret: bool = False,
) -> Any:  # noqa: ANN401  (stands for a value of the field's type)
    """Declare an option as a dataclass field; it needs a default. Lists accumulate unless `merge` says otherwise."""
    spec = OptionSpec(
        doc=doc,
        unit=unit,
        merge=merge,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        aliases=aliases,
        check=check,
        is_secret=is_secret,
    )
    return dataclasses.field(
        default=default, default_factory=default_factory, metadata={METADATA_KEY: spec, "help": doc}
    )


def spec_of(metadata: Mapping[str, Any]) -> OptionSpec:
    """Return the declaration in a field's metadata; a plain field's `help` counts as its documentation."""
    found = metadata.get(METADATA_KEY)
    return found if isinstance(found, OptionSpec) else OptionSpec(doc=str(metadata.get("help", "")))
