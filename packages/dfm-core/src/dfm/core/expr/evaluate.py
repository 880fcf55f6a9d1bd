"""The value of an expression in a scope. Only mappings, lists and text are looked into, never Python objects."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from dfm.core.expr.errors import ExpressionError, UnknownNameError
from dfm.core.expr.functions import (
    ELEMENT_NAMES,
    FUNCTIONS,
    LAZY,
    MAX_BITS,
    are_equal,
    checked,
    is_in,
    is_true,
    items_of,
    kind_of,
    to_json,
    to_text,
)
from dfm.core.expr.nodes import (
    INTO,
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
    children,
)
from dfm.core.suggest import did_you_mean

Made = TypeVar("Made")

_NUMBERED = re.compile(r"arg(\d{1,3})\Z")
MAX_EXPONENT = 1_000
MAX_WORK = 1_000_000
"""What one expression may do before it is taken for a mistake, about a second: a step for each part evaluated, for 2
items or 16 characters that an operator or function reads, and for 8 items or 16 characters that it makes."""
MAX_FILTERS = 16
"""How deep filters of a flow may use each other: more is one that uses itself."""
_MAX_NESTING = 200
"""Depth of a value that an expression makes: within what json and comparisons can follow."""


class Filter(Protocol):
    """A filter that a flow defines: an expression over `input` and its arguments, or a program."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def parameters(self) -> Sequence[str]:
        """The names of its arguments; they are also called `arg0`, `arg1` and so on."""

    @property
    def expression(self) -> Expression | None:
        """What it computes; None where a program does."""


class Scope(Protocol):
    """What names mean."""

    def filter(self, name: str) -> Filter | None:
        """Return the filter of a flow that is called so, None where there is none."""

    def filter_names(self) -> Iterable[str]:
        """Return the names of the filters there are, for suggestions."""

    def run_filter(self, used: Filter, value: object, arguments: Sequence[object]) -> object:
        """Return what a filter's program makes of a value.

        Raises:
            ValueError: it fails, or nothing may be run here and now.
        """

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

    def filter(self, name: str) -> Filter | None:  # noqa: ARG002  (the protocol's)
        """Return None: mappings hold no filters."""
        return None

    def filter_names(self) -> Iterable[str]:
        """Return nothing: mappings hold no filters."""
        return ()

    def run_filter(self, used: Filter, value: object, arguments: Sequence[object]) -> object:  # noqa: ARG002  (the protocol's)
        """Refuse to run anything."""
        raise ValueError(f"the filter {used.name!r} cannot run here")


class _ElementScope(Struct, frozen=True):
    """A scope inside map, select and group_by: `item`, `input` and the leading dot are the element at hand."""

    outer: Scope
    element: object

    def lookup(self, name: str) -> object:
        return self.element if name in ELEMENT_NAMES else self.outer.lookup(name)

    def filter(self, name: str) -> Filter | None:
        return self.outer.filter(name)

    def filter_names(self) -> Iterable[str]:
        return self.outer.filter_names()

    def run_filter(self, used: Filter, value: object, arguments: Sequence[object]) -> object:
        return self.outer.run_filter(used, value, arguments)


class _FilterScope(Struct, frozen=True):
    """A scope inside a filter: its arguments, and what is piped into it as `input`, `item` and the leading dot."""

    outer: Scope
    arguments: Mapping[str, object]

    def lookup(self, name: str) -> object:
        if name in self.arguments:
            return self.arguments[name]
        raise UnknownNameError(name, self.arguments)

    def filter(self, name: str) -> Filter | None:
        return self.outer.filter(name)

    def filter_names(self) -> Iterable[str]:
        return self.outer.filter_names()

    def run_filter(self, used: Filter, value: object, arguments: Sequence[object]) -> object:
        return self.outer.run_filter(used, value, arguments)


def evaluate(expression: Expression, scope: Scope) -> object:
    """Return the value of an expression.

    Raises:
        ExpressionError: a name is unknown, values do not fit together, or it would take too long.
    """
    return _Evaluation().value(expression, scope)


