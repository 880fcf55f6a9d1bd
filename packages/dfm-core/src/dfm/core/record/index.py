"""All records of a root run directory in one file, so that a run with nothing to do need not open a file a task.

The files beside the tasks are what counts; the index is a copy that is believed for a task only while its file is the
very one that was read or written: same size, times and inode. DFM alone writes them, under the lock of the run
directory: what it adds to one changes its size, and the task's entry was dropped before. What was changed within
RACY_SECONDS before the index was written is not put in. Whoever dies leaves an older index, whose entries do not fit
the newer files. An index that is damaged, or of another version, is no index.
"""

import contextlib
import hashlib
import os
import time

import msgspec

from dfm.core.__about__ import __version__
from dfm.core.record.stamps import RACY_SECONDS

NAME = ".dfm-index"
_DIGEST_BYTES = 32


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


class _Stored(msgspec.Struct):
    version: str
    entries: dict[str, Entry]


_decode = msgspec.msgpack.Decoder(_Stored).decode


class RecordIndex:
    """The index of one root run directory.

    Args:
        root: absolute.
        version: of what may be in a record; an index of another one is none.
    """

    def __init__(self, root: str, version: str) -> None:
        self._prefix = os.path.join(root, "")
        self._path = os.path.join(root, NAME)
        self._version = f"{__version__}/{version}"
        self._entries = _read(self._path, self._version)
        self._is_changed = False

    def find(self, record_path: str) -> Entry | None:
        """Return the entry of a task, None where it is not known or its file has changed."""
        entry = self._entries.get(record_path.removeprefix(self._prefix))
        if entry is None or signature(record_path) == entry.file:
            return entry
        self.forget(record_path)
        return None

    def add(self, record_path: str, entry: Entry) -> None:
        """Take in what was read; paths outside the root are not kept."""
        if record_path.startswith(self._prefix):
            self._entries[record_path.removeprefix(self._prefix)] = entry
            self._is_changed = True

    def forget(self, record_path: str) -> None:
        """Drop a task's entry."""
        if self._entries.pop(record_path.removeprefix(self._prefix), None) is not None:
            self._is_changed = True

    def save(self) -> None:
        """Write the index where it has changed; that it cannot be written harms nobody."""
        if not self._is_changed:
            return
        newest = time.time_ns() - int(RACY_SECONDS * 1e9)
        settled = {
            name: entry
            for name, entry in self._entries.items()
            if max(entry.file.mtime_ns, entry.file.ctime_ns) < newest
        }
        content = msgspec.msgpack.encode(_Stored(self._version, settled))
        temporary = f"{self._path}.{os.getpid()}"
        with contextlib.suppress(OSError):
            try:
                with open(temporary, "wb") as file:
                    file.write(hashlib.sha256(content).digest())
                    file.write(content)
                os.replace(temporary, self._path)
            except OSError:
                os.unlink(temporary)
        self._is_changed = False


def signature(path: str) -> Signature | None:
    """Return the signature of a file, None where there is none."""
    try:
        return signature_of(os.stat(path))
    except OSError:
        return None


def signature_of(status: os.stat_result) -> Signature:
    """Return what of a file's status tells its states apart."""
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _read(path: str, version: str) -> dict[str, Entry]:
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return {}
        stored = _decode(content)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return stored.entries if stored.version == version else {}
