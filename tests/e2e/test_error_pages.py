"""Every fault has a page, and the example on each page really has that fault.

Most are told by `dfm validate`; those that only a run can meet show their `dfm run` in the example.
"""

import ast
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dfm.core

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
PAGES = {
    path.stem: path for path in (Path(__file__).parents[2] / "docs" / "errors").glob("*.md") if path.stem != "index"
}
SOURCES = Path(dfm.core.__file__).parent
_CODE = re.compile(r"[a-z]+(-[a-z0-9]+)*\Z")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REPORTERS = {"error", "warning", "fault", "_fault", "_fault_at", "Diagnostic"}
NEEDS_A_PLAIN_USER = {"unreadable"}
BEFORE_THE_RUN = {"unknown-resource-class"}
"""Told by `dfm run` before anything runs, since it depends on the settings."""


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Yield the first word that could be a code from each call that reports a fault."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in _REPORTERS:
            continue
        words = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
        is_keyed = name == "fault" and len(words) == 2
        found = [word for word in words[1 if is_keyed else 0 :] if isinstance(word, str) and _CODE.match(word)]
        yield from found[:1]


def codes_of_the_source() -> set[str]:
    folders = ("flow", "graph", "schedule", "plugins")
    paths = [SOURCES / "granting.py", *(path for folder in folders for path in (SOURCES / folder).glob("*.py"))]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    return {code for tree in trees for code in codes_in(tree)} | {"unknown-task", "unknown-type"}


def test_every_fault_has_a_page_and_every_page_a_fault() -> None:
    assert codes_of_the_source() == set(PAGES)


def test_the_index_names_every_page() -> None:
    text = (next(iter(PAGES.values())).parent / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[[a-z0-9-]+\]\(([a-z0-9-]+)\.md\) \|", text, re.MULTILINE) == sorted(PAGES)


@pytest.mark.parametrize("code", sorted(PAGES))
def test_the_example_of_a_page_has_the_fault_of_the_page(dfm: Dfm, tmp_path: Path, code: str) -> None:
    if code in NEEDS_A_PLAIN_USER and os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    words, environment = ["validate"], {}
    for language, text in _FENCE.findall(PAGES[code].read_text(encoding="utf-8")):
        if language in ("yaml", "toml"):
            path = tmp_path / text.partition("\n")[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif language == "sh":
            subprocess.run(["bash", "-ec", text], cwd=tmp_path, check=True, timeout=60)
        else:
            before, _, after = text.removeprefix("$ ").strip().partition("dfm ")
            environment = dict(part.split("=", 1) for part in before.split())
            words = after.split()
    if words[0] == "run":
        answer = dfm(*words, env=environment, timeout=250)
        assert f"[{code}]" in answer.stdout + answer.stderr
        assert answer.returncode == (3 if code in BEFORE_THE_RUN else 1)
        return
    answer = dfm(*words, "--json", env=environment)
    assert answer.stderr == ""
    document = json.loads(answer.stdout)
    assert code in [item["code"] for item in [*document["errors"], *document["warnings"]]]
    is_error = code in [item["code"] for item in document["errors"]]
    text = PAGES[code].read_text(encoding="utf-8")
    assert ("\nAn error: " in text) == is_error
    assert answer.returncode == (3 if document["errors"] else 0)
