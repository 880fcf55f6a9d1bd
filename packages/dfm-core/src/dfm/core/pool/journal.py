"""The journal: what must survive the daemon, as a row of records in one file.

A file is a header and records: `u32 length | u32 CRC-32 | MessagePack`, little-endian. The header is the first record:
version, project, runner and epoch. A record counts when it is whole and its sum is right; the first that is not ends
the file (a torn tail), and what follows it is kept beside as `.bad` and never read. So any prefix of a journal is one.

The codec is pure. `JournalFile` is the thin part that touches a disk: it appends what it was given in one write, and
syncs when it is told to, so that a caller may gather records (group commit) and sync in another thread.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from dfm.core.pool.events import JournalEntry
from dfm.core.wire.messages import MAX_MESSAGE_BYTES

VERSION = 1
ROTATE_BYTES = 64 * 1024 * 1024
"""A file that has grown beyond this is replaced by a snapshot."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first record of a journal.

    Attributes:
        runner: by whose words the jobs that it tells of are asked for and ended.
    """

    project: str
    epoch: int
    runner: str
    version: int = VERSION


class Replay(msgspec.Struct, frozen=True, kw_only=True):
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


_FRAME = struct.Struct("<II")
_MOST_BYTES = 2 * MAX_MESSAGE_BYTES
_MOST_HEADER_BYTES = 64 * 1024
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def encode_header(header: Header) -> bytes:
    """Return the first record."""
    return _frame(_encoder.encode(["journal", msgspec.structs.asdict(header)]))


def encode(entries: Iterable[JournalEntry]) -> bytes:
    """Return the records of the entries, one after the other."""
    return b"".join([_frame(_encoder.encode([entry.kind, entry.fields])) for entry in entries])


def _frame(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def replay(content: bytes) -> Replay:
    """Return what counts in the content of a journal. Never raises, whatever it is given."""
    header: Header | None = None
    entries: list[JournalEntry] = []
    position = 0
    while position < len(content):
        record = _record_at(content, position)
        if isinstance(record, str):
            return Replay(header=header, entries=entries, good_bytes=position, fault=f"{record} at byte {position}")
        end, kind, fields = record
        if header is None:
            header = _header_from(kind, fields)
            if header is None:
                return Replay(header=None, entries=[], good_bytes=0, fault="it does not begin with a known header")
        else:
            entries.append(JournalEntry(kind=kind, fields=fields))
        position = end
    return Replay(header=header, entries=entries, good_bytes=position)


def _record_at(content: bytes, position: int) -> tuple[int, str, dict[str, object]] | str:
    """Return the end, the kind and the fields of the record that begins there, or why there is none."""
    start = position + _FRAME.size
    if start > len(content):
        return "a torn length"
    length, crc = _FRAME.unpack_from(content, position)
    end = start + length
    if length > _MOST_BYTES or end > len(content):
        return "a torn record"
    payload = memoryview(content)[start:end]
    if zlib.crc32(payload) != crc:
        return "a wrong sum"
    try:
        record = _decoder.decode(payload)
    except msgspec.MsgspecError:
        return "a record that is no record"
    match record:
        case [str(kind), dict(fields)]:
            return end, kind, fields
        case _:
            return "a record of an unknown form"


def _header_from(kind: str, fields: dict[str, object]) -> Header | None:
    match kind, fields:
        case (
            "journal",
            {"project": str(project), "epoch": int(epoch), "runner": str(runner), "version": int(version)},
        ) if version == VERSION:
            return Header(project=project, epoch=epoch, runner=runner, version=version)
        case _:
            return None


class JournalFile:
    """One journal on a disk, open for appending.

    Made by `open`; `append` and `sync` may raise OSError: then nothing that depends on the record may be done, and
    the file goes back to its last good length before the next append. `sync` may be called in another thread.

    Attributes:
        is_full: every append is synced before it returns.
    """

    def __init__(self, path: str, descriptor: int, size_bytes: int, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self._path = path
        self._descriptor = descriptor
        self._size = size_bytes
        self._is_torn = False

    @classmethod
    def open(cls, path: str, header: Header, *, is_full: bool = False) -> "tuple[JournalFile, Replay]":
        """Open or create the file, cut off a torn tail (kept as `<path>.bad`), and return what it held.

        A file of another project or version is set aside as `.bad` too. `header` is written when the file is new; the
        caller appends an `epoch` entry for its life.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            content = _read_all(descriptor)
            found = replay(content)
            if found.header is not None and found.header.project != header.project:
                found = Replay(header=None, entries=[], good_bytes=0, fault=f"it is of project {found.header.project}")
            if found.good_bytes < len(content):
                _keep(f"{path}.bad", content[found.good_bytes :])
                os.ftruncate(descriptor, found.good_bytes)
            journal = cls(path, descriptor, found.good_bytes, is_full=is_full)
            if found.header is None:
                journal._write(encode_header(header))
                _sync_directory(path)
        except BaseException:
            os.close(descriptor)
            raise
        return journal, found

    @property
    def size_bytes(self) -> int:
        """Return the length so far."""
        return self._size

    @property
    def is_due_for_rotation(self) -> bool:
        """Return whether `rotate` should be called."""
        return self._size >= ROTATE_BYTES

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Write the entries in one go. They survive the death of the process; a loss of power only where `is_full`."""
        self._write(encode(entries))
        if self.is_full:
            self.sync()

    def _write(self, content: bytes) -> None:
        if self._is_torn:
            os.ftruncate(self._descriptor, self._size)
        self._is_torn = True
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, memoryview(content)[written:], self._size + written)
        self._size += written
        self._is_torn = False

    def sync(self) -> None:
        """Make what was appended survive a loss of power (fdatasync)."""
        os.fdatasync(self._descriptor)

    def rotate(self, header: Header, entries: Iterable[JournalEntry]) -> None:
        """Replace the file by one that holds only these entries: those of `Reactor.snapshot` and `Ledger.snapshot`.

        The old file stays until the new one is whole and on the disk. Not while a `sync` is under way.
        """
        content = encode_header(header) + encode(entries)
        fresh = f"{self._path}.new"
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            journal = JournalFile(fresh, descriptor, 0)
            journal._write(content)
            journal.sync()
            os.rename(fresh, self._path)
            _sync_directory(self._path)
        except BaseException:
            os.close(descriptor)
            _discard(fresh)
            raise
        os.close(self._descriptor)
        self._descriptor, self._size, self._is_torn = descriptor, len(content), False

    def close(self) -> None:
        """Close the file. Not synced first."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def write_snapshot(path: str, content: bytes) -> None:
    """Put a journal of its own in place of the last one, in one step; for a reader on another host.

    Args:
        path: on a disk that hosts share.
        content: of `encode_header` and `encode`.

    Raises:
        OSError: it cannot be written; the last one stays, and nothing else.
    """
    fresh = f"{path}.new"
    try:
        _keep(fresh, content)
        os.replace(fresh, path)
    except OSError:
        _discard(fresh)
        raise


def read_journal(path: str) -> Replay:
    """Return what counts in a journal or snapshot that nobody writes; an empty one where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return replay(b"")
    with open(descriptor, "rb") as file:
        return replay(file.read())


def read_header(path: str) -> Header | None:
    """Return the header of a journal; None where it has none that is known."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            return replay(file.read(_MOST_HEADER_BYTES)).header
    except OSError:
        return None


def read_snapshot(path: str, project: str) -> Replay | None:
    """Return what a snapshot holds; None where there is no whole one of this project."""
    found = read_journal(path)
    return found if found.header is not None and found.header.project == project and not found.fault else None


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    parts = []
    position = 0
    while position < size and (part := os.pread(descriptor, size - position, position)):
        parts.append(part)
        position += len(part)
    return b"".join(parts)


def _keep(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _discard(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