class _Evaluation:
    """One evaluation of one expression, which counts its work.

    Values from the scope are taken as they are. Each value that is made is weighed as if written out, shared parts as
    often as they occur, so that no chain of filters can double a value without end.
    """

    __slots__ = ("_filters", "_left")

    def __init__(self) -> None:
        self._left = MAX_WORK
        self._filters = 0

    def value(self, node: Expression, scope: Scope) -> object:
        self._left -= 1
        if self._left < 0:
            raise _too_much(node.at)
        match node:
            case Name(name, at):
                return _look_up(name, at, scope)
            case Attribute(inner, name, at):
                return _attribute(self.value(inner, scope), name, at)
            case Literal(literal):
                return literal
            case Binary():
                return self._binary(node, scope)
            case Call():
                return self._lazy(node, scope) if node.function in LAZY else self._call(node, scope)
            case Condition(test, then, otherwise):
                return self.value(then if is_true(self.value(test, scope)) else otherwise, scope)
            case Default(inner, text):
                found = self._present(inner, scope)
                return text if found is None or found == "" else found
            case Element(at):
                return _element(scope, at)
            case Index(inner, index):
                return _index(self.value(inner, scope), self.value(index, scope), index.at)
            case Slice():
                return self._slice(node, scope)
            case ListLiteral():
                return self._list(node, scope)
            case MapLiteral():
                return self._map(node, scope)
            case Unary(sign, operand, at):
                return _unary(sign, self.value(operand, scope), at)

    def _binary(self, node: Binary, scope: Scope) -> object:
        left = self.value(node.left, scope)
        if node.operator in ("or", "and"):
            return left if is_true(left) == (node.operator == "or") else self.value(node.right, scope)
        right = self.value(node.right, scope)
        self._charge(left)
        self._charge(right)
        result = _combine(node.operator, left, right, node.at)
        return self._weighed(result, node.at) if isinstance(result, str | list) else result

    def _call(self, call: Call, scope: Scope) -> object:
        used = scope.filter(call.function)
        if used is not None:
            return self._filtered(call, used, scope)
        function = FUNCTIONS.get(call.function.removeprefix("std."))
        if function is None:
            raise _no_function(call, scope)
        arguments = []
        for part in _parts(call):
            argument = self.value(part, scope)
            self._charge(argument)
            arguments.append(argument)
        try:
            result = function(*arguments)
        except (ValueError, TypeError, OverflowError) as error:
            message = str(error)
            if "positional argument" in message:
                message = f"{call.function} does not take {len(arguments)} arguments"
            raise ExpressionError(message, *call.at) from None
        return self._weighed(result, call.at) if isinstance(result, str | list | dict) else result

    def _filtered(self, call: Call, used: Filter, scope: Scope) -> object:
        """Return what a filter of the flow makes of its subject."""
        values = [self.value(part, scope) for part in _parts(call)]
        if not values or not _takes(used, len(values) - 1):
            wanted = ", ".join(used.parameters or [f"$arg{n}" for n in range(_numbered(used.expression))]) or "nothing"
            raise ExpressionError(f"the filter {used.name!r} takes a value and {wanted}", *call.at)
        if used.expression is None:
            try:
                return self._weighed(scope.run_filter(used, values[0], values[1:]), call.at)
            except ValueError as error:
                raise ExpressionError(str(error), *call.at) from None
        self._filters += 1
        if self._filters > MAX_FILTERS:
            raise ExpressionError(f"filters use each other more than {MAX_FILTERS} deep", *call.at)
        named = dict(zip(used.parameters, values[1:], strict=False))
        numbered = {f"arg{number}": value for number, value in enumerate(values[1:])}
        elements = dict.fromkeys(ELEMENT_NAMES, values[0])
        try:
            return self.value(used.expression, _FilterScope(scope, {**numbered, **named, **elements}))
        except ExpressionError as error:
            raise ExpressionError(f"in the filter {used.name!r}: {error.message}", *call.at, error.hint) from None
        finally:
            self._filters -= 1

    def _lazy(self, call: Call, scope: Scope) -> object:
        parts = _parts(call)
        if call.function == INTO:
            return self.value(parts[1], _ElementScope(scope, self.value(parts[0], scope)))
        if len(parts) != 2:
            second = "what stands in for it" if call.function == "default" else "an expression"
            raise ExpressionError(f"{call.function} takes a value and {second}", *call.at)
        if call.function == "default":
            found = self._present(parts[0], scope)
            return self.value(parts[1], scope) if found is None or found == "" else found
        return self._for_each(call, self._items(call, parts[0], scope), parts[1], scope)

    def _for_each(self, call: Call, items: list[object], body: Expression, scope: Scope) -> object:
        results: list[object] = []
        for item in items:
            results.append(_plain(self.value(body, _ElementScope(scope, item))))  # noqa: PERF401  (as in _list)
        self._weighed(results, call.at)
        match call.function:
            case "map":
                return results
            case "select":
                return [item for item, is_wanted in zip(items, results, strict=True) if is_true(is_wanted)]
            case _:
                return _grouped(items, results)

    def _items(self, call: Call, node: Expression, scope: Scope) -> list[object]:
        value = self.value(node, scope)
        try:
            return items_of(value, call.function)
        except TypeError as error:
            raise ExpressionError(str(error), *call.at) from None

    def _slice(self, node: Slice, scope: Scope) -> object:
        value = self.value(node.value, scope)
        if not isinstance(value, Sequence):
            raise ExpressionError(f"a value of type {kind_of(value)} has no items", *node.at)
        start = None if node.start is None else _bound(self.value(node.start, scope), node.start.at)
        stop = None if node.stop is None else _bound(self.value(node.stop, scope), node.stop.at)
        return value[start:stop]

    def _list(self, node: ListLiteral, scope: Scope) -> list[object]:
        made: list[object] = []
        for item in node.items:
            made.append(_plain(self.value(item, scope)))  # noqa: PERF401  (in 3.11 a comprehension costs a frame)
        return self._weighed(made, node.at)

    def _map(self, node: MapLiteral, scope: Scope) -> dict[str, object]:
        made: dict[str, object] = {}
        for key, value in node.entries:
            made[to_text(self.value(key, scope))] = _plain(self.value(value, scope))
        return self._weighed(made, node.at)

    def _present(self, node: Expression, scope: Scope) -> object:
        """Return the value of a path, None where it leads nowhere."""
        match node:
            case Name(name):
                try:
                    return scope.lookup(name)
                except UnknownNameError:
                    return None
            case Attribute(inner, name):
                found = self._present(inner, scope)
                return found.get(name) if isinstance(found, Mapping) else None
            case Index(inner, index):
                found, key = self._present(inner, scope), self.value(index, scope)
                if isinstance(found, Mapping):
                    return found.get(to_text(key))
                is_inside = isinstance(found, Sequence) and isinstance(key, int) and -len(found) <= key < len(found)
                return found[key] if is_inside else None  # type: ignore[index]  # a sequence, as just seen
            case _:
                return self.value(node, scope)

    def _charge(self, read: object) -> None:
        if isinstance(read, str):
            self._left -= len(read) >> 4
        elif isinstance(read, list | tuple):
            self._left -= len(read) >> 1

    def _weighed(self, made: Made, at: At) -> Made:
        level: list[object] = [made]
        for _ in range(_MAX_NESTING):
            below: list[object] = []
            for part in level:
                if isinstance(part, str):
                    self._left -= len(part) >> 4
                elif isinstance(part, list | tuple | dict):
                    self._left -= 1 + (len(part) >> 3)
                    if self._left < 0:
                        raise _too_much(at)
                    below.extend(part.values() if isinstance(part, dict) else part)
            if self._left < 0:
                raise _too_much(at)
            if not below:
                return made
            level = below
        raise ExpressionError("the value is nested too deep", *at)


