"""Frames: bytes in order, whole, and from whom they claim to be.

    u32 length | 16 bytes of MAC | u8 flags | body          length counts flags and body

The MAC is HMAC-SHA256, cut to 16 bytes, over (sequence u64, flags, length, body): what is changed, repeated, left out,
reordered or cut off is noticed. Each direction has a key and a sequence of its own. Without a key (a Unix socket, whose
other end the kernel vouches for) the MAC is left out and everything else stays.

A payload larger than a frame takes several, all but the last with the MORE flag, up to MAX_MESSAGE_BYTES together. No
clock, no socket.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable

from dfm.api.errors import RunnerError
from dfm.core.wire.messages import MAX_MESSAGE_BYTES

MAX_FRAME_BYTES = 1024 * 1024
"""The largest body of one frame: what a peer can make us hold before its MAC has been looked at."""
MAC_BYTES = 16
_MORE = 0x01
_LENGTH = struct.Struct(">I")
_SEALED = struct.Struct(">QBI")


class ProtocolError(RunnerError):
    """The other side sent what it may not; the link is closed."""


class FrameWriter:
    """Makes frames of payloads.

    Args:
        key: of this direction; None on a link that needs no MAC.
    """

    def __init__(self, key: bytes | None) -> None:
        self._mac = _keyed(key)
        self._sequence = 0

    def pack(self, payloads: Iterable[bytes]) -> bytes:
        """Return the frames of the payloads, in order.

        Raises:
            ProtocolError: a payload is larger than MAX_MESSAGE_BYTES.
        """
        parts: list[bytes | memoryview] = []
        for payload in payloads:
            self._split(payload, parts)
        return b"".join(parts)

    def _split(self, payload: bytes, parts: list[bytes | memoryview]) -> None:
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ProtocolError(
                f"a message of {len(payload)} bytes is larger than the {MAX_MESSAGE_BYTES} that may travel",
                hint="put what is large into a file and pass its path",
            )
        if len(payload) <= MAX_FRAME_BYTES:
            self._seal(payload, 0, parts)
            return
        view = memoryview(payload)
        for start in range(0, len(view), MAX_FRAME_BYTES):
            body = view[start : start + MAX_FRAME_BYTES]
            self._seal(body, _MORE if start + MAX_FRAME_BYTES < len(view) else 0, parts)

    def _seal(self, body: bytes | memoryview, flags: int, parts: list[bytes | memoryview]) -> None:
        length = len(body) + 1
        parts.append(_LENGTH.pack(length))
        if self._mac is not None:
            parts.append(_digest(self._mac, self._sequence, flags, length, body))
        parts.append(bytes((flags,)))
        parts.append(body)
        self._sequence += 1


class FrameReader:
    """Makes payloads of the bytes of one direction; after a ProtocolError it is of no further use.

    Args:
        key: of this direction; None on a link that needs no MAC.
    """

    def __init__(self, key: bytes | None) -> None:
        self._mac = _keyed(key)
        self._head = _LENGTH.size + (0 if key is None else MAC_BYTES)
        self._sequence = 0
        self._buffer = bytearray()
        self._partial = bytearray()

    @property
    def is_between_payloads(self) -> bool:
        """Whether the stream may end here without anything being cut off."""
        return not self._buffer and not self._partial

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what has come; return the payloads that are whole with it.

        Raises:
            ProtocolError: a frame is not what its MAC says, or larger than it may be.
        """
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        while (end := self._end_of_frame(start)) is not None:
            self._take(start, end, payloads)
            start = end
        if start:
            del self._buffer[:start]
        return payloads

    def _end_of_frame(self, start: int) -> int | None:
        """Return where the frame ends that begins at `start`; None where it is not whole yet."""
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if not 1 <= length <= MAX_FRAME_BYTES + 1:
            raise ProtocolError(f"a frame of {length} bytes is not one of ours")
        end: int = start + self._head + length
        return end if end <= len(self._buffer) else None

    def _take(self, start: int, end: int, payloads: list[bytes]) -> None:
        flags = self._buffer[start + self._head]
        body = bytes(memoryview(self._buffer)[start + self._head + 1 : end])
        if self._mac is not None:
            mac = bytes(self._buffer[start + _LENGTH.size : start + self._head])
            if not hmac.compare_digest(mac, _digest(self._mac, self._sequence, flags, len(body) + 1, body)):
                raise ProtocolError("a frame does not carry the right authentication")
        self._sequence += 1
        self._join(flags, body, payloads)

    def _join(self, flags: int, body: bytes, payloads: list[bytes]) -> None:
        if flags & ~_MORE or (flags and not body):
            raise ProtocolError(f"a frame with flags {flags:#x} and {len(body)} bytes is not one of ours")
        if len(self._partial) + len(body) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message is larger than the {MAX_MESSAGE_BYTES} bytes that may travel")
        if flags & _MORE:
            self._partial += body
        elif self._partial:
            payloads.append(bytes(self._partial) + body)
            self._partial = bytearray()
        else:
            payloads.append(body)


def _keyed(key: bytes | None) -> "hmac.HMAC | None":
    return None if key is None else hmac.new(key, digestmod=hashlib.sha256)


def _digest(keyed: hmac.HMAC, sequence: int, flags: int, length: int, body: bytes | memoryview) -> bytes:
    mac = keyed.copy()
    mac.update(_SEALED.pack(sequence, flags, length))
    mac.update(body)
    return mac.digest()[:MAC_BYTES]
