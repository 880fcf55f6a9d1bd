"""Options that stand before the sub-command."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Dfm = Callable[..., subprocess.CompletedProcess[str]]
Flow = Callable[[str], Path]

FLOW = """package:
  name: p
  with: {x: {type: str, value: old}}
  tasks: [{root: t, run: 'echo ${{ x }} > $DFM_SRCDIR/said'}]
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-D", "x=new", "run", "t"), "new"),
        (("-P", '{"package": {"x": "file"}}', "run", "t"), "file"),
        (("-D", "x=new", "run", "-D", "x=newer", "t"), "newer"),
    ],
)
def test_parameters_before_the_sub_command_hold_unless_it_sets_them_itself(
    dfm: Dfm, flow: Flow, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    flow(FLOW)
    answer = dfm(*words)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "said").read_text(encoding="utf-8") == f"{said}\n"


def test_a_package_map_before_the_sub_command_is_read(dfm: Dfm, flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("package-map: {packages: [{name: lib, path: lib.yaml}]}\n", encoding="utf-8")
    (tmp_path / "lib.yaml").write_text("package: {name: lib, tasks: [{export: t, run: 'true'}]}\n", encoding="utf-8")
    flow("package: {name: p, imports: [{name: lib}], tasks: [{root: t, needs: [lib.t], run: 'true'}]}\n")
    answer = dfm("--package-map", "map.yaml", "validate")
    assert answer.returncode == 0, answer.stderr


def test_a_sub_command_without_parameters_refuses_them(dfm: Dfm) -> None:
    answer = dfm("-D", "x=1", "runners")
    assert answer.returncode == 2
    assert "-D means nothing to `dfm runners`" in answer.stderr
