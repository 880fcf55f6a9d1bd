"""What may be defined in a text that was not taken in, and what may not."""

from pathlib import Path

import pytest

from dfm.core.flow.lost import Losses

TEXT = "package:\n  name: lib\n  imports: [../deep]\n  tasks:\n  - {name: build\n"


@pytest.fixture
def unparsed(tmp_path: Path) -> str:
    path = tmp_path / "flow.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def may_define(losses: Losses, wanted: str, *, asking: str = "p", is_near: bool = False) -> bool:
    return losses.may_define(wanted, asking, {"p", "std", "other.lib"}, is_near=is_near)


def test_of_a_text_that_can_be_seen_each_word_may_be_a_name(unparsed: str) -> None:
    losses = Losses()
    losses.add_package("p", ["l"], unparsed)
    wanted = ["lib.build", "l.build", "build", "deep.t", "lib.biuld", "biuld", "std.build", "other.lib.build"]
    assert [name for name in wanted if may_define(losses, name)] == ["lib.build", "l.build", "build", "deep.t"]
    assert not may_define(losses, "build", asking="other.lib")


def test_a_fragment_may_define_what_its_package_has_and_other_packages_ask_for(unparsed: str) -> None:
    losses = Losses()
    losses.add_part("p", unparsed)
    assert may_define(losses, "p.build", asking="std")
    assert may_define(losses, "build")
    assert not may_define(losses, "build", asking="std")
    assert not may_define(losses, "p.biuld")


def test_what_nobody_can_see_may_define_what_nothing_else_is_like() -> None:
    losses = Losses()
    losses.add_part("p", None)
    assert may_define(losses, "build")
    assert may_define(losses, "part.build")
    assert not may_define(losses, "biuld", is_near=True)
    assert not may_define(losses, "std.biuld")


def test_a_text_that_leads_to_further_files_is_seen_as_little_as_one_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("fragment: {fragments: [more.yaml]\n", encoding="utf-8")
    losses = Losses()
    losses.add_part("p", str(path))
    assert may_define(losses, "build")


def test_what_a_package_starts_from_has_no_names_of_other_packages() -> None:
    losses = Losses()
    losses.add_base("p")
    assert [may_define(losses, name) for name in ("build", "p.build", "gone.build")] == [True, True, False]
    assert not losses.may_be_package("gone", is_near=False)


def test_a_package_that_is_known_by_name_loses_what_begins_with_it() -> None:
    losses = Losses()
    losses.add_package("p", ["gone", None], None)
    assert [may_define(losses, name) for name in ("gone.t", "gone", "goner.t")] == [True, False, False]
    assert [losses.may_be_named(name, is_near=False) for name in ("gone", "t")] == [True, False]


def test_nothing_is_a_consequence_where_nothing_was_lost() -> None:
    losses = Losses()
    assert not may_define(losses, "x.y")
    assert not losses.may_be_named("x", is_near=False)
    assert not losses.may_be_package("x", is_near=False)
