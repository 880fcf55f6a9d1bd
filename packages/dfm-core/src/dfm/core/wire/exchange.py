"""Messages as payloads, and who may say which.

A payload is a MessagePack list of messages. What a peer says that is not in its table is skipped: a newer one may know
more. What is in the table and lacks a field, or has one of another type, is a protocol error.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from dfm.core.wire.frame import ProtocolError
from dfm.core.wire.messages import FromClient, FromWorker, Message, ToClient, ToWorker

Decoder = Callable[[bytes], list[Message]]
"""Turns a payload into the messages of one direction; raises ProtocolError."""

_encoder = msgspec.msgpack.Encoder()


def encode(messages: Sequence[Message]) -> bytes:
    """Return the payload of the messages.

    Text that is no Unicode (a path with foreign bytes) is shown with backslashes: what must arrive to the byte goes as
    bytes, or through `codec`.
    """
    try:
        return _encoder.encode(messages)
    except UnicodeEncodeError:
        return _encoder.encode(_printable(msgspec.to_builtins(messages, builtin_types=(bytes,))))


class _Tagged(msgspec.Struct):
    t: str


class _Reader:
    """Reads the messages of one direction. Its first payload makes it ready: an end needs one direction of four."""

    def __init__(self, kinds: Any) -> None:  # noqa: ANN401  (a union of types, which has no type of its own)
        self._kinds = kinds

    def __call__(self, payload: bytes) -> list[Message]:
        try:
            return self._together.decode(payload)
        except msgspec.ValidationError:
            return list(self._known(payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"what the other side sent cannot be read: {error}") from error

    def _known(self, payload: bytes) -> Iterable[Message]:
        tags = {kind.__struct_config__.tag for kind in self._kinds.__args__}
        try:
            for raw in msgspec.msgpack.decode(payload, type=list[msgspec.Raw]):
                if msgspec.msgpack.decode(raw, type=_Tagged).t in tags:
                    yield msgspec.msgpack.decode(raw, type=self._kinds)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"what the other side sent is no message: {error}") from error

    @functools.cached_property
    def _together(self) -> "msgspec.msgpack.Decoder[list[Message]]":
        kinds = self._kinds
        return msgspec.msgpack.Decoder(list[kinds])  # type: ignore[valid-type]  # known only now


def _printable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case dict():
            return {_printable(key): _printable(item) for key, item in value.items()}
        case list() | tuple():
            return [_printable(item) for item in value]
        case _:
            return value


decode_from_worker: Decoder = _Reader(FromWorker)
decode_to_worker: Decoder = _Reader(ToWorker)
decode_from_client: Decoder = _Reader(FromClient)
decode_to_client: Decoder = _Reader(ToClient)
