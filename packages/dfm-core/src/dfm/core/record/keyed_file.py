"""Values by name in one file, of which only the names and places are in memory.

Layout: a head of fixed length; values, each behind its checksum; a table of names and places. The head says of what
kind the values are, and where the table is, with its digest. Values are added at the end, then a new table; they count
once the head has been written over. Whoever dies before leaves the table that was, and what lies behind it is written
over by the next one. Where most of a file is what no table names any more, it is written anew and put in the other's
place.

One process at a time writes; its caller sees to that. Others may read: what does not fit its checksum is not there.
"""

import array
import contextlib
import hashlib
import os
import struct
import sys
import zlib
from collections.abc import Callable

import msgspec

_HEAD = struct.Struct("<32s32sQQ")
"""Digest of the kind; digest, place and length of the table."""
_CHECKSUM = struct.Struct("<I")
_LENGTH_BITS = 24
_MAX_LENGTH = (1 << _LENGTH_BITS) - 1
"""A longer value is not kept."""
_BUFFER_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 16
WASTE_BYTES = 1 << 20
"""So much may always be wasted; more only where as much is of use."""


class _Table(msgspec.Struct, array_like=True):
    """`places` is an array of unsigned 64-bit numbers, in the order of `names`."""

    names: list[str]
    places: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Table).decode


class KeyedFile:
    """Values by name.

    A file that is not there, is damaged, or is of another kind holds no values. Where it cannot be written, what is put
    is forgotten.

    Args:
        path: of the file.
        kind: of the values.
        is_read_only: whether nothing is ever written.
    """

    def __init__(self, path: str, kind: str, *, is_read_only: bool = False) -> None:
        self._path = path
        self._kind = hashlib.sha256(f"{kind} {sys.byteorder}".encode()).digest()
        self._is_read_only = is_read_only
        self._is_changed = self._is_begun = False
        self._places, self._end = self._read_table()
        self._buffer = bytearray()
        self._window = (0, b"")

    def get(self, name: str) -> bytes | None:
        """Return a value, None where there is none."""
        place = self._places.get(name)
        if place is None:
            return None
        start, length = place >> _LENGTH_BITS, place & _MAX_LENGTH
        found = self._bytes(start, _CHECKSUM.size + length)
        checksum, value = found[: _CHECKSUM.size], found[_CHECKSUM.size :]
        return value if checksum == _checksum(name, value) else None

    def put(self, name: str, value: bytes) -> None:
        """Give a name a value."""
        self.drop(name)
        if self._is_read_only or len(value) > _MAX_LENGTH:
            return
        self._add(name, value)
        if len(self._buffer) >= _BUFFER_BYTES:
            self._attempt(self._flush)

    def drop(self, name: str) -> None:
        """Forget a value, if there is one."""
        if self._places.pop(name, None) is not None:
            self._is_changed = True

    def save(self) -> None:
        """Make what has changed count for whoever opens the file next; that this is not possible harms nobody."""
        if self._is_changed:
            self._attempt(self._save)
        self._is_changed = False

    def _add(self, name: str, value: bytes) -> None:
        self._places[name] = (self._end + len(self._buffer)) << _LENGTH_BITS | len(value)
        self._buffer += _checksum(name, value)
        self._buffer += value
        self._is_changed = True

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._is_read_only:
            return
        try:
            write()
        except (OSError, UnicodeEncodeError):
            self._is_read_only = True
            self._places.clear()
            self._buffer.clear()

    def _save(self) -> None:
        used = sum(_CHECKSUM.size + (place & _MAX_LENGTH) for place in self._places.values())
        if self._end + len(self._buffer) > 2 * used + WASTE_BYTES:
            self._write_anew()
        else:
            self._flush()
            self._write_table()

    def _write_anew(self) -> None:
        beside = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        other = KeyedFile(beside, "")
        other._kind = self._kind
        try:
            for name in self._places:
                value = self.get(name)
                if value is not None:
                    other._add(name, value)
                if len(other._buffer) >= _BUFFER_BYTES:
                    other._flush()
            other._flush()
            other._write_table()
            os.replace(beside, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        self._places, self._end, self._window = other._places, other._end, (0, b"")
        self._buffer.clear()

    def _flush(self) -> None:
        """Write what was added behind what counts."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with open(descriptor, "r+b") as file:
            if not self._is_begun:
                file.truncate(self._end)
            file.seek(self._end)
            file.write(self._buffer)
        self._is_begun = True
        self._end += len(self._buffer)
        self._buffer.clear()

    def _write_table(self) -> None:
        table = _encode(_Table(list(self._places), array.array("Q", self._places.values()).tobytes()))
        with open(self._path, "r+b") as file:
            file.seek(self._end)
            file.write(table)
            file.flush()
            file.seek(0)
            file.write(_HEAD.pack(self._kind, hashlib.sha256(table).digest(), self._end, len(table)))
        self._end += len(table)

    def _read_table(self) -> tuple[dict[str, int], int]:
        """Return the places of all values, and where the file ends as far as it counts."""
        try:
            with open(self._path, "rb", buffering=0) as file:
                kind, digest, start, length = _HEAD.unpack(file.read(_HEAD.size))
                if kind != self._kind or start + length > os.fstat(file.fileno()).st_size:
                    return {}, _HEAD.size
                file.seek(start)
                content = file.read(length)
            if hashlib.sha256(content).digest() != digest:
                return {}, _HEAD.size
            table = _decode(content)
        except (OSError, OverflowError, struct.error, msgspec.MsgspecError, UnicodeDecodeError):
            return {}, _HEAD.size
        places = array.array("Q", table.places)
        return dict(zip(table.names, places, strict=True)), start + length

    def _bytes(self, start: int, length: int) -> bytes:
        """Return a stretch of the file and of what is to be written behind it; less where it is not there."""
        if start >= self._end:
            return bytes(self._buffer[start - self._end : start - self._end + length])
        begin, window = self._window
        if not begin <= start <= start + length <= begin + len(window):
            most = min(max(length, _WINDOW_BYTES), self._end - start)  # what somebody left behind is written over yet
            begin, window = self._window = (start, self._look(start, most))
        return window[start - begin : start - begin + length]

    def _look(self, start: int, length: int) -> bytes:
        try:
            with open(self._path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, start)
        except OSError:
            return b""


def _checksum(name: str, value: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(value, zlib.crc32(name.encode("utf-8", "surrogateescape"))))
