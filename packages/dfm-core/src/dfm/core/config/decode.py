"""What a written value means: held against the declaration of its setting, converted to base units."""

import math
import shlex
from collections.abc import Callable

from dfm.api.errors import SourceLocation
from dfm.api.units import parse_duration, parse_memory
from dfm.core.config.nodes import Listing, Node, Scalar, Style, Table
from dfm.core.config.schema import Kind, Setting
from dfm.core.suggest import did_you_mean

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_EXAMPLES = {Kind.MEMORY: "8G", Kind.DURATION: "90m"}


class WrongValueError(Exception):
    """A value is not what its setting takes."""

    def __init__(self, message: str, hint: str | None = None, location: SourceLocation | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location


def decode(setting: Setting, node: Node) -> object:
    """Return the value in base units.

    Raises:
        WrongValueError: it has another type or form, or is out of the setting's bounds.
    """
    if isinstance(node, Scalar) and (node.is_null or _takes_away(setting, node)):
        return _nothing(setting, node)
    value = _converted(setting, node)
    _check_bounds(setting, value, node)
    return value


def _takes_away(setting: Setting, node: Scalar) -> bool:
    """Whether it is `--runner-opt queue=`: a word of the command line that takes a value away."""
    is_empty = node.style is Style.WORD and not node.text
    return is_empty and (setting.is_optional or setting.kind in (Kind.LIST, Kind.MAP))


def _nothing(setting: Setting, node: Scalar) -> object:
    match setting.kind:
        case Kind.LIST | Kind.ARGV:
            return ()
        case Kind.MAP:
            return {}
        case _ if setting.is_optional:
            return None
        case _:
            raise WrongValueError(f"a {setting.kind} is wanted, and there is nothing", None, node.location)


def _converted(setting: Setting, node: Node) -> object:
    match setting.kind:
        case Kind.LIST:
            return _texts(node)
        case Kind.ARGV:
            return _argv(node)
        case Kind.MAP:
            return _map(node)
        case _:
            return _SCALARS[setting.kind](_scalar(setting, node))


def _scalar(setting: Setting, node: Node) -> Scalar:
    if not isinstance(node, Scalar):
        raise WrongValueError(f"a {setting.kind} is wanted, not {node.shown_kind}", None, node.location)
    return node


def _text(node: Scalar) -> str:
    if node.is_null:
        raise WrongValueError("a text is wanted, and there is nothing", None, node.location)
    if node.is_switch:
        raise WrongValueError(f"a text is wanted, not {node.shown_kind}", "put it in quotes", node.location)
    if "\0" in node.text:
        raise WrongValueError("a text cannot hold a NUL character", None, node.location)
    return node.text


def _integer(node: Scalar) -> int:
    if node.style is not Style.QUOTED and node.text.lstrip("+-").replace("_", "").isascii():
        try:
            return int(node.text)
        except ValueError:
            pass
    raise _refused(node, Kind.INTEGER, "8")


def _number(node: Scalar) -> float:
    try:
        value = float(node.text) if node.style is not Style.QUOTED else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _refused(node, Kind.NUMBER, "1.5")
    return value


def _switch(node: Scalar) -> bool:
    word = node.text.lower()
    if node.style is not Style.QUOTED and word in _TRUE and (node.style is Style.WORD or word != "1"):
        return True
    if node.style is not Style.QUOTED and word in _FALSE and (node.style is Style.WORD or word != "0"):
        return False
    raise _refused(node, Kind.SWITCH, "true")


def _memory(node: Scalar) -> int:
    return int(_amount(node, parse_memory, Kind.MEMORY))


def _duration(node: Scalar) -> float:
    return _amount(node, parse_duration, Kind.DURATION)


def _amount(node: Scalar, parse: Callable[[str], float], kind: Kind) -> float:
    if node.is_switch:
        raise _refused(node, kind, _EXAMPLES[kind])
    try:
        return parse(node.text)
    except ValueError as error:
        raise WrongValueError(str(error), None, node.location) from None


_SCALARS: dict[Kind, Callable[[Scalar], object]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.SWITCH: _switch,
    Kind.MEMORY: _memory,
    Kind.DURATION: _duration,
}


def _texts(node: Node) -> tuple[str, ...]:
    match node:
        case Listing():
            return tuple(_item(item) for item in node.items)
        case Scalar(style=Style.WORD):
            return (node.text,)
        case _:
            raise WrongValueError(
                f"a list is wanted, not {node.shown_kind}", "write [one, two], or one a line after `- `", node.location
            )


def _item(node: Node) -> str:
    if not isinstance(node, Scalar):
        raise WrongValueError(f"a text is wanted in the list, not {node.shown_kind}", None, node.location)
    return _text(node)


def _argv(node: Node) -> tuple[str, ...]:
    if isinstance(node, Listing):
        return _texts(node)
    if not isinstance(node, Scalar):
        raise WrongValueError(f"a command is wanted, not {node.shown_kind}", None, node.location)
    try:
        return tuple(shlex.split(_text(node) if node.style is not Style.WORD else node.text))
    except ValueError as error:
        raise WrongValueError(
            f"the command {node.text!r} cannot be split into words: {error}", "write it as a list", node.location
        ) from None


def _map(node: Node) -> dict[str, str]:
    match node:
        case Table():
            return {entry.key: _item(entry.value) for entry in node.entries}
        case Scalar(style=Style.WORD):
            key, separator, text = node.text.partition("=")
            if not separator or not key:
                raise WrongValueError(f"{node.text!r} is not NAME=VALUE", None, node.location)
            return {key: text}
        case _:
            raise WrongValueError(f"a mapping is wanted, not {node.shown_kind}", None, node.location)


def _check_bounds(setting: Setting, value: object, node: Node) -> None:
    spec = setting.spec
    if spec.choices and value not in spec.choices:
        hint = did_you_mean(str(value), spec.choices) or f"it is one of {', '.join(spec.choices)}"
        raise WrongValueError(f"{value!r} is not possible", hint, node.location)
    if spec.minimum is not None and isinstance(value, (int, float)) and value < spec.minimum:
        least = setting.written(type(value)(spec.minimum))
        raise WrongValueError(
            f"{setting.written(value)} is less than {least}, the least that is possible", None, node.location
        )
    if spec.maximum is not None and isinstance(value, (int, float)) and value > spec.maximum:
        most = setting.written(type(value)(spec.maximum))
        raise WrongValueError(
            f"{setting.written(value)} is more than {most}, the most that is possible", None, node.location
        )
    wrong = spec.check(value) if spec.check is not None else None
    if wrong is not None:
        raise WrongValueError(wrong, None, node.location)


def _refused(node: Scalar, kind: Kind, example: str) -> WrongValueError:
    hint = "write it without quotes" if node.style is Style.QUOTED else f"such as {example}"
    return WrongValueError(f"a {kind} is wanted, not {node.shown_kind}", hint, node.location)
