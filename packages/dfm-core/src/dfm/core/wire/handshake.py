"""DFM-AUTH/1: both ends of a link prove that they hold the key, before either believes a word of the other.

    connecting -> listening   magic, protocol, abilities, nonce, slot, version
    listening -> connecting   verdict, protocol, abilities, nonce, daemon id, version, HMAC(K, "server" | T)
    connecting -> listening   HMAC(K, "client" | T)

K is the slot's own key, HMAC(key, "slot" | slot): a slot's key is of no use for another slot. T is everything both have
said, each field with its length. The listening side proves itself *first*, so that whoever has taken over its port
learns nothing and gets no worker. The roles stand in the labels, so that no proof can be sent back to its maker. A slot
that is not known is answered with a proof by a random key: the same failure, in the same time, as a wrong key. Frame
keys, and the key of TLS where both ends can, come from K and T, one for each direction.

Every packet is a u16 length and that many bytes. No clock, no socket: nonces are given in.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable

import msgspec

from dfm.api.errors import ExitCode, RunnerError
from dfm.core.wire.messages import PROTOCOL_VERSION

NONCE_BYTES = 32
KEY_BYTES = 32
PROOF_BYTES = 32
MAX_PACKET_BYTES = 1024
CAN_TLS = 0x01
"""Ability: TLS 1.3 with a pre-shared key."""
_MAGIC = b"DFM1"
_ACCEPTED, _REFUSED = 0, 1
_FIELD = struct.Struct(">H")


class HandshakeError(RunnerError):
    """The other side could not prove that it belongs to us."""


class VersionError(RunnerError):
    """The other side speaks another version of the protocol; no retry helps."""

    exit_code = ExitCode.RUNNER_UNAVAILABLE


class PlainLinkError(VersionError):
    """The link must be encrypted, and one of its ends cannot."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What an end tells of itself.

    Attributes:
        version: of the distribution, for the text of a refusal.
        abilities: of `CAN_TLS`.
        protocol: replaced only by tests.
    """

    version: str
    abilities: int = 0
    protocol: int = PROTOCOL_VERSION


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a handshake has agreed on. It has no repr, so that no log shows its keys.

    Attributes:
        sends: key of the direction in which this end sends.
        receives: key of the other direction.
        tls: pre-shared key where both ends can TLS, else None.
        peer_version: of the other end's distribution.
    """

    slot: str
    sends: bytes
    receives: bytes
    tls: bytes | None
    daemon_id: bytes
    peer_version: str

    def __repr__(self) -> str:
        return f"Session({self.slot!r})"


def slot_key(key: bytes, slot: str) -> bytes:
    """Return the key of one slot."""
    return _mac(key, b"slot", slot.encode())


class ConnectingSide:
    """The side that connects: a worker, or a client from another host.

    Args:
        key: the slot's own, see `slot_key`.
        nonce: NONCE_BYTES of fresh randomness.
        daemon_id: whom we mean to reach; part of the access file.
    """

    def __init__(self, key: bytes, slot: str, identity: Identity, nonce: bytes, daemon_id: bytes) -> None:
        self._key = key
        self._slot = slot
        self._identity = identity
        self._daemon_id = daemon_id
        self._hello = _fields(
            _MAGIC,
            _FIELD.pack(identity.protocol),
            bytes((identity.abilities,)),
            nonce,
            slot.encode(),
            identity.version.encode(),
        )

    def hello(self) -> bytes:
        """Return the first packet."""
        return self._hello

    def answer(self, packet: bytes) -> tuple[bytes, Session]:
        """Check the listening side's proof; return our own, and the session.

        Raises:
            HandshakeError: it does not hold the key.
            VersionError: it holds the key, and speaks another protocol.
        """
        fields = _unpack(packet, 7)
        verdict, protocol, abilities, nonce, daemon_id, version, proof = fields
        if len(protocol) != _FIELD.size or len(abilities) != 1:
            raise HandshakeError("what came is no answer of ours")
        transcript = _fields(self._hello, *fields[:-1])
        if not hmac.compare_digest(proof, _mac(self._key, b"server", transcript)):
            raise HandshakeError("the daemon does not hold the key of the access file, or does not know this slot")
        if verdict != bytes((_ACCEPTED,)) or _FIELD.unpack(protocol)[0] != self._identity.protocol:
            raise _version_error(self._identity, _FIELD.unpack(protocol)[0], version.decode(errors="replace"))
        if not hmac.compare_digest(daemon_id, self._daemon_id) or len(nonce) != NONCE_BYTES:
            raise HandshakeError("another daemon answers than the one of the access file")
        session = Session(
            slot=self._slot,
            sends=_mac(self._key, b"c2s", transcript),
            receives=_mac(self._key, b"s2c", transcript),
            tls=_tls_key(self._key, transcript, self._identity.abilities & abilities[0]),
            daemon_id=daemon_id,
            peer_version=version.decode(errors="replace"),
        )
        return _mac(self._key, b"client", transcript), session


