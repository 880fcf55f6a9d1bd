"""YAML with places: what is read, what is refused, and how quickly."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.locate import find_root, read_file, read_flow_file
from dfm.core.flow.source import Mapping, Node, Scalar, SourceFile, inside, to_plain
from dfm.core.flow.yaml_reader import read_yaml


def read(text: str) -> tuple[Node | None, list[tuple[str, int, int]]]:
    diagnostics = Diagnostics()
    node = read_yaml(SourceFile("/f.yaml", text), diagnostics)
    places = [(d.code, d.location.line, d.location.column) for d in diagnostics.errors if d.location is not None]
    return node, places


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 'y', \"z\\n\", null, ~]\n",
        "a: &x {k: v, l: [1, 2.5, 1e3, 0x1f, 0b11, 017, 0o17, 09, 1_000]}\nb: *x\nc: {<<: *x, k: w}\n",
        "a: |\n  line\n    more\nb: >\n  folded\n  text\n",
        "on: yes\noff: No\n? true\n: 3\n".replace("on:", "'on':")
        .replace("off:", "'off':")
        .replace("? true\n: 3\n", ""),
        "- - 1\n  - 2\n- {}\n- []\n",
        "x: !!str 12\ny: !!int '12'\nz: !!float 3\nn: .inf\n",
        "plain: multi\n  line scalar\n",
    ],
)
def test_values_are_those_of_the_safe_loader(text: str) -> None:
    node, places = read(text)
    assert places == []
    assert node is not None
    assert to_plain(node) == yaml.safe_load(text)


def test_times_and_dates_stay_text() -> None:
    node, _ = read("a: 1:30\nb: 2026-01-01\n")
    assert node is not None
    assert to_plain(node) == {"a": "1:30", "b": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1,\nb: 2\n", ("yaml-syntax", 3, 1)),
        ("a:\n\tb: 1\n", ("yaml-syntax", 2, 1)),
        ("a: b: c\n", ("yaml-syntax", 1, 5)),
        ("a: 'x\nb: 1\n", ("yaml-syntax", 1, 4)),
        ("a: *nope\n", ("yaml-syntax", 1, 4)),
        ("a: 1\n---\nb: 2\n", ("yaml-syntax", 2, 1)),
        ("x: !foo 1\n", ("unknown-tag", 1, 4)),
        ("a: 1\na: 2\n", ("duplicate-key", 2, 1)),
        ("? [1]\n: 2\n", ("yaml-syntax", 1, 3)),
        ("- &a [*a]\n", ("recursive-alias", 1, 7)),
        ("", ("empty-file", 1, 1)),
        ("a: " + "[" * 65, ("too-deep", 1, 67)),
    ],
)
def test_a_fault_has_its_line_and_column(text: str, place: tuple[str, int, int]) -> None:
    assert place in read(text)[1]


def test_an_alias_bomb_is_refused_without_being_expanded() -> None:
    rows = ["a: &a [1,1,1,1,1,1,1,1,1]"]
    rows += [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(20)]
    assert read("\n".join(rows))[1][0][0] == "alias-bomb"


def test_a_place_inside_a_scalar_is_exact_for_quoted_and_block_scalars() -> None:
    node, _ = read("a: 'x ${{ y }}'\nb: |\n  one\n  two ${{ z }}\n")
    assert isinstance(node, Mapping)
    quoted, block = node.entries["a"].value, node.entries["b"].value
    assert isinstance(quoted, Scalar)
    assert isinstance(block, Scalar)
    assert isinstance(block.value, str)
    assert (inside(quoted, 6, 1).line, inside(quoted, 6, 1).column) == (1, 11)
    place = inside(block, block.value.index("z"), 1)
    assert (place.line, place.column) == (4, 11)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abc: -[]{}&*!|>'\"\n\t#?%@<,0189.~", max_size=60))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    read(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_make_the_reader_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("f") / "flow.yaml"
    path.write_bytes(content)
    read_flow_file(str(path), Diagnostics())


@pytest.mark.parametrize(
    ("text", "column", "width"),
    [
        (r'a: "\t\x41 \u00e9 ${{ y }}"', 23, 1),
        ("a: 'it''s ${{ y }}'", 15, 1),
        ('a: "${{ "', 4, 6),
        ('a: "one\n  two ${{ y }}"', 4, 18),
    ],
)
def test_a_place_behind_escapes_is_exact(text: str, column: int, width: int) -> None:
    node, _ = read(text)
    assert isinstance(node, Mapping)
    value = node.entries["a"].value
    assert isinstance(value, Scalar)
    assert isinstance(value.value, str)
    found = inside(value, value.value.find("y") if "y" in value.value else 9, 1)
    assert (found.line, found.column, found.width) == (1, column, width)


def test_toml_is_read_with_the_lines_of_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "flow.toml"
    path.write_text('[package]\nname = "p"\n\n[[package.tasks]]\nname = "a"\nrun = "true"\n', encoding="utf-8")
    node = read_flow_file(str(path), Diagnostics())
    assert isinstance(node, Mapping)
    assert to_plain(node) == {"package": {"name": "p", "tasks": [{"name": "a", "run": "true"}]}}
    package = node.entries["package"].value
    assert isinstance(package, Mapping)
    assert package.entries["tasks"].key.line == 4


def test_a_toml_fault_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "flow.toml"
    path.write_text("[package]\nname = \n", encoding="utf-8")
    diagnostics = Diagnostics()
    assert read_flow_file(str(path), diagnostics) is None
    assert [(d.code, d.location.line if d.location else 0) for d in diagnostics.errors] == [("toml-syntax", 2)]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"a: \xff\n", "not-utf-8"), (b"a: \x00\n", "control-character"), (b"a: \x1b[1m\n", "control-character")],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    diagnostics = Diagnostics()
    assert read_file(str(path), diagnostics) is None
    assert [d.code for d in diagnostics.errors] == [code]


def test_the_root_is_the_nearest_package_above_and_a_fragment_is_none(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("package: {name: p}\n", encoding="utf-8")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "flow.dv").write_text("fragment: {tasks: []}\n", encoding="utf-8")
    assert find_root(str(below)) == str(tmp_path / "flow.yaml")
    (tmp_path / "a" / "flow.yml").write_text("package: [\n", encoding="utf-8")
    assert find_root(str(below)) == str(tmp_path / "a" / "flow.yml")
