"""DFM-AUTH/1: daemon and worker prove to each other that they know the key of a slot, the daemon first.

    worker  -> daemon   version, slot, nonce of the worker
    daemon  -> worker   nonce of the daemon, daemon id, HMAC(K, "server" | T)
    worker  -> daemon   HMAC(K, "client" | T)

K = HMAC(key of the access file, "slot" | slot); T joins every field that was said, each with its length. Whoever holds
a port that was the daemon's learns nothing and gets no worker. A slot that is not known fails like a key that is wrong:
the daemon answers under a key of its own invention. Each direction then has a key of its own for its frames.
Pure: nonces are given, bytes go in and out.
"""

import hmac
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from dfm.core.wire.frame import ProtocolError, joined
from dfm.core.wire.messages import PROTOCOL_VERSION

NONCE_BYTES = 32
MAX_HANDSHAKE_BYTES = 4096
_MAGIC = "DFM-AUTH/1"

T = TypeVar("T")


class HandshakeError(ProtocolError):
    """The other side is not who it should be, or speaks another version."""


class _ClientHello(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    protocol: int
    version: str
    slot: str
    nonce: bytes


class _ServerProof(msgspec.Struct, frozen=True, array_like=True):
    protocol: int
    version: str
    nonce: bytes
    daemon_id: bytes
    proof: bytes


class _ClientProof(msgspec.Struct, frozen=True, array_like=True):
    proof: bytes


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """One key for each direction of one connection."""

    to_server: bytes
    to_client: bytes


def slot_key(key: bytes, slot: str) -> bytes:
    """Return the key of one slot; nothing of the daemon's key, or of another slot's, follows from it."""
    return hmac.digest(key, joined([b"slot", slot.encode()]), "sha256")


class ClientHandshake:
    """The worker's side.

    Args:
        key: of the slot.
        nonce: NONCE_BYTES random bytes, never used before.
    """

    def __init__(self, key: bytes, slot: str, version: str, nonce: bytes) -> None:
        self._key = key
        self._hello = _ClientHello(_MAGIC, PROTOCOL_VERSION, version, slot, nonce)
        self._transcript = b""

    def hello(self) -> bytes:
        """Return what is said first."""
        return msgspec.msgpack.encode(self._hello)

    def prove(self, answer: bytes) -> bytes:
        """Check that the daemon knows the key, and return the proof that we do.

        Raises:
            HandshakeError: it does not, or speaks another version.
        """
        proof = _decoded(answer, _ServerProof)
        if proof.protocol != PROTOCOL_VERSION:
            raise HandshakeError(
                f"the daemon is DFM {proof.version} and speaks protocol {proof.protocol}; "
                f"this worker is DFM {self._hello.version} and speaks {PROTOCOL_VERSION}"
            )
        self._transcript = _transcript(self._hello, proof.nonce, proof.daemon_id, proof.version)
        if not hmac.compare_digest(proof.proof, _proof(self._key, b"server", self._transcript)):
            raise HandshakeError("whoever listens there does not know the key of this slot")
        return msgspec.msgpack.encode(_ClientProof(_proof(self._key, b"client", self._transcript)))

    def keys(self) -> SessionKeys:
        """Return the keys for frames; after `prove`."""
        assert self._transcript, "prove comes first"
        return _session_keys(self._key, self._transcript)


class ServerHandshake:
    """The daemon's side.

    Args:
        daemon_id: of this daemon's life.
        nonce: NONCE_BYTES random bytes, never used before.
    """

    def __init__(self, daemon_id: bytes, version: str, nonce: bytes) -> None:
        self._daemon_id = daemon_id
        self._version = version
        self._nonce = nonce
        self._key = b""
        self._transcript = b""
        self._is_spoilt = False

    def slot(self, hello: bytes) -> str:
        """Return the slot that the peer claims to be.

        Raises:
            HandshakeError: what came is no hello of DFM.
        """
        self._hello = _decoded(hello, _ClientHello)
        if self._hello.magic != _MAGIC or len(self._hello.nonce) != NONCE_BYTES:
            raise HandshakeError("what came is no hello of a DFM worker")
        return self._hello.slot

    def answer(self, key: bytes) -> bytes:
        """Return our proof under the key of the slot, or under a random one where there is no such slot."""
        self._key = key
        self._transcript = _transcript(self._hello, self._nonce, self._daemon_id, self._version)
        proof = _proof(key, b"server", self._transcript)
        return msgspec.msgpack.encode(
            _ServerProof(PROTOCOL_VERSION, self._version, self._nonce, self._daemon_id, proof)
        )

    def accept(self, answer: bytes) -> SessionKeys:
        """Check that the worker knows the key and return the keys for frames.

        Raises:
            HandshakeError: it does not.
        """
        if self._hello.protocol != PROTOCOL_VERSION:
            raise HandshakeError(f"a worker of DFM {self._hello.version} speaks protocol {self._hello.protocol}")
        proof = _decoded(answer, _ClientProof).proof
        if not hmac.compare_digest(proof, _proof(self._key, b"client", self._transcript)):
            raise HandshakeError("the peer does not know the key of the slot")
        return _session_keys(self._key, self._transcript)


def _transcript(hello: _ClientHello, nonce: bytes, daemon_id: bytes, version: str) -> bytes:
    return joined(
        [
            hello.magic.encode(),
            str(hello.protocol).encode(),
            hello.version.encode(),
            hello.slot.encode(),
            hello.nonce,
            nonce,
            daemon_id,
            version.encode(),
        ]
    )


def _proof(key: bytes, role: bytes, transcript: bytes) -> bytes:
    return hmac.digest(key, joined([role, transcript]), "sha256")


def _session_keys(key: bytes, transcript: bytes) -> SessionKeys:
    return SessionKeys(_proof(key, b"client to server", transcript), _proof(key, b"server to client", transcript))


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise HandshakeError("what came is not of DFM's handshake") from error
