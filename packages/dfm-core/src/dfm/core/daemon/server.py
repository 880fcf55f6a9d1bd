"""The daemon's socket: runs of clients, and questions of people.

A client that opens a run is handed to the engine; anything else that is said is an `Ask`. The kernel has said that the
peer is this user. What a person asks is answered at once but for `watch`, which is answered again and again.
"""

import asyncio
import logging
from collections.abc import Callable

from dfm.core.pool.engine import Engine
from dfm.core.wire.channel import Channel
from dfm.core.wire.messages import Answer, Ask, FromClient, Open

WATCH_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ClientServer:
    """Gives each connection its part of the engine.

    Args:
        engine: of the pool.
        facts: what is told to every question of state beside what the engine knows: who and where the daemon is.
        order: carries out `stop`, `drain`, `reap` and `resume`; returns what was done.
    """

    def __init__(self, engine: Engine, facts: dict[str, object], order: Callable[[Ask], dict[str, object]]) -> None:
        self._engine = engine
        self._facts = facts
        self._order = order
        self._channels: set[Channel] = set()

    def welcome(self, channel: Channel) -> None:
        """Take in a connection."""
        self._channels.add(channel)
        channel.on_messages = lambda messages: self._hear_all(channel, messages)
        channel.on_closed = lambda _: self._channels.discard(channel)

    def close(self) -> None:
        """Hang up on everybody."""
        for channel in list(self._channels):
            channel.close("the daemon stops")

    def _hear_all(self, channel: Channel, messages: list[FromClient]) -> None:
        for position, message in enumerate(messages):
            match message:
                case Ask():
                    self._answer(channel, message)
                case Open():
                    self._open(channel, message)
                    self._hear_run(channel, message.run_id, messages[position + 1 :])
                    return
                case _:
                    _log.warning("%s came before a run was opened", type(message).__name__)
                    channel.abort("a run must be opened first")

    def _open(self, channel: Channel, message: Open) -> None:
        name = message.run_id
        self._engine.attach(name, channel.send)
        channel.on_messages = lambda messages: self._hear_run(channel, name, messages)
        channel.on_closed = lambda _: self._lost(channel, name)
        self._engine.hear(name, message)

    def _hear_run(self, channel: Channel, name: str, messages: list[FromClient]) -> None:
        for message in messages:
            if isinstance(message, Ask):
                self._answer(channel, message)
            else:
                self._engine.hear(name, message)

    def _lost(self, channel: Channel, name: str) -> None:
        self._channels.discard(channel)
        self._engine.detach(name, channel.send)

    def _answer(self, channel: Channel, ask: Ask) -> None:
        match ask.verb:
            case "status":
                self._say(channel, ask, self.status())
            case "why":
                self._say(channel, ask, {"tasks": self._engine.why(ask.task)})
            case "watch":
                self._watch(channel, ask)
            case "stop" | "drain" | "reap" | "resume":
                self._say(channel, ask, self._order(ask))
            case _:
                channel.send(Answer(number=ask.number, error=f"this daemon does not know {ask.verb!r}"))

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
