"""Messages: read where they are known, skipped where they are not, refused where they are broken."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.core.wire.exchange import (
    decode_from_client,
    decode_from_worker,
    decode_to_client,
    decode_to_worker,
    encode,
)
from dfm.core.wire.frame import ProtocolError
from dfm.core.wire.messages import Ack, Beat, Open, Result, Run


def test_messages_arrive_as_they_were() -> None:
    said = [Beat(load=0.5), Ack(attempt=1 << 41), Run(attempt=2, number=1, task="a.b", spec=b"\0\xff")]
    assert decode_to_worker(encode(said)) == said


def test_message_of_a_newer_peer_is_skipped_and_its_new_fields_too() -> None:
    payload = msgspec.msgpack.encode([{"t": "dance"}, {"t": "ack", "attempt": 3, "colour": "blue"}])
    assert decode_to_worker(payload) == [Ack(attempt=3)]


def test_message_of_another_direction_is_skipped() -> None:
    assert decode_from_worker(encode([Ack(attempt=1), Beat()])) == [Beat()]


@pytest.mark.parametrize(
    "content",
    [[{"t": "ack"}], [{"t": "ack", "attempt": "x"}], [3], {"t": "ack"}, [{"attempt": 1}], [{"t": 1}], None, [[]]],
)
def test_broken_message_is_a_protocol_error(content: object) -> None:
    with pytest.raises(ProtocolError):
        decode_to_worker(msgspec.msgpack.encode(content))


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_or_nothing(garbage: bytes) -> None:
    for decode in (decode_to_worker, decode_from_worker, decode_from_client, decode_to_client):
        with contextlib.suppress(ProtocolError):
            assert decode(garbage) == []


def test_deep_nesting_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        decode_from_client(b"\x91" * 100_000)


def test_path_with_foreign_bytes_is_shown() -> None:
    said = Open(run_id="r", user="u", version="1", directory="/a\udcff")
    assert decode_from_client(encode([said, Beat()])) == [
        Open(run_id="r", user="u", version="1", directory="/a\\udcff"),
        Beat(),
    ]


def test_bytes_stay_bytes_beside_foreign_text() -> None:
    result = Result(attempt=1, outcome="\udcff", body=b"\0\xfe")
    assert decode_from_worker(encode([result])) == [Result(attempt=1, outcome="\\udcff", body=b"\0\xfe")]