class ListeningSide:
    """The side that listens.

    Args:
        keys: the key of a slot that may connect now, None for any other.
        nonce: NONCE_BYTES of fresh randomness.
        decoy: KEY_BYTES of fresh randomness, the key for slots that are not known.
    """

    def __init__(
        self, keys: Callable[[str], bytes | None], identity: Identity, daemon_id: bytes, nonce: bytes, decoy: bytes
    ) -> None:
        self._keys = keys
        self._identity = identity
        self._daemon_id = daemon_id
        self._nonce = nonce
        self._decoy = decoy
        self._session: Session | None = None
        self._expected = b""
        self._refusal: VersionError | None = None

    def answer(self, packet: bytes) -> bytes:
        """Take the hello; return our proof.

        Raises:
            HandshakeError: it is no hello.
        """
        magic, protocol, abilities, nonce, slot_bytes, version = _unpack(packet, 6)
        if magic != _MAGIC or len(nonce) != NONCE_BYTES or len(protocol) != _FIELD.size or len(abilities) != 1:
            raise HandshakeError("the first packet is no greeting of ours")
        slot = slot_bytes.decode(errors="replace")
        known = self._keys(slot)
        key = self._decoy if known is None else known
        peer_version = version.decode(errors="replace")
        if _FIELD.unpack(protocol)[0] != self._identity.protocol:
            self._refusal = _version_error(self._identity, _FIELD.unpack(protocol)[0], peer_version)
        said = (
            bytes((_ACCEPTED if self._refusal is None else _REFUSED,)),
            _FIELD.pack(self._identity.protocol),
            bytes((self._identity.abilities,)),
            self._nonce,
            self._daemon_id,
            self._identity.version.encode(),
        )
        transcript = _fields(packet, *said)
        self._expected = _mac(key, b"client", transcript)
        self._session = Session(
            slot=slot,
            sends=_mac(key, b"s2c", transcript),
            receives=_mac(key, b"c2s", transcript),
            tls=_tls_key(key, transcript, self._identity.abilities & abilities[0]),
            daemon_id=self._daemon_id,
            peer_version=peer_version,
        )
        return _fields(*said, _mac(key, b"server", transcript))

    def finish(self, packet: bytes) -> Session:
        """Check the connecting side's proof; return the session.

        Raises:
            HandshakeError: it does not hold the key of a slot that we know.
            VersionError: it speaks another protocol, and was told so.
        """
        if self._session is None:
            raise HandshakeError("a proof came before the greeting")
        if self._refusal is not None:
            raise self._refusal
        if not hmac.compare_digest(packet, self._expected):
            raise HandshakeError("a stranger: no key of a slot that is known here")
        return self._session


def greeting(identity: Identity) -> bytes:
    """Return the packet that both ends of a Unix socket begin with: the kernel has said who they are."""
    return _fields(_MAGIC, _FIELD.pack(identity.protocol), identity.version.encode())


def check_greeting(packet: bytes, identity: Identity) -> str:
    """Return the version of the other end of a Unix socket.

    Raises:
        HandshakeError: it is no greeting.
        VersionError: it speaks another protocol.
    """
    magic, protocol, version = _unpack(packet, 3)
    if magic != _MAGIC or len(protocol) != _FIELD.size:
        raise HandshakeError("the first packet is no greeting of ours")
    if _FIELD.unpack(protocol)[0] != identity.protocol:
        raise _version_error(identity, _FIELD.unpack(protocol)[0], version.decode(errors="replace"))
    return version.decode(errors="replace")


def as_packet(content: bytes) -> bytes:
    """Return the content with its length before it."""
    return _FIELD.pack(len(content)) + content


def packet_length(head: bytes) -> int:
    """Return how many bytes follow the two of the head.

    Raises:
        HandshakeError: more than any packet of ours has.
    """
    (length,) = _FIELD.unpack(head)
    if not 0 < length <= MAX_PACKET_BYTES:
        raise HandshakeError("what comes is no greeting of ours")
    return int(length)


def _version_error(mine: Identity, protocol: int, version: str) -> VersionError:
    return VersionError(
        f"this end is dfm {mine.version} (protocol {mine.protocol}), the other dfm {version} (protocol {protocol})",
        hint="install the same version of dfm-core at both ends, and start the daemon anew",
    )


def _tls_key(key: bytes, transcript: bytes, common: int) -> bytes | None:
    return _mac(key, b"tls", transcript) if common & CAN_TLS else None


def _mac(key: bytes, label: bytes, content: bytes) -> bytes:
    return hmac.digest(key, _fields(label, content), hashlib.sha256)


def _fields(*parts: bytes) -> bytes:
    return b"".join(_FIELD.pack(len(part)) + part for part in parts)


def _unpack(packet: bytes, count: int) -> list[bytes]:
    parts: list[bytes] = []
    at = 0
    while at + _FIELD.size <= len(packet) and len(parts) < count:
        (length,) = _FIELD.unpack_from(packet, at)
        at += _FIELD.size
        parts.append(packet[at : at + length])
        at += length
    if len(parts) != count or at != len(packet):
        raise HandshakeError("what came is no greeting of ours")
    return parts
