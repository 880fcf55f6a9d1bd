"""Resource classes that the settings do not have, told with the tasks that ask for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.api.errors import FlowError
from dfm.api.runner import Resources
from dfm.core.config.resources import ResourceRules
from dfm.core.config.settings import ResourceClass, ResourceDefaults
from dfm.core.flow.diagnostics import FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.granting import Grants
from dfm.core.graph.build import Surroundings, build_graph
from dfm.core.graph.node import Node
from dfm.core.graph.select import Selection
from dfm.core.std import FLOW_FILE

Nodes = Callable[[str], list[Node]]
RULES = ResourceRules(ResourceDefaults(), {"big": ResourceClass(cores=8)})


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """Return the nodes of the task `x` of a flow with these tasks."""
    monkeypatch.chdir(tmp_path)

    def of(tasks: str) -> list[Node]:
        text = f"package:\n  name: p\n  tasks:\n{tasks}"
        Path("flow.yaml").write_text(text, encoding="utf-8")
        flow = load_flow("flow.yaml", environ={}, standard_library=FLOW_FILE)
        return build_graph(flow, [Selection("p.x")], Surroundings(environ={}, root_rundir="/r"), {}).nodes

    return of


def test_an_unknown_class_is_told_with_task_place_and_suggestion(nodes: Nodes) -> None:
    found = nodes("  - {name: x, run: go, tags: [{std.ResourceTag: {resource_class: bgi}}]}\n")
    with pytest.raises(FlowInvalid) as caught:
        Grants(RULES.resolve).check(found)
    [told] = caught.value.diagnostics
    assert (told.code, told.message, str(told.location), told.hint) == (
        "unknown-resource-class",
        "there is no resource class 'bgi', which task p.x asks for",
        "flow.yaml:4:66",
        "did you mean 'big'?",
    )


def test_every_unknown_class_is_told_once_for_all_tasks_that_name_it_there(nodes: Nodes) -> None:
    found = nodes(
        "  - {name: y, run: go, tags: [{std.ResourceTag: {resource_class: gpu}}]}\n"
        "  - name: x\n    needs: [y]\n    strategy: {matrix: {n: [1, 2, 3, 4, 5]}}\n"
        "    body:\n    - {name: s, run: go, tags: [{std.ResourceTag: {resource_class: nix}}]}\n"
    )
    with pytest.raises(FlowInvalid) as caught:
        Grants(RULES.resolve).check(found)
    assert [told.message for told in caught.value.diagnostics] == [
        "there is no resource class 'gpu', which task p.y asks for",
        "there is no resource class 'nix', which tasks p.x.s_0, p.x.s_1, p.x.s_2 and 2 more ask for",
    ]


def test_a_task_that_never_runs_may_name_any_class(nodes: Nodes) -> None:
    found = nodes("  - {name: x, run: go, iff: false, tags: [{std.ResourceTag: {resource_class: bgi}}]}\n")
    Grants(RULES.resolve).check(found)


def test_a_task_that_comes_later_is_named_when_its_turn_comes(nodes: Nodes) -> None:
    [node] = nodes("  - {name: x, run: go, tags: [{std.ResourceTag: {resource_class: bgi}}]}\n")
    with pytest.raises(FlowError, match=r"flow.yaml:4:66: .*no resource class 'bgi', which task p.x asks for"):
        Grants(RULES.resolve)(node)


def test_each_distinct_request_is_settled_once(nodes: Nodes) -> None:
    asked: list[Resources] = []

    def resolve(resources: Resources) -> Resources:
        asked.append(resources)
        return RULES.resolve(resources)

    found = nodes(
        "  - name: x\n    strategy: {matrix: {n: [1, 2, 3, 4, 5]}}\n"
        "    body:\n    - {name: s, run: go, tags: [{std.ResourceTag: {resource_class: big}}]}\n"
    )
    bodies = [node for node in found if node.task.script is not None]
    grants = Grants(resolve)
    grants.check(found)
    assert {grants(node).cores for node in bodies} == {8}
    assert (len(bodies), asked) == (5, [Resources(cores=0, resource_class="big")])
