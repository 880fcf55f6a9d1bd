"""What an expression is made of, after parsing. `at` is the offset and the length of the token a fault is shown at."""

from typing import TypeAlias

from msgspec import Struct

At = tuple[int, int]
INTO = "into an expression"
"""The function of a pipe whose right side is an expression over the leading dot: `value | . == 1`."""


class Literal(Struct, frozen=True):
    """A number, a string, true, false or null."""

    value: object
    at: At


class Name(Struct, frozen=True):
    """A name on its own."""

    name: str
    at: At


class Attribute(Struct, frozen=True):
    """`value.name`."""

    value: "Expression"
    name: str
    at: At


class Index(Struct, frozen=True):
    """`value[index]`."""

    value: "Expression"
    index: "Expression"
    at: At


class Slice(Struct, frozen=True):
    """`value[start:stop]`."""

    value: "Expression"
    start: "Expression | None"
    stop: "Expression | None"
    at: At


class ListLiteral(Struct, frozen=True):
    """`[a, b]`."""

    items: "tuple[Expression, ...]"
    at: At


class MapLiteral(Struct, frozen=True):
    """`{a: b}`."""

    entries: "tuple[tuple[Expression, Expression], ...]"
    at: At


class Call(Struct, frozen=True):
    """`f(a)`, `value.f(a)` and `value | f(a)`; `subject` is the value of the last two."""

    function: str
    subject: "Expression | None"
    arguments: "tuple[Expression, ...]"
    at: At


class Unary(Struct, frozen=True):
    """`!a`, `-a`."""

    operator: str
    operand: "Expression"
    at: At


class Binary(Struct, frozen=True):
    """`a + b` and the others."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: At


class Condition(Struct, frozen=True):
    """`a ? b : c`, `b if a else c`."""

    test: "Expression"
    then: "Expression"
    otherwise: "Expression"
    at: At


class Default(Struct, frozen=True):
    """`a:-text`: the text where `a` is absent or empty."""

    value: "Expression"
    text: str
    at: At


class Element(Struct, frozen=True):
    """The element at hand inside map, select and group_by, written as a leading dot."""

    at: At


Expression: TypeAlias = (
    Literal
    | Name
    | Attribute
    | Index
    | Slice
    | ListLiteral
    | MapLiteral
    | Call
    | Unary
    | Binary
    | Condition
    | Default
    | Element
)


def children(node: Expression) -> tuple[Expression, ...]:
    """Return the expressions that a node is directly made of, in the order they are written."""
    match node:
        case Literal() | Name() | Element():
            return ()
        case Attribute(value) | Default(value):
            return (value,)
        case Index(value, index):
            return (value, index)
        case Slice(value, start, stop):
            return tuple(part for part in (value, start, stop) if part is not None)
        case ListLiteral(items):
            return items
        case MapLiteral(entries):
            return tuple(part for entry in entries for part in entry)
        case Call(_, subject, arguments):
            return arguments if subject is None else (subject, *arguments)
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Condition(test, then, otherwise):
            return (test, then, otherwise)
