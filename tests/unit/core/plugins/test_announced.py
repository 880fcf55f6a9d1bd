"""Entry points read from metadata files: the same that importlib.metadata finds, and nothing imported."""

import importlib.metadata
import os.path
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.core.plugins.announced import Announcement, EntryPoint, announced

Install = Callable[..., None]
METADATA = "Metadata-Version: 2.1\nName: My.Dist\nVersion: 1.2\n\nName: not this\nVersion: 9\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write metadata into directories of the path, `site` and `other`, which have nothing else on it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), str(tmp_path / "missing"), str(tmp_path / "other")])

    def write(points: str, where: str = "site", name: str = "my_dist-1.2.dist-info", metadata: str = METADATA) -> None:
        directory = tmp_path / where / name
        directory.mkdir(parents=True)
        (directory / "entry_points.txt").write_text(points, encoding="utf-8")
        (directory / ("PKG-INFO" if name.endswith(".egg-info") else "METADATA")).write_text(metadata, encoding="utf-8")

    return write


def test_it_finds_what_importlib_finds_in_this_environment() -> None:
    for group in ("console_scripts", "dfm_runners", "pytest11"):
        expected = {
            (point.name, point.value, point.dist.name, point.dist.version)
            for point in importlib.metadata.entry_points(group=group)
            if point.dist is not None
        }
        found = announced(group)
        assert {(a.point.name, a.point.value, a.distribution, a.version) for a in found} == expected


def test_only_the_groups_that_are_asked_for_are_told(install: Install) -> None:
    install("# a remark\n[ours]\na = m\n; another\nb= m.n:o [extra]\n\n[others]\nc = m\n")
    points = [EntryPoint("a", "m", "ours"), EntryPoint("b", "m.n:o [extra]", "ours")]
    assert announced("ours") == [Announcement(point, "My.Dist", "1.2") for point in points]
    assert [a.point.name for a in announced("others", "ours")] == ["a", "b", "c"]
    assert announced("none") == []


def test_of_two_distributions_with_one_name_the_first_on_the_path_counts(install: Install) -> None:
    install("[g]\nfirst = m\n")
    install("[g]\nsecond = m\n", where="other", name="My.Dist-1.0.dist-info")
    install("[g]\nthird = m\n", where="other", name="third.egg-info")
    assert [a.point.name for a in announced("g")] == ["first", "third"]


def test_a_distribution_in_an_archive_is_found(install: Install, tmp_path: Path) -> None:
    install("[g]\nplain = m\n")
    archive = tmp_path / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("other-1.dist-info/entry_points.txt", "[g]\npacked = m\n")
        file.writestr("other-1.dist-info/METADATA", "Name: other\nVersion: 1\n")
    sys.path.insert(0, str(archive))  # the list is the fixture's own
    found = announced("g")
    assert {a.point.name for a in found} == {"plain", "packed"}
    assert Announcement(EntryPoint("packed", "m", "g"), "other", "1") in found


def test_a_finder_that_knows_distributions_is_asked(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    class Brought(importlib.metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            return {"entry_points.txt": "[g]\nbrought = m\n", "METADATA": "Name: b\nVersion: 3\n"}.get(filename)

        def locate_file(self, path: object) -> Path:
            raise NotImplementedError

    class Finder(importlib.metadata.DistributionFinder):
        def find_spec(self, *_: object) -> None:
            return None

        def find_distributions(self, _: object = None) -> list[importlib.metadata.Distribution]:
            return [Brought()]

    install("[g]\nplain = m\n")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert {a.point.name for a in announced("g")} == {"plain", "brought"}


@pytest.mark.parametrize(("value", "expected"), [("os.path", os.path), ("os:path.join [x]", os.path.join)])
def test_an_entry_point_is_the_object_that_it_names(value: str, expected: object) -> None:
    assert EntryPoint("n", value, "g").load() is expected


@pytest.mark.parametrize("value", ["", "no such module", ":attribute"])
def test_a_value_that_names_nothing_is_told(value: str) -> None:
    with pytest.raises(ValueError, match="which is no object"):
        EntryPoint("n", value, "g").load()


def test_a_broken_metadata_file_harms_nobody(install: Install) -> None:
    install("[g]\nno equals sign\n[unclosed\na = m\n", metadata="")
    assert announced("g") == [Announcement(EntryPoint("a", "m", "g"), "", "")]