def _too_much(at: At) -> ExpressionError:
    return ExpressionError("the expression is too much work", *at, "do this in a task with `run:`")


def _parts(call: Call) -> tuple[Expression, ...]:
    return call.arguments if call.subject is None else (call.subject, *call.arguments)


def _takes(used: Filter, count: int) -> bool:
    """Whether a filter takes so many arguments; a program that names none takes any number, and numbers them."""
    if used.parameters:
        return count == len(used.parameters)
    return used.expression is None or count == _numbered(used.expression)


def _numbered(expression: Expression | None) -> int:
    """Return how many arguments an expression uses by number, as `arg0`, `arg1` and so on."""
    count, pending = 0, [] if expression is None else [expression]
    while pending:
        node = pending.pop()
        pending.extend(children(node))
        if isinstance(node, Name) and (match := _NUMBERED.match(node.name)):
            count = max(count, int(match[1]) + 1)
    return count


def _no_function(call: Call, scope: Scope) -> ExpressionError:
    if call.function == "shell":
        return ExpressionError("an expression never runs commands", *call.at, "use a task with `run:` and its outputs")
    hint = did_you_mean(call.function, [*scope.filter_names(), *FUNCTIONS, *LAZY])
    return ExpressionError(f"there is no function {call.function!r}", *call.at, hint, missing=call.function)


def _grouped(items: list[object], keys: list[object]) -> list[object]:
    groups: dict[str, list[object]] = {}
    for item, key in zip(items, keys, strict=True):
        groups.setdefault(to_json(key), []).append(item)
    return list(groups.values())


def _plain(value: object) -> object:
    """Return a lazy mapping as a plain one: what is built of it must not change later."""
    return dict(value) if isinstance(value, Mapping) and not isinstance(value, dict) else value


def _look_up(name: str, at: At, scope: Scope) -> object:
    try:
        return scope.lookup(name)
    except UnknownNameError as error:
        known = sorted(set(error.candidates))
        hint = did_you_mean(name, [*known, *FUNCTIONS, *LAZY]) or (f"there are: {_some(known)}" if known else None)
        raise ExpressionError(f"nothing is called {name!r} here", *at, hint, missing=name) from None


def _some(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 12 else [*names[:12], "..."])


