"""Text with `${{ ... }}` in it. `$${{` stands for a literal `${{`."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from msgspec import Struct

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import Scope, evaluate
from dfm.core.expr.functions import BINDING, ELEMENT_NAMES, to_text
from dfm.core.expr.lexer import tokenize
from dfm.core.expr.nodes import Attribute, Call, Expression, Name, children
from dfm.core.expr.parser import parse

OPENING = "${{"


class Template(Struct, frozen=True):
    """A text, parsed.

    Attributes:
        parts: literal text and expressions, in order.
        names: root names its expressions refer to.
        paths: dotted paths they refer to, as far as they are written out: `env.HOME`.
        functions: functions and filters they call.
    """

    text: str
    parts: tuple[str | Expression, ...]
    names: frozenset[str]
    paths: frozenset[str]
    functions: frozenset[str] = frozenset()

    @property
    def is_constant(self) -> bool:
        """Whether `text` is its own value; an escape makes it none, as its value is not what is written."""
        return OPENING not in self.text

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
        parts.append(parse(tokens))
        position = end
    literal += text[position:]
    if literal or not parts:
        parts.append(literal)
    paths = frozenset(path for part in parts if not isinstance(part, str) for path in _paths(part))
    functions = frozenset(name for part in parts if not isinstance(part, str) for name in _functions(part))
    return Template(text, tuple(parts), frozenset(path.partition(".")[0] for path in paths), paths, functions)


def _detached(value: object) -> object:
    """Return lazy mappings as plain ones: a value must not change after it was taken."""
    return dict(value) if isinstance(value, Mapping) and not isinstance(value, dict) else value


def _paths(expression: Expression) -> Iterator[str]:
    """Yield the dotted paths of an expression, but for those of an element at hand."""
    waiting = [(expression, False)]
    while waiting:
        node, is_bound = waiting.pop()
        dotted = _dotted(node)
        if dotted is None:
            below = children(node)
            binds = isinstance(node, Call) and node.function in BINDING
            waiting += [(child, is_bound or (binds and index > 0)) for index, child in enumerate(below)]
        elif not (is_bound and dotted.partition(".")[0] in ELEMENT_NAMES):
            yield dotted


def _functions(expression: Expression) -> Iterator[str]:
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Call):
            yield node.function
        waiting += children(node)


def parse_expression(text: str) -> Expression:
    """Parse an expression that stands for itself, without `${{ }}` around it.

    Raises:
        ExpressionError: it cannot be read; the offset counts in `text`.
    """
    try:
        tokens, end = tokenize(f"{text}\n}}}}", 0)
    except ExpressionError as error:
        raise ExpressionError(error.message, min(error.offset, len(text)), error.length, error.hint) from None
    if end < len(text):
        raise ExpressionError("`}}` was not expected here", end - 2, 2)
    return parse(tokens)


def _dotted(node: Expression) -> str | None:
    """Return a node that is nothing but names with dots between them as text."""
    words: list[str] = []
    while isinstance(node, Attribute):
        words.append(node.name)
        node = node.value
    return ".".join([node.name, *reversed(words)]) if isinstance(node, Name) else None


__all__ = ["ExpressionError", "Template", "parse_template"]
