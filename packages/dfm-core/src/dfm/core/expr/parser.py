"""From tokens to an expression, by precedence climbing.

Loosest to tightest: `|` (pipe), `a ? b : c` and `b if a else c`, `or ||`, `and &&`, `not !`, comparisons and `in`
(which do not chain), `+ -`, `* / // %`, unary `-`, `**` (right to left), then calls, attributes and indices. `/` is the
true division of Python: 4 / 2 is 2.0. `path:-text` takes the rest of the expression as text. An operator after a pipe
takes the whole pipe as its left side: there it makes no difference whether the pipe binds loosely, as in jq, or
tightly, as in DV Flow. Where it would, after one more `|`, brackets are asked for.

Two limits keep the recursion of parser and evaluation far from Python's own: MAX_DEPTH for what is nested in brackets,
MAX_HEIGHT for the whole tree, which chains such as `a + b + c` heighten without nesting.
"""

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.lexer import WORDS, Token, TokenKind
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

MAX_DEPTH = 60
"""Nesting of an expression; each level costs seven Python frames while it is parsed."""
MAX_HEIGHT = 200
"""Height of an expression's tree; each level costs two Python frames while it is evaluated."""

_NOT, _COMPARISON, _SUM, _UNARY, _POWER = 3, 4, 5, 7, 8
_BINARY: dict[str, tuple[int, str]] = {
    "||": (1, "or"),
    "or": (1, "or"),
    "&&": (2, "and"),
    "and": (2, "and"),
    **dict.fromkeys(("+", "-"), (_SUM, "")),
    **dict.fromkeys(("*", "/", "//", "%"), (6, "")),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), (_COMPARISON, "")),
    "**": (_POWER, ""),
}
"""How tight a binary operator binds, and its name where that is not how it is written."""
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


def parse(tokens: list[Token]) -> Expression:
    """Return the expression that the tokens make up.

    Raises:
        ExpressionError: they make up none.
    """
    expression = _Parser(tokens).whole()
    _check_height(expression)
    return expression


