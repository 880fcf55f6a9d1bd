"""The journal: what must survive the daemon, as a row of records in one file.

A file is a header and records: `u32 length | u32 CRC-32 | MessagePack`, little-endian. The header is the first record:
version, project and epoch. A record counts when it is whole and its sum is right; the first that is not ends the file
(a torn tail), and what follows it is kept beside as `.bad` and never read. So any prefix of a journal is a journal.

The codec is pure. `JournalFile` is the thin part that touches a disk: it appends what it was given in one write, and
syncs when it is told to, so that a caller may gather records (group commit) and sync in another thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dfm.core.pool.events import JournalEntry

VERSION = 1
ROTATE_BYTES = 64 * 1024 * 1024
"""A file that has grown beyond this is replaced by a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first record of a journal."""

    project: str
    epoch: int
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a journal holds.

    Attributes:
        header: None where not even that is whole.
        good_bytes: length of the part that counts.
        fault: why the rest does not count; empty where there is none.
    """

    header: Header | None
    entries: list[JournalEntry]
    good_bytes: int
    fault: str = ""


def encode_header(header: Header) -> bytes:
    """Return the first record."""
    raise NotImplementedError


def encode(entries: Iterable[JournalEntry]) -> bytes:
    """Return the records of the entries, one after the other."""
    raise NotImplementedError


def replay(content: bytes) -> Replay:
    """Return what counts in the content of a journal. Never raises, whatever it is given."""
    raise NotImplementedError


class JournalFile:
    """One journal on a disk, open for appending.

    Made by `open`; `append` and `sync` may raise OSError: then nothing that depends on the record may be done, and
    the file goes back to its last good length before the next append. `sync` may be called in another thread.
    """

    @classmethod
    def open(cls, path: str, header: Header) -> "tuple[JournalFile, Replay]":
        """Open or create the file, cut off a torn tail (kept as `<path>.bad`), and return what it held.

        A file of another project or version is set aside as `.bad` too. `header` is written when the file is new; the
        caller appends an `epoch` entry for its life.
        """
        raise NotImplementedError

    @property
    def size_bytes(self) -> int:
        """Return the length so far."""
        raise NotImplementedError

    @property
    def is_due_for_rotation(self) -> bool:
        """Return whether `rotate` should be called."""
        raise NotImplementedError

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Write the entries in one go. They survive the death of the process, but not yet a loss of power."""
        raise NotImplementedError

    def sync(self) -> None:
        """Make what was appended survive a loss of power (fdatasync)."""
        raise NotImplementedError

    def rotate(self, header: Header, entries: Iterable[JournalEntry]) -> None:
        """Replace the file by one that holds only these entries: those of `Reactor.snapshot` and `Ledger.snapshot`."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file. Not synced first."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
