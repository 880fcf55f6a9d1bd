"""Rows as a table for people: aligned by what is seen, plain text, its head bold where a terminal shows colour."""

import os
import sys
from collections.abc import Sequence

from dfm.core.report.text import plain, use_colour, width_of


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a head; the last column is as long as it is."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(width_of(line[column]) for line in [list(head), *texts]) for column in range(len(head))]
    is_bold = use_colour(sys.stdout, os.environ)
    print(_bold(_line([word.upper() for word in head], widths), is_bold=is_bold))
    for row in texts:
        print(_line(row, widths))


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print names with their values, one a line; what is empty is left out, further lines of a text are indented."""
    is_bold = use_colour(sys.stdout, os.environ)
    width = max(len(name) for name, _ in fields) + 1
    for name, value in fields:
        first, *others = _cell_lines(value) or [""]
        if not first and not others:
            continue
        print(f"{_bold(f'{name}:'.ljust(width), is_bold=is_bold)} {first}".rstrip())
        for line in others:
            print(f"{'':{width}} {line}".rstrip())


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - width_of(cell)) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    return plain(" ".join(_cell_lines(value)))


def _cell_lines(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [", ".join(str(item) for item in value)] if value else []
    return [plain(line) for line in str(value).rstrip("\n").split("\n")]


def _bold(text: str, *, is_bold: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if is_bold else text
