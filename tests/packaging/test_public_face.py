"""What is promised to authors of plugins and tasks, and what starting up may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dfm.api
import dfm.core

PROMISED = Path(__file__).with_name("api_symbols.txt").read_text(encoding="utf-8").split()
API = Path(dfm.api.__file__).parent


def test_the_api_offers_just_what_is_promised() -> None:
    assert sorted(dfm.api.__all__) == PROMISED


@pytest.mark.parametrize("module", sorted(path.name for path in API.glob("*.py")))
def test_the_api_imports_nothing_else_of_dfm(module: str) -> None:
    tree = ast.parse((API / module).read_text(encoding="utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in imported if name.startswith("dfm.") and not name.startswith("dfm.api")]


def modules_after(*words: str) -> set[str]:
    code = (
        f"import sys; sys.argv = ['dfm', *{words!r}]\nimport dfm.core.cli.app as app\n"
        "try: app.main(sys.argv[1:])\nexcept SystemExit: pass\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stderr.split("\n"))


def test_the_version_is_told_without_importing_click() -> None:
    assert not {"click", "yaml", "msgspec", "asyncio", "pluggy"} & modules_after("--version")


def test_help_imports_no_engine() -> None:
    assert not {"yaml", "msgspec", "asyncio", "pluggy", "dfm.core.compose", "dfm.core.reading"} & modules_after(
        "--help"
    )


def test_a_call_of_dfm_out_imports_no_other_module_of_dfm() -> None:
    source = Path(dfm.core.__file__).parent / "execute" / "dfm_out.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"_json", "json", "json.encoder", "os", "sys"}
    at_once = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    assert at_once == {"os", "sys"}


def test_what_plugins_register_for_the_end_of_the_process_is_run() -> None:
    code = (
        "import atexit, sys; atexit.register(print, 'bye'); sys.argv = ['dfm', '--help']\n"
        "from dfm.core.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("Usage: dfm")
    assert done.stdout.endswith("\nbye\n")
