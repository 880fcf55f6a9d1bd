"""Messages as payloads, and who may say which.

A payload is a MessagePack list of messages. What a peer says that is not in its table is skipped: a newer one may know
more. What is in the table and lacks a field, or has one of another type, is a protocol error.
"""

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


def _decoder(kinds: Any) -> Decoder:  # noqa: ANN401  (a union of types, which has no type of its own)
    together = msgspec.msgpack.Decoder(list[kinds])
    apart = msgspec.msgpack.Decoder(list[msgspec.Raw])
    one = msgspec.msgpack.Decoder(kinds)
    name = msgspec.msgpack.Decoder(_Tagged)
    tags = frozenset(kind.__struct_config__.tag for kind in kinds.__args__)

    def decode(payload: bytes) -> list[Message]:
        try:
            return together.decode(payload)
        except msgspec.ValidationError:
            return list(_known(payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"what the other side sent cannot be read: {error}") from error

    def _known(payload: bytes) -> Iterable[Message]:
        try:
            for raw in apart.decode(payload):
                if name.decode(raw).t in tags:
                    yield one.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"what the other side sent is no message: {error}") from error

    return decode


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


decode_from_worker: Decoder = _decoder(FromWorker)
decode_to_worker: Decoder = _decoder(ToWorker)
decode_from_client: Decoder = _decoder(FromClient)
decode_to_client: Decoder = _decoder(ToClient)
