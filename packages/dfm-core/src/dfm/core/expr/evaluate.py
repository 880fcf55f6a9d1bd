"""The value of an expression in a scope. Only mappings, lists and text are looked into, never Python objects."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dfm.core.expr.errors import ExpressionError, UnknownNameError
from dfm.core.expr.functions import FUNCTIONS, LAZY, items_of, kind_of, to_json, to_text
from dfm.core.expr.nodes import (
    At,
    Attribute,
    Binary,
    Call,
    Condition,
    Default,
    Element,
    Expression,
    Index,
    ListLiteral,
    Literal,
    MapLiteral,
    Name,
    Slice,
    Unary,
)
from dfm.core.suggest import did_you_mean

MAX_EXPONENT = 1_000
MAX_LOOPS = 3_000_000
"""Items that map, select and group_by of one expression may handle together."""
MAX_BITS = 4_096
"""Size of the numbers an expression may make."""


class Scope(Protocol):
    """What names mean."""

    def lookup(self, name: str) -> object:
        """Return the value of a name.

        Raises:
            UnknownNameError: there is none.
        """


class MappingScope:
    """A scope over mappings, nearest first."""

    def __init__(self, *layers: Mapping[str, object]) -> None:
        self._layers = layers

    def lookup(self, name: str) -> object:
        """Return the value of a name in the nearest mapping that has it."""
        for layer in self._layers:
            if name in layer:
                return layer[name]
        raise UnknownNameError(name, [key for layer in self._layers for key in layer])


@dataclass(slots=True)
class _Budget:
    """What the loops of one expression may still do, those inside each other included."""

    left: int = MAX_LOOPS

    def spend(self, result: object, at: At) -> None:
        """Pay for one element and for the items of its result."""
        self.left -= 1 + (len(result) if isinstance(result, list) else 0)
        if self.left < 0:
            raise ExpressionError(f"the expression handles more than {MAX_LOOPS:,} items", *at)


@dataclass(frozen=True, slots=True)
class _ElementScope:
    """A scope inside map, select and group_by: `item`, `input` and the leading dot are the element at hand."""

    outer: Scope
    element: object
    budget: "_Budget"

    def lookup(self, name: str) -> object:
        return self.element if name in ("item", "input") else self.outer.lookup(name)


_ORDERED: Mapping[str, Callable[[Any, Any], object]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[[object, object], object]] = {
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


def evaluate(expression: Expression, scope: Scope) -> object:
    """Return the value of an expression.

    Raises:
        ExpressionError: a name is unknown, or values do not fit together.
    """
    match expression:
        case Literal(value):
            return value
        case Name(name, at):
            return _name(name, at, scope)
        case Attribute(value, name, at):
            return _attribute(evaluate(value, scope), name, at)
        case Index(value, index, at):
            return _index(evaluate(value, scope), evaluate(index, scope), at)
        case Slice(value, start, stop, at):
            return _slice(evaluate(value, scope), _optional(start, scope), _optional(stop, scope), at)
        case ListLiteral(items):
            return [evaluate(item, scope) for item in items]
        case MapLiteral(entries):
            return {to_text(evaluate(key, scope)): evaluate(value, scope) for key, value in entries}
        case Call():
            return _call(expression, scope)
        case Unary(sign, operand, at):
            return _unary(sign, evaluate(operand, scope), at)
        case Binary():
            return _binary(expression, scope)
        case Condition(test, then, otherwise):
            return evaluate(then if _truth(evaluate(test, scope)) else otherwise, scope)
        case Default(value, text):
            return _or_default(value, text, scope)
        case Element(at):
            return _name("item", at, scope)


def _name(name: str, at: At, scope: Scope) -> object:
    try:
        return scope.lookup(name)
    except UnknownNameError as error:
        known = sorted(set(error.candidates))
        hint = did_you_mean(name, [*known, *FUNCTIONS]) or (f"there are: {', '.join(known[:12])}" if known else None)
        raise ExpressionError(f"nothing is called {name!r} here", *at, hint) from None


def _attribute(value: object, name: str, at: At) -> object:
    if isinstance(value, Mapping):
        try:
            return value[name]
        except KeyError:
            known = [str(key) for key in value]
            listed = f"it has: {', '.join(sorted(known)[:12])}" if known else "it is empty"
            raise ExpressionError(f"there is no {name!r} in it", *at, did_you_mean(name, known) or listed) from None
    if isinstance(value, Sequence) and not isinstance(value, str):
        raise ExpressionError(f"a list has no {name!r}", *at, f"use `[0].{name}` or `| map(.{name})`")
    raise ExpressionError(f"a value of type {kind_of(value)} has no {name!r}", *at)


def _index(value: object, index: object, at: At) -> object:
    if isinstance(value, Mapping):
        return _attribute(value, to_text(index), at)
    if not isinstance(value, Sequence):
        raise ExpressionError(f"a value of type {kind_of(value)} has no items", *at)
    if not isinstance(index, int) or isinstance(index, bool):
        raise ExpressionError(f"the index of a list is an int, not {kind_of(index)}", *at)
    try:
        return value[index]
    except IndexError:
        raise ExpressionError(f"there is no item {index}; the list has {len(value)}", *at) from None


def _slice(value: object, start: object, stop: object, at: At) -> object:
    if not isinstance(value, Sequence):
        raise ExpressionError(f"a value of type {kind_of(value)} has no items", *at)
    return value[_bound(start, at) : _bound(stop, at)]


def _bound(value: object, at: At) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ExpressionError(f"the bounds of a slice are ints, not {kind_of(value)}", *at)


def _optional(expression: Expression | None, scope: Scope) -> object:
    return None if expression is None else evaluate(expression, scope)


def _call(call: Call, scope: Scope) -> object:
    if call.function in LAZY:
        return _lazy_call(call, scope)
    if call.function == "shell":
        raise ExpressionError("an expression never runs commands", *call.at, "use a task with `run:` and its outputs")
    function = FUNCTIONS.get(call.function)
    if function is None:
        raise ExpressionError(
            f"there is no function {call.function!r}",
            *call.at,
            did_you_mean(call.function, [*FUNCTIONS, *LAZY]),
        )
    subject = [] if call.subject is None else [evaluate(call.subject, scope)]
    arguments = [*subject, *(evaluate(argument, scope) for argument in call.arguments)]
    try:
        return function(*arguments)
    except (ValueError, TypeError, OverflowError) as error:
        message = str(error)
        if "positional argument" in message:
            message = f"{call.function} does not take {len(arguments)} arguments"
        raise ExpressionError(message, *call.at) from None


def _lazy_call(call: Call, scope: Scope) -> object:
    parts = [*(() if call.subject is None else (call.subject,)), *call.arguments]
    if call.function == "default":
        if len(parts) != 2:
            raise ExpressionError("default takes a value and what stands in for it", *call.at)
        return _or_else(parts[0], parts[1], scope)
    if len(parts) != 2:
        raise ExpressionError(f"{call.function} takes a list and an expression", *call.at)
    try:
        items = items_of(evaluate(parts[0], scope), call.function)
    except TypeError as error:
        raise ExpressionError(str(error), *call.at) from None
    budget = scope.budget if isinstance(scope, _ElementScope) else _Budget()
    results = []
    for item in items:
        result = evaluate(parts[1], _ElementScope(scope, item, budget))
        budget.spend(result, call.at)
        results.append(result)
    match call.function:
        case "map":
            return results
        case "select":
            return [item for item, is_wanted in zip(items, results, strict=True) if _truth(is_wanted)]
        case _:
            groups: dict[str, list[object]] = {}
            for item, key in zip(items, results, strict=True):
                groups.setdefault(to_json(key), []).append(item)
            return list(groups.values())


def _or_default(value: Expression, text: str, scope: Scope) -> object:
    found = _present(value, scope)
    return text if found in (None, "") else found


def _or_else(value: Expression, otherwise: Expression, scope: Scope) -> object:
    found = _present(value, scope)
    return evaluate(otherwise, scope) if found in (None, "") else found


def _present(value: Expression, scope: Scope) -> object:
    """Return the value of a path, None where it leads nowhere."""
    match value:
        case Name(name):
            try:
                return scope.lookup(name)
            except UnknownNameError:
                return None
        case Attribute(inner, name):
            found = _present(inner, scope)
            return found.get(name) if isinstance(found, Mapping) else None
        case Index(inner, index):
            found, key = _present(inner, scope), evaluate(index, scope)
            if isinstance(found, Mapping):
                return found.get(to_text(key))
            is_inside = isinstance(found, Sequence) and isinstance(key, int) and -len(found) <= key < len(found)
            return found[key] if is_inside else None  # type: ignore[index]  # a sequence, as just seen
        case _:
            return evaluate(value, scope)


def _unary(sign: str, value: object, at: At) -> object:
    if sign == "!":
        return not _truth(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return -value
    raise ExpressionError(f"`-` needs a number, not {kind_of(value)}", *at)


def _binary(node: Binary, scope: Scope) -> object:
    left = evaluate(node.left, scope)
    match node.operator:
        case "or":
            return left if _truth(left) else evaluate(node.right, scope)
        case "and":
            return evaluate(node.right, scope) if _truth(left) else left
        case _:
            pass
    right = evaluate(node.right, scope)
    match node.operator:
        case "==":
            return _equal(left, right)
        case "!=":
            return not _equal(left, right)
        case "in" | "not in":
            return _contained(left, right, node.at) == (node.operator == "in")
        case "+":
            return _sum(left, right, node.at)
        case "**":
            return _power(left, right, node.at)
        case sign if sign in _ORDERED:
            return _ordered(sign, left, right, node.at)
        case sign:
            return _arithmetic(sign, left, right, node.at)


def _equal(left: object, right: object) -> bool:
    """Whether two values are equal; true is not 1, as a person reads it."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _contained(left: object, right: object, at: At) -> bool:
    if isinstance(right, str) and isinstance(left, str):
        return left in right
    if isinstance(right, Mapping) or (isinstance(right, Sequence) and not isinstance(right, str)):
        return left in right
    raise _mismatch("in", left, right, at)


