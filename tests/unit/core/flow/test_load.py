"""What a flow file means, and what is said of its faults."""

from collections.abc import Callable

import pytest

from dfm.core.flow.diagnostics import Diagnostic
from dfm.core.flow.model import Consumes, Flow, Passthrough, Visibility

Load = Callable[..., Flow]
Faults = Callable[..., list[Diagnostic]]


def needs(flow: Flow, task: str) -> list[str | None]:
    return [need.target or need.sibling for need in flow.tasks[task].needs]


def test_a_task_has_the_package_as_prefix(load: Load) -> None:
    flow = load("package: {name: p, tasks: [{name: a, run: 'true'}]}")
    assert list(flow.root.tasks) == ["p.a"]


def test_inline_markers_and_scope_add_up(load: Load) -> None:
    flow = load("package: {name: p, tasks: [{root: a, scope: export}, {local: b}, {export: c}, {name: d}]}")
    assert [task.visibility for task in flow.root.tasks.values()] == [
        {Visibility.ROOT, Visibility.EXPORT},
        {Visibility.LOCAL},
        {Visibility.EXPORT},
        {Visibility.PACKAGE},
    ]


def test_a_derived_task_adds_its_needs_to_those_of_its_base(load: Load) -> None:
    flow = load(
        "package: {name: p, tasks: [{name: a}, {name: b}, {name: base, needs: [a]}, {name: c, uses: base, needs: b}]}"
    )
    assert needs(flow, "p.c") == ["p.a", "p.b"]


def test_a_derived_task_inherits_script_and_data_flow_and_not_iff(load: Load) -> None:
    flow = load(
        "package: {name: p, tasks: [{name: a, run: echo hi, shell: sh, consumes: none, passthrough: all, "
        "iff: false, rundir: inherit}, {name: b, uses: a}]}"
    )
    task = flow.tasks["p.b"]
    assert task.script is not None
    assert (task.script.text.value, task.script.shell) == ("echo hi", "sh")
    assert (task.consumes, task.passthrough) == (Consumes.NONE, Passthrough.ALL)
    assert (task.iff, task.inherits_rundir) == (None, False)


def test_a_need_may_mean_what_another_task_needs(load: Load) -> None:
    flow = load("package: {name: p, tasks: [{name: a}, {name: b, needs: a}, {name: c, needs: b.needs}]}")
    need = flow.tasks["p.c"].needs[0]
    assert (need.target, need.is_needs_of) == ("p.b", True)


def test_feeds_turns_into_a_need_of_the_fed_task(load: Load) -> None:
    flow = load("package: {name: p, tasks: [{name: a, feeds: b}, {name: b}]}")
    assert needs(flow, "p.b") == ["p.a"]


def test_uses_may_depend_on_a_package_parameter(load: Load) -> None:
    text = (
        "package: {name: p, with: {sim: {type: str, value: vlt}}, tasks: [{name: vlt}, {name: mti}, "
        "{name: run, uses: '${{ sim }}', needs: '${{ sim }}'}]}"
    )
    assert load(text).tasks["p.run"].bases == ("p.vlt",)
    assert load(text, "sim=mti").tasks["p.run"].bases == ("p.mti",)
    assert needs(load(text, "p.sim=mti"), "p.run") == ["p.mti"]


def test_an_unnamed_fragment_shares_the_package_and_a_named_one_has_a_prefix(load: Load) -> None:
    flow = load(
        "package: {name: p, fragments: [x.yaml, sub], tasks: [{name: top, needs: [a, f.b]}]}",
        x_yaml="fragment: {tasks: [{name: a}]}",
        sub__flow_yaml="fragment: {name: f, tasks: [{name: b, needs: c}, {name: c}]}",
    )
    assert list(flow.root.tasks) == ["p.top", "p.a", "p.f.b", "p.f.c"]
    assert needs(flow, "p.f.b") == ["p.f.c"]
    assert flow.tasks["p.f.b"].srcdir.endswith("/sub")


def test_an_imported_package_is_named_with_its_own_name_or_its_alias(load: Load) -> None:
    flow = load(
        "package: {name: p, imports: [{from: lib, as: l}], tasks: [{name: a, needs: [l.x, lib.x, x]}]}",
        lib__flow_yaml="package: {name: lib, tasks: [{export: x}]}",
    )
    assert needs(flow, "p.a") == ["lib.x", "lib.x", "lib.x"]


def test_a_configuration_sets_parameters_over_the_one_it_uses(load: Load) -> None:
    text = (
        "package: {name: p, with: {a: {type: int, value: 1}, b: {type: int, value: 1}}, configs: ["
        "{name: fast, with: {a: 2}}, {name: faster, uses: fast, with: {b: 3}}]}"
    )
    assert load(text).root.scope.params == {"a": 1, "b": 1}
    assert load(text, config="faster").root.scope.params == {"a": 2, "b": 3}
    assert load(text, "b=7", config="faster").root.scope.params == {"a": 2, "b": 7}


def test_a_task_that_uses_a_type_emits_it(load: Load) -> None:
    flow = load(
        "package: {name: p, types: [{name: T, with: {x: {type: int, value: 1}}}], "
        "tasks: [{name: a, uses: T, with: {x: 2}}]}"
    )
    assert flow.tasks["p.a"].emits == "p.T"


