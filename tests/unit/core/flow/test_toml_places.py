"""Places of TOML: for whatever tomllib takes, what stands at the place of a node is that node."""

import random
import string
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.source import Entry, Node, Placed, Scalar, SourceFile, inside, to_plain
from dfm.core.flow.source import Mapping as MappingNode
from dfm.core.flow.source import Sequence as SequenceNode
from dfm.core.flow.toml_reader import read_toml

Tree = Any
_LETTERS = "abc.z 0-_#[]{}=,'\"\\\t\n\u00e9\u2028\x85\U0001f600${"
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class Raw:
    """A scalar as it is written."""

    text: str


def basic(content: str, rnd: random.Random) -> str:
    return '"' + "".join(_escaped(c, rnd, must=c in _SHORT and c != "\t") for c in content) + '"'


def _escaped(c: str, rnd: random.Random, *, must: bool) -> str:
    if not must and rnd.random() < 0.8:
        return c
    if c in _SHORT and rnd.random() < 0.7:
        return _SHORT[c]
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}"


def long_basic(content: str, rnd: random.Random) -> str:
    written = "\n" if content.startswith("\n") or rnd.random() < 0.5 else ""
    for number, c in enumerate(content):
        if c not in " \t\n" and rnd.random() < 0.2:
            written += "\\  \n \n\t "
        is_third = c == '"' and content[max(0, number - 2) : number] == '""'
        written += _escaped(c, rnd, must=c == "\\" or is_third or (c == '"' and number == len(content) - 3))
    return f'"""{written}"""'


def strings(content: str, rnd: random.Random) -> str:
    forms: list[Callable[[str, random.Random], str]] = [basic, basic]
    if "'" not in content and "\n" not in content:
        forms.append(lambda content, _rnd: f"'{content}'")
    if '""""' not in content:
        forms += [long_basic, long_basic]
    if "'''" not in content:
        forms.append(lambda content, _rnd: f"'''\n{content}'''")
    return rnd.choice(forms)(content, rnd)


_WORDS = ["1", "-1_000", "0x1F", "0b1", "1.5e-3", "inf", "-nan", "true", "false"]
_TIMES = ["1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5-07:00", "1979-05-27", "07:32:00"]
SCALARS = st.sampled_from([*_WORDS, *_TIMES]).map(Raw)
TEXTS = st.text(alphabet=_LETTERS, max_size=8)
NAMES = st.text(alphabet=string.ascii_letters[:6] + "-_ .'\"\\#=]\u00e9", max_size=3)
TREES: st.SearchStrategy[Tree] = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=14,
)
ROOTS = st.dictionaries(NAMES, TREES, max_size=4)


