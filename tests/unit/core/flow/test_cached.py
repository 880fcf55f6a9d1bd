"""Stored flows: taken when nothing changed, and never when anything that the flow was made from did."""

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from dfm.core.flow import asked, cached
from dfm.core.flow.cached import FlowCache, cache_from
from dfm.core.flow.diagnostics import FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import parse_overrides
from dfm.core.flow.stored import from_pieces
from dfm.core.plugins.announced import EntryPoint
from dfm.core.plugins.packages import PackagePlugin, PluginPackages
from dfm.core.std import FLOW_FILE

ROOT = """\
package:
  name: p
  with:
    greeting: {type: str, value: "${{ env.WHO }}"}
  imports: [lib, named]
  fragments: [parts]
  package-map: maps/map.yaml
  tasks:
  - name: a
    shell: sh
    run: "echo ${{ greeting }} > out"
  - {name: b, needs: [lib.x, named.y], consumes: none, uses: a}
"""
FILES = {
    "lib/flow.yaml": "package:\n  name: lib\n  tasks: [{name: x, shell: sh, run: 'true'}]\n",
    "parts/one/flow.yaml": "fragment:\n  tasks: [{name: c, shell: sh, run: 'true'}]\n",
    "elsewhere/flow.yaml": "package:\n  name: named\n  tasks: [{name: y, shell: sh, run: 'true'}]\n",
    "maps/map.yaml": "package-map:\n  packages:\n  - {name: named, path: ../elsewhere}\n",
}


