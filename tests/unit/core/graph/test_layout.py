"""Names of run directories in the layout `leaf`."""

import pytest

from dfm.core.graph.layout import Layout, LeafNames, suffixes


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (["debug", "release"], ["~debug", "~release"]),
        ([1, 2.5, True], ["~1", "~2.5", "~true"]),
        (["a/b", "a_b"], ["_0", "_1"]),
        (["same", "same"], ["_0", "_1"]),
        ([1, "1"], ["_0", "_1"]),
        ([{"name": "x"}], ["_0"]),
        (["x" * 61, ""], ["_0", "_1"]),
        ([], []),
    ],
)
def test_a_value_names_its_cell_where_all_are_short_words_and_no_two_the_same(
    axis: list[object], expected: list[str]
) -> None:
    assert suffixes(axis, Layout.LEAF) == expected
    assert suffixes(axis, Layout.LEGACY) == [f"_{index}" for index in range(len(axis))]


@pytest.mark.parametrize(
    ("name", "outer", "directory"),
    [("p.c.x", "p.c", "x"), ("p.c.x~1", "p.c", "x~1"), ("p.c~1.5", "p.c", "c~1.5"), ("p.c.n.v1.2", "p.c.n", "v1.2")],
)
def test_a_sub_task_has_its_own_name_and_a_copy_that_of_its_task(name: str, outer: str, directory: str) -> None:
    assert LeafNames.of_sub_task(name, outer, outer.rpartition(".")[2]) == directory
