"""What is to be recorded, and what is to be said after it.

What one turn of the event loop records is with the kernel before anything that the same turn sends, and both go out
together at its end: one write of the journal for all of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from dfm.core.crashpoint import IS_ARMED, crash_point
from dfm.core.pool.events import JournalEntry, Record
from dfm.core.wire.messages import ToClient, ToWorker


class Journal(Protocol):
    """Takes records; what was appended is with the kernel."""

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Append the records, in one go."""


class Outbox:
    """Holds records and messages until the end of the turn.

    Args:
        journal: takes the records.
        fail: is told why nothing can go on: the journal cannot be written.
    """

    def __init__(self, journal: Journal, fail: Callable[[BaseException], None]) -> None:
        self._journal = journal
        self._fail = fail
        self._records: list[JournalEntry] = []
        self._messages: list[tuple[Callable[..., None], ToWorker | ToClient]] = []
        self._is_flushing = False

    def say(self, send: Callable[..., None], message: ToWorker | ToClient) -> None:
        """Have something said at the end of the turn, after what was said before."""
        self._messages.append((send, message))
        self._schedule_flush()

    def record(self, record: Record) -> None:
        """Have something recorded before anything else is said."""
        self._records.append(record.entry)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Give the journal what was recorded; only then say what was to be said."""
        self._is_flushing = False
        try:
            self.flush_records()
        except OSError as error:
            self._fail(error)
            return
        messages, self._messages = self._messages, []
        for send, message in messages:
            send(message)

    def flush_records(self) -> None:
        """Give the journal what was recorded.

        Raises:
            OSError: it cannot be written; nothing that depends on it may be said.
        """
        if self._records:
            _crash_points(self._records, "before")
            self._journal.append(self._records)
            _crash_points(self._records, "after")
            self._records = []


def _crash_points(records: Sequence[JournalEntry], side: str) -> None:
    """Pass the named places on either side of each kind of record: `pool.commit.before`, `pool.commit.after`."""
    if IS_ARMED:
        for record in records:
            crash_point(f"pool.{record.kind}.{side}")