class Writer:
    """Writes a tree as TOML, in one of the many ways there are."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd

    def document(self, root: Mapping[str, Tree]) -> str:
        text = self.filler() + "".join(self.section((), root, header=""))
        return text.replace("\n", "\r\n") if self.rnd.random() < 0.3 else text

    def section(self, path: tuple[str, ...], table: Mapping[str, Tree], header: str) -> Iterator[str]:
        later = []
        pairs: list[str] = []
        for name, value in table.items():
            is_tables = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
            if (isinstance(value, dict) or is_tables) and self.rnd.random() < 0.6:
                later.append((name, value))
            else:
                pairs += self.pairs((name,), value)
        if header and (pairs or not later or header.startswith("[[") or self.rnd.random() < 0.5):
            yield f"{self.blanks()}{header}{self.end()}"
        yield from (f"{self.blanks()}{pair}{self.end()}" for pair in pairs)
        for name, value in later:
            inner = (*path, name)
            dotted = self.dotted(inner)
            if isinstance(value, dict):
                yield from self.section(inner, value, f"[{self.blanks()}{dotted}]")
            else:
                for item in value:
                    yield from self.section(inner, item, f"[[{dotted}{self.blanks()}]]")

    def pairs(self, path: tuple[str, ...], value: Tree) -> Iterator[str]:
        if isinstance(value, dict) and value and self.rnd.random() < 0.5:
            for name, inner in value.items():
                yield from self.pairs((*path, name), inner)
        else:
            yield f"{self.dotted(path)}{self.blanks()}={self.blanks()}{self.value(value)}"

    def value(self, value: Tree) -> str:
        match value:
            case Raw():
                return value.text
            case str():
                return strings(value, self.rnd)
            case list():
                items = [f"{self.filler()}{self.value(item)}{self.filler()}" for item in value]
                comma = f",{self.filler()}" if items and self.rnd.random() < 0.5 else ""
                return f"[{','.join(items)}{comma}{self.filler()}]"
            case _:
                pairs = [pair for name, inner in value.items() for pair in self.pairs((name,), inner)]
                return "{" + ",".join(f"{self.blanks()}{pair}{self.blanks()}" for pair in pairs) + "}"

    def dotted(self, path: Sequence[str]) -> str:
        return f"{self.blanks()}.{self.blanks()}".join(self.key(name) for name in path)

    def key(self, name: str) -> str:
        if name and set(name) <= set(string.ascii_letters + string.digits + "-_") and self.rnd.random() < 0.7:
            return name
        return f"'{name}'" if "'" not in name and self.rnd.random() < 0.5 else basic(name, self.rnd)

    def blanks(self) -> str:
        return self.rnd.choice(["", "", " ", " \t"])

    def end(self) -> str:
        return self.rnd.choice(["\n", "\n", " # [a] = 'x\n", "\n\n"])

    def filler(self) -> str:
        return self.rnd.choice(["", "", " ", "\n", '# ] " \n\t'])


def read(text: str) -> Node:
    diagnostics = Diagnostics()
    node = read_toml(SourceFile("/f.toml", text), diagnostics)
    assert diagnostics.errors == []
    assert node is not None
    return node


def at(text: str, place: Placed) -> str:
    """Return the text from a place on."""
    start = 0
    for _ in range(place.line - 1):
        start = text.index("\n", start) + 1
    return text[start + place.column - 1 :]


def first_value(text: str) -> object:
    """Return the value of the quoted string that a text begins with, by trying ever longer ones."""
    for end in range(1, len(text) + 1):
        if text[end - 1] == text[0] and text[end : end + 1] != text[0]:
            try:
                return tomllib.loads(f"x = {text[:end]}")["x"]
            except tomllib.TOMLDecodeError:
                continue
    raise AssertionError(f"there is no string at {text!r}")


def check(node: Node, content: object, text: str) -> None:
    here = at(text, node)
    match node:
        case MappingNode():
            assert isinstance(content, dict)
            assert list(node.entries) == list(content)
            for name, entry in node.entries.items():
                check_key(name, entry, text)
                check(entry.value, content[name], text)
        case SequenceNode():
            assert isinstance(content, list)
            assert here.startswith("[")
            assert len(node.items) == len(content)
            for item, inner in zip(node.items, content, strict=True):
                check(item, inner, text)
        case Scalar() if node.style:
            assert node.value == node.text == content == first_value(here)
            check_inside(node, text)
        case _:
            assert here.startswith(node.text)
            assert repr(tomllib.loads(f"x = {node.text}")["x"]) == repr(content)
            is_time = isinstance(content, date | datetime | time)
            assert repr(node.value) == repr(node.text if is_time else content)


def check_key(name: str, entry: Entry, text: str) -> None:
    here = at(text, entry.key)
    assert entry.key.text == name
    assert first_value(here) == name if here[0] in "\"'" else here.startswith(name)
    if isinstance(entry.value, MappingNode):
        written = at(text, entry.value)
        assert written[0] in "{[" or written == here


def check_inside(node: Scalar, text: str) -> None:
    assert isinstance(node.value, str)
    for offset, character in enumerate(node.value):
        place = inside(node, offset, 1)
        found = at(text, place)
        if node.style[0] == '"' and found[0] == "\\":
            assert tomllib.loads(f'x = """{found[: place.width]}"""')["x"] == character
        else:
            assert found.removeprefix("\r")[0] == character
    assert at(text, inside(node, len(node.value), 0))[0] in "\\\"'"


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROOTS.filter(bool), st.randoms(use_true_random=False))
def test_what_stands_at_a_place_is_the_value(root: dict[str, Tree], rnd: random.Random) -> None:
    text = Writer(rnd).document(root)
    check(read(text), tomllib.loads(text), text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab.=[]{},\"'\\# \n1", max_size=40))
def test_what_tomllib_takes_is_scanned_and_what_it_refuses_is_told(text: str) -> None:
    diagnostics = Diagnostics()
    node = read_toml(SourceFile("/f.toml", text), diagnostics)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert [(d.code, d.location is not None) for d in diagnostics.errors] == [("toml-syntax", True)]
        return
    assert (None if node is None else to_plain(node)) == (content or None)


def places(text: str) -> dict[str, tuple[int, int]]:
    """Return line and column of each value by its dotted path, and of its key with a colon behind it."""
    found: dict[str, tuple[int, int]] = {}
    stack: list[tuple[str, Node]] = [("", read(text))]
    while stack:
        path, node = stack.pop()
        if path:
            found[path] = (node.line, node.column)
        if isinstance(node, MappingNode):
            for name, entry in node.entries.items():
                inner = f"{path}.{name}".lstrip(".")
                found[f"{inner}:"] = (entry.key.line, entry.key.column)
                stack.append((inner, entry.value))
        elif isinstance(node, SequenceNode):
            stack += [(f"{path}.{number}", item) for number, item in enumerate(node.items)]
    return found


def test_tables_and_arrays_of_tables_stand_at_their_headers() -> None:
    assert places("[p]\nn = 1\n [[p.t]]\nk = 'x'\n[[p.t]]\n") == {
        "p": (1, 1),
        "p:": (1, 2),
        "p.n": (2, 5),
        "p.n:": (2, 1),
        "p.t": (3, 2),
        "p.t:": (3, 6),
        "p.t.0": (3, 2),
        "p.t.0.k": (4, 5),
        "p.t.0.k:": (4, 1),
        "p.t.1": (5, 1),
    }


def test_a_table_that_is_opened_after_its_inner_ones_stands_at_its_own_header() -> None:
    found = places("[a.b]\nx = 1\n[a]\ny = 2\n")
    assert (found["a"], found["a:"], found["a.b"], found["a.b:"]) == ((3, 1), (1, 2), (1, 1), (1, 4))


def test_dotted_keys_and_inline_tables_have_places_of_their_own() -> None:
    assert places("a . 'b' = { c.d = [1, { e = 2 }] }\n") == {
        "a": (1, 1),
        "a:": (1, 1),
        "a.b": (1, 11),
        "a.b:": (1, 5),
        "a.b.c": (1, 13),
        "a.b.c:": (1, 13),
        "a.b.c.d": (1, 19),
        "a.b.c.d:": (1, 15),
        "a.b.c.d.0": (1, 20),
        "a.b.c.d.1": (1, 23),
        "a.b.c.d.1.e": (1, 29),
        "a.b.c.d.1.e:": (1, 25),
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = " + "[" * 70 + "]" * 70, (1, 68)),
        ("a = " + "{b=" * 70 + "1" + "}" * 70, (1, 194)),
        (".".join("a" * 70) + " = 1", (1, 129)),
        ("[" + ".".join("a" * 70) + "]", (1, 130)),
        ("a = " + "[" * 5000 + "]" * 5000, (1, 1)),
    ],
)
def test_what_is_nested_too_deep_is_refused(text: str, place: tuple[int, int]) -> None:
    diagnostics = Diagnostics()
    assert read_toml(SourceFile("/f.toml", text), diagnostics) is None
    (fault,) = diagnostics.errors
    assert fault.location is not None
    assert (fault.code, (fault.location.line, fault.location.column)) == ("too-deep", place)


def test_a_number_that_is_too_long_is_no_bug() -> None:
    diagnostics = Diagnostics()
    assert read_toml(SourceFile("/f.toml", "a = " + "1" * 5000), diagnostics) is None
    assert [fault.code for fault in diagnostics.errors] == ["toml-syntax"]
