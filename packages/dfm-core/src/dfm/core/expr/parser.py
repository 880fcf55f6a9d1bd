"""From tokens to an expression, by precedence climbing.

Loosest to tightest: `|` (pipe), `a ? b : c` and `b if a else c`, `or ||`, `and &&`, `not`, comparisons and `in`, `+ -`,
`* / // %`, unary `- !`, `**`, then calls, attributes and indices. `:-text` takes the rest of the expression as text.
"""

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.lexer import Token, TokenKind
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

MAX_DEPTH = 60
"""Nesting of an expression; each level costs a dozen Python frames."""

_BINARY: tuple[dict[str, str], ...] = (
    {"||": "or", "or": "or"},
    {"&&": "and", "and": "and"},
    {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "in": "in"},
    {"+": "+", "-": "-"},
    {"*": "*", "/": "/", "//": "//", "%": "%"},
)
_COMPARISONS = 2
_CONSTANTS = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}
_KEYWORDS = frozenset({"and", "or", "not", "in", "if", "else"})


def parse(tokens: list[Token]) -> Expression:
    """Return the expression that the tokens make up.

    Raises:
        ExpressionError: they make up none.
    """
    return _Parser(tokens).whole()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def whole(self) -> Expression:
        if self._peek().kind is TokenKind.END:
            raise ExpressionError("the expression is empty", *self._at(self._peek()))
        expression = self._pipe()
        token = self._peek()
        if token.kind is TokenKind.DEFAULT:
            self._take()
            expression = Default(expression, str(token.value), self._at(token))
            token = self._peek()
        if token.kind is not TokenKind.END:
            raise ExpressionError(f"{token.text} was not expected here", *self._at(token))
        return expression

    def _pipe(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested more than {MAX_DEPTH} deep", *self._at(self._peek()))
        value = self._condition()
        while self._accept("|"):
            name = self._name("a filter")
            arguments = self._arguments() if self._accept("(") else ()
            value = Call(str(name.value), value, arguments, self._at(name))
        self._depth -= 1
        return value

    def _condition(self) -> Expression:
        value = self._binary(0)
        token = self._peek()
        if self._accept("?"):
            then = self._pipe()
            self._expect(":")
            return Condition(value, then, self._pipe(), self._at(token))
        if self._accept("if"):
            test = self._binary(0)
            self._expect("else")
            return Condition(test, value, self._pipe(), self._at(token))
        return value

    def _binary(self, level: int) -> Expression:
        if level == len(_BINARY):
            return self._unary()
        if level == _COMPARISONS and self._is("not"):
            token = self._take()
            self._deeper(token)
            operand = Unary("!", self._binary(level), self._at(token))
            self._depth -= 1
            return operand
        left = self._binary(level + 1)
        while True:
            token = self._peek()
            operator = self._operator(level)
            if operator is None:
                return left
            left = Binary(operator, left, self._binary(level + 1), self._at(token))

    def _operator(self, level: int) -> str | None:
        token = self._peek()
        if level == _COMPARISONS and self._is("not") and self._tokens[self._position + 1].value == "in":
            self._position += 2
            return "not in"
        is_word = token.kind is TokenKind.NAME and str(token.value) in _KEYWORDS
        if token.kind is not TokenKind.OPERATOR and not is_word:
            return None
        operator = _BINARY[level].get(str(token.value))
        if operator is not None:
            self._take()
        return operator

    def _unary(self) -> Expression:
        token = self._peek()
        if token.kind is TokenKind.OPERATOR and token.value in ("-", "!", "+"):
            self._take()
            self._deeper(token)
            operand = self._unary()
            self._depth -= 1
            return operand if token.value == "+" else Unary(str(token.value), operand, self._at(token))
        return self._power()

    def _power(self) -> Expression:
        value = self._postfix(self._primary())
        token = self._peek()
        if self._accept("**"):
            self._deeper(token)
            value = Binary("**", value, self._unary(), self._at(token))
            self._depth -= 1
        return value

    def _postfix(self, value: Expression) -> Expression:
        while True:
            if self._accept("."):
                token = self._peek()
                if token.kind is TokenKind.NUMBER:
                    self._take()
                    value = Index(value, Literal(token.value, self._at(token)), self._at(token))
                    continue
                name = self._name("a name after `.`")
                if self._accept("("):
                    value = Call(str(name.value), value, self._arguments(), self._at(name))
                else:
                    value = Attribute(value, str(name.value), self._at(name))
            elif self._is("["):
                value = self._subscript(value)
            else:
                return value

    def _subscript(self, value: Expression) -> Expression:
        at = self._at(self._take())
        if self._accept("]"):
            return value
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
        at = self._at(token)
        match token.kind, token.value:
            case ((TokenKind.NUMBER | TokenKind.STRING), value):
                return Literal(value, at)
            case TokenKind.NAME, str() as name if name in _CONSTANTS:
                return Literal(_CONSTANTS[name], at)
            case TokenKind.NAME, str() as name if name not in _KEYWORDS:
                return Call(name, None, self._arguments(), at) if self._accept("(") else Name(name, at)
            case TokenKind.OPERATOR, "(":
                value = self._pipe()
                self._expect(")")
                return value
            case TokenKind.OPERATOR, "[":
                return ListLiteral(self._items("]"), at)
            case TokenKind.OPERATOR, "{":
                return self._map(at)
            case TokenKind.OPERATOR, ".":
                if self._peek().kind is not TokenKind.NAME:
                    return Element(at)
                attribute = self._take()
                return Attribute(Element(at), str(attribute.value), self._at(attribute))
            case _:
                raise ExpressionError(f"a value was expected, not {token.text}", *at)

    def _map(self, at: tuple[int, int]) -> Expression:
        entries = []
        while not self._accept("}"):
            key = self._pipe()
            key = Literal(key.name, key.at) if isinstance(key, Name) else key
            self._expect(":")
            entries.append((key, self._pipe()))
            if not self._is("}"):
                self._expect(",")
        return MapLiteral(tuple(entries), at)

    def _arguments(self) -> tuple[Expression, ...]:
        return self._items(")")

    def _items(self, closing: str) -> tuple[Expression, ...]:
        items = []
        while not self._accept(closing):
            items.append(self._pipe())
            if not self._is(closing):
                self._expect(",")
        return tuple(items)

    def _deeper(self, token: Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested more than {MAX_DEPTH} deep", *self._at(token))

    def _name(self, what: str) -> Token:
        token = self._take()
        if token.kind is not TokenKind.NAME:
            raise ExpressionError(f"{what} was expected, not {token.text}", *self._at(token))
        return token

    def _expect(self, value: str) -> None:
        token = self._peek()
        if not self._accept(value):
            raise ExpressionError(f"`{value}` was expected, not {token.text}", *self._at(token))

    def _accept(self, value: str) -> bool:
        if self._is(value):
            self._position += 1
            return True
        return False

    def _is(self, value: str) -> bool:
        token = self._peek()
        return token.kind in (TokenKind.OPERATOR, TokenKind.NAME) and token.value == value

    def _peek(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._tokens[self._position]
        if token.kind is not TokenKind.END:
            self._position += 1
        return token

    @staticmethod
    def _at(token: Token) -> tuple[int, int]:
        return token.offset, token.length
