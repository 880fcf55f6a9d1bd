"""Flows with outcomes that the format's documents promise, each run through the installed `dfm`; see README.md."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dfm.core.flow.diagnostics import Diagnostics
from dfm.core.flow.json_schema import flow_schema
from dfm.core.flow.schema import DEFINITIONS
from dfm.core.flow.source import SourceFile, to_plain
from dfm.core.flow.yaml_reader import read_yaml
from dfm.testing.fake_lsf import FakeLsf
from dfm.testing.project import QUICK_POOL, wait_until

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
Case = dict[str, Any]
TOPICS = sorted(Path(__file__).parent.glob("*.yaml"))
VALIDATOR = Draft202012Validator(flow_schema())
_CASE_KEYS = {"name", "keys", "package", "files", "type", "plain", "env", "expect", "steps"}
_EXPECTATIONS = {
    "exit",
    "ran",
    "tasks",
    "log",
    "items",
    "stdout",
    "stderr",
    "absent",
    "faults",
    "warnings",
    "json",
    "files",
}


def cases() -> Iterator[Case]:
    for topic in TOPICS:
        for case in yaml.safe_load(topic.read_text(encoding="utf-8")):
            yield {**case, "id": f"{topic.stem}: {case['name']}"}


CASES = list(cases())
_RUNS = [case for case in CASES if any(step["type"].startswith("run ") for step in case.get("steps", [case]))]
_PYTHON = re.compile(r"pytask|generate|uptodate|RunTasks|subgraph|memento|cache")
SENT_AWAY = [case for number, case in enumerate(_RUNS) if number % 8 == 0 or _PYTHON.search(str(case))]
"""What is run on a cluster as well: all that has more than a script in it, and of the rest a part; `_RUNS` passes too."""


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_flow(case: Case, dfm: Dfm, tmp_path: Path) -> None:
    play(case, dfm, tmp_path, {})


@pytest.fixture(scope="module")
def lsf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeLsf]:
    with FakeLsf(tmp_path_factory.mktemp("cluster"), speed=100) as cluster:
        yield cluster
        wait_until(lambda: not any(job.is_live for job in cluster.jobs()), "the jobs to be gone")


@pytest.mark.parametrize("case", SENT_AWAY, ids=[case["id"] for case in SENT_AWAY])
def test_flow_comes_out_the_same_on_a_cluster(case: Case, dfm: Dfm, lsf: FakeLsf, tmp_path: Path) -> None:
    settings = tmp_path / ".dfm" / "config.yaml"
    settings.parent.mkdir(mode=0o700)
    settings.write_text(yaml.safe_dump({"runner": {"pool": dict(QUICK_POOL)}}), encoding="utf-8")
    play(case, dfm, tmp_path, {"DFM_RUNNER": "lsf", "PATH": lsf.environ["PATH"]})


def play(case: Case, dfm: Dfm, directory: Path, surroundings: Mapping[str, str]) -> None:
    """Write the files of a case, type what it types, and hold the answers to what it expects."""
    unknown = case.keys() - _CASE_KEYS - {"id"}
    assert not unknown, f"the case has unknown keys: {unknown}"
    files = dict(case.get("files", {}))
    if "package" in case:
        indented = "".join(f"  {line}" if line.strip() else line for line in case["package"].splitlines(keepends=True))
        files["flow.yaml"] = f"package:\n  name: p\n{indented}"
    write(directory, files)
    variables = {name: str(value).replace("%HERE%", str(directory)) for name, value in case.get("env", {}).items()}
    for step in case.get("steps", [case]):
        write(directory, step.get("files", {}) if "steps" in case else {})
        words = shlex.split(step["type"].replace("%HERE%", str(directory)))
        is_run = words[0] == "run" and len(words) > 1 and not case.get("plain")
        is_validation = words[0] == "validate"
        answer = dfm(*words, *(["--json"] if is_run or is_validation else []), env={**surroundings, **variables})
        check(answer, step.get("expect", {}), directory)
        if step.get("expect", {}).get("exit", 0) != 3:
            check_schema(directory, files)


def write(directory: Path, files: Mapping[str, str | None]) -> None:
    for name, text in files.items():
        path = directory / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check(answer: Answer, expect: Mapping[str, Any], directory: Path) -> None:
    unknown = expect.keys() - _EXPECTATIONS
    assert not unknown, f"the case expects what nobody checks: {unknown}"
    told = f"\n--- stdout\n{answer.stdout}\n--- stderr\n{answer.stderr}"
    assert "this is a bug in DFM" not in answer.stderr, told
    assert expect.get("exit", 0) in (answer.returncode, "any"), told
    for stream in ("stdout", "stderr"):
        for text in expect.get(stream, []):
            assert text in getattr(answer, stream), told
    for text in expect.get("absent", []):
        assert text not in answer.stdout + answer.stderr, told
    if expect.keys() & {"ran", "tasks", "log", "items"}:
        check_run(json.loads(answer.stdout), expect, told)
    for what, key in (("faults", "errors"), ("warnings", "warnings")):
        if what in expect:
            check_faults(json.loads(answer.stdout)[key], expect[what], told)
    for keys, value in expect.get("json", {}).items():
        assert at(json.loads(answer.stdout), keys) == value, f"{keys}{told}"
    for name, text in expect.get("files", {}).items():
        path = directory / name
        assert (path.read_text(encoding="utf-8") if path.exists() else None) == text, f"{name}{told}"


def check_run(document: Mapping[str, Any], expect: Mapping[str, Any], told: str) -> None:
    tasks = {task["task"]: task for task in document["tasks"]}
    if "ran" in expect:
        ran = [name for name, task in tasks.items() if task["verdict"] == "succeeded" and task["log"] is not None]
        assert sorted(ran) == sorted(expect["ran"]), told
    for name, verdict in expect.get("tasks", {}).items():
        assert tasks[name]["verdict"] == verdict, f"{name}{told}"
    for name, text in expect.get("log", {}).items():
        assert tasks[name]["log"] is not None, f"{name} did not run{told}"
        assert Path(tasks[name]["log"]).read_text(encoding="utf-8").rstrip() == text.rstrip(), f"{name}{told}"
    for name, wanted in expect.get("items", {}).items():
        assert tasks[name]["log"] is not None, f"{name} did not run{told}"
        found = json.loads(Path(tasks[name]["log"]).read_text(encoding="utf-8"))
        assert len(found) == len(wanted), f"{found}{told}"
        assert [narrowed(item, part) for item, part in zip(found, wanted, strict=True)] == wanted, f"{found}{told}"


def narrowed(item: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an item has of the fields that are wanted."""
    return {key: item.get(key) for key in wanted}


