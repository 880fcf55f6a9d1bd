# ruff: noqa: N802  (tests bear the ids of the requirements)
"""`dfm daemon reap` on a site with many jobs: how often LSF is asked, and with how many ids."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from dfm.api.batch import JobKey, Submitted
from dfm.core.pool.events import JournalEntry, Record
from dfm.core.pool.jobs import LaunchWanted, SubmitAnswered
from dfm.core.pool.journal import Header, JournalFile
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reap import Reaped, Speaker, reap
from dfm.core.pooled import own_pool_access, own_pool_private
from dfm.core.wire.access import AccessError
from dfm.core.wire.messages import Shape
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.query import Form

BJOBS = """#!/bin/sh
echo "$*" >> "$CALLS/bjobs"
shift 4
for id; do
  if [ -e "$CALLS/bkill" ] || grep -qsx "$id" "$CALLS/ended"; then echo "Job <$id> is not found" >&2
  else echo "$id^0^RUN^h^-^-^-^dfm-abcd1234-1-$id-1"; fi
done
"""
BKILL = """#!/bin/sh
echo "$*" >> "$CALLS/bkill"
for id; do echo "Job <$id> is being terminated"; done
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Where bjobs and bkill log their words; the jobs are gone after the first bkill."""
    for name, text in (("bjobs", BJOBS), ("bkill", BKILL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.defpath}", "CALLS": str(tmp_path)}


def left_behind(root: Path, count: int, project: str = "p", name: str = "daemon", run_id: str = "") -> list[JobKey]:
    """Write the journal of a daemon or a run that is gone, with so many jobs."""
    directory = root / name
    directory.mkdir(mode=0o700, parents=True)
    root.chmod(0o700)
    ledger = Ledger(LedgerSettings(max_submits_per_minute=count), "abcd1234", 1)
    actions = ledger.handle(LaunchWanted(shape=Shape(cores=1), slots=1, clock=1.0, count=count), 1.0)
    for number, job in enumerate(ledger.jobs(), start=1):
        actions += ledger.handle(SubmitAnswered(name=job.name, answer=Submitted(id=str(number))), 1.0)
    client = JournalEntry(kind="client", fields={"client": run_id, "weight": 1.0, "rundir": ""})
    journal, _ = JournalFile.open(str(directory / "journal"), Header(project=project, epoch=1, runner="lsf"))
    with journal:
        journal.append([client, *(action.entry for action in actions if isinstance(action, Record))])
    return [JobKey(name=job.name, id=job.id) for job in ledger.jobs()]


def reaped(root: Path, environ: dict[str, str], **words: Any) -> Reaped:  # noqa: ANN401  (of `reap`)
    """Return what `reap` does with LSF."""
    dialect = LsfDialect(LsfOptions(name_query="ids"), form=Form.DELIMITED)
    return asyncio.run(reap(lambda _: Speaker(dialect, 0.01), environ, str(root), **words))


def test_C19_many_jobs_are_asked_for_and_ended_200_at_a_time(tmp_path: Path, environ: dict[str, str]) -> None:
    jobs = left_behind(tmp_path / "state", 450)
    assert reaped(tmp_path / "state", environ) == Reaped(ended=[job.name for job in jobs])
    asked = [line.split()[-200:] for line in (tmp_path / "bjobs").read_text(encoding="utf-8").splitlines()]
    kills = [line.split() for line in (tmp_path / "bkill").read_text(encoding="utf-8").splitlines()]
    assert len(asked) == 6, "three chunks before, three after"
    assert [len(ids) for ids in kills] == [200, 200, 50]
    assert sorted(int(word) for ids in kills for word in ids) == list(range(1, 451))
    assert not (tmp_path / "state" / "daemon").exists()


def test_a_job_that_had_ended_is_not_told_as_ended_now(tmp_path: Path, environ: dict[str, str]) -> None:
    names = [job.name for job in left_behind(tmp_path / "state", 3)]
    (tmp_path / "ended").write_text("1\n3\n", encoding="utf-8")
    assert reaped(tmp_path / "state", environ) == Reaped(ended=[names[1]], gone=[names[0], names[2]])
    assert (tmp_path / "bkill").read_text(encoding="utf-8") == "2\n"


@pytest.fixture
def projects(tmp_path: Path) -> tuple[str, Path]:
    """Return a project, and where its journal lies beside those of another one and of one that was removed."""
    state = tmp_path / "state"
    for name in ("mine", "other", "removed"):
        if name != "removed":
            (tmp_path / name).mkdir()
        left_behind(state, 1, str(tmp_path / name), f"daemon of {name}")
    left_behind(state, 1, str(tmp_path / "mine"), "run-of mine")
    return str(tmp_path / "mine"), state


def test_journals_of_other_projects_are_left_alone(projects: tuple[str, Path], environ: dict[str, str]) -> None:
    mine, state = projects
    found = reaped(state, environ, project=mine)
    assert (len(found.ended), len(found.gone), found.left) == (1, 2, []), "all three have a job of the same name"
    assert [path.name for path in state.iterdir()] == ["daemon of other"]
    assert [path.name for path in (state / "daemon of other").iterdir()] == ["journal"]
    reaped(state, environ)
    assert list(state.iterdir()) == []


def test_the_key_of_a_run_with_its_own_pool_goes_with_its_journal(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, base = tmp_path / "state", str(tmp_path / "access")
    monkeypatch.setenv("DFM_STATE_DIR", str(state))
    runs = ["1" * 32, "2" * 32]
    keys = [Path(own_pool_access(str(tmp_path), run, base)) for run in runs]
    for run, key, mode in zip(runs, keys, (0o700, 0o755), strict=True):
        left_behind(state, 1, str(tmp_path), f"run-{run[:16]}", run)
        key.parent.mkdir(parents=True)
        key.parent.chmod(mode)
        key.touch(mode=0o600)
    reaped(state, environ, private_of=lambda directory, found: own_pool_private(directory, found, base))
    assert [key.parent.exists() for key in keys] == [False, True], "of what others may read nothing is removed"


def test_a_journal_that_others_may_have_written_is_not_believed(tmp_path: Path, environ: dict[str, str]) -> None:
    left_behind(tmp_path / "state", 1)
    (tmp_path / "state" / "daemon").chmod(0o755)
    assert reaped(tmp_path / "state", environ) == Reaped()
    (tmp_path / "state").chmod(0o755)
    with pytest.raises(AccessError, match="others may use it"):
        reaped(tmp_path / "state", environ)
    assert not (tmp_path / "bjobs").exists()
