"""What a worker says first is heard, however the network cuts it: the proof and the hello may come in one piece."""

import asyncio
import secrets

from dfm.core.wire.channel import Channel, WorkerServer
from dfm.core.wire.codec import decode_from_worker, encode_messages
from dfm.core.wire.frame import FrameReader, FrameWriter
from dfm.core.wire.handshake import NONCE_BYTES, ClientHandshake, slot_key
from dfm.core.wire.messages import Beat, FromWorker

SLOT = "s-1-1"


async def test_words_that_come_in_one_piece_with_the_proof_are_heard() -> None:
    key = secrets.token_bytes(32)
    heard: asyncio.Future[list[FromWorker]] = asyncio.get_running_loop().create_future()

    def welcome(channel: Channel, slot: str) -> None:
        assert slot == SLOT
        channel.on_messages = heard.set_result

    server = WorkerServer(
        daemon_id=secrets.token_bytes(16),
        key=key,
        version="1",
        decode=decode_from_worker,
        knows=lambda _: True,
        on_worker=welcome,
    )
    port = await server.listen(("127.0.0.1",), 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    handshake = ClientHandshake(slot_key(key, SLOT), SLOT, "1", secrets.token_bytes(NONCE_BYTES))
    plain = FrameWriter(None)
    writer.write(plain.pack(handshake.hello()))
    answers = FrameReader(None)
    bodies: list[bytes] = []
    while not bodies:
        bodies = answers.feed(await reader.read(4096))
    proof = plain.pack(handshake.prove(bodies[0]))
    words = FrameWriter(handshake.keys().to_server).pack(encode_messages([Beat()]))
    writer.write(proof + words)
    async with asyncio.timeout(10):
        assert await heard == [Beat()]
    await server.close()
    writer.close()
    await writer.wait_closed()
