"""Packages by name, their settings, their variations, and what stands in the place of what."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dfm.api.hookspecs import PACKAGE_GROUP
from dfm.core.flow.diagnostics import Diagnostic, FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import parse_overrides
from dfm.core.graph.build import Surroundings, build_graph
from dfm.core.graph.node import Node
from dfm.core.graph.select import override_targets, select
from dfm.core.plugins.announced import EntryPoint
from dfm.core.plugins.packages import FOREIGN_GROUP, PackagePlugin, PluginPackages
from dfm.core.std import FLOW_FILE

LIB = (
    "package:\n  name: lib\n  with: {size: {type: int, value: 1}}\n"
    "  configs: [{name: big, with: {size: 9}}]\n"
    "  tasks:\n  - {export: t, run: 'lib ${{ size }}', with: {v: {type: str, value: base}}}\n"
)
MAP = "package-map: {packages: [{name: lib, path: lib.yaml}]}\n"


class Project:
    """Flow files in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {"HOME": "/home/u"}
        self.plugins: list[PackagePlugin] = []

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.directory / (name.replace("__", "/") + ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def load(
        self, text: str, *definitions: str, config: str | None = None, maps: Sequence[str] = (), **files: str
    ) -> Flow:
        self.write(flow=text, **files)
        return load_flow(
            str(self.directory / "flow.yaml"),
            environ=self.environ,
            overrides=parse_overrides(definitions, ()),
            config=config,
            standard_library=FLOW_FILE,
            package_maps=[str(self.directory / name) for name in maps],
            plugins=PluginPackages(self.plugins),
        )

    def faults(self, text: str, **files: str) -> list[Diagnostic]:
        with pytest.raises(FlowInvalid) as caught:
            self.load(text, **files)
        return list(caught.value.diagnostics)

    def nodes(self, flow: Flow, name: str, *definitions: str) -> dict[str, Node]:
        target = select(flow, name)
        overrides = override_targets(flow, parse_overrides(definitions, ()), [target])
        surroundings = Surroundings(environ=self.environ, root_rundir=str(self.directory / "rundir"))
        return {node.name: node for node in build_graph(flow, [target], surroundings, overrides).nodes}

    def texts(self, flow: Flow, name: str, *definitions: str) -> dict[str, str | None]:
        return {node.name: node.text for node in self.nodes(flow, name, *definitions).values() if node.task.script}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def package(tasks: str, *, more: str = "") -> str:
    return f"package:\n  name: p\n{more}  tasks:\n{tasks}"


X = "  - {name: x, needs: [lib.t]}\n"


@pytest.mark.parametrize(
    "more",
    [
        "  imports: [lib.yaml]\n",
        "  imports: [{name: lib, from: lib.yaml}]\n",
        "  package-map: map.yaml\n  imports: [lib]\n",
        "  package-map: map.yaml\n",
        "  package-map: ['${{ srcdir }}/map.yaml']\n",
    ],
)
def test_a_package_is_found_by_its_path_and_by_its_name(project: Project, more: str) -> None:
    flow = project.load(package(X, more=more), lib=LIB, map=MAP)
    assert project.texts(flow, "x") == {"lib.t": "lib 1"}


def test_the_maps_of_the_flow_win_over_those_of_the_command_line_and_these_over_the_environment(
    project: Project,
) -> None:
    project.write(a__lib=LIB, b__lib=LIB.replace("'lib ", "'b "), c__lib=LIB.replace("'lib ", "'c "))
    project.write(**{name: MAP.replace("lib.yaml", f"{name[-1]}/lib.yaml") for name in ("map_a", "map_b", "map_c")})
    project.environ["DV_FLOW_PACKAGE_MAP"] = str(project.directory / "map_c.yaml")
    assert project.texts(project.load(package(X)), "x") == {"lib.t": "c 1"}
    assert project.texts(project.load(package(X), maps=["map_b.yaml"]), "x") == {"lib.t": "b 1"}
    flow = project.load(package(X, more="  package-map: map_a.yaml\n"), maps=["map_b.yaml"])
    assert project.texts(flow, "x") == {"lib.t": "lib 1"}


def test_a_package_that_nothing_names_is_not_read(project: Project) -> None:
    project.write(lib="package: [broken")
    flow = project.load(package("  - {name: x}\n", more="  package-map: map.yaml\n  imports: [lib]\n"), map=MAP)
    assert set(flow.packages) == {"std", "p"}


def test_code_that_makes_tasks_may_name_those_of_every_package_that_is_imported(project: Project) -> None:
    more = "  package-map: map.yaml\n  imports: [lib]\n"
    generator = "  - {name: x, strategy: {generate: {run: 'ctxt.addTask(ctxt.mkTaskNode(\"lib.t\"))'}}}\n"
    assert "lib.t" in project.load(package(generator, more=more), lib=LIB, map=MAP).tasks


def test_an_alias_names_the_package_in_needs_uses_and_expressions(project: Project) -> None:
    flow = project.load(
        package(
            "  - {name: x, needs: [l.t], run: 'x ${{ l.size }}'}\n  - {name: y, uses: l.t, with: {v: own}}\n",
            more="  imports: [{name: lib, from: lib.yaml, as: l}]\n",
        ),
        lib=LIB,
    )
    assert project.texts(flow, "x") == {"p.x": "x 1", "lib.t": "lib 1"}
    assert project.nodes(flow, "y")["p.y"].params == {"v": "own"}


@pytest.mark.parametrize(
    ("settings", "text"),
    [("with: {size: 5}", "lib 5"), ("config: big", "lib 9"), ("config: big, with: {size: 2}", "lib 2")],
)
def test_an_import_sets_parameters_and_the_configuration(project: Project, settings: str, text: str) -> None:
    flow = project.load(package(X, more=f"  imports: [{{from: lib.yaml, {settings}}}]\n"), lib=LIB)
    assert project.texts(flow, "x") == {"lib.t": text}


@pytest.mark.parametrize(
    ("more", "code", "column"),
    [
        ("  imports: [{from: lib.yaml, with: {siez: 1}}]\n", "unknown-parameter", 37),
        ("  imports: [{from: lib.yaml, config: bigg}]\n", "unknown-config", None),
        ("  imports: [{name: lob, from: lib.yaml}]\n", "wrong-package", 31),
        ("  imports: [{from: lib.yaml, as: z}, {from: other.yaml, as: z}]\n", "ambiguous-alias", None),
        ("  imports: [libb]\n", "missing-import", 13),
        ("  package-map: nowhere.yaml\n", "missing-package-map", 16),
        (
            "  imports: [{from: lib.yaml, with: {size: 1}}, {from: lib.yaml, with: {size: 2}}]\n",
            "conflicting-imports",
            None,
        ),
        ("  imports: [lib.yaml, twin.yaml]\n", "duplicate-package", None),
        ("  imports: [circle.yaml]\n", "import-cycle", None),
    ],
)
def test_a_fault_of_an_import_names_its_place(project: Project, more: str, code: str, column: int | None) -> None:
    project.write(other="package: {name: other}\n", twin="package: {name: lib}\n")
    project.write(circle="package: {name: circle, imports: [flow.yaml]}\n")
    found = next(item for item in project.faults(package(X, more=more), lib=LIB) if item.code == code)
    if column is not None:
        assert found.location is not None
        assert (found.location.line, found.location.column) == (3, column)


MakePlugin = Callable[..., PackagePlugin]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePlugin]:
    """Make a module that announces packages."""
    modules: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "site").mkdir()

    def made(name: str, group: str, code: str) -> PackagePlugin:
        module = f"announces_{tmp_path.name.replace('-', '_')}_{len(modules)}"
        modules.append(module)
        (tmp_path / "site" / f"{module}.py").write_text(code, encoding="utf-8")
        return PackagePlugin(name, group, f"dist-{module[-1]}", "1.0", EntryPoint(name, module, group))

    yield made
    for module in modules:
        sys.modules.pop(module, None)


