"""The index of records: believed only for the very files that it was made from."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.api.runner import Outcome, TaskResult
from dfm.core.record import index, store
from dfm.core.record.fingerprint import TaskFacts
from dfm.core.record.index import NAME
from dfm.core.record.store import RecordStore

OK = TaskResult(outcome=Outcome.SUCCEEDED)


class Runs:
    """One task in a root run directory; `run` and `reasons` are each a new `dfm run`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rundir = root / "p.t"

    def facts(self, seed: int = 1) -> TaskFacts:
        return TaskFacts(task="p.t", body={"text": "true"}, params={"seed": seed}, inputs=[])

    def run(self, seed: int = 1, *, is_interrupted: bool = False) -> None:
        records = RecordStore(str(self.root))
        records.make_directory(str(self.rundir))
        assessment = records.assess(self.facts(seed), rundir=str(self.rundir), artefact="p.t")
        begun = records.begin(assessment, rundir=str(self.rundir), artefact="p.t", task="p.t", run_id="r", attempt=1)
        if not is_interrupted:
            records.commit(begun, params={"seed": seed}, inputs=[], outputs=[], srcdir="/", logfile=None, result=OK)
            records.save_index()

    def reasons(self, seed: int = 1) -> list[str]:
        records = RecordStore(str(self.root))
        found = records.assess(self.facts(seed), rundir=str(self.rundir), artefact="p.t")
        records.save_index()
        return [reason.text for reason in found.reasons]

    @property
    def record(self) -> Path:
        return self.rundir / "p.t.exec_data.json"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(index, "RACY_SECONDS", -1)
    return Runs(tmp_path)


@pytest.fixture
def indexed(runs: Runs) -> Runs:
    runs.run()
    assert b"p.t/p.t.exec_data.json" in (runs.root / NAME).read_bytes()
    return runs


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that is filled with the task's own files that are opened from now on."""
    seen: list[str] = []
    load = store._load

    def noting(path: str) -> object:
        seen.append(os.path.basename(path))
        return load(path)

    monkeypatch.setattr(store, "_load", noting)
    return seen


def test_what_the_index_has_is_not_opened(indexed: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = opened(monkeypatch)
    assert indexed.reasons() == []
    assert seen == []


def test_reading_fills_the_index(indexed: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    (indexed.root / NAME).unlink()
    assert indexed.reasons() == []
    seen = opened(monkeypatch)
    assert indexed.reasons() == []
    assert seen == []


def test_the_record_in_the_index_tells_the_same_reasons(indexed: Runs) -> None:
    assert indexed.reasons(seed=2) == ["param seed: 1 -> 2"]


def changes() -> dict[str, tuple[Callable[[Runs], object], list[str]]]:
    def other_record(runs: Runs) -> None:
        """Same size, same times, other content, in place."""
        status = runs.record.stat()
        content = runs.record.read_bytes()
        with runs.record.open("r+b") as file:
            file.write(content.replace(b"checksum", b"checksun"))
        os.utime(runs.record, ns=(status.st_atime_ns, status.st_mtime_ns))

    return {
        "record removed": (lambda r: r.record.unlink(), ["it has never run"]),
        "record changed": (other_record, ["its record is damaged or of another version"]),
        "record torn": (
            lambda r: r.record.write_bytes(r.record.read_bytes()[:50]),
            ["the last run was interrupted"],
        ),
        "record of another task's file": (
            lambda r: r.record.write_bytes(b"{}\n"),
            ["its record is damaged or of another version"],
        ),
        "run directory removed": (lambda r: shutil.rmtree(r.rundir), ["it has never run"]),
        "a run that died": (lambda r: r.run(is_interrupted=True), ["the last run was interrupted"]),
        "a run with another parameter": (lambda r: r.run(seed=5), ["param seed: 5 -> 1"]),
    }


@pytest.mark.parametrize("what", changes())
def test_a_change_is_seen(indexed: Runs, what: str) -> None:
    change, reasons = changes()[what]
    change(indexed)
    assert indexed.reasons() == reasons


def test_an_old_index_brought_back_is_not_believed(indexed: Runs) -> None:
    old = (indexed.root / NAME).read_bytes()
    indexed.run(seed=5)
    (indexed.root / NAME).write_bytes(old)
    assert indexed.reasons() == ["param seed: 5 -> 1"]


def test_a_copied_run_directory_is_read_anew(indexed: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(indexed.root, tmp_path / "copy")
    seen = opened(monkeypatch)
    assert Runs(tmp_path / "copy").reasons() == []
    assert seen == ["p.t.exec_data.json"]


@pytest.mark.parametrize("at", [0, 33, -1])
def test_a_damaged_index_is_none(indexed: Runs, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    content = bytearray((indexed.root / NAME).read_bytes())
    content[at] ^= 1
    (indexed.root / NAME).write_bytes(content)
    seen = opened(monkeypatch)
    assert indexed.reasons() == []
    assert len(seen) == 1


def test_an_index_of_another_version_is_none(indexed: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "__version__", "99")
    seen = opened(monkeypatch)
    assert indexed.reasons() == []
    assert len(seen) == 1


def test_what_has_just_changed_is_not_put_in(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.run()
    assert b"exec_data" not in (tmp_path / NAME).read_bytes()
    assert runs.reasons() == []


def test_an_index_that_cannot_be_written_harms_nobody(indexed: Runs) -> None:
    (indexed.root / NAME).unlink()
    (indexed.root / NAME).mkdir()
    assert indexed.reasons() == []
    assert indexed.reasons() == []
    assert sorted(path.name for path in indexed.root.iterdir()) == [NAME, "p.t"]