@pytest.mark.parametrize(
    ("text", "code", "place", "part"),
    [
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    need: [b]\n",
            "unknown-key",
            (5, 5),
            "needs",
        ),
        ("package:\n  nam: p\n", "unknown-key", (2, 3), "name"),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    needs: [bb]\n  - name: b\n",
            "unknown-task",
            (5, 13),
            "'b'",
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n  - name: a\n",
            "duplicate-task",
            (5, 5),
            None,
        ),
        ("package:\n  name: p\n  tasks:\n  - name: ../a\n", "bad-name", (4, 11), None),
        ("package:\n  name: p\n  tasks:\n  - name: /etc/a\n", "bad-name", (4, 11), None),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    uses: std.Mesage\n",
            "unknown-task",
            (5, 11),
            "std.Message",
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    uses: std.Message\n    with: {mesg: hi}\n",
            "unknown-parameter",
            (6, 12),
            "msg",
        ),
        ("package:\n  name: p\n  with:\n    a: 3\n", "missing-type", (4, 5), None),
        ("package:\n  name: p\n  with:\n    a: {type: itn}\n", "unknown-type", (4, 15), "int"),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    strategy: {chain: true}\n",
            "missing-key",
            (4, 5),
            "body",
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    strategy: {generate: {run: x}}\n    body: [{name: b}]\n",
            "generate-and-body",
            (5, 26),
            None,
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    on_error: sum up\n    body: [{name: b}]\n",
            "bad-value",
            (5, 15),
            None,
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    uptodate: true or false\n",
            "wrong-type",
            (5, 15),
            None,
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    control: {type: while, cond: true}\n    body: [{name: b}]\n",
            "missing-key",
            (5, 14),
            None,
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    cache: {enabeld: true}\n",
            "unknown-key",
            (5, 13),
            "enabled",
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    run: echo ${{ 1 + }}\n",
            "bad-expression",
            None,
            None,
        ),
        (
            "package:\n  name: p\n  tasks:\n  - name: a\n    rundir: uniqe\n",
            "bad-value",
            (5, 13),
            "unique",
        ),
        ("package:\n  name: p\n  tasks: {name: a}\n", "wrong-type", None, None),
        ("package:\n  name: p\n  fragments: [nothing.yaml]\n", "missing-fragment", (3, 15), None),
        ("package:\n  name: p\n  imports: [nothing]\n", "missing-import", (3, 13), None),
        (
            "package:\n  name: p\n  tasks:\n  - {name: a, uses: b}\n  - {name: b, uses: a}\n",
            "uses-cycle",
            None,
            None,
        ),
        ("task: 1\n", "unknown-key", (1, 1), None),
    ],
)
def test_a_fault_names_its_place_and_what_was_meant(
    faults: Faults, text: str, code: str, place: tuple[int, int] | None, part: str | None
) -> None:
    found = next(item for item in faults(text) if item.code == code)
    assert found.location is not None
    if place is not None:
        assert (found.location.line, found.location.column) == place
    if part is not None:
        assert found.hint is not None
        assert part in found.hint


def test_all_faults_are_told_at_once(faults: Faults) -> None:
    found = faults(
        "package:\n  name: p\n  tasks:\n  - name: a\n    need: [b]\n  - name: c\n    needs: [d]\n"
        "    shel: bash\n  - nam: x\n"
    )
    assert [(item.code, item.location.line if item.location else 0) for item in found] == [
        ("unknown-key", 5),
        ("unknown-task", 7),
        ("unknown-key", 8),
        ("unknown-key", 9),
    ]


def test_a_cycle_is_told_as_a_path(faults: Faults) -> None:
    found = faults("package: {name: p, tasks: [{name: a, needs: b}, {name: b, needs: c}, {name: c, needs: a}]}")
    assert [item.message for item in found] == ["the needs go round in a circle: p.a -> p.b -> p.c -> p.a"]


def test_packages_that_import_each_other_are_told_as_a_path(faults: Faults) -> None:
    found = faults("package: {name: p, imports: [lib]}", lib__flow_yaml="package: {name: lib, imports: [..]}")
    assert "import-cycle" in {item.code for item in found}


def test_a_compound_task_cannot_contain_itself(faults: Faults) -> None:
    found = faults("package: {name: p, tasks: [{name: a, body: [{name: b, uses: a}]}]}")
    assert [item.code for item in found] == ["uses-cycle"]


def test_a_chain_of_thousands_of_bases_is_resolved(load: Load) -> None:
    tasks = "".join(f"  - {{name: t{n}, uses: t{n + 1}}}\n" for n in range(3000))
    flow = load(f"package:\n  name: p\n  tasks:\n{tasks}  - {{name: t3000, run: 'true'}}\n")
    assert flow.tasks["p.t0"].script is not None


def test_an_extension_of_a_configuration_adds_parameters_and_needs(load: Load) -> None:
    flow = load(
        "package: {name: p, tasks: [{name: a}, {name: b, with: {x: 1}}], configs: "
        "[{name: c, extensions: [{task: b, with: {x: 2}, needs: a}]}]}",
        config="c",
    )
    assert needs(flow, "p.b") == ["p.a"]
    assert [item.name for item in flow.tasks["p.b"].assignments] == ["x", "x"]


def test_a_fault_in_a_fragment_has_the_place_in_the_fragment(faults: Faults) -> None:
    found = faults(
        "package: {name: p, fragments: [sub/x.yaml]}", sub__x_yaml="fragment:\n  tasks:\n  - name: a\n    need: b\n"
    )
    assert [(item.code, str(item.location).endswith("sub/x.yaml:4:5")) for item in found] == [("unknown-key", True)]
