"""Text with `${{ ... }}` in it. `$${{` stands for a literal `${{`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import Scope, evaluate
from dfm.core.expr.functions import LAZY, to_text
from dfm.core.expr.lexer import tokenize
from dfm.core.expr.nodes import (
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
from dfm.core.expr.parser import parse

OPENING = "${{"
MAX_HEIGHT = 200
"""Steps of an expression that follow from each other; each costs a few Python frames."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text, parsed.

    Attributes:
        parts: literal text and expressions, in order.
        names: root names its expressions refer to.
        paths: dotted paths they refer to, as far as they are written out: `env.HOME`.
    """

    text: str
    parts: tuple[str | Expression, ...]
    names: frozenset[str]
    paths: frozenset[str]

    @property
    def is_constant(self) -> bool:
        """Whether it has no expression."""
        return all(isinstance(part, str) for part in self.parts)

    def evaluate(self, scope: Scope) -> object:
        """Return the value of the expression where there is nothing around it, else the text with all values in it.

        Raises:
            ExpressionError: an expression cannot be evaluated; its offset counts in `text`.
        """
        if len(self.parts) == 1 and not isinstance(self.parts[0], str):
            return _detached(evaluate(self.parts[0], scope))
        return self.evaluate_text(scope)

    def evaluate_text(self, scope: Scope) -> str:
        """Return the text with every expression replaced by its value as text.

        Raises:
            ExpressionError: an expression cannot be evaluated.
        """
        return "".join(part if isinstance(part, str) else to_text(evaluate(part, scope)) for part in self.parts)


@lru_cache(maxsize=65_536)
def parse_template(text: str) -> Template:
    """Parse a text; equal texts are parsed once.

    Raises:
        ExpressionError: an expression in it cannot be read.
    """
    if OPENING not in text:
        return Template(text, (text,), frozenset(), frozenset())
    parts: list[str | Expression] = []
    position = 0
    literal = ""
    while (start := text.find(OPENING, position)) >= 0:
        literal += text[position:start]
        if literal.endswith("$"):
            literal += OPENING[1:]
            position = start + len(OPENING)
            continue
        tokens, end = tokenize(text, start + len(OPENING))
        if literal:
            parts.append(literal)
        literal = ""
        expression = parse(tokens)
        _refuse_height(expression)
        parts.append(expression)
        position = end
    literal += text[position:]
    if literal or not parts:
        parts.append(literal)
    paths = frozenset(path for part in parts if not isinstance(part, str) for path in _paths(part, frozenset()))
    return Template(text, tuple(parts), frozenset(path.partition(".")[0] for path in paths), paths)


def _refuse_height(expression: Expression) -> None:
    """Refuse what would be evaluated too deep: `1 + 1 + 1 ...` nests to the left without a bracket."""
    level: list[Expression] = [expression]
    for _ in range(MAX_HEIGHT):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise ExpressionError(f"the expression has more than {MAX_HEIGHT} steps in a row", *level[0].at)


def _detached(value: object) -> object:
    """Return lazy mappings as plain ones: a value must not change after it was taken."""
    return dict(value) if isinstance(value, Mapping) and not isinstance(value, dict) else value


def _paths(node: Expression, bound: frozenset[str]) -> Iterator[str]:
    """Yield the dotted paths of a node; `bound` are the names of the element at hand."""
    dotted = _dotted(node)
    if dotted is not None:
        if dotted.partition(".")[0] not in bound:
            yield dotted
        return
    if isinstance(node, Call) and node.function in LAZY and node.function != "default":
        parts = [*(() if node.subject is None else (node.subject,)), *node.arguments]
        for index, part in enumerate(parts):
            yield from _paths(part, bound | {"item", "input"} if index else bound)
        return
    for child in _children(node):
        yield from _paths(child, bound)


def _dotted(node: Expression) -> str | None:
    match node:
        case Name(name):
            return name
        case Attribute(value, name):
            outer = _dotted(value)
            return None if outer is None else f"{outer}.{name}"
        case _:
            return None


def _children(node: Expression) -> Iterator[Expression]:
    match node:
        case Attribute(value) | Default(value):
            yield value
        case Index(value, index):
            yield from (value, index)
        case Slice(value, start, stop):
            yield from (part for part in (value, start, stop) if part is not None)
        case ListLiteral(items):
            yield from items
        case MapLiteral(entries):
            for key, value in entries:
                yield from (key, value)
        case Call(_, subject, arguments):
            yield from (part for part in (subject, *arguments) if part is not None)
        case Unary(_, operand):
            yield operand
        case Binary(_, left, right):
            yield from (left, right)
        case Condition(test, then, otherwise):
            yield from (test, then, otherwise)
        case Literal() | Name() | Element():
            return


__all__ = ["ExpressionError", "Template", "parse_template"]
