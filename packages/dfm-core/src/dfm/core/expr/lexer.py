"""Tokens of an expression.

The lexer, not a search for `}}`, finds the end of `${{ ... }}`: braces inside strings and
map literals do not end it. So it is the lexer that pairs the brackets.
"""

import enum
import re

from msgspec import Struct

from dfm.core.expr.errors import ExpressionError


class TokenKind(enum.Enum):
    """What a token is."""

    NUMBER = "number"
    STRING = "string"
    NAME = "name"
    OPERATOR = "operator"
    """A sign, or a word that works as one: `and`."""
    DEFAULT = "default"
    """`:-` with the literal text up to the end of the expression as its value."""
    END = "end"


class Token(Struct, frozen=True):
    """One token; `offset` counts from the start of the whole template."""

    kind: TokenKind
    value: object
    offset: int
    length: int

    @property
    def at(self) -> tuple[int, int]:
        """Where a fault of this token is shown."""
        return self.offset, self.length

    @property
    def text(self) -> str:
        """How the token is named in a message."""
        match self.kind:
            case TokenKind.END:
                return "the end of the expression"
            case TokenKind.DEFAULT:
                return "':-'"
            case _:
                return repr(str(self.value))


WORDS = frozenset({"and", "or", "not", "in", "if", "else"})
"""Names that work as operators, unless written with a `$`."""

_SPACE = re.compile(r"\s*")
_TOKEN = re.compile(
    r"""(?P<number>0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)
      | (?P<name>\$?[^\W\d]\w*)
      | (?P<string>'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")
      | (?P<operator>\*\*|//|==|!=|<=|>=|&&|\|\||[-+*/%<>!|?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", "'": "'", '"': '"'}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_LONGEST_NUMBER = 700
"""Digits; as large as a number that an expression may make."""


def tokenize(text: str, start: int) -> tuple[list[Token], int]:
    """Return the tokens of the expression that begins at `start`, and where its closing `}}` ends.

    Raises:
        ExpressionError: a character that is no part of an expression, an unclosed string or bracket, or no `}}`.
    """
    tokens: list[Token] = []
    brackets: list[Token] = []
    choices = 0
    position = _after_space(text, start)
    while brackets or not text.startswith("}}", position):
        if position == len(text):
            raise _unclosed(start)
        if not brackets and choices == 0 and text.startswith(":-", position) and _ends_path(tokens):
            return _with_default(text, position, tokens, start)
        token = _next(text, position)
        tokens.append(token)
        position = _after_space(text, position + token.length)
        if token.kind is TokenKind.OPERATOR:
            _pair(token, brackets)
            if not brackets and token.value in ("?", ":"):
                choices = choices + 1 if token.value == "?" else max(0, choices - 1)
    tokens.append(Token(TokenKind.END, "", position, 2))
    return tokens, position + 2


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _unclosed(start: int) -> ExpressionError:
    return ExpressionError("`${{` is not closed", start - 3, 3, "add `}}`")


def _with_default(text: str, position: int, tokens: list[Token], start: int) -> tuple[list[Token], int]:
    end = text.find("}}", position)
    if end < 0:
        raise _unclosed(start)
    tokens.append(Token(TokenKind.DEFAULT, text[position + 2 : end].strip(), position, 2))
    tokens.append(Token(TokenKind.END, "", end, 2))
    return tokens, end + 2


def _ends_path(tokens: list[Token]) -> bool:
    """Whether what was read so far can end in a path, which `:-` gives a default to."""
    if not tokens:
        return False
    last = tokens[-1]
    return last.kind is TokenKind.NAME or (
        last.kind is TokenKind.OPERATOR and (last.value == "]" or last.value in WORDS)
    )


def _pair(token: Token, brackets: list[Token]) -> None:
    if token.value in _CLOSING:
        brackets.append(token)
    elif token.value in _CLOSING.values():
        if not brackets:
            hint = "an expression ends with `}}`" if token.value == "}" else None
            raise ExpressionError(f"`{token.value}` closes nothing", *token.at, hint)
        opening = brackets.pop()
        closing = _CLOSING[str(opening.value)]
        if token.value != closing:
            raise ExpressionError(f"`{opening.value}` is not closed", *opening.at, f"add `{closing}`")


def _next(text: str, position: int) -> Token:
    found = _TOKEN.match(text, position)
    if found is None:
        shown = text[position]
        if shown in "'\"":
            raise ExpressionError("the string is not closed", position, 1)
        hint = {"=": "compare with `==`", "&": "`&&` is the logical and"}.get(shown)
        raise ExpressionError(f"{shown!r} is no part of an expression", position, 1, hint)
    written = found.group()
    length = len(written)
    match found.lastgroup:
        case "number":
            return Token(TokenKind.NUMBER, _number(written, position), position, length)
        case "name":
            kind = TokenKind.OPERATOR if written in WORDS else TokenKind.NAME
            return Token(kind, written.removeprefix("$"), position, length)
        case "string":
            return Token(TokenKind.STRING, _string(written[1:-1], position), position, length)
        case _:
            return Token(TokenKind.OPERATOR, written, position, length)


def _number(written: str, position: int) -> int | float:
    if len(written) <= _LONGEST_NUMBER:
        if written[:2] in ("0x", "0X"):
            return int(written, 16)
        value = int(written) if written.isdecimal() else float(written)
        if value != float("inf"):
            return value
    raise ExpressionError("the number is too large", position, len(written))


def _string(written: str, position: int) -> str:
    if "\\" not in written:
        return written
    value = _ESCAPE.sub(_unescape, written)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ExpressionError("half of a surrogate pair is no text", position, len(written) + 2, "write the character")
    return value


def _unescape(found: "re.Match[str]") -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else _ESCAPES.get(found[3], found[0])
