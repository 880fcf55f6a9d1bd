"""What a thorough reading finds that a run never meets, and keys that mean nothing where they stand."""

from pathlib import Path

import pytest

from dfm.core.flow.diagnostics import FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.std import FLOW_FILE


@pytest.fixture
def flow_with_an_unused_import(tmp_path: Path) -> str:
    (tmp_path / "map.yaml").write_text("package-map: {packages: [{name: lib, path: lib.yaml}]}\n", encoding="utf-8")
    (tmp_path / "lib.yaml").write_text(
        "package:\n  name: lib\n  tasks:\n  - {name: t, needs: [ghost], run: 'true'}\n", encoding="utf-8"
    )
    path = tmp_path / "flow.yaml"
    path.write_text(
        "package: {name: p, package-map: map.yaml, imports: [{name: lib}], tasks: [{name: t, run: 'true'}]}\n",
        encoding="utf-8",
    )
    return str(path)


def test_an_import_that_nothing_touches_is_not_read(flow_with_an_unused_import: str) -> None:
    flow = load_flow(flow_with_an_unused_import, environ={}, standard_library=FLOW_FILE)
    assert "lib" not in flow.packages


def test_a_thorough_reading_finds_the_faults_of_an_import_that_nothing_touches(
    flow_with_an_unused_import: str,
) -> None:
    with pytest.raises(FlowInvalid) as caught:
        load_flow(flow_with_an_unused_import, environ={}, standard_library=FLOW_FILE, is_thorough=True)
    [fault] = caught.value.diagnostics
    assert fault.location is not None
    assert (fault.code, fault.location.line, fault.location.column) == ("unknown-task", 4, 23)


def warnings_of_a_compound_task_with(tmp_path: Path, key: str) -> list[tuple[str, int, int]]:
    path = tmp_path / "flow.yaml"
    path.write_text(
        f"package:\n  name: p\n  tasks:\n  - {{root: a, {key}, body: [{{name: b, run: 'true'}}]}}\n", encoding="utf-8"
    )
    flow = load_flow(str(path), environ={}, standard_library=FLOW_FILE)
    return [(item.code, item.location.line, item.location.column) for item in flow.warnings if item.location]


def test_a_function_in_uptodate_of_a_compound_task_gets_a_warning(tmp_path: Path) -> None:
    assert warnings_of_a_compound_task_with(tmp_path, "uptodate: 'm.f'") == [("compound-uptodate", 4, 25)]


@pytest.mark.parametrize("key", ["cache: true", "uptodate: false"])
def test_a_compound_task_with_a_rule_for_its_sub_tasks_gets_none(tmp_path: Path, key: str) -> None:
    assert warnings_of_a_compound_task_with(tmp_path, key) == []
