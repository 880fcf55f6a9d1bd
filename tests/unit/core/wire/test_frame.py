"""Frames: what went in comes out, and nothing else ever does."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.core.wire import frame
from dfm.core.wire.frame import MAX_FRAME_BYTES, FrameReader, FrameWriter, ProtocolError

KEY = b"k" * 32
payload_lists = st.lists(st.binary(max_size=200), max_size=6)


@given(payload_lists, st.integers(1, 50), st.sampled_from([KEY, None]))
def test_payloads_arrive_in_order_however_the_stream_is_cut(
    payloads: list[bytes], step: int, key: bytes | None
) -> None:
    stream = FrameWriter(key).pack(payloads)
    reader = FrameReader(key)
    arrived: list[bytes] = []
    for start in range(0, len(stream), step):
        arrived += reader.feed(stream[start : start + step])
    assert arrived == payloads
    assert reader.is_between_payloads


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 3 * MAX_FRAME_BYTES])
def test_large_payload_takes_several_frames(size: int) -> None:
    payload = bytes(size)
    assert FrameReader(KEY).feed(FrameWriter(KEY).pack([payload, b"next"])) == [payload, b"next"]


@given(payload_lists.filter(bool), st.data())
def test_changed_bit_is_never_taken_for_what_was_sent(payloads: list[bytes], data: st.DataObject) -> None:
    stream = bytearray(FrameWriter(KEY).pack(payloads))
    place = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[place // 8] ^= 1 << place % 8
    reader = FrameReader(KEY)
    arrived: list[bytes] = []
    try:
        for byte in stream:
            arrived += reader.feed(bytes((byte,)))
    except ProtocolError:
        pass
    else:
        assert not reader.is_between_payloads
    assert arrived == payloads[: len(arrived)]
    assert len(arrived) < len(payloads)


def test_frame_that_comes_again_is_refused() -> None:
    stream = FrameWriter(KEY).pack([b"once"])
    reader = FrameReader(KEY)
    reader.feed(stream)
    with pytest.raises(ProtocolError):
        reader.feed(stream)


def test_frame_that_was_left_out_is_noticed() -> None:
    writer, reader = FrameWriter(KEY), FrameReader(KEY)
    writer.pack([b"lost"])
    with pytest.raises(ProtocolError):
        reader.feed(writer.pack([b"second"]))


def test_frame_of_the_other_direction_is_refused() -> None:
    with pytest.raises(ProtocolError):
        FrameReader(b"c" * 32).feed(FrameWriter(b"s" * 32).pack([b"mine"]))


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 2, 0xFFFFFFFF, 0x16030100])
def test_length_that_no_frame_has_is_refused_before_anything_is_held(length: int) -> None:
    with pytest.raises(ProtocolError):
        FrameReader(KEY).feed(struct.pack(">I", length))


@pytest.mark.parametrize("content", [b"\x02x", b"\x01", b"\xffx"])
def test_unknown_flags_and_empty_parts_are_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader(None).feed(struct.pack(">I", len(content)) + content)


def test_message_beyond_the_limit_is_refused_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = FrameWriter(None).pack([bytes(MAX_FRAME_BYTES * 2)])
    monkeypatch.setattr(frame, "MAX_MESSAGE_BYTES", MAX_FRAME_BYTES)
    with pytest.raises(ProtocolError, match="larger"):
        FrameWriter(None).pack([bytes(MAX_FRAME_BYTES + 1)])
    with pytest.raises(ProtocolError, match="larger"):
        FrameReader(None).feed(stream)