def ours(path: Path) -> str:
    return f"from dfm.core.plugins.packages import hookspecs\n\n\n@hookspecs.hookimpl\ndef dfm_packages():\n    return {{'lib': {str(path)!r}}}\n"


def test_installed_distributions_bring_packages_by_our_hook_and_by_the_older_function(
    project: Project, plugin: MakePlugin
) -> None:
    project.write(lib=LIB)
    path = project.directory / "lib.yaml"
    for group, code in (
        (PACKAGE_GROUP, ours(path)),
        (FOREIGN_GROUP, f"def dvfm_packages():\n    return {{'lib': {str(path)!r}}}\n"),
    ):
        project.plugins = [plugin("lib", group, code)]
        assert project.texts(project.load(package(X)), "x") == {"lib.t": "lib 1"}


def test_a_plugin_that_cannot_be_imported_harms_only_who_wants_its_package(
    project: Project, plugin: MakePlugin
) -> None:
    project.plugins = [plugin("lib", FOREIGN_GROUP, "raise RuntimeError('no licence')\n")]
    project.load(package("  - {name: x}\n"))
    told = "\n".join(f"{item.message} {item.hint}" for item in project.faults(package(X, more="  imports: [lib]\n")))
    assert "dist-0 1.0" in told
    assert "RuntimeError: no licence" in told


def test_two_distributions_that_bring_one_package_are_both_named(project: Project, plugin: MakePlugin) -> None:
    project.write(one__lib=LIB, two__lib=LIB)
    project.plugins = [
        plugin("lib", PACKAGE_GROUP, ours(project.directory / name / "lib.yaml")) for name in ("one", "two")
    ]
    told = "\n".join(item.message for item in project.faults(package(X, more="  imports: [lib]\n")))
    assert "two distributions bring the package 'lib': dist-0 1.0 and dist-1 1.0" in told


