"""What is told to do about the mistakes that people make most often when they write a flow file."""

import pytest

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.source import SourceFile
from dfm.core.flow.toml_reader import read_toml
from dfm.core.flow.yaml_reader import read_yaml


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a:\n\tb: 1\n", (2, 1), "indent with spaces, not with tabs"),
        ("a: b: c\n", (1, 5), "put quotes around a value that holds `: `"),
        ("- name a\n  run: x\n", (2, 6), "a key ends with `: `, and '- name a' does not"),
        ("- name:a\n  run: x\n", (2, 6), "a space follows the colon of a key: '- name:a' has none"),
        ("a:\n  tasks\n  - b\n  c: d\n", (4, 4), None),
        ("a:\n  tasks\n  b: c\n", (3, 4), "a key ends with `: `, and 'tasks' does not"),
        ("p:\n  tasks\n  - n: a\n    run: b\n", (3, 6), "a key ends with `: `, and 'tasks' does not"),
        (
            "- name: a\n   run: x\n",
            (2, 7),
            "the key above has a value already, and this line is indented deeper; indent the keys of one mapping alike",
        ),
        ("a:\n  b: c\n d: e\n", (3, 2), "indent the keys of one mapping alike"),
        ("a:\n  - b: c\n   d: e\n", (3, 4), "indent the items of one list alike, and the keys of each alike"),
        ('a: "x" y\n', (1, 8), "put the quotes around the whole value"),
        ("a: %b\n", (1, 4), "put quotes around a value that starts with '%'"),
        ("a: `b`\n", (1, 4), "put quotes around a value that starts with '`'"),
        ("a: *.sv\n", (1, 5), "put quotes around a value that starts with '*'"),
        ("a: {b: ${{ c }}}\n", (1, 9), "put quotes around a value that starts with `${{` or holds `: `"),
        (
            "a: {{ b }}\n",
            (1, 5),
            'braces are a mapping in YAML; put quotes around a value that holds `{{`, as in "${{ name }}"',
        ),
        ("a: 'b\nc: d\n", (1, 4), "close the quotes"),
        ("a: &base b\nc: *bse\n", (2, 4), "did you mean 'base'?"),
        ("a: [b\nc: d\n", (2, 2), None),
    ],
)
def test_yaml(text: str, place: tuple[int, int], hint: str | None) -> None:
    diagnostics = Diagnostics()
    assert read_yaml(SourceFile("/f.yaml", text), diagnostics) is None
    fault = diagnostics.errors[0]
    assert fault.location is not None
    assert ((fault.location.line, fault.location.column), fault.hint) == (place, hint)


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a = b\n", (1, 5), "text stands in quotes"),
        ("a = True\n", (1, 5), "write `true`"),
        ("a: 'b'\n", (1, 2), "TOML has `=` between key and value, not `:`"),
        (
            "a = 'b\nc = 'd'\n",
            (1, 7),
            "close the quotes in the same line; text of several lines stands in three quotes",
        ),
        (
            'a = "b\nc = 1\n',
            (1, 7),
            "close the quotes in the same line; text of several lines stands in three quotes",
        ),
        ('a = "\\d"\n', (1, 8), "write `\\\\` for a backslash, or put single quotes around the text"),
        ("a = 1\na = 2\n", (2, 6), "the key, or a table of this name, stands there before"),
        ("[a]\n[a]\n", (2, 3), "a table has one header; of a list, each item has one in double brackets"),
        ("a = ['b',\n[[c]]\n", (2, 3), "close the list above with `]`"),
        ("a = {\nb = 1 }\n", (1, 6), "a table in braces stands in one line"),
        ("a = \n", (1, 5), None),
        ("a = 'x\\'\n'\n", (2, 1), None),
    ],
)
def test_toml(text: str, place: tuple[int, int], hint: str | None) -> None:
    diagnostics = Diagnostics()
    assert read_toml(SourceFile("/f.toml", text), diagnostics) is None
    (fault,) = diagnostics.errors
    assert fault.location is not None
    assert ((fault.location.line, fault.location.column), fault.hint) == (place, hint)