def _check_height(expression: Expression) -> None:
    level = [expression]
    for _ in range(MAX_HEIGHT):
        level = [child for node in level for child in children(node)]
        if not level:
            return
    raise ExpressionError(f"the expression has more than {MAX_HEIGHT} steps in a row", *level[0].at)


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def whole(self) -> Expression:
        if self._peek().kind is TokenKind.END:
            raise ExpressionError("the expression is empty", *self._peek().at)
        expression = self._pipe()
        token = self._peek()
        if token.kind is TokenKind.DEFAULT:
            expression = self._default(expression, self._take())
            token = self._peek()
        if token.kind is not TokenKind.END:
            raise ExpressionError(f"{token.text} was not expected here", *token.at)
        return expression

    @staticmethod
    def _default(path: Expression, token: Token) -> Expression:
        if not isinstance(path, Name | Attribute | Index):
            raise ExpressionError("`:-` follows a name and nothing else", *token.at, "use `default(value, other)`")
        return Default(path, str(token.value), token.at)

    def _pipe(self) -> Expression:
        value = self._condition()
        if not self._is("|"):
            return value
        while self._accept("|"):
            value = self._filtered(value)
        value = self._conditional(self._operators(value, 0))
        if self._is("|"):
            hint = "write the pipes on both sides of an operator in brackets"
            raise ExpressionError("'|' was not expected here", *self._peek().at, hint)
        return value

    def _filtered(self, value: Expression) -> Expression:
        if self._is("."):
            at = self._peek().at
            return Call(INTO, value, (self._binary(0),), at)
        name = self._name("a filter")
        words = [str(name.value)]
        while self._accept("."):
            words.append(str(self._name("the name of a filter").value))
        arguments = self._items(")") if self._accept("(") else ()
        return Call(".".join(words), value, arguments, name.at)

    def _condition(self) -> Expression:
        return self._conditional(self._binary(0))

    def _conditional(self, value: Expression) -> Expression:
        """Read what `value` may be the beginning of: a conditional expression."""
        token = self._peek()
        if self._accept("?"):
            self._enter()
            then = self._pipe()
            self._depth -= 1
            self._expect(":")
            return Condition(value, then, self._otherwise(), token.at)
        if self._accept("if"):
            test = self._binary(0)
            self._expect("else")
            return Condition(test, value, self._otherwise(), token.at)
        return value

    def _otherwise(self) -> Expression:
        self._enter()
        value = self._condition()
        self._depth -= 1
        return value

    def _binary(self, loosest: int) -> Expression:
        """Read operands and the operators between them that bind at least as tight as `loosest`."""
        self._enter()
        value = self._operators(self._prefix(), loosest)
        self._depth -= 1
        return value

    def _operators(self, left: Expression, loosest: int) -> Expression:
        """Read what follows an operand."""
        is_compared = False
        while (found := self._operator(loosest)) is not None:
            tightness, operator, at = found
            if tightness == _COMPARISON:
                if is_compared:
                    raise ExpressionError("comparisons do not chain", *at, "join them with `and`")
                is_compared = True
            right = self._binary(_UNARY if operator == "**" else tightness + 1)
            left = Binary(operator, left, right, at)
        return left

    def _operator(self, loosest: int) -> tuple[int, str, At] | None:
        """Take the operator that comes next, if it binds tight enough."""
        token = self._peek()
        if token.kind is not TokenKind.OPERATOR:
            return None
        if token.value == "not" and loosest <= _COMPARISON and self._is("in", ahead=1):
            self._position += 2
            return _COMPARISON, "not in", token.at
        written = str(token.value)
        tightness, name = _BINARY.get(written, (-1, ""))
        if tightness < loosest:
            return None
        self._take()
        return tightness, name or written, token.at

    def _prefix(self) -> Expression:
        token = self._peek()
        if self._accept("not") or self._accept("!"):
            return Unary("!", self._binary(_NOT), token.at)
        if self._accept("-"):
            return Unary("-", self._binary(_POWER), token.at)
        return self._postfix(self._primary())

    def _postfix(self, value: Expression) -> Expression:
        while True:
            if self._accept("."):
                name = self._name("a name after `.`")
                if self._accept("("):
                    value = Call(str(name.value), value, self._items(")"), name.at)
                else:
                    value = Attribute(value, str(name.value), name.at)
            elif self._is("["):
                value = self._subscript(value)
            else:
                return value

    def _subscript(self, value: Expression) -> Expression:
        at = self._take().at
        if self._accept("]"):
            return Call("values", value, (), at)
        start = None if self._is(":") else self._pipe()
        if self._accept(":"):
            stop = None if self._is("]") else self._pipe()
            self._expect("]")
            return Slice(value, start, stop, at)
        self._expect("]")
        assert start is not None
        return Index(value, start, at)

    def _primary(self) -> Expression:
        token = self._take()
        match token.kind, token.value:
            case ((TokenKind.NUMBER | TokenKind.STRING), value):
                return Literal(value, token.at)
            case TokenKind.NAME, str() as name:
                return self._named(name, token.at)
            case TokenKind.OPERATOR, "in" if self._is("."):
                return Name("in", token.at)
            case TokenKind.OPERATOR, "(":
                value = self._pipe()
                self._expect(")")
                return value
            case TokenKind.OPERATOR, "[":
                return ListLiteral(self._items("]"), token.at)
            case TokenKind.OPERATOR, "{":
                return self._map(token.at)
            case TokenKind.OPERATOR, ".":
                return self._element(token)
            case _:
                raise ExpressionError(f"a value was expected, not {token.text}", *token.at)

    def _named(self, name: str, at: At) -> Expression:
        if self._accept("("):
            return Call(name, None, self._items(")"), at)
        return Literal(_CONSTANTS[name], at) if name in _CONSTANTS else Name(name, at)

    def _element(self, dot: Token) -> Expression:
        """Read a leading dot: the element itself, or the first dot of `.name`, which is given back."""
        following = self._peek()
        is_word = following.kind is TokenKind.NAME or following.value in WORDS
        if is_word and following.offset == dot.offset + 1:
            self._position -= 1
        return Element(dot.at)

    def _map(self, at: At) -> Expression:
        entries = []
        while not self._accept("}"):
            key = self._pipe()
            key = Literal(key.name, key.at) if isinstance(key, Name) else key
            self._expect(":")
            entries.append((key, self._pipe()))
            if not self._is("}"):
                self._expect(",")
        return MapLiteral(tuple(entries), at)

    def _items(self, closing: str) -> tuple[Expression, ...]:
        items = []
        while not self._accept(closing):
            items.append(self._pipe())
            if not self._is(closing):
                self._expect(",")
        return tuple(items)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested more than {MAX_DEPTH} deep", *self._peek().at)

    def _name(self, what: str) -> Token:
        token = self._take()
        is_word = token.kind is TokenKind.OPERATOR and token.value in WORDS
        if token.kind is not TokenKind.NAME and not is_word:
            hint = f"use `[{token.value}]`" if token.kind is TokenKind.NUMBER else None
            raise ExpressionError(f"{what} was expected, not {token.text}", *token.at, hint)
        return token

    def _expect(self, value: str) -> None:
        token = self._peek()
        if not self._accept(value):
            raise ExpressionError(f"`{value}` was expected, not {token.text}", *token.at)

    def _accept(self, value: str) -> bool:
        if self._is(value):
            self._position += 1
            return True
        return False

    def _is(self, value: str, ahead: int = 0) -> bool:
        token = self._tokens[self._position + ahead]
        return token.value == value and token.kind is TokenKind.OPERATOR

    def _peek(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._tokens[self._position]
        if token.kind is not TokenKind.END:
            self._position += 1
        return token