def _sum(left: object, right: object, at: At) -> object:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return [*left, *right]
    if _are_numbers(left, right):
        return left + right  # type: ignore[operator]  # numbers, as just seen
    raise _mismatch("+", left, right, at)


def _arithmetic(sign: str, left: object, right: object, at: At) -> object:
    if not _are_numbers(left, right):
        raise _mismatch(sign, left, right, at)
    try:
        result = _ARITHMETIC[sign](left, right)
    except ZeroDivisionError:
        raise ExpressionError("division by zero", *at) from None
    except OverflowError:
        raise ExpressionError("the number is too large", *at) from None
    if isinstance(result, int) and result.bit_length() > MAX_BITS:
        raise ExpressionError("the number is too large", *at)
    return result


def _power(left: object, right: object, at: At) -> object:
    if not _are_numbers(left, right):
        raise _mismatch("**", left, right, at)
    assert isinstance(left, int | float)
    assert isinstance(right, int | float)
    if abs(right) > MAX_EXPONENT or (isinstance(left, int) and left.bit_length() * abs(right) > MAX_BITS):
        raise ExpressionError("the number is too large", *at)
    try:
        result = left**right
    except (ZeroDivisionError, OverflowError):
        raise ExpressionError("the number is too large", *at) from None
    if isinstance(result, complex):
        raise ExpressionError("the result is no real number", *at)
    return result


def _ordered(sign: str, left: object, right: object, at: At) -> object:
    if _are_numbers(left, right) or (isinstance(left, str) and isinstance(right, str)):
        return _ORDERED[sign](left, right)
    raise _mismatch(sign, left, right, at)


def _are_numbers(*values: object) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _truth(value: object) -> bool:
    """Whether a value counts as true: text does by what it says, as a command line gives it."""
    return value.strip().lower() not in ("", "false", "no", "off", "0") if isinstance(value, str) else bool(value)


def _mismatch(sign: str, left: object, right: object, at: At) -> ExpressionError:
    hint = "join texts with `str(x)`" if sign == "+" and str in (type(left), type(right)) else None
    return ExpressionError(f"`{sign}` does not fit {kind_of(left)} and {kind_of(right)}", *at, hint)


__all__ = ["ExpressionError", "MappingScope", "Scope", "UnknownNameError", "evaluate"]
