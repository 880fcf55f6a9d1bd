r"""Where a character of a quoted text is written: escapes are several characters for one, or for none.

The styles: `"` and `'` of YAML and TOML on one line, `\"""` and `'''` of TOML. The text must be valid; nothing here
refuses it. Sources: YAML 1.1, 5.7 and 9.1; TOML 1.0.0, "String".
"""

import re
from collections.abc import Iterator

_ESCAPE = r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)"
_CONTINUED = r"\\[ \t]*\r?\n[ \t\r\n]*"
_PIECES = {
    '"': re.compile(rf"{_ESCAPE}|.", re.DOTALL),
    "'": re.compile(r"''|.", re.DOTALL),
    '"""': re.compile(rf"(?P<nothing>{_CONTINUED})|{_ESCAPE}|\r\n|.", re.DOTALL),
    "'''": re.compile(r"\r\n|.", re.DOTALL),
}
_FIRST_BREAK = re.compile(r"\r?\n")


def written_at(written: str, start: int, style: str) -> Iterator[int]:
    """Yield where in `written` each character of a text stands, and then where what comes after it stands.

    Args:
        written: any text, with the opening quote at `start`.
        start: of the quote.
        style: the quotes.
    """
    position = start + len(style)
    first_break = _FIRST_BREAK.match(written, position) if len(style) > 1 else None
    if first_break is not None:  # which is no part of the text
        position = first_break.end()
    for piece in _PIECES[style].finditer(written, position):
        if piece.lastgroup != "nothing":
            yield piece.start()
