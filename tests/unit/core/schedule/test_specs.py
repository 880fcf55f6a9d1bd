"""Tasks that code asks for, as items and as text."""

from typing import TYPE_CHECKING

import pytest

from dfm.core.graph.growth import TaskSpec
from dfm.core.schedule.specs import SpecError, specs_from_items, specs_from_text

if TYPE_CHECKING:
    from dfm.api.items import Item


def test_items_of_one_type_ask_for_tasks_and_others_do_not() -> None:
    items: list[Item] = [
        {"type": "std.FileSet", "files": []},
        {"type": "std.TaskRunSpec", "task_type": "p.a", "task_name": "n", "params": {"v": 1}, "needs": ["m"], "seq": 0},
        {"type": "std.TaskRunSpec", "task_type": "p.a"},
    ]
    assert specs_from_items(items, "p.x") == [
        TaskSpec(type="p.a", name="n", params={"v": 1}, needs=["m"]),
        TaskSpec(type="p.a", name="a_1", params={}, needs=[]),
    ]


@pytest.mark.parametrize(
    "text",
    ["- {name: n, uses: p.a, with: {v: 1}, needs: m}", "tasks: [{name: n, type: p.a, params: {v: 1}, needs: [m]}]"],
)
def test_text_asks_for_tasks_as_a_flow_file_writes_them(text: str) -> None:
    assert specs_from_text(text, "p.x") == [TaskSpec(type="p.a", name="n", params={"v": 1}, needs=["m"])]


def test_text_may_ask_for_a_task_that_is_a_mere_script() -> None:
    assert specs_from_text("- {name: n, run: echo x, shell: csh}", "p.x") == [
        TaskSpec(type="", name="n", params={}, needs=[], run="echo x", shell="csh")  # noqa: S604  (a field, not a process)
    ]


def test_no_text_asks_for_no_tasks() -> None:
    assert specs_from_text("", "p.x") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "what its generator prints is no YAML"),
        ("hello", "does not ask for a list of tasks"),
        ("- 1", "task 0 of the list is no mapping"),
        ("- {name: n}", "says neither which task it is made of"),
        ("- {uses: a, rum: x}", "has a 'rum', which has no meaning here"),
        ("- {name: n, run: 3}", "has a `run` or `shell` that is no text"),
        ("- {uses: a, shell: sh}", "has a `shell` and no `run`"),
        ("- {uses: a, with: 3}", "of a wrong type"),
        ("- {uses: a, needs: [1]}", "of a wrong type"),
        ("[{name: n, uses: a}, {name: n, uses: a}]", "two tasks named 'n'"),
    ],
)
def test_what_is_no_list_of_tasks_is_told(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        specs_from_text(text, "p.x")
