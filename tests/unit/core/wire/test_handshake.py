"""The handshake: only who holds the slot's key gets a session, whatever is sent."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.core.wire.handshake import (
    CAN_TLS,
    MAX_PACKET_BYTES,
    ConnectingSide,
    HandshakeError,
    Identity,
    ListeningSide,
    Session,
    VersionError,
    as_packet,
    check_greeting,
    greeting,
    packet_length,
    slot_key,
)

KEY, DAEMON = b"k" * 32, b"d" * 16
ME = Identity(version="1.2.3")


def keys(slot: str) -> bytes | None:
    return slot_key(KEY, slot) if slot in ("s1", "s2") else None


def connecting(slot: str = "s1", key: bytes = KEY, identity: Identity = ME, nonce: bytes = b"n" * 32) -> ConnectingSide:
    return ConnectingSide(slot_key(key, slot), slot, identity, nonce, DAEMON)


def listening(identity: Identity = ME, nonce: bytes = b"m" * 32, daemon: bytes = DAEMON) -> ListeningSide:
    return ListeningSide(keys, identity, daemon, nonce, b"z" * 32)


def shake(client: ConnectingSide, server: ListeningSide) -> tuple[Session, Session]:
    proof, mine = client.answer(server.answer(client.hello()))
    return mine, server.finish(proof)


def test_both_ends_agree_on_a_key_for_each_direction() -> None:
    client, server = shake(connecting(), listening())
    assert (client.sends, client.receives) == (server.receives, server.sends)
    assert client.sends != client.receives
    assert (server.slot, server.peer_version, client.tls) == ("s1", "1.2.3", None)


def test_each_link_has_keys_of_its_own() -> None:
    first, _ = shake(connecting(), listening(nonce=b"1" * 32))
    second, _ = shake(connecting(), listening(nonce=b"2" * 32))
    assert {first.sends, first.receives} & {second.sends, second.receives} == set()


@pytest.mark.parametrize(("mine", "theirs", "has_tls"), [(1, 1, True), (1, 0, False), (0, 1, False)])
def test_tls_has_a_key_exactly_where_both_can(mine: int, theirs: int, has_tls: bool) -> None:
    client, server = shake(
        connecting(identity=Identity(version="1", abilities=mine * CAN_TLS)),
        listening(identity=Identity(version="1", abilities=theirs * CAN_TLS)),
    )
    assert client.tls == server.tls
    assert (client.tls is not None) == has_tls


def test_connecting_side_says_nothing_to_one_without_the_key() -> None:
    squatter = ListeningSide(lambda _: b"x" * 32, ME, DAEMON, b"m" * 32, b"z" * 32)
    client = connecting()
    with pytest.raises(HandshakeError, match="does not hold the key"):
        client.answer(squatter.answer(client.hello()))


def test_unknown_slot_fails_as_a_wrong_key_does() -> None:
    errors: list[str] = []
    for client in (connecting("s9"), connecting("s1", key=b"w" * 32)):
        server = listening()
        with pytest.raises(HandshakeError) as caught:
            client.answer(server.answer(client.hello()))
        errors.append(caught.value.message)
        with pytest.raises(HandshakeError) as caught:
            server.finish(b"p" * 32)
        errors.append(caught.value.message)
    assert errors[:2] == errors[2:]


def test_key_of_one_slot_opens_no_other() -> None:
    thief = ConnectingSide(slot_key(KEY, "s1"), "s2", ME, b"n" * 32, DAEMON)
    with pytest.raises(HandshakeError):
        thief.answer(listening().answer(thief.hello()))


def test_other_daemon_of_the_same_key_is_refused() -> None:
    client = connecting()
    with pytest.raises(HandshakeError, match="another daemon"):
        client.answer(listening(daemon=b"e" * 16).answer(client.hello()))


def test_recorded_handshake_is_of_no_use_later() -> None:
    client, server = connecting(), listening()
    hello = client.hello()
    proof, _ = client.answer(server.answer(hello))
    again = listening(nonce=b"other".ljust(32))
    again.answer(hello)
    with pytest.raises(HandshakeError):
        again.finish(proof)


def test_recorded_answer_does_not_satisfy_a_new_connection() -> None:
    answer = listening().answer(connecting().hello())
    with pytest.raises(HandshakeError):
        connecting(nonce=b"fresh".ljust(32)).answer(answer)


def test_proof_sent_back_to_its_maker_proves_nothing() -> None:
    client, server = connecting(), listening()
    answer = server.answer(client.hello())
    with pytest.raises(HandshakeError):
        server.finish(answer[-32:])
    with pytest.raises(HandshakeError):
        client.answer(client.hello())
    with pytest.raises(HandshakeError):
        listening().answer(answer)


def test_proof_before_the_greeting_is_refused() -> None:
    with pytest.raises(HandshakeError):
        listening().finish(b"p" * 32)


def test_other_protocol_is_refused_with_both_versions_at_both_ends() -> None:
    client = connecting(identity=Identity(version="2.0", protocol=2))
    server = listening()
    with pytest.raises(VersionError) as caught:
        client.answer(server.answer(client.hello()))
    assert caught.value.message == "this end is dfm 2.0 (protocol 2), the other dfm 1.2.3 (protocol 1)"
    with pytest.raises(VersionError):
        server.finish(b"")


def test_refusal_by_a_stranger_is_no_refusal() -> None:
    client = connecting(identity=Identity(version="2.0", protocol=2))
    stranger = ListeningSide(lambda _: b"x" * 32, ME, DAEMON, b"m" * 32, b"z" * 32)
    with pytest.raises(HandshakeError):
        client.answer(stranger.answer(client.hello()))


def _mutate(packet: bytes, chance: random.Random) -> bytes:
    content = bytearray(packet)
    kind = chance.randrange(5)
    place = chance.randrange(len(content)) if content else 0
    if kind == 0 and content:
        content[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del content[place:]
    elif kind == 2:
        content[place:place] = chance.randbytes(chance.randrange(1, 5))
    elif kind == 3:
        content += chance.randbytes(1)
    else:
        content[place : place + 4] = chance.randbytes(4)
    return bytes(content)


@pytest.mark.parametrize("target", ["hello", "answer", "proof"])
def test_no_mutated_transcript_is_accepted(target: str) -> None:
    chance = random.Random(target)
    accepted = [seed for seed in range(1000) if _is_accepted(target, lambda packet: _mutate(packet, chance))]
    assert accepted == []


def _is_accepted(target: str, mutate: Callable[[bytes], bytes]) -> bool:
    client, server = connecting(), listening()

    def passed(name: str, packet: bytes) -> bytes:
        changed = mutate(packet) if name == target else packet
        if name == target and changed == packet:
            raise HandshakeError("nothing was changed")
        return changed

    try:
        proof, _ = client.answer(passed("answer", server.answer(passed("hello", client.hello()))))
        server.finish(passed("proof", proof))
    except (HandshakeError, VersionError):
        return False
    return True


@given(st.binary(max_size=300))
def test_garbage_is_no_handshake(garbage: bytes) -> None:
    with pytest.raises(HandshakeError):
        connecting().answer(garbage)
    server = listening()
    with pytest.raises(HandshakeError):
        server.answer(garbage)
    with pytest.raises(HandshakeError):
        server.finish(garbage)
    with pytest.raises(HandshakeError):
        check_greeting(garbage, ME)


def test_greeting_tells_the_version_and_refuses_another_protocol() -> None:
    assert check_greeting(greeting(ME), ME) == "1.2.3"
    with pytest.raises(VersionError):
        check_greeting(greeting(ME), Identity(version="2", protocol=2))


def test_packets_have_a_length_that_is_small() -> None:
    assert as_packet(b"abc") == b"\0\3abc"
    assert packet_length(b"\0\3") == 3
    for head in (b"\0\0", (MAX_PACKET_BYTES + 1).to_bytes(2, "big"), b"GE"):
        with pytest.raises(HandshakeError):
            packet_length(head)


def test_keys_are_in_no_repr() -> None:
    session, _ = shake(connecting(), listening())
    assert repr(session.sends) not in repr(session)
