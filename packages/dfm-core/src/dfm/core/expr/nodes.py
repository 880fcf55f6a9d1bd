"""What an expression is made of, after parsing. `at` is the offset and the length of the token a fault is shown at."""

from dataclasses import dataclass
from typing import TypeAlias

At = tuple[int, int]
INTO = "into an expression"
"""The function of a pipe whose right side is an expression over the leading dot: `value | . == 1`."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a string, true, false or null."""

    value: object
    at: At


@dataclass(frozen=True, slots=True)
class Name:
    """A name on its own."""

    name: str
    at: At


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`."""

    value: "Expression"
    name: str
    at: At


@dataclass(frozen=True, slots=True)
class Index:
    """`value[index]`."""

    value: "Expression"
    index: "Expression"
    at: At


@dataclass(frozen=True, slots=True)
class Slice:
    """`value[start:stop]`."""

    value: "Expression"
    start: "Expression | None"
    stop: "Expression | None"
    at: At


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """`[a, b]`."""

    items: "tuple[Expression, ...]"
    at: At


@dataclass(frozen=True, slots=True)
class MapLiteral:
    """`{a: b}`."""

    entries: "tuple[tuple[Expression, Expression], ...]"
    at: At


@dataclass(frozen=True, slots=True)
class Call:
    """`f(a)`, `value.f(a)` and `value | f(a)`; `subject` is the value of the last two."""

    function: str
    subject: "Expression | None"
    arguments: "tuple[Expression, ...]"
    at: At


@dataclass(frozen=True, slots=True)
class Unary:
    """`!a`, `-a`."""

    operator: str
    operand: "Expression"
    at: At


@dataclass(frozen=True, slots=True)
class Binary:
    """`a + b` and the others."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: At


@dataclass(frozen=True, slots=True)
class Condition:
    """`a ? b : c`, `b if a else c`."""

    test: "Expression"
    then: "Expression"
    otherwise: "Expression"
    at: At


@dataclass(frozen=True, slots=True)
class Default:
    """`a:-text`: the text where `a` is absent or empty."""

    value: "Expression"
    text: str
    at: At


@dataclass(frozen=True, slots=True)
class Element:
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
