# ruff: noqa: N802  (tests bear the ids of the requirements)
"""`dfm daemon reap` on a site with many jobs: how often LSF is asked, and with how many ids."""

import asyncio
import os
from pathlib import Path

import pytest

from dfm.api.batch import JobKey, Submitted
from dfm.core.pool.events import Record
from dfm.core.pool.jobs import LaunchWanted, SubmitAnswered
from dfm.core.pool.journal import Header, JournalFile
from dfm.core.pool.ledger import Ledger, LedgerSettings
from dfm.core.pool.reap import Speaker, reap
from dfm.core.wire.messages import Shape
from dfm.runner.lsf.dialect import LsfDialect
from dfm.runner.lsf.options import LsfOptions
from dfm.runner.lsf.query import Form

BJOBS = """#!/bin/sh
echo "$*" >> "$CALLS/bjobs"
shift 4
for id; do
  if [ -e "$CALLS/bkill" ]; then echo "Job <$id> is not found" >&2
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


def left_behind(root: Path, count: int) -> list[JobKey]:
    """Write the journal of a daemon that is gone, with so many jobs."""
    directory = root / "daemon"
    directory.mkdir(parents=True)
    ledger = Ledger(LedgerSettings(max_submits_per_minute=count), "abcd1234", 1)
    actions = ledger.handle(LaunchWanted(shape=Shape(cores=1), slots=1, clock=1.0, count=count), 1.0)
    for number, job in enumerate(ledger.jobs(), start=1):
        actions += ledger.handle(SubmitAnswered(name=job.name, answer=Submitted(id=str(number))), 1.0)
    journal, _ = JournalFile.open(str(directory / "journal"), Header(project="p", epoch=1, runner="lsf"))
    with journal:
        journal.append([action.entry for action in actions if isinstance(action, Record)])
    return [JobKey(name=job.name, id=job.id) for job in ledger.jobs()]


def test_C19_many_jobs_are_asked_for_and_ended_200_at_a_time(tmp_path: Path, environ: dict[str, str]) -> None:
    jobs = left_behind(tmp_path / "state", 450)
    dialect = LsfDialect(LsfOptions(name_query="ids"), form=Form.DELIMITED)
    gone, left = asyncio.run(reap(lambda _: Speaker(dialect, 0.01), environ, str(tmp_path / "state")))
    assert (sorted(gone), left) == (sorted(job.name for job in jobs), [])
    asked = [line.split()[-200:] for line in (tmp_path / "bjobs").read_text(encoding="utf-8").splitlines()]
    kills = [line.split() for line in (tmp_path / "bkill").read_text(encoding="utf-8").splitlines()]
    assert len(asked) == 6, "three chunks before, three after"
    assert [len(ids) for ids in kills] == [200, 200, 50]
    assert sorted(int(word) for ids in kills for word in ids) == list(range(1, 451))
    assert not (tmp_path / "state" / "daemon").exists()
