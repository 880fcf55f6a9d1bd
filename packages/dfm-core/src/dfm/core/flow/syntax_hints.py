"""What a person most likely meant where a file does not parse: the parsers say what they met, not what to do.

The messages are those of libyaml and PyYAML, which agree but for a word, and of Python's tomllib. One that is not known
here gets no hint.
"""

import re

_KEY = re.compile(r"\s*(?:- +)*(?P<key>[\w.-]+)")
_NO_SPACE = re.compile(r"\s*(?:- +)*[\w.-]+:(?=[^\s/:])")
_BEGINS_NO_VALUE = "%@`*&!|>'\"{["


def yaml_hint(message: str, lines: list[str], line: int, column: int) -> str | None:
    """Return what to do about a fault of YAML.

    Args:
        message: the parser's.
        lines: of the file.
        line: where it met the fault, counted from 1.
        column: also counted from 1.
    """
    here = lines[line - 1] if line <= len(lines) else ""
    before = next((text for text in reversed(lines[: line - 1]) if text.strip()), "")
    if "\t" in here[: max(1, len(here) - len(here.lstrip()))]:
        return "indent with spaces, not with tabs"
    if "${{" in here and "mapping" in message:
        return "put quotes around a value that starts with `${{` or holds `: `"
    if "quoted scalar" in message and "end of stream" in message:
        return "close the quotes"
    if "mapping values are not allowed" in message:
        return _colon_hint(here, before, column)
    if "could not find expected ':'" in message:
        return f"a key ends with `: `, and {before.strip()!r} does not"
    if "did not find expected key" in message:
        if re.search(r"""["'] *\Z""", here[: column - 1]):
            return "put the quotes around the whole value"
        return "indent the keys of one mapping alike"
    if "did not find expected '-' indicator" in message:
        return "indent the items of one list alike, and the keys of each alike"
    first = here[column - 1 : column]
    if "cannot start any token" in message or "alias" in message or "anchor" in message:
        sign = "*" if "alias" in message else "&" if "anchor" in message else first
        return f"put quotes around a value that starts with {sign!r}" if sign in _BEGINS_NO_VALUE else None
    return None


def _colon_hint(here: str, before: str, column: int) -> str | None:
    if ": " in here[: column - 1]:
        return "put quotes around a value that holds `: `"
    if _NO_SPACE.match(before):
        return f"a space follows the colon of a key: {before.strip()!r} has none"
    key = _KEY.match(before)
    if key is None:
        return None
    indent = len(here) - len(here.lstrip())
    if ":" not in before and indent == key.start("key"):
        return f"a key ends with `: `, and {before.strip()!r} does not"
    if ":" in before and indent > key.start("key"):
        return (
            "the key above has a value already, and this line is indented deeper; indent the keys of one mapping alike"
        )
    return None


def toml_hint(message: str, here: str, column: int) -> str | None:
    """Return what to do about a fault of TOML.

    Args:
        message: tomllib's.
        here: the line that has it.
        column: where in the line, counted from 1.
    """
    if message == "Invalid value" and here.startswith("["):
        return "close the list above with `]`"
    if message == "Invalid value":
        word = re.match(r"\w*", here[column - 1 :])
        if word is None or not word[0]:
            return None
        return f"write `{word[0].lower()}`" if word[0].lower() in ("true", "false") else "text stands in quotes"
    if message.startswith("Expected '='"):
        return "TOML has `=` between key and value, not `:`" if here[column - 1 : column] == ":" else None
    if message.startswith("Found invalid character '\\n'") or message == "Illegal character '\\n'":
        return "close the quotes in the same line; text of several lines stands in three quotes"
    if message.startswith("Invalid initial character") and here.rstrip().endswith("{"):
        return "a table in braces stands in one line"
    if message.startswith("Unescaped"):
        return "write `\\\\` for a backslash, or put single quotes around the text"
    if message.startswith("Cannot overwrite"):
        return "the key, or a table of this name, stands there before"
    if message.startswith("Cannot declare"):
        return "a table has one header; of a list, each item has one in double brackets"
    return None
