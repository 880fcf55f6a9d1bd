"""What tasks ask of their machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.api.runner import Resources
from dfm.core.flow.diagnostics import FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.graph.build import Surroundings, build_graph
from dfm.core.graph.select import Selection
from dfm.core.std import FLOW_FILE

HEAD = (
    "package:\n  name: p\n  types:\n"
    "  - name: Big\n    uses: std.ResourceTag\n    with: {memory: {type: str, value: 32G}, queue: {type: str, value: big}}\n"
    "  tasks:\n"
)
Asked = Callable[[str], Resources]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    def of(task: str) -> Resources:
        path = tmp_path / "flow.yaml"
        path.write_text(f"{HEAD}  - {{name: x, run: go, {task}}}\n", encoding="utf-8")
        flow = load_flow(str(path), environ={}, standard_library=FLOW_FILE)
        graph = build_graph(flow, [Selection("p.x")], Surroundings(environ={}, root_rundir="/r"), {})
        return graph.nodes[0].resources

    return of


@pytest.mark.parametrize(
    ("task", "resources"),
    [
        ("desc: nothing", Resources(cores=0)),
        ("tags: [std.ResourceTag]", Resources(cores=0)),
        ("tags: [{std.ResourceTag: {cores: 4}}]", Resources(cores=4)),
        (
            "tags: [{std.ResourceTag: {memory: 512M, walltime: '2:30', resource_class: gpu}}]",
            Resources(cores=0, memory_bytes=512 << 20, wall_seconds=9000, resource_class="gpu"),
        ),
        (
            "tags: [{std.ResourceTag: {resource_class: small, may_grow: true}}]",
            Resources(cores=0, resource_class="small", may_grow=True),
        ),
        ("tags: [Big]", Resources(cores=0, memory_bytes=32 << 30, queue="big")),
        ("tags: [{Big: {memory: 1G}}]", Resources(cores=0, memory_bytes=1 << 30, queue="big")),
        ("with: {n: {type: int, value: 3}}, tags: [{std.ResourceTag: {cores: '${{ n }}'}}]", Resources(cores=3)),
    ],
)
def test_only_what_a_tag_says_is_asked_for(asked: Asked, task: str, resources: Resources) -> None:
    assert asked(task) == resources


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("memory: 12", "'12' is no amount of memory: write it with its unit"),
        ("memory: a lot", "'a lot' is no amount of memory"),
        ("walltime: soon", "'soon' is no duration"),
        ("cores: 0", "0 is no number of cores"),
        ("cores: many", "'many' is not a whole number"),
        ("may_grow: perhaps", "'perhaps' is not a boolean (true or false)"),
        ("cores: '${{ inputs | length }}'", "cannot wait for its inputs"),
    ],
)
def test_an_amount_that_is_none_is_told_with_its_place(asked: Asked, fields: str, message: str) -> None:
    with pytest.raises(FlowInvalid) as caught:
        asked(f"tags: [{{std.ResourceTag: {{{fields}}}}}]")
    (found,) = caught.value.diagnostics
    assert found.code == "bad-resource"
    assert message in found.message
    assert found.location is not None
    assert found.excerpt is not None
    column = found.excerpt.index(fields.partition(": ")[2]) + 1
    assert (found.location.line, found.location.column) == (8, column)
