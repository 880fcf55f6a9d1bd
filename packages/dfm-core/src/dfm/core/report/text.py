"""Text for a terminal: durations, what a log's end says, and nothing that could take the terminal over."""

import os
import re
import unicodedata
from collections.abc import Mapping
from typing import TextIO

MAX_LINE = 500
_TAIL_BYTES = 64 * 1024
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def format_seconds(seconds: float) -> str:
    """Return a duration as a person says it: 0.01 s, 12.3 s, 2:05, 1:02:03."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain(text: str) -> str:
    """Return text without terminal sequences and control characters; tabs become spaces."""
    text = _ESCAPES.sub("", text).expandtabs(8)
    return "".join(c for c in text if c >= " " and not "\x7f" <= c <= "\x9f")


def cut(text: str, most: int = MAX_LINE) -> str:
    """Return a line, shortened with its true length told where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def tail_lines(path: str, count: int = 20) -> list[str]:
    """Return the last lines of a log, however long it is, safe to print; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _TAIL_BYTES)
            file.seek(start)
            content = file.read(_TAIL_BYTES)
    except OSError:
        return []
    lines = content.decode("utf-8", "replace").splitlines()
    if start > 0 and len(lines) > 1:
        lines = lines[1:]
    elif start > 0 and lines:
        lines[0] = f"... {lines[0][-MAX_LINE:]}"
    return [cut(plain(line)) for line in lines[-count:]]


def width_of(text: str) -> int:
    """Return the columns that text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int) -> str:
    """Return the start of a text that fits into a number of columns."""
    if width_of(text) <= columns:
        return text
    result, used = "", 0
    for character in text:
        used += width_of(character)
        if used > columns - 1:
            break
        result += character
    return result + "…" if columns > 0 else ""


def shown_path(path: str, base: str) -> str:
    """Return a path as short as it can be named from `base`."""
    relative = os.path.relpath(path, base)
    return relative if len(relative) < len(path) else path


def use_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour: NO_COLOR and FORCE_COLOR decide, else whether it is a terminal that can."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"