class Project:
    """A flow of several files, and how often it was really loaded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = FlowCache(str(root / "cache"))
        self.environ: dict[str, str] = {"WHO": "me", "OTHER": "1", "PATH": "/bin"}
        self.plugins: Sequence[PackagePlugin] = ()
        self.definitions: Sequence[str] = ()
        self.config: str | None = None
        self.loads = 0

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def load(self) -> Flow:
        overrides = parse_overrides(self.definitions, ())

        def load(environ: Mapping[str, str], plugins: PluginPackages) -> Flow:
            self.loads += 1
            return load_flow(
                str(self.root / "flow.yaml"),
                environ=environ,
                overrides=overrides,
                config=self.config,
                standard_library=FLOW_FILE,
                plugins=plugins,
            )

        asked_for = [str(self.root), list(overrides.names.items()), self.config]
        flow = self.cache.flow(asked_for, self.environ, PluginPackages(self.plugins), overrides, load)
        assert overrides.used == set(overrides.names)
        return flow

    def entries(self) -> list[Path]:
        return sorted((self.root / "cache").glob("*.flow"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    made.write("flow.yaml", ROOT)
    for name, text in FILES.items():
        made.write(name, text)
    return made


@pytest.fixture
def stored(project: Project) -> Project:
    project.load()
    assert project.loads == 1
    return project


def test_a_second_load_takes_what_the_first_one_stored_and_it_is_the_same(project: Project) -> None:
    first, second = project.load(), project.load()
    assert project.loads == 1
    assert list(second.tasks) == list(first.tasks)
    assert second.files == first.files
    a, again = first.tasks["p.a"], second.tasks["p.a"]
    assert (again.location, again.visibility, again.desc, again.srcdir) == (a.location, a.visibility, a.desc, a.srcdir)
    assert again.script is not None
    assert again.script.scope is second.root.scope
    assert second.root.scope.loaded["lib"] is second.packages["lib"].scope
    assert second.root.scope.params == first.root.scope.params == {"greeting": "me"}


def changes() -> dict[str, Callable[[Project], object]]:
    def touched_back(project: Project) -> None:
        """Another content of the same size under the same times."""
        path = project.root / "flow.yaml"
        status = path.stat()
        path.write_text(ROOT.replace("echo", "ohce"), encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def moved_link(project: Project) -> None:
        (project.root / "lib").rename(project.root / "lib-1")
        project.write("lib-2/flow.yaml", FILES["lib/flow.yaml"])
        (project.root / "lib").symlink_to("lib-2")

    return {
        "root file": lambda p: p.write("flow.yaml", ROOT.replace("echo", "printf")),
        "root file, size and times kept": touched_back,
        "imported package": lambda p: p.write("lib/flow.yaml", FILES["lib/flow.yaml"] + "# more\n"),
        "fragment": lambda p: p.write("parts/one/flow.yaml", FILES["parts/one/flow.yaml"].replace("c,", "d,")),
        "new fragment in a directory": lambda p: p.write(
            "parts/two/flow.yaml", "fragment:\n  tasks: [{name: e, shell: sh, run: 'true'}]\n"
        ),
        "package map": lambda p: p.write("maps/map.yaml", FILES["maps/map.yaml"] + "# more\n"),
        "package that the map leads to": lambda p: p.write(
            "elsewhere/flow.yaml", FILES["elsewhere/flow.yaml"] + "# more\n"
        ),
        "file that now comes first": lambda p: p.write("lib/flow.dv", FILES["lib/flow.yaml"]),
        "link that leads elsewhere": moved_link,
        "variable": lambda p: p.environ.update(WHO="you"),
        "directory of DV_FLOW_PATH": lambda p: p.environ.update(DV_FLOW_PATH=str(p.root / "lib")),
        "variable with a package map": lambda p: p.environ.update(DV_FLOW_PACKAGE_MAP=str(p.root / "maps/map.yaml")),
        "definition": lambda p: setattr(p, "definitions", ("greeting=hi",)),
        "announced plugin": lambda p: setattr(p, "plugins", (_plugin("1.0"),)),
    }


@pytest.mark.parametrize("what", changes())
def test_a_change_is_seen(stored: Project, what: str) -> None:
    changes()[what](stored)
    stored.load()
    assert stored.loads == 2


def test_a_variable_that_is_unset_is_a_change(stored: Project) -> None:
    del stored.environ["WHO"]
    with pytest.raises(FlowInvalid):
        stored.load()
    assert stored.loads == 2


def test_a_file_that_is_gone_is_a_change(stored: Project) -> None:
    (stored.root / "lib" / "flow.yaml").unlink()
    with pytest.raises(FlowInvalid):
        stored.load()
    assert stored.loads == 2


def test_a_flow_with_faults_is_told_every_time(project: Project) -> None:
    project.write("flow.yaml", ROOT.replace("lib.x", "lib.unknown"))
    for expected in (1, 2):
        with pytest.raises(FlowInvalid):
            project.load()
        assert project.loads == expected
    assert project.entries() == []


def test_a_variable_that_the_flow_does_not_read_changes_nothing(stored: Project) -> None:
    stored.environ["OTHER"] = "2"
    stored.load()
    assert stored.loads == 1


def test_values_of_variables_are_not_in_an_entry_as_questions(project: Project) -> None:
    project.write("flow.yaml", ROOT.replace('"${{ env.WHO }}"', "\"${{ env.WHO == 'x' }}\""))
    project.environ["WHO"] = "a-secret-value"
    project.load()
    assert b"a-secret-value" not in project.entries()[0].read_bytes()


def test_another_version_of_a_plugin_is_a_change(project: Project) -> None:
    project.plugins = (_plugin("1.0"),)
    project.load()
    project.plugins = (_plugin("1.1"),)
    project.load()
    assert project.loads == 2


@pytest.mark.parametrize("attribute", ["__version__"])
def test_another_version_of_dfm_is_a_change(stored: Project, monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    monkeypatch.setattr(cached, attribute, "99")
    stored.load()
    assert stored.loads == 2


def test_another_python_is_a_change(stored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version", "4.0")
    stored.load()
    assert stored.loads == 2


def test_other_sources_of_dfm_are_a_change(stored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "_sources", lambda: [["core/flow", "model.py", 1, 1]])
    stored.load()
    assert stored.loads == 2


def test_another_current_directory_is_a_change(stored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stored.root / "lib")
    stored.load()
    assert stored.loads == 2


def test_an_entry_is_its_users_alone(stored: Project) -> None:
    found = [path.stat().st_mode & 0o777 for path in (stored.root / "cache").iterdir()]
    assert found == [0o600] * len(found)
    assert (stored.root / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_an_entry_that_others_could_reach_is_none(stored: Project, mode: int) -> None:
    stored.entries()[0].chmod(mode)
    stored.load()
    assert stored.loads == 2


def test_a_directory_that_others_could_write_into_is_not_used(project: Project) -> None:
    (project.root / "cache").mkdir()
    (project.root / "cache").chmod(0o777)
    project.load()
    assert list((project.root / "cache").iterdir()) == []


def test_an_entry_that_is_a_link_is_none(stored: Project) -> None:
    entry = stored.entries()[0]
    entry.rename(stored.root / "moved")
    entry.symlink_to(stored.root / "moved")
    stored.load()
    assert stored.loads == 2


@pytest.mark.parametrize("at", [0, 40, 200, -1])
def test_an_entry_with_one_other_byte_is_none_and_nothing_of_it_is_unpickled(stored: Project, at: int) -> None:
    content = bytearray(stored.entries()[0].read_bytes())
    content[at] ^= 1
    stored.entries()[0].write_bytes(content)
    stored.load()
    assert stored.loads == 2


@pytest.mark.parametrize("kept", [0, 10, 39, 100])
def test_a_piece_of_an_entry_is_none(stored: Project, kept: int) -> None:
    entry = stored.entries()[0]
    entry.write_bytes(entry.read_bytes()[:kept])
    stored.load()
    assert stored.loads == 2


def test_an_entry_under_another_secret_is_none(stored: Project) -> None:
    (stored.root / "cache" / "secret").write_bytes(b"x" * 32)
    stored.load()
    assert stored.loads == 2


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("called",)


def test_even_with_the_right_mac_nothing_but_classes_of_the_model_is_called() -> None:
    with pytest.raises(pickle.UnpicklingError, match="no class of the model"):
        from_pieces([pickle.dumps(Evil())])


def test_old_entries_go(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "MAX_ENTRIES", 2)
    for number in range(4):
        project.definitions = (f"greeting={number}",)
        project.load()
    assert len(project.entries()) == 2


def test_no_home_is_no_cache_and_off_is_off() -> None:
    assert cache_from({}) is None
    assert cache_from({"HOME": "/h", "DFM_FLOW_CACHE": "off"}) is None
    assert cache_from({"HOME": "/h"}) == FlowCache("/h/.cache/dfm/flow")
    assert cache_from({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == FlowCache("/c/dfm/flow")
    assert cache_from({"HOME": "/h", "DFM_FLOW_CACHE": "/own"}) == FlowCache("/own")


def test_loading_asks_the_file_system_by_one_door_only() -> None:
    """A question that goes past it would make a stored flow stale."""
    allowed = {"asked.py", "cached.py", "overrides.py"}
    past: tuple[str, ...] = (
        "os.path.isfile",
        "os.path.isdir",
        "os.path.exists",
        "os.path.realpath",
        "os.walk",
        "os.listdir",
    )
    past += ("os.scandir", "os.stat", "os.lstat", "os.access", "glob(", "read_bytes(", "read_text(", " open(")
    directory = Path(asked.__file__).parent
    found = [
        (path.name, word)
        for path in directory.glob("*.py")
        if path.name not in allowed
        for word in past
        if word in path.read_text(encoding="utf-8").replace("def open(", "")
    ]
    assert found == []


def _plugin(version: str) -> PackagePlugin:
    point = EntryPoint("brought", "brought.module", "dfm_packages")
    return PackagePlugin("brought", "dfm_packages", "brought", version, point)
