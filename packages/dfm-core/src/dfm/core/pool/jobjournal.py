"""The journal entries of the ledger: how each is written, and what it means when it is read again.

Owns the kinds `job-intent`, `job`, `job-twin`, `job-abandoned` and `job-end`, and their fields. What a snapshot says is
what the journal before it said of jobs that have not ended.
"""

from collections.abc import Iterable, Iterator

import msgspec

from dfm.api.batch import EndCause
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.jobs import Phase
from dfm.core.pool.jobtable import NEVER, Job, JobTable
from dfm.core.wire.messages import Shape


def intended(job: Job) -> JournalEntry:
    """Return the entry of a job that is about to be submitted."""
    return _entry(
        "job-intent",
        name=job.name,
        slot=job.slot,
        shape=msgspec.to_builtins(job.shape),
        slots=job.slots,
        clock=job.clock,
        excluded=list(job.excluded),
    )


def identified(job: Job) -> JournalEntry:
    """Return the entry of a job whose id is known."""
    return _entry("job", name=job.name, id=job.id, cluster=job.cluster)


def doubled(job: Job, twin: str) -> JournalEntry:
    """Return the entry of a job of which the scheduler made a second one, with that one's id."""
    return _entry("job-twin", name=job.name, id=twin)


def abandoned(job: Job) -> JournalEntry:
    """Return the entry of a job that was looked for and not found."""
    return _entry("job-abandoned", name=job.name)


def ended(job: Job, cause: EndCause | None, text: str) -> JournalEntry:
    """Return the entry of a job that has ended, or, without a cause, has never been."""
    return _entry("job-end", name=job.name, cause=cause.value if cause else "", text=text)


def _entry(kind: str, /, **fields: object) -> JournalEntry:
    return JournalEntry(kind=kind, fields=fields)


def snapshot(table: JobTable) -> list[JournalEntry]:
    """Return entries that say all that the journal so far says of jobs that have not ended."""
    return [entry for job in table.by_name.values() for entry in _story(job)]


def _story(job: Job) -> Iterator[JournalEntry]:
    yield intended(job)
    if job.id is not None:
        yield identified(job)
    elif job.phase is Phase.ABANDONED:
        yield abandoned(job)
    for twin in sorted(job.twins):
        yield doubled(job, twin)


def replay(table: JobTable, entries: Iterable[JournalEntry], now: float) -> None:
    """Take the entries of earlier epochs into an empty table. Entries of other kinds are passed over.

    An intent of which no more is known is ambiguous, and to be looked up at once.
    """
    for entry in entries:
        if entry.kind == "job-intent":
            table.enter(_intent_from(entry.fields, now))
            continue
        job = table.by_name.get(str(entry.fields.get("name", "")))
        if job is not None:
            _replay(table, job, entry)


def _replay(table: JobTable, job: Job, entry: JournalEntry) -> None:
    fields = entry.fields
    match entry.kind:
        case "job":
            job.id = str(fields["id"])
            job.twins.discard(job.id)
            job.cluster = None if fields["cluster"] is None else str(fields["cluster"])
            job.look_up_at = NEVER
            job.phase = Phase.PENDING
        case "job-twin":
            job.twins.add(str(fields["id"]))
        case "job-abandoned":
            job.look_up_at = NEVER
            job.phase = Phase.ABANDONED
        case "job-end":
            table.remove(job)
        case _:
            pass


def _intent_from(fields: dict[str, object], now: float) -> Job:
    slots, clock, excluded = fields["slots"], fields["clock"], fields["excluded"]
    assert isinstance(slots, int)
    assert isinstance(clock, int | float)
    assert isinstance(excluded, list)
    return Job(
        str(fields["name"]),
        str(fields["slot"]),
        msgspec.convert(fields["shape"], Shape),
        slots,
        clock,
        Phase.AMBIGUOUS,
        now,
        now,
        tuple(excluded),
        reason="the daemon was restarted while it was submitted",
        look_up_at=now,
    )
