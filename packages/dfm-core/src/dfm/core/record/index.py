"""All records of a root run directory in one file, so that a run with nothing to do need not open a file a task.

The files beside the tasks are what counts; the index is a copy that is believed for a task only while its file is the
very one that was read or written: same size, times and inode. DFM alone writes them, under the lock of the run
directory: what it adds to one changes its size, and the task's entry was dropped before. What was changed within
RACY_SECONDS before the index was written is not put in. Whoever dies leaves an older index, whose entries do not fit
the newer files. An index that is damaged, or of another version, is no index.
"""

import os
import time
from collections import deque

import msgspec

from dfm.core.__about__ import __version__
from dfm.core.record.keyed_file import KeyedFile
from dfm.core.record.stamps import RACY_SECONDS

NAME = ".dfm-index"


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """By which one state of a file is told from another without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A task's file, which is complete, and the JSON of the record in it."""

    file: Signature
    record: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class RecordIndex:
    """The index of one root run directory.

    Args:
        root: absolute.
        version: of what may be in a record; an index of another one is none.
        is_read_only: whether nothing is written.
    """

    def __init__(self, root: str, version: str, *, is_read_only: bool = False) -> None:
        self._prefix = os.path.join(root, "")
        path = os.path.join(root, NAME)
        self._entries = KeyedFile(path, f"{__version__}/{version}", is_read_only=is_read_only)
        self._recent: deque[tuple[int, str]] = deque()

    def find(self, record_path: str) -> Entry | None:
        """Return the entry of a task, None where it is not known or its file has changed."""
        content = self._entries.get(record_path.removeprefix(self._prefix))
        if content is None:
            return None
        entry = _decode(content)
        if signature(record_path) == entry.file:
            return entry
        self.forget(record_path)
        return None

    def add(self, record_path: str, entry: Entry) -> None:
        """Take in what was read; paths outside the root are not kept."""
        if not record_path.startswith(self._prefix):
            return
        name = record_path.removeprefix(self._prefix)
        self._entries.put(name, _encode(entry))
        newest = _newest_settled()
        while self._recent and self._recent[0][0] < newest:
            self._recent.popleft()
        self._recent.append((_changed_at(entry), name))

    def forget(self, record_path: str) -> None:
        """Drop a task's entry."""
        self._entries.drop(record_path.removeprefix(self._prefix))

    def save(self) -> None:
        """Write the index where it has changed; that it cannot be written harms nobody."""
        newest = _newest_settled()
        for changed_at, name in self._recent:
            if changed_at >= newest:
                self._entries.drop(name)
        self._recent.clear()
        self._entries.save()


def signature(path: str) -> Signature | None:
    """Return the signature of a file, None where there is none."""
    try:
        return signature_of(os.stat(path))
    except OSError:
        return None


def signature_of(status: os.stat_result) -> Signature:
    """Return what of a file's status tells its states apart."""
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _newest_settled() -> int:
    return time.time_ns() - int(RACY_SECONDS * 1e9)


def _changed_at(entry: Entry) -> int:
    return max(entry.file.mtime_ns, entry.file.ctime_ns)