def check_faults(found: list[dict[str, Any]], wanted: list[str], told: str) -> None:
    texts = []
    for fault in found:
        where = fault["location"]
        place = "-" if where is None else f"{where['file']}:{where['line']}:{where['column']}"
        texts.append(f"{place} {fault['message']}" + (f" ({fault['hint']})" if fault["hint"] else ""))
    for line in wanted:
        place, _, part = line.partition(" ")
        words = part.split(" ... ")
        is_told = any(text.startswith(f"{place} ") and all(word in text for word in words) for text in texts)
        assert is_told, f"{line}{told}"
    assert len(texts) == len(wanted), told


def at(document: Any, path: str) -> Any:  # noqa: ANN401  (JSON)
    """Return what a dotted path leads to; `name=a/b` is the element of a list whose name is `a.b`."""
    for word in path.split("."):
        key, is_search, value = word.partition("=")
        if is_search:
            document = next(item for item in document if item[key] == value.replace("/", "."))
        else:
            document = document[int(word)] if isinstance(document, list) else document[word]
    return document


def check_schema(directory: Path, files: Mapping[str, str | None]) -> None:
    """Hold every flow file that the loader took to the JSON Schema."""
    for name in files:
        path = directory / name
        if path.suffix not in (".yaml", ".yml", ".dv") or not path.exists():
            continue
        node = read_yaml(SourceFile(str(path), path.read_text(encoding="utf-8")), Diagnostics())
        document = None if node is None else to_plain(node)
        if isinstance(document, dict) and document.keys() & {"package", "fragment"}:
            assert [f"{name}: {error.message}" for error in VALIDATOR.iter_errors(document)] == []


def test_every_key_of_the_format_is_in_some_case() -> None:
    covered = {key for case in CASES for key in case.get("keys", "").split()}
    known = {
        f"{name}.{key.name}"
        for name, definition in DEFINITIONS.items()
        if definition.table is not None and name != "replacement"
        for key in definition.table.values()
    }
    assert covered - known == set()
    assert known - covered == set()


def test_there_are_enough_cases_and_no_two_of_one_name() -> None:
    names = [case["id"] for case in CASES]
    assert len(names) >= 150
    assert len(set(names)) == len(names)
    assert not [name for name in names if re.search(r"\s{2}", name)]
