"""Values of a flow file: evaluating `${{ }}` in them, and bringing them to their declared type.

A value that mentions `inputs` or `memento` cannot be known before its task runs: it is left as a Deferred and evaluated
by the task's life cycle. Faults are reported at the place inside the value where they stand.
"""

import json
from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import Scope
from dfm.core.expr.template import parse_template
from dfm.core.flow.diagnostics import Diagnostics, is_suggestion
from dfm.core.flow.filters import runs_program
from dfm.core.flow.model import PackageScope, ParameterType
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Node, Place, Scalar, inside

T = TypeVar("T")

DEFERRED_NAMES = frozenset({"inputs", "memento"})

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", ""})


class ValueFault(Exception):  # noqa: N818  (it says that a fault was reported; it is no error of its own)
    """A value that cannot be what it should be; that, or what it comes of, has been reported."""


class Deferred(Struct, frozen=True):
    """A value that waits for the task's inputs; the names in it are those that `scope` sees."""

    node: Node
    scope: PackageScope
    type: ParameterType | None = None


class StillWaiting(Exception):  # noqa: N818  (nothing is wrong: it is only too early)
    """What is evaluated needs a value that waits for the task's inputs."""


def is_deferred(node: Node, package: PackageScope | None = None) -> bool:
    """Whether the value mentions what only a running task knows, or runs a program of a filter of `package`."""
    match node:
        case Scalar(value=str() as text):
            if "${{" not in text:
                return False
            try:
                template = parse_template(text)
            except ExpressionError:
                return False
            is_late = not DEFERRED_NAMES.isdisjoint(template.names)
            return is_late or (package is not None and runs_program(package, template.functions))
        case Scalar():
            return False
        case MappingNode():
            return any(is_deferred(entry.value, package) for entry in node.entries.values())
        case _:
            return any(is_deferred(item, package) for item in node.items)


def runs_programs(node: Node, package: PackageScope) -> bool:
    """Whether an expression in the value runs a program."""
    match node:
        case Scalar(value=str() as text) if "${{" in text:
            try:
                return runs_program(package, parse_template(text).functions)
            except ExpressionError:
                return False
        case Scalar():
            return False
        case MappingNode():
            return any(runs_programs(entry.value, package) for entry in node.entries.values())
        case _:
            return any(runs_programs(item, package) for item in node.items)


def evaluate(node: Node, scope: Scope, diagnostics: Diagnostics) -> object:
    """Return the plain value of a node, with every `${{ }}` in it evaluated.

    Raises:
        ValueFault: an expression failed; the diagnostics have it.
    """
    match node:
        case Scalar(value=str() as text):
            return text if "${{" not in text else _expand(text, node, scope, diagnostics)
        case Scalar():
            return node.value
        case MappingNode():
            return {name: evaluate(entry.value, scope, diagnostics) for name, entry in node.entries.items()}
        case _:
            return [evaluate(item, scope, diagnostics) for item in node.items]


def evaluate_text(text: str, node: Node | Place, scope: Scope, diagnostics: Diagnostics) -> str:
    """Return `text`, which stands at `node`, with every `${{ }}` replaced by its value as text."""
    try:
        return parse_template(text).evaluate_text(scope)
    except ExpressionError as error:
        raise _report(error, node, diagnostics) from None


def check_syntax(node: Node, diagnostics: Diagnostics) -> None:
    """Report every expression below `node` that does not parse."""
    match node:
        case Scalar(value=str() as text):
            if "${{" in text:
                try:
                    parse_template(text)
                except ExpressionError as error:
                    _report(error, node, diagnostics)
        case Scalar():
            pass
        case MappingNode():
            for entry in node.entries.values():
                check_syntax(entry.value, diagnostics)
        case _:
            for item in node.items:
                check_syntax(item, diagnostics)


def is_boolean_word(text: str) -> bool:
    """Whether a text says true or false by itself; the empty one says false."""
    return text.strip().lower() in _TRUE | _FALSE


def is_true(value: object) -> bool:
    """Whether the value of a condition holds: words such as "false" and "no" count as what they say."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE
    return bool(value)


def coerce(value: object, kind: ParameterType | None) -> object:
    """Return `value` as the declared type, reading text as a command line gives it.

    Raises:
        ValueError: the value cannot be one of that type; the message says both.
    """
    if kind is None:
        return value
    match kind:
        case ParameterType.STR:
            return _to_str(value)
        case ParameterType.BOOL:
            return _to_bool(value)
        case ParameterType.INT:
            return _to_int(value)
        case ParameterType.FLOAT:
            return _to_float(value)
        case ParameterType.LIST:
            return _to_list(value)
        case ParameterType.MAP:
            return _to_map(value)


def _expand(text: str, node: Scalar, scope: Scope, diagnostics: Diagnostics) -> object:
    try:
        return parse_template(text).evaluate(scope)
    except ExpressionError as error:
        raise _report(error, node, diagnostics) from None


def _report(error: ExpressionError, node: Node | Place, diagnostics: Diagnostics) -> ValueFault:
    missing, is_near = error.missing, is_suggestion(error.hint)
    if missing is None or not diagnostics.lost.may_be_named(missing, is_near=is_near):
        diagnostics.error("bad-expression", error.message, inside(node, error.offset, error.length), hint=error.hint)
    return ValueFault(error.message)


def _to_str(value: object) -> object:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return value
        case _:
            raise ValueError(f"{_shown(value)} is not a string")


def _to_bool(value: object) -> bool:
    match value:
        case bool():
            return value
        case int():
            return value != 0
        case str() if value.strip().lower() in _TRUE:
            return True
        case str() if value.strip().lower() in _FALSE:
            return False
        case _:
            raise ValueError(f"{_shown(value)} is not a boolean (true or false)")


def _to_int(value: object) -> int:
    match value:
        case int():
            return int(value)
        case float() if value.is_integer():
            return int(value)
        case str():
            try:
                return int(value.strip(), 0)
            except ValueError:
                pass
        case _:
            pass
    raise ValueError(f"{_shown(value)} is not a whole number")


def _to_float(value: object) -> float:
    match value:
        case bool():
            pass
        case int() | float():
            return float(value)
        case str():
            try:
                return float(value.strip())
            except ValueError:
                pass
        case _:
            pass
    raise ValueError(f"{_shown(value)} is not a number")


def _to_list(value: object) -> list[object]:
    match value:
        case list() | tuple():
            return list(value)
        case None:
            return []
        case str() if value.lstrip().startswith("["):
            return list(_from_json(value, list))
        case str():
            return [value] if value else []
        case dict():
            raise ValueError(f"{_shown(value)} is not a list")
        case _:
            return [value]


def _to_map(value: object) -> dict[str, object]:
    match value:
        case Mapping():
            return dict(value)
        case None | "":
            return {}
        case str() if value.lstrip().startswith("{"):
            return dict(_from_json(value, dict))
        case _:
            raise ValueError(f"{_shown(value)} is not a map")


def _from_json(text: str, kind: type[T]) -> T:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is not JSON: {error}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{_shown(text)} is not a JSON {kind.__name__}")  # noqa: TRY004  (a person's value)
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
