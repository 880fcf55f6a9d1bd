"""Tokens of an expression.

The lexer, not a search for `}}`, finds the end of `${{ ... }}`: braces inside strings and
map literals do not end it.
"""

import enum
import re
from dataclasses import dataclass

from dfm.core.expr.errors import ExpressionError


class TokenKind(enum.Enum):
    """What a token is."""

    NUMBER = "number"
    STRING = "string"
    NAME = "name"
    OPERATOR = "operator"
    DEFAULT = "default"
    """`:-` with the literal text up to the end of the expression as its value."""
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `offset` counts from the start of the whole template."""

    kind: TokenKind
    value: object
    offset: int
    length: int

    @property
    def text(self) -> str:
        """How the token is named in a message."""
        return "the end of the expression" if self.kind is TokenKind.END else repr(str(self.value))


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+\.\d+|\d+\.(?![.\w])|\.\d+|\d+)(?:[eE][-+]?\d+)?|0[xX][0-9a-fA-F]+)
      | (?P<name>\$?[A-Za-z_][A-Za-z0-9_]*)
      | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<operator>\*\*|//|==|!=|<=|>=|&&|\|\||[-+*/%<>!|?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", "'": "'", '"': '"'}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def tokenize(text: str, start: int) -> tuple[list[Token], int]:
    """Return the tokens of the expression that begins at `start`, and where its closing `}}` ends.

    Raises:
        ExpressionError: a character that is no part of an expression, an unclosed string, or no `}}`.
    """
    tokens: list[Token] = []
    position = start
    depth = 0
    while True:
        if depth == 0 and text.startswith("}}", position):
            tokens.append(Token(TokenKind.END, "", position, 2))
            return tokens, position + 2
        if position >= len(text):
            raise ExpressionError("`${{` is not closed", start - 3, 3, "add `}}`")
        if depth == 0 and text.startswith(":-", position) and _follows_name(tokens):
            return _default(text, position, tokens, start)
        token = _next(text, position)
        position += token.length
        if token.value == "" and token.kind is TokenKind.OPERATOR:
            continue
        if token.value in ("{", "[", "(") and token.kind is TokenKind.OPERATOR:
            depth += 1
        elif token.value in ("}", "]", ")") and token.kind is TokenKind.OPERATOR:
            depth = max(0, depth - 1)
        tokens.append(token)


def _default(text: str, position: int, tokens: list[Token], start: int) -> tuple[list[Token], int]:
    end = text.find("}}", position)
    if end < 0:
        raise ExpressionError("`${{` is not closed", start - 3, 3, "add `}}`")
    tokens.append(Token(TokenKind.DEFAULT, text[position + 2 : end].strip(), position, 2))
    tokens.append(Token(TokenKind.END, "", end, 2))
    return tokens, end + 2


def _follows_name(tokens: list[Token]) -> bool:
    """Whether `:-` can only be the default operator: after a path, and with no `?` waiting for its `:`."""
    waiting = sum(t.value == "?" for t in tokens) - sum(t.value == ":" for t in tokens)
    return bool(tokens) and waiting <= 0 and (tokens[-1].kind is TokenKind.NAME or tokens[-1].value == "]")


def _next(text: str, position: int) -> Token:
    found = _TOKEN.match(text, position)
    if found is None:
        shown = text[position]
        if shown in "'\"":
            raise ExpressionError("the string is not closed", position, 1)
        hint = "compare with `==`" if shown == "=" else None
        raise ExpressionError(f"{shown!r} is no part of an expression", position, 1, hint)
    length = found.end() - position
    written = found.group()
    match found.lastgroup:
        case "space":
            return Token(TokenKind.OPERATOR, "", position, length)
        case "number":
            return Token(TokenKind.NUMBER, _number(written, position), position, length)
        case "name":
            return Token(TokenKind.NAME, written.lstrip("$"), position, length)
        case "string":
            return Token(TokenKind.STRING, _ESCAPE.sub(_unescape, written[1:-1]), position, length)
        case _:
            return Token(TokenKind.OPERATOR, written, position, length)


def _number(written: str, position: int) -> int | float:
    try:
        if written[:2].lower() == "0x":
            return int(written, 16)
        return int(written) if written.isdigit() else float(written)
    except ValueError:
        raise ExpressionError(f"{written[:20]}... is too long for a number", position, len(written)) from None


def _unescape(found: "re.Match[str]") -> str:
    return _ESCAPES.get(found[1], found[0])
