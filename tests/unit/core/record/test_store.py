"""When a result stands, and the reason when it does not."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dfm.api.errors import InfrastructureError
from dfm.api.runner import CommandRecord, Outcome, TaskResult
from dfm.core.record.fingerprint import TaskFacts
from dfm.core.record.store import ExecRecord, MissingOutputsError, RecordStore
from dfm.core.record.uptodate import Assessment

if TYPE_CHECKING:
    from dfm.api.items import Item

OK = TaskResult(outcome=Outcome.SUCCEEDED, seconds=0.5, commands=[CommandRecord("true", 0)], memento={"n": 1})
Facts = Callable[..., TaskFacts]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "src" / "a.sv"
    path.parent.mkdir()
    path.write_text("module a;\n", encoding="utf-8")
    return path


@pytest.fixture
def facts(source: Path) -> Facts:
    def made(**changes: Any) -> TaskFacts:  # noqa: ANN401
        item: Item = {"type": "std.FileSet", "src": "p.rtl", "seq": 0, "basedir": str(source.parent), "files": ["a.sv"]}
        given: dict[str, Any] = {
            "task": "p.t",
            "body": {"kind": "shell", "text": "true"},
            "params": {"seed": 7},
            "inputs": [item],
            "environment": {"LIC": "1"},
            "tools": {"sh": "/bin/sh"},
        }
        return TaskFacts(**{**given, **changes})

    return made


class Task:
    """A task that runs in a directory of its own, each time with a store as a new `dfm run` has it."""

    def __init__(self, directory: Path) -> None:
        self.rundir = str(directory)

    def assess(self, facts: TaskFacts) -> Assessment[ExecRecord]:
        return RecordStore().assess(facts, rundir=self.rundir, artefact="p.t")

    def reasons(self, facts: TaskFacts) -> list[str]:
        return [reason.text for reason in self.assess(facts).reasons]

    def run(self, facts: TaskFacts, result: TaskResult = OK, outputs: tuple[str, ...] = ()) -> ExecRecord:
        store = RecordStore()
        assessment = store.assess(facts, rundir=self.rundir, artefact="p.t")
        begun = store.begin(assessment, rundir=self.rundir, artefact="p.t", task="p.t", run_id="r", attempt=1)
        items = [{"type": "std.FileSet", "basedir": self.rundir, "files": list(outputs)}] if outputs else []
        return store.commit(
            begun,
            params=facts.params,
            inputs=facts.inputs,
            outputs=items,
            srcdir="/s",
            logfile=None,
            result=result,
        )


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "rundir").mkdir()
    return Task(tmp_path / "rundir")


def test_a_task_that_never_ran_says_so(task: Task, facts: Facts) -> None:
    assert task.reasons(facts()) == ["it has never run"]


def test_a_task_that_ran_is_up_to_date_with_its_record(task: Task, facts: Facts) -> None:
    task.run(facts())
    assessment = task.assess(facts())
    assert assessment.is_up_to_date
    assert assessment.record is not None
    assert (assessment.record.memento, assessment.record.seconds) == ({"n": 1}, 0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"params": {"seed": 8}}, "param seed: 7 -> 8"),
        ({"params": {"seed": 7, "x": 1}}, "param x is new"),
        ({"params": {}}, "param seed was removed"),
        ({"body": {"kind": "shell", "text": "false"}}, "its script changed"),
        ({"environment": {"LIC": "2"}}, "environment variable LIC changed"),
        ({"environment": {"LIC": None}}, "environment variable LIC changed"),
        ({"tools": {"sh": None}}, "tool sh changed"),
        ({"inputs": []}, "item 0 of p.rtl is no input any more"),
        ({"declared": {"produces": [{"type": "T"}]}}, "what it declares to produce changed"),
    ],
)
def test_each_difference_is_named(task: Task, facts: Facts, change: dict[str, object], reason: str) -> None:
    task.run(facts())
    assert reason in task.reasons(facts(**change))


def test_a_changed_input_file_is_named(task: Task, facts: Facts, source: Path) -> None:
    task.run(facts())
    source.write_text("module b;\n", encoding="utf-8")
    assert [reason for reason in task.reasons(facts()) if reason.endswith("a.sv changed")]


def test_a_file_rewritten_with_equal_size_and_time_is_noticed(task: Task, facts: Facts, source: Path) -> None:
    status = source.stat()
    task.run(facts())
    source.write_text("module z;\n", encoding="utf-8")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert task.reasons(facts()) != []


def test_a_touched_or_equally_rewritten_file_is_no_change(task: Task, facts: Facts, source: Path) -> None:
    task.run(facts())
    source.unlink()
    source.write_text("module a;\n", encoding="utf-8")
    os.utime(source, (1, 1))
    assert task.reasons(facts()) == []


def test_a_file_in_an_include_directory_is_an_input(task: Task, facts: Facts, source: Path) -> None:
    item: Item = {
        "type": "std.FileSet",
        "src": "p.r",
        "seq": 0,
        "basedir": str(source.parent),
        "files": [],
        "incdirs": ["."],
    }
    task.run(facts(inputs=[item]))
    (source.parent / "x.log").write_text("ours", encoding="utf-8")
    assert task.reasons(facts(inputs=[item])) == []
    (source.parent / "x.svh").write_text("`define X", encoding="utf-8")
    assert len(task.reasons(facts(inputs=[item]))) == 1


def test_an_output_that_is_gone_or_modified_is_named(task: Task, facts: Facts) -> None:
    output = Path(task.rundir, "o.vvp")
    output.write_text("x", encoding="utf-8")
    task.run(facts(), outputs=("o.vvp",))
    assert task.reasons(facts()) == []
    output.write_text("y", encoding="utf-8")
    assert task.reasons(facts()) == ["output o.vvp was modified"]
    output.unlink()
    assert task.reasons(facts()) == ["output o.vvp is missing"]


def test_an_output_that_was_never_made_is_no_success(task: Task, facts: Facts) -> None:
    with pytest.raises(MissingOutputsError) as caught:
        task.run(facts(), outputs=("ghost",))
    assert caught.value.paths == [os.path.join(task.rundir, "ghost")]
    assert task.reasons(facts()) == ["the last run was interrupted"]


def test_an_intent_without_its_record_means_interrupted(task: Task, facts: Facts) -> None:
    task.run(facts())
    store = RecordStore()
    assessment = store.assess(facts(), rundir=task.rundir, artefact="p.t")
    store.begin(assessment, rundir=task.rundir, artefact="p.t", task="p.t", run_id="r2", attempt=1)
    assert task.reasons(facts()) == ["the last run was interrupted"]


def test_an_interrupted_run_leaves_the_record_before_it_for_its_memento(task: Task, facts: Facts) -> None:
    task.run(facts())
    for _ in range(2):
        store = RecordStore()
        assessment = store.assess(facts(params={"seed": 8}), rundir=task.rundir, artefact="p.t")
        store.begin(assessment, rundir=task.rundir, artefact="p.t", task="p.t", run_id="r2", attempt=1)
    found = task.assess(facts(params={"seed": 8}))
    assert [reason.text for reason in found.reasons] == ["the last run was interrupted", "param seed: 7 -> 8"]
    assert found.record is not None
    assert found.record.memento == {"n": 1}


def test_the_run_after_an_interrupted_one_leaves_one_whole_record(task: Task, facts: Facts) -> None:
    for runs_before in (False, True):
        store = RecordStore()
        assessment = store.assess(facts(), rundir=task.rundir, artefact="p.t")
        assert (assessment.record is not None) == runs_before
        store.begin(assessment, rundir=task.rundir, artefact="p.t", task="p.t", run_id="r", attempt=1)
        task.run(facts())
        assert task.reasons(facts()) == []
        assert Path(task.rundir, "p.t.exec_data.json").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("harm", ["removed", "truncated", "linked"])
def test_a_task_may_spoil_the_file_of_its_own_record(
    task: Task, facts: Facts, tmp_path: Path, harm: str, *, has_run: bool
) -> None:
    if has_run:
        task.run(facts())
    store = RecordStore()
    assessment = store.assess(facts(), rundir=task.rundir, artefact="p.t")
    begun = store.begin(assessment, rundir=task.rundir, artefact="p.t", task="p.t", run_id="r", attempt=1)
    path, other = Path(task.rundir, "p.t.exec_data.json"), tmp_path / "other"
    path.write_bytes(b"") if harm == "truncated" else path.unlink()
    if harm == "linked":
        path.symlink_to(other)
    store.commit(begun, params={"seed": 7}, inputs=[], outputs=[], srcdir="/", logfile=None, result=OK)
    assert task.reasons(facts()) == []
    assert not other.exists()


def test_a_failed_run_is_recorded_and_never_up_to_date(task: Task, facts: Facts) -> None:
    task.run(facts(), TaskResult(outcome=Outcome.FAILED, cause="exit status 2", status=2))
    assert task.reasons(facts()) == ["the last run failed (exit status 2)"]


def test_no_truncation_of_a_record_is_taken_for_a_success(task: Task, facts: Facts) -> None:
    task.run(facts())
    path = Path(task.rundir, "p.t.exec_data.json")
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        assert not task.assess(facts()).is_up_to_date


def test_no_flipped_bit_of_a_record_is_taken_for_a_success(task: Task, facts: Facts) -> None:
    task.run(facts())
    path = Path(task.rundir, "p.t.exec_data.json")
    whole = path.read_bytes()
    for position in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        assert not task.assess(facts()).is_up_to_date


def test_a_record_is_one_json_object_with_the_documented_keys(task: Task, facts: Facts) -> None:
    task.run(facts())
    record = json.loads(Path(task.rundir, "p.t.exec_data.json").read_text(encoding="utf-8"))["record"]
    documented = {
        "name",
        "rundir",
        "params",
        "inputs",
        "outputs",
        "memento",
        "markers",
        "commands",
        "status",
        "started_at",
        "seconds",
    }
    assert documented <= record.keys()
    assert record["commands"] == [{"cmd": "true", "status": 0}]


def test_a_place_that_cannot_be_written_is_an_infrastructure_error(facts: Facts, tmp_path: Path) -> None:
    store = RecordStore()
    assessment = store.assess(facts(), rundir=str(tmp_path / "none"), artefact="p.t")
    with pytest.raises(InfrastructureError, match="cannot write"):
        store.begin(assessment, rundir=str(tmp_path / "none"), artefact="p.t", task="p.t", run_id="r", attempt=1)
