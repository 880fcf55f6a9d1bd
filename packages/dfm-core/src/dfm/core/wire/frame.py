"""Frames: how messages become bytes on a link, and how nobody can slip one in.

    u32 length | 16-byte MAC | flags | body            (length counts MAC, flags and body)

The MAC is HMAC-SHA256, cut to 16 bytes, over the frame's number (u64, from 0, never sent), its flags and its body,
under a key for this direction of this connection: a frame cannot be forged, replayed, left out, reordered or cut
without being noticed. Where both ends are one user on one host (a Unix socket whose peer the kernel has named) there is
no MAC.

A body is a MessagePack list of messages. A body larger than MAX_FRAME_BYTES is cut over frames; all but the last bear
the flag MORE.
"""

import hmac
import struct
from collections.abc import Iterable

MAX_FRAME_BYTES = 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
MAC_BYTES = 16
_LENGTH = struct.Struct(">I")
_NUMBERED = struct.Struct(">QB")
_MORE = 1


class ProtocolError(Exception):
    """What came is not of this protocol, or not from whom it should be: the link is to be closed."""


class FrameWriter:
    """Turns bodies into frames.

    Args:
        key: of this direction; None leaves the MAC out.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._number = 0

    def pack(self, body: bytes) -> bytes:
        """Return the frames of one body.

        Raises:
            ProtocolError: it is larger than MAX_BODY_BYTES.
        """
        if len(body) <= MAX_FRAME_BYTES:
            return self._frame(body, 0)
        if len(body) > MAX_BODY_BYTES:
            raise ProtocolError(f"a message of {len(body):,} bytes; {MAX_BODY_BYTES:,} is the limit")
        view = memoryview(body)
        pieces = [bytes(view[start : start + MAX_FRAME_BYTES]) for start in range(0, len(body), MAX_FRAME_BYTES)]
        return b"".join(self._frame(piece, _MORE if piece is not pieces[-1] else 0) for piece in pieces)

    def _frame(self, body: bytes, flags: int) -> bytes:
        mac = b"" if self._key is None else _mac(self._key, self._number, flags, body)
        self._number += 1
        return b"%b%b%c%b" % (_LENGTH.pack(len(mac) + 1 + len(body)), mac, flags, body)


class FrameReader:
    """Turns what comes on a link into bodies.

    Args:
        key: of this direction; None expects no MAC.
        max_body_bytes: smaller for peers that have not proved who they are.
    """

    def __init__(self, key: bytes | None, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._key = key
        self._mac_bytes = 0 if key is None else MAC_BYTES
        self._max_body_bytes = max_body_bytes
        self._number = 0
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0

    def feed(self, data: bytes, most: int | None = None) -> list[bytes]:
        """Take in what came and return the bodies that are whole.

        Args:
            data: what came.
            most: so many bodies at most, where what follows them may be under another key; it stays in `rest`.

        Raises:
            ProtocolError: a frame is too large, or its MAC is not the one it must have. Nothing of it was used.
        """
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size and (most is None or len(bodies) < most):
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            self._check_length(length)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            self._take(bytes(self._buffer[start + _LENGTH.size : end]), bodies)
            start = end
        del self._buffer[:start]
        return bodies

    @property
    def rest(self) -> bytes:
        """What came and was not taken yet, for whoever reads on under another key."""
        return bytes(self._buffer)

    def _check_length(self, length: int) -> None:
        if length < self._mac_bytes + 1:
            raise ProtocolError("a frame is too short to be one")
        if length > min(MAX_FRAME_BYTES, self._max_body_bytes) + self._mac_bytes + 1:
            raise ProtocolError(f"a frame says that it has {length:,} bytes")

    def _take(self, frame: bytes, bodies: list[bytes]) -> None:
        mac, flags, body = frame[: self._mac_bytes], frame[self._mac_bytes], frame[self._mac_bytes + 1 :]
        if self._key is not None and not hmac.compare_digest(mac, _mac(self._key, self._number, flags, body)):
            raise ProtocolError("a frame does not bear the mark of who should have sent it")
        self._number += 1
        if not flags & _MORE and not self._pieces:
            bodies.append(body)
            return
        self._pieces.append(body)
        self._pieces_bytes += len(body)
        if self._pieces_bytes > self._max_body_bytes:
            raise ProtocolError(f"a message is larger than {self._max_body_bytes:,} bytes")
        if not flags & _MORE:
            bodies.append(b"".join(self._pieces))
            self._pieces.clear()
            self._pieces_bytes = 0


def joined(parts: Iterable[bytes]) -> bytes:
    """Return parts as one text that no other parts give: each with its length before it."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _mac(key: bytes, number: int, flags: int, body: bytes) -> bytes:
    return hmac.digest(key, _NUMBERED.pack(number, flags) + body, "sha256")[:MAC_BYTES]