def test_a_package_that_uses_another_has_its_tasks_but_for_those_it_replaces(project: Project) -> None:
    base = (
        "package:\n  name: base\n  tasks:\n  - {root: top, needs: [work], run: top}\n  - {name: work, run: old}\n"
        "  - {name: side, run: side}\n"
    )
    flow = project.load(
        package("  - {override: work, run: new}\n", more="  imports: [base.yaml]\n  uses: base\n"), base=base
    )
    assert project.texts(flow, "top") == {"p.top": "top", "p.work": "new"}
    assert project.texts(flow, "base.top") == {"base.top": "top", "base.work": "old"}


CONFIGS = """  with: {mode: {type: str, value: none}, opt: {type: list, value: [a]}}
  configs:
  - {name: base, with: {mode: base}}
  - name: debug
    uses: base
    with: {opt: {append: [g]}}
    extensions: [{task: x, with: {flags: {append: [-g]}}, needs: [extra]}]
    overrides: [{task: y, with: z}]
    tasks: [{name: only_here, run: here}]
"""
TASKS = (
    "  - {name: x, needs: [y], run: 'x ${{ mode }} ${{ opt }} ${{ flags }}', with: {flags: {type: list, value: [-O]}}}\n"
    "  - {name: y, run: y}\n  - {name: z, run: z}\n  - {name: extra, run: extra}\n"
)


def test_a_configuration_varies_parameters_tasks_and_needs(project: Project) -> None:
    plain = project.load(package(TASKS, more=CONFIGS))
    assert project.texts(plain, "x") == {"p.x": 'x none ["a"] ["-O"]', "p.y": "y"}
    debug = project.load(package(TASKS, more=CONFIGS), config="debug")
    assert project.texts(debug, "x") == {"p.x": 'x base ["a","g"] ["-O","-g"]', "p.y": "z", "p.extra": "extra"}
    assert project.texts(debug, "only_here") == {"p.only_here": "here"}


def test_a_configuration_of_a_named_fragment_is_chosen_by_both_names(project: Project) -> None:
    fragment = (
        "fragment:\n  name: f\n  tasks: [{name: t, run: 't ${{ mode }}'}]\n  configs: [{name: c, with: {mode: own}}]\n"
    )
    more = "  with: {mode: {type: str, value: none}}\n  fragments: [frag.yaml]\n"
    flow = project.load(package("  - {name: x, needs: [f.t]}\n", more=more), config="f.c", frag=fragment)
    assert project.texts(flow, "x") == {"p.f.t": "t own"}


def test_overrides_put_a_task_that_is_named_or_written_out_in_the_place_of_another(project: Project) -> None:
    more = "  imports: [lib.yaml]\n  overrides:\n    lib.t: mine\n    p.b: {run: inline}\n"
    tasks = "  - {name: mine, run: mine}\n  - {name: b, run: b}\n  - {name: x, needs: [lib.t, b]}\n"
    flow = project.load(package(tasks, more=more), lib=LIB)
    assert project.texts(flow, "x") == {"lib.t": "mine", "p.b": "inline"}


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ("[Nope]", "unknown-type"),
        ("[std.FileSet]", "not-a-tag"),
        ("[{std.ResourceTag: {coers: 1}}]", "unknown-parameter"),
        ("[{std.ResourceTag: 1}]", "wrong-type"),
        ("[{a: {}, b: {}}]", "wrong-type"),
    ],
)
def test_a_tag_that_is_none_is_told(project: Project, tags: str, code: str) -> None:
    assert [item.code for item in project.faults(package(f"  - {{name: x, tags: {tags}}}\n"))] == [code]


def test_a_filter_is_for_its_own_package_unless_it_is_exported(project: Project) -> None:
    lib = LIB.replace(
        "  tasks:",
        "  filters:\n  - {name: own, expr: 'input'}\n  - {name: twice, export: true, expr: 'input * 2'}\n  tasks:",
    )
    more = "  imports: [lib.yaml]\n"
    flow = project.load(package("  - {name: x, run: '${{ 3 | lib.twice }} ${{ 4 | twice }}'}\n", more=more), lib=lib)
    assert project.texts(flow, "x") == {"p.x": "6 8"}
    flow = project.load(package("  - {name: x, run: '${{ 3 | lib.own }}'}\n", more=more), lib=lib)
    with pytest.raises(FlowInvalid):
        project.nodes(flow, "x")


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ("mode=bye", "x bye base"),
        ("p.mode=bye", "x bye base"),
        ("x.v=set", "x none set"),
        ("p.x.v=set", "x none set"),
        ("v=set", "x none set"),
    ],
)
def test_every_form_of_d_reaches_scripts_and_inherited_parameters(project: Project, definition: str, text: str) -> None:
    more = "  with: {mode: {type: str, value: none}}\n"
    tasks = (
        "  - {name: b, run: 'x ${{ mode }} ${{ v }}', with: {v: {type: str, value: base}}}\n  - {name: x, uses: b}\n"
    )
    flow = project.load(package(tasks, more=more), definition)
    names = () if "mode" in definition else (definition,)
    assert project.texts(flow, "x", *names) == {"p.x": text}