def _element(scope: Scope, at: At) -> object:
    if isinstance(scope, _ElementScope):
        return scope.element
    raise ExpressionError("a leading `.` is the element inside map, select and group_by", *at)


def _attribute(value: object, name: str, at: At) -> object:
    if isinstance(value, Mapping):
        try:
            return _text_or_other(value[name], name, at)
        except KeyError:
            known = sorted(str(key) for key in value)
            listed = f"it has: {_some(known)}" if known else "it is empty"
            hint = did_you_mean(name, known) or listed
            raise ExpressionError(f"there is no {name!r} in it", *at, hint, missing=name) from None
    if isinstance(value, Sequence) and not isinstance(value, str):
        raise ExpressionError(f"a list has no {name!r}", *at, f"use `[0].{name}` or `| map(.{name})`")
    raise ExpressionError(f"a value of type {kind_of(value)} has no {name!r}", *at)


def _text_or_other(value: object, name: str, at: At) -> object:
    """Refuse a text that is no text: a variable of the environment may hold any bytes."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ExpressionError(f"the value of {name!r} is not UTF-8", *at) from None
    return value


def _index(value: object, index: object, at: At) -> object:
    if isinstance(value, Mapping):
        return _attribute(value, to_text(index), at)
    if not isinstance(value, Sequence):
        raise ExpressionError(f"a value of type {kind_of(value)} has no items", *at)
    if not isinstance(index, int) or isinstance(index, bool):
        raise ExpressionError(f"the index of a {kind_of(value)} is an int, not {kind_of(index)}", *at)
    try:
        return value[index]
    except IndexError:
        raise ExpressionError(f"there is no item {index}; the {kind_of(value)} has {len(value)}", *at) from None


def _bound(value: object, at: At) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ExpressionError(f"the bounds of a slice are ints, not {kind_of(value)}", *at)


def _unary(sign: str, value: object, at: At) -> object:
    if sign == "!":
        return not is_true(value)
    if _are_numbers(value):
        return -value  # type: ignore[operator]  # a number, as just seen
    raise ExpressionError(f"`-` needs a number, not {kind_of(value)}", *at)


def _combine(sign: str, left: object, right: object, at: At) -> object:
    match sign:
        case "==" | "!=":
            return are_equal(left, right) == (sign == "==")
        case "in" | "not in":
            return _contained(sign, left, right, at) == (sign == "in")
        case "<" | "<=" | ">" | ">=":
            return _ordered(sign, left, right, at)
        case _:
            if sign == "+" and isinstance(left, str) and isinstance(right, str):
                return left + right
            if sign == "+" and isinstance(left, list | tuple) and isinstance(right, list | tuple):
                return [*left, *right]
            return _arithmetic(sign, left, right, at)


def _contained(sign: str, left: object, right: object, at: At) -> bool:
    try:
        return is_in(left, right)
    except TypeError:
        raise _mismatch(sign, left, right, at) from None


def _ordered(sign: str, left: object, right: object, at: At) -> object:
    if _are_numbers(left, right) or (isinstance(left, str) and isinstance(right, str)):
        return _ORDERED[sign](left, right)
    raise _mismatch(sign, left, right, at)


def _arithmetic(sign: str, left: object, right: object, at: At) -> object:
    if not _are_numbers(left, right):
        raise _mismatch(sign, left, right, at)
    try:
        return checked(_ARITHMETIC[sign](left, right))
    except ZeroDivisionError:
        raise ExpressionError("division by zero", *at) from None
    except OverflowError:
        raise ExpressionError("the number is too large", *at) from None
    except ValueError as error:
        raise ExpressionError(str(error), *at) from None


def _power(base: float, exponent: float) -> int | float:
    """Return the power of two numbers.

    Raises:
        ValueError: it would be too large, or is no real number.
        ZeroDivisionError: a negative power of 0.
    """
    bits = base.bit_length() if isinstance(base, int) else 1
    if abs(exponent) > MAX_EXPONENT or bits * abs(exponent) > 2 * MAX_BITS:
        raise ValueError("the number is too large")
    if base < 0 and exponent != int(exponent):
        raise ValueError("the root of a negative number is no real number")
    result: int | float = base**exponent
    return result


def _are_numbers(*values: object) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _mismatch(sign: str, left: object, right: object, at: At) -> ExpressionError:
    hint = "join texts with `str(x)`" if sign == "+" and str in (type(left), type(right)) else None
    return ExpressionError(f"`{sign}` does not fit {kind_of(left)} and {kind_of(right)}", *at, hint)


_ORDERED: Mapping[str, Callable[[Any, Any], object]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}

__all__ = ["ExpressionError", "MappingScope", "Scope", "UnknownNameError", "evaluate"]
