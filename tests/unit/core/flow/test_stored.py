"""A flow as bytes and back: the same flow, in however many pieces, with all that was shared still shared."""

import math
from collections.abc import Callable

import pytest

from dfm.core.flow import stored
from dfm.core.flow.model import Flow
from dfm.core.flow.stored import from_pieces, pieces_of, to_parts

Load = Callable[..., Flow]

FLOW = """\
package:
  name: p
  with: {who: {type: str, value: me}}
  imports: [lib]
  filters: [{name: loud, expr: "input | upper"}]
  types: [{name: Kind, uses: std.Tag, with: {speed: {type: int, value: 1}}}]
  tasks:
  - name: base
    shell: sh
    run: "echo ${{ msg }}"
    with: {msg: {type: str, value: "${{ who }}"}}
    tags: [{Kind: {speed: 2}}]
  - {name: a, uses: base, with: {msg: a}}
  - {name: b, uses: base, needs: [a, lib.x]}
  - name: whole
    strategy: {matrix: {seed: [1, 2]}}
    body:
    - {name: inner, uses: base}
    - {name: last, needs: [inner], shell: sh, run: "true"}
  - name: loop
    control: {type: repeat, count: 2}
    body: [{name: step, uses: std.Message}]
  - {override: a, with: {msg: other}}
"""
LIBRARY = "package:\n  name: lib\n  tasks: [{name: x, shell: sh, run: 'true'}, {name: y, uses: x}]\n"


@pytest.fixture(params=[1, 2, 1_000])
def flow(load: Load, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Flow:
    monkeypatch.setattr(stored, "PIECE", request.param)
    return load(FLOW, lib__flow_yaml=LIBRARY)


def brought_back(flow: Flow) -> Flow:
    pieces = pieces_of(memoryview(b"".join(to_parts(flow, set()))))
    found, used = from_pieces(pieces)
    assert (pieces, used) == ([], set())
    return found


def test_what_comes_back_is_what_was_stored(flow: Flow) -> None:
    again = brought_back(flow)
    assert list(again.tasks) == list(flow.tasks)
    assert repr(again) == repr(flow)


def test_each_package_has_the_tasks_of_the_flow_and_no_copies(flow: Flow) -> None:
    again = brought_back(flow)
    assert again.root is again.packages["p"]
    assert {name: list(package.tasks) for name, package in again.packages.items()} == {
        name: list(package.tasks) for name, package in flow.packages.items()
    }
    for package in again.packages.values():
        assert all(again.tasks[name] is task for name, task in package.tasks.items())


def test_what_tasks_inherit_is_one_object_in_all_pieces(flow: Flow) -> None:
    again = brought_back(flow)
    base, heir, lone = again.tasks["p.base"], again.tasks["p.b"], again.tasks["p.whole"]
    inner = lone.body[0]
    assert heir.assignments[0] is base.assignments[0]
    assert inner.script is heir.script is base.script
    scopes = {id(task.package) for name, task in again.tasks.items() if name.startswith("p.")}
    assert scopes == {id(again.root.scope)}


def test_tasks_of_one_file_share_it_in_all_pieces(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "PIECE", 1)
    again = brought_back(load("package:\n  name: p\n  tasks: [{name: a}, {name: b}]\n"))
    assert again.tasks["p.a"].at.file is again.tasks["p.b"].at.file


def test_a_piece_holds_so_many_tasks(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "PIECE", 3)
    flow = load("package:\n  name: p\n  tasks: [{name: a}, {name: b}, {name: c}]\n")
    *others, _ = pieces_of(memoryview(b"".join(to_parts(flow, set()))))
    assert len(others) == math.ceil(len(flow.tasks) / 3)
