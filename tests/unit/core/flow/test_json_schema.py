"""The JSON Schema says of a file what the loader says: both come from one table, and no key escapes the comparison."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dfm.core.flow import schema
from dfm.core.flow.decode import decode_file, decode_package_map
from dfm.core.flow.diagnostics import Diagnostic, Diagnostics
from dfm.core.flow.json_schema import flow_schema, package_map_schema
from dfm.core.flow.model import ControlKind
from dfm.core.flow.source import SourceFile, to_plain
from dfm.core.flow.yaml_reader import read_yaml
from dfm.core.std import FLOW_FILE

ROOT = Path(__file__).parents[4]
FLOWS = [*sorted((ROOT / "examples").glob("**/flow.yaml")), Path(FLOW_FILE)]
VALIDATOR = Draft202012Validator(flow_schema())
MAP_VALIDATOR = Draft202012Validator(package_map_schema())

SAMPLES: list[object] = [
    None,
    True,
    3,
    2.5,
    "",
    "word",
    "all",
    "file.py::function",
    [],
    ["a", "b"],
    [1],
    [[]],
    [None],
    [{}],
    [{"name": "x"}],
    {},
    {"name": "x"},
    {"a": {"type": "str"}},
    {"a": 1},
    {"a": {"type": "nonsense"}},
]

PLACES: dict[str, tuple[dict[str, object], str]] = {
    "package": ({"name": "p"}, "package"),
    "fragment": ({}, "fragment"),
    "task": ({"name": "t"}, "package.tasks[]"),
    "cache": ({"enabled": True}, "package.tasks[].cache"),
    "strategy": ({"matrix": {"a": [1]}}, "package.tasks[].strategy"),
    "generate": ({"run": "x"}, "package.tasks[].strategy.generate"),
    "case": ({"when": True}, "package.tasks[].control.cases[]"),
    "state": ({}, "package.tasks[].control.state"),
    "filter": ({"name": "f", "expr": "input"}, "package.filters[]"),
    "override": ({"task": "t", "with": "u"}, "package.overrides[]"),
    "declaration": ({"type": "list"}, "package.tasks[].with.x"),
    "type": ({"name": "T", "uses": "std.DataItem"}, "package.types[]"),
    "import": ({"from": "there"}, "package.imports[]"),
    "config": ({"name": "c"}, "package.configs[]"),
    "extension": ({"task": "t"}, "package.configs[].extensions[]"),
}
"""A sound mapping of each definition, and where it stands in a file."""

AROUND: dict[str, dict[str, object]] = {
    "package": {"name": "p"},
    "tasks": {"name": "t"},
    "control": {"type": "match"},
    "configs": {"name": "c"},
}


def placed(value: object, path: str) -> dict[str, object]:
    """Return a file that has `value` at a place, with all that has to be around it."""
    first, _, rest = path.partition(".")
    name = first.removesuffix("[]")
    inner = value if not rest else {**AROUND.get(name, {}), **placed(value, rest)}
    return {name: [inner] if first.endswith("[]") else inner}


def file_with(definition: str, key: str | None, value: object) -> dict[str, object]:
    sound, path = PLACES[definition]
    if key in ("root", "export", "local") and definition == "task":
        sound = {}
    elif key in ("override", "package") and definition == "override":
        sound = {"with": "u"}
    mapping = dict(sound) if key is None else {**sound, key: value}
    if definition == "state":
        control = {"type": "repeat", "count": 2, "state": mapping}
        return placed(control, "package.tasks[].control")
    return placed(mapping, path)


def errors_in(text: str) -> list[Diagnostic]:
    diagnostics = Diagnostics()
    node = read_yaml(SourceFile("/flow.yaml", text), diagnostics)
    assert node is not None, text
    decode_file(node, diagnostics)
    return list(diagnostics.errors)


def faults_of(document: object) -> list[str]:
    errors = errors_in(yaml.safe_dump(document, sort_keys=False))
    return [fault.code for fault in errors if fault.code not in TOLD_BY_THE_LOADER_ONLY]


def place_of(text: str, key: str) -> tuple[int, int]:
    """Return line and column of a key that comes last in a text."""
    start = text.rindex(f"{key}:")
    before = text[:start].split("\n")
    return len(before), len(before[-1]) + 1


TOLD_BY_THE_LOADER_ONLY = {
    "bad-name",
    "two-names",
    "two-bodies",
    "run-and-body",
    "run-and-pytask",
    "shell-and-pytask",
    "shell-without-run",
    "template-and-override",
    "control-and-strategy",
    "generate-and-body",
    "two-strategies",
    "bad-case",
}
"""Faults of several keys together, and of texts: a schema for editors need not tell them."""


TOLD_TOGETHER = {"misplaced-key", "bad-filter", "two-names"}
"""Two keys that do not go together: nothing is learnt of the one under test."""


def cases() -> Iterator[tuple[str, str]]:
    for definition in PLACES:
        table = schema.DEFINITIONS[definition].table
        assert table is not None
        yield from ((definition, key.name) for key in table.values() if key.name != "tags")


@pytest.mark.parametrize(("definition", "key"), list(cases()))
def test_loader_and_schema_agree_on_every_kind_of_value(definition: str, key: str) -> None:
    for value in SAMPLES:
        document = file_with(definition, key, value)
        faults = faults_of(document)
        if any(code in TOLD_TOGETHER for code in faults):
            continue
        assert VALIDATOR.is_valid(document) == (not faults), (value, faults)


@pytest.mark.parametrize(("definition", "key"), list(cases()))
def test_a_value_of_a_wrong_type_is_told_where_it_stands(definition: str, key: str) -> None:
    for value in SAMPLES:
        document = file_with(definition, key, value)
        if VALIDATOR.is_valid(document) or f"{key}:" in yaml.safe_dump(value):
            continue
        text = yaml.safe_dump(document, sort_keys=False)
        places = [fault.location for fault in errors_in(text)]
        assert all(place is not None and place.column is not None for place in places)
        assert any(place and (place.line, place.column or 0) >= place_of(text, key) for place in places), text


@pytest.mark.parametrize("definition", PLACES)
def test_a_sound_mapping_of_each_kind_is_sound_for_both(definition: str) -> None:
    document = file_with(definition, None, None)
    assert faults_of(document) == []
    assert VALIDATOR.is_valid(document)


@pytest.mark.parametrize("definition", PLACES)
def test_an_unknown_key_is_refused_by_both_at_every_level(definition: str) -> None:
    document = file_with(definition, "nonsense", 1)
    text = yaml.safe_dump(document, sort_keys=False)
    [fault] = errors_in(text)
    assert fault.location is not None
    assert (fault.code, (fault.location.line, fault.location.column)) == ("unknown-key", place_of(text, "nonsense"))
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("kind", list(ControlKind))
def test_each_kind_of_control_needs_and_allows_the_same_keys_for_both(kind: ControlKind) -> None:
    needed, allowed = schema.CONTROL_KEYS[kind]
    body: list[object] = [{"when": True, "body": []}]
    values = {
        "cond": True,
        "until": True,
        "cases": body,
        "count": 2,
        "max_iter": 3,
        "state": {"init": {"a": 1}},
        "else": [{"name": "e"}],
    }
    sound = {"type": str(kind)} | {name: values[name] for name in needed}
    variants = [sound, sound | {name: values[name] for name in allowed}]
    variants += [{key: value for key, value in sound.items() if key != name} for name in needed]
    variants += [sound | {name: values[name]} for name in values]
    for control in variants:
        document = placed(control, "package.tasks[].control")
        assert VALIDATOR.is_valid(document) == (not faults_of(document)), control


def test_every_key_says_what_it_is_for() -> None:
    tables = [item.table for item in schema.DEFINITIONS.values() if item.table is not None]
    assert not [key for table in tables for key in table.values() if len(key.doc) < 4]
    described: Any = flow_schema()["$defs"]
    assert not [
        (name, key)
        for name, definition in described.items()
        for branch in [definition, *definition.get("anyOf", [])]
        for key, value in branch.get("properties", {}).items()
        if not value.get("description")
    ]


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(flow_schema())
    Draft202012Validator.check_schema(package_map_schema())


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.parent.name)
def test_the_flows_we_ship_are_valid(path: Path) -> None:
    node = read_yaml(SourceFile(str(path), path.read_text(encoding="utf-8")), Diagnostics())
    assert node is not None
    assert [error.message for error in VALIDATOR.iter_errors(to_plain(node))] == []


@pytest.mark.parametrize(
    "document",
    [
        {"package-map": {"packages": [{"name": "a", "path": "a/flow.yaml"}]}},
        {"package-map": {"packages": None}},
        {"package-map": {"packages": [{"name": "a"}]}},
        {"package-map": {"packages": [{"path": "a"}]}},
        {"package-map": {"package": []}},
        {"package-map": []},
        {"packages": []},
    ],
)
def test_loader_and_schema_agree_on_package_maps(document: object) -> None:
    diagnostics = Diagnostics()
    node = read_yaml(SourceFile("/map.yaml", yaml.safe_dump(document)), diagnostics)
    assert node is not None
    decode_package_map(node, diagnostics)
    assert MAP_VALIDATOR.is_valid(document) == (not diagnostics.errors)
