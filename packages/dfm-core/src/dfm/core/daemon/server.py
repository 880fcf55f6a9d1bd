"""A pool's socket: runs of clients, where it is a daemon's, and questions of people.

A client that opens a run is handed to the engine; anything else that is said is an `Ask`. The kernel has said that the
peer is this user. What a person asks is answered at once but for `watch`, which is answered again and again.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import cast

from dfm.api.errors import RunnerError
from dfm.core.__about__ import __version__
from dfm.core.pool.engine import Engine
from dfm.core.wire.access import MAX_SOCKET_PATH
from dfm.core.wire.channel import Channel, Listener, Peer, listen_unix, own_identity
from dfm.core.wire.exchange import decode_from_client
from dfm.core.wire.messages import Answer, Ask, FromClient, Message, Open

WATCH_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ClientServer:
    """Gives each connection its part of the engine.

    Args:
        engine: of the pool.
        facts: what is told to every question of state beside what the engine knows: who and where the pool is.
        order: carries out `stop`, `drain`, `reap` and `resume`; returns what was done. None where the pool is one
            run's own: it answers questions and does nothing else.
    """

    def __init__(
        self, engine: Engine, facts: dict[str, object], order: Callable[[Ask], dict[str, object]] | None
    ) -> None:
        self._engine = engine
        self._facts = facts
        self._order = order
        self._channels: set[Channel] = set()

    def listener(self, path: str, daemon_id: bytes) -> Listener:
        """Return what listens at a Unix socket for us.

        Raises:
            RunnerError: the socket cannot be made.
        """
        return Listener(
            [listen_unix(path)],
            accept=self.welcome,
            identity=own_identity(__version__),
            keys=lambda _: None,
            daemon_id=daemon_id,
        )

    def welcome(self, channel: Channel) -> Peer:
        """Take in a connection."""
        self._channels.add(channel)
        return _ClientEnd(self, channel)

    def close(self) -> None:
        """Hang up on everybody."""
        for channel in list(self._channels):
            channel.close()

    def hear(self, channel: Channel, name: str | None, message: FromClient) -> str | None:
        """Take in what one connection says, whose run is `name`; return the name of its run from now on."""
        match message:
            case Ask():
                self._answer(channel, message)
            case Open(run_id=run_id) if self._order is not None:
                self._engine.attach(run_id, channel.send)
                self._engine.hear(run_id, message)
                return run_id
            case _ if name is None:
                channel.abort(f"{type(message).__name__} came before a run was opened")
            case _:
                self._engine.hear(name, message)
        return name

    def lost(self, channel: Channel, name: str | None) -> None:
        """Be told that a connection is gone."""
        self._channels.discard(channel)
        if name is not None:
            self._engine.detach(name, channel.send)

    def _answer(self, channel: Channel, ask: Ask) -> None:
        match ask.verb:
            case "status":
                self._say(channel, ask, self.status())
            case "why":
                self._say(channel, ask, {"project": self._facts["project"], "tasks": self._engine.why(ask.task)})
            case "watch":
                self._watch(channel, ask)
            case "vacate" if self._order is not None:
                self._say(channel, ask, {"is_vacant": self._engine.vacate(ask.rundir)})
            case "stop" | "drain" | "reap" | "resume" if self._order is not None:
                self._say(channel, ask, self._order(ask))
            case _:
                channel.send(Answer(number=ask.number, error=f"this pool does not know {ask.verb!r}"))

    def status(self) -> dict[str, object]:
        """Return all that is known of the daemon."""
        return {**self._facts, **self._engine.status()}

    def _watch(self, channel: Channel, ask: Ask) -> None:
        """Answer now and every second, as long as somebody listens."""
        if channel.is_open:
            channel.send(Answer(number=ask.number, content=self.status(), is_last=False))
            asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch, channel, ask)

    def _say(self, channel: Channel, ask: Ask, content: dict[str, object]) -> None:
        channel.send(Answer(number=ask.number, content=content))


class _ClientEnd:
    """Our end of one connection."""

    decoder = staticmethod(decode_from_client)

    def __init__(self, server: ClientServer, channel: Channel) -> None:
        self._server = server
        self._channel = channel
        self._name: str | None = None

    def on_messages(self, messages: list[Message]) -> None:
        """Take in what was said."""
        for message in cast("list[FromClient]", messages):
            self._name = self._server.hear(self._channel, self._name, message)

    def on_closed(self, reason: str) -> None:  # noqa: ARG002  (the protocol's signature)
        """Be told that the link is gone."""
        self._server.lost(self._channel, self._name)


@contextlib.asynccontextmanager
async def answering(engine: Engine, path: str, facts: dict[str, object]) -> AsyncIterator[None]:
    """Answer questions of people about a run's own pool in the block; a run goes on where it cannot be asked.

    Args:
        engine: of the pool.
        path: of the socket, in a private directory; where it is too long for one there is none.
        facts: as for `ClientServer`.
    """
    clients = ClientServer(engine, facts, None)
    listening: asyncio.Task[None] | None = None
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        try:
            listener = clients.listener(path, secrets.token_bytes(16))
        except RunnerError as error:
            _log.warning("%s", error)
        else:
            listening = asyncio.get_running_loop().create_task(listener.run())
            listening.add_done_callback(lambda _: listener.close())
    try:
        yield
    finally:
        if listening is not None:
            listening.cancel()
        clients.close()
