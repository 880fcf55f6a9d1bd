"""What may be set: the declarations of a dataclass as a list of settings, as JSON Schema, and as words for a person."""

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from dfm.api.options import Merge, OptionSpec, Unit, spec_of
from dfm.api.units import format_duration, format_memory

_MEMORY_PATTERN = r"^\s*\d+(\.\d+)?\s*[KMGTPkmgtp]([iI]?[bB])?\s*$"
_DURATION_PATTERN = r"^\s*(((\d+-)?\d+:[0-5]\d(:[0-5]\d)?)|(\d+(\.\d+)?\s*(ms|[smhd])\s*)+)\s*$"


class Kind(enum.StrEnum):
    """What a value is, and how it is written."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    SWITCH = "true or false"
    LIST = "list of texts"
    MAP = "mapping of texts"
    MEMORY = "memory"
    DURATION = "duration"
    ARGV = "command"


_KINDS: Mapping[object, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    bool: Kind.SWITCH,
    tuple[str, ...]: Kind.LIST,
    dict[str, str]: Kind.MAP,
    Mapping[str, str]: Kind.MAP,
}
_UNIT_KINDS = {Unit.MEMORY: Kind.MEMORY, Unit.DURATION: Kind.DURATION, Unit.ARGV: Kind.ARGV}
_CARRIERS = {Unit.MEMORY: (int,), Unit.DURATION: (float, int), Unit.ARGV: (tuple[str, ...],)}
_ADDABLE = (Kind.LIST, Kind.MAP)
NUMERIC = (Kind.INTEGER, Kind.NUMBER, Kind.MEMORY, Kind.DURATION)


class Setting(Struct, frozen=True):
    """One thing that may be set.

    Attributes:
        is_optional: whether it may be nothing at all (`null`).
        default: in base units.
    """

    name: str
    kind: Kind
    is_optional: bool
    default: object
    spec: OptionSpec

    @property
    def is_accumulating(self) -> bool:
        """Whether the values of all layers are joined."""
        return self.kind in _ADDABLE and self.spec.merge is not Merge.REPLACE

    @property
    def merge_rule(self) -> str:
        """What becomes of several layers' values, for a person."""
        return "layers are joined, weakest first" if self.is_accumulating else "the nearest layer wins"

    def written(self, value: object) -> object:
        """Return a decoded value as a settings file holds it: amounts with their unit, the rest as JSON has it."""
        if value is None:
            return None
        if self.spec.is_secret:
            return "***"
        match self.kind:
            case Kind.MEMORY:
                assert isinstance(value, int)
                return format_memory(value)
            case Kind.DURATION:
                assert isinstance(value, (int, float))
                return format_duration(value)
            case Kind.LIST | Kind.ARGV:
                assert isinstance(value, (tuple, list))
                return list(value)
            case Kind.MAP:
                assert isinstance(value, Mapping)
                return dict(value)
            case Kind.TEXT | Kind.INTEGER | Kind.NUMBER | Kind.SWITCH:
                return value


def settings_of(declaration: type[Any]) -> tuple[Setting, ...]:
    """Return the settings that the fields of a dataclass declare, in their order.

    Raises:
        TypeError: it is no dataclass, a field has no default, or one has a type that settings cannot have.
    """
    if not dataclasses.is_dataclass(declaration):
        raise TypeError(f"{declaration!r} is not a dataclass")
    try:
        hints = typing.get_type_hints(declaration)
    except NameError as error:
        raise TypeError(f"the types of {declaration!r} cannot be resolved: {error}") from error
    return tuple(_setting(item, hints[item.name]) for item in dataclasses.fields(declaration) if item.init)


def find(settings: Sequence[Setting], key: str) -> Setting | None:
    """Return the setting that is called `key`, or has it as an alias."""
    return next((setting for setting in settings if key == setting.name or key in setting.spec.aliases), None)


def names_of(settings: Sequence[Setting]) -> list[str]:
    """Return every key that may be written."""
    return [name for setting in settings for name in (setting.name, *setting.spec.aliases)]


def _setting(item: "dataclasses.Field[object]", hint: object) -> Setting:
    spec = spec_of(item.metadata)
    plain, is_optional = _without_none(hint)
    if spec.unit is not None and plain in _CARRIERS[spec.unit]:
        kind = _UNIT_KINDS[spec.unit]
    elif spec.unit is None and plain in _KINDS:
        kind = _KINDS[plain]
    else:
        raise TypeError(f"the option {item.name!r} has a type that options cannot have: {hint}")
    if item.default is not dataclasses.MISSING:
        default: object = item.default
    elif item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    else:
        raise TypeError(f"the option {item.name!r} has no default")
    return Setting(item.name, kind, is_optional, default, spec)


def _without_none(hint: object) -> tuple[object, bool]:
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    parts = typing.get_args(hint)
    plain = [part for part in parts if part is not types.NoneType]
    return (plain[0] if len(plain) == 1 else hint), len(plain) < len(parts)


def json_schema(settings: Sequence[Setting]) -> dict[str, object]:
    """Return the JSON Schema of a table that holds these settings."""
    properties = {}
    for setting in settings:
        for name in (setting.name, *setting.spec.aliases):
            properties[name] = _value_schema(setting)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value_schema(setting: Setting) -> dict[str, object]:
    schema: dict[str, object] = {"description": setting.spec.doc, **_type_schema(setting)}
    if setting.spec.choices:
        schema["enum"] = [*setting.spec.choices, *([None] if setting.is_optional else [])]
    elif setting.is_optional:
        plain = schema["type"]
        schema["type"] = [*(plain if isinstance(plain, list) else [plain]), "null"]
    if setting.spec.minimum is not None and setting.kind in (Kind.INTEGER, Kind.NUMBER):
        schema["minimum"] = setting.spec.minimum
    if setting.spec.maximum is not None and setting.kind in (Kind.INTEGER, Kind.NUMBER):
        schema["maximum"] = setting.spec.maximum
    if not setting.spec.is_secret:
        schema["default"] = setting.written(setting.default)
    return schema


def _type_schema(setting: Setting) -> dict[str, object]:
    texts: dict[str, object] = {"type": "array", "items": {"type": "string"}}
    match setting.kind:
        case Kind.TEXT:
            return {"type": "string"}
        case Kind.INTEGER:
            return {"type": "integer"}
        case Kind.NUMBER:
            return {"type": "number"}
        case Kind.SWITCH:
            return {"type": "boolean"}
        case Kind.MEMORY:
            return {"type": "string", "pattern": _MEMORY_PATTERN}
        case Kind.DURATION:
            return {"type": "string", "pattern": _DURATION_PATTERN}
        case Kind.LIST:
            return texts
        case Kind.ARGV:
            return {**texts, "type": ["array", "string"]}
        case Kind.MAP:
            return {"type": "object", "additionalProperties": {"type": "string"}}
